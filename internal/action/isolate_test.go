package action_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

func byLabel(key, value string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

var cartLabels = map[string]string{"app": "cart", "tier": "web", "pod-template-hash": "7f9"}

func template(labels map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "cart", Image: "registry.example/cart:1"}}},
	}
}

func (w *world) replicaSet() *appsv1.ReplicaSet {
	w.Helper()
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart-7f9"},
		Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "cart", "pod-template-hash": "7f9"}}, Template: template(cartLabels),
		},
	}
	w.create(set)
	return set
}

// plan plans and keeps the undo record, as the runner does before it applies.
func (w *world) plan(request *action.Request) lifecycle.Result {
	w.Helper()
	result := do(w.T, "isolate").Plan(w.Context(), request)
	w.expect("Plan", result, v1alpha1.TargetActing)
	if len(result.Undo) == 0 || len(result.Undo) > 4096 {
		w.Fatalf("undo record of %d bytes: must be from 1 to 4096", len(result.Undo))
	}
	request.Target.Undo = result.Undo
	return result
}

type undoRecord struct {
	Policy  string                      `json:"policy"`
	Label   struct{ Key, Value string } `json:"label"`
	Removed []struct {
		Key, Value string
		Workload   bool
	} `json:"removed"`
}

func (w *world) record(request *action.Request) undoRecord {
	w.Helper()
	record := undoRecord{}
	if err := json.Unmarshal([]byte(request.Target.Undo), &record); err != nil {
		w.Fatal(err)
	}
	return record
}

func TestIsolateAndUndo(t *testing.T) {
	w := newWorld(t, allRights)
	w.create(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "default-deny"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}},
	})
	w.allow("team-web", byLabel("tier", "web"))
	pod := w.pod("cart-1", w.replicaSet(), cartLabels)
	sibling := w.pod("cart-2", nil, cartLabels)
	request := w.request(w.incident("inc-1"), isolateStep(), pod)
	isolate := do(t, "isolate")
	before := w.policies()

	w.plan(request)
	unchanged := pod.DeepCopy()
	w.get(unchanged)
	if unchanged.ResourceVersion != pod.ResourceVersion || len(w.policies()) != 2 {
		t.Fatal("Plan has written something")
	}

	record := w.record(request)
	for _, try := range []string{"first", "repeated"} {
		result := isolate.Apply(t.Context(), request)
		w.expect(try+" Apply", result, v1alpha1.TargetSucceeded, "ingress and egress are cut by NetworkPolicy '"+record.Policy+"'", "label 'tier' taken off")
		if result.Proof != v1alpha1.ProofComputed {
			t.Errorf("%s Apply: proof %q, want Computed", try, result.Proof)
		}
	}
	w.expect("Observe", isolate.Observe(t.Context(), request), v1alpha1.TargetSucceeded)
	w.get(pod)
	if diff := cmp.Diff(map[string]string{"app": "cart", "pod-template-hash": "7f9", record.Label.Key: record.Label.Value}, pod.Labels); diff != "" {
		t.Errorf("labels of the pod (-want +got):\n%s", diff)
	}
	own := w.policies()[record.Policy]
	wantSpec := networkingv1.NetworkPolicySpec{PodSelector: byLabel(record.Label.Key, record.Label.Value), PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}}
	if diff := cmp.Diff(wantSpec, own.Spec); diff != "" {
		t.Errorf("the isolating policy (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"app.kubernetes.io/managed-by": "firebreak", "firebreak.dev/incident": "inc-1"}, own.Labels); diff != "" {
		t.Errorf("labels of the isolating policy (-want +got):\n%s", diff)
	}

	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted, "given back: label 'tier'")
	}
	w.get(pod)
	if diff := cmp.Diff(cartLabels, pod.Labels); diff != "" {
		t.Errorf("labels of the pod after Undo (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, w.policies()); diff != "" {
		t.Errorf("the teams' own policies must be left untouched (-want +got):\n%s", diff)
	}
	same := sibling.DeepCopy()
	w.get(same)
	if same.ResourceVersion != sibling.ResourceVersion {
		t.Error("a sibling of the pod was written")
	}
}

