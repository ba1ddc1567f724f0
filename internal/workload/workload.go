// Package workload finds out to which workload a pod belongs.
package workload

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
	early := expectDeployment(ctx, reader, pod)
	for range maxDepth {
		owner := metav1.GetControllerOf(current)
		if owner == nil || !slices.Contains(followed[owner.APIVersion], owner.Kind) || !isName(owner.Name) {
			break
		}
		next, err := early.read(owner)
		if next == nil {
			next, err = read(ctx, reader, owner, pod.Namespace)
		}
		if passes(err) {
			return v1alpha1.WorkloadReference{}, fmt.Errorf("read %s %s/%s, an owner of pod %q: %w", owner.Kind, pod.Namespace, owner.Name, pod.Name, err)
		}
		if err != nil || next.GetUID() != owner.UID {
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

// read reads an owner in full: who asks for a workload often looks at it next.
func read(ctx context.Context, reader client.Reader, owner *metav1.OwnerReference, namespace string) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind))
	return object, reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: owner.Name}, object)
}

// expected is an owner's owner that is read at the same time as the owner.
type expected struct {
	owner metav1.OwnerReference
	done  chan struct{}
	found *unstructured.Unstructured
	err   error
}

// expectDeployment begins to read the Deployment that a pod's ReplicaSet belongs to by its
// name, NAME-HASH, so that the two reads do not wait for each other. It is believed only
// when the ReplicaSet names it as its owner. Nil when the names do not tell.
func expectDeployment(ctx context.Context, reader client.Reader, pod *corev1.Pod) *expected {
	set, hash := metav1.GetControllerOf(pod), pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	if set == nil || set.APIVersion != "apps/v1" || set.Kind != "ReplicaSet" || hash == "" {
		return nil
	}
	name, ok := strings.CutSuffix(set.Name, "-"+hash)
	if !ok || !isName(name) {
		return nil
	}
	early := &expected{owner: metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name}, done: make(chan struct{})}
	go func() {
		defer close(early.done)
		defer func() {
			if recovered := recover(); recovered != nil {
				early.err = fmt.Errorf("an error within Firebreak ended the reading: %v", recovered) // beyond the reach of who recovers the caller
			}
		}()
		early.found, early.err = read(ctx, reader, &early.owner, pod.Namespace)
	}()
	return early
}

// read gives what was read early when it is of the owner that is asked for; nil otherwise.
func (e *expected) read(owner *metav1.OwnerReference) (*unstructured.Unstructured, error) {
	if e == nil || owner.APIVersion != e.owner.APIVersion || owner.Kind != e.owner.Kind || owner.Name != e.owner.Name {
		return nil, nil
	}
	<-e.done
	return e.found, e.err
}

// Name is what is known of the workload of what a reference names.
type Name struct {
	// Text is the name of the top owner; the reference's own for other kinds than pods, and
	// where the pod has no owner, is another than the one meant, or may not be read.
	Text string
	// Orphan is the UID of a pod whose workload its owners do not tell, or not any more: that of
	// the pod that is there, or the reference's where none of its name is. Empty otherwise: also
	// where the pod may not be read, or is another than the one meant.
	Orphan v1alpha1.ObjectUID
}

// NameOf finds out to which workload belongs what a reference names. An error is one of
// TopOwner's, or says the same about the pod.
func NameOf(ctx context.Context, reader client.Reader, reference v1alpha1.ResourceReference) (Name, error) {
	own := Name{Text: reference.Name}
	if reference.Kind != "Pod" || reference.APIVersion != "v1" || !isName(reference.Name) || !isName(reference.Namespace) {
		return own, nil
	}
	pod := &metav1.PartialObjectMetadata{}
	pod.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	err := reader.Get(ctx, client.ObjectKey{Namespace: reference.Namespace, Name: reference.Name}, pod)
	switch {
	case passes(err):
		return Name{}, fmt.Errorf("read pod %s/%s: %w", reference.Namespace, reference.Name, err)
	case apierrors.IsNotFound(err):
		own.Orphan = reference.UID
		return own, nil
	case err != nil || reference.UID != "" && string(reference.UID) != string(pod.UID):
		return own, nil
	}
	top, err := TopOwner(ctx, reader, &corev1.Pod{ObjectMeta: pod.ObjectMeta})
	if err != nil {
		return Name{}, err
	}
	if top.Name != "" {
		return Name{Text: top.Name}, nil
	}
	own.Orphan = v1alpha1.ObjectUID(pod.UID)
	return own, nil
}

// passes says whether an error is one that may be gone at the next try.
func passes(err error) bool {
	return err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err)
}

// isName says whether an object can have the name. To ask for another would never succeed.
func isName(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }
