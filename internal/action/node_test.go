package action_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

// nodeRights are what cordon and taint need, drainRights what drain needs.
var (
	nodeRights  = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "patch"}}}
	drainRights = append(nodeRights[:1:1],
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/eviction"}, Verbs: []string{"create"}},
		rbacv1.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"daemonsets"}, Verbs: []string{"get"}},
	)
)

// newClusterWorld is a world whose ServiceAccount has rights in the whole cluster.
func newClusterWorld(t *testing.T, rights []rbacv1.PolicyRule) *world {
	t.Helper()
	w := newWorld(t, nil)
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: w.domain},
		Rules:      append(rights[:len(rights):len(rights)], rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"persistentvolumes"}, Verbs: []string{"list"}}),
	}
	w.create(role)
	w.create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: w.domain},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.domain, Name: "contain"}},
	})
	w.eventually("the rights of the ServiceAccount in the cluster", func(ctx context.Context) bool {
		return w.client.List(ctx, &corev1.PersistentVolumeList{}) == nil
	})
	return w
}

func (w *world) node(name string, change ...func(*corev1.Node)) *corev1.Node {
	w.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.shop + "-" + name}}
	for _, one := range change {
		one(node)
	}
	w.create(node)
	// Without a controller manager nobody takes off the taint of nodes that are not ready.
	w.patch(node, `{"spec":{"taints":null}}`)
	for _, one := range change {
		one(node)
	}
	if err := admin.Update(w.Context(), node); err != nil {
		w.Fatal(err)
	}
	return node
}

// planned plans an action, and keeps the undo record as the runner does.
func (w *world) planned(name string, request *action.Request) {
	w.Helper()
	before := request.Target
	result := do(w.T, name).Plan(w.Context(), request)
	w.expect("Plan", result, v1alpha1.TargetActing)
	if len(result.Undo) > 4096 {
		w.Fatalf("undo record of %d bytes: must be at most 4096", len(result.Undo))
	}
	request.Target = before
	if result.Undo != "" {
		request.Target.Undo = result.Undo
	}
}

// applied plans and applies an action, twice as after a crash.
func (w *world) applied(name string, request *action.Request, says ...string) {
	w.Helper()
	w.planned(name, request)
	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Apply", do(w.T, name).Apply(w.Context(), request), v1alpha1.TargetSucceeded, says...)
	}
	request.Target.State = v1alpha1.TargetSucceeded
	w.expect("Observe", do(w.T, name).Observe(w.Context(), request), v1alpha1.TargetSucceeded)
}

// madeAgain makes an effect again that was taken away, as the runner does.
func (w *world) madeAgain(name string, request *action.Request) {
	w.Helper()
	request.Target.Losses++
	request.Target.State = v1alpha1.TargetPending
	w.planned(name, request)
	w.expect("Apply of what was lost", do(w.T, name).Apply(w.Context(), request), v1alpha1.TargetSucceeded)
	request.Target.State = v1alpha1.TargetSucceeded
	w.expect("Observe of what was made again", do(w.T, name).Observe(w.Context(), request), v1alpha1.TargetSucceeded)
}

// undone undoes an action, twice as after a crash.
func (w *world) undone(name string, request *action.Request, says ...string) {
	w.Helper()
	w.expect("Undo", do(w.T, name).Undo(w.Context(), request), v1alpha1.TargetReverted, says...)
	w.expect("repeated Undo", do(w.T, name).Undo(w.Context(), request), v1alpha1.TargetReverted)
}

// bare is what matters of an object: all but what every write changes.
func bare[T client.Object](object T) T {
	object = object.DeepCopyObject().(T)
	object.SetManagedFields(nil)
	object.SetResourceVersion("")
	object.SetGeneration(0)
	if len(object.GetAnnotations()) == 0 {
		object.SetAnnotations(nil)
	}
	return object
}

func cordonStep() *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "keep-off", Target: v1alpha1.TargetNodes, Cordon: &v1alpha1.CordonAction{}}
}

func taintStep(change ...func(*v1alpha1.TaintAction)) *v1alpha1.PlaybookStep {
	step := &v1alpha1.PlaybookStep{Name: "expel", Target: v1alpha1.TargetNodes, Taint: &v1alpha1.TaintAction{}}
	for _, one := range change {
		one(step.Taint)
	}
	return step
}