func TestIsolateTakesWorkloadLabelsOnlyWhenItMust(t *testing.T) {
	tests := map[string]struct {
		statefulSet bool
		readopt     v1alpha1.TrafficVerdict
		blind       bool
		says        string
		undoSays    string
		labels      map[string]string
	}{
		"a ReplicaSet replaces the pod": {
			says: "ReplicaSet 'cart-7f9' loses the pod and starts a clean one", undoSays: "not given back, because the workload would take the pod back",
			labels: map[string]string{"tier": "web", "pod-template-hash": "7f9"},
		},
		"readopted on demand":          {readopt: v1alpha1.TrafficAllow, says: "label 'app' taken off", undoSays: "given back: label 'app'", labels: cartLabels},
		"a StatefulSet cannot replace": {statefulSet: true, says: "StatefulSet 'cart' loses the pod and cannot replace it until it is deleted", undoSays: "not given back", labels: map[string]string{"tier": "web", "pod-template-hash": "7f9"}},
		"the workload may not be read": {blind: true, says: "label 'app' taken off", undoSays: "not given back", labels: map[string]string{"tier": "web", "pod-template-hash": "7f9"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			rights := allRights
			if test.blind {
				rights = without(rights, "get", "replicasets")
			}
			w := newWorld(t, rights)
			var owner client.Object = w.replicaSet()
			if test.statefulSet {
				selector := byLabel("app", "cart")
				owner = &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart"}, Spec: appsv1.StatefulSetSpec{Selector: &selector, Template: template(cartLabels)}}
				w.create(owner)
			}
			w.allow("team-cart", byLabel("app", "cart"))
			pod := w.pod("cart-1", owner, cartLabels)
			request := w.request(w.incident("inc-1"), isolateStep(func(isolate *v1alpha1.IsolateAction) { isolate.Readopt = test.readopt }), pod)
			isolate := do(t, "isolate")
			w.plan(request)
			if removed := w.record(request).Removed; len(removed) != 1 || removed[0].Key != "app" || removed[0].Value != "cart" || !removed[0].Workload {
				t.Errorf("recorded %+v, want the workload's label app=cart", removed)
			}
			w.expect("Apply", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded, test.says)
			w.expect("Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted, test.undoSays)
			w.get(pod)
			if diff := cmp.Diff(test.labels, pod.Labels); diff != "" {
				t.Errorf("labels after Undo (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIsolateRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*corev1.Pod)
		phase  corev1.PodPhase
		step   func(*v1alpha1.IsolateAction)
		with   func(*world)
		state  v1alpha1.TargetState
		says   string
	}{
		"hostNetwork": {
			change: func(pod *corev1.Pod) { pod.Spec.HostNetwork, pod.Spec.NodeName = true, "node-1" },
			state:  v1alpha1.TargetFailed, says: "uses the network of its node 'node-1' (`hostNetwork: true`), and no NetworkPolicy applies to such pods: delete the pod",
		},
		"has ended": {phase: corev1.PodSucceeded, state: v1alpha1.TargetGone, says: "has ended (Succeeded)"},
		"nothing is cut": {step: func(isolate *v1alpha1.IsolateAction) {
			isolate.Ingress, isolate.Egress = v1alpha1.TrafficAllow, v1alpha1.TrafficAllow
		}, state: v1alpha1.TargetFailed, says: "`isolate.ingress` or `isolate.egress` must be 'Deny'"},
		"every pod is allowed": {
			with:  func(w *world) { w.allow("allow-all", metav1.LabelSelector{}) },
			state: v1alpha1.TargetFailed, says: "Pod 'cart-1' cannot be isolated: NetworkPolicy 'allow-all' selects every pod of its namespace and allows ingress",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, allRights)
			change := test.change
			if change == nil {
				change = func(*corev1.Pod) {}
			}
			pod := w.pod("cart-1", nil, cartLabels, change)
			if test.phase != "" {
				pod.Status.Phase = test.phase
				if err := admin.Status().Update(t.Context(), pod); err != nil {
					t.Fatal(err)
				}
			}
			if test.with != nil {
				test.with(w)
			}
			step := isolateStep()
			if test.step != nil {
				test.step(step.Isolate)
			}
			result := do(t, "isolate").Plan(t.Context(), w.request(w.incident("inc-1"), step, pod))
			w.expect("Plan", result, test.state, test.says)
			if result.State == v1alpha1.TargetFailed && !result.Permanent {
				t.Error("Plan: must be permanent: trying again cannot help")
			}
		})
	}
}

func TestIsolateLeavesNameResolutionOpenOnDemand(t *testing.T) {
	w := newWorld(t, allRights)
	port, udp := intstr.FromInt32(53), corev1.ProtocolUDP
	w.create(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "allow-dns"},
		Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Egress"}, Egress: []networkingv1.NetworkPolicyEgressRule{{
			Ports: []networkingv1.NetworkPolicyPort{{Port: &port, Protocol: &udp}},
		}}},
	})
	pod := w.pod("cart-1", nil, cartLabels)
	closed := w.request(w.incident("inc-1"), isolateStep(), pod)
	w.expect("Plan with DNS cut", do(t, "isolate").Plan(t.Context(), closed), v1alpha1.TargetFailed, "'allow-dns'", "`dns: Allow` would accept that")

	request := w.request(w.incident("inc-1"), isolateStep(func(isolate *v1alpha1.IsolateAction) { isolate.DNS = v1alpha1.TrafficAllow }), pod)
	w.plan(request)
	w.expect("Apply", do(t, "isolate").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "(but for name resolution)")
	own := w.policies()[w.record(request).Policy]
	if len(own.Spec.Egress) != 1 || len(own.Spec.Egress[0].Ports) != 2 || own.Spec.Egress[0].Ports[0].Port.IntValue() != 53 {
		t.Errorf("egress of the isolating policy: %+v, want only port 53", own.Spec.Egress)
	}
}

