package lifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func protected(name string) Sighting {
	return Sighting{State: v1alpha1.ResourcePresent, UID: v1alpha1.ObjectUID("uid-" + name), Protection: "namespace shop is protected by its label firebreak.dev/protected"}
}

func isolateAll() *v1alpha1.ResponsePlaybookSpec {
	return playbookOf(steps(isolateStep("isolate")), nil, nil)
}

func TestProtectedIsHeld(t *testing.T) {
	for _, test := range []struct {
		name      string
		decision  v1alpha1.DecisionSpec
		state     string
		contained string
		isolated  bool
	}{
		{"approved", by(v1alpha1.DecisionApprove, "isolate", "jane"), "isolate=Succeeded", "True StepsDone", true},
		{"rejected", by(v1alpha1.DecisionReject, "isolate", "jane"), "isolate=Succeeded", "False StepSkipped", false},
		{"skipped", by(v1alpha1.DecisionSkipStep, "isolate", "jane"), "isolate=Skipped", "False StepSkipped", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, isolateAll(), "a", "b")
			s.sightings["b"] = protected("b")
			s.run()
			s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval")
			s.wantDone("Apply isolate a")
			s.wantNotDone("Plan isolate b", "Apply isolate b")
			s.wantAwaited("Approval isolate")
			s.wantCondition(v1alpha1.ConditionContained, "False InProgress")
			want := "isolate of Pod shop/b waits for an approval: namespace shop is protected by its label firebreak.dev/protected, and the playbook's `limits.allowProtected` does not name it; an approval counts for every step that acts on them"
			if got := s.stored.Status.Awaiting[0].Message; got != want {
				t.Errorf("message is %q, want %q", got, want)
			}
			if s.logged("ResourceHeld") != 1 {
				t.Error("the hold is not on the timeline")
			}
			s.must(test.decision)
			s.want(v1alpha1.PhaseReview, test.state)
			s.wantCondition(v1alpha1.ConditionContained, test.contained)
			if got := s.count("Apply isolate b") == 1; got != test.isolated {
				t.Errorf("isolated: %v, want %v", got, test.isolated)
			}
			if got := s.stored.Status.Resources[1].ApprovedBy; (got == "jane") != test.isolated {
				t.Errorf("approvedBy is %q", got)
			}
		})
	}
}

func TestHeldAlone(t *testing.T) {
	s := newSim(t, isolateAll(), "a")
	s.sightings["a"] = protected("a")
	s.run()
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval")
	s.must(by(v1alpha1.DecisionReject, "isolate", "jane"))
	s.want(v1alpha1.PhaseReview, "isolate=Skipped")
	s.wantCondition(v1alpha1.ConditionContained, "False StepSkipped")
}

func TestHeldEscalates(t *testing.T) {
	s := newSim(t, isolateAll(), "a")
	s.sightings["a"] = protected("a")
	s.run()
	s.pass(59 * time.Minute)
	s.wantCondition(v1alpha1.ConditionStalled, "False NotStalled")
	s.pass(24 * time.Hour)
	s.wantCondition(v1alpha1.ConditionStalled, "True Overdue")
	if got := s.logged("Overdue"); got != 1 {
		t.Errorf("Overdue is on the timeline %d times, want once", got)
	}
	s.wantAwaited("Approval isolate")
	s.wantNotDone("Apply isolate a")
}

func TestAllowProtected(t *testing.T) {
	playbook := isolateAll()
	playbook.Limits.AllowProtected = []v1alpha1.ProtectedNamespace{"shop"}
	s := newSim(t, playbook, "a")
	s.sightings["a"] = protected("a")
	s.run()
	s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
}

// TestHeldHoldsBackThePhase checks that others are dealt with, and that what comes in
// later phases waits.
func TestHeldHoldsBackThePhase(t *testing.T) {
	s := newSim(t, playbookOf(steps(collectStep("preserve"), isolateStep("isolate")), steps(deleteStep("delete")), nil), "a", "b")
	s.sightings["b"] = protected("b")
	s.run()
	s.want(v1alpha1.PhaseContainment, "preserve=AwaitingApproval", "isolate=AwaitingApproval", "delete=Pending")
	s.wantDone("Apply preserve a", "Apply isolate a")
	s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
	s.want(v1alpha1.PhaseReview, "preserve=Succeeded", "isolate=Succeeded", "delete=Succeeded")
	s.wantDone("Apply preserve b", "Apply isolate b", "Apply delete b")
}

