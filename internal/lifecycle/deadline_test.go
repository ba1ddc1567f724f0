package lifecycle

import (
	"strings"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestPhaseOverdue says once that a phase takes too long, and stops nothing.
func TestPhaseOverdue(t *testing.T) {
	playbook := playbookOf(steps(isolateStep("isolate"), approveStep("ok"), deleteStep("delete")), steps(taskStep("look")), nil)
	playbook.Containment.Within = duration(10 * time.Minute)
	s := newSim(t, playbook, "a")
	s.run()
	s.pass(9 * time.Minute)
	s.wantCondition(v1alpha1.ConditionStalled, "False NotStalled")
	s.pass(2 * time.Minute)
	s.wantCondition(v1alpha1.ConditionStalled, "True Overdue")
	s.wantAwaited("Approval ok", "Failure")
	if want := "Containment should have been over by 2026-11-21T16:10:00Z: see what holds it up"; s.stored.Status.Awaiting[1].Message != want {
		t.Errorf("message is %q, want %q", s.stored.Status.Awaiting[1].Message, want)
	}
	s.pass(20 * time.Minute)
	if got := s.logged("PhaseOverdue"); got != 1 {
		t.Errorf("PhaseOverdue is on the timeline %d times", got)
	}
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseEradication, "delete=Succeeded")
	s.wantCondition(v1alpha1.ConditionStalled, "False NotStalled")
	s.wantAwaited("Task look")
	// What joins later begins no new clock.
	due := s.stored.Status.PhaseDeadlines[0].DueTime
	s.event("event-2", "b")
	s.run()
	if deadlines := s.stored.Status.PhaseDeadlines; len(deadlines) != 1 || !deadlines[0].DueTime.Equal(&due) {
		t.Errorf("deadlines are %+v", deadlines)
	}
}

func TestPhaseInTime(t *testing.T) {
	playbook := playbookOf(steps(isolateStep("isolate")), steps(waitStep("wait", time.Minute)), steps(taskStep("look")))
	for _, phase := range []*v1alpha1.PlaybookPhase{&playbook.Containment, &playbook.Eradication, &playbook.Recovery} {
		phase.Within = duration(2 * time.Minute)
	}
	s := newSim(t, playbook, "a")
	s.run()
	s.pass(2 * time.Minute)
	s.must(by(v1alpha1.DecisionCompleteTask, "look", "jane"))
	s.pass(time.Hour)
	s.want(v1alpha1.PhaseReview)
	if got := s.logged("PhaseOverdue"); got != 0 {
		t.Errorf("PhaseOverdue is on the timeline %d times", got)
	}
}

// TestNobodyAnswers says once, and louder, that nobody does.
func TestNobodyAnswers(t *testing.T) {
	for _, test := range []struct {
		name    string
		arrange func(*sim)
		within  time.Duration
		awaited string
	}{
		{"a failed step", func(s *sim) { s.script = failing(VerbPlan, "isolate", permanent("no")) }, time.Hour, "Failure isolate"},
		{"no playbook", func(s *sim) {
			s.problem = &PlaybookProblem{Reason: v1alpha1.ReasonPlaybookNotFound, Message: "create it"}
		}, time.Hour, "Playbook"},
		{"stopped", func(s *sim) { s.automation = Automation{Stopped: true, By: "kim", Why: "flood"} }, time.Hour, "Resume"},
		{"not confirmed", func(s *sim) { s.stored.Spec.Confirm = v1alpha1.ConfirmRequired }, time.Hour, "Confirmation"},
		{"a task that could not begin", func(s *sim) { s.playbook = playbookOf(steps(when(taskStep("look"), "error")), nil, nil) }, time.Hour, "Task look"},
		{"not closed", func(*sim) {}, 7 * 24 * time.Hour, "Close"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, isolateAll(), "a")
			s.lookEvery = time.Hour
			test.arrange(s)
			s.run()
			s.wantAwaited(test.awaited)
			if due := s.stored.Status.Awaiting[0].DueTime; due == nil || due.Sub(began) != test.within {
				t.Errorf("due %v, want %s after the start", due, test.within)
			}
			s.pass(test.within - time.Second)
			if got := s.logged("Overdue"); got != 0 {
				t.Fatalf("overdue %d times before it is", got)
			}
			s.pass(2 * test.within)
			if got := s.logged("Overdue"); got != 1 {
				t.Errorf("Overdue is on the timeline %d times\n%s", got, s)
			}
			if s.stored.Status.Awaiting[0].OverdueTime == nil {
				t.Error("it does not say that it is late")
			}
			for _, entry := range s.entries {
				if entry.Action == "Overdue" && !strings.HasPrefix(entry.Message, "nobody has answered within ") {
					t.Errorf("message is %q", entry.Message)
				}
			}
		})
	}
}

// TestRetriedIsRemembered counts nobody twice whose retry has left the timeline.
func TestRetriedIsRemembered(t *testing.T) {
	ok := approveStep("ok")
	ok.Approve.Count = 2
	s := newSim(t, playbookOf(steps(ok), nil, nil), "a")
	s.run()
	s.must(by(v1alpha1.DecisionReject, "ok", "kim"))
	s.must(by(v1alpha1.DecisionRetryStep, "ok", "jane"))
	s.stored.Status.Timeline = nil // sealed
	s.refused(by(v1alpha1.DecisionApprove, "ok", "jane"), v1alpha1.ReasonSamePerson)
	s.must(by(v1alpha1.DecisionApprove, "ok", "kim"))
	s.must(by(v1alpha1.DecisionApprove, "ok", "lee"))
	s.want(v1alpha1.PhaseReview, "ok=Succeeded")
}
