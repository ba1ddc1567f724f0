package lifecycle

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func runAction(person string, step v1alpha1.PlaybookStep) v1alpha1.DecisionSpec {
	raw, _ := json.Marshal(step) // of plain structs: it cannot fail
	decision := by(v1alpha1.DecisionRunAction, "", person)
	decision.Action = &runtime.RawExtension{Raw: raw}
	return decision
}

func addResource(person, pod string) v1alpha1.DecisionSpec {
	decision := by(v1alpha1.DecisionAddResource, "", person)
	decision.Resource = podReference(pod)
	return decision
}

func usePlaybook(person, name string) v1alpha1.DecisionSpec {
	decision := by(v1alpha1.DecisionUsePlaybook, "", person)
	decision.PlaybookRef.Name = name
	return decision
}

// waiting is a playbook that isolates, and then waits for a person.
func waiting(adHoc ...v1alpha1.ActionName) *v1alpha1.ResponsePlaybookSpec {
	playbook := playbookOf(steps(isolateStep("isolate"), taskStep("look")), nil, steps(revertStep("release")))
	playbook.AdHoc = adHoc
	return playbook
}

func TestRunAction(t *testing.T) {
	s := newSim(t, waiting("collect", "delete", "cordon"), "a")
	s.run()
	s.want(v1alpha1.PhaseContainment, "look=AwaitingTask")
	step := collectStep("mine")
	step.Parallel = "g"
	s.must(runAction("jane", step))
	s.want(v1alpha1.PhaseContainment, "adhoc-1=Succeeded", "look=AwaitingTask")
	s.wantDone("Apply adhoc-1 a")
	s.must(runAction("jane", cordonStep("")))
	s.wantDone("Resolve adhoc-2", "Apply adhoc-2 node-a")
	// It is undone with the rest, and made for what joins.
	s.event("event-2", "b")
	s.run()
	s.wantDone("Apply adhoc-1 b", "Apply adhoc-2 node-b")
	s.must(by(v1alpha1.DecisionCompleteTask, "look", "jane"))
	s.want(v1alpha1.PhaseReview, "adhoc-2=Reverted", "release=Succeeded")
	s.wantDone("Undo adhoc-2 node-a", "Undo adhoc-2 node-b")
	s.refused(runAction("jane", collectStep("")), v1alpha1.ReasonNotAwaited)
}

func TestRunActionRefused(t *testing.T) {
	long := collectStep("")
	long.Instructions = strings.Repeat("x", 5000)
	probe := isolateStep("")
	probe.Isolate.Probe = &v1alpha1.IsolationProbe{Image: "registry.example/mine:1"}
	for _, test := range []struct {
		name     string
		playbook *v1alpha1.ResponsePlaybookSpec
		decision v1alpha1.DecisionSpec
		reason   string
		message  string
	}{
		{"not allowed", waiting("collect", "isolate"), runAction("jane", deleteStep("")), v1alpha1.ReasonNotAllowed, "does not allow 'delete': it allows collect, isolate"},
		{"nothing allowed", waiting(), runAction("jane", collectStep("")), v1alpha1.ReasonNotAllowed, "it allows nothing"},
		{"an approval", waiting("collect"), runAction("jane", approveStep("")), v1alpha1.ReasonNotAllowed, "does not allow 'approve'"},
		{"an image of one's own", waiting("isolate"), runAction("jane", probe), v1alpha1.ReasonNotAllowed, "must allow 'job' too, but it allows isolate"},
		{"no playbook", nil, runAction("jane", collectStep("")), v1alpha1.ReasonNotAwaited, "no playbook is pinned"},
		{"too long", waiting("collect"), runAction("jane", long), v1alpha1.ReasonInvalid, "it must have at most 4096"},
		{"unreadable", waiting("collect"), v1alpha1.DecisionSpec{Type: v1alpha1.DecisionRunAction, By: "jane", Action: &runtime.RawExtension{Raw: []byte(`"x"`)}}, v1alpha1.ReasonInvalid, "cannot unmarshal"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, test.playbook, "a")
			s.run()
			answer := s.decide(test.decision)
			if answer.Reason != test.reason || !strings.Contains(answer.Message, test.message) {
				t.Errorf("got %s: %q, want %s: %q", answer.Reason, answer.Message, test.reason, test.message)
			}
			s.wantNotDone("Apply adhoc-1 a")
		})
	}
}

