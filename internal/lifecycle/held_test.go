package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// thief takes an effect away each time somebody looks, as long as it is there.
type thief struct {
	there bool
	takes int
}

func (t *thief) script(work Work, step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
	if work.Verb != VerbObserve || target == nil || target.State != v1alpha1.TargetSucceeded || step.Action != "isolate" || !t.there {
		return Result{}
	}
	t.takes++
	return failure("the label was taken away by kustomize-controller")
}

func heldPlaybook() *v1alpha1.ResponsePlaybookSpec {
	return playbookOf(steps(isolateStep("isolate")), steps(taskStep("look")), nil)
}

func (s *sim) target(step string) *v1alpha1.StepTarget { return &s.step(step).Targets[0] }

// TestLost takes an effect away once: it is made again at once, and nothing else moves.
func TestLost(t *testing.T) {
	s := newSim(t, heldPlaybook(), "a")
	s.run()
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded", "look=AwaitingTask")
	contained, undo, writes := s.stored.Status.Times.ContainedTime, s.target("isolate").Undo, s.writes
	s.pass(10 * time.Minute)
	if got := s.count("Observe isolate a"); got < 40 || got > 41 {
		t.Errorf("looked at %d times in 10 minutes, want every 15 seconds", got)
	}
	if s.writes != writes {
		t.Errorf("%d writes although nothing has changed", s.writes-writes)
	}
	taken := &thief{there: true}
	s.script = func(work Work, step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
		if work.Verb == VerbApply && taken.there {
			return Result{State: v1alpha1.TargetApplied, After: 5 * time.Second}
		}
		return taken.script(work, step, target)
	}
	s.pass(15 * time.Second)
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded", "look=AwaitingTask")
	s.wantCondition(v1alpha1.ConditionContained, "False Drifted")
	taken.there = false
	s.pass(15 * time.Second)
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	s.wantCondition(v1alpha1.ConditionContainmentDrifted, "")
	if got := s.count("Apply isolate a"); got != 2 {
		t.Errorf("made %d times, want 2", got)
	}
	if target := s.target("isolate"); target.Losses != 1 || target.Undo != undo || target.LossTime == nil {
		t.Errorf("target is %+v", target)
	}
	if lost, restored, said := s.logged("ContainmentLost"), s.logged("ContainmentRestored"), s.logged("Contained"); lost != 1 || restored != 1 || said != 1 {
		t.Errorf("on the timeline: lost %d, restored %d, contained %d; want each once\n%s", lost, restored, said, s)
	}
	if !s.stored.Status.Times.ContainedTime.Equal(contained) {
		t.Error("containedTime moved")
	}
	s.wantAwaited("Task look")
}

// TestContested takes down what may go against an effect, once, before it is made.
func TestContested(t *testing.T) {
	s := newSim(t, heldPlaybook(), "a")
	s.script = func(work Work, _ *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
		if work.Verb != VerbPlan {
			return Result{}
		}
		return Result{State: v1alpha1.TargetActing, Undo: "{}", Message: "planned", Warning: "Flux may put it back"}
	}
	s.run()
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded", "look=AwaitingTask")
	at := slices.IndexFunc(s.entries, func(entry v1alpha1.TimelineEntry) bool { return entry.Action == "TargetContested" })
	if s.logged("TargetContested") != 1 || s.entries[at].Message != "isolate: Flux may put it back" || s.entries[at].Step != "isolate" {
		t.Errorf("want one entry about who may put it back\n%s", s)
	}
}

// TestDrift takes an effect away for ever: a person is called with the third loss, and
// it goes on being made again.
func TestDrift(t *testing.T) {
	s := newSim(t, heldPlaybook(), "a")
	s.boundsEvery = 50
	s.run()
	taken := &thief{there: true}
	s.script = taken.script
	s.pass(31 * time.Second)
	s.wantCondition(v1alpha1.ConditionContainmentDrifted, "")
	s.pass(15 * time.Second)
	s.wantCondition(v1alpha1.ConditionContainmentDrifted, "True Drifted")
	s.wantAwaited("Failure isolate", "Task look")
	message := s.stored.Status.Awaiting[0].Message
	for _, part := range []string{"isolate of Pod shop/a was taken away 3 times", "find what does it and stop it"} {
		if !strings.Contains(message, part) {
			t.Errorf("message is %q, want it to say %q", message, part)
		}
	}
	s.pass(24 * time.Hour)
	if taken.takes < 100 {
		t.Errorf("it was made again %d times in a day, want that it never gives up", taken.takes)
	}
	if taken.takes > 400 {
		t.Errorf("it was made again %d times in a day, want a back-off up to 5 minutes", taken.takes)
	}
	if got := s.logged("ContainmentDrifted"); got != 1 {
		t.Errorf("ContainmentDrifted is on the timeline %d times", got)
	}
	if got := s.logged("ContainmentLost"); got > 12 {
		t.Errorf("ContainmentLost is on the timeline %d times", got)
	}
	taken.there = false
	s.pass(10 * time.Minute)
	s.wantCondition(v1alpha1.ConditionContainmentDrifted, "True Drifted")
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	s.wantCondition(v1alpha1.ConditionContainmentDrifted, "False Holding")
	s.wantAwaited("Task look")
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded")
}

