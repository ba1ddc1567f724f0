package action_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

var quarantineRights = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "patch"}},
	{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"list"}},
	{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"}, Verbs: []string{"list"}},
	{APIGroups: []string{"apps"}, Resources: []string{"replicasets", "statefulsets", "daemonsets"}, Verbs: []string{"get"}},
}

func quarantineStep(readopt v1alpha1.TrafficVerdict) *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "quarantine", Target: v1alpha1.TargetPods, Quarantine: &v1alpha1.QuarantineAction{Readopt: readopt}}
}

// service makes a Service that selects by one label.
func (w *world) service(name, key, value string) *corev1.Service {
	w.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{key: value}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	w.create(service)
	return service
}

// labelled gives the labels of a pod but for the mark of a quarantine, and says whether it has one.
func (w *world) labelled(pod *corev1.Pod) (labels map[string]string, marked bool) {
	w.Helper()
	w.get(pod)
	labels = maps.Clone(pod.Labels)
	maps.DeleteFunc(labels, func(key, _ string) bool {
		own := strings.HasPrefix(key, "quarantine.firebreak.dev/")
		marked = marked || own
		return own
	})
	return labels, marked
}

func (w *world) hasLabels(what string, pod *corev1.Pod, marked bool, want map[string]string) {
	w.Helper()
	labels, isMarked := w.labelled(pod)
	if diff := cmp.Diff(want, labels); diff != "" || marked != isMarked {
		w.Errorf("%s: marked %t, want %t; labels (-want +got):\n%s", what, isMarked, marked, diff)
	}
}

func TestQuarantine(t *testing.T) {
	for name, test := range map[string]struct {
		daemonSet, alone, blind bool
		services                map[string]string
		readopt                 v1alpha1.TrafficVerdict
		says, undoSays          string
		during, after           map[string]string
	}{
		"of a ReplicaSet, by the label its Service needs too": {
			services: map[string]string{"app": "cart"}, says: "taken off the pod: label 'app'; ReplicaSet 'cart-7f9' loses the pod and starts a clean one",
			undoSays: "not given back, because the workload would take the pod back and delete a clean one: label 'app'",
			during:   map[string]string{"tier": "web", "pod-template-hash": "7f9"}, after: map[string]string{"tier": "web", "pod-template-hash": "7f9"},
		},
		"without a Service, by the label no policy selects by": {
			says: "taken off the pod: label 'pod-template-hash'", undoSays: "not given back",
			during: map[string]string{"app": "cart", "tier": "web"}, after: map[string]string{"app": "cart", "tier": "web"},
		},
		"a Service by a label of its own": {
			services: map[string]string{"tier": "web"}, says: "'tier'", undoSays: "given back: label 'tier'",
			during: map[string]string{"app": "cart"}, after: map[string]string{"app": "cart", "tier": "web"},
		},
		"readopted on demand": {
			services: map[string]string{"app": "cart", "tier": "web"}, readopt: v1alpha1.TrafficAllow, says: "taken off the pod: labels 'app', 'tier'", undoSays: "given back: labels",
			during: map[string]string{"pod-template-hash": "7f9"}, after: cartLabels,
		},
		"of a DaemonSet": {
			daemonSet: true, services: map[string]string{"tier": "web"}, says: "DaemonSet 'agent' loses the pod and starts a second one on node 'node-1'", undoSays: "given back: label 'tier'",
			during: map[string]string{"pod-template-hash": "7f9"}, after: map[string]string{"tier": "web", "pod-template-hash": "7f9"},
		},
		"of nobody": {
			alone: true, services: map[string]string{"app": "cart"}, says: "no workload was found that would start a clean one", undoSays: "given back: label 'app'",
			during: map[string]string{"tier": "web", "pod-template-hash": "7f9"}, after: cartLabels,
		},
		"of nobody, without a Service": {alone: true, says: "no Service or workload selects the pod", undoSays: "is out of quarantine", during: cartLabels, after: cartLabels},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, quarantineRights)
			for key, value := range test.services {
				w.service("by-"+key, key, value)
			}
			w.service("other", "app", "other")
			var owner client.Object
			switch {
			case test.daemonSet:
				selector := byLabel("app", "cart")
				owner = &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "agent"}, Spec: appsv1.DaemonSetSpec{Selector: &selector, Template: template(cartLabels)}}
				w.create(owner)
			case !test.alone:
				owner = w.replicaSet()
			}
			pod := w.pod("cart-1", owner, cartLabels, func(pod *corev1.Pod) { pod.Spec.NodeName = "node-1" })
			sibling := w.pod("cart-2", owner, cartLabels)
			request := w.request(w.incident("inc-1"), quarantineStep(test.readopt), pod)
			w.planned("quarantine", request)
			w.hasLabels("after Plan", pod, false, cartLabels)
			w.applied("quarantine", request, test.says)
			w.hasLabels("in quarantine", pod, true, test.during)
			w.undone("quarantine", request, test.undoSays)
			w.hasLabels("after Undo", pod, false, test.after)
			if len(pod.Annotations) > 0 {
				t.Errorf("annotations are left: %v", pod.Annotations)
			}
			same := sibling.DeepCopy()
			if w.get(same); same.ResourceVersion != sibling.ResourceVersion {
				t.Error("a sibling of the pod was written")
			}
		})
	}
}

