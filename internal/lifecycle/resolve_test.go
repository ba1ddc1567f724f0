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

func cordonStep(name string) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Target: v1alpha1.TargetNodes, Cordon: &v1alpha1.CordonAction{}}
}

func httpStep(name string) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, HTTP: &v1alpha1.HTTPAction{URL: "https://tickets.example.com"}}
}

func applyStep(name string) v1alpha1.PlaybookStep {
	return v1alpha1.PlaybookStep{Name: name, Apply: &v1alpha1.ApplyAction{Expression: "{}"}}
}

func TestResolves(t *testing.T) {
	for _, test := range []struct {
		text v1alpha1.PlaybookStep
		want bool
	}{
		{isolateStep("a"), false},
		{collectStep("a"), false},
		{cordonStep("a"), true},
		{v1alpha1.PlaybookStep{Target: v1alpha1.TargetWorkloads}, false},
		{v1alpha1.PlaybookStep{Target: v1alpha1.TargetNamespaces}, true},
		{v1alpha1.PlaybookStep{Target: v1alpha1.TargetServiceAccounts}, true},
		{v1alpha1.PlaybookStep{Target: v1alpha1.TargetImages}, true},
		{v1alpha1.PlaybookStep{Targets: "resources"}, true},
		{httpStep("a"), false},
	} {
		if got := Resolves(&test.text); got != test.want {
			t.Errorf("target %q, targets %q: got %v, want %v", test.text.Target, test.text.Targets, got, test.want)
		}
	}
}

func TestResolve(t *testing.T) {
	s := newSim(t, playbookOf(steps(cordonStep("cordon")), nil, nil), "a", "b")
	s.run()
	s.want(v1alpha1.PhaseReview, "cordon=Succeeded")
	s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
	want := []string{"Resolve cordon", "Plan cordon node-a", "Plan cordon node-b", "Apply cordon node-a", "Apply cordon node-b"}
	if diff := cmp.Diff(want, s.done); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
}

// TestResolveFails checks every way in which looking for targets can end.
func TestResolveFails(t *testing.T) {
	step := func(text v1alpha1.PlaybookStep, policy v1alpha1.NoTargetsPolicy) v1alpha1.PlaybookStep {
		return onNoTargets(text, policy)
	}
	byCEL := v1alpha1.PlaybookStep{Name: "cordon", Targets: "[]", Cordon: &v1alpha1.CordonAction{}}
	many := make([]v1alpha1.StepTarget, 129)
	for i := range many {
		many[i] = nodeTarget(fmt.Sprint("node-", i))
	}
	for _, test := range []struct {
		name    string
		text    v1alpha1.PlaybookStep
		result  Result
		state   string
		message string
	}{
		{"nothing", step(cordonStep("cordon"), ""), Result{State: v1alpha1.TargetSucceeded, Targets: []v1alpha1.StepTarget{}},
			"cordon=AwaitingTask", "there is nothing to act on: no Nodes among Pod shop/a: Present"},
		{"nothing, and skipped", step(byCEL, v1alpha1.OnNoTargetsSkip), Result{State: v1alpha1.TargetSucceeded, Targets: []v1alpha1.StepTarget{}},
			"cordon=Skipped", "there is nothing to act on: `targets` yields nothing: []"},
		{"never", cordonStep("cordon"), permanent("grant it 'get'"), "cordon=AwaitingTask", "what it acts on could not be found: grant it 'get'"},
		{"not for now", cordonStep("cordon"), failure("no answer"), "cordon=AwaitingTask", "what it acts on was not found within 5m0s: no answer"},
		{"too many", cordonStep("cordon"), Result{State: v1alpha1.TargetSucceeded, Targets: many},
			"cordon=AwaitingTask", "what it acts on could not be found: they are 129 objects: it must be at most 128"},
		{"no UID", cordonStep("cordon"), Result{State: v1alpha1.TargetSucceeded, Targets: []v1alpha1.StepTarget{{APIVersion: "v1", Kind: "Node", Name: "n"}}},
			"cordon=AwaitingTask", "what it acts on could not be found: Node n must have `apiVersion`, `kind`, `name` and a UID"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(test.text), nil, nil), "a")
			s.script = failing(VerbResolve, "cordon", test.result)
			s.run()
			s.pass(6 * time.Minute)
			s.want(s.stored.Status.Phase, test.state)
			if got := s.step("cordon").Message; got != test.message {
				t.Errorf("message is %q, want %q", got, test.message)
			}
			if s.step("cordon").State == v1alpha1.StepAwaitingTask {
				s.script = nil
				s.must(by(v1alpha1.DecisionRetryStep, "cordon", "jane"))
				s.want(v1alpha1.PhaseReview, "cordon=Succeeded")
			}
		})
	}
}