// TestRunActionProbe allows an image of one's own to whom a Job of one's own is allowed.
func TestRunActionProbe(t *testing.T) {
	s := newSim(t, waiting("isolate", "job"), "a")
	s.run()
	probe := isolateStep("")
	probe.Isolate.Probe = &v1alpha1.IsolationProbe{Image: "registry.example/mine:1"}
	s.must(runAction("jane", probe))
	s.wantDone("Apply adhoc-1 a")
}

// TestRunActionLimits holds an action of a person as it holds a step.
func TestRunActionLimits(t *testing.T) {
	playbook := waiting("delete", "isolate")
	playbook.Mode = v1alpha1.PlaybookConfirm
	s := newSim(t, playbook, "a")
	s.run()
	s.must(runAction("jane", deleteStep("")))
	s.want(v1alpha1.PhaseContainment, "adhoc-1=AwaitingApproval")
	s.wantNotDone("Apply adhoc-1 a")
	s.must(by(v1alpha1.DecisionReject, "adhoc-1", "kim"))
	for range maxAdHoc - 1 {
		s.must(runAction("jane", isolateStep("")))
	}
	s.refused(runAction("jane", isolateStep("")), v1alpha1.ReasonNotAllowed)
}

// TestRunActionBesideApproval does not touch an approval that was given.
func TestRunActionBesideApproval(t *testing.T) {
	playbook := playbookOf(steps(approveStep("ok"), deleteStep("delete")), nil, nil)
	playbook.AdHoc = []v1alpha1.ActionName{"collect", "revert"}
	s := newSim(t, playbook, "a")
	s.run()
	digest := s.step("ok").Digest
	s.must(runAction("jane", collectStep("")))
	s.want(v1alpha1.PhaseContainment, "adhoc-1=Succeeded", "ok=AwaitingApproval")
	if s.step("ok").Digest != digest {
		t.Error("what was shown for the approval has changed")
	}
	s.must(by(v1alpha1.DecisionSkipStep, "ok", "jane"))
	s.want(v1alpha1.PhaseReview, "delete=Skipped", "adhoc-1=Succeeded")
}

// TestRunRevert undoes a step by hand.
func TestRunRevert(t *testing.T) {
	s := newSim(t, waiting("revert"), "a")
	s.run()
	s.must(runAction("jane", revertStep("", "isolate")))
	s.want(v1alpha1.PhaseContainment, "isolate=Reverted", "adhoc-1=Succeeded", "look=AwaitingTask")
	s.event("event-2", "b")
	s.run()
	s.wantDone("Apply isolate b")
	s.wantNotDone("Undo isolate b")
}

func TestAddResource(t *testing.T) {
	s := newSim(t, waiting(), "a")
	s.run()
	s.refused(addResource("jane", "a"), v1alpha1.ReasonAlreadyDecided)
	s.must(addResource("jane", "b"))
	s.wantDone("Apply isolate b")
	if got := s.stored.Status.Resources[1]; got.SubmittedBy != "jane" || got.UID == "" {
		t.Errorf("resource is %+v", got)
	}
	s.sightings["c"] = protected("c")
	s.must(addResource("jane", "c"))
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval")
	s.wantNotDone("Plan isolate c")
	s.must(by(v1alpha1.DecisionReject, "isolate", "jane"))
	s.must(by(v1alpha1.DecisionCompleteTask, "look", "jane"))
	s.want(v1alpha1.PhaseReview)
	s.refused(addResource("jane", "d"), v1alpha1.ReasonNotAwaited)
}

func TestAddResources(t *testing.T) {
	s := newSim(t, waiting(), "a")
	s.run()
	for i := range maxResources - 1 {
		s.stored.Status.Resources = append(s.stored.Status.Resources, v1alpha1.IncidentResource{
			ResourceReference: podReference(fmt.Sprint("pod-", i)), State: v1alpha1.ResourceGone})
	}
	s.refused(addResource("jane", "one-more"), v1alpha1.ReasonNotAllowed)
}