// nodeStep is a step on a node, and what it changes.
type nodeStep struct {
	action string
	step   *v1alpha1.PlaybookStep
	// lose takes the effect away as somebody else would, put makes it.
	lose, put string
	effect    func(*corev1.Node) bool
}

var nodeSteps = []nodeStep{
	{"cordon", cordonStep(), `{"spec":{"unschedulable":null}}`, `{"spec":{"unschedulable":true}}`, func(node *corev1.Node) bool { return node.Spec.Unschedulable }},
	{"taint", taintStep(), `{"spec":{"taints":[{"key":"team","effect":"NoSchedule"}]}}`, `{"spec":{"taints":[{"key":"firebreak.dev/incident","effect":"NoSchedule"}]}}`, func(node *corev1.Node) bool {
		for _, taint := range node.Spec.Taints {
			if taint.Key == "firebreak.dev/incident" && taint.Effect == corev1.TaintEffectNoSchedule {
				return true
			}
		}
		return false
	}},
}

func TestHoldNode(t *testing.T) {
	w := newClusterWorld(t, nodeRights)
	team := func(node *corev1.Node) {
		node.Spec.Taints = []corev1.Taint{{Key: "team", Value: "shop", Effect: corev1.TaintEffectNoExecute}}
	}
	for _, test := range nodeSteps {
		t.Run(test.action, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			node := w.node(test.action, team)
			before := bare(node)
			request := w.request(w.incident("inc-1"), test.step, node)
			w.planned(test.action, request)
			w.get(node)
			if diff := cmp.Diff(before, bare(node)); diff != "" {
				t.Errorf("Plan has written (-before +after):\n%s", diff)
			}
			w.applied(test.action, request)
			if w.get(node); !test.effect(node) {
				t.Fatalf("the node is %+v", node.Spec)
			}
			w.patch(node, test.lose)
			w.expect("Observe after it was lost", do(t, test.action).Observe(t.Context(), request), v1alpha1.TargetFailed, "something has changed what was done")
			w.madeAgain(test.action, request)
			w.patch(node, `{"metadata":{"annotations":null},"spec":{"unschedulable":null,"taints":[{"key":"team","value":"shop","effect":"NoExecute"}]}}`)
			w.madeAgain(test.action, request)
			w.patch(node, `{"metadata":{"annotations":null}}`)
			w.expect("Observe without its mark", do(t, test.action).Observe(t.Context(), request), v1alpha1.TargetFailed, "something has taken away the annotation")
			w.madeAgain(test.action, request)
			w.undone(test.action, request)
			w.get(node)
			if diff := cmp.Diff(before, bare(node)); diff != "" {
				t.Errorf("after Undo (-before +after):\n%s", diff)
			}
			w.patch(node, test.put)
			w.expect("Undo of what somebody else has done since", do(t, test.action).Undo(t.Context(), request), v1alpha1.TargetReverted, "left as it is")
			if w.get(node); !test.effect(node) {
				t.Error("Undo has taken away what somebody else has done")
			}
		})
	}
}

func TestHoldNodeThatWasSoBefore(t *testing.T) {
	w := newClusterWorld(t, nodeRights)
	for _, test := range nodeSteps {
		t.Run(test.action, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			node := w.node(test.action)
			w.patch(node, test.put)
			before := bare(node)
			request := w.request(w.incident("inc-1"), test.step, node)
			w.applied(test.action, request)
			w.undone(test.action, request, "it was so before")
			w.get(node)
			if diff := cmp.Diff(before, bare(node)); diff != "" {
				t.Errorf("after Undo (-before +after):\n%s", diff)
			}
		})
	}
}

func TestTwoIncidentsHoldOneNode(t *testing.T) {
	w := newClusterWorld(t, nodeRights)
	for _, test := range nodeSteps {
		for name, order := range map[string][2]int{"first goes first": {0, 1}, "last goes first": {1, 0}} {
			t.Run(test.action+", "+name, func(t *testing.T) {
				w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
				node := w.node(strings.ReplaceAll(test.action+"-"+name, " ", "-"))
				before := bare(node)
				requests := []*action.Request{w.request(w.incident("inc-1"), test.step, node), w.request(w.incident("inc-2"), test.step, node)}
				for _, request := range requests {
					w.applied(test.action, request)
				}
				first, second := requests[order[0]], requests[order[1]]
				w.undone(test.action, first, "stays as it is: incident '"+w.domain+"/"+second.Incident.Name+"' holds it too")
				if w.get(node); !test.effect(node) {
					t.Fatal("the first undo has taken away what the second incident needs")
				}
				w.expect("Observe of the second", do(t, test.action).Observe(t.Context(), second), v1alpha1.TargetSucceeded)
				w.undone(test.action, second)
				w.get(node)
				if diff := cmp.Diff(before, bare(node)); diff != "" {
					t.Errorf("after both Undos (-before +after):\n%s", diff)
				}
			})
		}
	}
}

