package action

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// patchTries is how often labels are given back when the pod is changed at the same time.
const patchTries = 5

// Undo gives back what may be given back, and takes the policy away last: in the other
// order the pod would for a moment be without any policy.
func (isolate) Undo(ctx context.Context, r *Request) lifecycle.Result {
	if r.Target.Undo == "" {
		return reverted("nothing was done to it")
	}
	record, err := decodeIsolateRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	message := "the policy is removed: " + r.targetName() + " has its network back, as far as other policies let it"
	if record.Selector == nil {
		var problem *lifecycle.Result
		if message, problem = r.releasePod(ctx, record); problem != nil {
			return *problem
		}
	}
	left, problem := r.removePolicies(ctx, record)
	if problem == nil {
		message += r.deleteProbes(ctx)
	}
	switch {
	case problem != nil:
		return *problem
	case len(left) > 0 && record.Selector != nil:
		return reverted("%s; until then %s stays isolated", strings.Join(left, "; "), r.targetName())
	case len(left) > 0:
		return reverted("%s; of the rest: %s", strings.Join(left, "; "), message)
	}
	return reverted("%s", message)
}

// releasePod takes the isolating label off the pod and gives others back. It says what
// it did and what it could not.
func (r *Request) releasePod(ctx context.Context, record *isolateRecord) (message string, problem *lifecycle.Result) {
	var last error
	for range patchTries {
		pod := &corev1.Pod{}
		err := r.Client.Get(ctx, targetKey(&r.Target), pod)
		if apierrors.IsNotFound(err) || err == nil && !r.isTarget(pod) {
			return fmt.Sprintf("%s does not exist any more; its NetworkPolicy is removed", r.targetName()), nil
		}
		if err != nil {
			failure := r.failure(err, r.targetAccess("get"))
			return "", &failure
		}
		readopt := r.Step.Isolate != nil && r.Step.Isolate.Readopt == v1alpha1.TrafficAllow
		back := handBack(pod, record.Label.Key, record.Removed, readopt)
		if len(back.labels)+len(back.annotations) == 0 {
			return releaseWords(back), nil
		}
		_, last = r.patchPod(ctx, back.labels, back.annotations, pod.ResourceVersion)
		switch {
		case last == nil:
			return releaseWords(back), nil
		case apierrors.IsConflict(last), apierrors.IsInvalid(last), apierrors.IsNotFound(last):
			// Changed or replaced since it was read: look again.
		default:
			failure := r.failure(last, r.targetAccess("patch"))
			return "", &failure
		}
	}
	failure := r.failure(last, r.targetAccess("patch"))
	return "", &failure
}

// releaseWords say what was given back to a pod.
func releaseWords(back *handback) string {
	parts := append([]string{"the pod's NetworkPolicy and label are removed"}, back.words()...)
	if len(back.workload) > 0 {
		parts = append(parts, fmt.Sprintf("not given back, because the workload would take the pod back and delete a clean one: %s. No NetworkPolicy that selects by it restricts the pod any more: delete the pod when it is not needed",
			quoteKeys(back.workload)))
	}
	return strings.Join(parts, "; ")
}
