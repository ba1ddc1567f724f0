package expression

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestReads(t *testing.T) {
	for source, want := range map[string]bool{
		`event.submittedBy == "a" && event.title == "b"`:             true,
		`event.title == "b"`:                                         false,
		`has(event.submittedBy)`:                                     false,
		`event.?submittedBy.orValue("") == "a"`:                      true,
		`event["submittedBy"] == "a"`:                                true,
		`[event].exists(e, e.submittedBy == "a")`:                    true,
		`event.resources.exists(r, r.name == "submittedBy")`:         false,
		`["a", "b"].exists(a, event.submittedBy == a)`:               true,
		`event.source.rule == "event.submittedBy"`:                   false,
		`event.attributes.exists(k, event.attributes[k] == "admin")`: false,
	} {
		got, err := Reads(v1alpha1.Expression(source), "event", "submittedBy")
		if err != nil || got != want {
			t.Errorf("%s: got %t, %v, want %t", source, got, err, want)
		}
	}
	if _, err := Reads("event.", "event", "submittedBy"); err == nil {
		t.Error("what does not parse must be an error")
	}
}

func TestOrdersSeverities(t *testing.T) {
	for source, want := range map[string]v1alpha1.Severity{
		`event.severity >= "High"`:                                    "High",
		`event.title == "a" && !("Low" < event.severity)`:             "Low",
		`event.severity == "High"`:                                    "",
		`event.severity in ["High", "Critical"]`:                      "",
		`event.attributes["port"] > "1024"`:                           "",
		`event.resources.exists(r, event.severity > 'Informational')`: "Informational",
		``: "",
	} {
		got, err := OrdersSeverities(v1alpha1.Expression(source))
		if (source != "" && err != nil) || got != want {
			t.Errorf("%s: got %q, %v, want %q", source, got, err, want)
		}
	}
}

func TestWhy(t *testing.T) {
	for source, want := range map[string][]Part{
		`event.submittedBy == "x" && event.source.rule in ["a", "b"]`: {
			{Source: `event.submittedBy == "x"`, Values: []Value{{"event.submittedBy", `"system:serviceaccount:falco:falcosidekick"`}}},
			{Source: `event.source.rule in ["a", "b"]`, Values: []Value{{"event.source.rule", `"Terminal shell in container"`}}},
		},
		`event.resources[0].kind == "Pod" && !has(event.assets) && event.?workload.orValue("") == "cart"`: {
			{Source: `event.resources[0].kind == "Pod"`, Result: true, Values: []Value{{"event.resources[0].kind", `"Pod"`}}},
			{Source: `!has(event.assets)`, Result: true},
			{Source: `event.?workload.orValue("") == "cart"`, Values: []Value{{"event.?workload", ""}}},
		},
		`event.resources.exists(r, r.kind == "Node") || event.attributes["no"] == "x"`: {{
			Source: `event.resources.exists(r, r.kind == "Node") || event.attributes["no"] == "x"`, Error: "no such key: no",
			Values: []Value{
				{"event.resources", `[{"apiVersion":"v1","kind":"Pod","name":"cart-7f9","namespace":"shop"}]`}, {`event.attributes["no"]`, ""},
			},
		}},
	} {
		variables, err := EventVariables(falcoEvent(), "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := Why(t.Context(), Event, v1alpha1.Expression(source), "event", variables)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", source, diff)
		}
	}
}
