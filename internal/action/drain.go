package action

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	podPage = 500
	// maxNamed is how many pods a message names.
	maxNamed = 8
)

// drain cordons a node and evicts its pods, by the rules of `kubectl drain`. The helper of
// kubectl itself is not used: it wants a clientset of its own, takes whoever names a
// DaemonSet as the owner of a pod at its word, and waits, polling, until the pods are gone.
type drain struct{}

var _ = register("drain", drain{})

// Plan finds out whether the node was cordoned before.
func (drain) Plan(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Drain == nil {
		return refused("step '%s' has no `drain`", r.Step.Name)
	}
	result := r.planNode(ctx, &unschedulable)
	if result.State == v1alpha1.TargetActing {
		result.Message = say("%s will be cordoned and its pods evicted", r.targetName())
	}
	return result
}

// Apply cordons the node and evicts what is on it. Pods that PodDisruptionBudgets protect,
// or that take their time, are looked at again until the step's deadline.
func (drain) Apply(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Drain == nil {
		return refused("step '%s' has no `drain`", r.Step.Name)
	}
	cordoned := unschedulable.apply(ctx, r)
	if cordoned.State != v1alpha1.TargetSucceeded {
		return cordoned
	}
	return r.evictAll(ctx)
}

// Observe looks what is left on the node, and evicts what could not be before.
func (drain) Observe(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Drain == nil {
		return refused("step '%s' has no `drain`", r.Step.Name)
	}
	standing := unschedulable.observe(ctx, r)
	if standing.State != v1alpha1.TargetSucceeded {
		return standing
	}
	// A node that is gone has nothing left to evict; one that could not be read may.
	if _, problem := r.present(ctx); problem != nil {
		return r.stillGone(*problem)
	}
	return r.evictAll(ctx)
}

// Undo takes the cordon back. The pods are gone.
func (drain) Undo(ctx context.Context, r *Request) lifecycle.Result {
	result := unschedulable.undo(ctx, r)
	if result.State == v1alpha1.TargetReverted && r.Target.Undo != "" {
		result.Message = say("%s; what was evicted does not come back", result.Message)
	}
	return result
}

// progress is what is left on a node that is being drained.
type progress struct {
	evicted, ending int
	blocked, kept   []string
	why             string
}

// evictAll goes once over the pods of the node.
func (r *Request) evictAll(ctx context.Context) lifecycle.Result {
	pods, err := r.podsOn(ctx, r.Target.Name)
	if err != nil {
		return r.failure(err, access{verb: "list", resource: "pods"})
	}
	left := &progress{}
	known := map[string]*appsv1.DaemonSet{}
	for i := range pods {
		if ctx.Err() != nil {
			break
		}
		if problem := r.drainPod(ctx, &pods[i], known, left); problem != nil {
			return *problem
		}
	}
	if ctx.Err() != nil {
		left.blocked = append(left.blocked, "those it has not come to yet")
	}
	return left.result(r)
}

// podsOn lists the pods that are bound to a node.
func (r *Request) podsOn(ctx context.Context, node string) ([]corev1.Pod, error) {
	var all []corev1.Pod
	list := &corev1.PodList{}
	for {
		err := r.Client.List(ctx, list, client.MatchingFields{"spec.nodeName": node}, client.Limit(podPage), client.Continue(list.Continue))
		if err != nil {
			return nil, err
		}
		all = append(all, list.Items...)
		if list.Continue == "" {
			return all, nil
		}
	}
}

