package action_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

// missing carries an action through until a missing right ends it, and checks that the
// right is named.
func (w *world) missing(name string, request *action.Request, says string) {
	w.Helper()
	does := do(w.T, name)
	result := does.Plan(w.Context(), request)
	if result.State == v1alpha1.TargetActing {
		request.Target.Undo = result.Undo
		result = does.Apply(w.Context(), request)
	}
	if result.State == v1alpha1.TargetSucceeded {
		result = does.Undo(w.Context(), request)
	}
	w.expect("with a right missing", result, v1alpha1.TargetFailed, w.user+" "+strings.ReplaceAll(says, "SHOP", w.shop))
	if !result.Permanent {
		w.Error("a missing right must be a permanent failure")
	}
}

// rules are rights as RBAC has them: 'verb resource.group', sorted.
func rules(rights []action.Right) []string {
	var names []string
	for _, right := range rights {
		for _, verb := range right.Verbs {
			names = append(names, verb+" "+right.Resource+"."+right.Group)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// The rights that are documented are those the tests of the actions get along with.
func TestRightsAreThoseThatWereTried(t *testing.T) {
	apps := func(kinds ...string) []schema.GroupVersionKind {
		var all []schema.GroupVersionKind
		for _, kind := range kinds {
			all = append(all, appsv1.SchemeGroupVersion.WithKind(kind))
		}
		return all
	}
	node, pod := []schema.GroupVersionKind{{Version: "v1", Kind: "Node"}}, []schema.GroupVersionKind{{Version: "v1", Kind: "Pod"}}
	for name, test := range map[string]struct {
		step  *v1alpha1.PlaybookStep
		kinds []schema.GroupVersionKind
		tried []rbacv1.PolicyRule
		// more are rights for kinds that the tests do not use.
		more []string
	}{
		"cordon":   {step: cordonStep(), kinds: node, tried: nodeRights},
		"taint":    {step: taintStep(), kinds: node, tried: nodeRights},
		"drain":    {step: &v1alpha1.PlaybookStep{Drain: &v1alpha1.DrainAction{}}, kinds: node, tried: drainRights},
		"evict":    {step: evictStep(), kinds: pod, tried: evictRights},
		"scale":    {step: scaleStep(1), kinds: apps("Deployment", "StatefulSet", "ReplicaSet", "DaemonSet"), tried: scaleRights},
		"restart":  {step: restartStep(), kinds: apps("Deployment", "StatefulSet", "DaemonSet"), tried: rolloutRights[:1]},
		"rollback": {step: rollbackStep(0), kinds: apps("Deployment", "StatefulSet", "DaemonSet"), tried: rolloutRights},
		"quarantine": {step: quarantineStep(""), kinds: pod, tried: quarantineRights, more: []string{
			"get jobs.batch", "get replicationcontrollers.",
		}},
		"suspend": {step: suspendStep(), kinds: []schema.GroupVersionKind{
			{Group: "batch", Version: "v1", Kind: "CronJob"}, {Group: "batch", Version: "v1", Kind: "Job"}, {Group: "argoproj.io", Version: "v1alpha1", Kind: "Application"},
			{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"}, {Group: "helm.toolkit.fluxcd.io", Version: "v2", Kind: "HelmRelease"},
			{Group: "notification.toolkit.fluxcd.io", Version: "v1", Kind: "Oddity"},
		}, tried: suspendRights},
	} {
		t.Run(name, func(t *testing.T) {
			describer, ok := do(t, name).(action.Describer)
			if !ok {
				t.Fatal("it does not say what it does and which rights it takes")
			}
			var tried []string
			for _, rule := range test.tried {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						tried = append(tried, verb+" "+resource+"."+rule.APIGroups[0])
					}
				}
			}
			tried = append(tried, test.more...)
			slices.Sort(tried)
			if diff := cmp.Diff(tried, rules(describer.Rights(test.step, test.kinds))); diff != "" {
				t.Errorf("rights (-tried +documented):\n%s", diff)
			}
		})
	}
}

// A dry run ends as the real one would, and changes nothing.
func TestDryRun(t *testing.T) {
	w := newClusterWorld(t, slices.Concat(drainRights, evictRights, scaleRights, rolloutRights, quarantineRights, suspendRights))
	w.service("cart", "app", "cart")
	node := w.node("n1")
	pod := w.pod("cart-1", w.replicaSet(), cartLabels, func(pod *corev1.Pod) { pod.Spec.NodeName = node.Name })
	deployment := w.rollables()["Deployment"]
	w.history(deployment, "good:1", "bad:2")
	w.deploy(deployment, "bad:2")
	w.get(deployment)
	job := w.job("import")
	for name, test := range map[string]struct {
		step   *v1alpha1.PlaybookStep
		object client.Object
	}{
		"cordon": {cordonStep(), node}, "taint": {taintStep(), node},
		"drain": {&v1alpha1.PlaybookStep{Name: "drain", Drain: &v1alpha1.DrainAction{}}, node},
		"evict": {evictStep(), pod}, "quarantine": {quarantineStep(""), pod}, "suspend": {suspendStep(), job},
		"scale": {scaleStep(0), deployment}, "restart": {restartStep(), deployment}, "rollback": {rollbackStep(0), deployment},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.like()
			w.T = t
			request := w.request(w.incident("inc-1"), test.step, test.object)
			request.Client, request.DryRun = client.NewDryRunClient(w.client), true
			w.planned(name, request)
			w.expect("Apply", do(t, name).Apply(t.Context(), request), v1alpha1.TargetSucceeded)
			after := test.object.DeepCopyObject().(client.Object)
			w.get(after)
			if after.GetResourceVersion() != test.object.GetResourceVersion() {
				t.Error("something was written")
			}
		})
	}
}
