package action_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// groupRights are what isolating workloads needs.
var groupRights = append([]rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
	{APIGroups: []string{"batch"}, Resources: []string{"jobs", "cronjobs"}, Verbs: []string{"get"}},
}, allRights...)

func groupStep(change ...func(*v1alpha1.IsolateAction)) *v1alpha1.PlaybookStep {
	step := isolateStep(change...)
	step.Target = v1alpha1.TargetWorkloads
	return step
}

// deployment makes a Deployment with a ReplicaSet and two pods.
func (w *world) deployment(change ...func(*appsv1.Deployment)) (*appsv1.Deployment, *appsv1.ReplicaSet) {
	w.Helper()
	selector := byLabel("app", "cart")
	made := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart"},
		Spec:       appsv1.DeploymentSpec{Selector: &selector, Template: template(map[string]string{"app": "cart", "tier": "web"})},
	}
	for _, one := range change {
		one(made)
	}
	w.create(made)
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart-7f9", OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(made, appsv1.SchemeGroupVersion.WithKind("Deployment"))}},
		Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "cart", "pod-template-hash": "7f9"}}, Template: template(cartLabels),
		},
	}
	w.create(set)
	for _, name := range []string{"cart-1", "cart-2"} {
		w.pod(name, set, cartLabels)
	}
	return made, set
}

func TestIsolateAWorkload(t *testing.T) {
	w := newWorld(t, groupRights)
	deployment, set := w.deployment()
	w.create(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "default-deny"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}},
	})
	w.allow("team-db", byLabel("app", "db"))
	request := w.request(w.incident("inc-1"), groupStep(), deployment)
	isolate := do(t, "isolate")
	w.plan(request)
	if count := len(w.policies()); count != 2 {
		t.Fatalf("Plan has written something: %d policies", count)
	}
	record := w.record(request)
	for _, try := range []string{"first", "repeated"} {
		result := isolate.Apply(t.Context(), request)
		w.expect(try+" Apply", result, v1alpha1.TargetSucceeded,
			"ingress and egress are cut by NetworkPolicy '"+record.Policy+"', for every pod of Deployment 'cart', also those to come")
		if result.Proof != v1alpha1.ProofComputed {
			t.Errorf("%s Apply: proof %q, want Computed", try, result.Proof)
		}
	}
	want := networkingv1.NetworkPolicySpec{PodSelector: byLabel("app", "cart"), PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}}
	if diff := cmp.Diff(want, w.policies()[record.Policy].Spec); diff != "" {
		t.Errorf("the isolating policy (-want +got):\n%s", diff)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart-1"}}
	w.get(pod)
	if diff := cmp.Diff(cartLabels, pod.Labels); diff != "" {
		t.Errorf("no pod of the workload must be written (-want +got):\n%s", diff)
	}
	w.pod("cart-3", set, cartLabels)
	w.expect("Observe with a pod that came later", isolate.Observe(t.Context(), request), v1alpha1.TargetSucceeded)

	own := w.policies()[record.Policy]
	w.patch(own, `{"spec":{"ingress":[{}]}}`)
	w.expect("Observe of an opened policy", isolate.Observe(t.Context(), request), v1alpha1.TargetFailed, "was changed at the same time")
	w.expect("Apply again", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.allow("team-web", byLabel("tier", "web"))
	w.expect("Observe with a policy that allows", isolate.Observe(t.Context(), request), v1alpha1.TargetFailed, "Deployment 'cart' is not isolated: NetworkPolicy 'team-web' selects its pods and allows ingress")
	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted, "the policy is removed")
	}
	if left := w.policies(); len(left) != 3 || left[record.Policy] != nil {
		t.Errorf("policies left behind: %v", left)
	}
}

func TestIsolateAWorkloadRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*appsv1.Deployment)
		with   func(*world, *appsv1.ReplicaSet)
		says   string
	}{
		"hostNetwork": {
			change: func(d *appsv1.Deployment) { d.Spec.Template.Spec.HostNetwork = true },
			says:   "its pods use the network of their nodes (`hostNetwork: true`)",
		},
		"a policy that allows": {
			with: func(w *world, _ *appsv1.ReplicaSet) { w.allow("team-web", byLabel("tier", "web")) },
			says: "NetworkPolicy 'team-web' selects its pods and allows ingress, and labels cannot be taken off a whole workload: isolate its pods (`target: Pods`)",
		},
		"a policy that allows only one of its pods": {
			with: func(w *world, set *appsv1.ReplicaSet) {
				w.pod("cart-odd", set, map[string]string{"app": "cart", "pod-template-hash": "7f9", "track": "canary"})
				w.allow("team-canary", byLabel("track", "canary"))
			},
			says: "NetworkPolicy 'team-canary' selects its pods",
		},
		"a pod of somebody else": {
			with: func(w *world, _ *appsv1.ReplicaSet) { w.pod("lonely", nil, map[string]string{"app": "cart"}) },
			says: "its selector also selects Pod 'lonely', which is not its own and would be cut too",
		},
		"a pod of another ReplicaSet": {
			with: func(w *world, _ *appsv1.ReplicaSet) {
				other := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "other"}, Spec: appsv1.ReplicaSetSpec{
					Selector: ptr.To(byLabel("app", "cart")), Template: template(cartLabels),
				}}
				w.create(other)
				w.pod("other-1", other, cartLabels)
			},
			says: "its selector also selects Pod 'other-1'",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, groupRights)
			change := test.change
			if change == nil {
				change = func(*appsv1.Deployment) {}
			}
			deployment, set := w.deployment(change)
			if test.with != nil {
				test.with(w, set)
			}
			result := do(t, "isolate").Plan(t.Context(), w.request(w.incident("inc-1"), groupStep(), deployment))
			w.expect("Plan", result, v1alpha1.TargetFailed, "Deployment 'cart' cannot be isolated: ", test.says)
			if !result.Permanent {
				t.Error("Plan: must be permanent: trying again cannot help")
			}
		})
	}
}

