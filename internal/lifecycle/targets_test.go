package lifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func gone(state v1alpha1.ResourceState, message string) Sighting {
	return Sighting{State: state, Message: message}
}

func TestNoTargets(t *testing.T) {
	for _, test := range []struct {
		name      string
		sighting  Sighting
		policy    v1alpha1.NoTargetsPolicy
		phase     v1alpha1.Phase
		state     string
		contained string
		message   string
	}{
		{"gone", gone(v1alpha1.ResourceGone, "it is gone"), v1alpha1.OnNoTargetsFail, v1alpha1.PhaseContainment, "isolate=AwaitingTask", "False InProgress",
			"there is nothing to act on: no Pods among Pod shop/a: Gone (it is gone)"},
		{"replaced", gone(v1alpha1.ResourceReplaced, "it came back"), "", v1alpha1.PhaseContainment, "isolate=AwaitingTask", "False InProgress",
			"there is nothing to act on: no Pods among Pod shop/a: Replaced (it came back)"},
		{"unreadable", gone(v1alpha1.ResourceUnreadable, "grant it 'get'"), "", v1alpha1.PhaseContainment, "isolate=AwaitingTask", "False InProgress",
			"there is nothing to act on: no Pods among Pod shop/a: Unreadable (grant it 'get')"},
		{"gone, and skipped", gone(v1alpha1.ResourceGone, ""), v1alpha1.OnNoTargetsSkip, v1alpha1.PhaseReview, "isolate=Skipped", "False NoTargets",
			"there is nothing to act on: no Pods among Pod shop/a: Gone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(onNoTargets(isolateStep("isolate"), test.policy)), nil, nil), "a")
			s.sightings["a"] = test.sighting
			s.run()
			s.want(test.phase, test.state)
			s.wantCondition(v1alpha1.ConditionContained, test.contained)
			if got := s.step("isolate").Message; got != test.message {
				t.Errorf("message is %q, want %q", got, test.message)
			}
			if len(s.done) > 0 || s.stored.Status.Times.ContainedTime != nil {
				t.Errorf("done %v, containedTime %v", s.done, s.stored.Status.Times.ContainedTime)
			}
			if isGone := test.sighting.State != v1alpha1.ResourceUnreadable; isGone != (s.stored.Status.Resources[0].GoneTime != nil) {
				t.Errorf("goneTime of what is %s is %v", test.sighting.State, s.stored.Status.Resources[0].GoneTime)
			}
		})
	}
}

func TestGoneMeanwhile(t *testing.T) {
	for _, test := range []struct {
		policy    v1alpha1.NoTargetsPolicy
		pods      []string
		phase     v1alpha1.Phase
		state     string
		contained string
	}{
		{v1alpha1.OnNoTargetsFail, []string{"a"}, v1alpha1.PhaseContainment, "isolate=AwaitingTask", "False InProgress"},
		{v1alpha1.OnNoTargetsSkip, []string{"a"}, v1alpha1.PhaseReview, "isolate=Skipped", "False NoTargets"},
		{v1alpha1.OnNoTargetsFail, []string{"a", "b"}, v1alpha1.PhaseReview, "isolate=Succeeded", "True StepsDone"},
	} {
		t.Run(fmt.Sprint(test.policy, len(test.pods)), func(t *testing.T) {
			s := newSim(t, playbookOf(steps(onNoTargets(isolateStep("isolate"), test.policy)), nil, nil), test.pods...)
			s.script = func(work Work, _ *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
				if work.Verb == VerbPlan && target.Name == "a" {
					return Result{State: v1alpha1.TargetGone, Message: "it is gone"}
				}
				return Result{}
			}
			s.run()
			s.want(test.phase, test.state)
			s.wantCondition(v1alpha1.ConditionContained, test.contained)
			if s.stored.Status.Resources[0].GoneTime == nil {
				t.Error("goneTime is not set")
			}
		})
	}
}

func TestUnreadableIsLookedAtAgain(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), nil, nil), "a")
	s.sightings["a"] = gone(v1alpha1.ResourceUnreadable, "grant it 'get'")
	s.run()
	s.event("event-2", "a")
	s.run()
	if got := len(s.stored.Status.Resources); got != 1 {
		t.Errorf("%d resources: what cannot be read is still the same object", got)
	}
	delete(s.sightings, "a")
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
}

func TestSameName(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.event("event-1", "a")
	s.script = failing(VerbVerify, "healthy", Result{State: v1alpha1.TargetApplied})
	s.run()
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane")) // deletes a
	s.now = s.now.Add(time.Minute)
	s.events[0].Status.Occurrences = 9
	s.run()
	if got := len(s.stored.Status.Resources); got != 1 {
		t.Fatalf("%d resources: a repeat of an event means the object it named", got)
	}
	s.sightings["a"] = Sighting{State: v1alpha1.ResourcePresent, UID: "uid-a-2"}
	s.event("event-2", "a")
	s.run()
	if got := s.count("Apply isolate a"); got != 2 {
		t.Errorf("isolated %d times: the successor of the same name is another object\n%s", got, s)
	}
	s.want(v1alpha1.PhaseRecovery, "ok=AwaitingApproval")
	s.event("event-3", "a")
	s.now = s.now.Add(time.Minute)
	s.run()
	if got := len(s.stored.Status.Resources); got != 2 {
		t.Errorf("%d resources: the successor is known by now", got)
	}
}

func TestOneObjectNamedTwice(t *testing.T) {
	s := newSim(t, demo(), "a")
	withUID := podReference("a")
	withUID.UID = "uid-a"
	s.stored.Spec.Resources = append(s.stored.Spec.Resources, withUID)
	s.run()
	if got := s.count("Apply isolate a"); got != 1 {
		t.Errorf("isolated %d times\n%s", got, s)
	}
}