func TestIsolateNeverTouchesAnotherPod(t *testing.T) {
	w := newWorld(t, allRights)
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), isolateStep(), pod)
	isolate := do(t, "isolate")
	w.plan(request)
	w.delete(pod)

	w.expect("Plan of a pod that is gone", isolate.Plan(t.Context(), request), v1alpha1.TargetGone, "does not exist any more")
	w.expect("Apply to a pod that is gone", isolate.Apply(t.Context(), request), v1alpha1.TargetGone, "does not exist any more")
	successor := w.pod("cart-1", nil, cartLabels)
	w.expect("Plan of another pod", isolate.Plan(t.Context(), request), v1alpha1.TargetGone, "came back under the same name")
	w.expect("Apply to another pod", isolate.Apply(t.Context(), request), v1alpha1.TargetGone, "came back under the same name")
	if left := w.policies(); len(left) > 0 {
		t.Errorf("policies left behind: %v", left)
	}
	w.expect("Undo of another pod", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted, "does not exist any more")
	same := successor.DeepCopy()
	w.get(same)
	if same.ResourceVersion != successor.ResourceVersion {
		t.Error("the pod that came after was written")
	}
}

func TestUndoWhenThePodIsGone(t *testing.T) {
	w := newWorld(t, allRights)
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), isolateStep(), pod)
	isolate := do(t, "isolate")
	w.plan(request)
	w.expect("Apply", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.delete(pod)
	for range 2 {
		w.expect("Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted, "its NetworkPolicy is removed")
	}
	if left := w.policies(); len(left) > 0 {
		t.Errorf("policies left behind: %v", left)
	}
	request.Target.Undo = ""
	w.expect("Undo without a record", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted, "nothing was done")
	request.Target.Undo = "{}"
	w.expect("Undo with a broken record", isolate.Undo(t.Context(), request), v1alpha1.TargetFailed, "names no NetworkPolicy")
}

func TestIsolatePlansAgainForPoliciesThatAppearMeanwhile(t *testing.T) {
	w := newWorld(t, allRights)
	w.allow("team-web", byLabel("tier", "web"))
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), isolateStep(), pod)
	isolate := do(t, "isolate")
	w.plan(request)
	w.allow("team-cart", byLabel("app", "cart"))
	w.expect("Apply", isolate.Apply(t.Context(), request), v1alpha1.TargetPending, "not isolated yet", "label 'app'")

	w.plan(request)
	if removed := w.record(request).Removed; len(removed) != 2 {
		t.Fatalf("recorded %+v, want what both tries take away", removed)
	}
	w.expect("Apply again", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)

	w.patch(pod, `{"metadata":{"labels":{"app":"cart"}}}`)
	w.expect("Observe after a label came back", isolate.Observe(t.Context(), request), v1alpha1.TargetFailed, "something has put back label 'app'")
	w.patch(pod, `{"metadata":{"labels":{"app":null}}}`)
	w.allow("allow-all", metav1.LabelSelector{})
	result := isolate.Apply(t.Context(), request)
	w.expect("Apply against a policy for every pod", result, v1alpha1.TargetFailed, "is not isolated: NetworkPolicy 'allow-all'")

	w.expect("Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted)
	w.get(pod)
	if diff := cmp.Diff(cartLabels, pod.Labels); diff != "" {
		t.Errorf("labels after Undo (-want +got):\n%s", diff)
	}
}

