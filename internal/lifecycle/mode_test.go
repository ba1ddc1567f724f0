package lifecycle

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func planOf(response v1alpha1.ResponseMode) *v1alpha1.ResponsePlan {
	return &v1alpha1.ResponsePlan{Spec: v1alpha1.ResponsePlanSpec{Response: response}}
}

func modePlaybook(mode v1alpha1.PlaybookMode) *v1alpha1.ResponsePlaybookSpec {
	playbook := playbookOf(steps(collectStep("preserve"), isolateStep("isolate")), steps(deleteStep("delete")), steps(revertStep("release", "isolate"), verifyStep("healthy")))
	playbook.Mode = mode
	return playbook
}

func TestDryRun(t *testing.T) {
	for name, arrange := range map[string]func() *sim{
		"by the playbook": func() *sim { return newSim(t, modePlaybook(v1alpha1.PlaybookDryRun), "a") },
		"by the plan": func() *sim {
			s := newSim(t, modePlaybook(v1alpha1.PlaybookConfirm), "a")
			s.plan = planOf(v1alpha1.ResponseDryRun)
			return s
		},
		"as a drill": func() *sim {
			s := newDrill(t, modePlaybook(v1alpha1.PlaybookConfirm), "a")
			s.plan = planOf(v1alpha1.ResponseEnforce)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := arrange()
			s.script = func(work Work, step *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
				switch {
				case work.Verb == VerbApply && step.Name == "isolate":
					return failure("the pod is not isolated") // by a policy that was only tried
				case work.Verb == VerbApply && step.Name == "delete":
					return Result{State: v1alpha1.TargetApplied, Message: "it is still there"}
				default:
					return Result{}
				}
			}
			s.run()
			s.want(v1alpha1.PhaseReview, "preserve=Succeeded", "isolate=Succeeded", "delete=Succeeded", "release=Skipped", "healthy=Skipped")
			for _, kind := range []string{v1alpha1.ConditionContained, v1alpha1.ConditionEradicated, v1alpha1.ConditionRecovered} {
				s.wantCondition(kind, "False DryRun")
			}
			for step, want := range map[string]string{"preserve": "apply done", "isolate": "dry run: it would be accepted", "delete": "dry run: it is still there",
				"release": "dry run: nothing has taken effect", "healthy": "dry run: nothing has taken effect"} {
				if got := s.step(step).Message; got != want {
					t.Errorf("message of %s is %q, want %q", step, got, want)
				}
			}
			if s.target("isolate").Undo != "" || s.target("preserve").Mode != "" || s.stored.Status.Resources[0].GoneTime != nil {
				t.Errorf("target is %+v", s.target("isolate"))
			}
			if times := s.stored.Status.Times; times.ContainedTime != nil || times.RecoveredTime != nil {
				t.Errorf("times are %+v", times)
			}
			if got := s.stored.Status.Mode; got != v1alpha1.ModeDryRun || s.logged("ModeSet") != 1 {
				t.Errorf("mode is %q, on the timeline %d times", got, s.logged("ModeSet"))
			}
			s.pass(time.Minute)
			s.wantNotDone("Undo isolate a", "Observe isolate a")
			s.must(closing(v1alpha1.ResolutionResolved))
			s.want(v1alpha1.PhaseClosed)
		})
	}
}

// TestDryRunRefused fails a step whose writes the API server would refuse.
func TestDryRunRefused(t *testing.T) {
	for name, result := range map[string]Result{
		"no right":  {State: v1alpha1.TargetFailed, Permanent: true, Unknown: true, Message: "grant it 'patch'"},
		"no answer": {State: v1alpha1.TargetFailed, Unknown: true, Message: "no answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, modePlaybook(v1alpha1.PlaybookDryRun), "a")
			s.script = failing(VerbApply, "isolate", result)
			s.run()
			s.pass(time.Minute)
			s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
		})
	}
}

// TestDryRunAtOnce switches a running incident to a dry run and back.
func TestDryRunAtOnce(t *testing.T) {
	for _, test := range []struct {
		name  string
		verb  Verb // while which the switch happens
		state v1alpha1.TargetState
	}{
		{"before the effect", VerbPlan, v1alpha1.TargetSucceeded},
		{"while the effect is made", VerbApply, v1alpha1.TargetFailed},
		{"while it is observed", VerbObserve, v1alpha1.TargetSucceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(isolateStep("isolate")), nil, steps(revertStep("release"))), "a")
			s.script = func(work Work, _ *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
				if work.Verb == VerbApply && test.verb == VerbObserve {
					return Result{State: v1alpha1.TargetApplied, After: time.Second}
				}
				if work.Verb == test.verb {
					return Result{State: v1alpha1.TargetFailed, Unknown: true, Message: "no answer"}
				}
				return Result{}
			}
			s.run()
			s.plan, s.script = planOf(v1alpha1.ResponseDryRun), nil
			s.pass(5 * time.Second)
			if got := s.target("isolate").State; got != test.state {
				t.Fatalf("target is %s, want %s\n%s", got, test.state, s)
			}
			s.wantNotDone("Undo isolate a")
			s.plan = planOf(v1alpha1.ResponseEnforce)
			s.run()
			switch test.verb {
			case VerbPlan:
				s.want(v1alpha1.PhaseReview, "isolate=Succeeded", "release=Skipped")
			default:
				if s.step("release").State == v1alpha1.StepAwaitingTask { // effects stand that a dry run does not undo
					s.must(by(v1alpha1.DecisionRetryStep, "release", "jane"))
				} else {
					s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
				}
				s.want(v1alpha1.PhaseReview, "isolate=Reverted", "release=Succeeded")
			}
		})
	}
}