func TestTaintsOfOneKeyWithOtherValues(t *testing.T) {
	w := newClusterWorld(t, nodeRights)
	node := w.node("n1", func(node *corev1.Node) {
		node.Spec.Taints = []corev1.Taint{{Key: "case", Value: "old", Effect: corev1.TaintEffectNoExecute}, {Key: "case", Value: "kept", Effect: corev1.TaintEffectNoSchedule}}
	})
	before := bare(node)
	step := func(value string) *v1alpha1.PlaybookStep {
		return taintStep(func(taint *v1alpha1.TaintAction) {
			taint.Key, taint.Value, taint.Effect = "case", value, "NoExecute"
		})
	}
	first, second := w.request(w.incident("inc-1"), step("one"), node), w.request(w.incident("inc-2"), step("two"), node)
	w.applied("taint", first)
	w.applied("taint", second)
	w.expect("Observe of the first", do(t, "taint").Observe(t.Context(), first), v1alpha1.TargetSucceeded)
	w.undone("taint", first)
	w.expect("Observe of the second", do(t, "taint").Observe(t.Context(), second), v1alpha1.TargetSucceeded)
	w.get(node)
	if got := node.Spec.Taints[len(node.Spec.Taints)-1]; got.Value != "two" {
		t.Errorf("the taint is %+v, want what the second incident wants", got)
	}
	w.undone("taint", second)
	w.get(node)
	values := map[string]string{}
	for _, taint := range node.Spec.Taints {
		values[taint.Key+":"+string(taint.Effect)] = taint.Value
	}
	if diff := cmp.Diff(map[string]string{"case:NoExecute": "old", "case:NoSchedule": "kept"}, values); diff != "" || len(before.Spec.Taints) != len(node.Spec.Taints) {
		t.Errorf("taints at the end (-want +got):\n%s", diff)
	}
}

func TestForgedMarksLetNothingGo(t *testing.T) {
	w := newClusterWorld(t, nodeRights)
	forged := `{"metadata":{"annotations":{
		"cordon.firebreak.dev/0": "{\"incident\":\"x/y\",\"want\":null,\"before\":true}",
		"taint.firebreak.dev/0": "{\"incident\":\"x/y\",\"of\":\"firebreak.dev/incident:NoSchedule\",\"want\":null,\"before\":\"` + strings.Repeat("x", 5000) + `\"}",
		"taint.firebreak.dev/1": "nonsense"}}}`
	for _, test := range nodeSteps {
		t.Run(test.action, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			node := w.node(test.action)
			w.patch(node, forged)
			request := w.request(w.incident("inc-1"), test.step, node)
			w.applied(test.action, request)
			if w.get(node); !test.effect(node) {
				t.Errorf("a forged mark has prevented it: %+v", node.Spec)
			}
			w.undone(test.action, request)
		})
	}
}