// TestResolveAgain lets a pod join in every state of a step that has looked for its targets.
func TestResolveAgain(t *testing.T) {
	for _, test := range []struct {
		name     string
		playbook *v1alpha1.ResponsePlaybookSpec
		phase    v1alpha1.Phase
		before   string
	}{
		{"over", playbookOf(steps(cordonStep("cordon")), steps(approveStep("ok")), nil), v1alpha1.PhaseEradication, "cordon=Succeeded"},
		{"reverted", playbookOf(steps(cordonStep("cordon")), nil, steps(revertStep("release", "cordon"), taskStep("look"))), v1alpha1.PhaseRecovery, "cordon=Reverted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, test.playbook, "a")
			s.run()
			s.want(test.phase, test.before)
			contained := s.stored.Status.Times.ContainedTime
			s.now = s.now.Add(time.Minute)
			s.script = failing(VerbResolve, "cordon", failure("no answer"))
			s.event("event-2", "b")
			s.run()
			s.wantCondition(v1alpha1.ConditionContained, "False NewTarget")
			s.want(test.phase, test.before)
			s.script = nil
			s.pass(10 * time.Second)
			s.wantDone("Apply cordon node-b")
			s.want(test.phase)
			if got := s.count("Apply cordon node-a"); got != 1 {
				t.Errorf("node-a was cordoned %d times", got)
			}
			if !s.stored.Status.Times.ContainedTime.Equal(contained) {
				t.Error("containedTime moved")
			}
			// One that adds nothing disturbs nothing.
			attempts := s.step("cordon").Attempts
			s.script = failing(VerbResolve, "cordon", Result{State: v1alpha1.TargetSucceeded, Targets: []v1alpha1.StepTarget{nodeTarget("node-a"), nodeTarget("node-b")}})
			s.event("event-3", "c")
			s.run()
			if got := s.step("cordon").Attempts; got != attempts {
				t.Errorf("it was begun anew, %d times, although nothing joined it", got-attempts)
			}
			s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
		})
	}
}

// TestResolveAgainInVain asks a person when further targets cannot be found for long.
func TestResolveAgainInVain(t *testing.T) {
	s := newSim(t, playbookOf(steps(cordonStep("cordon")), steps(taskStep("look")), nil), "a")
	s.run()
	s.now = s.now.Add(time.Minute)
	s.script = failing(VerbResolve, "cordon", failure("no answer"))
	s.event("event-2", "b")
	s.run()
	s.pass(3 * time.Minute)
	s.want(v1alpha1.PhaseEradication, "cordon=AwaitingTask")
	s.script = nil
	s.must(by(v1alpha1.DecisionRetryStep, "cordon", "jane"))
	s.wantDone("Apply cordon node-b")
	s.want(v1alpha1.PhaseEradication, "cordon=Succeeded")
}

// TestResolvedIsHeld checks protection and limits of what was looked up.
func TestResolvedIsHeld(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits v1alpha1.PlaybookLimits
		runs   int32
		found  []v1alpha1.StepTarget
		held   []string
		why    string
	}{
		{"protected", v1alpha1.PlaybookLimits{}, 0, []v1alpha1.StepTarget{nodeTarget("n-1"),
			{APIVersion: "v1", Kind: "ServiceAccount", Namespace: "kube-system", Name: "sa", UID: "uid-sa", State: v1alpha1.TargetHeld, Message: "namespace kube-system is protected"}},
			[]string{"sa"}, "namespace kube-system is protected"},
		{"too many", v1alpha1.PlaybookLimits{MaxTargets: 2}, 0, []v1alpha1.StepTarget{nodeTarget("n-1"), nodeTarget("n-2"), nodeTarget("n-3")},
			[]string{"n-3"}, "step cordon acts on 2 objects already; `limits.maxTargets` of playbook contain allows 2"},
		{"too many runs", v1alpha1.PlaybookLimits{MaxRunsPerHour: 3}, 3, []v1alpha1.StepTarget{nodeTarget("n-1")},
			[]string{"n-1"}, "playbook contain ran for 3 incidents of falco by rule runtime/shell within the hour; its `limits.maxRunsPerHour` allows 3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			playbook := playbookOf(steps(cordonStep("cordon")), nil, steps(revertStep("release", "cordon")))
			playbook.Limits = test.limits
			s := newSim(t, playbook, "a")
			s.recentRuns = test.runs
			s.script = failing(VerbResolve, "cordon", Result{State: v1alpha1.TargetSucceeded, Targets: test.found})
			s.run()
			s.want(v1alpha1.PhaseContainment, "cordon=AwaitingApproval")
			for _, target := range s.step("cordon").Targets {
				held := slices.Contains(test.held, target.Name)
				if held != (target.State == v1alpha1.TargetHeld) {
					t.Errorf("%s is %s", target.Name, target.State)
				}
				if held && target.Message != test.why {
					t.Errorf("held because %q, want %q", target.Message, test.why)
				}
			}
			s.must(by(v1alpha1.DecisionApprove, "cordon", "jane"))
			s.wantDone("Apply cordon "+test.held[0], "Undo cordon "+test.held[0])
			s.want(v1alpha1.PhaseReview, "cordon=Reverted")
			if got := findTarget(s.step("cordon").Targets, "uid-"+v1alpha1.ObjectUID(test.held[0])).ApprovedBy; got != "jane" {
				t.Errorf("approvedBy is %q", got)
			}
		})
	}
}