// In a real cluster the workload lets go of the pod: it is no owner any more.
func TestQuarantineHoldsAfterTheWorkloadHasLetGo(t *testing.T) {
	w := newWorld(t, quarantineRights)
	w.service("cart", "app", "cart")
	pod := w.pod("cart-1", w.replicaSet(), cartLabels)
	request := w.request(w.incident("inc-1"), quarantineStep(""), pod)
	quarantine := do(t, "quarantine")
	w.applied("quarantine", request)
	w.patch(pod, `{"metadata":{"ownerReferences":null}}`)
	w.expect("Observe", quarantine.Observe(t.Context(), request), v1alpha1.TargetSucceeded)
	w.patch(pod, `{"metadata":{"labels":{"app":"cart"}}}`)
	w.expect("Observe after a label came back", quarantine.Observe(t.Context(), request), v1alpha1.TargetFailed, "is selected by ReplicaSet 'cart-7f9'")
	w.madeAgain("quarantine", request)

	w.service("web", "tier", "web")
	w.expect("Observe after a Service was added", quarantine.Observe(t.Context(), request), v1alpha1.TargetFailed, "is selected by Service 'web'")
	w.expect("Apply without a record of it", quarantine.Apply(t.Context(), request), v1alpha1.TargetPending, "is selected by Service 'web'")
	w.planned("quarantine", request)
	w.expect("Apply planned again", quarantine.Apply(t.Context(), request), v1alpha1.TargetSucceeded)

	w.patch(pod, `{"metadata":{"labels":{"tier":"forensics"}}}`)
	w.undone("quarantine", request, "left as somebody has set it since: label 'tier'", "not given back, because the workload would take the pod back and delete a clean one: label 'app'")
	w.hasLabels("after Undo", pod, false, map[string]string{"tier": "forensics", "pod-template-hash": "7f9"})
}

func TestTwoIncidentsQuarantineOnePod(t *testing.T) {
	for name, order := range map[string][2]int{"first goes first": {0, 1}, "last goes first": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, quarantineRights)
			w.service("web", "tier", "web")
			pod := w.pod("cart-1", nil, cartLabels)
			requests := []*action.Request{w.request(w.incident("inc-1"), quarantineStep(""), pod), w.request(w.incident("inc-2"), quarantineStep(""), pod)}
			w.applied("quarantine", requests[0])
			w.applied("quarantine", requests[1])
			w.undone("quarantine", requests[order[0]], "given back only later, because incident '"+w.domain+"/"+requests[order[1]].Incident.Name+"' has it in quarantine: label 'tier'")
			w.hasLabels("after the first Undo", pod, true, map[string]string{"app": "cart", "pod-template-hash": "7f9"})
			w.expect("Observe", do(t, "quarantine").Observe(t.Context(), requests[order[1]]), v1alpha1.TargetSucceeded)
			w.undone("quarantine", requests[order[1]], "given back: label 'tier'")
			w.hasLabels("at the end", pod, false, cartLabels)
		})
	}
}

func TestQuarantineAndIsolation(t *testing.T) {
	for name, isolation := range map[string]string{"of the same incident": "inc-1", "of another incident": "inc-2"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, append(quarantineRights[:len(quarantineRights):len(quarantineRights)], allRights...))
			w.service("web", "tier", "web")
			pod := w.pod("cart-1", nil, cartLabels)
			incident := w.incident("inc-1")
			incident.Status.Steps = []v1alpha1.IncidentStep{{Name: "isolate"}, {Name: "quarantine"}}
			request := w.request(incident, quarantineStep(""), pod)
			w.applied("quarantine", request)
			isolate := w.request(w.incident(isolation), isolateStep(), pod)
			w.planned("isolate", isolate)
			w.expect("isolate", do(t, "isolate").Apply(t.Context(), isolate), v1alpha1.TargetSucceeded)
			w.undone("quarantine", request, "given back only later, because another isolation holds it: label 'tier'")
			if w.get(pod); pod.Labels["tier"] != "" {
				t.Errorf("labels are %v: the Service selects the pod while it is isolated", pod.Labels)
			}
			w.undone("isolate", isolate, "given back: label 'tier'")
			if w.get(pod); !cmp.Equal(cartLabels, pod.Labels) || len(pod.Annotations) > 0 {
				t.Errorf("labels %v and annotations %v at the end", pod.Labels, pod.Annotations)
			}
		})
	}
}

