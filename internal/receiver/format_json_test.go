package receiver

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// policyReporterMapping is a format that is built in, as a mapping.
const policyReporterMapping = `
mappings:
- name: policy-reporter
  when: item.?event != optional.of("heartbeat") && !(item.?status.orValue("") in ["pass", "skip"])
  title: item.message
  rule: 'item.policy + (has(item.rule) && item.rule != item.policy ? "/" + item.rule : "")'
  severity: 'item.?severity.orValue("") != "" ? item.severity : item.?priority.orValue("")'
  observedTime: item.?creationTimestamp.orValue("")
  fingerprint: item.policy + "/" + item.?rule.orValue("") + "/" + item.?resource.?uid.orValue("")
  resources: 'item.?resource.optMap(r, [r]).orValue([])'
`

// TestBuiltInAsMapping expresses a built-in format as a mapping. What it is sent as a rule
// is the same; of the traps, only what the built-in format takes for absent is not: null.
func TestBuiltInAsMapping(t *testing.T) {
	all, err := parseFormats([]byte(policyReporterMapping))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fail", "custom", "pass", "heartbeat"} {
		body, err := os.ReadFile(filepath.Join("testdata", "policy-reporter", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := policyReporterFormat{}.parse(testReport(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := all.byName["json/policy-reporter"].parse(testReport(body))
		if err != nil || len(got.alerts) != len(want.alerts) {
			t.Fatalf("%s: %d alerts and error %v, want %d", name, len(got.alerts), err, len(want.alerts))
		}
		for i := range got.alerts {
			got, want := got.alerts[i].spec, want.alerts[i].spec
			for _, spec := range []*v1alpha1.SecurityEventSpec{&got, &want} {
				spec.Attributes, spec.Fingerprint, spec.Source.Product = nil, "", ""
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: the mapping differs (-built in +mapping):\n%s", name, diff)
			}
		}
	}
}

func TestMappings(t *testing.T) {
	for text, want := range map[string]string{
		`{name: a, title: item.x}`:                           "",
		`{name: A, title: item.x}`:                           "mappings[0]: name must be",
		`{name: a}`:                                          "title of a must be set",
		`{name: a, title: itme.x}`:                           "title of a: 1:1: undeclared reference to 'itme'",
		`{name: a, title: item.x, when: "1 +"}`:              "when of a: 1:",
		`{name: a, title: item.x, titel: b}`:                 `unknown field`,
		`{name: a, title: item.x, mode: Drill}`:              "",
		`{name: a, title: item.x, mode: item.mode}`:          `mode of a must be Live or Drill, is "item.mode"`,
		`{name: a, title: item.x}, {name: a, title: item.x}`: "mappings[1].name must be no other mapping's",
	} {
		_, err := parseFormats([]byte("mappings: [" + text + "]"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// TestMappingOfHostileBodies gives expressions what they do not expect.
func TestMappingOfHostileBodies(t *testing.T) {
	for name, test := range map[string]struct {
		mapping, body, want string
		status              int
	}{
		"no list":     {`title: item.x, items: body.alerts`, `{"alerts":{}}`, "`items` must yield a list", 400},
		"absent":      {`title: item.x`, `{}`, "`title` no such key: x", 400},
		"not true":    {`title: item.x, when: item.x`, `{"x":"yes"}`, "`when` must yield true or false", 400},
		"no objects":  {`title: item.x, resources: "[item.x]"`, `{"x":"yes"}`, "`resources` must yield a list of objects", 400},
		"no facts":    {`title: item.x, attributes: item.x`, `{"x":"yes"}`, "`attributes` must yield an object", 400},
		"time":        {`title: item.x, observedTime: item.t`, `{"x":"y","t":1e300}`, "`observedTime` must yield a time of the years", 400},
		"two values":  {`title: item.x`, `{"x":"y"} {"x":"z"}`, "must be one JSON value", 400},
		"cut":         {`title: item.x`, `{"x":`, "must be JSON", 400},
		"item number": {`title: item.x`, `[{"x":"a"},7,{"x":"b"}]`, "", 0},
	} {
		all, err := parseFormats([]byte("mappings: [{name: a, " + test.mapping + "}]"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		what, err := all.byName["json/a"].parse(testReport([]byte(test.body)))
		if test.want == "" {
			if err != nil || len(what.alerts) != 3 || what.alerts[1].problem == nil || what.pointerOf(1) != "#/1" {
				t.Errorf("%s: alerts %+v and error %v, want the second to be wrong", name, what.alerts, err)
			}
			continue
		}
		var problem *Problem
		if !errors.As(err, &problem) || problem.Status != test.status || !strings.Contains(problem.Detail, test.want) {
			t.Errorf("%s: error %v, want %d with %q", name, err, test.status, test.want)
		}
	}
}

// TestMappingWithoutFingerprint tells repeats as the native format does.
func TestMappingWithoutFingerprint(t *testing.T) {
	all, err := parseFormats([]byte(`mappings: [{name: a, title: item.t, rule: 'item.?r.orValue("")', fingerprint: 'item.?f.orValue("")'}]`))
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := func(body string) string {
		t.Helper()
		what, err := all.byName["json/a"].parse(testReport([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		return what.alerts[0].spec.Fingerprint
	}
	native, err := nativeFormat{}.parse(testReport([]byte(`{"title":"shell pid=7","severity":"Medium","source":{"product":"a"}}`)))
	if err != nil {
		t.Fatal(err)
	}
	base := fingerprint(`{"id":1,"t":"shell pid=5"}`)
	if want := native.alerts[0].spec.Fingerprint; base != want || base == "" {
		t.Errorf("fingerprint %q, want that of the native format, %q", base, want)
	}
	for body, same := range map[string]bool{
		`{"id":2,"t":"shell pid=6"}`:                   true,
		`{"id":1,"t":"shell pid=5","f":null}`:          true,
		`{"id":1,"t":"another pid=5"}`:                 false,
		`{"id":1,"t":"shell pid=5","f":"f"}`:           false,
		`[{"id":3,"t":"shell pid=7"},{"t":"another"}]`: true,
	} {
		if got := fingerprint(body) == base; got != same {
			t.Errorf("%s: the same fingerprint %t, want %t", body, got, same)
		}
	}
}

// TestMappingMustEnd checks that no expression holds a parser up for long.
func TestMappingMustEnd(t *testing.T) {
	all, err := parseFormats([]byte(`mappings: [{name: a, title: 'string(body.all(a, body.all(b, body.all(c, a <= b || a > c))))', items: '[body]'}]`))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = all.byName["json/a"].parse(testReport([]byte(`[` + strings.Repeat("1,", 3000) + `1]`)))
	var problem *Problem
	if !errors.As(err, &problem) || !strings.Contains(problem.Detail, "costs more than") && problem.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("error %v, want one that says that it takes too long", err)
	}
	if took := time.Since(start); took > 5*mappingPatience {
		t.Errorf("it took %s, want about %s at most", took, mappingPatience)
	}
}