func TestNodeGoneOrReplaced(t *testing.T) {
	w := newClusterWorld(t, drainRights)
	drain := &v1alpha1.PlaybookStep{Name: "drain", Target: v1alpha1.TargetNodes, Drain: &v1alpha1.DrainAction{}}
	for _, test := range append(nodeSteps[:2:2], nodeStep{action: "drain", step: drain}) {
		t.Run(test.action, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			node := w.node(test.action)
			request := w.request(w.incident("inc-1"), test.step, node)
			does := do(t, test.action)
			w.applied(test.action, request)
			w.delete(node)
			for what, says := range map[string]string{"gone": "does not exist any more", "replaced": "another one came back under the same name"} {
				successor := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}
				if what == "replaced" {
					w.create(successor)
				}
				w.expect(what+": Plan", does.Plan(t.Context(), request), v1alpha1.TargetGone, says)
				w.expect(what+": Apply", does.Apply(t.Context(), request), v1alpha1.TargetGone, says)
				w.expect(what+": Observe", does.Observe(t.Context(), request), v1alpha1.TargetGone, says)
				w.expect(what+": Undo", does.Undo(t.Context(), request), v1alpha1.TargetReverted, says)
				if what == "replaced" {
					same := successor.DeepCopy()
					if w.get(same); same.ResourceVersion != successor.ResourceVersion {
						t.Error("the node that came after was written")
					}
				}
				if err := admin.Delete(t.Context(), successor); client.IgnoreNotFound(err) != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestNodeActionsNameTheMissingRight(t *testing.T) {
	drain := &v1alpha1.PlaybookStep{Name: "drain", Target: v1alpha1.TargetNodes, Drain: &v1alpha1.DrainAction{UnmanagedPods: v1alpha1.UnmanagedDelete}}
	tests := map[string]struct {
		action, verb, resource, says string
		step                         *v1alpha1.PlaybookStep
	}{
		"cordon, get nodes":    {"cordon", "get", "nodes", "may not get nodes: grant it 'get' on 'nodes' (API group '') by a ClusterRole and a ClusterRoleBinding", cordonStep()},
		"cordon, patch nodes":  {"cordon", "patch", "nodes", "may not patch nodes: grant it 'patch' on 'nodes'", cordonStep()},
		"taint, patch nodes":   {"taint", "patch", "nodes", "may not patch nodes: grant it 'patch' on 'nodes'", taintStep()},
		"drain, list pods":     {"drain", "list", "pods", "may not list pods: grant it 'list' on 'pods'", drain},
		"drain, evict pods":    {"drain", "create", "pods/eviction", "may not create pods/eviction in namespace", drain},
		"drain, get daemonset": {"drain", "get", "daemonsets", "may not get daemonsets in namespace", drain},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newClusterWorld(t, without(drainRights, test.verb, test.resource))
			node := w.node("n1")
			owner := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "agent", UID: "1"}}
			w.pod("agent-1", owner, cartLabels, func(pod *corev1.Pod) { pod.Spec.NodeName = node.Name })
			request := w.request(w.incident("inc-1"), test.step, node)
			result := do(t, test.action).Plan(t.Context(), request)
			if test.verb != "get" || test.resource != "nodes" {
				w.expect("Plan", result, v1alpha1.TargetActing)
				request.Target.Undo = result.Undo
				result = do(t, test.action).Apply(t.Context(), request)
			}
			w.expect("with a right missing", result, v1alpha1.TargetFailed, w.user+" "+test.says)
			if !result.Permanent {
				t.Error("a missing right must be a permanent failure")
			}
		})
	}
}

func TestDrain(t *testing.T) {
	w := newClusterWorld(t, drainRights)
	node := w.node("n1")
	here := func(pod *corev1.Pod) { pod.Spec.NodeName = node.Name }
	selector := byLabel("app", "agent")
	agent := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "agent"}, Spec: appsv1.DaemonSetSpec{Selector: &selector, Template: template(map[string]string{"app": "agent"})}}
	w.create(agent)
	set := w.replicaSet()
	managed := w.pod("cart-1", set, cartLabels, here)
	stays := map[string]*corev1.Pod{
		"of a DaemonSet": w.pod("agent-1", agent, map[string]string{"app": "agent"}, here),
		"elsewhere":      w.pod("cart-2", set, cartLabels),
		"static": w.pod("static-1", nil, nil, here, func(pod *corev1.Pod) {
			pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(node, corev1.SchemeGroupVersion.WithKind("Node"))}
		}),
	}
	forger := w.pod("forger", agent, map[string]string{"app": "miner"}, here)
	other := agent.DeepCopy()
	other.UID = "another"
	impostor := w.pod("impostor", other, map[string]string{"app": "agent"}, here)
	alone := w.pod("alone", nil, cartLabels, here)
	data := w.pod("data", set, cartLabels, here, func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	})
	protected := w.pod("protected", set, cartLabels, here)

	step := &v1alpha1.PlaybookStep{Name: "drain", Target: v1alpha1.TargetNodes, Drain: &v1alpha1.DrainAction{}}
	request := w.request(w.incident("inc-1"), step, node)
	request.Protected = func(context.Context, string) (string, error) { return "", nil }
	drain := do(t, "drain")
	w.planned("drain", request)
	w.expect("Apply", drain.Apply(t.Context(), request), v1alpha1.TargetApplied, "are ending", "stay: ", "alone (nothing would start it anew)", "data (it has data in an emptyDir)")
	result := drain.Observe(t.Context(), request)
	w.expect("Observe", result, v1alpha1.TargetApplied, "are ending")
	for _, pod := range []*corev1.Pod{managed, forger, impostor, protected} {
		w.endPod(pod)
	}
	result = drain.Observe(t.Context(), request)
	w.expect("Observe with UnmanagedPods Keep", result, v1alpha1.TargetFailed, "is drained but for 2 pods")
	if !result.Permanent {
		t.Error("it must be permanent: the pods stay")
	}
	if w.get(node); !node.Spec.Unschedulable {
		t.Error("the node is not cordoned")
	}

	step.Drain.UnmanagedPods = v1alpha1.UnmanagedDelete
	request.Protected = func(context.Context, string) (string, error) { return "namespace " + w.shop + " is protected", nil }
	result = drain.Apply(t.Context(), request)
	w.expect("Apply in a protected namespace", result, v1alpha1.TargetFailed, "is drained but for 2 pods", "is protected")
	request.Protected = nil
	w.expect("Apply with UnmanagedPods Delete", drain.Apply(t.Context(), request), v1alpha1.TargetApplied)
	w.endPod(alone)
	w.endPod(data)
	w.expect("Observe", drain.Observe(t.Context(), request), v1alpha1.TargetSucceeded, "is drained: only pods of DaemonSets and static pods are left")
	for what, pod := range stays {
		if w.get(pod); pod.DeletionTimestamp != nil {
			t.Errorf("the pod that is %s was evicted", what)
		}
	}
	w.undone("drain", request, "takes new pods again", "what was evicted does not come back")
	if w.get(node); node.Spec.Unschedulable {
		t.Error("the node is still cordoned")
	}
}

