package action_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func deletesPod(isolate *v1alpha1.IsolateAction) {
	isolate.SurvivingConnections = v1alpha1.SurvivingDeleted
}

func TestIsolateEndsConnections(t *testing.T) {
	w := newWorld(t, allRights)
	isolate := do(t, "isolate")
	pod := w.pod("cart-1", nil, cartLabels)
	kept := w.request(w.incident("inc-1"), isolateStep(), pod)
	w.plan(kept)
	w.expect("Apply that reports", isolate.Apply(t.Context(), kept), v1alpha1.TargetSucceeded, "connections that are open already may go on")
	w.expect("Undo", isolate.Undo(t.Context(), kept), v1alpha1.TargetReverted)

	request := w.request(w.incident("inc-1"), isolateStep(deletesPod), pod)
	w.plan(request)
	w.expect("Apply that deletes", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "ingress and egress are cut", "the pod is deleted, so that its open connections end")
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(pod), &corev1.Pod{}); !apierrors.IsNotFound(err) {
		t.Errorf("the pod must be gone, but: %v", err)
	}
	w.expect("Observe", isolate.Observe(t.Context(), request), v1alpha1.TargetSucceeded, "does not exist any more")
	successor := w.pod("cart-1", nil, cartLabels)
	w.expect("Apply after a crash", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "came back under the same name, and is not touched")
	w.get(successor)
	w.expect("Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted)
	if left := w.policies(); len(left) > 0 {
		t.Errorf("policies left behind: %v", left)
	}
}

func TestIsolateEndsConnectionsOnlyWhenIsolated(t *testing.T) {
	w := newWorld(t, without(allRights, "delete", "pods"))
	isolate := do(t, "isolate")
	pod := w.pod("lone", nil, map[string]string{"app": "other", "tier": "web"})
	request := w.request(w.incident("inc-1"), isolateStep(deletesPod), pod)
	w.plan(request)
	w.allow("team-cart", byLabel("app", "other"))
	w.expect("Apply beside a policy that allows", isolate.Apply(t.Context(), request), v1alpha1.TargetPending, "not isolated yet")
	w.get(pod)
	w.plan(request)
	w.expect("Apply without the right to delete", isolate.Apply(t.Context(), request), v1alpha1.TargetFailed, "may not delete pods")

	deployment, _ := w.deployment()
	w.expect("Plan of a workload", isolate.Plan(t.Context(), w.request(w.incident("inc-1"), groupStep(deletesPod), deployment)), v1alpha1.TargetFailed, "`survivingConnections: Delete` is only for pods")
}
