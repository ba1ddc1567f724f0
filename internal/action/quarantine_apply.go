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
	"github.com/firebreak-dev/firebreak/internal/action/isolation"
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

// patchPod writes labels and annotations of the target pod, and of no other; nil takes
// one away. With a version it is written only if nobody has changed the pod since.
func (r *Request) patchPod(ctx context.Context, labels, annotations map[string]any, version string) (*corev1.Pod, error) {
	metadata := map[string]any{"uid": r.Target.UID, "labels": labels, "annotations": annotations}
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
		change, says := record.release(pod, readopt, r.otherHolder(pod, record.Mark))
		_, last = r.patchPod(ctx, change, map[string]any{record.Mark: nil}, pod.ResourceVersion)
		switch {
		case last == nil:
			return reverted("%s", says)
		case apierrors.IsConflict(last), apierrors.IsInvalid(last), apierrors.IsNotFound(last):
			// Changed or replaced since it was read: look again.
		default:
			return r.failure(last, r.targetAccess("patch"))
		}
	}
	return r.failure(last, r.targetAccess("patch"))
}

// release decides which labels are given back, and says so.
func (record *quarantineRecord) release(pod *corev1.Pod, readopt bool, holder string) (change map[string]any, says string) {
	change = map[string]any{record.Mark: nil}
	var given, changed, workload []isolation.Label
	for _, label := range record.Removed {
		value, present := pod.Labels[label.Key]
		switch {
		case present && value == label.Value:
		case present:
			changed = append(changed, label)
		case holder != "":
		case label.Workload && !readopt:
			workload = append(workload, label)
		default:
			change[label.Key] = label.Value
			given = append(given, label)
		}
	}
	parts := []string{"the pod is out of quarantine"}
	if holder != "" {
		parts = []string{"the labels of the pod stay as they are: " + holder + " needs them so"}
	}
	if len(given) > 0 {
		parts = append(parts, "given back: "+quoteKeys(given))
	}
	if len(changed) > 0 {
		parts = append(parts, "left as somebody has set it since: "+quoteKeys(changed))
	}
	if len(workload) > 0 {
		parts = append(parts, fmt.Sprintf("not given back, because the workload would take the pod back and delete a clean one: %s. Delete the pod when it is not needed", quoteKeys(workload)))
	}
	return change, strings.Join(parts, "; ")
}

// otherHolder says who else holds a pod that a mark is taken off; empty when nobody does.
// Isolations of this incident do not count: they are undone for themselves.
func (r *Request) otherHolder(pod *corev1.Pod, own string) string {
	others := holdMarksOf(pod, quarantinePrefix, "")
	delete(others, own)
	if len(others) > 0 {
		return holders(others)
	}
	ours := map[string]bool{}
	for i := range r.Incident.Status.Steps {
		ours[isolationPrefix+ShortHash(shortHashDigits, string(r.Incident.UID), r.Incident.Status.Steps[i].Name)] = true
	}
	for key := range pod.Labels {
		if isIsolationLabel(key) && !ours[key] {
			return "an isolation of another incident"
		}
	}
	return ""
}
