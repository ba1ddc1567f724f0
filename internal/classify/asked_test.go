package classify

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestAsked(t *testing.T) {
	first := source("first", 100, ruleOf("a", v1alpha1.RuleDismiss, "false"), ruleOf("b", v1alpha1.RuleDefer, "false"))
	first.Generation = 7
	before := v1alpha1.AskedPolicy{Name: "first", Generation: 7, Answer: v1alpha1.AnswerNotMatched, Rules: []string{"a", "b"}}
	said := func(answer v1alpha1.RuleAnswer, rules ...string) v1alpha1.AskedPolicy {
		return v1alpha1.AskedPolicy{Name: "second", Generation: 4, Answer: answer, Rules: rules}
	}
	later := ruleOf("later", v1alpha1.RuleDismiss, "true")
	for name, test := range map[string]struct {
		second *v1alpha1.ClassificationPolicy
		want   v1alpha1.AskedPolicy
	}{
		"it decides":       {source("second", 0, ruleOf("no", v1alpha1.RuleDismiss, "false"), ruleOf("yes", v1alpha1.RuleDismiss, "true"), later), said(v1alpha1.AnswerMatched, "no", "yes")},
		"nothing matches":  {source("second", 0, ruleOf("no", v1alpha1.RuleDismiss, "false")), said(v1alpha1.AnswerNotMatched, "no")},
		"it fails":         {source("second", 0, ruleOf("fails", v1alpha1.RuleDismiss, "event.assets[0].owner == ''"), later), said(v1alpha1.AnswerFailed, "fails")},
		"what it makes":    {source("second", 0, rulePromote("fails", "true", severityBy(`"Grave"`)), later), said(v1alpha1.AnswerFailed, "fails")},
		"below threshold":  {source("second", 0, rulePromote("often", "true", atLeast(3, time.Minute)), later), said(v1alpha1.AnswerBelowThreshold, "often")},
		"no rule of it is": {nil, said(v1alpha1.AnswerNotUsable)},
	} {
		t.Run(name, func(t *testing.T) {
			policies := compiled(t, first)
			if test.second == nil {
				policies = append(policies, Unusable(source("second", 0, later), errors.New("a typo")))
			} else {
				policies = append(policies, compiled(t, test.second)...)
			}
			got := assess(t, event(), policies)
			if diff := cmp.Diff([]v1alpha1.AskedPolicy{before, test.want}, got.Record.Asked); diff != "" || got.Record.MoreAsked != 0 {
				t.Errorf("%d more; asked (-want +got):\n%s", got.Record.MoreAsked, diff)
			}
		})
	}
}

// TestAskedIsBounded: an assessment stays small, whatever the policies; how many were asked is exact.
func TestAskedIsBounded(t *testing.T) {
	var policies []*Policy
	const count, each = 40, 64
	for i := range count {
		var rules []v1alpha1.ClassificationRule
		for j := range each {
			match := v1alpha1.Expression("false")
			if i == count-1 && j == each-1 {
				match = "true"
			}
			rules = append(rules, ruleOf(fmt.Sprintf("%s-%02d", strings.Repeat("r", 60), j), v1alpha1.RuleDismiss, match))
		}
		policies = append(policies, compiled(t, source(fmt.Sprintf("policy-%02d", i), 0, rules...))...)
	}
	record := assess(t, event(), policies).Record
	if len(record.Asked) != maxAsked || record.MoreAsked != count-maxAsked {
		t.Errorf("%d policies are named, and %d are not", len(record.Asked), record.MoreAsked)
	}
	last := record.Asked[len(record.Asked)-1]
	if last.Name != "policy-39" || last.Answer != v1alpha1.AnswerMatched || record.Asked[0].Name != "policy-00" || record.Asked[14].Name != "policy-14" {
		t.Errorf("the first 15 and the last must be named, got %+v", record.Asked)
	}
	names := 0
	for _, policy := range record.Asked {
		if len(policy.Rules)+int(policy.MoreRules) != each {
			t.Errorf("policy %s: %d rules are named, and %d are not, of %d", policy.Name, len(policy.Rules), policy.MoreRules, each)
		}
		for _, rule := range policy.Rules {
			names += len(rule)
		}
	}
	text, err := json.Marshal(record.Asked)
	if err != nil || names > maxAskedNames || len(text) > 3<<10 {
		t.Errorf("names of %d bytes in %d bytes (%v)", names, len(text), err)
	}
	if text, err = json.Marshal(assess(t, event(), compiled(t, source("runtime", 100, design()))).Record.Asked); err != nil || len(text) > 128 {
		t.Errorf("one rule takes %d bytes: %s", len(text), text)
	}
}

func TestRevision(t *testing.T) {
	policy := source("runtime", 100, design())
	policy.UID = "1"
	kept, raw, err := Revision(policy)
	if err != nil || !strings.HasPrefix(kept.Revision, "runtime-4-") || kept.Generation != 4 {
		t.Fatalf("got %+v (%v)", kept, err)
	}
	// The API server gives an object back in an order of its own.
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	stored, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	now := policy.DeepCopy()
	now.Generation, now.Spec.Rules = 5, nil
	then, err := Revised(now, kept, stored)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(policy, then); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	foreign := now.DeepCopy()
	foreign.UID = "2"
	for name, test := range map[string]struct {
		policy *v1alpha1.ClassificationPolicy
		text   string
	}{
		"another policy": {foreign, string(stored)},
		"another text":   {now, strings.Replace(string(stored), "Critical", "Low", 1)},
		"no text":        {now, `[`},
	} {
		if _, err := Revised(test.policy, kept, []byte(test.text)); !errors.Is(err, errOtherText) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	policy.Name = strings.Repeat("a", 199) + "." + strings.Repeat("b", 53)
	if kept, _, err := Revision(policy); err != nil || len(kept.Revision) > 253 || strings.Contains(kept.Revision, ".-") {
		t.Errorf("got %q (%v)", kept.Revision, err)
	}
}
