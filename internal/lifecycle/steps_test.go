package lifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// when gives a step a condition.
func when(step v1alpha1.PlaybookStep, expression v1alpha1.Expression) v1alpha1.PlaybookStep {
	step.When = expression
	return step
}

func onFailure(step v1alpha1.PlaybookStep, policy v1alpha1.FailurePolicy) v1alpha1.PlaybookStep {
	step.OnFailure = policy
	return step
}

func onNoTargets(step v1alpha1.PlaybookStep, policy v1alpha1.NoTargetsPolicy) v1alpha1.PlaybookStep {
	step.OnNoTargets = policy
	return step
}

func parallel(step v1alpha1.PlaybookStep, group string) v1alpha1.PlaybookStep {
	step.Parallel = group
	return step
}

// failing makes every try of one verb of one step fail.
func failing(verb Verb, step string, result Result) func(Work, *v1alpha1.IncidentStep, *v1alpha1.StepTarget) Result {
	return func(work Work, at *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
		if work.Verb == verb && at.Name == step {
			return result
		}
		return Result{}
	}
}

func TestWhen(t *testing.T) {
	for _, test := range []struct {
		name      string
		step      v1alpha1.PlaybookStep
		wantState string
		wantDone  bool
		wantAwait []string
	}{
		{"true", when(isolateStep("x"), "true"), "Succeeded", true, []string{"Close"}},
		{"false", when(isolateStep("x"), "false"), "Skipped", false, []string{"Close"}},
		{"error escalates", when(isolateStep("x"), "error"), "AwaitingTask", false, []string{"Failure x"}},
		{"error continues", onFailure(when(isolateStep("x"), "error"), v1alpha1.OnFailureContinue), "Failed", false, []string{"Close"}},
		{"error of an approval is no task", when(approveStep("x"), "error"), "Failed", false, []string{"Failure x"}},
		{"approval that is not needed", when(approveStep("x"), "critical"), "Skipped", false, []string{"Close"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(test.step), nil, nil), "a")
			s.run()
			if got := string(s.step("x").State); got != test.wantState {
				t.Errorf("state is %s, want %s\n%s", got, test.wantState, s)
			}
			if got := len(s.done) > 0; got != test.wantDone {
				t.Errorf("done %v", s.done)
			}
			s.wantAwaited(test.wantAwait...)
		})
	}
}

func TestWhenWithoutEvaluator(t *testing.T) {
	s := newSim(t, playbookOf(steps(when(deleteStep("x"), "false")), nil, nil))
	in := s.input(s.stored)
	in.Conditions = nil
	out := Advance(in)
	if state := out.Status.Steps[0].State; state != v1alpha1.StepAwaitingTask {
		t.Errorf("the step is %s: what cannot be evaluated must not be taken for true", state)
	}
}

func TestOnFailure(t *testing.T) {
	for _, test := range []struct {
		policy        v1alpha1.FailurePolicy
		phase         v1alpha1.Phase
		state         string
		awaited       string
		contained     string
		stalled       string
		nextWasRun    bool
		failureLogged int
	}{
		{v1alpha1.OnFailureContinue, v1alpha1.PhaseReview, "isolate=Failed", "Close", "False StepSkipped", "False NotStalled", true, 1},
		{v1alpha1.OnFailureAbort, v1alpha1.PhaseContainment, "isolate=Failed", "Failure isolate", "False InProgress", "True StepFailed", false, 1},
		{v1alpha1.OnFailureEscalate, v1alpha1.PhaseContainment, "isolate=AwaitingTask", "Failure isolate", "False InProgress", "True StepFailed", false, 1},
		{"", v1alpha1.PhaseContainment, "isolate=AwaitingTask", "Failure isolate", "False InProgress", "True StepFailed", false, 1},
	} {
		t.Run(string(test.policy), func(t *testing.T) {
			s := newSim(t, playbookOf(steps(onFailure(isolateStep("isolate"), test.policy)), steps(deleteStep("delete")), nil), "a")
			s.script = failing(VerbApply, "isolate", permanent("no rights"))
			s.run()
			s.want(test.phase, test.state)
			s.wantAwaited(test.awaited)
			s.wantCondition(v1alpha1.ConditionContained, test.contained)
			s.wantCondition(v1alpha1.ConditionStalled, test.stalled)
			if got := s.count("Apply delete a") > 0; got != test.nextWasRun {
				t.Errorf("next step was run: %v, want %v", got, test.nextWasRun)
			}
			if got := s.logged("StepFailed"); got != test.failureLogged {
				t.Errorf("StepFailed is on the timeline %d times, want %d", got, test.failureLogged)
			}
			if s.stored.Status.Times.ContainedTime != nil {
				t.Error("containedTime is set although nothing was contained")
			}
		})
	}
}

