package lifecycle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const originalName = "inc-20261121-aaaaa"

func markDuplicate(person, original string) v1alpha1.DecisionSpec {
	return v1alpha1.DecisionSpec{Type: v1alpha1.DecisionMarkDuplicate, By: person, Reason: "the same attack", IncidentRef: v1alpha1.IncidentReference{Name: original}}
}

// another is an incident that was opened at another time than the simulated one.
func (s *sim) another(name string, after time.Duration, phase v1alpha1.Phase) *v1alpha1.Incident {
	incident := &v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Namespace: "security", Name: name, CreationTimestamp: metav1.NewTime(began.Add(after))}}
	incident.Status.Phase = phase
	if s.originals == nil {
		s.originals = map[string]*v1alpha1.Incident{}
	}
	s.originals[name] = incident
	return incident
}

func says(incident *v1alpha1.Incident, kind string, status metav1.ConditionStatus, reason string) {
	incident.Status.Conditions = slices.DeleteFunc(incident.Status.Conditions, func(condition metav1.Condition) bool { return condition.Type == kind })
	incident.Status.Conditions = append(incident.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason})
}

// takesUp has an incident go on with the simulated one.
func (s *sim) takesUp(original *v1alpha1.Incident) {
	original.Status.Duplicates = append(original.Status.Duplicates, v1alpha1.IncidentDuplicate{Name: s.stored.Name})
}

func recovering(original *v1alpha1.Incident) {
	original.Status.Phase = v1alpha1.PhaseRecovery
	says(original, v1alpha1.ConditionContained, metav1.ConditionTrue, v1alpha1.ReasonStepsDone)
	says(original, v1alpha1.ConditionEradicated, metav1.ConditionFalse, v1alpha1.ReasonNoSteps)
}

// duplicates says that an incident is a duplicate of another, and whether it was taken up.
func duplicates(incident *v1alpha1.Incident, original string, takenUp bool) {
	of := &incident.Status.DuplicateOf
	of.Name, of.By, of.DecisionRef.Name = original, "kim", "mark"
	if takenUp {
		of.TakenUpTime = &metav1.Time{Time: began}
	}
}

// TestMarkDuplicate: what was done stands, and is held, until the original has come to its
// recovery; nothing new is done; then all is undone, and it closes without a lesson.
func TestMarkDuplicate(t *testing.T) {
	s := newSim(t, demo(), "a")
	original := s.another(originalName, -time.Hour, v1alpha1.PhaseContainment)
	s.run()
	s.wantDone("Apply isolate a")
	s.wantAwaited("Approval ok")
	s.must(markDuplicate("jane", originalName))
	s.wantAwaited()
	s.refused(by(v1alpha1.DecisionApprove, "ok", "jane"), v1alpha1.ReasonDuplicate)
	s.refused(addResource("jane", "b"), v1alpha1.ReasonDuplicate)
	s.refused(closing(v1alpha1.ResolutionResolved), v1alpha1.ReasonDuplicate)
	s.refused(markDuplicate("jane", originalName), v1alpha1.ReasonDuplicate)
	if s.stored.Status.DuplicateOf.TakenUpTime != nil {
		t.Error("it must not say that it was taken up before the original does")
	}
	s.takesUp(original)
	s.pass(time.Hour)
	s.event("late", "b")
	s.pass(time.Hour)
	s.want(v1alpha1.PhaseEradication, "ok=AwaitingApproval", "delete=Pending")
	s.wantNotDone("Undo isolate a", "Apply isolate b", "Plan delete a")
	if !s.effects["isolate a"] || s.stored.Status.DuplicateOf.TakenUpTime == nil {
		t.Errorf("the isolation must stand, and the mark be taken up\n%s", s)
	}
	// While it waits, what it holds is made again when something takes it away.
	s.script = func(work Work, _ *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
		if work.Verb == VerbObserve {
			return failure("the policy is gone")
		}
		return Result{}
	}
	s.pass(time.Minute)
	s.script = nil
	if s.logged("ContainmentRestored") == 0 {
		t.Errorf("what was lost must be made again\n%s", s)
	}
	recovering(original)
	s.pass(10 * time.Minute)
	s.want(v1alpha1.PhaseClosed, "isolate=Reverted", "ok=Skipped", "delete=Skipped")
	s.wantDone("Undo isolate a")
	if s.stored.Status.Resolution != v1alpha1.ResolutionDuplicate || s.lesson || s.logged("LessonDrafted") > 0 {
		t.Errorf("closed as %s, lesson %t, want Duplicate without a lesson", s.stored.Status.Resolution, s.lesson)
	}
	s.wantCondition(v1alpha1.ConditionClosed, "True Duplicate")
	if measures := Measure([]v1alpha1.Incident{*s.stored}); measures != (v1alpha1.LessonMeasures{}) {
		t.Errorf("got the measures %+v of a duplicate, want none", measures)
	}
}