// TestDryRunThenReal does what was only tried, when a person asks for it.
func TestDryRunThenReal(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), steps(taskStep("look")), nil), "a")
	s.plan = planOf(v1alpha1.ResponseDryRun)
	s.run()
	s.wantCondition(v1alpha1.ConditionContained, "False DryRun")
	s.refused(by(v1alpha1.DecisionRetryStep, "isolate", "jane"), v1alpha1.ReasonNotAwaited)
	s.plan = nil
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded")
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	if !s.effects["isolate a"] || s.target("isolate").Undo == "" || s.target("isolate").Mode != "" {
		t.Errorf("target is %+v", s.target("isolate"))
	}
}

// TestFalsePositiveInDryRun waits until what was made before may be undone.
func TestFalsePositiveInDryRun(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), steps(taskStep("look")), nil), "a")
	s.run()
	s.plan = planOf(v1alpha1.ResponseDryRun)
	s.must(closing(v1alpha1.ResolutionFalsePositive))
	s.wantNotDone("Undo isolate a")
	s.wantAwaited("Resume")
	if want := "kubectl edit responseplan default -n security"; s.stored.Status.Awaiting[0].Command != want {
		t.Errorf("command is %q, want %q", s.stored.Status.Awaiting[0].Command, want)
	}
	s.plan = nil
	s.run()
	s.want(v1alpha1.PhaseClosed, "isolate=Reverted")
}

func TestConfirm(t *testing.T) {
	s := newSim(t, modePlaybook(v1alpha1.PlaybookConfirm), "a", "b")
	s.run()
	s.want(v1alpha1.PhaseContainment, "preserve=Succeeded", "isolate=AwaitingApproval", "delete=Pending")
	s.wantAwaited("Approval isolate")
	if got, want := s.stored.Status.Awaiting[0].Message, "isolate of Pod shop/a, Pod shop/b waits for an approval: the playbook's `mode` is 'Confirm'"; got != want {
		t.Errorf("message is %q, want %q", got, want)
	}
	s.wantNotDone("Plan isolate a")
	old := s.step("isolate").Digest
	s.event("event-2", "c")
	s.run()
	stale := by(v1alpha1.DecisionApprove, "isolate", "jane")
	stale.Digest = old
	s.refused(stale, v1alpha1.ReasonStale)
	s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded", "delete=AwaitingApproval")
	s.wantDone("Apply isolate a", "Apply isolate b", "Apply isolate c")
	s.wantNotDone("Plan delete a")
	s.must(by(v1alpha1.DecisionApprove, "delete", "jane"))
	s.want(v1alpha1.PhaseRecovery, "delete=Succeeded", "release=AwaitingApproval")
	if got, want := s.stored.Status.Awaiting[0].Message, "revert of 3 effects waits for an approval: the playbook's `mode` is 'Confirm'"; got != want {
		t.Errorf("message is %q, want %q", got, want)
	}
	s.wantNotDone("Undo isolate a")
	s.must(by(v1alpha1.DecisionApprove, "release", "jane"))
	s.want(v1alpha1.PhaseReview, "isolate=Reverted", "release=Succeeded", "healthy=Succeeded")
	if got := s.stored.Status.Mode; got != v1alpha1.ModeConfirm {
		t.Errorf("mode is %q", got)
	}
}

// TestConfirmAttempts refuses an approval of an earlier attempt.
func TestConfirmAttempts(t *testing.T) {
	s := newSim(t, modePlaybook(v1alpha1.PlaybookConfirm), "a")
	s.script = failing(VerbPlan, "isolate", permanent("no"))
	s.run()
	earlier := by(v1alpha1.DecisionApprove, "isolate", "jane")
	earlier.Digest = s.step("isolate").Digest
	s.must(earlier)
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
	s.script = nil
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval")
	s.refused(earlier, v1alpha1.ReasonStale)
	s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded")
}

