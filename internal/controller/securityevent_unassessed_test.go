package controller

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// awaitUnassessed waits until so many live events are counted that nobody assesses, by severity.
func awaitUnassessed(t *testing.T, events *SecurityEventReconciler, want map[[2]string]int) {
	t.Helper()
	eventually(t, func(context.Context) string { return cmp.Diff(want, events.unseen.counts()) })
}

// TestNamespaceThatIsNoDomainAnyMore: what is in it says so, and what nobody assesses is counted
// until somebody does.
func TestNamespaceThatIsNoDomainAnyMore(t *testing.T) {
	namespace := newDomain(t)
	var events *SecurityEventReconciler
	startAssessor(t, namespace, nil, func(r *SecurityEventReconciler) { events = r })
	policy := shellPolicy(namespace)
	mustCreate(t, policy)
	awaitReady(t, policy, metav1.ConditionTrue, "2 rules are in force")

	labelDomain(t, namespace, "null")
	awaitReady(t, policy, metav1.ConditionFalse, "is not a response domain")
	for i, mode := range []v1alpha1.Mode{v1alpha1.ModeLive, v1alpha1.ModeLive, v1alpha1.ModeDrill} {
		event := shellEvent(namespace, fmt.Sprintf("event-%d", i), "cart-1")
		event.Spec.Severity, event.Spec.Mode = v1alpha1.SeverityCritical, mode
		mustCreate(t, event)
		eventually(t, func(ctx context.Context) string {
			if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), event); err != nil {
				return err.Error()
			}
			condition := meta.FindStatusCondition(event.Status.Conditions, v1alpha1.ConditionAssessed)
			if condition == nil || condition.Reason != v1alpha1.ReasonNotADomain {
				return fmt.Sprintf("Assessed is %+v", condition)
			}
			return ""
		})
	}
	awaitUnassessed(t, events, map[[2]string]int{{namespace, "Critical"}: 2})
	gone := &v1alpha1.SecurityEvent{ObjectMeta: metav1.ObjectMeta{Name: "event-0", Namespace: namespace}}
	if err := testClient.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	awaitUnassessed(t, events, map[[2]string]int{{namespace, "Critical"}: 1})
	labelDomain(t, namespace, `""`)
	awaitReady(t, policy, metav1.ConditionTrue, "2 rules are in force")
	awaitUnassessed(t, events, map[[2]string]int{})
	wantTold(t, policy)
}