func TestRetry(t *testing.T) {
	isolate := isolateStep("isolate")
	isolate.Retry = v1alpha1.Retry{Attempts: 4, Backoff: duration(2 * time.Second)}
	for _, verb := range []Verb{VerbPlan, VerbApply} {
		t.Run(string(verb)+" with backoff", func(t *testing.T) {
			s := newSim(t, playbookOf(steps(isolate), nil, nil), "a")
			var at []time.Duration
			s.script = func(work Work, _ *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
				if work.Verb != verb {
					return Result{}
				}
				at = append(at, s.now.Sub(began))
				return failure("the API server is away")
			}
			s.run()
			s.pass(5 * time.Minute)
			if diff := cmp.Diff([]time.Duration{0, 2 * time.Second, 6 * time.Second, 14 * time.Second}, at); diff != "" {
				t.Errorf("tries (-want +got):\n%s", diff)
			}
			s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
		})
	}
	t.Run("heals", func(t *testing.T) {
		s := newSim(t, playbookOf(steps(isolate), nil, nil), "a")
		s.script = failing(VerbApply, "isolate", failure("conflict"))
		s.run()
		s.script = nil
		s.pass(10 * time.Second)
		s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
	})
	t.Run("permanent", func(t *testing.T) {
		s := newSim(t, playbookOf(steps(isolate), nil, nil), "a")
		s.script = failing(VerbApply, "isolate", permanent("hostNetwork"))
		s.run()
		if got := s.count("Apply isolate a"); got != 1 {
			t.Errorf("tried %d times, want once", got)
		}
		s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
	})
	t.Run("plan again", func(t *testing.T) {
		s := newSim(t, playbookOf(steps(isolate), nil, nil), "a")
		s.script = func(work Work, _ *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
			switch {
			case work.Verb == VerbPlan && target.Undo != "":
				return Result{State: v1alpha1.TargetActing, Undo: target.Undo + "+"}
			case work.Verb == VerbApply && !strings.HasSuffix(target.Undo, "+"):
				return Result{State: v1alpha1.TargetPending, Message: "another policy was added"}
			}
			return Result{}
		}
		s.run()
		s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
		if got := s.step("isolate").Targets[0].Undo; got != `{"policy":"firebreak"}+` {
			t.Errorf("undo record is %q", got)
		}
	})
	t.Run("plan again without a record", func(t *testing.T) {
		s := newSim(t, playbookOf(steps(isolate), nil, steps(revertStep("release"))), "a")
		s.script = func(work Work, _ *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
			switch {
			case work.Verb == VerbPlan && target.Undo != "":
				return Result{State: v1alpha1.TargetActing}
			case work.Verb == VerbApply && target.Attempts == 0:
				return Result{State: v1alpha1.TargetPending, Message: "another policy was added"}
			}
			return Result{}
		}
		s.run()
		s.want(v1alpha1.PhaseReview, "isolate=Reverted")
		s.wantDone("Undo isolate a") // by the first record
	})
	t.Run("plan again for ever", func(t *testing.T) {
		s := newSim(t, playbookOf(steps(isolate), nil, nil), "a")
		s.script = failing(VerbApply, "isolate", Result{State: v1alpha1.TargetPending, Message: "another policy was added"})
		s.run()
		s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
		if got := s.count("Apply isolate a"); got != 4 {
			t.Errorf("tried %d times, want 4", got)
		}
	})
}

