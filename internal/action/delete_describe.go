package action

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Describe documents the action.
func (remove) Describe() Description {
	return Description{
		Does: "Deletes the target, by its UID, and what it owns after it. It waits until the object is gone.",
		Limits: []string{
			"Collect evidence first: a playbook that deletes before it collects is not Ready, unless it says `evidenceLoss: Allow`.",
			"A workload starts a new pod in place of one that is deleted: it is not touched, though it may have the same name.",
			"It waits for finalizers and for the pod's grace period; neither is overridden but by `gracePeriodSeconds`.",
		},
		Example: `
name: delete-pod
target: Pods
delete: {gracePeriodSeconds: 0}
`,
	}
}

// Rights are what deleting takes.
func (remove) Rights(_ *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right {
	return rightsOn(kinds, "", "get", "delete")
}
