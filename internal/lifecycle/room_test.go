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
