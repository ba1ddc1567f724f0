package action

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action/isolation"
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
	if problem := r.deletePolicies(ctx, record); problem != nil {
		return *problem
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
		release := planRelease(pod.Labels, record, r.Step.Isolate)
		if len(release.patch) == 0 {
			return release.message(), nil
		}
		_, last = r.patchLabels(ctx, release.patch, pod.ResourceVersion)
		switch {
		case last == nil:
			return release.message(), nil
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

// release is what is given back to a pod.
type release struct {
	patch    map[string]any
	restored []isolation.Label
	workload []isolation.Label
	changed  []isolation.Label
	held     []isolation.Label
}

// planRelease decides which labels are given back: none that someone has set since,
// none while another isolation holds the pod, and those of the workload only when the
// step says so.
func planRelease(labels map[string]string, record *isolateRecord, step *v1alpha1.IsolateAction) release {
	plan := release{patch: map[string]any{}}
	readopt := step != nil && step.Readopt == v1alpha1.TrafficAllow
	held := false
	for key := range labels {
		held = held || isIsolationLabel(key) && key != record.Label.Key
	}
	if _, ok := labels[record.Label.Key]; ok {
		plan.patch[record.Label.Key] = nil
	}
	for _, label := range record.Removed {
		value, present := labels[label.Key]
		switch {
		case present && value == label.Value:
			plan.restored = append(plan.restored, label)
		case present:
			plan.changed = append(plan.changed, label)
		case held:
			plan.held = append(plan.held, label)
		case label.Workload && !readopt:
			plan.workload = append(plan.workload, label)
		default:
			plan.patch[label.Key] = label.Value
			plan.restored = append(plan.restored, label)
		}
	}
	return plan
}

func (p *release) message() string {
	parts := []string{"the pod's NetworkPolicy and label are removed"}
	if len(p.restored) > 0 {
		parts = append(parts, "given back: "+quoteKeys(p.restored))
	}
	if len(p.changed) > 0 {
		parts = append(parts, "left as somebody has set it since: "+quoteKeys(p.changed))
	}
	if len(p.held) > 0 {
		parts = append(parts, "not given back, because another isolation still holds the pod: "+quoteKeys(p.held))
	}
	if len(p.workload) > 0 {
		parts = append(parts, fmt.Sprintf("not given back, because the workload would take the pod back and delete a clean one: %s. No NetworkPolicy that selects by it restricts the pod any more: delete the pod when it is not needed",
			quoteKeys(p.workload)))
	}
	return strings.Join(parts, "; ")
}