func (r *Request) drainPod(ctx context.Context, pod *corev1.Pod, known map[string]*appsv1.DaemonSet, left *progress) *lifecycle.Result {
	name := pod.Namespace + "/" + pod.Name
	if isMirror(pod) && string(metav1.GetControllerOf(pod).UID) == string(r.Target.UID) {
		return nil
	}
	if pod.DeletionTimestamp != nil {
		left.ending++
		return nil
	}
	ofDaemonSet, problem := r.ofDaemonSet(ctx, pod, known)
	if problem != nil || ofDaemonSet {
		return problem
	}
	why := r.unmanaged(pod)
	if r.Protected != nil {
		protection, err := r.Protected(ctx, pod.Namespace)
		if err != nil {
			result := failed("%v", err)
			return &result
		}
		why = cmp.Or(protection, why)
	}
	if why != "" {
		left.kept = append(left.kept, name+" ("+why+")")
		return nil
	}
	err := r.evictPod(ctx, pod, r.Step.Drain.GracePeriodSeconds)
	switch {
	case apierrors.IsTooManyRequests(err):
		left.blocked, left.why = append(left.blocked, name), err.Error()
	case apierrors.IsForbidden(err):
		result := r.failure(err, evictAccess(pod.Namespace, pod.Name))
		return &result
	case err != nil:
		left.blocked, left.why = append(left.blocked, name), err.Error()
	default:
		left.evicted++
	}
	return nil
}

// ofDaemonSet says that a pod belongs to a DaemonSet, which would start it anew on this
// very node. Anybody can write that into a pod: the DaemonSet must be there, and select it.
func (r *Request) ofDaemonSet(ctx context.Context, pod *corev1.Pod, known map[string]*appsv1.DaemonSet) (bool, *lifecycle.Result) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "DaemonSet" || owner.APIVersion != appsv1.SchemeGroupVersion.String() {
		return false, nil
	}
	key := client.ObjectKey{Namespace: pod.Namespace, Name: owner.Name}
	set, read := known[key.String()]
	if !read {
		set = &appsv1.DaemonSet{}
		err := r.Client.Get(ctx, key, set)
		switch {
		case apierrors.IsNotFound(err):
			set = nil
		case err != nil:
			problem := r.failure(err, access{verb: "get", group: appsv1.GroupName, resource: "daemonsets", namespace: key.Namespace, name: key.Name})
			return false, &problem
		}
		known[key.String()] = set
	}
	if set == nil || set.UID != owner.UID {
		return false, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	return err == nil && !selector.Empty() && selector.Matches(labels.Set(pod.Labels)), nil
}

// unmanaged says why a pod, or what it holds, would be lost by evicting it. A pod that has
// ended has nothing to lose.
func (r *Request) unmanaged(pod *corev1.Pod) string {
	if r.Step.Drain.UnmanagedPods == v1alpha1.UnmanagedDelete || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return ""
	}
	if metav1.GetControllerOf(pod) == nil {
		return "nothing would start it anew"
	}
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].EmptyDir != nil {
			return "it has data in an emptyDir"
		}
	}
	return ""
}

// result says what is left, and when to look again.
func (p *progress) result(r *Request) lifecycle.Result {
	kept := ""
	if len(p.kept) > 0 {
		kept = fmt.Sprintf("; %d pods stay: %s", len(p.kept), someOf(p.kept))
	}
	switch {
	case r.DryRun:
		return done("%d pods of %s would be evicted, %d cannot be now%s", p.evicted, r.targetName(), len(p.blocked), kept)
	case len(p.blocked) > 0:
		result := applied("%d pods of %s cannot be evicted yet: %s: %s%s", len(p.blocked), r.targetName(), someOf(p.blocked), p.why, kept)
		result.After = evictAgainAfter
		return result
	case p.evicted+p.ending > 0:
		result := applied("%d pods of %s are ending%s", p.evicted+p.ending, r.targetName(), kept)
		result.After = evictedAfter
		return result
	case len(p.kept) > 0:
		return refused("%s is drained but for %d pods: %s. `unmanagedPods: Delete` evicts those that nothing would start anew, or that have data in an emptyDir", r.targetName(), len(p.kept), someOf(p.kept))
	}
	return done("%s is drained: only pods of DaemonSets and static pods are left", r.targetName())
}

// someOf names the first of many.
func someOf(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}
