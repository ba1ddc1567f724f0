package receiver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestAuditRules(t *testing.T) {
	exec := func(change func(*auditEvent)) *auditEvent {
		e := &auditEvent{
			user: "alice", groups: []string{"devs"}, verb: "create", stage: auditComplete, resource: "pods", sub: "exec",
			namespace: "shop", name: "cart", decision: "allow", isResource: true, uri: "/api/v1/namespaces/shop/pods/cart/exec?command=sh",
		}
		if change != nil {
			change(e)
		}
		return e
	}
	url := exec(func(e *auditEvent) { *e = auditEvent{verb: "get", stage: auditComplete, uri: "/metrics/cadvisor?x=1"} })
	for name, test := range map[string]struct {
		rule  AuditRule
		event *auditEvent
		want  bool
	}{
		"anything":              {AuditRule{}, exec(nil), true},
		"verb":                  {AuditRule{Verbs: []string{"get", "create"}}, exec(nil), true},
		"other verb":            {AuditRule{Verbs: []string{"get"}}, exec(nil), false},
		"subresource":           {AuditRule{Resources: []string{"pods/exec"}}, exec(nil), true},
		"resource alone":        {AuditRule{Resources: []string{"pods"}}, exec(nil), false},
		"beginning":             {AuditRule{Resources: []string{"pods/*"}}, exec(nil), true},
		"core group":            {AuditRule{APIGroups: []string{""}}, exec(nil), true},
		"other group":           {AuditRule{APIGroups: []string{"apps"}}, exec(nil), false},
		"namespace":             {AuditRule{Namespaces: []string{"shop"}}, exec(nil), true},
		"cluster scope":         {AuditRule{Namespaces: []string{""}}, exec(nil), false},
		"name":                  {AuditRule{ResourceNames: []string{"other"}}, exec(nil), false},
		"user":                  {AuditRule{Users: []string{"ali*"}}, exec(nil), true},
		"group":                 {AuditRule{Groups: []string{"ops", "devs"}}, exec(nil), true},
		"no group":              {AuditRule{Groups: []string{"ops"}}, exec(func(e *auditEvent) { e.groups = nil }), false},
		"except user":           {AuditRule{ExceptUsers: []string{"alice"}}, exec(nil), false},
		"except group":          {AuditRule{ExceptGroups: []string{"dev*"}}, exec(nil), false},
		"except namespace":      {AuditRule{ExceptNamespaces: []string{"shop"}}, exec(nil), false},
		"decision":              {AuditRule{Decisions: []string{"forbid"}}, exec(nil), false},
		"received":              {AuditRule{}, exec(func(e *auditEvent) { e.stage = "RequestReceived" }), false},
		"exec started":          {AuditRule{}, exec(func(e *auditEvent) { e.stage = auditStarted }), true},
		"watch started":         {AuditRule{}, exec(func(e *auditEvent) { e.stage, e.sub = auditStarted, "" }), false},
		"stage":                 {AuditRule{Stages: []string{auditPanic}}, exec(nil), false},
		"url":                   {AuditRule{NonResourceURLs: []string{"/metrics/*"}}, url, true},
		"url of an object":      {AuditRule{NonResourceURLs: []string{"/api*"}}, exec(nil), false},
		"resources, of an url":  {AuditRule{Resources: []string{"*"}}, url, false},
		"anything, also an url": {AuditRule{Verbs: []string{"get"}}, url, true},
	} {
		if got := test.rule.matches(test.event); got != test.want {
			t.Errorf("%s: matches %t, want %t", name, got, test.want)
		}
	}
}

// TestAuditNeverLoops gives a rule that selects everything what Firebreak does itself.
func TestAuditNeverLoops(t *testing.T) {
	wire := auditFormat{rules: []AuditRule{{Name: "all", Severity: v1alpha1.SeverityLow}}}
	for _, user := range []string{
		`{"username":"system:serviceaccount:firebreak-system:firebreak-receiver"}`,
		`{"username":"system:serviceaccount:firebreak-system:firebreak-manager","groups":[]}`,
		`{"username":"renamed","groups":["system:serviceaccounts:firebreak-system"]}`,
	} {
		body := `{"items":[{"auditID":"a","stage":"ResponseComplete","verb":"create","user":` + user + `,"impersonatedUser":{"username":"system:serviceaccount:security:contain"}}]}`
		what, err := wire.parse(testReport([]byte(body)))
		if err != nil || len(what.alerts) != 0 || len(what.skipped) != 1 {
			t.Errorf("%s: %d alerts, skipped %v and error %v, want it skipped", user, len(what.alerts), what.skipped, err)
		}
	}
	other := `{"items":[{"auditID":"a","stage":"ResponseComplete","verb":"create","user":{"username":"system:serviceaccount:firebreak-systems:x"}}]}`
	if what, err := wire.parse(testReport([]byte(other))); err != nil || len(what.alerts) != 1 {
		t.Errorf("another's request: %d alerts and error %v, want one", len(what.alerts), err)
	}
}

func TestAuditWithoutRules(t *testing.T) {
	_, err := formats["audit"].parse(testReport([]byte(`{"kind":"EventList","items":[]}`)))
	if err == nil || !strings.Contains(err.Error(), "--formats-file") {
		t.Errorf("error %v, want one that says how to configure rules", err)
	}
}

func TestFormatsFile(t *testing.T) {
	for text, want := range map[string]string{
		`audit: {rules: [{name: a, severity: High}]}`: "",
		``:                                   "",
		`audit: {rule: []}`:                  `unknown field "rule"`,
		`audit: {rules: [{severity: High}]}`: "audit.rules[0]: name must be",
		`audit: {rules: [{name: a}]}`:        "severity of a must be one of",
		`audit: {rules: [{name: a, ignore: true}]}`:                                                                 "",
		`audit: {rules: [{name: a, ignore: true}, {name: a, ignore: true}]}`:                                        "must be no other rule's",
		`audit: {rules: [{name: a, severity: High, stages: [Never]}]}`:                                              "stages of a must be",
		`audit: {rules: [{name: a, severity: High, decisions: [deny]}]}`:                                            "decisions of a must be",
		`audit: {rules: [{name: a, severity: High, attacks: [{technique: X}]}]}`:                                    "attacks of a must have",
		`audit: {rules: [{name: a, severity: High, nonResourceURLs: [/x], namespaces: [y]}]}`:                       "nonResourceURLs must not be set",
		`audit: {rules: [` + strings.TrimSuffix(strings.Repeat(`{name: a, ignore: true},`, maxRules+1), ",") + `]}`: "must be at most 256",
	} {
		file := filepath.Join(t.TempDir(), "formats.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadFormats(file)
		switch {
		case want == "" && err != nil:
			t.Errorf("%.80s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file)):
			t.Errorf("%.80s: error %v, want one that names the file and says %q", text, err, want)
		}
	}
	if _, err := LoadFormats("no-such-file"); err == nil {
		t.Error("a file that does not exist is taken")
	}
}
