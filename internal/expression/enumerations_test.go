package expression

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestNoSuchValues(t *testing.T) {
	for source, want := range map[string][]string{
		`event.severity == "High" && event.title != "Hihg"`:                    nil,
		`event.severity == "Hihg"`:                                             {"event.severity Hihg"},
		`"Info" != event.severity`:                                             {"event.severity Info"},
		`event.severity in ["Low", "Info", "low"]`:                             {"event.severity Info", "event.severity low"},
		`event.source.kind == "Robot" || event.severity == ""`:                 {"event.source.kind Robot"},
		`event.severity == event.title`:                                        nil,
		`event.resources.exists(r, r.kind == "Pod")`:                           nil,
		`has(event.severity) && event.attributes["severity"] == "x"`:           nil,
		`event.nothing.severity == "x"`:                                        nil,
		`event.severity + "x" == "x" || "x" in event.attributes || 1 == 1`:     nil,
		`event.resources.exists(r, event.severity in ["Warning", r.name, ""])`: {"event.severity Warning"},
	} {
		found, err := NoSuchValues(Event, v1alpha1.Expression(source))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, one := range found {
			got = append(got, one.Field+" "+one.Text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", source, diff)
		}
	}
	if _, err := NoSuchValues(Event, "event."); err == nil {
		t.Error("what does not parse must be an error")
	}
}

func TestYields(t *testing.T) {
	for source, want := range map[string][]string{
		`"High"`:         {"High"},
		`event.severity`: nil,
		`event.title == "a" ? "Low" : (event.title == "b" ? event.severity : "Hihg")`: {"Low", "Hihg"},
		`{"a": "High"}["a"]`: nil,
	} {
		got, err := Yields(v1alpha1.Expression(source))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", source, diff)
		}
	}
}