func TestImpossibleResults(t *testing.T) {
	for _, test := range []struct {
		name   string
		verb   Verb
		result Result
		want   string
	}{
		{"plan gives Reverted", VerbPlan, Result{State: v1alpha1.TargetReverted}, "Plan has ended in state 'Reverted', which it must not"},
		{"apply gives nothing known", VerbApply, Result{State: "Exploded", Message: "bang"}, "Apply has ended in state 'Exploded', which it must not: bang"},
		{"undo record too long", VerbPlan, Result{State: v1alpha1.TargetActing, Undo: strings.Repeat("ü", 4097)}, "it must have at most 4096"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(isolateStep("isolate")), nil, nil), "a")
			s.script = failing(test.verb, "isolate", test.result)
			s.run()
			s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
			if got := s.step("isolate").Message; !strings.Contains(got, test.want) {
				t.Errorf("message is %q, want it to say %q", got, test.want)
			}
			if test.verb == VerbPlan {
				s.wantNotDone("Apply isolate a")
			}
		})
	}
	t.Run("results of nothing", func(t *testing.T) {
		s := newSim(t, demo(), "a")
		s.run()
		in := s.input(s.stored)
		out := Record(in, []Result{
			{Work: Work{VerbApply, 99, 0}, State: v1alpha1.TargetSucceeded}, {Work: Work{VerbApply, -1, 0}},
			{Work: Work{VerbApply, 1, 99}}, {Work: Work{VerbVerify, 1, WholeStep}}, {Work: Work{VerbPlan, 1, 0}, State: v1alpha1.TargetActing},
		})
		if diff := cmp.Diff(s.stored.Status, out.Status); diff != "" {
			t.Errorf("results that nobody waits for change the status:\n%s", diff)
		}
	})
}

func TestStepTimeout(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.script = func(work Work, step *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
		if step.Name == "isolate" && work.Verb != VerbPlan {
			return Result{State: v1alpha1.TargetApplied, Message: "the plugin is slow", After: 10 * time.Second}
		}
		return Result{}
	}
	s.run()
	s.want(v1alpha1.PhaseContainment, "preserve=Succeeded", "isolate=Running")
	s.pass(4*time.Minute + 59*time.Second)
	s.want(v1alpha1.PhaseContainment, "isolate=Running")
	s.pass(time.Second)
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
	if got, want := s.step("isolate").Message, "1 of 1 failed: Pod shop/a: not done within 5m0s: the plugin is slow"; got != want {
		t.Errorf("message is %q, want %q", got, want)
	}
	if s.step("isolate").Targets[0].Undo == "" {
		t.Error("the undo record was lost: it may have taken effect")
	}
	s.wantCondition(v1alpha1.ConditionStalled, "True StepFailed")
	s.script = nil
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded")
	if got := s.count("Plan isolate a"); got != 1 {
		t.Errorf("planned %d times: planning anew loses how it was", got)
	}
}

func TestDeadlinesOfPeople(t *testing.T) {
	approve, task := approveStep("x"), taskStep("x")
	abortApprove, abortTask := approveStep("x"), taskStep("x")
	abortApprove.Approve.Otherwise, abortTask.Task.Otherwise = v1alpha1.OtherwiseAbort, v1alpha1.OtherwiseAbort
	for _, test := range []struct {
		name    string
		step    v1alpha1.PlaybookStep
		within  time.Duration
		state   string
		awaited string
		stalled string
		logged  string
		answer  v1alpha1.DecisionSpec
	}{
		{"approve escalates", approve, 30 * time.Minute, "x=AwaitingApproval", "Approval x", "True Overdue", "Overdue", by(v1alpha1.DecisionApprove, "x", "jane")},
		{"approve aborts", abortApprove, 30 * time.Minute, "x=Failed", "Failure x", "True StepFailed", "StepFailed", by(v1alpha1.DecisionRetryStep, "x", "jane")},
		{"task escalates", task, 4 * time.Hour, "x=AwaitingTask", "Task x", "True Overdue", "Overdue", by(v1alpha1.DecisionCompleteTask, "x", "jane")},
		{"task aborts", abortTask, 4 * time.Hour, "x=Failed", "Failure x", "True StepFailed", "StepFailed", by(v1alpha1.DecisionRetryStep, "x", "jane")},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(test.step), steps(deleteStep("delete")), nil), "a")
			s.run()
			s.wantCondition(v1alpha1.ConditionStalled, "False NotStalled")
			s.pass(test.within - time.Second)
			s.wantCondition(v1alpha1.ConditionStalled, "False NotStalled")
			s.pass(time.Second)
			s.want(v1alpha1.PhaseContainment, test.state)
			s.wantAwaited(test.awaited)
			s.wantCondition(v1alpha1.ConditionStalled, test.stalled)
			s.pass(24 * time.Hour)
			if got := s.logged(test.logged); got != 1 {
				t.Errorf("%s is on the timeline %d times, want once", test.logged, got)
			}
			s.wantNotDone("Apply delete a")
			s.must(test.answer)
			if test.answer.Type != v1alpha1.DecisionRetryStep {
				s.want(v1alpha1.PhaseReview, "delete=Succeeded")
			}
		})
	}
}

