package action_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

var resolveRights = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods", "nodes", "namespaces", "serviceaccounts", "secrets"}, Verbs: []string{"get"}},
}

// yields evaluates every `targets` to the same.
type yields struct {
	action.Values
	references []v1alpha1.ResourceReference
	err        error
}

func (y yields) Targets(context.Context, *v1alpha1.Incident, v1alpha1.Expression) ([]v1alpha1.ResourceReference, error) {
	return y.references, y.err
}

// about is an incident about objects that are there.
func (w *world) about(objects ...client.Object) *v1alpha1.Incident {
	w.Helper()
	incident := w.incident("inc-1")
	for _, object := range objects {
		kinds, _, err := scheme.ObjectKinds(object)
		if err != nil {
			w.Fatal(err)
		}
		apiVersion, kind := kinds[0].ToAPIVersionAndKind()
		incident.Status.Resources = append(incident.Status.Resources, v1alpha1.IncidentResource{State: v1alpha1.ResourcePresent, ResourceReference: v1alpha1.ResourceReference{
			APIVersion: apiVersion, Kind: kind, Namespace: object.GetNamespace(), Name: object.GetName(), UID: v1alpha1.ObjectUID(object.GetUID()),
		}})
	}
	return incident
}

func (w *world) resolving(incident *v1alpha1.Incident, target v1alpha1.TargetKind) *action.Request {
	return &action.Request{
		Incident: incident, Step: &v1alpha1.PlaybookStep{Name: "step", Target: target}, Attempt: 1, Client: w.client, ActingAs: w.user, Now: now,
	}
}

// found lists targets as 'Kind namespace/name uid', sorted.
func found(targets []v1alpha1.StepTarget) []string {
	var names []string
	for _, target := range targets {
		names = append(names, fmt.Sprintf("%s %s/%s %s", target.Kind, target.Namespace, target.Name, target.UID))
	}
	slices.Sort(names)
	return names
}

func listed(kind string, objects ...client.Object) []string {
	var names []string
	for _, object := range objects {
		names = append(names, fmt.Sprintf("%s %s/%s %s", kind, object.GetNamespace(), object.GetName(), object.GetUID()))
	}
	slices.Sort(names)
	return names
}