// TestDriftEnds ends holding in every way there is.
func TestDriftEnds(t *testing.T) {
	for _, test := range []struct {
		name     string
		decision v1alpha1.DecisionSpec
		reverted bool
	}{
		{"skipped", by(v1alpha1.DecisionSkipStep, "isolate", "jane"), false},
		{"false positive", closing(v1alpha1.ResolutionFalsePositive), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, heldPlaybook(), "a")
			s.run()
			s.script = (&thief{there: true}).script
			s.pass(time.Minute)
			s.wantCondition(v1alpha1.ConditionContainmentDrifted, "True Drifted")
			s.must(test.decision)
			looks := s.count("Observe isolate a")
			s.pass(time.Hour)
			if got := s.count("Observe isolate a"); got != looks {
				t.Errorf("looked at %d more times", got-looks)
			}
			s.wantCondition(v1alpha1.ConditionContainmentDrifted, "False Holding")
			if got := s.target("isolate").State == v1alpha1.TargetReverted; got != test.reverted {
				t.Errorf("target is %s", s.target("isolate").State)
			}
			if !test.reverted {
				s.wantCondition(v1alpha1.ConditionContained, "False StepSkipped")
			}
		})
	}
}

// TestHeldThroughReview looks until the incident is closed.
func TestHeldThroughReview(t *testing.T) {
	s := newSim(t, isolateAll(), "a")
	s.run()
	s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
	taken := &thief{there: true}
	s.script = taken.script
	s.pass(20 * time.Second)
	taken.there = false
	s.pass(time.Minute)
	if got := s.count("Apply isolate a"); got != 2 {
		t.Errorf("made %d times, want 2\n%s", got, s)
	}
	s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
	s.must(closing(v1alpha1.ResolutionResolved))
	s.want(v1alpha1.PhaseClosed)
	if !s.last.Next.IsZero() {
		t.Error("a closed incident asks to be looked at")
	}
}

// TestNotHeld lists what is not looked at.
func TestNotHeld(t *testing.T) {
	for _, test := range []struct {
		name    string
		arrange func(*sim)
	}{
		{"reverted", func(s *sim) { s.playbook.Recovery.Steps = steps(revertStep("release"), taskStep("wait")); s.run() }},
		{"paused", func(s *sim) { s.run(); s.must(by(v1alpha1.DecisionPause, "", "jane")) }},
		{"not undoable", func(s *sim) { s.playbook.Containment.Steps = steps(deleteStep("isolate")); s.run() }},
		{"not needed", func(s *sim) {
			s.script = failing(VerbPlan, "isolate", Result{State: v1alpha1.TargetSucceeded})
			s.run()
		}},
		{"deleted by a later step", func(s *sim) {
			s.playbook.Containment.Steps = steps(isolateStep("isolate"), deleteStep("delete"))
			s.run()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, heldPlaybook(), "a")
			s.playbook.Eradication.Steps = steps(taskStep("look"))
			test.arrange(s)
			if s.step("look").State == v1alpha1.StepAwaitingTask && test.name == "reverted" {
				s.must(by(v1alpha1.DecisionCompleteTask, "look", "jane"))
			}
			s.pass(3 * time.Minute)
			s.wantNotDone("Observe isolate a")
		})
	}
}

