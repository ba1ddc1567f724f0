package action_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// TestEveryActionIsDescribed holds the registry to the lifecycle's list of actions, and
// each action's example to the API server.
func TestEveryActionIsDescribed(t *testing.T) {
	for _, trait := range lifecycle.Actions {
		t.Run(trait.Name, func(t *testing.T) {
			if trait.Acts != slices.Contains(action.Names(), trait.Name) {
				t.Fatalf("the lifecycle says Acts: %t, and the registry has %v", trait.Acts, action.Names())
			}
			about, ok := action.DescriptionOf(trait.Name)
			if !ok {
				t.Fatal("it must have a Description")
			}
			if about.Does == "" || about.Example == "" || trait.Undoable != (about.Undo != "") {
				t.Errorf("it must say what it does, what undoing restores if the lifecycle says that it can be undone (%t), and give an example: %+v", trait.Undoable, about)
			}
			for _, sentence := range append([]string{about.Does}, about.Limits...) {
				if !strings.HasSuffix(sentence, ".") {
					t.Errorf("%q must be a sentence", sentence)
				}
			}
			checkExample(t, trait, about.Example)
		})
	}
}

func checkExample(t *testing.T, trait lifecycle.Trait, example string) {
	t.Helper()
	step := v1alpha1.PlaybookStep{}
	if err := sigsyaml.UnmarshalStrict([]byte(example), &step); err != nil {
		t.Fatalf("its example cannot be read: %v", err)
	}
	if got := lifecycle.ActionOf(&step); got != trait.Name {
		t.Errorf("its example is a step of '%s'", got)
	}
	playbook := &v1alpha1.ResponsePlaybook{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "example"},
		Spec:       v1alpha1.ResponsePlaybookSpec{ServiceAccountName: "contain", Containment: v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{step}}},
	}
	if err := admin.Create(t.Context(), playbook, client.DryRunAll); err != nil {
		t.Errorf("the API server refuses its example: %v", err)
	}
	for _, one := range action.PlaybookRights(&playbook.Spec) {
		for _, right := range one.Rights {
			if len(right.Verbs) == 0 || (right.Resource == "") == (right.Unknown == "") || right.Group == "core" {
				t.Errorf("right %+v of step '%s': it must have verbs, and a resource or say what is not known", right, one.Step)
			}
		}
	}
	if _, needs := needsNothing[trait.Name]; trait.Acts && !needs && !slices.ContainsFunc(action.PlaybookRights(&playbook.Spec), func(one action.StepRights) bool { return one.Step == step.Name }) {
		t.Error("its example must need rights: it acts")
	}
}

// needsNothing are actions whose example needs no right of the playbook's ServiceAccount.
var needsNothing = map[string]bool{"notify": true}

func TestRightsSurviveWhatIsMissing(t *testing.T) {
	for _, trait := range lifecycle.Actions {
		// What the API server requires may still be missing in a file that was not sent to it.
		for _, target := range []string{"target: Pods", "target: Workloads", "target: Nodes", "targets: resources", "targets: '['"} {
			step := v1alpha1.PlaybookStep{}
			text := fmt.Sprintf("name: odd\n%s: {}\n%s\n", trait.Name, target)
			if err := sigsyaml.Unmarshal([]byte(text), &step); err != nil {
				t.Fatal(err)
			}
			playbook := &v1alpha1.ResponsePlaybookSpec{Containment: v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{step}}}
			if rights := action.PlaybookRights(playbook); trait.Acts && !needsNothing[trait.Name] && len(rights) == 0 && strings.HasPrefix(target, "target:") {
				t.Errorf("%s with %s: no rights at all, not even to look", trait.Name, target)
			}
		}
	}
}