func TestResolve(t *testing.T) {
	w := newClusterWorld(t, resolveRights)
	one, two, spare := w.node("one"), w.node("two"), w.node("spare")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart"}}
	named := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "named"}}
	w.create(account)
	w.create(named)
	on := func(node *corev1.Node) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Spec.NodeName, pod.Spec.ServiceAccountName = node.Name, "cart" }
	}
	first, second, third := w.pod("cart-1", nil, nil, on(one)), w.pod("cart-2", nil, nil, on(one)), w.pod("cart-3", nil, nil, on(two))
	unbound, replaced, gone := w.pod("cart-4", nil, nil), w.pod("cart-5", nil, nil, on(spare)), w.pod("cart-6", nil, nil, on(spare))
	shop, other := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.shop}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace("other-")}}
	w.get(shop)
	w.get(other)
	incident := w.about(first, second, third, unbound, replaced, gone, spare, named, other)
	incident.Status.Resources = append(incident.Status.Resources, v1alpha1.IncidentResource{State: v1alpha1.ResourceGone, ResourceReference: v1alpha1.ResourceReference{
		APIVersion: "v1", Kind: "Node", Name: "never-seen"}})
	w.delete(gone)
	w.delete(replaced)
	w.pod("cart-5", nil, nil, on(spare))
	for target, want := range map[v1alpha1.TargetKind][]string{
		v1alpha1.TargetNodes:           listed("Node", one, two, spare),
		v1alpha1.TargetServiceAccounts: listed("ServiceAccount", account, named),
		v1alpha1.TargetNamespaces:      listed("Namespace", shop, other),
	} {
		t.Run(string(target), func(t *testing.T) {
			result := action.Resolve(t.Context(), w.resolving(incident, target))
			w := w.like()
			w.T = t
			w.expect("Resolve", result, v1alpha1.TargetSucceeded)
			if target != v1alpha1.TargetNamespaces {
				w.expect("Resolve", result, v1alpha1.TargetSucceeded, "Pod 'cart-5' does not exist any more: another one came back", "Pod 'cart-6' does not exist any more")
			}
			got := slices.DeleteFunc(found(result.Targets), func(name string) bool { return strings.Contains(name, "/default ") })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("targets (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResolveImages(t *testing.T) {
	w := newClusterWorld(t, resolveRights)
	digest := "sha256:" + strings.Repeat("a", 64)
	pod := w.pod("cart-1", nil, nil, func(pod *corev1.Pod) {
		pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "init:1"}}
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "sidecar", Image: "mesh:2"}, corev1.Container{Name: "again", Image: "mesh:2"},
			corev1.Container{Name: "long", Image: "registry.example/long:1"})
	})
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: "cart", ImageID: "docker-pullable://registry.example/cart@" + digest},
		{Name: "sidecar", ImageID: digest}, {Name: "again"},
		{Name: "long", ImageID: "registry.example/" + strings.Repeat("x", 250) + "@" + digest},
	}
	if err := admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	incident := w.about(pod)
	resolve := func() []v1alpha1.StepTarget {
		result := action.Resolve(t.Context(), w.resolving(incident, v1alpha1.TargetImages))
		w.expect("Resolve", result, v1alpha1.TargetSucceeded)
		return result.Targets
	}
	var names []string
	for _, target := range resolve() {
		names = append(names, target.Name)
		if target.Kind != action.KindImage || target.APIVersion != "firebreak.dev/v1alpha1" || len(target.UID) != 36 || len(target.Name) > 253 {
			t.Errorf("target %+v", target)
		}
	}
	if diff := cmp.Diff([]string{"init:1", "registry.example/cart@" + digest, "mesh:2", digest}, names); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	incident.Status.Resources[0].Container = "cart"
	if got := resolve(); len(got) != 1 || got[0].Name != "registry.example/cart@"+digest || got[0] != action.ImageTarget(got[0].Name) {
		t.Errorf("images of the container where it happened: %+v", got)
	}
	incident.Status.Resources[0].Container = "forged"
	if got := resolve(); len(got) != 4 {
		t.Errorf("images of a container that is not there: %+v, want all", got)
	}
}

