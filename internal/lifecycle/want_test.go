package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var _ reporter = (*testing.T)(nil)

func (s *sim) step(name string) *v1alpha1.IncidentStep {
	for i := range s.stored.Status.Steps {
		if s.stored.Status.Steps[i].Name == name {
			return &s.stored.Status.Steps[i]
		}
	}
	return nil
}

func (s *sim) condition(kind string) string {
	found := meta.FindStatusCondition(s.stored.Status.Conditions, kind)
	if found == nil {
		return ""
	}
	return string(found.Status) + " " + found.Reason
}

// awaited lists what is awaited, as 'Approval ok-to-delete'.
func (s *sim) awaited() []string {
	var all []string
	for _, awaiting := range s.stored.Status.Awaiting {
		all = append(all, strings.TrimSpace(string(awaiting.Type)+" "+awaiting.Step))
	}
	return all
}

func (s *sim) logged(action string) int {
	count := 0
	for _, entry := range s.entries {
		if entry.Action == action {
			count++
		}
	}
	return count
}

func (s *sim) String() string {
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "%s %s awaiting %v\n", s.now.Sub(began), s.stored.Status.Phase, s.awaited())
	for _, step := range s.stored.Status.Steps {
		_, _ = fmt.Fprintf(&text, "  %s: %s %q", step.Name, step.State, step.Message)
		for _, target := range step.Targets {
			_, _ = fmt.Fprintf(&text, " [%s %s %q]", target.Name, target.State, target.Message)
		}
		text.WriteString("\n")
	}
	for _, entry := range s.entries[max(0, len(s.entries)-30):] {
		_, _ = fmt.Fprintf(&text, "  - %s %s %s %s %s: %s\n", entry.Time.Sub(began), entry.Action, entry.Outcome, entry.Step, entry.Resource, entry.Message)
	}
	return text.String()
}

// want fails unless states of steps are as given, as 'name=State'.
func (s *sim) want(phase v1alpha1.Phase, states ...string) {
	s.t.Helper()
	if s.stored.Status.Phase != phase {
		s.t.Fatalf("phase is %s, want %s\n%s", s.stored.Status.Phase, phase, s)
	}
	for _, state := range states {
		name, want, _ := strings.Cut(state, "=")
		if step := s.step(name); step == nil || string(step.State) != want {
			s.t.Fatalf("step %s is not %s\n%s", name, want, s)
		}
	}
}

func (s *sim) wantCondition(kind, want string) {
	s.t.Helper()
	if got := s.condition(kind); got != want {
		s.t.Fatalf("condition %s is %q, want %q\n%s", kind, got, want, s)
	}
}

func (s *sim) wantAwaited(want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.awaited()); diff != "" {
		s.t.Fatalf("awaiting (-want +got):\n%s\n%s", diff, s)
	}
}

func (s *sim) wantDone(want ...string) {
	s.t.Helper()
	for _, one := range want {
		if !slices.Contains(s.done, one) {
			s.t.Fatalf("%q was not done: %v\n%s", one, s.done, s)
		}
	}
}

func (s *sim) wantNotDone(unwanted ...string) {
	s.t.Helper()
	for _, one := range unwanted {
		if slices.Contains(s.done, one) {
			s.t.Fatalf("%q was done\n%s", one, s)
		}
	}
}

func (s *sim) count(what string) int {
	count := 0
	for _, one := range s.done {
		if one == what {
			count++
		}
	}
	return count
}