// TestDuplicateHoldsOn: what the duplicate holds is not let go while the original may need it.
func TestDuplicateHoldsOn(t *testing.T) {
	for name, test := range map[string]struct {
		state func(*v1alpha1.Incident)
		lets  bool
	}{
		"only contained": {func(i *v1alpha1.Incident) { recovering(i); i.Status.Phase = v1alpha1.PhaseEradication }, false},
		"in recovery":    {recovering, true},
		"in review":      {func(i *v1alpha1.Incident) { recovering(i); i.Status.Phase = v1alpha1.PhaseReview }, true},
		"an object has joined it": {func(i *v1alpha1.Incident) {
			recovering(i)
			says(i, v1alpha1.ConditionContained, metav1.ConditionFalse, v1alpha1.ReasonNewTarget)
		}, false},
		"it is not eradicated for what has joined": {func(i *v1alpha1.Incident) {
			recovering(i)
			says(i, v1alpha1.ConditionEradicated, metav1.ConditionFalse, v1alpha1.ReasonNewTarget)
		}, false},
		"nobody has looked at what has joined": {func(i *v1alpha1.Incident) {
			recovering(i)
			i.Status.Resources = []v1alpha1.IncidentResource{{ResourceReference: podReference("a")}}
		}, false},
		"it was only tried": {func(i *v1alpha1.Incident) {
			recovering(i)
			says(i, v1alpha1.ConditionContained, metav1.ConditionFalse, v1alpha1.ReasonDryRun)
		}, false},
		"its step was skipped, in review": {func(i *v1alpha1.Incident) {
			recovering(i)
			i.Status.Phase = v1alpha1.PhaseReview
			says(i, v1alpha1.ConditionContained, metav1.ConditionFalse, v1alpha1.ReasonStepSkipped)
		}, false},
		"nobody has looked at it": {func(i *v1alpha1.Incident) { i.Status = v1alpha1.IncidentStatus{Duplicates: i.Status.Duplicates} }, false},
		"a false positive": {func(i *v1alpha1.Incident) {
			i.Status.Resolution = v1alpha1.ResolutionFalsePositive
		}, true},
		"closed": {func(i *v1alpha1.Incident) {
			i.Status.Phase, i.Status.Resolution = v1alpha1.PhaseClosed, v1alpha1.ResolutionAcceptedRisk
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, isolateAll(), "a")
			original := s.another(originalName, 0, v1alpha1.PhaseContainment)
			s.sightings["a"] = protected("a")
			s.run()
			s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
			s.must(markDuplicate("jane", originalName))
			s.takesUp(original)
			s.pass(originalLook)
			test.state(original)
			s.pass(originalLook)
			if s.effects["isolate a"] == test.lets {
				t.Errorf("let go: %t, want %t\n%s", !s.effects["isolate a"], test.lets, s)
			}
		})
	}
}

// TestDuplicateEndsWhatItHadBegun: an isolation under way is ended, so that it holds.
func TestDuplicateEndsWhatItHadBegun(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate"), cordonStep("cordon")), nil, nil), "a", "b")
	original := s.another(originalName, 0, v1alpha1.PhaseContainment)
	s.script = func(work Work, _ *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
		switch {
		case target != nil && target.Name == "b" && work.Verb == VerbPlan:
			return Result{State: v1alpha1.TargetFailed, Message: "not yet", After: time.Minute}
		case work.Verb == VerbApply, work.Verb == VerbObserve:
			return Result{State: v1alpha1.TargetApplied, Message: "labelled"}
		}
		return Result{}
	}
	s.run()
	s.must(markDuplicate("jane", originalName))
	s.takesUp(original)
	s.script = nil
	s.pass(10 * time.Minute)
	s.wantSame("targets", []string{"a Succeeded", "b Pending"}, s.targetsOf("isolate"))
	s.wantNotDone("Apply isolate b", "Apply cordon node-a")
	recovering(original)
	s.pass(originalLook)
	s.want(v1alpha1.PhaseClosed)
	if len(s.effects) > 0 {
		t.Errorf("left: %v", s.effects)
	}
}

