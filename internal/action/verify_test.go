package action_test

import (
	"context"
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

// evaluator answers and keeps the names of the objects it was asked about.
type evaluator struct {
	holds bool
	err   error
	names []string
}

func (e *evaluator) Verify(_ context.Context, _ string, objects []any, _ *v1alpha1.Incident) (bool, error) {
	e.names = nil
	for _, object := range objects {
		content, _ := object.(map[string]any)
		name, _, _ := unstructured.NestedString(content, "metadata", "name")
		e.names = append(e.names, name)
	}
	return e.holds, e.err
}

func TestVerify(t *testing.T) {
	w := newWorld(t, allRights)
	selector := byLabel("app", "cart")
	deployment := func() *appsv1.Deployment {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart"}, Spec: appsv1.DeploymentSpec{Selector: &selector, Template: template(cartLabels)}}
	}
	first := deployment()
	w.create(first)
	pod, replaced, lost := w.pod("cart-1", nil, cartLabels), w.pod("cart-2", nil, cartLabels), w.pod("cart-3", nil, cartLabels)
	step := &v1alpha1.PlaybookStep{Name: "healthy", Target: v1alpha1.TargetWorkloads, Verify: &v1alpha1.VerifyAction{Expression: "size(objects) > 0"}}
	request := w.request(w.incident("inc-1"), step, first)
	for _, one := range []*action.Request{w.request(request.Incident, step, pod), w.request(request.Incident, step, replaced), w.request(request.Incident, step, lost)} {
		request.Targets = append(request.Targets, one.Target)
	}
	w.delete(first)
	w.create(deployment())
	w.delete(replaced)
	w.pod("cart-2", nil, cartLabels)
	w.delete(lost)

	tests := map[string]struct {
		evaluator evaluator
		state     v1alpha1.TargetState
		says      string
	}{
		"holds":         {evaluator{holds: true}, v1alpha1.TargetSucceeded, "it holds for 2 of 4 objects (gone: Pod 'cart-2', Pod 'cart-3')"},
		"does not hold": {evaluator{}, v1alpha1.TargetApplied, "it does not hold for 2 of 4 objects"},
		"cannot tell":   {evaluator{err: errors.New("no such key: status\x1b[31m")}, v1alpha1.TargetFailed, "could not be evaluated for 2 of 4 objects (gone: Pod 'cart-2', Pod 'cart-3'): no such key: status\ufffd[31m"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			result := action.Verify(t.Context(), request, &test.evaluator)
			w.expect("Verify", result, test.state, test.says)
			if result.Permanent {
				t.Error("Verify must be tried again")
			}
			if diff := cmp.Diff([]string{"cart", "cart-1"}, test.evaluator.names); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("forbidden", func(t *testing.T) {
		request.Client = newWorld(t, without(allRights, "get", "deployments")).client
		result := action.Verify(t.Context(), request, &evaluator{})
		w.expect("Verify", result, v1alpha1.TargetFailed, "may not get deployments in namespace '"+w.shop+"'")
		if !result.Permanent {
			t.Error("a missing right must be a permanent failure")
		}
	})
}