// An event may name a workload and no pod: a scanner of images does.
func TestResolveByWorkloads(t *testing.T) {
	w := newClusterWorld(t, append(resolveRights[:1:1], rbacv1.PolicyRule{APIGroups: []string{"apps", "batch"}, Resources: []string{"deployments", "cronjobs"}, Verbs: []string{"get"}}))
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart"}}
	fallback := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "default"}}
	w.create(account)
	w.create(fallback)
	deployment := w.workloadOf("cart", 1)
	w.patch(deployment, `{"spec":{"template":{"spec":{"serviceAccountName":"cart"}}}}`)
	incident := w.about(deployment)
	nightly := w.cronJob("nightly")
	incident.Status.Resources = append(incident.Status.Resources, v1alpha1.IncidentResource{State: v1alpha1.ResourcePresent, ResourceReference: v1alpha1.ResourceReference{
		APIVersion: "batch/v1", Kind: "CronJob", Namespace: w.shop, Name: "nightly", UID: v1alpha1.ObjectUID(nightly.GetUID()),
	}})
	for target, want := range map[v1alpha1.TargetKind][]string{
		v1alpha1.TargetNodes:           nil,
		v1alpha1.TargetServiceAccounts: listed("ServiceAccount", account, fallback),
		v1alpha1.TargetImages:          found([]v1alpha1.StepTarget{action.ImageTarget("registry.example/cart:1")}),
	} {
		result := action.Resolve(t.Context(), w.resolving(incident, target))
		w.expect(string(target), result, v1alpha1.TargetSucceeded)
		if diff := cmp.Diff(want, found(result.Targets)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
}

func TestResolveTargets(t *testing.T) {
	w := newClusterWorld(t, resolveRights)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "token"}}
	w.create(secret)
	node := w.node("one")
	reference := func(apiVersion, kind, namespace, name string) v1alpha1.ResourceReference {
		return v1alpha1.ResourceReference{APIVersion: apiVersion, Kind: kind, Namespace: namespace, Name: name}
	}
	theSecret, theNode := reference("v1", "Secret", w.shop, "token"), reference("v1", "Node", "", node.Name)
	another := theSecret
	another.UID = "another"
	tests := map[string]struct {
		values    action.Values
		state     v1alpha1.TargetState
		says      string
		want      []string
		permanent bool
	}{
		"found":         {yields{references: []v1alpha1.ResourceReference{theSecret, theNode, theSecret}}, v1alpha1.TargetSucceeded, "2 objects", append(listed("Node", node), listed("Secret", secret)...), false},
		"nothing":       {yields{}, v1alpha1.TargetSucceeded, "0 objects", nil, false},
		"gone":          {yields{references: []v1alpha1.ResourceReference{reference("v1", "Secret", w.shop, "x")}}, v1alpha1.TargetSucceeded, "left out: Secret 'x' does not exist any more", nil, false},
		"another UID":   {yields{references: []v1alpha1.ResourceReference{another}}, v1alpha1.TargetSucceeded, "another one came back under the same name", nil, false},
		"no namespace":  {yields{references: []v1alpha1.ResourceReference{reference("v1", "Secret", "", "token")}}, v1alpha1.TargetFailed, "yields Secret 'token' without `namespace`: it must be set", nil, true},
		"a namespace":   {yields{references: []v1alpha1.ResourceReference{reference("v1", "Node", "shop", node.Name)}}, v1alpha1.TargetFailed, "it must be absent", nil, true},
		"no such kind":  {yields{references: []v1alpha1.ResourceReference{reference("example.com/v1", "Nothing", "", "x")}}, v1alpha1.TargetFailed, "does not serve that", nil, true},
		"no right":      {yields{references: []v1alpha1.ResourceReference{reference("v1", "ConfigMap", w.domain, "x")}}, v1alpha1.TargetFailed, "may not get configmaps in namespace '" + w.domain + "': grant it 'get' on 'configmaps'", nil, true},
		"not evaluated": {yields{err: errors.New("no such key: x")}, v1alpha1.TargetFailed, "`targets` could not be evaluated: no such key: x", nil, true},
		"no evaluator":  {nil, v1alpha1.TargetFailed, "nothing is there to evaluate it", nil, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := w.like()
			w.T = t
			request := w.resolving(w.about(), "")
			request.Step.Targets = "expression"
			request.Values = test.values
			result := action.Resolve(t.Context(), request)
			w.expect("Resolve", result, test.state, test.says)
			if diff := cmp.Diff(test.want, found(result.Targets)); diff != "" || result.Permanent != test.permanent {
				t.Errorf("permanent %t, want %t; targets (-want +got):\n%s", result.Permanent, test.permanent, diff)
			}
		})
	}
}

func TestResolveNamesTheMissingRight(t *testing.T) {
	for target, resource := range map[v1alpha1.TargetKind]string{v1alpha1.TargetNodes: "nodes", v1alpha1.TargetNamespaces: "namespaces", v1alpha1.TargetServiceAccounts: "serviceaccounts", v1alpha1.TargetImages: "pods"} {
		t.Run(string(target), func(t *testing.T) {
			w := newClusterWorld(t, without(resolveRights, "get", resource))
			node := w.node("one")
			pod := w.pod("cart-1", nil, nil, func(pod *corev1.Pod) { pod.Spec.NodeName, pod.Spec.ServiceAccountName = node.Name, "cart" })
			result := action.Resolve(t.Context(), w.resolving(w.about(pod), target))
			w.expect("Resolve", result, v1alpha1.TargetFailed, w.user+" may not get "+resource, "grant it 'get' on '"+resource+"'")
			if !result.Permanent {
				t.Error("a missing right must be a permanent failure")
			}
		})
	}
	w := newClusterWorld(t, resolveRights)
	w.expect("Resolve of pods", action.Resolve(t.Context(), w.resolving(w.about(), v1alpha1.TargetPods)), v1alpha1.TargetFailed, "there is nothing to look up")
}
