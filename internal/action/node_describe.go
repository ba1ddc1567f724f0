package action

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var nodeKinds = []schema.GroupVersionKind{nodeKind}

func nodeRights() []Right { return []Right{rightOn(nodeKind, "get", "patch")} }

// Describe documents the action.
func (cordon) Describe() Description {
	return Description{
		Does:  "Keeps new pods off a node (`spec.unschedulable`). The annotation `cordon.firebreak.dev/…` on the node says which incident needs that.",
		Kinds: nodeKinds,
		Undo:  "Lets new pods on the node again, when no other incident's annotation is left on it. A node that was cordoned before stays cordoned, and so does one that somebody has cordoned or let go since.",
		Limits: []string{
			"What runs on the node goes on: `drain` or a `taint` with `NoExecute` ends it.",
			"Pods of DaemonSets, and pods that name the node themselves, are started nevertheless.",
		},
		Example: `
name: keep-off
target: Nodes
cordon: {}
`,
	}
}

// Rights are what cordoning takes.
func (cordon) Rights(*v1alpha1.PlaybookStep, []schema.GroupVersionKind) []Right { return nodeRights() }

// Describe documents the action.
func (taint) Describe() Description {
	return Description{
		Does:  "Puts a taint on a node: new pods that do not tolerate it are kept off (`NoSchedule`), and with `NoExecute` those that run are ended at once, whatever their PodDisruptionBudgets say. The annotation `taint.firebreak.dev/…` on the node says which incident needs it.",
		Kinds: nodeKinds,
		Undo:  "Takes the taint off when no other incident's annotation for it is left. A taint of that key and effect that was there before gets its value back.",
		Limits: []string{
			"Where two incidents want the same key and effect with different values, the node has one of them.",
			"Pods with a matching toleration are not touched: an attacker's may tolerate everything.",
		},
		Example: `
name: expel
target: Nodes
taint: {effect: NoExecute}
`,
	}
}

// Rights are what tainting takes.
func (taint) Rights(*v1alpha1.PlaybookStep, []schema.GroupVersionKind) []Right { return nodeRights() }

// Describe documents the action.
func (drain) Describe() Description {
	return Description{
		Does:  "Cordons a node and evicts its pods, each by its UID, as far as their PodDisruptionBudgets allow; what cannot be evicted yet is tried again until the step's `timeout`.",
		Kinds: nodeKinds,
		Undo:  "Takes the cordon back as `cordon` does. What was evicted does not come back.",
		Limits: []string{
			"Static pods stay, and so do pods of DaemonSets: these would be started anew on the same node. A pod that merely says that it belongs to a DaemonSet is evicted.",
			"With `unmanagedPods: Keep`, pods that nothing would start anew, and pods with data in an emptyDir, stay; the others are evicted, and the step then fails and names what stays.",
			"Pods of protected namespaces stay, unless `limits.allowProtected` names the namespace; the step then fails and names them.",
			"It is done when all pods have ended: `timeout` must be longer than their grace periods.",
		},
		Example: `
name: drain
target: Nodes
drain: {unmanagedPods: Delete}
timeout: 15m
`,
	}
}

// Rights are what draining takes.
func (drain) Rights(*v1alpha1.PlaybookStep, []schema.GroupVersionKind) []Right {
	return append(nodeRights(),
		Right{Resource: "pods", Verbs: []string{"list"}, Place: InCluster},
		Right{Resource: "pods/eviction", Verbs: []string{"create"}, Place: InCluster},
		Right{Group: "apps", Resource: "daemonsets", Verbs: []string{"get"}, Place: InCluster},
	)
}