func TestVerify(t *testing.T) {
	holds := verifyStep("x")
	holds.Verify.For = duration(time.Minute)
	t.Run("holds for a time without a break", func(t *testing.T) {
		s := newSim(t, playbookOf(nil, nil, steps(holds)), "a")
		well := true
		s.script = func(Work, *v1alpha1.IncidentStep, *v1alpha1.StepTarget) Result {
			if well {
				return Result{State: v1alpha1.TargetSucceeded, Message: "3 of 3", After: 5 * time.Second}
			}
			return Result{State: v1alpha1.TargetApplied, Message: "2 of 3", After: 5 * time.Second}
		}
		s.run()
		s.pass(50 * time.Second)
		well = false
		s.pass(5 * time.Second)
		well = true
		s.pass(59 * time.Second)
		s.want(v1alpha1.PhaseRecovery, "x=Running")
		s.pass(10 * time.Second)
		s.want(v1alpha1.PhaseReview, "x=Succeeded")
		s.wantCondition(v1alpha1.ConditionRecovered, "True StepsDone")
	})
	t.Run("does not hold in time", func(t *testing.T) {
		s := newSim(t, playbookOf(nil, nil, steps(holds)), "a")
		s.script = failing(VerbVerify, "x", Result{State: v1alpha1.TargetApplied, Message: "2 of 3", After: 30 * time.Second})
		s.run()
		s.pass(10 * time.Minute)
		s.want(v1alpha1.PhaseRecovery, "x=AwaitingTask")
		if got, want := s.step("x").Message, "it did not hold within 10m0s: 2 of 3"; got != want {
			t.Errorf("message is %q, want %q", got, want)
		}
		s.must(by(v1alpha1.DecisionCompleteTask, "x", "jane"))
		s.want(v1alpha1.PhaseReview, "x=Succeeded")
	})
	t.Run("cannot be evaluated", func(t *testing.T) {
		s := newSim(t, playbookOf(nil, nil, steps(holds)), "a")
		s.script = failing(VerbVerify, "x", permanent("no such field"))
		s.run()
		s.want(v1alpha1.PhaseRecovery, "x=AwaitingTask")
	})
	t.Run("a pause is a break", func(t *testing.T) {
		s := newSim(t, playbookOf(nil, nil, steps(holds)), "a")
		s.run()
		s.pass(30 * time.Second)
		s.must(by(v1alpha1.DecisionPause, "", "jane"))
		s.pass(time.Hour)
		s.must(by(v1alpha1.DecisionResume, "", "jane"))
		s.want(v1alpha1.PhaseRecovery, "x=Running")
		s.pass(time.Minute)
		s.want(v1alpha1.PhaseReview, "x=Succeeded")
	})
}

