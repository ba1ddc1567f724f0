package lifecycle

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// unhealthy keeps recovery from being verified.
func unhealthy() func(Work, *v1alpha1.IncidentStep, *v1alpha1.StepTarget) Result {
	return failing(VerbVerify, "healthy", Result{State: v1alpha1.TargetApplied, Message: "2 of 3", After: time.Minute})
}

// TestJoin lets a second pod join in every phase: it is contained too, without the
// phase going back or the first times moving.
func TestJoin(t *testing.T) {
	for _, test := range []struct {
		name      string
		before    func(*sim)
		phase     v1alpha1.Phase
		contained string // while the new pod is not contained
		phaseThen v1alpha1.Phase
		stateThen []string
	}{
		{"in containment", func(s *sim) {
			s.script = failing(VerbApply, "isolate", Result{State: v1alpha1.TargetApplied, After: 20 * time.Second})
			s.run()
		}, v1alpha1.PhaseContainment, "False InProgress", v1alpha1.PhaseEradication, []string{"ok=AwaitingApproval"}},
		{"awaiting approval", func(s *sim) { s.run() },
			v1alpha1.PhaseEradication, "False NewTarget", v1alpha1.PhaseEradication, []string{"ok=AwaitingApproval", "delete=Pending"}},
		{"after the approval", func(s *sim) {
			s.script = failing(VerbApply, "delete", Result{State: v1alpha1.TargetApplied, After: 2 * time.Minute})
			s.run()
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.want(v1alpha1.PhaseEradication, "delete=Running")
		}, v1alpha1.PhaseEradication, "False NewTarget", v1alpha1.PhaseEradication, []string{"ok=AwaitingApproval", "delete=Running"}},
		{"in recovery", func(s *sim) {
			s.script = unhealthy()
			s.run()
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.want(v1alpha1.PhaseRecovery, "isolate=Reverted", "healthy=Running")
		}, v1alpha1.PhaseRecovery, "False NewTarget", v1alpha1.PhaseRecovery, []string{"ok=AwaitingApproval", "delete=Running", "release=Pending"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, demo(), "a")
			s.event("event-1", "a")
			test.before(s)
			times, digest := s.stored.Status.Times, s.step("ok").Digest
			s.now = s.now.Add(10 * time.Second)
			s.event("event-2", "b")
			script := s.script
			s.script = func(work Work, step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
				if step.Name == "isolate" && work.Verb == VerbApply {
					return Result{State: v1alpha1.TargetApplied, After: 10 * time.Second}
				}
				if script != nil {
					return script(work, step, target)
				}
				return Result{}
			}
			s.run()
			s.want(test.phase, "isolate=Running")
			s.wantCondition(v1alpha1.ConditionContained, test.contained)
			s.wantDone("Apply isolate b")
			s.wantNotDone("Apply delete b")
			s.script = script
			if test.name == "in containment" {
				s.script = nil
			}
			s.pass(15 * time.Second)
			s.want(test.phaseThen, test.stateThen...)
			s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
			s.wantNotDone("Apply delete b")
			if times.ContainedTime != nil && !s.stored.Status.Times.ContainedTime.Equal(times.ContainedTime) {
				t.Errorf("containedTime moved from %v to %v", times.ContainedTime, s.stored.Status.Times.ContainedTime)
			}
			if again := s.step("ok").Digest; again == "" || again == digest {
				t.Errorf("the approval is not asked anew: digest %q, was %q", again, digest)
			}
			s.refused(v1alpha1.DecisionSpec{Type: v1alpha1.DecisionApprove, Step: "ok", By: "jane", Reason: "old", Digest: "sha256:" + noHash}, v1alpha1.ReasonStale)
			s.script = nil
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.pass(time.Hour)
			s.want(v1alpha1.PhaseReview, "isolate=Reverted", "delete=Succeeded", "release=Succeeded")
			s.wantDone("Apply delete b", "Undo isolate b")
			for _, kind := range []string{v1alpha1.ConditionContained, v1alpha1.ConditionEradicated, v1alpha1.ConditionRecovered} {
				s.wantCondition(kind, "True StepsDone")
			}
		})
	}
}

// TestJoinWhileStepsRun checks that what an approval guards is not done to an object
// that joined after it, although no containment step has to begin anew for it.
func TestJoinWhileStepsRun(t *testing.T) {
	for _, test := range []struct {
		name     string
		playbook *v1alpha1.ResponsePlaybookSpec
	}{
		{"the guarded step runs", playbookOf(nil, steps(approveStep("ok"), deleteStep("delete")), nil)},
		{"the guarded step has not begun", playbookOf(nil, steps(approveStep("ok"), waitStep("wait", 10*time.Minute), deleteStep("delete")), nil)},
		{"approved in containment", playbookOf(steps(approveStep("ok"), deleteStep("delete")), nil, nil)},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, test.playbook, "a")
			s.script = failing(VerbApply, "delete", Result{State: v1alpha1.TargetApplied, After: 2 * time.Minute})
			s.run()
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.event("event-2", "b")
			s.run()
			s.wantAwaited("Approval ok")
			s.pass(20 * time.Minute)
			s.wantNotDone("Apply delete b")
			s.script = nil
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.pass(20 * time.Minute)
			s.want(v1alpha1.PhaseReview, "delete=Succeeded")
			s.wantDone("Apply delete b")
		})
	}
}