func TestConfirmRejected(t *testing.T) {
	s := newSim(t, modePlaybook(v1alpha1.PlaybookConfirm), "a")
	s.run()
	s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
	s.must(by(v1alpha1.DecisionReject, "delete", "jane"))
	s.want(v1alpha1.PhaseRecovery, "delete=Skipped", "release=AwaitingApproval")
	s.must(by(v1alpha1.DecisionReject, "release", "jane"))
	s.want(v1alpha1.PhaseReview, "release=Skipped", "isolate=Succeeded")
	s.wantNotDone("Undo isolate a", "Plan delete a")
	s.wantCondition(v1alpha1.ConditionEradicated, "False StepSkipped")
	s.wantCondition(v1alpha1.ConditionRecovered, "False StepSkipped")
}

// TestConfirmAndProtected takes one approval for both, and another one for the next step.
func TestConfirmAndProtected(t *testing.T) {
	s := newSim(t, modePlaybook(v1alpha1.PlaybookConfirm), "a")
	s.sightings["a"] = protected("a")
	s.run()
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval", "preserve=AwaitingApproval")
	if message := s.step("isolate").Message; !strings.Contains(message, "is protected") {
		t.Errorf("message is %q", message)
	}
	s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
	s.want(v1alpha1.PhaseEradication, "preserve=Succeeded", "isolate=Succeeded", "delete=AwaitingApproval")
	s.wantNotDone("Plan delete a")
}

// TestConfirmInOrder does nothing of a later step before an earlier one is confirmed.
func TestConfirmInOrder(t *testing.T) {
	playbook := playbookOf(steps(isolateStep("isolate"), httpStep("ticket")), nil, nil)
	playbook.Mode = v1alpha1.PlaybookConfirm
	s := newSim(t, playbook, "a")
	s.run()
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval", "ticket=Pending")
	s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
	s.want(v1alpha1.PhaseContainment, "isolate=Succeeded", "ticket=AwaitingApproval")
	s.must(by(v1alpha1.DecisionApprove, "ticket", "kim"))
	s.want(v1alpha1.PhaseReview, "ticket=Succeeded")
	if diff := cmp.Diff([]string{"jane", "kim"}, []string{s.target("isolate").ConfirmedBy, s.target("ticket").ConfirmedBy}); diff != "" {
		t.Errorf("confirmedBy (-want +got):\n%s", diff)
	}
}

// TestConfirmAgain asks anew for what may have been done in an earlier attempt, and keeps
// the record of how to undo it.
func TestConfirmAgain(t *testing.T) {
	s := newSim(t, modePlaybook(v1alpha1.PlaybookConfirm), "a")
	s.script = failing(VerbApply, "isolate", permanent("no"))
	s.run()
	s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
	plans, undo := s.count("Plan isolate a"), s.target("isolate").Undo
	s.script = nil
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval")
	s.must(by(v1alpha1.DecisionApprove, "isolate", "kim"))
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded")
	if s.count("Plan isolate a") != plans || s.target("isolate").Undo != undo {
		t.Error("it was planned anew, so that the record of how it was is lost")
	}
}

// TestDryRunWhileItTakesTime begins a dry run while a real deletion waits: what is looked at
// is what was really done, and no wait becomes a success by it.
func TestDryRunWhileItTakesTime(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), steps(deleteStep("delete")), nil), "a")
	waits := true
	s.script = func(work Work, step *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
		if step.Action == "delete" && waits && (work.Verb == VerbApply || work.Verb == VerbObserve) {
			return Result{State: v1alpha1.TargetApplied, After: time.Second, Message: "it waits for its finalizers"}
		}
		return Result{}
	}
	s.run()
	s.plan = planOf(v1alpha1.ResponseDryRun)
	s.pass(5 * time.Second)
	if target := s.target("delete"); target.State != v1alpha1.TargetApplied || s.stored.Status.Resources[0].GoneTime != nil {
		t.Fatalf("target is %s, goneTime %v; want it to wait on\n%s", target.State, s.stored.Status.Resources[0].GoneTime, s)
	}
	waits = false
	s.pass(5 * time.Second)
	if target := s.target("delete"); target.State != v1alpha1.TargetSucceeded || target.Mode != "" {
		t.Errorf("target is %s in mode '%s', want what was really done\n%s", target.State, target.Mode, s)
	}
}

// TestDryRunBeginsBesideVerify: a revert that has nothing to undo in a dry run ends the verify
// step beside it with the same decision's round, not at its next look.
func TestDryRunBeginsBesideVerify(t *testing.T) {
	verify, revert := verifyStep("healthy"), revertStep("release")
	verify.Parallel, revert.Parallel = "g", "g"
	s := newSim(t, playbookOf(steps(collectStep("preserve")), nil, steps(verify, revert)), "a")
	s.script = failing(VerbVerify, "healthy", Result{State: v1alpha1.TargetApplied})
	s.run()
	s.want(v1alpha1.PhaseRecovery, "healthy=Running", "release=Running")
	s.plan = planOf(v1alpha1.ResponseDryRun)
	s.run()
	s.want(v1alpha1.PhaseReview, "healthy=Skipped", "release=Skipped")
}