// TestLookInVain checks looks that do not say whether the effect stands.
func TestLookInVain(t *testing.T) {
	for _, test := range []struct {
		name      string
		result    Result
		condition string
		writes    bool
	}{
		{"no answer", Result{State: v1alpha1.TargetFailed, Unknown: true, Message: "no answer"}, "", false},
		{"still unsure", Result{State: v1alpha1.TargetApplied, Message: "the node has not said so"}, "", false},
		{"no right", Result{State: v1alpha1.TargetFailed, Unknown: true, Permanent: true, Message: "grant it 'get'"}, "Unknown NotWatched", true},
		{"gone", Result{State: v1alpha1.TargetGone, Message: "Pod a does not exist any more"}, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, heldPlaybook(), "a")
			s.run()
			s.script = failing(VerbObserve, "isolate", test.result)
			writes := s.writes
			s.pass(5 * time.Minute)
			s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
			s.wantCondition(v1alpha1.ConditionContainmentDrifted, test.condition)
			s.wantNotDone("Undo isolate a")
			if got := s.count("Apply isolate a"); got != 1 {
				t.Errorf("made %d times", got)
			}
			unwatched := test.condition != ""
			if asked := slices.Contains(s.awaited(), "Failure isolate"); asked != unwatched || (s.logged("ContainmentUnwatched") == 1) != unwatched {
				t.Errorf("a person is asked: %v, want %v; on the timeline %d times", asked, unwatched, s.logged("ContainmentUnwatched"))
			}
			if got := s.writes - writes; got > 1 || (got == 1) != test.writes {
				t.Errorf("%d writes", got)
			}
			s.script = nil
			s.pass(time.Minute)
			if test.condition != "" {
				s.wantCondition(v1alpha1.ConditionContainmentDrifted, "False Holding")
			}
		})
	}
}

// TestLostWhileObserved plans an effect anew that was taken away before it was seen to stand,
// as often as the step tries.
func TestLostWhileObserved(t *testing.T) {
	for _, test := range []struct {
		losses int
		phase  v1alpha1.Phase
		want   string
		plans  int
	}{{1, v1alpha1.PhaseEradication, "isolate=Succeeded", 2}, {2, v1alpha1.PhaseEradication, "isolate=Succeeded", 3}, {9, v1alpha1.PhaseContainment, "isolate=AwaitingTask", 3}} {
		t.Run(fmt.Sprint(test.losses), func(t *testing.T) {
			s := newSim(t, heldPlaybook(), "a")
			lost := 0
			s.script = func(work Work, _ *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
				switch {
				case work.Verb == VerbApply:
					return Result{State: v1alpha1.TargetApplied, After: time.Second}
				case work.Verb == VerbObserve && target.State == v1alpha1.TargetApplied && lost < test.losses:
					lost++
					return Result{State: v1alpha1.TargetPending, Message: "it was taken away"}
				}
				return Result{}
			}
			s.run()
			s.pass(time.Minute)
			s.want(test.phase, test.want)
			if got := s.count("Plan isolate a"); got != test.plans {
				t.Errorf("planned %d times, want %d\n%s", got, test.plans, s)
			}
			if s.target("isolate").Undo == "" {
				t.Error("the undo record is lost")
			}
		})
	}
}

// TestNotRestored takes an effect away that cannot be made again: a person is called.
func TestNotRestored(t *testing.T) {
	for _, verb := range []Verb{VerbPlan, VerbApply} {
		t.Run(string(verb), func(t *testing.T) {
			s := newSim(t, heldPlaybook(), "a")
			s.run()
			taken := &thief{there: true}
			s.script = func(work Work, step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
				if work.Verb == verb {
					return permanent("grant it 'patch'")
				}
				return taken.script(work, step, target)
			}
			s.pass(time.Minute)
			s.wantCondition(v1alpha1.ConditionContained, "False Drifted")
			s.wantCondition(v1alpha1.ConditionContainmentDrifted, "True Drifted")
			want := "isolate of Pod shop/a was taken away and cannot be made again: grant it 'patch' (retry the step when that is done; skip it to hold it no longer)"
			if diff := cmp.Diff(want, s.stored.Status.Awaiting[0].Message); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			s.script = nil
			s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
			s.pass(time.Second)
			s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
			s.wantCondition(v1alpha1.ConditionContainmentDrifted, "False Holding")
			if s.target("isolate").Undo == "" {
				t.Error("the undo record was lost")
			}
		})
	}
}

// TestLostWhileReverting undoes what is being made again.
func TestLostWhileReverting(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), steps(taskStep("look")), steps(revertStep("release"))), "a")
	s.run()
	taken := &thief{there: true}
	s.script = func(work Work, step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
		if work.Verb == VerbApply {
			return Result{State: v1alpha1.TargetApplied, After: time.Hour}
		}
		return taken.script(work, step, target)
	}
	s.pass(20 * time.Second)
	s.wantCondition(v1alpha1.ConditionContained, "False Drifted")
	s.must(by(v1alpha1.DecisionCompleteTask, "look", "jane"))
	s.want(v1alpha1.PhaseReview, "isolate=Reverted", "release=Succeeded")
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	if slices.ContainsFunc(s.last.Plans, func(work Work) bool { return work.Verb == VerbObserve }) || s.effects["isolate a"] {
		t.Error("it is still held")
	}
}

