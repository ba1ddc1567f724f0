package action_test

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestDryRunsLeaveEverything(t *testing.T) {
	w := newWorld(t, groupRights)
	deployment, _ := w.deployment()
	w.allow("team-web", byLabel("track", "canary"))
	pod := w.pod("lone", nil, map[string]string{"app": "other", "track": "canary"})
	isolate := do(t, "isolate")

	onPod := w.request(w.incident("inc-1"), isolateStep(), pod)
	onPod.Client, onPod.DryRun = client.NewDryRunClient(w.client), true
	w.plan(onPod)
	result := isolate.Apply(t.Context(), onPod)
	w.expect("Apply to a pod", result, v1alpha1.TargetSucceeded, "would be cut by NetworkPolicy", "label 'track' taken off")
	if result.Proof != "" {
		t.Errorf("a dry run proves nothing, but it says %q", result.Proof)
	}
	w.expect("Observe of a pod", isolate.Observe(t.Context(), onPod), v1alpha1.TargetSucceeded, "it was a dry run")

	onAll := w.request(w.incident("inc-1"), groupStep(), deployment)
	onAll.Client, onAll.DryRun = client.NewDryRunClient(w.client), true
	w.plan(onAll)
	w.expect("Apply to a workload", isolate.Apply(t.Context(), onAll), v1alpha1.TargetSucceeded, "would be cut by NetworkPolicy", "for every pod of Deployment 'cart'")

	destroy := w.request(w.incident("inc-1"), &v1alpha1.PlaybookStep{Name: "kill", Delete: &v1alpha1.DeleteAction{}}, pod)
	destroy.Client, destroy.DryRun = client.NewDryRunClient(w.client), true
	w.expect("Apply of delete", do(t, "delete").Apply(t.Context(), destroy), v1alpha1.TargetSucceeded, "Pod 'lone' would be deleted")

	same := pod.DeepCopy()
	w.get(same)
	if same.ResourceVersion != pod.ResourceVersion || len(w.policies()) != 1 {
		t.Errorf("a dry run has written something: the pod is at %s (was at %s), and there are %d policies", same.ResourceVersion, pod.ResourceVersion, len(w.policies()))
	}
}
