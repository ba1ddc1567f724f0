package harness

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestBrief(t *testing.T) {
	numbered := make([]string, 0, 1000)
	for i := range 1000 {
		numbered = append(numbered, fmt.Sprint("line ", i))
	}
	for name, test := range map[string]struct {
		text string
		says []string
	}{
		"short":      {"a\nb\n", []string{"a\nb"}},
		"many lines": {strings.Join(numbered, "\n"), []string{"line 0\n", "\nline 19\n", "… 960 lines left out …", "\nline 980\n", "\nline 999"}},
		"a long one": {"{" + strings.Repeat("ü", 100_000) + "}", []string{"{ü", "ü … ", " bytes left out … ü", "ü}"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Brief(test.text)
			for _, want := range test.says {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want %q in it", got, want)
				}
			}
			if len(got) > briefBytes+100 || strings.Count(got, "\n") > briefLines || !utf8.ValidString(got) {
				t.Errorf("got %d bytes in %d lines", len(got), strings.Count(got, "\n")+1)
			}
		})
	}
}

func TestDescribeLeavesOutWhatIsLongPast(t *testing.T) {
	incident := MakeIncident("security", "inc-1")
	for i := range 50 {
		incident.Status.Timeline = append(incident.Status.Timeline, v1alpha1.TimelineEntry{Sequence: int64(i), Action: fmt.Sprint("Did", i)})
	}
	if got := Describe(incident); strings.Contains(got, `"Did1"`) || !strings.Contains(got, `"Did49"`) || len(incident.Status.Timeline) != 50 {
		t.Errorf("got %s, want the end of the timeline, and the incident as it was", got)
	}
}

// TestFreeAddress: none is given twice, though nobody listens on it yet.
func TestFreeAddress(t *testing.T) {
	given := map[string]bool{}
	for range 50 {
		address := FreeAddress(t)
		if given[address] {
			t.Fatalf("%s was given twice", address)
		}
		given[address] = true
	}
}
