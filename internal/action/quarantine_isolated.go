package action

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action/isolation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// staysIsolated refuses to take labels off a pod by which its whole workload is isolated:
// the pod would have its network back. A pod that is isolated by itself stays so.
func (r *Request) staysIsolated(ctx context.Context, pod *corev1.Pod, removed []isolation.Label) (note string, problem *lifecycle.Result) {
	for key := range pod.Labels {
		if isIsolationLabel(key) {
			return "", nil
		}
	}
	if len(removed) == 0 {
		return "", nil
	}
	policies, err := r.networkPolicies(ctx, r.Target.Namespace)
	if apierrors.IsForbidden(err) {
		return "; whether its workload is isolated could not be seen: " + r.ActingAs + " may not list networkpolicies", nil
	}
	if err != nil {
		failure := r.failure(err, r.policyAccess("list", ""))
		return "", &failure
	}
	left := maps.Clone(pod.Labels)
	for _, label := range removed {
		delete(left, label.Key)
	}
	for i := range policies {
		policy := &policies[i]
		selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		if err == nil && policy.Labels[LabelManagedBy] == ManagedBy && selector.Matches(labels.Set(pod.Labels)) && !selector.Matches(labels.Set(left)) {
			refusal := refused("%s cannot be quarantined: incident '%s' isolates it by NetworkPolicy '%s' with its whole workload, and it would have its network back without %s: isolate the pod itself first",
				r.targetName(), policy.Labels[v1alpha1.LabelIncident], policy.Name, quoteKeys(removed))
			return "", &refusal
		}
	}
	return "", nil
}