func TestMarkDuplicateIsRefused(t *testing.T) {
	s := newSim(t, isolateAll(), "a")
	s.event("event-1", "a")
	s.run()
	s.another("open", 0, v1alpha1.PhaseContainment)
	duplicates(s.another("marked", 0, v1alpha1.PhaseContainment), "open", false)
	duplicates(s.another("twice", 0, v1alpha1.PhaseClosed), "marked", true)
	duplicates(s.another("mine", 0, v1alpha1.PhaseContainment), s.stored.Name, true)
	s.another("late", 0, v1alpha1.PhaseReview)
	s.another("closed", 0, v1alpha1.PhaseClosed)
	s.another("resolved", 0, v1alpha1.PhaseContainment).Status.Resolution = v1alpha1.ResolutionFalsePositive
	s.another("purged", 0, v1alpha1.PhaseContainment).DeletionTimestamp = &metav1.Time{Time: began}
	full := s.another("full", 0, v1alpha1.PhaseContainment)
	for i := range maxDuplicates {
		full.Status.Duplicates = append(full.Status.Duplicates, v1alpha1.IncidentDuplicate{Name: fmt.Sprint(i)})
	}
	for name, want := range map[string]struct{ reason, message string }{
		s.stored.Name: {v1alpha1.ReasonInvalid, "none is a duplicate of itself"},
		"nope":        {v1alpha1.ReasonNoSuchIncident, "there is no Incident 'nope'"},
		"marked":      {v1alpha1.ReasonDuplicate, "mark this one as a duplicate of 'open'"},
		"twice":       {v1alpha1.ReasonDuplicate, "mark this one as a duplicate of 'open'"},
		"mine":        {v1alpha1.ReasonDuplicate, "is a duplicate of this one"},
		"late":        {v1alpha1.ReasonClosed, "it must be before its review, but is in Review"},
		"closed":      {v1alpha1.ReasonClosed, "takes up nothing more"},
		"resolved":    {v1alpha1.ReasonClosed, "takes up nothing more"},
		"purged":      {v1alpha1.ReasonClosed, "is being deleted"},
		"full":        {v1alpha1.ReasonNotAllowed, "32 duplicates already"},
	} {
		answer := s.decide(markDuplicate("jane", name))
		if answer.Status != metav1.ConditionFalse || answer.Reason != want.reason || !strings.Contains(answer.Message, want.message) {
			t.Errorf("%s: got %s %s: %s, want %s: %s", name, answer.Status, answer.Reason, answer.Message, want.reason, want.message)
		}
	}
	if s.stored.Status.DuplicateOf.Name != "" {
		t.Errorf("it is marked: %+v", s.stored.Status.DuplicateOf)
	}
	s.refused(closing(v1alpha1.ResolutionDuplicate), v1alpha1.ReasonInvalid)
	s.must(closing(v1alpha1.ResolutionFalsePositive))
	s.refused(markDuplicate("jane", "open"), v1alpha1.ReasonClosed)
}

