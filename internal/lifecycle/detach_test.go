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

func detach(by, event string) v1alpha1.DecisionSpec {
	return v1alpha1.DecisionSpec{Type: v1alpha1.DecisionDetachEvent, By: by, Reason: "another matter", EventRef: v1alpha1.EventReference{Name: event}}
}

// follow lets events say what was decided about them on the incident.
func (s *sim) follow() {
	for i := range s.events {
		event := &s.events[i]
		if detached := Detachment(s.stored, event); detached != nil {
			event.Status.EarlierAssessments = append(event.Status.EarlierAssessments, event.Status.Assessment)
			event.Status.Assessment = v1alpha1.Assessment{Outcome: v1alpha1.OutcomeDeferred, Reason: v1alpha1.ReasonDetached, DecisionRef: detached.DecisionRef}
			event.Status.IncidentRef.Name = ""
		}
	}
}

// joinAgain has a person join a detached event to the incident.
func (s *sim) joinAgain(event *v1alpha1.SecurityEvent) {
	event.Status.EarlierAssessments = append(event.Status.EarlierAssessments, event.Status.Assessment)
	event.Status.Assessment = v1alpha1.Assessment{
		Outcome: v1alpha1.OutcomeJoined, Reason: v1alpha1.ReasonDecidedByPerson, By: "kim", DecisionRef: v1alpha1.DecisionReference{Name: "join"},
	}
	event.Status.IncidentRef.Name = s.stored.Name
}

func (s *sim) resources() []string {
	var all []string
	for _, resource := range s.stored.Status.Resources {
		all = append(all, fmt.Sprintf("%s %s %s", resource.Name, resource.State, resource.EventRef.Name))
	}
	return all
}

func (s *sim) targetsOf(step string) []string {
	var all []string
	for _, target := range s.step(step).Targets {
		all = append(all, target.Name+" "+string(target.State))
	}
	return all
}

func (s *sim) wantSame(what string, want, got []string) {
	s.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Fatalf("%s (-want +got):\n%s\n%s", what, diff, s)
	}
}

// TestDetachEvent: what was done to its pod stays until the playbook undoes it; what comes
// next is not done to it.
func TestDetachEvent(t *testing.T) {
	s := newSim(t, demo())
	s.event("event-1", "a")
	s.event("event-2", "b")
	s.run()
	digest := s.step("ok").Digest
	answer := s.decide(detach("jane", "event-2"))
	if want := "event event-2 does not belong to the incident; a person must decide about it; no further step acts on Pod shop/b; what was done stays: isolate of Pod shop/b"; answer.Message != want {
		t.Errorf("got the answer %q, want %q", answer.Message, want)
	}
	s.wantSame("resources", []string{"a Present event-1", "b Detached event-2"}, s.resources())
	if s.step("ok").Digest == digest || s.stored.Status.EventCount != 1 {
		t.Errorf("the approval must be asked anew, and one event counted; got %d", s.stored.Status.EventCount)
	}
	s.follow()
	s.run()
	if !s.effects["isolate b"] {
		t.Error("the isolation of b must stand")
	}
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.pass(time.Hour)
	s.want(v1alpha1.PhaseReview, "isolate=Reverted", "delete=Succeeded")
	s.wantDone("Apply delete a", "Undo isolate b")
	s.wantNotDone("Apply delete b", "Plan delete b")
}

func TestDetachEventBeforeAnythingIsDone(t *testing.T) {
	s := newSim(t, isolateAll())
	s.sightings["b"] = protected("b")
	s.event("event-1", "a")
	s.event("event-2", "b")
	s.run()
	s.wantAwaited("Approval isolate")
	s.must(detach("jane", "event-2"))
	s.wantSame("targets", []string{"a Succeeded"}, s.targetsOf("isolate"))
	s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	s.wantNotDone("Plan isolate b")
}