// TestHeldByPlan holds a target that was protected after it was looked at.
func TestHeldByPlan(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), nil, nil), "a")
	s.script = func(work Work, _ *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) Result {
		if work.Verb == VerbPlan && target.ApprovedBy == "" {
			return Result{State: v1alpha1.TargetHeld, Message: "namespace shop is protected"}
		}
		return Result{}
	}
	s.run()
	s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval")
	s.wantNotDone("Apply isolate a")
	s.must(by(v1alpha1.DecisionApprove, "isolate", "jane"))
	s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
}

// TestOnIncident checks steps that act on no object.
func TestOnIncident(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate"), httpStep("ticket"), applyStep("policy")), steps(approveStep("ok")), nil), "a")
	s.event("event-1", "a")
	s.run()
	s.want(v1alpha1.PhaseEradication, "isolate=Succeeded", "ticket=Succeeded", "policy=Succeeded")
	target := s.step("ticket").Targets[0]
	want := v1alpha1.StepTarget{APIVersion: "firebreak.dev/v1alpha1", Kind: "Incident", Namespace: "security", Name: s.stored.Name, UID: "incident-uid"}
	if target.State, target.Message, target.Undo = "", "", ""; !cmp.Equal(want, target) {
		t.Errorf("target (-want +got):\n%s", cmp.Diff(want, target))
	}
	s.now = s.now.Add(time.Minute)
	s.event("event-2", "b")
	s.run()
	s.wantDone("Apply isolate b")
	if got := s.count("Apply ticket " + s.stored.Name); got != 1 {
		t.Errorf("the request was sent %d times", got)
	}
}

// TestContainedByIncidentTarget checks when an action on no object contains.
func TestContainedByIncidentTarget(t *testing.T) {
	skipped := onNoTargets(isolateStep("isolate"), v1alpha1.OnNoTargetsSkip)
	for _, test := range []struct {
		name  string
		steps []v1alpha1.PlaybookStep
		want  string
	}{
		{"alone", steps(applyStep("policy")), "True StepsDone"},
		{"beside objects that are gone", steps(skipped, httpStep("ticket")), "False NoTargets"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, playbookOf(test.steps, nil, nil), "a")
			s.sightings["a"] = gone(v1alpha1.ResourceGone, "")
			s.run()
			s.wantCondition(v1alpha1.ConditionContained, test.want)
		})
	}
}

// TestOnIncidentBeyondRuns holds even what acts on no object when a playbook runs too often.
func TestOnIncidentBeyondRuns(t *testing.T) {
	playbook := playbookOf(steps(httpStep("ticket")), nil, nil)
	playbook.Limits.MaxRunsPerHour = 1
	s := newSim(t, playbook)
	s.recentRuns = 1
	s.run()
	s.want(v1alpha1.PhaseContainment, "ticket=AwaitingApproval")
	if message := s.stored.Status.Awaiting[0].Message; !strings.Contains(message, "`limits.maxRunsPerHour` allows 1") {
		t.Errorf("message is %q", message)
	}
	s.must(by(v1alpha1.DecisionApprove, "ticket", "jane"))
	s.want(v1alpha1.PhaseReview, "ticket=Succeeded")
}

func TestOutputs(t *testing.T) {
	s := newSim(t, playbookOf(steps(httpStep("ticket")), nil, nil))
	long, id := strings.Repeat("x", 2000), "T-1"
	s.script = failing(VerbApply, "ticket", Result{State: v1alpha1.TargetSucceeded, Outputs: []v1alpha1.StepOutput{
		{Name: "id", Value: &long}, {Name: "id", Value: &id}, {Name: "body", Value: &long}, {Name: ""}}})
	s.run()
	outputs := s.step("ticket").Outputs
	if len(outputs) != 2 || outputs[0].Name != "id" || *outputs[0].Value != "T-1" || len([]rune(*outputs[1].Value)) != 1024 {
		t.Errorf("outputs are %+v", outputs)
	}
}
