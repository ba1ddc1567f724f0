package lifecycle

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

func collectStep(name string) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Target: v1alpha1.TargetPods, Collect: &v1alpha1.CollectAction{}}
}

func isolateStep(name string) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Target: v1alpha1.TargetPods, Isolate: &v1alpha1.IsolateAction{}}
}

func deleteStep(name string) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Target: v1alpha1.TargetPods, Delete: &v1alpha1.DeleteAction{}}
}

func approveStep(name string) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Approve: &v1alpha1.ApproveAction{Within: duration(30 * time.Minute)}}
}

func taskStep(name string) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Task: &v1alpha1.TaskAction{Message: "rotate the keys", Within: duration(4 * time.Hour)}}
}

func waitStep(name string, d time.Duration) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Wait: &v1alpha1.WaitAction{Duration: duration(d)}}
}

func verifyStep(name string) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Target: v1alpha1.TargetWorkloads, Verify: &v1alpha1.VerifyAction{Expression: "objects.all(o, true)", Within: duration(10 * time.Minute)}}
}

func quietStep(name string, quiet, within time.Duration) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Verify: &v1alpha1.VerifyAction{NoEventsFor: duration(quiet), Within: duration(within)}}
}

func revertStep(name string, steps ...v1alpha1.StepName) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Revert: &v1alpha1.RevertAction{Steps: steps}}
}

func playbookOf(containment, eradication, recovery []v1alpha1.PlaybookStep) *v1alpha1.ResponsePlaybookSpec {
	playbook := &v1alpha1.ResponsePlaybookSpec{ServiceAccountName: "contain"}
	playbook.Containment.Steps, playbook.Eradication.Steps, playbook.Recovery.Steps = containment, eradication, recovery
	return playbook
}

func steps(all ...v1alpha1.PlaybookStep) []v1alpha1.PlaybookStep { return all }

// demo is the playbook of the demo: collect and isolate together, approve, delete,
// revert, verify.
func demo() *v1alpha1.ResponsePlaybookSpec {
	preserve, isolate := collectStep("preserve"), isolateStep("isolate")
	preserve.Parallel, preserve.OnFailure, isolate.Parallel = "first", v1alpha1.OnFailureContinue, "first"
	return playbookOf(steps(preserve, isolate), steps(approveStep("ok"), deleteStep("delete")), steps(revertStep("release", "isolate"), verifyStep("healthy")))
}

func TestDemo(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.event("event-1", "a")
	s.run()

	s.want(v1alpha1.PhaseEradication, "preserve=Succeeded", "isolate=Succeeded", "ok=AwaitingApproval", "delete=Pending")
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	s.wantAwaited("Approval ok")
	if diff := cmp.Diff([]string{"Plan preserve a", "Plan isolate a", "Apply preserve a", "Apply isolate a"}, s.done); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	awaiting := s.stored.Status.Awaiting[0]
	if want := `kubectl firebreak -n security approve inc-20261121-k7f2a ok --reason "WHY"`; awaiting.Command != want {
		t.Errorf("command is %q, want %q", awaiting.Command, want)
	}
	if want := "what follows: delete (delete); on: Pod shop/a"; awaiting.Message != want {
		t.Errorf("message is %q, want %q", awaiting.Message, want)
	}
	if want := began.Add(30 * time.Minute); !awaiting.DueTime.Time.Equal(want) || len(awaiting.Digest) != 71 {
		t.Errorf("due %v, want %v; digest %q", awaiting.DueTime, want, awaiting.Digest)
	}

	s.now = s.now.Add(time.Minute)
	s.must(by(v1alpha1.DecisionAcknowledge, "", "jane"))
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview, "ok=Succeeded", "delete=Succeeded", "isolate=Reverted", "release=Succeeded", "healthy=Succeeded")
	s.wantAwaited("Close")
	for _, kind := range []string{v1alpha1.ConditionContained, v1alpha1.ConditionEradicated, v1alpha1.ConditionRecovered} {
		s.wantCondition(kind, "True StepsDone")
	}
	s.wantCondition(v1alpha1.ConditionReviewed, "True LessonDrafted")
	if len(s.effects) != 2 || !s.effects["delete a"] {
		t.Errorf("effects that stand are %v, want only the evidence and the deletion", s.effects)
	}

	s.must(closing(v1alpha1.ResolutionResolved))
	s.want(v1alpha1.PhaseClosed)
	s.wantCondition(v1alpha1.ConditionClosed, "True ByPerson")
	wantTimes := map[string]time.Duration{"acknowledged": time.Minute, "contained": 0, "eradicated": time.Minute, "recovered": time.Minute, "closed": time.Minute}
	times := s.stored.Status.Times
	for name, at := range map[string]*metav1.Time{"acknowledged": times.AcknowledgedTime, "contained": times.ContainedTime,
		"eradicated": times.EradicatedTime, "recovered": times.RecoveredTime, "closed": times.ClosedTime} {
		if at == nil || at.Sub(began) != wantTimes[name] {
			t.Errorf("%s at %v, want %v after %v", name, at, wantTimes[name], began)
		}
	}
}