// endPod ends a pod that is being deleted, as its kubelet would.
func (w *world) endPod(pod *corev1.Pod) {
	w.Helper()
	if err := admin.Get(w.Context(), client.ObjectKeyFromObject(pod), pod); apierrors.IsNotFound(err) {
		return
	}
	if pod.DeletionTimestamp == nil {
		w.Fatalf("pod %s is not being deleted", pod.Name)
	}
	if err := admin.Delete(w.Context(), pod, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
		w.Fatal(err)
	}
}

// budget makes a PodDisruptionBudget that allows no disruption, or as many as allowed.
func (w *world) budget(selector metav1.LabelSelector, allowed int32) *policyv1.PodDisruptionBudget {
	w.Helper()
	zero := intstr.FromInt32(0)
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart"}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: &selector, MaxUnavailable: &zero},
	}
	w.create(budget)
	w.allowDisruptions(budget, allowed)
	return budget
}

func (w *world) allowDisruptions(budget *policyv1.PodDisruptionBudget, allowed int32) {
	w.Helper()
	w.get(budget)
	budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation, DisruptionsAllowed: allowed, CurrentHealthy: 1, DesiredHealthy: 1, ExpectedPods: 1}
	if err := admin.Status().Update(w.Context(), budget); err != nil {
		w.Fatal(err)
	}
}

func (w *world) ready(pod *corev1.Pod) {
	w.Helper()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if err := admin.Status().Update(w.Context(), pod); err != nil {
		w.Fatal(err)
	}
}

func TestDrainWaitsForDisruptionBudgets(t *testing.T) {
	w := newClusterWorld(t, drainRights)
	node := w.node("n1")
	pod := w.pod("cart-1", w.replicaSet(), cartLabels, func(pod *corev1.Pod) { pod.Spec.NodeName = node.Name })
	w.ready(pod)
	budget := w.budget(byLabel("app", "cart"), 0)
	step := &v1alpha1.PlaybookStep{Name: "drain", Target: v1alpha1.TargetNodes, Drain: &v1alpha1.DrainAction{GracePeriodSeconds: ptr.To[int64](0)}}
	request := w.request(w.incident("inc-1"), step, node)
	drain := do(t, "drain")
	w.planned("drain", request)
	result := drain.Apply(t.Context(), request)
	w.expect("Apply", result, v1alpha1.TargetApplied, "1 pods of Node", "cannot be evicted yet", "cart-1")
	if result.After <= 0 {
		t.Error("it must say when to look again")
	}
	w.expect("Observe", drain.Observe(t.Context(), request), v1alpha1.TargetApplied, "cannot be evicted yet")
	w.allowDisruptions(budget, 1)
	w.expect("Observe once it is allowed", drain.Observe(t.Context(), request), v1alpha1.TargetApplied, "are ending")
	w.expect("Observe at the end", drain.Observe(t.Context(), request), v1alpha1.TargetSucceeded)
}