// TestMoreAreHeld checks that an approval of held objects is for those that were shown.
func TestMoreAreHeld(t *testing.T) {
	s := newSim(t, isolateAll(), "a")
	s.sightings["a"], s.sightings["b"] = protected("a"), protected("b")
	s.run()
	old := s.step("isolate").Digest
	due := s.step("isolate").DeadlineTime
	s.pass(10 * time.Minute)
	s.event("event-2", "b")
	s.run()
	awaiting := s.stored.Status.Awaiting[0]
	if awaiting.Digest == old || !strings.Contains(awaiting.Message, "Pod shop/a, Pod shop/b") {
		t.Errorf("what is shown does not name both: %+v", awaiting)
	}
	if !s.step("isolate").DeadlineTime.Equal(due) {
		t.Errorf("the deadline moved from %v to %v: what joins must not put off the escalation", due, s.step("isolate").DeadlineTime)
	}
	stale := by(v1alpha1.DecisionApprove, "isolate", "jane")
	stale.Digest = old
	s.refused(stale, v1alpha1.ReasonStale)
	s.wantNotDone("Apply isolate a", "Apply isolate b")
	s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
	s.wantDone("Apply isolate a", "Apply isolate b")
}

// TestJoinsBesideHeld lets an object join that is not held while another has long been:
// it is dealt with, and not late for the time in which the other was waited for.
func TestJoinsBesideHeld(t *testing.T) {
	s := newSim(t, isolateAll(), "a")
	s.sightings["a"] = protected("a")
	s.run()
	s.pass(3 * time.Hour)
	s.event("event-2", "b")
	s.script = failing(VerbApply, "isolate", Result{State: v1alpha1.TargetApplied, After: 30 * time.Second})
	s.run()
	s.script = nil
	s.pass(time.Minute)
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval")
	if got := s.step("isolate").Targets[1].State; got != v1alpha1.TargetSucceeded {
		t.Errorf("the new target is %s\n%s", got, s)
	}
}

func TestMaxTargets(t *testing.T) {
	for _, test := range []struct {
		severity v1alpha1.Severity
		isolated int
	}{
		{v1alpha1.SeverityHigh, 3}, {v1alpha1.SeverityCritical, 5}, // the reserve of Critical is half as much again
	} {
		t.Run(string(test.severity), func(t *testing.T) {
			playbook := isolateAll()
			playbook.Limits.MaxTargets = 3
			var pods []string
			for i := range 8 {
				pods = append(pods, fmt.Sprintf("pod-%d", i))
			}
			s := newSim(t, playbook, pods...)
			s.stored.Spec.Severity = test.severity
			s.run()
			if got := len(s.effects); got != test.isolated {
				t.Errorf("%d pods are isolated, want %d", got, test.isolated)
			}
			if got := s.stored.Status.Awaiting[0].Message; !strings.Contains(got, "falco by rule runtime/shell has named") || !strings.Contains(got, "`limits.maxTargets` of playbook contain allows") {
				t.Errorf("message is %q", got)
			}
			s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
			if got := len(s.effects); got != 8 {
				t.Errorf("%d pods are isolated after the approval, want 8", got)
			}
		})
	}
}

// TestLimitsCountBySender checks that one sender cannot use up what another needs.
func TestLimitsCountBySender(t *testing.T) {
	playbook := isolateAll()
	playbook.Limits.MaxTargets = 2
	s := newSim(t, playbook, "a")
	s.event("forged", "x", "y", "z")
	s.events[0].Spec.SubmittedBy = "mallory"
	s.event("real", "b")
	s.run()
	s.wantDone("Apply isolate a", "Apply isolate b", "Apply isolate x", "Apply isolate y")
	s.wantNotDone("Apply isolate z")
}

func TestMaxRunsPerHour(t *testing.T) {
	for _, test := range []struct {
		runs     int32
		severity v1alpha1.Severity
		held     bool
	}{
		{1, v1alpha1.SeverityHigh, false}, {2, v1alpha1.SeverityHigh, true}, {2, v1alpha1.SeverityCritical, false}, {3, v1alpha1.SeverityCritical, true},
	} {
		t.Run(fmt.Sprint(test.runs, test.severity), func(t *testing.T) {
			playbook := isolateAll()
			playbook.Limits.MaxRunsPerHour = 2
			s := newSim(t, playbook, "a")
			s.stored.Spec.Severity, s.recentRuns = test.severity, test.runs
			s.run()
			if held := s.step("isolate").State == v1alpha1.StepAwaitingApproval; held != test.held {
				t.Errorf("held: %v, want %v\n%s", held, test.held, s)
			}
			if test.held {
				s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
				s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
			}
		})
	}
}

// TestDefaultLimits checks the limits of a playbook that sets none.
func TestDefaultLimits(t *testing.T) {
	var pods []string
	for i := range 12 {
		pods = append(pods, fmt.Sprintf("pod-%d", i))
	}
	s := newSim(t, isolateAll(), pods...)
	s.recentRuns = 59
	s.run()
	if got := len(s.effects); got != 10 {
		t.Errorf("%d pods are isolated, want 10", got)
	}
	if got := s.logged("ResourceHeld"); got != 2 {
		t.Errorf("%d holds on the timeline, want 2", got)
	}
}