func TestDemoTimeline(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.event("event-1", "a")
	s.run()
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.must(closing(v1alpha1.ResolutionResolved))
	var got []string
	for _, entry := range s.entries {
		got = append(got, entry.Action+" "+entry.Step)
	}
	want := []string{
		"IncidentOpened ", "PlaybookPinned ", "PhaseEntered ", "StepSucceeded preserve", "StepSucceeded isolate", "ApprovalAwaited ok",
		"Contained ", "PhaseEntered ", "Approve ok", "StepSucceeded ok", "StepSucceeded delete", "Eradicated ", "PhaseEntered ",
		"TargetReverted isolate", "StepSucceeded release", "StepSucceeded healthy", "Recovered ", "PhaseEntered ", "LessonDrafted ", "Close ", "IncidentClosed ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	contained := slices.IndexFunc(s.entries, func(entry v1alpha1.TimelineEntry) bool {
		return entry.Action == "StepSucceeded" && entry.Step == "isolate"
	})
	if got := s.entries[contained]; got.Actor != "system:serviceaccount:security:contain" || got.Resource != "Pod shop/a" {
		t.Errorf("isolation is taken down as done by %q to %q", got.Actor, got.Resource)
	}
	if approved := s.entries[8]; approved.Actor != "jane" || approved.Decision != "dec-000" || approved.Outcome != "Accepted" {
		t.Errorf("approval is taken down as %+v", approved)
	}
}

// TestCrash kills the manager at every moment of the demo, before and after each work;
// the next one must come to the same end.
func TestCrash(t *testing.T) {
	carryOn := func(s *sim) {
		s.run()
		if slices.Contains(s.awaited(), "Approval ok") {
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
		}
	}
	moments := 0
	whole := newSim(t, demo(), "a")
	whole.kill = func() { moments++ }
	carryOn(whole)
	if moments < 12 {
		t.Fatalf("only %d moments", moments)
	}
	for at := 1; at <= moments; at++ {
		s := newSim(t, demo(), "a")
		moment := 0
		s.kill = func() {
			if moment++; moment == at {
				panic(at)
			}
		}
		func() {
			defer func() {
				if died := recover(); died != at {
					t.Errorf("killed at moment %d, but saw %v", at, died)
				}
			}()
			carryOn(s)
		}()
		s.now = s.now.Add(3 * time.Second)
		carryOn(s)
		s.want(v1alpha1.PhaseReview, "preserve=Succeeded", "isolate=Reverted", "ok=Succeeded", "delete=Succeeded", "healthy=Succeeded")
		if s.effects["isolate a"] || !s.effects["delete a"] {
			t.Errorf("killed at moment %d: effects that stand are %v", at, s.effects)
		}
	}
}
