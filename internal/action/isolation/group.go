package isolation

import (
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// CheckGroup says whether pods that keep their labels are isolated once a policy selects
// them that allows nothing: no other policy that selects one of them may allow anything
// in a direction that is cut. It gives a *BlockedError when one does.
func CheckGroup(pods []map[string]string, policies []networkingv1.NetworkPolicy, cut Cut) error {
	allowing, err := relevant(Input{Policies: policies, Cut: cut})
	if err != nil {
		return err
	}
	for i := range allowing {
		policy := &allowing[i]
		if slices.ContainsFunc(pods, func(pod map[string]string) bool { return policy.selector.Matches(labels.Set(pod)) }) {
			return &BlockedError{Policy: policy.name, Reason: fmt.Sprintf(
				"selects its pods and allows %s, and labels cannot be taken off a whole workload: isolate its pods (`target: Pods`), narrow the policy's podSelector, or say `clusterNetworkPolicy: Use` where that can deny it",
				policy.allows)}
		}
	}
	return nil
}