func TestQuarantineRefuses(t *testing.T) {
	w := newWorld(t, quarantineRights)
	selector := byLabel("app", "cart")
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "db"}, Spec: appsv1.StatefulSetSpec{Selector: &selector, Template: template(cartLabels)}}
	w.create(set)
	ended := w.pod("ended", nil, nil)
	ended.Status.Phase = corev1.PodFailed
	if err := admin.Status().Update(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		object client.Object
		state  v1alpha1.TargetState
		says   string
	}{
		"a StatefulSet": {w.pod("db-0", set, cartLabels), v1alpha1.TargetFailed, "belongs to StatefulSet 'db', which cannot start a clean pod as long as this one is there under its name: `isolate` cuts it off"},
		"ended":         {ended, v1alpha1.TargetGone, "has ended (Failed)"},
		"another kind":  {set, v1alpha1.TargetFailed, "it must be a Pod"},
		"a pod that only says that it is a StatefulSet's": {w.pod("forged", set, map[string]string{"app": "miner"}), v1alpha1.TargetActing, ""},
		"a pod that says that something odd owns it": {w.pod("odd", nil, cartLabels, func(pod *corev1.Pod) {
			pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "evil.example/v1", Kind: "Nothing", Name: "x", UID: "x", Controller: ptr.To(true)}}
		}), v1alpha1.TargetActing, "no Service or workload selects the pod"},
		"a pod with a forged mark": {w.pod("marked", nil, cartLabels, func(pod *corev1.Pod) {
			pod.Annotations = map[string]string{"quarantine.firebreak.dev/0": `{"incident":"x/y","before":{"mark":"quarantine.firebreak.dev/0","removed":[{"key":"` + strings.Repeat("x", 5000) + `"}],"owner":{"apiVersion":"apps/v1","kind":"StatefulSet","name":"db","uid":"` + string(set.UID) + `"}}}`}
		}), v1alpha1.TargetActing, ""},
	} {
		t.Run(name, func(t *testing.T) {
			result := do(t, "quarantine").Plan(t.Context(), w.request(w.incident("inc-1"), quarantineStep(""), test.object))
			w.expect("Plan", result, test.state, test.says)
			if result.State == v1alpha1.TargetFailed && !result.Permanent {
				t.Error("must be permanent")
			}
		})
	}
}

func TestQuarantineGoneOrReplaced(t *testing.T) {
	w := newWorld(t, quarantineRights)
	w.service("web", "tier", "web")
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), quarantineStep(""), pod)
	quarantine := do(t, "quarantine")
	w.applied("quarantine", request)
	w.delete(pod)
	for what, says := range map[string]string{"gone": "does not exist any more", "replaced": "came back under the same name"} {
		successor := &corev1.Pod{}
		if what == "replaced" {
			successor = w.pod("cart-1", nil, cartLabels)
		}
		w.expect(what+": Plan", quarantine.Plan(t.Context(), request), v1alpha1.TargetGone, says)
		w.expect(what+": Apply", quarantine.Apply(t.Context(), request), v1alpha1.TargetGone, says)
		w.expect(what+": Observe", quarantine.Observe(t.Context(), request), v1alpha1.TargetGone, says)
		w.undone("quarantine", request, says)
		if what == "replaced" {
			w.hasLabels("the successor", successor, false, cartLabels)
			w.delete(successor)
		}
	}
	request.Target.Undo = `{"mark":"x"}`
	w.expect("Undo by a broken record", quarantine.Undo(t.Context(), request), v1alpha1.TargetFailed, "is not of this step")
}

func TestQuarantineNamesTheMissingRight(t *testing.T) {
	for name, test := range map[string]struct{ verb, resource, says string }{
		"get pods":        {"get", "pods", "may not get pods in namespace 'SHOP': grant it 'get' on 'pods' (API group '') there by a RoleBinding"},
		"patch pods":      {"patch", "pods", "may not patch pods in namespace 'SHOP': grant it 'patch' on 'pods' (API group '')"},
		"list services":   {"list", "services", "may not list services in namespace 'SHOP': grant it 'list' on 'services' (API group '')"},
		"get replicasets": {"get", "replicasets", "may not get replicasets in namespace 'SHOP': grant it 'get' on 'replicasets' (API group 'apps')"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, without(quarantineRights, test.verb, test.resource))
			w.missing("quarantine", w.request(w.incident("inc-1"), quarantineStep(""), w.pod("cart-1", w.replicaSet(), cartLabels)), test.says)
		})
	}
}