func TestIsolateKnowsItsKinds(t *testing.T) {
	w := newWorld(t, append([]rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}}}, groupRights...))
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "nightly"}, Spec: batchv1.CronJobSpec{Schedule: "@daily"}}
	cron.Spec.JobTemplate.Spec.Template = template(nil)
	cron.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "key"}}
	for _, object := range []client.Object{cron, secret} {
		w.create(object)
		w.expect("Plan", do(t, "isolate").Plan(t.Context(), w.request(w.incident("inc-1"), groupStep(), object)), v1alpha1.TargetFailed, "'isolate' acts on Pod, and on Deployment (apps/v1)")
	}

	daemons := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "agent"}, Spec: appsv1.DaemonSetSpec{
		Selector: ptr.To(byLabel("app", "agent")), Template: template(map[string]string{"app": "agent"}),
	}}
	w.create(daemons)
	w.pod("agent-1", daemons, map[string]string{"app": "agent"})
	request := w.request(w.incident("inc-1"), groupStep(), daemons)
	w.plan(request)
	w.expect("Apply", do(t, "isolate").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "DaemonSet 'agent'")
	w.delete(daemons)
	w.eventually("the DaemonSet to be gone", func(ctx context.Context) bool {
		return apierrors.IsNotFound(admin.Get(ctx, client.ObjectKeyFromObject(daemons), &appsv1.DaemonSet{}))
	})
	w.expect("Observe of a workload that is gone", do(t, "isolate").Observe(t.Context(), request), v1alpha1.TargetSucceeded, "does not exist any more")
	w.expect("Apply to a workload that is gone", do(t, "isolate").Apply(t.Context(), request), v1alpha1.TargetGone, "does not exist any more")
	if left := w.policies(); len(left) > 0 {
		t.Errorf("policies left behind: %v", left)
	}
}

func TestTwoIncidentsHoldOneWorkload(t *testing.T) {
	w := newWorld(t, groupRights)
	deployment, _ := w.deployment()
	isolate := do(t, "isolate")
	first := w.request(w.incident("inc-1"), groupStep(), deployment)
	second := w.request(w.incident("inc-2"), groupStep(), deployment)
	w.plan(first)
	w.expect("Apply of the first", isolate.Apply(t.Context(), first), v1alpha1.TargetSucceeded)
	w.plan(second)
	w.expect("Apply of the second", isolate.Apply(t.Context(), second), v1alpha1.TargetSucceeded)
	w.expect("Undo of the first", isolate.Undo(t.Context(), first), v1alpha1.TargetReverted)
	w.expect("Observe of the second", isolate.Observe(t.Context(), second), v1alpha1.TargetSucceeded)
	if left := w.policies(); len(left) != 1 || left[w.record(second).Policy] == nil {
		t.Errorf("policies %v, want the second's", left)
	}
}

func TestIsolateLeavesTheForensicWorkstationIn(t *testing.T) {
	w := newWorld(t, allRights)
	pod := w.pod("cart-1", nil, cartLabels)
	step := isolateStep(func(isolate *v1alpha1.IsolateAction) {
		isolate.Allow = v1alpha1.IsolateAllow{
			Ingress: []v1alpha1.AllowedTraffic{{CIDRs: []v1alpha1.CIDR{"192.0.2.0/28"}, Ports: []v1alpha1.AllowedPort{{Port: 22}, {Port: 8000, EndPort: 8080, Protocol: "UDP"}}}},
			Egress:  []v1alpha1.AllowedTraffic{{CIDRs: []v1alpha1.CIDR{"198.51.100.7/32"}}},
		}
	})
	isolate := do(t, "isolate")
	first := w.request(w.incident("inc-1"), step, pod)
	w.plan(first)
	w.expect("Apply", isolate.Apply(t.Context(), first), v1alpha1.TargetSucceeded, "(but for what `allow` leaves open)")
	own := w.policies()[w.record(first).Policy]
	if len(own.Spec.Ingress) != 1 || own.Spec.Ingress[0].From[0].IPBlock.CIDR != "192.0.2.0/28" || len(own.Spec.Ingress[0].Ports) != 2 ||
		own.Spec.Ingress[0].Ports[0].Port.IntVal != 22 || *own.Spec.Ingress[0].Ports[1].EndPort != 8080 ||
		len(own.Spec.Egress) != 1 || own.Spec.Egress[0].To[0].IPBlock.CIDR != "198.51.100.7/32" {
		t.Errorf("the isolating policy leaves open: %+v", own.Spec)
	}
	w.expect("Observe", isolate.Observe(t.Context(), first), v1alpha1.TargetSucceeded)

	// Another incident with the same playbook holds the pod too: what both leave open is no hole.
	second := w.request(w.incident("inc-2"), step, pod)
	w.plan(second)
	w.expect("Apply of the second", isolate.Apply(t.Context(), second), v1alpha1.TargetSucceeded)
	// One that leaves nothing open cannot take the first's label away, and says whose policy it is.
	third := w.request(w.incident("inc-3"), isolateStep(), pod)
	w.expect("Plan of the third", isolate.Plan(t.Context(), third), v1alpha1.TargetFailed,
		"incident 'inc-1' has isolated it with NetworkPolicy '"+w.record(first).Policy+"', which leaves open what this step would cut")

	w.patch(own, `{"spec":{"ingress":[]}}`)
	w.expect("Observe when the workstation was locked out", isolate.Observe(t.Context(), first), v1alpha1.TargetFailed, "was changed")
}
