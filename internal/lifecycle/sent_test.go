package lifecycle

import (
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestSent keeps what is sent until there is an answer, and no longer.
func TestSent(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate"), httpStep("ticket")), nil, nil), "a")
	tries := 0
	s.script = func(work Work, step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
		if step.Action != "http" || work.Verb != VerbApply {
			return Result{}
		}
		if tries++; tries < 3 {
			return failure("503")
		}
		if target.Undo == "" {
			t.Error("nothing is on record of what is sent again")
		}
		return Result{}
	}
	s.run()
	if s.target("ticket").State != v1alpha1.TargetActing || s.target("ticket").Undo == "" {
		t.Fatalf("it must be kept while it is tried again: %+v", s.target("ticket"))
	}
	s.pass(defaultTimeout)
	s.want(v1alpha1.PhaseReview, "ticket=Succeeded")
	if plans := s.count("Plan ticket " + s.stored.Name); s.target("ticket").Undo != "" || tries != 3 || plans != 1 {
		t.Errorf("%d tries, %d plans, kept %q; want 3, 1 and nothing: there is an answer", tries, plans, s.target("ticket").Undo)
	}
	s.lesson = true
	closing := by(v1alpha1.DecisionClose, "", "jane")
	closing.Resolution = v1alpha1.ResolutionFalsePositive
	s.must(closing)
	s.want(v1alpha1.PhaseClosed, "isolate=Reverted", "ticket=Succeeded")
	s.wantNotDone("Undo ticket " + s.stored.Name)
}

// TestSentAnew says how things are then when a person has it sent again.
func TestSentAnew(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate"), httpStep("ticket")), nil, nil), "a")
	s.script = failing(VerbApply, "ticket", failure("no answer in time"))
	s.run()
	s.pass(2 * defaultTimeout)
	s.want(v1alpha1.PhaseContainment, "ticket=AwaitingTask")
	s.script = nil
	s.must(by(v1alpha1.DecisionRetryStep, "ticket", "jane"))
	s.want(v1alpha1.PhaseReview, "ticket=Succeeded")
	if plans := s.count("Plan ticket " + s.stored.Name); plans != 2 {
		t.Errorf("planned %d times, want 2: another attempt has another key", plans)
	}
}

// TestSentUndecided leaves alone what may have been sent, when nobody waits for an answer.
func TestSentUndecided(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate"), httpStep("ticket")), nil, steps(revertStep("release"))), "a")
	s.script = failing(VerbApply, "ticket", failure("503"))
	s.run()
	s.must(by(v1alpha1.DecisionSkipStep, "ticket", "jane"))
	s.want(v1alpha1.PhaseReview, "ticket=Skipped", "isolate=Reverted", "release=Succeeded")
	s.wantNotDone("Undo ticket " + s.stored.Name)
	for _, left := range Standing(&s.stored.Status) {
		if strings.HasPrefix(left, "ticket") {
			t.Errorf("nothing of it can be undone, but it stands: %s", left)
		}
	}
}

// TestSentAndGivenUp keeps nothing of what was sent once it is not sent again.
func TestSentAndGivenUp(t *testing.T) {
	for name, test := range map[string]struct {
		gives func(*sim)
		state v1alpha1.TargetState
	}{
		"skipped":    {func(s *sim) { s.must(by(v1alpha1.DecisionSkipStep, "ticket", "jane")) }, v1alpha1.TargetFailed},
		"in dry run": {func(s *sim) { s.plan = planOf(v1alpha1.ResponseDryRun); s.run() }, v1alpha1.TargetFailed},
		"late": {func(s *sim) {
			s.now = s.now.Add(2 * defaultTimeout) // while no manager was there
			s.run()
		}, v1alpha1.TargetFailed},
		"rejected": {func(s *sim) {
			s.stored.Status.Steps[1].Targets[0].State = v1alpha1.TargetHeld
			s.run()
			s.must(by(v1alpha1.DecisionReject, "ticket", "jane"))
		}, v1alpha1.TargetSkipped},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(isolateStep("isolate"), httpStep("ticket")), nil, nil), "a")
			s.script = failing(VerbApply, "ticket", failure("503"))
			s.run()
			if s.target("ticket").Undo == "" {
				t.Fatalf("it must be on record while it is tried: %+v", s.target("ticket"))
			}
			test.gives(s)
			if got := s.target("ticket"); got.State != test.state || got.Undo != "" {
				t.Errorf("it is %+v, want %s and nothing on record\n%s", got, test.state, s)
			}
			if s.target("isolate").Undo == "" {
				t.Error("what is undone must stay on record")
			}
		})
	}
}
