// Package workload finds out to which workload a pod belongs.
package workload

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxDepth bounds how far owners are followed: owners may be forged, and may own each other.
const maxDepth = 8

// followed are the kinds whose controllers make pods. Whoever may change a pod may name
// anything as its owner, also what exists and never owned a pod: a Namespace, a Node or
// an object of his own kind.
var followed = map[string][]string{
	"apps/v1":  {"ReplicaSet", "Deployment", "StatefulSet", "DaemonSet"},
	"batch/v1": {"Job", "CronJob"},
	"v1":       {"ReplicationController"},
}

// TopOwner follows the controller owners of a pod, through the workload kinds of
// Kubernetes itself and within the pod's namespace, as far as the reader is permitted to,
// and gives the last one it has seen with its own eyes, by its UID. The result is empty
// when the pod has no such owner, or the first one may not be read. An error says that
// an owner could not be read just now: the answer may be another a moment later.
func TopOwner(ctx context.Context, reader client.Reader, pod *corev1.Pod) (v1alpha1.WorkloadReference, error) {
	var top v1alpha1.WorkloadReference
	var current metav1.Object = pod
	for range maxDepth {
		owner := metav1.GetControllerOf(current)
		if owner == nil || !slices.Contains(followed[owner.APIVersion], owner.Kind) || !isName(owner.Name) {
			break
		}
		next := &metav1.PartialObjectMetadata{}
		next.SetGroupVersionKind(schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind))
		err := reader.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: owner.Name}, next)
		if passes(err) {
			return v1alpha1.WorkloadReference{}, fmt.Errorf("read %s %s/%s, an owner of pod %q: %w", owner.Kind, pod.Namespace, owner.Name, pod.Name, err)
		}
		if err != nil || next.UID != owner.UID {
			break
		}
		top = v1alpha1.WorkloadReference{
			APIVersion: owner.APIVersion,
			Kind:       owner.Kind,
			Name:       owner.Name,
			UID:        v1alpha1.ObjectUID(owner.UID),
		}
		current = next
	}
	return top, nil
}

// NameOf gives the name of the top owner of the pod a reference names, and the
// reference's own name for other kinds, and where the pod has no owner, is another than
// the one meant, or may not be read. An error is one of TopOwner's, or says the same
// about the pod.
func NameOf(ctx context.Context, reader client.Reader, reference v1alpha1.ResourceReference) (string, error) {
	if reference.Kind != "Pod" || reference.APIVersion != "v1" || !isName(reference.Name) || !isName(reference.Namespace) {
		return reference.Name, nil
	}
	pod := &metav1.PartialObjectMetadata{}
	pod.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	err := reader.Get(ctx, client.ObjectKey{Namespace: reference.Namespace, Name: reference.Name}, pod)
	if passes(err) {
		return "", fmt.Errorf("read pod %s/%s: %w", reference.Namespace, reference.Name, err)
	}
	if err != nil || reference.UID != "" && string(reference.UID) != string(pod.UID) {
		return reference.Name, nil
	}
	top, err := TopOwner(ctx, reader, &corev1.Pod{ObjectMeta: pod.ObjectMeta})
	if err != nil {
		return "", err
	}
	if top.Name != "" {
		return top.Name, nil
	}
	return reference.Name, nil
}

// passes says whether an error is one that may be gone at the next try.
func passes(err error) bool {
	return err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err)
}

// isName says whether an object can have the name. To ask for another would never succeed.
func isName(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }
