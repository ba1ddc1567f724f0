package action_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

const clusterPolicyCRD = "testdata/clusternetworkpolicies.yaml"

var clusterPolicy = schema.GroupVersionKind{Group: "policy.networking.k8s.io", Version: "v1alpha2", Kind: "ClusterNetworkPolicy"}

func useClusterPolicy(isolate *v1alpha1.IsolateAction) {
	isolate.ClusterNetworkPolicy = v1alpha1.ClusterPolicyUsed
}

// clusterPolicies installs the API, and lets the ServiceAccount use it.
func (w *world) clusterPolicies(path string) {
	w.Helper()
	options := envtest.CRDInstallOptions{Paths: []string{path}, ErrorIfPathMissing: true}
	if _, err := envtest.InstallCRDs(config, options); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := envtest.UninstallCRDs(config, options); err != nil {
			w.Error(err)
		}
		// The next test may install another form of it.
		err := wait.PollUntilContextTimeout(context.Background(), 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
			definition := &metav1.PartialObjectMetadata{}
			definition.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
			err := admin.Get(ctx, client.ObjectKey{Name: "clusternetworkpolicies.policy.networking.k8s.io"}, definition)
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		})
		if err != nil {
			w.Error(err)
		}
	})
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{GenerateName: "cnp-"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{clusterPolicy.Group}, Resources: []string{"clusternetworkpolicies"}, Verbs: []string{"get", "list", "create", "patch", "delete"},
	}}}
	w.create(role)
	w.create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.domain, Name: "contain"}},
	})
	w.eventually("ClusterNetworkPolicies to be served", func(ctx context.Context) bool {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(clusterPolicy.GroupVersion().WithKind("ClusterNetworkPolicyList"))
		return w.client.List(ctx, list) == nil
	})
}

func (w *world) clusterPolicy(name string) *unstructured.Unstructured {
	w.Helper()
	policy := &unstructured.Unstructured{}
	policy.SetGroupVersionKind(clusterPolicy)
	err := admin.Get(w.Context(), client.ObjectKey{Name: name}, policy)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.Fatal(err)
	}
	return policy
}

// allowFromPods makes a policy that allows ingress from pods to every pod, and all egress.
func (w *world) allowFromPods() {
	w.Helper()
	w.create(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "allow-pods"},
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}}},
			Egress:      []networkingv1.NetworkPolicyEgressRule{{}},
		},
	})
}

func TestIsolateDoesWithoutClusterNetworkPolicies(t *testing.T) {
	w := newWorld(t, allRights)
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), isolateStep(useClusterPolicy), pod)
	// Nobody has installed the API before this test.
	if result := w.plan(request); !strings.Contains(result.Message, "the cluster has no ClusterNetworkPolicies to use") {
		t.Errorf("Plan says %q", result.Message)
	}
	w.expect("Apply", do(t, "isolate").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "cut by NetworkPolicy '"+w.record(request).Policy+"'")
	w.expect("Undo", do(t, "isolate").Undo(t.Context(), request), v1alpha1.TargetReverted)
}

func TestIsolateUsesClusterNetworkPolicies(t *testing.T) {
	w := newWorld(t, groupRights)
	w.clusterPolicies(clusterPolicyCRD)
	w.allowFromPods()
	pod := w.pod("cart-0", nil, map[string]string{"app": "other"})
	isolate := do(t, "isolate")
	w.expect("Plan without it", isolate.Plan(t.Context(), w.request(w.incident("inc-1"), isolateStep(), pod)), v1alpha1.TargetFailed, "'allow-pods' selects every pod")

	step := isolateStep(useClusterPolicy, func(isolate *v1alpha1.IsolateAction) {
		isolate.DNS = v1alpha1.TrafficAllow
		isolate.Allow.Egress = []v1alpha1.AllowedTraffic{{CIDRs: []v1alpha1.CIDR{"198.51.100.0/28"}, Ports: []v1alpha1.AllowedPort{{Port: 8000, EndPort: 8080}}}}
	})
	request := w.request(w.incident("inc-1"), step, pod)
	w.plan(request)
	record := w.record(request)
	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Apply", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "cut by NetworkPolicy '"+record.Policy+"' and ClusterNetworkPolicy '"+record.Policy+"'")
	}
	everywhere := map[string]any{"networks": []any{"0.0.0.0/0", "::/0"}}
	want := map[string]any{
		"tier": "Admin", "priority": int64(0),
		"subject": map[string]any{"pods": map[string]any{
			"namespaceSelector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": w.shop}},
			"podSelector":       map[string]any{"matchLabels": map[string]any{record.Label.Key: record.Label.Value}},
		}},
		"ingress": []any{map[string]any{"name": "deny", "action": "Deny", "from": []any{map[string]any{"namespaces": map[string]any{}}}}},
		"egress": []any{
			map[string]any{"name": "allow-0", "action": "Accept", "to": []any{map[string]any{"networks": []any{"198.51.100.0/28"}}},
				"protocols": []any{map[string]any{"tcp": map[string]any{"destinationPort": map[string]any{"range": map[string]any{"start": int64(8000), "end": int64(8080)}}}}}},
			map[string]any{"name": "allow-1", "action": "Accept", "to": []any{everywhere},
				"protocols": []any{
					map[string]any{"udp": map[string]any{"destinationPort": map[string]any{"number": int64(53)}}},
					map[string]any{"tcp": map[string]any{"destinationPort": map[string]any{"number": int64(53)}}},
				}},
			map[string]any{"name": "deny", "action": "Deny", "to": []any{everywhere, map[string]any{"namespaces": map[string]any{}}}},
		},
	}
	if diff := cmp.Diff(any(want), w.clusterPolicy(record.Policy).Object["spec"]); diff != "" {
		t.Errorf("the ClusterNetworkPolicy (-want +got):\n%s", diff)
	}
	w.patch(w.clusterPolicy(record.Policy), `{"spec":{"priority":9}}`)
	w.expect("Observe of a changed one", isolate.Observe(t.Context(), request), v1alpha1.TargetFailed, "ClusterNetworkPolicy '"+record.Policy+"' was changed")
	w.expect("Apply again", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.delete(w.clusterPolicy(record.Policy))
	w.expect("Observe without it", isolate.Observe(t.Context(), request), v1alpha1.TargetFailed, "ClusterNetworkPolicy '"+record.Policy+"' was deleted")
	w.expect("Apply again", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded)

	// What comes from outside the cluster it cannot deny.
	world := w.allow("allow-world", byLabel("app", "other"))
	w.expect("Apply beside a policy that allows everybody", isolate.Apply(t.Context(), request), v1alpha1.TargetPending, "label 'app'")
	w.delete(world)
	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Undo", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted)
	}
	if w.clusterPolicy(record.Policy) != nil || w.policies()[record.Policy] != nil {
		t.Error("Undo has left a policy behind")
	}
	isolatesAWorkload(t, w)
	givesWayToNoRival(t, w, request)
}