func TestWorkloads(t *testing.T) {
	step := collectStep("x")
	step.Target = v1alpha1.TargetWorkloads
	s := newSim(t, playbookOf(steps(step), nil, nil), "a", "b")
	s.run()
	if targets := s.step("x").Targets; len(targets) != 1 || targets[0].Kind != "Deployment" || targets[0].UID != "uid-cart" || targets[0].Namespace != "shop" {
		t.Errorf("targets are %+v, want the one Deployment of both pods", targets)
	}
}

func TestManyResources(t *testing.T) {
	playbook := demo()
	playbook.Limits.MaxTargets = 128
	s := newSim(t, playbook, "a")
	s.run()
	for event := range 5 {
		var pods []string
		for pod := range 32 {
			pods = append(pods, fmt.Sprintf("pod-%d-%d", event, pod))
		}
		s.event(fmt.Sprintf("event-%d", event), pods...)
	}
	s.run()
	if got := len(s.stored.Status.Resources); got != 128 {
		t.Errorf("%d resources are kept, want 128", got)
	}
	if got := s.stored.Status.OmittedResources; got != 33 {
		t.Errorf("%d resources are omitted, want 33", got)
	}
	if got := s.logged("ResourcesOmitted"); got != 1 {
		t.Errorf("ResourcesOmitted is on the timeline %d times, want once", got)
	}
	if got := s.logged("ResourceJoined"); got != 1 {
		t.Errorf("ResourceJoined is on the timeline %d times, want one for all", got)
	}
	s.wantCondition(v1alpha1.ConditionContained, "False StepSkipped")
	if message := findCondition(s.stored.Status.Conditions, v1alpha1.ConditionContained).Message; !strings.Contains(message, "33 objects beyond the 128") {
		t.Errorf("message of Contained is %q: it must say what was not acted on", message)
	}
}

// TestUnseen lets an object be unreadable for a while, as when the API server is away:
// nothing is taken for nothing, and after a while a person is asked.
func TestUnseen(t *testing.T) {
	t.Run("for a while", func(t *testing.T) {
		s := newSim(t, isolateAll(), "a")
		s.unseen = map[string]bool{"a": true}
		s.run()
		s.pass(time.Minute)
		s.want(v1alpha1.PhaseAssessment, "isolate=Pending")
		s.unseen = nil
		s.pass(5 * time.Second)
		s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
	})
	t.Run("for good", func(t *testing.T) {
		s := newSim(t, isolateAll(), "a")
		s.unseen = map[string]bool{"a": true}
		s.run()
		s.pass(3 * time.Minute)
		s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
		s.wantCondition(v1alpha1.ConditionContained, "False InProgress")
		s.unseen = nil
		s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
		s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
	})
	t.Run("one of two", func(t *testing.T) {
		s := newSim(t, isolateAll(), "a", "b")
		s.unseen = map[string]bool{"b": true}
		s.run()
		s.wantDone("Apply isolate a")
		s.wantCondition(v1alpha1.ConditionContained, "False InProgress")
		s.unseen = nil
		s.pass(10 * time.Second)
		s.wantDone("Apply isolate b")
		s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	})
}

// TestOneOfTwoUnreadable contains one object and cannot read the other: that is not contained,
// and a person is told what to do about it.
func TestOneOfTwoUnreadable(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), steps(taskStep("look")), nil), "a", "b")
	s.sightings["b"] = gone(v1alpha1.ResourceUnreadable, "grant it 'get'")
	s.run()
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded", "look=AwaitingTask")
	s.wantCondition(v1alpha1.ConditionContained, "False StepSkipped")
	s.wantAwaited("Task look", "Failure isolate")
	delete(s.sightings, "b")
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	s.wantAwaited("Task look")
	if got := s.count("Apply isolate b"); got != 1 {
		t.Errorf("b was isolated %d times, want once\n%s", got, s)
	}
}

// TestNoAnswerWhileRepeatsArrive gives no answer about an object, and a repeat of its event
// every minute: after two minutes a person is asked all the same.
func TestNoAnswerWhileRepeatsArrive(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), nil, nil), "a")
	s.event("event-1", "a")
	s.unseen = map[string]bool{"a": true}
	for range 4 {
		s.events[0].Status.Occurrences++
		s.run()
		s.pass(time.Minute)
	}
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
	if got := s.stored.Status.Resources[0]; got.State != v1alpha1.ResourceUnreadable || got.UnseenTime != nil {
		t.Errorf("resource is %+v, want it Unreadable", got)
	}
}

// TestLateProbe: an isolation that stands does not fail because its probe was not looked at in
// time; another effect does.
func TestLateProbe(t *testing.T) {
	for _, isProbed := range []bool{true, false} {
		step := isolateStep("isolate")
		if isProbed {
			step.Isolate.Probe = &v1alpha1.IsolationProbe{Image: "registry.example/busybox"}
		}
		s := newSim(t, playbookOf(steps(step), nil, nil), "a")
		s.script = failing(VerbApply, "isolate", Result{State: v1alpha1.TargetApplied, After: time.Second})
		s.run()
		s.want(v1alpha1.PhaseContainment, "isolate=Running")
		s.script = nil
		s.now = s.now.Add(time.Hour) // nobody was there
		s.run()
		if isProbed {
			s.wantDone("Observe isolate a")
			s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
		} else {
			s.wantNotDone("Observe isolate a")
			s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
		}
	}
}
