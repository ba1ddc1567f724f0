package lifecycle

import (
	"strings"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestCloseGates(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	for _, resolution := range []v1alpha1.Resolution{v1alpha1.ResolutionResolved, v1alpha1.ResolutionAcceptedRisk} {
		s.refused(closing(resolution), v1alpha1.ReasonGateOpen)
	}
	message := s.answerOf(len(s.decisions) - 1).Message
	for _, want := range []string{"step 'ok' of Eradication is AwaitingApproval", "step 'delete' of Eradication is Pending", "SkipStep"} {
		if !strings.Contains(message, want) {
			t.Errorf("the refusal does not say %q: %s", want, message)
		}
	}
	for _, step := range []string{"healthy", "release", "delete", "ok"} {
		s.must(by(v1alpha1.DecisionSkipStep, step, "jane"))
	}
	s.want(v1alpha1.PhaseReview)
	s.wantCondition(v1alpha1.ConditionRecovered, "False StepSkipped")
	s.must(closing(v1alpha1.ResolutionAcceptedRisk))
	s.want(v1alpha1.PhaseClosed)
	if got := s.entries[len(s.entries)-2]; got.Action != "ContainmentLeft" || got.Message != "left in place: isolate of Pod shop/a" {
		t.Errorf("what is left in place is not on the timeline: %+v", got)
	}
	s.refused(closing(v1alpha1.ResolutionResolved), v1alpha1.ReasonClosed)
	s.refused(by(v1alpha1.DecisionRetryStep, "delete", "jane"), v1alpha1.ReasonClosed)
	s.must(by(v1alpha1.DecisionNote, "", "jane"))
	s.want(v1alpha1.PhaseClosed)
}

func TestLessonGate(t *testing.T) {
	medium := &v1alpha1.ResponsePlan{}
	medium.Spec.Lessons.RequiredFrom = v1alpha1.SeverityMedium
	for _, test := range []struct {
		name     string
		severity v1alpha1.Severity
		plan     *v1alpha1.ResponsePlan
		required bool
	}{
		{"High by default", v1alpha1.SeverityHigh, nil, true},
		{"Medium by default", v1alpha1.SeverityMedium, nil, false},
		{"Medium by the plan", v1alpha1.SeverityMedium, medium, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(isolateStep("isolate")), nil, nil), "a")
			s.stored.Spec.Severity, s.plan = test.severity, test.plan
			s.run()
			s.lesson = false
			in := s.input(s.stored)
			s.submit(closing(v1alpha1.ResolutionResolved))
			in.Decisions = s.decisions
			out := Advance(in)
			if got := out.Status.Answers[0].Reason == v1alpha1.ReasonGateOpen; got != test.required {
				t.Errorf("closing waits for the lesson: %v, want %v (%s)", got, test.required, out.Status.Answers[0].Message)
			}
			if !out.DraftLesson {
				t.Error("the lesson is not drafted")
			}
			if out.Status.Phase == v1alpha1.PhaseClosed {
				t.Error("closed before the lesson was drafted")
			}
		})
	}
}

// TestFalsePositive closes as a false positive from every phase: everything is undone,
// nothing more is done.
func TestFalsePositive(t *testing.T) {
	running := failing(VerbApply, "isolate", Result{State: v1alpha1.TargetApplied, After: time.Minute})
	for _, test := range []struct {
		name   string
		before func(*sim)
		undone bool
	}{
		{"in assessment", func(s *sim) {
			s.problem = &PlaybookProblem{Reason: v1alpha1.ReasonPlaybookNotFound, Message: "there is no playbook"}
			s.run()
			s.want(v1alpha1.PhaseAssessment)
		}, false},
		{"while isolating", func(s *sim) {
			s.script = running
			s.run()
			s.want(v1alpha1.PhaseContainment, "isolate=Running")
		}, true},
		{"after a failed isolation", func(s *sim) {
			s.script = failing(VerbApply, "isolate", permanent("half done"))
			s.run()
			s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
		}, true},
		{"while an approval is awaited", func(s *sim) { s.run() }, true},
		{"while deleting", func(s *sim) {
			s.run()
			s.script = failing(VerbApply, "delete", Result{State: v1alpha1.TargetApplied, After: time.Minute})
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.want(v1alpha1.PhaseEradication, "delete=Running")
		}, true},
		{"while reverting", func(s *sim) {
			s.run()
			s.script = failing(VerbUndo, "isolate", failure("conflict"))
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.want(v1alpha1.PhaseRecovery, "release=Running")
			s.script = nil
		}, true},
		{"in recovery", func(s *sim) {
			s.script = unhealthy()
			s.run()
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.want(v1alpha1.PhaseRecovery, "healthy=Running")
		}, true},
		{"in review", func(s *sim) {
			s.run()
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.want(v1alpha1.PhaseReview)
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, demo(), "a")
			test.before(s)
			applied := s.count("Apply delete a") + s.count("Apply isolate a")
			lesson := s.lesson
			s.must(closing(v1alpha1.ResolutionFalsePositive))
			s.pass(time.Minute)
			s.want(v1alpha1.PhaseClosed)
			if s.effects["isolate a"] {
				t.Errorf("the isolation stands\n%s", s)
			}
			if got := s.count("Undo isolate a") > 0; got != test.undone {
				t.Errorf("undone: %v, want %v", got, test.undone)
			}
			if got := s.count("Apply delete a") + s.count("Apply isolate a"); got != applied {
				t.Error("something was done after it was closed as a false positive")
			}
			if s.lesson != lesson {
				t.Error("a false positive needs no lesson")
			}
			if got := s.stored.Status.Resolution; got != v1alpha1.ResolutionFalsePositive {
				t.Errorf("resolution is %s", got)
			}
		})
	}
}

