package lifecycle

import (
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func scoped(playbook *v1alpha1.ResponsePlaybookSpec, namespaces ...v1alpha1.ScopeNamespace) *v1alpha1.ResponsePlaybookSpec {
	playbook.Scope.Namespaces = namespaces
	return playbook
}

func TestOutOfScope(t *testing.T) {
	for _, test := range []struct {
		name      string
		playbook  *v1alpha1.ResponsePlaybookSpec
		namespace string
		want      bool
	}{
		{"no playbook", nil, "attic", false},
		{"no scope", isolateAll(), "attic", false},
		{"in scope", scoped(isolateAll(), "cellar", "attic"), "attic", false},
		{"out of scope", scoped(isolateAll(), "cellar", "attic"), "shop", true},
		{"part of a name", scoped(isolateAll(), "shop-a"), "shop", true},
		{"in no namespace", scoped(isolateAll(), "attic"), "", false},
	} {
		if got := OutOfScope(test.playbook, test.namespace); (got != "") != test.want || test.want && !strings.Contains(got, "namespace shop") {
			t.Errorf("%s: got %q, want a reason: %v", test.name, got, test.want)
		}
	}
}

// TestOutOfScopeIsHeld asks a person about an object in a namespace in which the playbook is
// not meant to act, and acts on it only then.
func TestOutOfScopeIsHeld(t *testing.T) {
	for _, test := range []struct {
		name     string
		decision v1alpha1.DecisionType
		isolated bool
	}{{"approved", v1alpha1.DecisionApprove, true}, {"rejected", v1alpha1.DecisionReject, false}} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, scoped(isolateAll(), "attic"), "a")
			s.run()
			s.want(v1alpha1.PhaseContainment, "isolate=AwaitingApproval")
			s.wantNotDone("Plan isolate a", "Apply isolate a")
			s.wantAwaited("Approval isolate")
			want := "isolate of Pod shop/a waits for an approval: namespace shop is none of the playbook's `scope.namespaces`, where it is meant to act; an approval counts"
			if got := s.stored.Status.Awaiting[0].Message; !strings.HasPrefix(got, want) {
				t.Errorf("message is %q, want %q", got, want)
			}
			s.must(by(test.decision, "isolate", "jane"))
			if got := s.count("Apply isolate a") == 1; got != test.isolated {
				t.Errorf("isolated: %v, want %v", got, test.isolated)
			}
		})
	}
}

// TestScopeOfWhatIsFound holds what a step finds by itself; nodes are in no namespace.
func TestScopeOfWhatIsFound(t *testing.T) {
	found := map[string]v1alpha1.StepTarget{
		"held":      {APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "cart", UID: "uid-cart"},
		"namespace": {APIVersion: "v1", Kind: "Namespace", Name: "shop", UID: "uid-shop"},
		"inside":    {APIVersion: "apps/v1", Kind: "Deployment", Namespace: "attic", Name: "cart", UID: "uid-attic"},
		"home":      {APIVersion: "v1", Kind: "Namespace", Name: "attic", UID: "uid-home"},
		"node":      nodeTarget("node-a"),
	}
	for name, held := range map[string]bool{"held": true, "namespace": true, "inside": false, "home": false, "node": false} {
		t.Run(name, func(t *testing.T) {
			step := v1alpha1.PlaybookStep{Name: "change", Targets: "[]", Patch: &v1alpha1.PatchAction{Expression: "{}"}}
			s := newSim(t, scoped(playbookOf(steps(step), nil, nil), "attic"))
			s.script = func(work Work, _ *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
				if work.Verb != VerbResolve {
					return Result{}
				}
				return Result{State: v1alpha1.TargetSucceeded, Targets: []v1alpha1.StepTarget{found[name]}}
			}
			s.run()
			if got := s.step("change").State == v1alpha1.StepAwaitingApproval; got != held {
				t.Errorf("held: %v, want %v\n%s", got, held, s)
			}
		})
	}
}

// TestScopeOfAnotherPlaybook looks at every object anew when another playbook takes over.
func TestScopeOfAnotherPlaybook(t *testing.T) {
	for _, test := range []struct {
		name          string
		first, second []v1alpha1.ScopeNamespace
		held          bool
	}{
		{"the other is not for it", nil, []v1alpha1.ScopeNamespace{"attic"}, true},
		{"the other is for it", []v1alpha1.ScopeNamespace{"attic"}, []v1alpha1.ScopeNamespace{"shop"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, scoped(playbookOf(steps(approveStep("ok"), isolateStep("isolate")), nil, nil), test.first...), "a")
			s.offered = map[string]*v1alpha1.ResponsePlaybookSpec{"other": scoped(isolateAll(), test.second...)}
			s.run()
			s.wantNotDone("Apply isolate a")
			s.must(usePlaybook("jane", "other"))
			if got := s.count("Apply isolate a") == 0; got != test.held {
				t.Errorf("held: %v, want %v\n%s", got, test.held, s)
			}
			if hold := s.stored.Status.Resources[0].Hold; (hold != "") != test.held {
				t.Errorf("hold is %q", hold)
			}
		})
	}
}