// TestDetachOneOfTwo: what another event has named too stays.
func TestDetachOneOfTwo(t *testing.T) {
	s := newSim(t, demo())
	s.event("event-1", "a")
	s.event("event-2", "b")
	s.event("event-3", "b")
	s.run()
	s.must(detach("jane", "event-2"))
	s.wantSame("resources", []string{"a Present event-1", "b Present event-3"}, s.resources())
	s.must(detach("jane", "event-3"))
	s.wantSame("resources", []string{"a Present event-1", "b Detached event-3"}, s.resources())
}

// TestDetachedObjectComesBack: by another event, or because a person joins the event again.
func TestDetachedObjectComesBack(t *testing.T) {
	for name, test := range map[string]struct {
		back      func(*sim)
		resources []string
	}{
		"another event": {func(s *sim) { s.event("event-3", "b") }, []string{"a Present event-1", "b Detached event-2", "b Present event-3"}},
		"by a person": {func(s *sim) {
			s.joinAgain(&s.events[1])
		}, []string{"a Present event-1", "b Present event-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(isolateStep("isolate"), cordonStep("cordon")), steps(approveStep("ok"), deleteStep("delete")), nil))
			s.event("event-1", "a")
			s.event("event-2", "b")
			s.script = failing(VerbPlan, "isolate", Result{State: v1alpha1.TargetFailed, Message: "not yet", After: time.Minute})
			s.run()
			s.must(detach("jane", "event-2"))
			s.script = nil
			s.follow()
			s.pass(time.Minute)
			s.want(v1alpha1.PhaseEradication, "isolate=Succeeded", "cordon=Succeeded")
			s.wantNotDone("Apply isolate b", "Apply cordon node-b")
			test.back(s)
			s.pass(time.Minute)
			s.wantSame("resources", test.resources, s.resources())
			s.wantDone("Apply isolate b", "Apply cordon node-b")
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.wantDone("Apply delete b")
		})
	}
}

// TestDetachWhileNodesAreHeld: what was looked up by way of its pod is looked up anew.
func TestDetachWhileNodesAreHeld(t *testing.T) {
	playbook := playbookOf(steps(cordonStep("cordon")), nil, nil)
	playbook.Limits.MaxTargets = 1
	s := newSim(t, playbook)
	s.event("event-1", "a")
	s.event("event-2", "b")
	s.events[1].Spec.SubmittedBy = "another"
	s.run()
	s.wantSame("targets", []string{"node-a Succeeded", "node-b Held"}, s.targetsOf("cordon"))
	s.must(detach("jane", "event-2"))
	s.wantSame("targets", []string{"node-a Succeeded"}, s.targetsOf("cordon"))
	s.want(v1alpha1.PhaseReview, "cordon=Succeeded")
}

func TestDetachIsRefused(t *testing.T) {
	s := newSim(t, demo())
	s.stored.Spec.EventRefs = []v1alpha1.EventReference{{Name: "event-1"}}
	s.event("event-1", "a")
	s.run()
	s.refused(detach("jane", "event-9"), v1alpha1.ReasonNoSuchEvent)
	s.refused(detach("jane", "event-1"), v1alpha1.ReasonNotAllowed)
	s.event("event-2", "b")
	s.must(detach("jane", "event-2"))
	s.refused(detach("jane", "event-2"), v1alpha1.ReasonAlreadyDecided)
	s.refused(detach("jane", "event-1"), v1alpha1.ReasonNotAllowed)
	for i := range maxDetached {
		name := fmt.Sprintf("more-%d", i)
		s.event(name)
		if i < maxDetached-1 {
			s.must(detach("jane", name))
		} else {
			s.refused(detach("jane", name), v1alpha1.ReasonNotAllowed)
		}
	}
	s.must(closing(v1alpha1.ResolutionFalsePositive))
	if !slices.ContainsFunc(s.entries, func(entry v1alpha1.TimelineEntry) bool {
		return entry.Actor == "jane" && entry.Action == "DetachEvent" && strings.Contains(entry.Message, "another matter")
	}) {
		t.Error("the timeline must say who has detached it, and why")
	}
}
