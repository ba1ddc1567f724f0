package action_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestIsolateWithForgedOwner: whoever creates a pod may name an owner that cannot exist. That
// keeps nobody from isolating it.
func TestIsolateWithForgedOwner(t *testing.T) {
	w := newWorld(t, allRights)
	w.allow("team-web", byLabel("tier", "web"))
	for name, owner := range map[string]string{"slash": "tenant/cart", "dots": "..", "percent": "a%b"} {
		pod := w.pod(name, nil, cartLabels, func(pod *corev1.Pod) {
			pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: "x", Controller: ptr.To(true)}}
		})
		request := w.request(w.incident("inc-"+name), isolateStep(), pod)
		w.plan(request)
		w.expect("Apply", do(t, "isolate").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "label 'tier' taken off")
	}
}
