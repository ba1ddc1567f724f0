// Package workload finds out to which workload a pod belongs.
package workload

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxDepth bounds how far owners are followed: owners may be forged, and may own each other.
const maxDepth = 8

// TopOwner follows the controller owners of a pod as far as the reader is permitted
// to, and gives the last one it has seen with its own eyes, by its UID. The result is
// empty when the pod has no such owner, or the first one may not be read. Nodes own
// static pods, but are not workloads.
func TopOwner(ctx context.Context, reader client.Reader, pod *corev1.Pod) v1alpha1.WorkloadReference {
	var top v1alpha1.WorkloadReference
	var current metav1.Object = pod
	for range maxDepth {
		owner := metav1.GetControllerOf(current)
		if owner == nil || (owner.Kind == "Node" && owner.APIVersion == "v1") {
			break
		}
		group, err := schema.ParseGroupVersion(owner.APIVersion)
		if err != nil {
			break
		}
		next := &metav1.PartialObjectMetadata{}
		next.SetGroupVersionKind(group.WithKind(owner.Kind))
		if err := reader.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: owner.Name}, next); err != nil {
			break
		}
		if next.UID != owner.UID {
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
	return top
}

// NameOf gives the name of the top owner of the pod a reference names, and the
// reference's own name for other kinds,
// where the pod has no owner, is another than the one meant, or may not be read.
func NameOf(ctx context.Context, reader client.Reader, reference v1alpha1.ResourceReference) string {
	if reference.Kind != "Pod" || reference.APIVersion != "v1" {
		return reference.Name
	}
	pod := &metav1.PartialObjectMetadata{}
	pod.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	if err := reader.Get(ctx, client.ObjectKey{Namespace: reference.Namespace, Name: reference.Name}, pod); err != nil {
		return reference.Name
	}
	if reference.UID != "" && string(reference.UID) != string(pod.UID) {
		return reference.Name
	}
	if top := TopOwner(ctx, reader, &corev1.Pod{ObjectMeta: pod.ObjectMeta}); top.Name != "" {
		return top.Name
	}
	return reference.Name
}