// TestDuplicateGoesOnByItself: the mark is taken away when the original cannot take it up.
func TestDuplicateGoesOnByItself(t *testing.T) {
	for name, happens := range map[string]func(*sim, *v1alpha1.Incident){
		"the original came to its review": func(_ *sim, original *v1alpha1.Incident) { original.Status.Phase = v1alpha1.PhaseReview },
		"the original was closed":         func(_ *sim, original *v1alpha1.Incident) { original.Status.Resolution = v1alpha1.ResolutionResolved },
		"the original was purged":         func(s *sim, _ *v1alpha1.Incident) { clear(s.originals) },
		"it was purged after it took it up": func(s *sim, original *v1alpha1.Incident) {
			s.takesUp(original)
			s.pass(originalLook)
			clear(s.originals)
		},
		"the original has too many": func(_ *sim, original *v1alpha1.Incident) {
			original.Status.Duplicates = make([]v1alpha1.IncidentDuplicate, maxDuplicates)
		},
		"the other way round, too": func(s *sim, original *v1alpha1.Incident) { duplicates(original, s.stored.Name, false) },
		"in a circle of three": func(s *sim, original *v1alpha1.Incident) {
			duplicates(original, "third", false)
			duplicates(s.another("third", 2*time.Hour, v1alpha1.PhaseContainment), s.stored.Name, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, demo(), "a")
			original := s.another(originalName, time.Hour, v1alpha1.PhaseContainment)
			s.run()
			s.must(markDuplicate("jane", originalName))
			happens(s, original)
			s.pass(originalLook)
			if s.logged("DuplicateWithdrawn") != 1 || s.stored.Status.DuplicateOf.Name != "" {
				t.Errorf("the mark stays: %+v\n%s", s.stored.Status.DuplicateOf, s)
			}
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.pass(time.Hour)
			s.want(v1alpha1.PhaseReview, "isolate=Reverted", "delete=Succeeded")
		})
	}
}

// TestDuplicatesOfEachOther: of incidents marked as duplicates in a circle the oldest goes
// on, and the others wait for it.
func TestDuplicatesOfEachOther(t *testing.T) {
	s := newSim(t, demo(), "a")
	original := s.another(originalName, -time.Hour, v1alpha1.PhaseContainment)
	s.run()
	s.must(markDuplicate("jane", originalName))
	duplicates(original, s.stored.Name, false)
	s.pass(time.Hour)
	if s.stored.Status.DuplicateOf.Name != originalName || s.logged("DuplicateWithdrawn") > 0 {
		t.Errorf("the younger must stay a duplicate\n%s", s)
	}
	original.Status.DuplicateOf = v1alpha1.IncidentOriginal{}
	s.takesUp(original)
	s.pass(originalLook)
	if s.stored.Status.DuplicateOf.TakenUpTime == nil {
		t.Errorf("it must be taken up\n%s", s)
	}
}

// TestChainOfDuplicates: an original that became a duplicate itself hands on to its own.
func TestChainOfDuplicates(t *testing.T) {
	for name, before := range map[string]bool{"before it took this one up": false, "afterwards": true} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, isolateAll(), "a")
			original, last := s.another(originalName, 0, v1alpha1.PhaseContainment), s.another("last", 0, v1alpha1.PhaseContainment)
			s.sightings["a"] = protected("a")
			s.run()
			s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
			s.must(markDuplicate("jane", originalName))
			if before {
				s.takesUp(original)
				s.pass(originalLook)
			}
			duplicates(original, "last", false)
			s.pass(originalLook)
			duplicates(original, "last", true)
			original.Status.Phase, original.Status.Resolution = v1alpha1.PhaseClosed, v1alpha1.ResolutionDuplicate
			s.pass(originalLook)
			if before != (s.stored.Status.DuplicateOf.Name == originalName) {
				t.Errorf("it is a duplicate of %s\n%s", s.stored.Status.DuplicateOf.Name, s)
			}
			s.takesUp(last)
			s.pass(originalLook)
			if !s.effects["isolate a"] {
				t.Errorf("it must hold on until the last has come to recovery\n%s", s)
			}
			recovering(last)
			s.pass(originalLook)
			s.want(v1alpha1.PhaseClosed)
		})
	}
}

