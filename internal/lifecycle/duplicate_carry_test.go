package lifecycle

import (
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// carried is an incident that was marked as a duplicate while its isolation was being made.
func carried(t *testing.T, plan *v1alpha1.ResponsePlan) (*sim, *v1alpha1.Incident) {
	s := newSim(t, isolateAll(), "a")
	original := s.another(originalName, 0, v1alpha1.PhaseContainment)
	s.plan = plan
	s.script = failing(VerbApply, "isolate", Result{State: v1alpha1.TargetFailed, Unknown: true, Message: "no answer"})
	s.run()
	s.must(markDuplicate("jane", originalName))
	s.takesUp(original)
	if s.target("isolate").State != v1alpha1.TargetActing {
		t.Fatalf("it must be under way: %+v", s.target("isolate"))
	}
	return s, original
}

// TestDuplicateTurns: what a duplicate carries through is not made by a record of a dry run,
// nor tried by one of an effect.
func TestDuplicateTurns(t *testing.T) {
	enforce, dryRun := planOf(v1alpha1.ResponseEnforce), planOf(v1alpha1.ResponseDryRun)
	for name, test := range map[string]struct {
		before, after *v1alpha1.ResponsePlan
		state         v1alpha1.TargetState
		made          bool
	}{
		"tried, then to be made": {dryRun, enforce, v1alpha1.TargetPending, false},
		"begun, then a dry run":  {enforce, dryRun, v1alpha1.TargetFailed, true},
		"made all along":         {enforce, enforce, v1alpha1.TargetSucceeded, true},
		"tried all along":        {dryRun, dryRun, v1alpha1.TargetSucceeded, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, original := carried(t, test.before)
			s.plan, s.script = test.after, nil
			s.pass(10 * time.Minute)
			target := s.target("isolate")
			if target.State != test.state || s.effects["isolate a"] != test.made || (target.Undo != "") != test.made {
				t.Errorf("it is %+v, made: %t; want %s, made: %t, and on record so\n%s", target, s.effects["isolate a"], test.state, test.made, s)
			}
			s.plan = enforce
			recovering(original)
			s.pass(originalLook)
			s.want(v1alpha1.PhaseClosed)
			if len(s.effects) > 0 {
				t.Errorf("left: %v\n%s", s.effects, s)
			}
		})
	}
}

// TestDuplicateAsks: what a duplicate cannot carry through, or look at, is asked of a person,
// and the lines to type are taken.
func TestDuplicateAsks(t *testing.T) {
	for name, arrange := range map[string]func(*testing.T) *sim{
		"it could not be carried through": func(t *testing.T) *sim {
			s, _ := carried(t, nil)
			s.script = failing(VerbApply, "isolate", permanent("no rights"))
			s.pass(10 * time.Minute)
			return s
		},
		"it was begun before a dry run": func(t *testing.T) *sim {
			s, _ := carried(t, nil)
			s.plan = planOf(v1alpha1.ResponseDryRun)
			s.pass(time.Minute)
			s.plan = nil
			return s
		},
		"nobody can look at it": func(t *testing.T) *sim {
			s := newSim(t, heldPlaybook(), "a")
			original := s.another(originalName, 0, v1alpha1.PhaseContainment)
			s.run()
			s.must(markDuplicate("jane", originalName))
			s.takesUp(original)
			s.script = failing(VerbObserve, "isolate", permanent("no rights"))
			s.pass(time.Minute)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := arrange(t)
			s.wantAwaited("Failure isolate")
			s.script = nil
			s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
			s.pass(time.Minute)
			s.wantAwaited()
			if !s.effects["isolate a"] || s.target("isolate").State != v1alpha1.TargetSucceeded {
				t.Errorf("it must hold: %+v\n%s", s.target("isolate"), s)
			}
			s.refused(by(v1alpha1.DecisionRetryStep, "isolate", "jane"), v1alpha1.ReasonDuplicate)

			s = arrange(t)
			undo := s.target("isolate").Undo
			s.must(by(v1alpha1.DecisionSkipStep, "isolate", "jane"))
			s.wantAwaited()
			if s.step("isolate").State != v1alpha1.StepSkipped || undo == "" || s.target("isolate").Undo != undo {
				t.Errorf("it must stay on record: %+v\n%s", s.target("isolate"), s)
			}
			s.refused(by(v1alpha1.DecisionRetryStep, "no-such-step", "jane"), v1alpha1.ReasonDuplicate)
		})
	}
}