func TestUsePlaybook(t *testing.T) {
	other := playbookOf(steps(collectStep("other"), taskStep("call")), nil, nil)
	for _, test := range []struct {
		name    string
		arrange func() *sim
		reason  string // why it is refused; empty when it is accepted
	}{
		{"none is pinned", func() *sim { return newSim(t, nil, "a") }, ""},
		{"the other is missing", func() *sim {
			s := newSim(t, waiting(), "a")
			s.problem = &PlaybookProblem{Reason: v1alpha1.ReasonPlaybookNotFound, Message: "create it"}
			return s
		}, ""},
		{"nothing was done", func() *sim {
			return newSim(t, playbookOf(steps(approveStep("ok"), isolateStep("isolate")), nil, nil), "a")
		}, ""},
		{"only evidence was collected", func() *sim {
			return newSim(t, playbookOf(steps(collectStep("preserve"), taskStep("look")), nil, nil), "a")
		}, ""},
		{"it has acted", func() *sim { return newSim(t, waiting(), "a") }, v1alpha1.ReasonHadEffect},
		{"it is acting", func() *sim {
			s := newSim(t, waiting(), "a")
			s.script = failing(VerbApply, "isolate", failure("no answer"))
			return s
		}, v1alpha1.ReasonHadEffect},
		{"there is no such playbook", func() *sim {
			s := newSim(t, nil, "a")
			s.offered = map[string]*v1alpha1.ResponsePlaybookSpec{"another": other}
			return s
		}, v1alpha1.ReasonPlaybookNotFound},
		{"in Review", func() *sim { return newSim(t, playbookOf(steps(collectStep("preserve")), nil, nil), "a") }, v1alpha1.ReasonNotAwaited},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.arrange()
			s.t = t
			if s.offered == nil {
				s.offered = map[string]*v1alpha1.ResponsePlaybookSpec{"other": other}
			}
			s.run()
			phase := s.stored.Status.Phase
			if test.reason != "" {
				s.refused(usePlaybook("jane", "other"), test.reason)
				if s.step("other") != nil {
					t.Error("it is used although it was refused")
				}
				return
			}
			index := s.submit(usePlaybook("jane", "other"))
			s.problem = nil
			s.run()
			if answer := s.answerOf(index); answer.Status != "True" {
				t.Fatalf("refused: %s %s", answer.Reason, answer.Message)
			}
			s.want(v1alpha1.PhaseContainment, "other=Succeeded", "call=AwaitingTask")
			if s.stored.Status.Phase.Rank() < phase.Rank() || len(s.stored.Status.Steps) != 2 || s.stored.Status.Playbook.Name != "other" {
				t.Errorf("phase %s, playbook %+v\n%s", s.stored.Status.Phase, s.stored.Status.Playbook, s)
			}
			s.refused(usePlaybook("jane", "other"), v1alpha1.ReasonAlreadyDecided)
			s.wantNotDone("Apply isolate a")
		})
	}
}

// TestUsePlaybookDeadline takes over what the new playbook says about the phase.
func TestUsePlaybookDeadline(t *testing.T) {
	other := waiting()
	other.Containment.Within = duration(5 * time.Minute)
	s := newSim(t, playbookOf(steps(taskStep("look")), nil, nil), "a")
	s.offered = map[string]*v1alpha1.ResponsePlaybookSpec{"other": other}
	s.run()
	s.must(usePlaybook("jane", "other"))
	if got := s.stored.Status.PhaseDeadlines; len(got) != 1 || got[0].DueTime.Sub(began) != 5*time.Minute {
		t.Errorf("deadlines are %+v", got)
	}
}

// TestRunActionWhileContainmentIsOpenAgain runs an action in Recovery, while an object that
// joined is not contained yet and waits for a person.
func TestRunActionWhileContainmentIsOpenAgain(t *testing.T) {
	playbook := playbookOf(steps(isolateStep("isolate")), nil, steps(taskStep("look")))
	playbook.AdHoc = []v1alpha1.ActionName{"collect"}
	s := newSim(t, playbook, "a")
	s.run()
	s.want(v1alpha1.PhaseRecovery, "look=AwaitingTask")
	s.script = func(_ Work, step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
		if step.Action == "isolate" && target.Name == "b" {
			return permanent("no")
		}
		return Result{}
	}
	s.event("event-2", "b")
	s.run()
	s.want(v1alpha1.PhaseRecovery, "isolate=AwaitingTask")
	s.must(runAction("jane", collectStep("")))
	s.want(v1alpha1.PhaseRecovery, "adhoc-1=Succeeded", "isolate=AwaitingTask")
	s.wantDone("Apply adhoc-1 b")
}
