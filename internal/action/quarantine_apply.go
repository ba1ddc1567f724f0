package action

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// Apply takes the labels off with one write, and marks the pod.
func (quarantine) Apply(ctx context.Context, r *Request) lifecycle.Result {
	record, problem := r.decodeQuarantine()
	if problem != nil {
		return *problem
	}
	text, err := json.Marshal(holdMark{Incident: r.Incident.Namespace + "/" + r.Incident.Name, Before: record})
	if err != nil {
		return refused("%v", err)
	}
	change := map[string]any{record.Mark: ShortHash(shortHashDigits, string(r.Target.UID))}
	for _, label := range record.Removed {
		change[label.Key] = nil
	}
	pod, err := r.patchPod(ctx, change, map[string]any{record.Mark: string(text)}, "")
	if err != nil {
		if _, problem := r.targetPod(ctx); problem != nil && problem.State == v1alpha1.TargetGone {
			return *problem
		}
		return r.failure(err, r.targetAccess("patch"))
	}
	result := r.judgeQuarantine(ctx, pod, record)
	if result.State == v1alpha1.TargetFailed && !result.Permanent && !result.Unknown {
		// A Service or selector was added since: what goes must be recorded before.
		result.State = v1alpha1.TargetPending
	}
	return result
}

// patchPod writes labels and annotations of the target pod, and of no other: a patch with
// another UID is refused. A nil value takes one away. With a version it is written only if
// nobody has changed the pod since.
func (r *Request) patchPod(ctx context.Context, labels, annotations map[string]any, version string) (*corev1.Pod, error) {
	metadata := map[string]any{"uid": r.Target.UID, "labels": labels}
	if annotations != nil {
		metadata["annotations"] = annotations
	}
	if version != "" {
		metadata["resourceVersion"] = version
	}
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = r.Target.Namespace, r.Target.Name
	return pod, r.Client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldOwner(r.Incident)))
}

// judgeQuarantine finds out anew whether anything selects the pod.
func (r *Request) judgeQuarantine(ctx context.Context, pod *corev1.Pod, record *quarantineRecord) lifecycle.Result {
	was := *record
	selections, problem := r.selections(ctx, pod, &was)
	if problem != nil {
		return *problem
	}
	if _, marked := pod.Annotations[record.Mark]; !marked {
		return takenBack(pod, "something has taken the mark '%s' off %s, by which others see that this incident holds it", record.Mark, r.targetName())
	}
	for _, one := range selections {
		if one.selector.Matches(labels.Set(pod.Labels)) {
			return takenBack(pod, "%s is selected by %s: a label was put back, or that was added or changed since", r.targetName(), one.name)
		}
	}
	return done("%s", record.describe(pod.Spec.NodeName))
}

// Observe looks whether anything selects the pod again.
func (quarantine) Observe(ctx context.Context, r *Request) lifecycle.Result {
	record, problem := r.decodeQuarantine()
	if problem != nil {
		return *problem
	}
	pod, problem := r.targetPod(ctx)
	if problem != nil {
		return r.stillGone(*problem)
	}
	return r.judgeQuarantine(ctx, pod, record)
}

// Undo gives back the labels of Services, and those of the workload when the step says so.
func (quarantine) Undo(ctx context.Context, r *Request) lifecycle.Result {
	if r.Target.Undo == "" {
		return reverted("nothing was done to it")
	}
	record, problem := r.decodeQuarantine()
	if problem != nil {
		return *problem
	}
	var last error
	for range patchTries {
		pod, problem := r.targetPod(ctx)
		if problem != nil {
			return undone(*problem)
		}
		if _, marked := pod.Annotations[record.Mark]; !marked {
			return reverted("%s is left as it is: nothing of this step is on it (any more)", r.targetName())
		}
		readopt := r.Step.Quarantine != nil && r.Step.Quarantine.Readopt == v1alpha1.TrafficAllow
		back := handBack(pod, record.Mark, record.Removed, readopt)
		back.annotations[record.Mark] = nil
		_, last = r.patchPod(ctx, back.labels, back.annotations, pod.ResourceVersion)
		switch {
		case last == nil:
			return reverted("%s", quarantineWords(back))
		case apierrors.IsConflict(last), apierrors.IsInvalid(last), apierrors.IsNotFound(last):
			// Changed or replaced since it was read: look again.
		default:
			return r.failure(last, r.targetAccess("patch"))
		}
	}
	return r.failure(last, r.targetAccess("patch"))
}

// quarantineWords say what was given back to a pod.
func quarantineWords(back *handback) string {
	parts := append([]string{"the pod is out of quarantine"}, back.words()...)
	if len(back.workload) > 0 {
		parts = append(parts, fmt.Sprintf("not given back, because the workload would take the pod back and delete a clean one: %s. Delete the pod when it is not needed", quoteKeys(back.workload)))
	}
	return strings.Join(parts, "; ")
}
