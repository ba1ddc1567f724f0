package lifecycle

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newDrill(t reporter, playbook *v1alpha1.ResponsePlaybookSpec, pods ...string) *sim {
	s := newSim(t, playbook, pods...)
	s.stored.Spec.Mode = v1alpha1.ModeDrill
	return s
}

// TestDrillAsksPeople: approvals and tasks are asked for as they would be; what people do does
// not make it contained, eradicated or recovered.
func TestDrillAsksPeople(t *testing.T) {
	s := newDrill(t, playbookOf(steps(taskStep("unplug")), steps(approveStep("ok"), deleteStep("delete")), steps(taskStep("look"))), "a")
	s.plan = planOf(v1alpha1.ResponseEnforce)
	s.run()
	s.wantAwaited("Task unplug")
	s.must(by(v1alpha1.DecisionCompleteTask, "unplug", "jane"))
	s.wantCondition(v1alpha1.ConditionContained, "False DryRun")
	s.wantAwaited("Approval ok")
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.must(by(v1alpha1.DecisionCompleteTask, "look", "jane"))
	s.want(v1alpha1.PhaseReview, "unplug=Succeeded", "ok=Succeeded", "delete=Succeeded", "look=Succeeded")
	for _, kind := range []string{v1alpha1.ConditionContained, v1alpha1.ConditionEradicated, v1alpha1.ConditionRecovered} {
		s.wantCondition(kind, "False DryRun")
	}
	s.must(closing(v1alpha1.ResolutionResolved))
	s.want(v1alpha1.PhaseClosed)
	if times := s.stored.Status.Times; times.ContainedTime != nil || times.EradicatedTime != nil || times.RecoveredTime != nil || len(s.effects) > 0 {
		t.Errorf("times are %+v, effects %v", times, s.effects)
	}
	if opened := s.entries[0].Message; !strings.HasPrefix(opened, "DRILL: High incident") {
		t.Errorf("the timeline begins with %q", opened)
	}
	if lesson := DraftLesson(s.stored).Summary; !strings.HasPrefix(lesson, "A drill:") {
		t.Errorf("the lesson says %q", lesson)
	}
	if measures := Measure([]v1alpha1.Incident{*s.stored}); measures != (v1alpha1.LessonMeasures{}) {
		t.Errorf("got the measures %+v of a drill, want none", measures)
	}
}

// TestDrillWithoutPlaybook: a person who closes a drill by hand has contained nothing.
func TestDrillWithoutPlaybook(t *testing.T) {
	s := newDrill(t, nil)
	s.run()
	s.must(closing(v1alpha1.ResolutionResolved))
	s.want(v1alpha1.PhaseClosed)
	s.wantCondition(v1alpha1.ConditionContained, "False DryRun")
	if s.stored.Status.Times.ContainedTime != nil {
		t.Errorf("times are %+v", s.stored.Status.Times)
	}
}

// TestDrillIsNotRetriedForReal: what was only tried is not done by a person's RetryStep.
func TestDrillIsNotRetriedForReal(t *testing.T) {
	s := newDrill(t, modePlaybook(v1alpha1.PlaybookEnforce), "a")
	s.run()
	s.refused(by(v1alpha1.DecisionRetryStep, "isolate", "jane"), v1alpha1.ReasonNotAwaited)
	s.must(closing(v1alpha1.ResolutionFalsePositive))
	s.want(v1alpha1.PhaseClosed)
	s.wantNotDone("Undo isolate a")
	if len(s.effects) > 0 && !cmp.Equal(s.effects, map[string]bool{"preserve a": true}) {
		t.Errorf("effects are %v", s.effects)
	}
}

// TestEventsOfTheOtherModeAreLeftOut: who declares an incident may name any event.
func TestEventsOfTheOtherModeAreLeftOut(t *testing.T) {
	for _, mode := range []v1alpha1.Mode{v1alpha1.ModeLive, v1alpha1.ModeDrill} {
		s := newSim(t, demo(), "a")
		s.stored.Spec.Mode = mode
		s.event("own", "b")
		s.events[0].Spec.Mode = mode
		s.event("foreign", "c")
		s.events[1].Spec.Mode = map[v1alpha1.Mode]v1alpha1.Mode{v1alpha1.ModeLive: v1alpha1.ModeDrill, v1alpha1.ModeDrill: ""}[mode]
		s.stored.Spec.EventRefs = []v1alpha1.EventReference{{Name: "foreign"}, {Name: "own"}}
		s.run()
		if from := s.stored.Status.Resources[0].EventRef.Name; from != "own" {
			t.Errorf("%s: what it was declared about is said to come from event %q", mode, from)
		}
		if got := len(s.stored.Status.Resources); got != 2 || s.stored.Status.EventCount != 1 {
			t.Errorf("%s: it is about %d objects, and was seen %d times", mode, got, s.stored.Status.EventCount)
		}
		if s.logged("EventsRefused") != 1 {
			t.Errorf("%s: the timeline does not say that an event was refused\n%s", mode, s)
		}
		s.refused(detach("jane", "foreign"), v1alpha1.ReasonNoSuchEvent)
	}
}

