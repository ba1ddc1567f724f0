package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// watchedKinds are the kinds that ready-made playbooks touch.
var watchedKinds = map[schema.GroupVersion][]string{
	{Version: "v1"}:                                        {"Namespace", "Node", "Pod", "Service", "ServiceAccount", "Secret", "ConfigMap"},
	{Group: "apps", Version: "v1"}:                         {"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"},
	{Group: "batch", Version: "v1"}:                        {"CronJob", "Job"},
	{Group: "networking.k8s.io", Version: "v1"}:            {"NetworkPolicy", "Ingress"},
	{Group: "rbac.authorization.k8s.io", Version: "v1"}:    {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"},
	{Group: "admissionregistration.k8s.io", Version: "v1"}: {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"},
}

// objects are the cluster's objects, by 'Kind/name', as the playbook's folder names them.
type objects map[string]*unstructured.Unstructured

// objects are those of the shop's namespace, and those in no namespace that name one of
// this test's namespaces. What the API server keeps for itself is left out.
func (s *shop) objects(t *testing.T) objects {
	t.Helper()
	found := objects{}
	for group, kinds := range watchedKinds {
		for _, kind := range kinds {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(group.WithKind(kind + "List"))
			done(t, s.Client.List(t.Context(), list))
			for i := range list.Items {
				if object := &list.Items[i]; s.isOurs(t, object) {
					found[kind+"/"+strings.TrimSuffix(object.GetName(), s.named(""))] = withoutBookkeeping(object)
				}
			}
		}
	}
	return found
}

func (s *shop) isOurs(t *testing.T, object *unstructured.Unstructured) bool {
	t.Helper()
	if object.GetNamespace() != "" {
		return object.GetNamespace() == s.Target
	}
	object.SetManagedFields(nil)
	text, err := json.Marshal(object.Object)
	done(t, err)
	// One name may begin another: -1 and -12.
	return slices.ContainsFunc([]string{s.Namespace, s.Target}, func(name string) bool {
		return regexp.MustCompile(regexp.QuoteMeta(name) + `([^0-9]|$)`).Match(text)
	})
}

func withoutBookkeeping(object *unstructured.Unstructured) *unstructured.Unstructured {
	object.SetManagedFields(nil)
	object.SetResourceVersion("")
	object.SetGeneration(0)
	unstructured.RemoveNestedField(object.Object, "status", "observedGeneration")
	prune(object.Object)
	return object
}

// prune takes away empty maps: no labels are the same as none.
func prune(fields map[string]any) {
	for key, value := range fields {
		if child, ok := value.(map[string]any); ok {
			if prune(child); len(child) == 0 && (key == "labels" || key == "annotations") {
				delete(fields, key)
			}
		}
	}
}

func (o objects) edit(change func(*unstructured.Unstructured)) {
	for _, object := range o {
		change(object)
		prune(object.Object)
	}
}

// changes says in which objects others differ from these.
func (o objects) changes(others objects) []string {
	all := maps.Clone(o)
	maps.Copy(all, others)
	var changes []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		before, after := o[name], others[name]
		switch {
		case before == nil:
			changes = append(changes, fmt.Sprintf("%s is new: %v", name, after.Object))
		case after == nil:
			changes = append(changes, name+" is gone")
		default:
			if diff := cmp.Diff(before.Object, after.Object); diff != "" {
				changes = append(changes, fmt.Sprintf("%s (-before +after):\n%s", name, diff))
			}
		}
	}
	return changes
}

// reconcileWorkloads does what the controllers of Deployments would tell of themselves.
func (s *shop) reconcileWorkloads(t *testing.T) {
	t.Helper()
	list := &appsv1.DeploymentList{}
	done(t, s.Client.List(t.Context(), list, client.InNamespace(s.Target)))
	for i := range list.Items {
		deployment := &list.Items[i]
		replicas := *deployment.Spec.Replicas
		if deployment.Status.ObservedGeneration == deployment.Generation && deployment.Status.Replicas == replicas {
			continue
		}
		deployment.Status = appsv1.DeploymentStatus{
			ObservedGeneration: deployment.Generation, Replicas: replicas, UpdatedReplicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas,
		}
		if err := client.IgnoreNotFound(s.Client.Status().Update(t.Context(), deployment)); err != nil {
			t.Logf("the status of %s is written again: %v", deployment.Name, err)
		}
	}
}
