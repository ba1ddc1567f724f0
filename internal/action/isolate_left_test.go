package action_test

import (
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const offLabels = `{"metadata": {"labels": {"firebreak.dev/incident": null}}}`

const saysLeft = "does not carry the incident's labels any more and is not touched: delete it by hand"

// A policy that does not carry the incident's labels any more is not taken away, and Undo
// does not say that it was.
func TestIsolateUndoSaysWhatItLeaves(t *testing.T) {
	w := newWorld(t, groupRights)
	w.clusterPolicies(clusterPolicyCRD)
	deployment := w.cartDeployment("cart")
	for name, target := range map[string]client.Object{"pod": w.pod("alone", nil, map[string]string{"app": "alone"}), "workload": deployment} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			request := w.request(w.incident("inc-1"), isolateStep(useClusterPolicy), target)
			w.plan(request)
			w.expect("Apply", do(t, "isolate").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
			policy := w.record(request).Policy
			own, ofCluster := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: policy}}, w.clusterPolicy(policy)
			w.patch(own, offLabels)
			w.patch(ofCluster, offLabels)
			result := do(t, "isolate").Undo(t.Context(), request)
			w.expect("Undo", result, v1alpha1.TargetReverted, "NetworkPolicy '"+policy+"' "+saysLeft, "ClusterNetworkPolicy '"+policy+"' "+saysLeft)
			if strings.Contains(result.Message, "has its network back") {
				t.Errorf("message %q says what is not so", result.Message)
			}
			w.get(own)
			if w.clusterPolicy(policy) == nil {
				t.Error("what does not carry the labels must stay")
			}
			w.delete(own)
			w.delete(ofCluster)
			w.expect("Undo when nothing is left", do(t, "isolate").Undo(t.Context(), request), v1alpha1.TargetReverted, "removed")
		})
	}
}