// isolatesAWorkload shows that labels need not be taken away with it.
func isolatesAWorkload(t *testing.T, w *world) {
	t.Helper()
	deployment, _ := w.deployment()
	isolate := do(t, "isolate")
	request := w.request(w.incident("inc-2"), groupStep(), deployment)
	w.expect("Plan of a workload without it", isolate.Plan(t.Context(), request), v1alpha1.TargetFailed, "'allow-pods' selects its pods", "`clusterNetworkPolicy: Use`")
	request = w.request(w.incident("inc-2"), groupStep(useClusterPolicy), deployment)
	w.plan(request)
	w.expect("Apply to a workload", isolate.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "for every pod of Deployment 'cart'")
	name := w.record(request).Policy
	selector, _, _ := unstructured.NestedStringMap(w.clusterPolicy(name).Object, "spec", "subject", "pods", "podSelector", "matchLabels")
	if diff := cmp.Diff(map[string]string{"app": "cart"}, selector); diff != "" {
		t.Errorf("it selects (-want +got):\n%s", diff)
	}
	w.expect("Undo of a workload", isolate.Undo(t.Context(), request), v1alpha1.TargetReverted)
	if w.clusterPolicy(name) != nil {
		t.Error("Undo has left the ClusterNetworkPolicy behind")
	}
}

// givesWayToNoRival shows that it is not used where another may come first.
func givesWayToNoRival(t *testing.T, w *world, request *action.Request) {
	t.Helper()
	rival := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"tier": "Admin", "priority": int64(0), "subject": map[string]any{"namespaces": map[string]any{}},
		"egress": []any{map[string]any{"action": "Accept", "to": []any{map[string]any{"networks": []any{"203.0.113.0/24"}}}}},
	}}}
	rival.SetGroupVersionKind(clusterPolicy)
	rival.SetName("monitoring")
	w.create(rival)
	w.expect("Plan beside a rival", do(t, "isolate").Plan(t.Context(), request), v1alpha1.TargetFailed, "ClusterNetworkPolicy 'monitoring' lets traffic through with priority 0")
	w.patch(rival, `{"spec":{"priority":1}}`)
	w.plan(request)
}

// An earlier form of the kind has other fields: a rule without its ports would leave
// everything open.
func TestIsolateRefusesAnotherFormOfClusterNetworkPolicies(t *testing.T) {
	content, err := os.ReadFile(clusterPolicyCRD)
	if err != nil {
		t.Fatal(err)
	}
	earlier := filepath.Join(t.TempDir(), "crd.yaml")
	if err := os.WriteFile(earlier, bytes.ReplaceAll(content, []byte("protocols:"), []byte("match:")), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, allRights)
	w.clusterPolicies(earlier)
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), isolateStep(useClusterPolicy, func(isolate *v1alpha1.IsolateAction) { isolate.DNS = v1alpha1.TrafficAllow }), pod)
	w.plan(request)
	result := do(t, "isolate").Apply(t.Context(), request)
	w.expect("Apply", result, v1alpha1.TargetFailed, "patch clusternetworkpolicies", "protocols")
	if w.clusterPolicy(w.record(request).Policy) != nil {
		t.Error("a policy was made that is not the one meant")
	}
	w.expect("Undo", do(t, "isolate").Undo(t.Context(), request), v1alpha1.TargetReverted)
}
