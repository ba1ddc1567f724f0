package action_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var evictRights = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}},
	{APIGroups: []string{""}, Resources: []string{"pods/eviction"}, Verbs: []string{"create"}},
}

func evictStep() *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "evict", Target: v1alpha1.TargetPods, Evict: &v1alpha1.EvictAction{GracePeriodSeconds: ptr.To[int64](0)}}
}

func TestEvict(t *testing.T) {
	w := newWorld(t, evictRights)
	request := w.request(w.incident("inc-1"), evictStep(), w.pod("cart-1", nil, cartLabels))
	evict := do(t, "evict")
	w.applied("evict", request, "is evicted")
	w.expect("Plan of what is gone", evict.Plan(t.Context(), request), v1alpha1.TargetGone)
	result := evict.Undo(t.Context(), request)
	w.expect("Undo", result, v1alpha1.TargetFailed, "cannot be undone")
	if !result.Permanent {
		t.Error("Undo must fail for good")
	}
}

func TestEvictWaitsForDisruptionBudgets(t *testing.T) {
	w := newWorld(t, evictRights)
	pod := w.pod("cart-1", nil, cartLabels)
	w.ready(pod)
	budget := w.budget(byLabel("app", "cart"), 0)
	request := w.request(w.incident("inc-1"), evictStep(), pod)
	evict := do(t, "evict")
	w.planned("evict", request)
	result := evict.Apply(t.Context(), request)
	w.expect("Apply", result, v1alpha1.TargetApplied, "waits to be evicted", "disruption budget")
	if result.After <= 0 {
		t.Error("it must say when to look again")
	}
	w.expect("Observe", evict.Observe(t.Context(), request), v1alpha1.TargetApplied, "waits to be evicted")
	if w.get(pod); pod.DeletionTimestamp != nil {
		t.Error("the pod was deleted in spite of its budget")
	}
	w.allowDisruptions(budget, 1)
	w.expect("Observe once it is allowed", evict.Observe(t.Context(), request), v1alpha1.TargetSucceeded, "is evicted")
}

func TestEvictNeverTouchesASuccessor(t *testing.T) {
	w := newWorld(t, evictRights)
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), evictStep(), pod)
	w.planned("evict", request)
	w.delete(pod)
	successor := w.pod("cart-1", nil, cartLabels)
	evict := do(t, "evict")
	w.expect("Plan", evict.Plan(t.Context(), request), v1alpha1.TargetGone, "came back under the same name")
	w.expect("Apply", evict.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "is evicted")
	if w.get(successor); successor.DeletionTimestamp != nil {
		t.Error("the successor was evicted")
	}
}

func TestEvictRefuses(t *testing.T) {
	w := newWorld(t, evictRights)
	static := w.pod("static-1", nil, nil, func(pod *corev1.Pod) {
		pod.Spec.NodeName = "node-1"
		pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node-1", UID: "u", Controller: ptr.To(true)}}
	})
	result := do(t, "evict").Plan(t.Context(), w.request(w.incident("inc-1"), evictStep(), static))
	w.expect("Plan of a static pod", result, v1alpha1.TargetFailed, "only shows a static pod of node 'node-1'")
	result = do(t, "evict").Plan(t.Context(), w.request(w.incident("inc-1"), evictStep(), w.replicaSet()))
	w.expect("Plan of another kind", result, v1alpha1.TargetFailed, "it must be a Pod")
	if !result.Permanent {
		t.Error("must be permanent")
	}
}

func TestEvictNamesTheMissingRight(t *testing.T) {
	for name, test := range map[string]struct{ verb, resource, says string }{
		"get":    {"get", "pods", "may not get pods in namespace 'SHOP': grant it 'get' on 'pods' (API group '') there by a RoleBinding"},
		"create": {"create", "pods/eviction", "may not create pods/eviction in namespace 'SHOP': grant it 'create' on 'pods/eviction' (API group '') there by a RoleBinding"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, without(evictRights, test.verb, test.resource))
			request := w.request(w.incident("inc-1"), evictStep(), w.pod("cart-1", nil, cartLabels))
			w.missing("evict", request, test.says)
		})
	}
}
