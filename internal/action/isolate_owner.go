package action

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// controllerLabels are labels that no selector needs to name: a controller that misses
// one on a pod of its own puts it back, or takes the pod for outdated and deletes it.
var controllerLabels = []string{
	"pod-template-hash", "controller-revision-hash", "pod-template-generation",
	"batch.kubernetes.io/job-completion-index",
}

// identityLabels are labels that a StatefulSet keeps on its pods.
var identityLabels = []string{"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"}

// controllerOf is the controller of a pod.
type controllerOf struct {
	ownerName
	kind schema.GroupVersionKind
}

// workloadLabels says which of the pod's labels its controller selects by. Where the
// controller cannot be read, every label may be one.
func (r *Request) workloadLabels(ctx context.Context, pod *corev1.Pod) (owner controllerOf, isWorkloadLabel func(string) bool, err error) {
	none, every := func(string) bool { return false }, func(string) bool { return true }
	reference := metav1.GetControllerOf(pod)
	if reference == nil || reference.Kind == "Node" {
		return owner, none, nil
	}
	owner.Kind, owner.Name = reference.Kind, reference.Name
	owner.kind = schema.FromAPIVersionAndKind(reference.APIVersion, reference.Kind)
	object, err := r.object(ctx, owner.kind, client.ObjectKey{Namespace: pod.Namespace, Name: reference.Name})
	switch {
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return owner, every, nil
	case err != nil:
		return owner, nil, err
	}
	keys, ok := selectorKeys(object)
	if !ok {
		return owner, every, nil
	}
	keys = append(keys, controllerLabels...)
	return owner, func(key string) bool { return slices.Contains(keys, key) }, nil
}

// selectorKeys gives the labels that a workload's selector names. A
// ReplicationController's selector is a plain map.
func selectorKeys(object *unstructured.Unstructured) (keys []string, ok bool) {
	content, found, err := unstructured.NestedMap(object.Object, "spec", "selector")
	if err != nil || !found || len(content) == 0 {
		return nil, false
	}
	if plain, _, err := unstructured.NestedStringMap(object.Object, "spec", "selector"); err == nil {
		for key := range plain {
			keys = append(keys, key)
		}
		return keys, true
	}
	selector := metav1.LabelSelector{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &selector); err != nil {
		return nil, false
	}
	for key := range selector.MatchLabels {
		keys = append(keys, key)
	}
	for _, expression := range selector.MatchExpressions {
		keys = append(keys, expression.Key)
	}
	return keys, len(keys) > 0
}
