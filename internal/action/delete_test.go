package action_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func deleteStep() *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "delete-pod", Target: v1alpha1.TargetPods, Delete: &v1alpha1.DeleteAction{GracePeriodSeconds: ptr.To[int64](0)}}
}

func TestDelete(t *testing.T) {
	w := newWorld(t, allRights)
	selector := byLabel("app", "cart")
	for name, object := range map[string]client.Object{
		"pod":        w.pod("cart-1", nil, cartLabels),
		"deployment": &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart"}, Spec: appsv1.DeploymentSpec{Selector: &selector, Template: template(cartLabels)}},
	} {
		t.Run(name, func(t *testing.T) {
			if object.GetUID() == "" {
				w.create(object)
			}
			request := w.request(w.incident("inc-1"), deleteStep(), object)
			remove := do(t, "delete")
			w.expect("Plan", remove.Plan(t.Context(), request), v1alpha1.TargetActing)
			for _, try := range []string{"first", "repeated"} {
				w.expect(try+" Apply", remove.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "is deleted")
			}
			w.expect("Observe", remove.Observe(t.Context(), request), v1alpha1.TargetSucceeded)
			if err := admin.Get(t.Context(), client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
				t.Errorf("get after Apply: %v, want NotFound", err)
			}
			w.expect("Plan of what is gone", remove.Plan(t.Context(), request), v1alpha1.TargetGone)
			result := remove.Undo(t.Context(), request)
			w.expect("Undo", result, v1alpha1.TargetFailed, "cannot be undone")
			if !result.Permanent {
				t.Error("Undo must fail for good")
			}
		})
	}
}

func TestDeleteWaitsForFinalizers(t *testing.T) {
	w := newWorld(t, allRights)
	pod := w.pod("cart-1", nil, cartLabels, func(pod *corev1.Pod) { pod.Finalizers = []string{"example.com/hold"} })
	request := w.request(w.incident("inc-1"), deleteStep(), pod)
	remove := do(t, "delete")
	w.expect("Apply", remove.Apply(t.Context(), request), v1alpha1.TargetApplied, "it waits for finalizers 'example.com/hold'")
	w.expect("Observe", remove.Observe(t.Context(), request), v1alpha1.TargetApplied)
	w.patch(pod, `{"metadata":{"finalizers":null}}`)
	w.expect("Observe", remove.Observe(t.Context(), request), v1alpha1.TargetSucceeded)
}

func TestDeleteNeverTouchesASuccessor(t *testing.T) {
	w := newWorld(t, allRights)
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), deleteStep(), pod)
	w.delete(pod)
	successor := w.pod("cart-1", nil, cartLabels)
	remove := do(t, "delete")
	w.expect("Plan", remove.Plan(t.Context(), request), v1alpha1.TargetGone, "came back under the same name")
	w.expect("Apply", remove.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "another one has its name now, and is not touched")
	w.get(successor)
	if successor.DeletionTimestamp != nil {
		t.Error("the successor is being deleted")
	}
}

func TestDeleteNamesTheMissingRight(t *testing.T) {
	w := newWorld(t, without(allRights, "delete", "pods"))
	request := w.request(w.incident("inc-1"), deleteStep(), w.pod("cart-1", nil, cartLabels))
	result := do(t, "delete").Apply(t.Context(), request)
	w.expect("Apply", result, v1alpha1.TargetFailed, w.user+" may not delete pods in namespace '"+w.shop+"'")
	if !result.Permanent {
		t.Error("a missing right must be a permanent failure")
	}
	request.Target.APIVersion, request.Target.Kind = "example.com/v1", "Nothing"
	result = do(t, "delete").Plan(t.Context(), request)
	w.expect("Plan of a kind that does not exist", result, v1alpha1.TargetFailed, "does not serve that")
	if !result.Permanent || strings.ContainsAny(result.Message, "\n\t") {
		t.Errorf("%+v: must be permanent and one line", result)
	}
}