// TestFalsePositiveOfTheWhole closes a long playbook: one entry says what was skipped.
func TestFalsePositiveOfTheWhole(t *testing.T) {
	var all []v1alpha1.PlaybookStep
	for _, letter := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		all = append(all, taskStep("task-"+letter))
	}
	s := newSim(t, playbookOf(all, nil, nil), "a")
	s.run()
	s.must(closing(v1alpha1.ResolutionFalsePositive))
	s.want(v1alpha1.PhaseClosed, "task-a=Skipped", "task-z=Skipped")
	if got := s.logged("StepsSkipped"); got != 1 {
		t.Errorf("%d entries say what was skipped, want one", got)
	}
}

func TestFalsePositiveThatCannotBeUndone(t *testing.T) {
	for _, test := range []struct {
		name     string
		result   Result
		after    time.Duration
		decision v1alpha1.DecisionType
		heal     bool
		left     int
	}{
		{"for good, and retried", permanent("no rights"), 0, v1alpha1.DecisionRetryStep, true, 0},
		{"for good, and left", permanent("no rights"), 0, v1alpha1.DecisionSkipStep, false, 1},
		{"for long, and left", failure("the API server is away"), 5 * time.Minute, v1alpha1.DecisionSkipStep, false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, demo(), "a")
			s.run()
			s.script = failing(VerbUndo, "isolate", test.result)
			s.must(closing(v1alpha1.ResolutionFalsePositive))
			s.pass(test.after)
			s.want(v1alpha1.PhaseEradication, "ok=Skipped", "delete=Skipped")
			s.wantAwaited("Failure isolate")
			s.wantCondition(v1alpha1.ConditionStalled, "True StepFailed")
			s.refused(by(v1alpha1.DecisionSkipStep, "preserve", "jane"), v1alpha1.ReasonNotAwaited)
			s.refused(by(v1alpha1.DecisionRetryStep, "delete", "jane"), v1alpha1.ReasonNotAwaited)
			s.pass(24 * time.Hour)
			s.wantAwaited("Failure isolate")
			if test.heal {
				s.script = nil
			}
			s.must(by(test.decision, "isolate", "jane"))
			s.want(v1alpha1.PhaseClosed)
			if got := s.logged("ContainmentLeft"); got != test.left || s.effects["isolate a"] != (test.left > 0) {
				t.Errorf("the timeline says %d times what is left in place, want %d; effects that stand: %v", got, test.left, s.effects)
			}
			s.wantNotDone("Apply delete a")
		})
	}
}

func TestFalsePositiveWhilePaused(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.must(by(v1alpha1.DecisionPause, "", "jane"))
	s.must(closing(v1alpha1.ResolutionFalsePositive))
	s.want(v1alpha1.PhaseEradication)
	s.wantAwaited("Resume")
	s.refused(by(v1alpha1.DecisionApprove, "ok", "jane"), v1alpha1.ReasonAlreadyDecided)
	s.refused(closing(v1alpha1.ResolutionResolved), v1alpha1.ReasonAlreadyDecided)
	s.must(by(v1alpha1.DecisionResume, "", "jane"))
	s.want(v1alpha1.PhaseClosed)
	if s.effects["isolate a"] {
		t.Error("the isolation stands")
	}
}

func TestByHand(t *testing.T) {
	s := newSim(t, nil, "a")
	s.run()
	s.want(v1alpha1.PhaseAssessment)
	s.wantAwaited("Playbook")
	s.wantCondition(v1alpha1.ConditionStalled, "True NoPlaybook")
	s.pass(time.Hour)
	s.must(closing(v1alpha1.ResolutionResolved))
	s.want(v1alpha1.PhaseClosed)
	s.wantCondition(v1alpha1.ConditionContained, "True ByPerson")
	s.wantCondition(v1alpha1.ConditionRecovered, "True ByPerson")
	if !s.lesson {
		t.Error("no lesson was drafted")
	}
	if got := s.stored.Status.Assignee; got != "jane" {
		t.Errorf("assignee is %q, want who has closed it", got)
	}
}