// TestTakeUpDuplicates: the original deals with all objects of its duplicates.
func TestTakeUpDuplicates(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	digest := s.step("ok").Digest
	duplicate := *s.another("inc-dup", time.Minute, v1alpha1.PhaseContainment)
	duplicates(&duplicate, s.stored.Name, false)
	for _, pod := range []string{"a", "b", "gone", "detached"} {
		resource := v1alpha1.IncidentResource{ResourceReference: podReference(pod), State: v1alpha1.ResourcePresent, SubmittedBy: "falco", EventRef: v1alpha1.EventReference{Name: "event-" + pod}}
		switch pod {
		case "gone":
			resource.GoneTime = &metav1.Time{Time: began}
		case "detached":
			resource.State = v1alpha1.ResourceDetached
		}
		duplicate.Status.Resources = append(duplicate.Status.Resources, resource)
	}
	s.duplicates = []v1alpha1.Incident{duplicate}
	s.run()
	s.run()
	s.wantSame("resources", []string{"a Present ", "b Present event-b"}, s.resources())
	s.wantDone("Apply isolate b")
	if taken := s.stored.Status.Duplicates; len(taken) != 1 || taken[0].Name != "inc-dup" || taken[0].By != "kim" || s.logged("DuplicateTakenUp") != 1 {
		t.Errorf("got the duplicates %+v\n%s", taken, s)
	}
	if s.step("ok").Digest == digest {
		t.Error("the approval must be asked anew: it is about one object more")
	}
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.pass(time.Hour)
	s.want(v1alpha1.PhaseReview)
	another := duplicate.DeepCopy()
	another.Name = "too-late"
	s.duplicates = []v1alpha1.Incident{*another}
	s.run()
	if len(s.stored.Status.Duplicates) != 1 {
		t.Error("from its review on it takes up nothing more")
	}
}

// TestMarkedTakesUpNothing: an incident that is to become a duplicate goes on with none.
func TestMarkedTakesUpNothing(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.another(originalName, -time.Hour, v1alpha1.PhaseContainment)
	s.run()
	s.submit(markDuplicate("jane", originalName))
	duplicate := *s.another("inc-dup", time.Minute, v1alpha1.PhaseContainment)
	duplicates(&duplicate, s.stored.Name, false)
	s.duplicates = []v1alpha1.Incident{duplicate}
	s.run()
	if len(s.stored.Status.Duplicates) != 0 {
		t.Errorf("got the duplicates %+v, want none", s.stored.Status.Duplicates)
	}
}

// moveOriginals has other incidents move on at random, as far as they can.
func (s *sim) moveOriginals(pick func(int) int) {
	if original := s.originals[s.stored.Status.DuplicateOf.Name]; original != nil && !hasDuplicate(&original.Status, s.stored.Name) && !TakesUpNothing(original) && pick(3) > 0 {
		s.takesUp(original)
		return
	}
	names := slices.Sorted(maps.Keys(s.originals))
	original := s.originals[names[pick(len(names))]]
	switch pick(5) {
	case 0:
		duplicates(original, s.stored.Name, false)
	case 1:
		recovering(original)
	case 2:
		original.Status.Phase, original.Status.Resolution = v1alpha1.PhaseClosed, v1alpha1.ResolutionResolved
	case 3:
		delete(s.originals, original.Name)
		s.another(original.Name, time.Duration(pick(9)-4)*time.Minute, v1alpha1.PhaseContainment)
	case 4:
		duplicate := s.another("dup", time.Minute, v1alpha1.PhaseContainment)
		duplicates(duplicate, s.stored.Name, false)
		duplicate.Status.Resources = []v1alpha1.IncidentResource{{ResourceReference: podReference(fmt.Sprintf("pod-%d", pick(6)))}}
		s.duplicates = []v1alpha1.Incident{*duplicate}
		delete(s.originals, "dup")
	}
}

// checkHeld checks that a duplicate undoes nothing while its original may need it.
func (s *sim) checkHeld(out Output) {
	s.t.Helper()
	if out.Status.DuplicateOf.Name == "" || out.Status.Resolution != "" {
		return
	}
	for _, one := range slices.Concat(out.Work, out.Plans) {
		step := &out.Status.Steps[one.Step]
		if one.Verb == VerbUndo || one.Verb == VerbResolve || one.Verb == VerbVerify || !TraitOf(step.Action).Held {
			s.t.Fatalf("%s of step %s of a duplicate that waits for its original\n%s", one.Verb, step.Name, s)
		}
		if one.Verb == VerbPlan && !lost(&step.Targets[one.Target]) {
			s.t.Fatalf("a duplicate begins step %s for another object\n%s", step.Name, s)
		}
	}
	if len(out.Look) > 0 || out.DraftLesson {
		s.t.Fatalf("a duplicate looks at objects, or drafts a lesson: %+v\n%s", out, s)
	}
}
