package action

import (
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Describe documents the action.
func (collect) Describe() Description {
	return Description{
		Does: "Preserves evidence about the target: its manifest, those of its owners and the NetworkPolicies of its namespace, the Kubernetes Events about it, and the logs of its containers. Each piece becomes an Evidence object with its digest; secrets in environment variables and annotations are redacted, and where is said.",
		Limits: []string{
			"It reads what the API server and the kubelet still have: Kubernetes keeps Events for an hour, and logs until the pod is deleted.",
			"What cannot be read is named in the step's message and does not keep the rest from being kept; without the manifest the step fails.",
			"Isolations of other pods are left out of the NetworkPolicies.",
		},
		Example: `
name: preserve
target: Pods
collect: {objects: Full, logs: {tailLines: 5000, previous: Include}, events: Include}
timeout: 20s
onFailure: Continue
`,
	}
}

// Rights are what reading it takes.
func (collect) Rights(step *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right {
	options := step.Collect
	rights := rightsOn(kinds, "", "get")
	if options.Objects != v1alpha1.ObjectsNone {
		rights = append(rights, Right{Group: networkingv1.GroupName, Resource: "networkpolicies", Verbs: []string{"list"}})
		rights = append(rights, ownerRights()...)
	}
	if options.Events != v1alpha1.Exclude {
		rights = append(rights, Right{Resource: "events", Verbs: []string{"list"}})
	}
	if options.Logs != nil {
		rights = append(rights, Right{Resource: "pods/log", Verbs: []string{"get"}})
	}
	return rights
}