// TestDuplicateOfADrill: between drills it goes as between live incidents, though a drill never
// is contained.
func TestDuplicateOfADrill(t *testing.T) {
	for name, test := range map[string]struct {
		state func(*v1alpha1.Incident)
		lets  bool
	}{
		"in containment": {func(i *v1alpha1.Incident) { i.Status.Phase = v1alpha1.PhaseContainment }, false},
		"in eradication": {func(i *v1alpha1.Incident) { i.Status.Phase = v1alpha1.PhaseEradication }, false},
		"in recovery":    {func(*v1alpha1.Incident) {}, true},
		"in review":      {func(i *v1alpha1.Incident) { i.Status.Phase = v1alpha1.PhaseReview }, true},
		"an object has joined it": {func(i *v1alpha1.Incident) {
			says(i, v1alpha1.ConditionContained, metav1.ConditionFalse, v1alpha1.ReasonNewTarget)
		}, false},
		"nobody has looked at what has joined": {func(i *v1alpha1.Incident) {
			i.Status.Resources = []v1alpha1.IncidentResource{{ResourceReference: podReference("z")}}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newDrill(t, demo(), "a")
			original := s.another(originalName, -time.Hour, v1alpha1.PhaseContainment)
			original.Spec.Mode = v1alpha1.ModeDrill
			s.run()
			s.must(markDuplicate("jane", originalName))
			s.takesUp(original)
			s.pass(originalLook)
			recovering(original)
			says(original, v1alpha1.ConditionContained, metav1.ConditionFalse, v1alpha1.ReasonDryRun)
			test.state(original)
			s.pass(10 * time.Minute)
			if closed := s.stored.Status.Phase == v1alpha1.PhaseClosed; closed != test.lets || closed && s.stored.Status.Resolution != v1alpha1.ResolutionDuplicate {
				t.Errorf("closed: %t as %q, want %t\n%s", closed, s.stored.Status.Resolution, test.lets, s)
			}
			if len(s.effects) > 0 && !cmp.Equal(s.effects, map[string]bool{"preserve a": true}) {
				t.Errorf("effects are %v", s.effects)
			}
		})
	}
}

// TestDuplicatesOfTheOtherMode: a drill does not go on with what is live, nor the other way
// round; not even where an incident was made anew under the name of another.
func TestDuplicatesOfTheOtherMode(t *testing.T) {
	for _, mode := range []v1alpha1.Mode{v1alpha1.ModeLive, v1alpha1.ModeDrill} {
		other := map[v1alpha1.Mode]v1alpha1.Mode{v1alpha1.ModeLive: v1alpha1.ModeDrill, v1alpha1.ModeDrill: ""}[mode]
		s := newSim(t, demo(), "a")
		s.stored.Spec.Mode = mode
		original := s.another(originalName, -time.Hour, v1alpha1.PhaseContainment)
		original.Spec.Mode = other
		s.run()
		s.refused(markDuplicate("jane", originalName), v1alpha1.ReasonOtherMode)

		original.Spec.Mode = mode
		s.must(markDuplicate("jane", originalName))
		original.Spec.Mode = other
		s.pass(time.Minute)
		if s.stored.Status.DuplicateOf.Name != "" || s.logged("DuplicateWithdrawn") != 1 {
			t.Errorf("%s: it still is a duplicate of %+v", mode, s.stored.Status.DuplicateOf)
		}

		foreign := *s.another("foreign", time.Minute, v1alpha1.PhaseContainment)
		foreign.Spec.Mode = other
		foreign.Status.Resources = []v1alpha1.IncidentResource{{ResourceReference: podReference("z")}}
		duplicates(&foreign, s.stored.Name, false)
		s.duplicates = []v1alpha1.Incident{foreign}
		s.run()
		if len(s.stored.Status.Duplicates) > 0 || len(s.stored.Status.Resources) != 1 {
			t.Errorf("%s: it goes on with %+v", mode, s.stored.Status.Duplicates)
		}
	}
}