func TestIsolateHoldsAgainstTampering(t *testing.T) {
	w := newWorld(t, allRights)
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), isolateStep(), pod)
	isolate := do(t, "isolate")
	w.plan(request)
	record := w.record(request)
	w.expect("Apply", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)

	own := w.policies()[record.Policy]
	w.patch(own, `{"spec":{"ingress":[{}],"egress":[{}]}}`)
	w.expect("Observe of an opened policy", isolate.Observe(t.Context(), request), v1alpha1.TargetFailed, "was changed at the same time")
	w.expect("Apply again", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	if own = w.policies()[record.Policy]; len(own.Spec.Ingress) != 0 || len(own.Spec.Egress) != 0 {
		t.Errorf("the policy still allows: %+v", own.Spec)
	}
	w.patch(pod, `{"metadata":{"labels":{"`+record.Label.Key+`":null}}}`)
	w.expect("Observe without the label", isolate.Observe(t.Context(), request), v1alpha1.TargetFailed, "was taken off")
	w.expect("Apply again", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.delete(own)
	w.expect("Observe without the policy", isolate.Observe(t.Context(), request), v1alpha1.TargetFailed, "was deleted at the same time")
	w.expect("Apply again", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.expect("Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted)

	foreign := w.allow(record.Policy, byLabel("app", "other"))
	result := isolate.Plan(t.Context(), request)
	w.expect("Plan under a taken name", result, v1alpha1.TargetFailed, "the name of NetworkPolicy '"+record.Policy+"' is taken")
	w.expect("Undo under a taken name", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted)
	w.get(foreign)
}

func TestTwoIncidentsHoldOnePod(t *testing.T) {
	w := newWorld(t, allRights)
	w.allow("team-web", byLabel("tier", "web"))
	pod := w.pod("cart-1", nil, cartLabels)
	isolate := do(t, "isolate")
	first := w.request(w.incident("inc-1"), isolateStep(), pod)
	second := w.request(w.incident("inc-2"), isolateStep(), pod)
	for _, request := range []*action.Request{first, second} {
		w.plan(request)
		w.expect("Apply", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	}
	if count := len(w.policies()); count != 3 {
		t.Errorf("%d policies, want the team's and one of each incident", count)
	}
	w.expect("Undo of the first", isolate.Undo(t.Context(), first), v1alpha1.TargetReverted, "given back only later, because another isolation holds it: label 'tier'")
	w.expect("Observe of the second", isolate.Observe(t.Context(), second), v1alpha1.TargetSucceeded)
	w.expect("Undo of the second", isolate.Undo(t.Context(), second), v1alpha1.TargetReverted, "given back: label 'tier'")
	w.get(pod)
	if diff := cmp.Diff(cartLabels, pod.Labels); diff != "" {
		t.Errorf("labels at the end (-want +got):\n%s", diff)
	}
}

func TestUndoKeepsWhatOthersHaveSet(t *testing.T) {
	w := newWorld(t, allRights)
	w.allow("team-web", byLabel("tier", "web"))
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), isolateStep(), pod)
	isolate := do(t, "isolate")
	w.plan(request)
	w.expect("Apply", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.patch(pod, `{"metadata":{"labels":{"tier":"forensics","case":"42"}}}`)
	w.expect("Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted, "left as somebody has set it since: label 'tier'")
	w.get(pod)
	if diff := cmp.Diff(map[string]string{"app": "cart", "pod-template-hash": "7f9", "tier": "forensics", "case": "42"}, pod.Labels); diff != "" {
		t.Errorf("labels after Undo (-want +got):\n%s", diff)
	}
}

func TestIsolateNamesTheMissingRight(t *testing.T) {
	tests := map[string]struct{ verb, resource, at, says string }{
		"get pods":               {"get", "pods", "Plan", "may not get pods in namespace 'SHOP': grant it 'get' on 'pods' (API group '') there by a RoleBinding"},
		"list networkpolicies":   {"list", "networkpolicies", "Plan", "may not list networkpolicies in namespace 'SHOP': grant it 'list' on 'networkpolicies' (API group 'networking.k8s.io') there"},
		"patch networkpolicies":  {"patch", "networkpolicies", "Apply", "may not patch networkpolicies in namespace 'SHOP'"},
		"create networkpolicies": {"create", "networkpolicies", "Apply", "may not create networkpolicies in namespace 'SHOP'"},
		"patch pods":             {"patch", "pods", "Apply", "may not patch pods in namespace 'SHOP': grant it 'patch' on 'pods' (API group '') there by a RoleBinding"},
		"delete networkpolicies": {"delete", "networkpolicies", "Undo", "may not delete networkpolicies in namespace 'SHOP'"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, without(allRights, test.verb, test.resource))
			request := w.request(w.incident("inc-1"), isolateStep(), w.pod("cart-1", nil, cartLabels))
			isolate := do(t, "isolate")
			result := isolate.Plan(t.Context(), request)
			if test.at != "Plan" {
				w.expect("Plan", result, v1alpha1.TargetActing)
				request.Target.Undo = result.Undo
				result = isolate.Apply(t.Context(), request)
			}
			if test.at == "Undo" {
				w.expect("Apply", result, v1alpha1.TargetSucceeded)
				result = isolate.Undo(t.Context(), request)
			}
			w.expect(test.at, result, v1alpha1.TargetFailed, w.user+" "+strings.ReplaceAll(test.says, "SHOP", w.shop))
			if !result.Permanent {
				t.Error("a missing right must be a permanent failure")
			}
		})
	}
}

func TestIsolateSaysThatImpersonationIsNotAllowed(t *testing.T) {
	w := newWorld(t, allRights)
	request := w.request(w.incident("inc-1"), isolateStep(), w.pod("cart-1", nil, cartLabels))
	request.Client = w.impersonating(powerless(t), "contain")
	result := do(t, "isolate").Plan(t.Context(), request)
	w.expect("Plan", result, v1alpha1.TargetFailed, "Firebreak may not act as "+w.user, "'firebreak-impersonator'")
	if !result.Permanent {
		t.Error("it must be a permanent failure")
	}
}