// TestJoinAfterWaiver waives an approval, and with it what it guards: for an object that
// joins it is asked anew.
func TestJoinAfterWaiver(t *testing.T) {
	s := newSim(t, playbookOf(nil, steps(approveStep("ok"), isolateStep("second"), deleteStep("delete")), steps(taskStep("task"))), "a")
	s.run()
	s.must(by(v1alpha1.DecisionSkipStep, "ok", "jane"))
	s.want(v1alpha1.PhaseRecovery, "ok=Skipped", "second=Skipped", "delete=Skipped")
	s.event("event-2", "b")
	s.run()
	s.wantAwaited("Approval ok", "Task task")
	s.wantNotDone("Apply second a", "Apply second b")
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.wantDone("Apply second b")
	s.wantNotDone("Apply second a", "Apply delete a", "Apply delete b")
	s.wantCondition(v1alpha1.ConditionEradicated, "False StepSkipped")
}

// TestJoinDoesNotMakeLate checks that a step that must wait for a new object's
// containment and approval does not lose that time.
func TestJoinDoesNotMakeLate(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.script = failing(VerbApply, "delete", Result{State: v1alpha1.TargetApplied, After: 2 * time.Minute})
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.event("event-2", "b")
	s.run()
	s.want(v1alpha1.PhaseEradication, "ok=AwaitingApproval", "delete=Running")
	s.pass(25 * time.Minute)
	s.script = nil
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.pass(2 * time.Hour)
	s.want(v1alpha1.PhaseReview, "delete=Succeeded")
}

// TestJoinAtTheEnd lets a pod join with the very look that verifies recovery: it must
// be contained, or not have joined.
func TestJoinAtTheEnd(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.script = func(work Work, _ *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
		if work.Verb == VerbVerify && len(s.events) == 0 {
			s.event("event-2", "b")
		}
		return Result{}
	}
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.wantDone("Apply isolate b")
	s.want(v1alpha1.PhaseRecovery, "ok=AwaitingApproval")
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	s.wantCondition(v1alpha1.ConditionEradicated, "False NewTarget")
}

func TestNothingJoinsFromReviewOn(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview)
	s.event("event-2", "b")
	s.pass(time.Minute)
	if got := len(s.stored.Status.Resources); got != 1 {
		t.Errorf("%d resources, want 1", got)
	}
	if got := s.stored.Status.EventCount; got != 1 {
		t.Errorf("event count is %d, want 1", got)
	}
	s.want(v1alpha1.PhaseReview)
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
}

// TestJoinWhilePaused checks that an incident does not look contained while nobody may
// look at what joined.
func TestJoinWhilePaused(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.must(by(v1alpha1.DecisionPause, "", "jane"))
	s.event("event-2", "b")
	s.run()
	s.wantCondition(v1alpha1.ConditionContained, "False NewTarget")
	s.wantNotDone("Apply isolate b")
	s.must(by(v1alpha1.DecisionResume, "", "jane"))
	s.wantDone("Apply isolate b")
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
}

// TestJoinKeepsHolds checks that a revert that begins anew for a new object does not
// undo what later steps hold the old ones with.
func TestJoinKeepsHolds(t *testing.T) {
	for _, names := range [][]v1alpha1.StepName{nil, {"soft"}} {
		s := newSim(t, playbookOf(steps(isolateStep("soft"), revertStep("loosen", names...), isolateStep("hard")), steps(approveStep("ok")), nil), "a")
		s.run()
		s.event("event-2", "b")
		s.run()
		s.want(v1alpha1.PhaseEradication, "soft=Reverted", "hard=Succeeded")
		if !s.effects["hard a"] || !s.effects["hard b"] || s.effects["soft a"] || s.effects["soft b"] {
			t.Errorf("effects that stand are %v", s.effects)
		}
	}
}

// TestManyJoin lets more objects join one by one than attempts are counted.
func TestManyJoin(t *testing.T) {
	playbook := playbookOf(steps(isolateStep("isolate")), steps(approveStep("ok")), nil)
	playbook.Limits.MaxTargets = 128
	s := newSim(t, playbook, "a")
	s.boundsEvery = 20
	s.run()
	seen := map[string]bool{s.step("ok").Digest: true}
	for i := range 127 {
		s.event(fmt.Sprintf("event-%d", i), fmt.Sprintf("pod-%d", i))
		s.run()
		digest := s.step("ok").Digest
		if seen[digest] {
			t.Fatalf("pod %d: the digest is that of an earlier question", i)
		}
		seen[digest] = true
	}
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded", "ok=AwaitingApproval")
	if got := s.step("isolate").Attempts; got != maxAttempts {
		t.Errorf("attempts are %d, want %d", got, maxAttempts)
	}
	if got := len(s.effects); got != 128 {
		t.Errorf("%d pods are isolated, want 128", got)
	}
}

func TestEventCount(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.event("event-1", "a")
	s.run()
	var writes, counts []int64
	for range 3 {
		before := s.writes
		for range 10 {
			s.events[0].Status.Occurrences++
			s.now = s.now.Add(50 * time.Millisecond)
			s.run()
		}
		writes, counts = append(writes, int64(s.writes-before)), append(counts, s.stored.Status.EventCount)
	}
	// A repeat costs at most one write a second, and none is lost.
	if diff := cmp.Diff([]int64{0, 1, 0}, writes); diff != "" {
		t.Errorf("writes in each half second (-want +got):\n%s", diff)
	}
	for s.last.Next.After(s.now) && s.last.Next.Sub(s.now) < 10*time.Second {
		s.now = s.last.Next // it asks itself to count the rest
		s.run()
	}
	if got := s.stored.Status.EventCount; got != 31 {
		t.Errorf("event count is %d (earlier %v), want 31", got, counts)
	}
	if slices.Contains(s.awaited(), "Close") {
		t.Error("counting has changed more than the count")
	}
}
