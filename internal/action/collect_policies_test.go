package action_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestCollectLeavesOutIsolationsOfOthers(t *testing.T) {
	w := newWorld(t, allRights)
	w.allow("team-web", byLabel("tier", "web"))
	pod, other := w.pod("cart-1", nil, cartLabels), w.pod("cart-2", nil, cartLabels)
	isolate := do(t, "isolate")
	own := w.request(w.incident("inc-1"), isolateStep(), pod)
	foreign := w.request(w.incident("inc-2"), isolateStep(), other)
	w.plan(own)
	w.expect("Apply", isolate.Apply(t.Context(), own), v1alpha1.TargetSucceeded)
	w.plan(foreign)
	w.expect("Apply to the other", isolate.Apply(t.Context(), foreign), v1alpha1.TargetSucceeded)

	recorder := w.recorder()
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{Events: v1alpha1.Exclude}), pod)
	request.Evidence = recorder
	w.expect("Apply of collect", do(t, "collect").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "kept: manifest")
	_, contents := w.kept(recorder)
	want := []string{"Pod/cart-1", "NetworkPolicy/" + w.record(own).Policy, "NetworkPolicy/team-web"}
	if diff := cmp.Diff(want, itemsOf(t, contents["Manifest"])); diff != "" {
		t.Errorf("objects in the manifest (-want +got):\n%s", diff)
	}
}
