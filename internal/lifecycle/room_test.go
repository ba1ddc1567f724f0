package lifecycle

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxObject is how many bytes etcd takes.
const maxObject = 1_500_000

// TestRoom: a playbook of very many steps on very many objects ends in words, and not in a
// status that cannot be written.
func TestRoom(t *testing.T) {
	var pods []string
	for i := range 120 {
		pods = append(pods, fmt.Sprintf("%03d-%s", i, strings.Repeat("p", 200)))
	}
	var containment []v1alpha1.PlaybookStep
	for i := range 12 {
		isolate, cordon := isolateStep(fmt.Sprint("isolate-", i)), cordonStep(fmt.Sprint("cordon-", i))
		isolate.OnFailure, cordon.OnFailure = v1alpha1.OnFailureContinue, v1alpha1.OnFailureContinue
		containment = append(containment, isolate, cordon)
	}
	playbook := playbookOf(containment, nil, steps(taskStep("wait")))
	playbook.Limits.MaxTargets = 128
	s := newSim(t, playbook)
	s.event("event", pods...)
	for i := range 9 {
		var assets []string
		for j := range 16 {
			assets = append(assets, fmt.Sprintf("%s-%d-%d", strings.Repeat("<", 240), i, j))
		}
		s.eventAbout(fmt.Sprintf("assets-%d", i), assets...)
	}
	s.boundsEvery = 1000
	s.script = func(work Work, step *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
		result := success(work, step)
		if work.Verb == VerbPlan {
			result.Undo = `{"a":"` + strings.Repeat(`"`, 350) + `"}`
		}
		result.Message = strings.Repeat("é", 1024)
		return result
	}
	s.run()
	raw, err := json.Marshal(s.stored)
	if err != nil || len(raw) > maxObject {
		t.Fatalf("the incident has %d bytes (%v), must have at most %d", len(raw), err, maxObject)
	}
	s.want(v1alpha1.PhaseRecovery, "isolate-0=Succeeded", "cordon-0=Succeeded", "isolate-11=Failed", "cordon-11=Failed", "wait=AwaitingTask")
	if message := s.step("isolate-11").Message; !strings.Contains(message, "no room on the incident for 120 more objects") {
		t.Errorf("the step that did not fit says %q", message)
	}
	if s.condition(v1alpha1.ConditionContained) != "False StepSkipped" {
		t.Errorf("Contained is %s", s.condition(v1alpha1.ConditionContained))
	}
	s.wantNotDone("Plan isolate-11 " + pods[0])
	s.event("late", "one-more")
	s.run()
	if s.stored.Status.OmittedResources != 1 || s.logged("ResourcesOmitted") != 1 {
		t.Errorf("%d omitted, %d times on the timeline; want the one that there is no room for", s.stored.Status.OmittedResources, s.logged("ResourcesOmitted"))
	}
	s.refused(addResource("jane", "mine"), v1alpha1.ReasonNotAllowed)
	s.must(by(v1alpha1.DecisionCompleteTask, "wait", "jane"))
	s.must(closing(v1alpha1.ResolutionAcceptedRisk))
}

// TestRoomIsKept: what nothing was done to yet has the room that it will need.
func TestRoomIsKept(t *testing.T) {
	some := v1alpha1.StepTarget{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart", UID: "uid"}
	for _, test := range []struct {
		action, undo string
		state        v1alpha1.TargetState
		want         bool
	}{
		{"isolate", "", v1alpha1.TargetPending, false},
		{"isolate", "", v1alpha1.TargetHeld, false},
		{"isolate", "", v1alpha1.TargetActing, false},
		{"isolate", "{}", v1alpha1.TargetActing, true},
		{"isolate", "{}", v1alpha1.TargetSucceeded, true},
		{"verify", "", v1alpha1.TargetPending, true},
	} {
		status := &v1alpha1.IncidentStatus{}
		for range 8 {
			step := v1alpha1.IncidentStep{Action: test.action}
			for range 110 {
				target := some
				target.State, target.Undo = test.state, test.undo
				step.Targets = append(step.Targets, target)
			}
			status.Steps = append(status.Steps, step)
		}
		if got := (&machine{status: status}).roomFor(100); got != test.want {
			t.Errorf("beside 880 targets of %s that are %s there is room for 100: %t, want %t", test.action, test.state, got, test.want)
		}
	}
}

// TestNoRoomForWhatJoins: a step that acts is carried on when there is no room for more.
func TestNoRoomForWhatJoins(t *testing.T) {
	full := v1alpha1.IncidentStep{Name: "full", Phase: v1alpha1.PhaseContainment, Action: "isolate", State: v1alpha1.StepSucceeded}
	for range 128 {
		full.Targets = append(full.Targets, v1alpha1.StepTarget{State: v1alpha1.TargetSucceeded, Undo: strings.Repeat("x", 8000)})
	}
	for _, state := range []v1alpha1.StepState{v1alpha1.StepRunning, v1alpha1.StepSkipped, v1alpha1.StepSucceeded} {
		count, text := int32(1), cordonStep("cordon")
		step := v1alpha1.IncidentStep{Name: "cordon", Action: "cordon", State: state, ResolvedResources: &count, Targets: nodes("n1").Targets}
		m := &machine{status: &v1alpha1.IncidentStatus{Steps: []v1alpha1.IncidentStep{full, step}}}
		m.incident, m.Incident = &v1alpha1.Incident{}, &v1alpha1.Incident{}
		cordon := &m.status.Steps[1]
		m.resolved(cordon, &text, nodes("n1", "n2").Targets)
		want := state
		if state == v1alpha1.StepSucceeded {
			want = v1alpha1.StepAwaitingTask
		}
		if cordon.State != want || len(cordon.Targets) != 1 {
			t.Errorf("a step that was %s is %s with %d targets, want %s with the one", state, cordon.State, len(cordon.Targets), want)
		}
		if says := strings.Contains(cordon.Message, "no room on the incident for 1 more"); says == (state == v1alpha1.StepSkipped) {
			t.Errorf("a step that was %s says %q", state, cordon.Message)
		}
	}
}
