package action

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// evictAgainAfter is how soon an eviction is tried again that a PodDisruptionBudget
	// does not allow.
	evictAgainAfter = 5 * time.Second
	// evictedAfter is how soon a pod is looked at that is ending.
	evictedAfter = 2 * time.Second
)

// evict deletes a pod as far as its PodDisruptionBudgets allow.
type evict struct{}

var _ = register("evict", evict{})

// evictPod asks for the eviction of one pod, by its UID.
func (r *Request) evictPod(ctx context.Context, pod *corev1.Pod, grace *int64) error {
	uid := pod.UID
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: grace, Preconditions: &metav1.Preconditions{UID: &uid}},
	}
	err := r.Client.SubResource("eviction").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}, eviction)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // It is gone, or another has its name: whoever looks next sees it.
	}
	return err
}

func evictAccess(namespace, name string) access {
	return access{verb: "create", resource: "pods/eviction", namespace: namespace, name: name}
}

// isMirror says that a pod only shows a static pod of its node: the API cannot end it.
func isMirror(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	_, mirrors := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return mirrors && owner != nil && owner.Kind == "Node"
}

// targetPod reads the target pod.
func (r *Request) targetPod(ctx context.Context) (*corev1.Pod, *lifecycle.Result) {
	pod := &corev1.Pod{}
	if problem := r.absent(pod, r.Client.Get(ctx, targetKey(&r.Target), pod)); problem != nil {
		return nil, problem
	}
	return pod, nil
}

// Plan looks whether the pod is there and can be evicted.
func (evict) Plan(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Evict == nil {
		return refused("step '%s' has no `evict`", r.Step.Name)
	}
	if problem := r.mustBe(podKind); problem != nil {
		return *problem
	}
	pod, problem := r.targetPod(ctx)
	switch {
	case problem != nil:
		return *problem
	case isMirror(pod):
		return refused("%s only shows a static pod of node '%s', which no request to the API can end: its manifest must be taken off the node", r.targetName(), pod.Spec.NodeName)
	}
	return lifecycle.Result{State: v1alpha1.TargetActing, Message: say("%s will be evicted", r.targetName())}
}

// Apply evicts the pod. Where a PodDisruptionBudget does not allow it now, it is tried
// again when the pod is looked at, until the step's deadline.
func (evict) Apply(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Evict == nil {
		return refused("step '%s' has no `evict`", r.Step.Name)
	}
	pod, problem := r.targetPod(ctx)
	switch {
	case problem != nil && problem.State == v1alpha1.TargetGone:
		return done("%s is evicted", r.targetName())
	case problem != nil:
		return *problem
	case pod.DeletionTimestamp == nil:
		err := r.evictPod(ctx, pod, r.Step.Evict.GracePeriodSeconds)
		if apierrors.IsTooManyRequests(err) {
			result := applied("%s waits to be evicted: %v", r.targetName(), err)
			result.After = evictAgainAfter
			return result
		}
		if err != nil {
			return r.failure(err, evictAccess(pod.Namespace, pod.Name))
		}
		if r.DryRun {
			return done("%s would be evicted", r.targetName())
		}
	}
	result := r.deleted(ctx)
	switch result.State {
	case v1alpha1.TargetSucceeded:
		return done("%s is evicted", r.targetName())
	case v1alpha1.TargetApplied:
		result.After = evictedAfter
	}
	return result
}

// Observe looks whether the pod is gone, and evicts it if it could not be before.
func (e evict) Observe(ctx context.Context, r *Request) lifecycle.Result { return e.Apply(ctx, r) }

// Undo cannot bring back what was evicted.
func (evict) Undo(_ context.Context, r *Request) lifecycle.Result {
	return refused("%s was evicted, and that cannot be undone", r.targetName())
}