// TestManyLost takes a hundred effects away at once, three times: what is taken down of it
// stays within what the timeline holds, and each is made again.
func TestManyLost(t *testing.T) {
	playbook := heldPlaybook()
	playbook.Limits.MaxTargets = 100
	s := newSim(t, playbook)
	s.boundsEvery = 10
	for i := range 10 {
		names := make([]string, 10)
		for j := range names {
			names[j] = fmt.Sprintf("pod-%d-%d", i, j)
		}
		s.event(fmt.Sprintf("event-%d", i), names...)
	}
	s.run()
	if got := len(s.step("isolate").Targets); got != 100 {
		t.Fatalf("%d targets, want 100\n%s", got, s)
	}
	taken := &thief{there: true}
	s.script = taken.script
	s.pass(46 * time.Second)
	s.wantCondition(v1alpha1.ConditionContainmentDrifted, "True Drifted")
	taken.there = false
	s.pass(time.Minute)
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	for i := range s.step("isolate").Targets {
		if target := s.step("isolate").Targets[i]; target.State != v1alpha1.TargetSucceeded || target.Losses < driftLosses {
			t.Fatalf("%s is %s after %d losses, want it made again each time", target.Name, target.State, target.Losses)
		}
	}
	for _, action := range []string{"ContainmentLost", "ContainmentDrifted", "ContainmentRestored"} {
		if s.logged(action) == 0 {
			t.Errorf("the timeline does not say %s", action)
		}
	}
}

// TestDriftedStepThatWaits retries a step that drifts while it waits for an approval of
// another target.
func TestDriftedStepThatWaits(t *testing.T) {
	s := newSim(t, heldPlaybook(), "a", "b")
	s.sightings["b"] = protected("b")
	s.run()
	taken := &thief{there: true}
	s.script = taken.script
	s.pass(46 * time.Second)
	s.wantCondition(v1alpha1.ConditionContainmentDrifted, "True Drifted")
	taken.there = false
	s.pass(time.Minute)
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	s.wantCondition(v1alpha1.ConditionContainmentDrifted, "False Holding")
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval")
}

// TestLostBeforeContained takes an effect away before the phase is over for the first time.
func TestLostBeforeContained(t *testing.T) {
	s := newSim(t, playbookOf(steps(parallel(isolateStep("isolate"), "g"), parallel(taskStep("look"), "g")), steps(taskStep("later")), nil), "a")
	s.run()
	s.script = func(work Work, step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
		if step.Action == "isolate" && work.Verb == VerbObserve && target.State == v1alpha1.TargetSucceeded && target.Losses == 0 {
			return failure("somebody took it away")
		}
		if step.Action == "isolate" && work.Verb == VerbPlan && target.Losses == 1 {
			return failure("no answer")
		}
		return Result{}
	}
	s.pass(16 * time.Second)
	s.must(by(v1alpha1.DecisionCompleteTask, "look", "jane"))
	s.wantCondition(v1alpha1.ConditionContained, "False Drifted")
	s.script = nil
	s.pass(time.Minute)
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	if s.stored.Status.Times.ContainedTime == nil || s.logged("Contained") != 1 {
		t.Errorf("containedTime is %v, and the timeline says Contained %d times; want it said once\n%s", s.stored.Status.Times.ContainedTime, s.logged("Contained"), s)
	}
}

// TestUnwatched: what a person does about an effect that nobody can look at.
func TestUnwatched(t *testing.T) {
	unwatched := func() *sim {
		s := newSim(t, heldPlaybook(), "a")
		s.run()
		s.script = failing(VerbObserve, "isolate", permanent("the undo record is lost"))
		s.pass(time.Minute)
		s.wantCondition(v1alpha1.ConditionContainmentDrifted, "Unknown NotWatched")
		return s
	}
	s := unwatched()
	looks := s.count("Observe isolate a")
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	if s.count("Observe isolate a") != looks+1 || !slices.Contains(s.awaited(), "Failure isolate") {
		t.Errorf("looked at %d times more, awaited %v", s.count("Observe isolate a")-looks, s.awaited())
	}
	s.script = nil
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	s.wantCondition(v1alpha1.ConditionContainmentDrifted, "False Holding")
	if slices.Contains(s.awaited(), "Failure isolate") {
		t.Errorf("awaited %v", s.awaited())
	}

	s = unwatched()
	s.must(by(v1alpha1.DecisionSkipStep, "isolate", "jane"))
	if slices.Contains(s.awaited(), "Failure isolate") {
		t.Errorf("awaited %v after the step was skipped", s.awaited())
	}
	looks = s.count("Observe isolate a")
	s.pass(time.Hour)
	if s.count("Observe isolate a") != looks {
		t.Error("it is looked at although a person holds it no longer")
	}
}