func TestPlaybookAppears(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.problem = &PlaybookProblem{Reason: v1alpha1.ReasonPlaybookNotFound, Message: "there is no ResponsePlaybook 'contain'"}
	s.run()
	s.want(v1alpha1.PhaseAssessment)
	s.wantAwaited("Playbook")
	s.wantCondition(v1alpha1.ConditionStalled, "True PlaybookNotFound")
	if len(s.done) > 0 || len(s.stored.Status.Steps) > 0 {
		t.Errorf("something was done: %v", s.done)
	}
	s.pass(time.Hour)
	s.problem = nil
	s.run()
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded", "ok=AwaitingApproval")
	s.wantCondition(v1alpha1.ConditionStalled, "False NotStalled")
}

// TestPlaybookIsPinned edits the playbook and even removes it: what runs stays.
func TestPlaybookIsPinned(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.playbook = playbookOf(steps(deleteStep("other")), nil, nil)
	s.run()
	s.want(v1alpha1.PhaseEradication, "ok=AwaitingApproval")
	if s.step("other") != nil {
		t.Error("the edited playbook runs")
	}
}

// TestPinnedTextGone loses the pinned text: nothing is done, a person can waive the steps
// and close, and as a false positive it ends with what stands on record.
func TestPinnedTextGone(t *testing.T) {
	lose := func(t *testing.T) *sim {
		s := newSim(t, demo(), "a")
		s.script = failing(VerbApply, "isolate", Result{State: v1alpha1.TargetApplied, After: time.Minute})
		s.run()
		s.pinned, s.playbook = nil, nil
		s.problem = &PlaybookProblem{Reason: v1alpha1.ReasonPlaybookNotFound, Message: "the pinned text is gone"}
		s.script = func(Work, *v1alpha1.IncidentStep, *v1alpha1.StepTarget) Result {
			return permanent("the pinned playbook has no such step")
		}
		s.run()
		s.wantAwaited("Playbook")
		s.pass(time.Hour)
		s.want(v1alpha1.PhaseContainment, "isolate=Running")
		return s
	}
	t.Run("waived", func(t *testing.T) {
		s := lose(t)
		s.refused(by(v1alpha1.DecisionCompleteTask, "ok", "jane"), v1alpha1.ReasonNotAwaited)
		for _, step := range []string{"preserve", "isolate", "ok", "delete", "release", "healthy"} {
			if step := s.step(step); !stepDone(step) {
				s.must(by(v1alpha1.DecisionSkipStep, step.Name, "jane"))
			}
		}
		s.run()
		s.must(closing(v1alpha1.ResolutionResolved))
		s.want(v1alpha1.PhaseClosed)
		if s.logged("ContainmentLeft") != 1 {
			t.Error("what stands is not on the timeline")
		}
	})
	t.Run("false positive", func(t *testing.T) {
		s := lose(t)
		s.must(closing(v1alpha1.ResolutionFalsePositive))
		s.wantAwaited("Failure isolate")
		s.must(by(v1alpha1.DecisionSkipStep, "isolate", "jane"))
		s.want(v1alpha1.PhaseClosed)
		if s.logged("ContainmentLeft") != 1 {
			t.Errorf("what stands is not on the timeline\n%s", s)
		}
	})
	t.Run("comes back", func(t *testing.T) {
		s := lose(t)
		s.pinned, s.problem, s.script = demo(), nil, nil
		s.pass(time.Minute)
		s.want(v1alpha1.PhaseEradication, "isolate=Succeeded")
	})
}

// TestNoLessonAfterClosing: a person has closed it, and the lesson that closing needs cannot
// be created. That is said, and stays said while it is tried again.
func TestNoLessonAfterClosing(t *testing.T) {
	s := newSim(t, nil, "a")
	s.run()
	incident := s.stored.DeepCopy()
	incident.Status.Resolution = v1alpha1.ResolutionResolved
	in := s.input(incident)
	in.LessonProblem = "the quota of lessons is used up"
	for _, again := range []bool{false, true} {
		out := Advance(in)
		if len(out.Status.Awaiting) != 1 || !strings.Contains(out.Status.Awaiting[0].Message, "the quota of lessons is used up") {
			t.Fatalf("again %t: awaiting is %+v, want it to say why there is no lesson", again, out.Status.Awaiting)
		}
		in.Incident.Status, in.LessonProblem = out.Status, ""
	}
	in.LessonDrafted = true
	if out := Advance(in); out.Status.Phase != v1alpha1.PhaseClosed {
		t.Errorf("phase is %s, want it closed", out.Status.Phase)
	}
}