func TestQuiet(t *testing.T) {
	t.Run("quiet", func(t *testing.T) {
		s := newSim(t, playbookOf(nil, nil, steps(quietStep("x", 15*time.Minute, time.Hour))), "a")
		s.event("event-1", "a")
		s.run()
		s.pass(10 * time.Minute)
		s.event("event-2", "a")
		s.run()
		s.pass(15*time.Minute - time.Second)
		s.want(v1alpha1.PhaseRecovery, "x=Running")
		s.pass(time.Second)
		s.want(v1alpha1.PhaseReview, "x=Succeeded")
	})
	t.Run("never quiet", func(t *testing.T) {
		s := newSim(t, playbookOf(nil, nil, steps(quietStep("x", 15*time.Minute, time.Hour))), "a")
		for minute := range 60 {
			s.event(fmt.Sprintf("event-%d", minute), "a")
			s.run()
			s.pass(time.Minute)
		}
		s.want(v1alpha1.PhaseRecovery, "x=AwaitingTask")
		s.wantCondition(v1alpha1.ConditionRecovered, "False InProgress")
	})
}

func TestWait(t *testing.T) {
	s := newSim(t, playbookOf(steps(waitStep("x", 72*time.Hour)), nil, nil), "a")
	s.run()
	s.pass(72*time.Hour - time.Second)
	s.want(v1alpha1.PhaseContainment, "x=Running")
	s.pass(time.Second)
	s.want(v1alpha1.PhaseReview, "x=Succeeded")
}

func TestParallel(t *testing.T) {
	s := newSim(t, playbookOf(steps(parallel(collectStep("one"), "g"), parallel(isolateStep("two"), "g"), deleteStep("three")), nil, nil), "a")
	s.script = failing(VerbApply, "one", Result{State: v1alpha1.TargetApplied, After: time.Minute})
	s.run()
	s.want(v1alpha1.PhaseContainment, "one=Running", "two=Succeeded", "three=Pending")
	s.pass(time.Minute)
	s.want(v1alpha1.PhaseReview, "one=Succeeded", "three=Succeeded")
}

// TestRevertBeside reverts in the same parallel group in which it is isolated: never
// while the effect is being made, or it could be left standing.
func TestRevertBeside(t *testing.T) {
	s := newSim(t, playbookOf(steps(parallel(isolateStep("isolate"), "g"), parallel(revertStep("release"), "g")), nil, nil), "a")
	s.script = failing(VerbApply, "isolate", Result{State: v1alpha1.TargetApplied, After: 10 * time.Second})
	s.run()
	s.want(v1alpha1.PhaseContainment, "isolate=Running", "release=Running")
	s.wantNotDone("Undo isolate a")
	s.pass(10 * time.Second)
	s.want(v1alpha1.PhaseReview, "isolate=Reverted", "release=Succeeded")
	if s.effects["isolate a"] {
		t.Error("the isolation stands")
	}
}

// TestManySteps has more to take down at once than one write may: it must go on with the next.
func TestManySteps(t *testing.T) {
	var all []v1alpha1.PlaybookStep
	for i := range 32 {
		all = append(all, when(isolateStep(fmt.Sprintf("step-%d", i)), "false"))
	}
	s := newSim(t, playbookOf(all, nil, nil), "a")
	s.run()
	s.want(v1alpha1.PhaseReview, "step-0=Skipped", "step-31=Skipped")
	if got := s.logged("StepSkipped"); got != 32 {
		t.Errorf("%d of 32 steps are on the timeline", got)
	}
	s.wantCondition(v1alpha1.ConditionContained, "False NoTargets")
}

// TestRevertGoesOn undoes what it can although something cannot be undone.
func TestRevertGoesOn(t *testing.T) {
	for _, test := range []struct {
		name   string
		result Result
	}{
		{"tried again", failure("no answer")},
		{"in vain", permanent("grant it 'patch'")},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(isolateStep("one"), isolateStep("two")), nil, steps(revertStep("release"))), "a", "b")
			s.script = func(work Work, step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
				if work.Verb == VerbUndo && step.Name == "two" && target.Name == "a" {
					return test.result
				}
				return Result{}
			}
			s.run()
			s.pass(3 * time.Second)
			s.wantDone("Undo two b", "Undo one a", "Undo one b")
			s.pass(6 * time.Minute)
			s.want(v1alpha1.PhaseRecovery, "release=AwaitingTask", "one=Reverted")
			s.script = nil
			s.must(by(v1alpha1.DecisionRetryStep, "release", "jane"))
			s.want(v1alpha1.PhaseReview, "release=Succeeded", "two=Reverted")
		})
	}
}
