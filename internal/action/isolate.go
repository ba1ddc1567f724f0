package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action/isolation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// maxUndo is how many bytes an undo record may have.
const maxUndo = 4096

// isolate cuts the network of a pod: a policy of its own that allows nothing, and no
// label left by which any other policy allows something.
type isolate struct{}

var _ = register("isolate", isolate{})

// isolateRecord is what undoing an isolation needs.
type isolateRecord struct {
	// Policy is the name of the isolating NetworkPolicy.
	Policy string `json:"policy"`
	// Label is the label it selects the pod by. Its key is of this incident and step,
	// its value of this pod.
	Label isolation.Label `json:"label"`
	// Removed are the labels taken off the pod.
	Removed []isolation.Label `json:"removed,omitempty"`
	// Owner is the pod's workload, to tell people.
	Owner ownerName `json:"owner,omitzero"`
}

type ownerName struct {
	Kind string `json:"kind,omitempty"`
	Name string `json:"name,omitempty"`
}

func (r *Request) newIsolateRecord() *isolateRecord {
	incident, uid := string(r.Incident.UID), string(r.Target.UID)
	return &isolateRecord{
		Policy: NameFor("firebreak-"+r.Incident.Name, ShortHash(shortHashDigits, incident, r.Step.Name, uid), 253),
		Label: isolation.Label{
			Key:   isolationPrefix + ShortHash(shortHashDigits, incident, r.Step.Name),
			Value: ShortHash(shortHashDigits, uid),
		},
	}
}

func decodeIsolateRecord(text string) (*isolateRecord, error) {
	record := &isolateRecord{}
	if err := json.Unmarshal([]byte(text), record); err != nil {
		return nil, fmt.Errorf("the record of what to undo cannot be read: %w", err)
	}
	if record.Policy == "" || !strings.HasPrefix(record.Label.Key, isolationPrefix) {
		return nil, errors.New("the record of what to undo names no NetworkPolicy and label of Firebreak")
	}
	return record, nil
}

// cutOf says what a step cuts. Empty fields mean Deny.
func cutOf(step *v1alpha1.PlaybookStep) (isolation.Cut, error) {
	if step.Isolate == nil {
		return isolation.Cut{}, fmt.Errorf("step '%s' has no `isolate`", step.Name)
	}
	cut := isolation.Cut{
		Ingress:  step.Isolate.Ingress != v1alpha1.TrafficAllow,
		Egress:   step.Isolate.Egress != v1alpha1.TrafficAllow,
		AllowDNS: step.Isolate.DNS == v1alpha1.TrafficAllow,
	}
	if !cut.Ingress && !cut.Egress {
		return cut, fmt.Errorf("step '%s' cuts nothing: `isolate.ingress` or `isolate.egress` must be 'Deny'", step.Name)
	}
	return cut, nil
}

// Plan finds out whether the pod can be isolated, and which labels that takes.
func (isolate) Plan(ctx context.Context, r *Request) lifecycle.Result {
	cut, err := cutOf(r.Step)
	if err != nil {
		return refused("%v", err)
	}
	pod, problem := r.isolatable(ctx)
	if problem != nil {
		return *problem
	}
	owner, isWorkloadLabel, err := r.workloadLabels(ctx, pod)
	if err != nil {
		return r.failure(err, r.accessTo("get", owner.kind, pod.Namespace, owner.Name))
	}
	policies, err := r.networkPolicies(ctx)
	if err != nil {
		return r.failure(err, r.policyAccess("list", ""))
	}
	record := r.newIsolateRecord()
	record.Owner = owner.ownerName
	_, others, err := r.divide(policies, record.Policy)
	if err != nil {
		return refused("%v", err)
	}
	labels := maps.Clone(pod.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[record.Label.Key] = record.Label.Value
	record.Removed, err = isolation.Compute(isolation.Input{Labels: labels, Policies: others, Cut: cut, Keep: record.mustStay, Workload: isWorkloadLabel})
	if err != nil {
		return refused("%s cannot be isolated: %v", r.targetName(), err)
	}
	if err := record.carryOver(r.Target.Undo); err != nil {
		return refused("%v", err)
	}
	undo, err := json.Marshal(record)
	if err != nil || len(undo) > maxUndo {
		return refused("%s cannot be isolated: %d labels would have to be taken away, which is more than can be recorded to give them back", r.targetName(), len(record.Removed))
	}
	return lifecycle.Result{State: v1alpha1.TargetActing, Undo: string(undo), Message: say("%s", record.describe("will be", cut))}
}

// carryOver keeps what an earlier try of this step may have taken away.
func (record *isolateRecord) carryOver(undo string) error {
	if undo == "" {
		return nil
	}
	earlier, err := decodeIsolateRecord(undo)
	if err != nil {
		return err
	}
	for _, label := range earlier.Removed {
		if !slices.ContainsFunc(record.Removed, func(known isolation.Label) bool { return known.Key == label.Key }) {
			record.Removed = append(record.Removed, label)
		}
	}
	return nil
}

// isolatable reads the pod and says why no NetworkPolicy can be of use for it.
func (r *Request) isolatable(ctx context.Context) (*corev1.Pod, *lifecycle.Result) {
	pod := &corev1.Pod{}
	err := r.Client.Get(ctx, targetKey(&r.Target), pod)
	var problem lifecycle.Result
	switch {
	case apierrors.IsNotFound(err):
		problem = gone(saysGone, r.targetName())
	case err != nil:
		problem = r.failure(err, r.targetAccess("get"))
	case !r.isTarget(pod):
		problem = gone(saysReplaced, r.targetName())
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		problem = gone("%s has ended (%s): it has no network any more", r.targetName(), pod.Status.Phase)
	case pod.Spec.HostNetwork:
		problem = refused("%s uses the network of its node '%s' (`hostNetwork: true`), and no NetworkPolicy applies to such pods: delete the pod, and cordon the node first if the pod would come back there",
			r.targetName(), pod.Spec.NodeName)
	default:
		return pod, nil
	}
	return nil, &problem
}

// Apply makes the policy first and then moves the pod under it with one write: in the
// other order the pod would for a moment be without labels that policies restrict it
// by, and open to everybody. The policy alone selects no pod.
func (isolate) Apply(ctx context.Context, r *Request) lifecycle.Result {
	cut, err := cutOf(r.Step)
	if err != nil {
		return refused("%v", err)
	}
	record, err := decodeIsolateRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	if err := r.applyPolicy(ctx, record, cut); apierrors.IsNotFound(err) {
		return gone("namespace '%s' does not exist any more", r.Target.Namespace)
	} else if err != nil {
		return r.failure(err, r.policyAccess("patch", record.Policy))
	}
	labels := map[string]any{record.Label.Key: record.Label.Value}
	for _, label := range record.Removed {
		labels[label.Key] = nil
	}
	pod, err := r.patchLabels(ctx, labels, "")
	if err != nil {
		return r.applyFailed(ctx, record, err)
	}
	return r.judge(ctx, pod, record, cut)
}

// applyFailed says why the pod could not be labelled. A policy for a pod that is gone
// is taken away again.
func (r *Request) applyFailed(ctx context.Context, record *isolateRecord, err error) lifecycle.Result {
	_, problem := r.isolatable(ctx)
	if problem == nil || problem.State != v1alpha1.TargetGone {
		return r.failure(err, r.targetAccess("patch"))
	}
	if at, err := r.deletePolicy(ctx, record.Policy); err != nil {
		return r.failure(err, at)
	}
	return *problem
}

// patchLabels writes labels of the target pod, and of no other: a patch with another
// UID is refused. A nil value takes the label away. With a resource version it is
// written only if nobody has changed the pod since.
func (r *Request) patchLabels(ctx context.Context, labels map[string]any, resourceVersion string) (*corev1.Pod, error) {
	metadata := map[string]any{"uid": r.Target.UID, "labels": labels}
	if resourceVersion != "" {
		metadata["resourceVersion"] = resourceVersion
	}
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = r.Target.Namespace, r.Target.Name
	return pod, r.Client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldOwner(r.Incident)))
}

// judge computes anew, from what is in the API now, whether the pod is isolated.
func (r *Request) judge(ctx context.Context, pod *corev1.Pod, record *isolateRecord, cut isolation.Cut) lifecycle.Result {
	policies, err := r.networkPolicies(ctx)
	if err != nil {
		return r.failure(err, r.policyAccess("list", ""))
	}
	own, others, err := r.divide(policies, record.Policy)
	if err == nil {
		err = stands(own, record, cut)
	}
	if err != nil {
		return failed("%v", err)
	}
	if pod.Labels[record.Label.Key] != record.Label.Value {
		return failed("label '%s' was taken off %s: NetworkPolicy '%s' does not select it", record.Label.Key, r.targetName(), record.Policy)
	}
	further, err := isolation.Compute(isolation.Input{Labels: pod.Labels, Policies: others, Cut: cut, Keep: record.mustStay})
	switch {
	case err != nil:
		return refused("%s is not isolated: %v", r.targetName(), err)
	case len(further) == 0:
		result := done("%s", record.describe("is", cut))
		result.Proof = v1alpha1.ProofComputed
		return result
	case slices.ContainsFunc(further, record.hasRemoved):
		return failed("%s is not isolated: something has put back %s, by which a NetworkPolicy allows traffic to it", r.targetName(), quoteKeys(further))
	default:
		// What is taken away must be recorded before: plan again.
		return lifecycle.Result{State: v1alpha1.TargetPending, Message: say(
			"%s is not isolated yet: a NetworkPolicy that was added or changed at the same time allows traffic by %s", r.targetName(), quoteKeys(further))}
	}
}

func (record *isolateRecord) hasRemoved(label isolation.Label) bool {
	return slices.ContainsFunc(record.Removed, func(removed isolation.Label) bool { return removed.Key == label.Key })
}

// Observe looks whether the isolation stands.
func (isolate) Observe(ctx context.Context, r *Request) lifecycle.Result {
	cut, err := cutOf(r.Step)
	if err != nil {
		return refused("%v", err)
	}
	record, err := decodeIsolateRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	pod, problem := r.isolatable(ctx)
	switch {
	case problem != nil && problem.State == v1alpha1.TargetGone:
		problem.State = v1alpha1.TargetSucceeded
		return *problem
	case problem != nil:
		return *problem
	}
	result := r.judge(ctx, pod, record, cut)
	if result.State == v1alpha1.TargetPending {
		result.State = v1alpha1.TargetFailed
	}
	return result
}

// describe says what the isolation is and what follows from it.
func (record *isolateRecord) describe(verb string, cut isolation.Cut) string {
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "%s %s cut by NetworkPolicy '%s'", describeCut(cut), agree(verb, cut), record.Policy)
	if len(record.Removed) == 0 {
		return text.String()
	}
	_, _ = fmt.Fprintf(&text, "; %s taken off the pod, because other policies allow traffic by it", quoteKeys(record.Removed))
	if !slices.ContainsFunc(record.Removed, func(label isolation.Label) bool { return label.Workload }) {
		return text.String()
	}
	switch record.Owner.Kind {
	case "StatefulSet":
		_, _ = fmt.Fprintf(&text, "; StatefulSet '%s' loses the pod and cannot replace it until it is deleted", record.Owner.Name)
	case "":
	default:
		_, _ = fmt.Fprintf(&text, "; %s '%s' loses the pod and starts a clean one", record.Owner.Kind, record.Owner.Name)
	}
	return text.String()
}

// agree makes the verb agree with what describeCut names.
func agree(verb string, cut isolation.Cut) string {
	if verb == "is" && cut.Ingress && cut.Egress {
		return "are"
	}
	return verb
}

func describeCut(cut isolation.Cut) string {
	text := "ingress and egress"
	switch {
	case !cut.Egress:
		return "ingress"
	case !cut.Ingress:
		text = "egress"
	}
	if cut.AllowDNS {
		text += " (but for name resolution)"
	}
	return text
}

func quoteKeys(labels []isolation.Label) string {
	keys := make([]string, 0, len(labels))
	for _, label := range labels {
		keys = append(keys, "'"+label.Key+"'")
	}
	word := "label "
	if len(keys) > 1 {
		word = "labels "
	}
	return word + strings.Join(keys, ", ")
}

// mustStay says of a label that it cannot be taken away: the labels of other isolations,
// and those that a StatefulSet puts back on its pods by itself.
func (record *isolateRecord) mustStay(key string) bool {
	return isIsolationLabel(key) || record.Owner.Kind == "StatefulSet" && slices.Contains(identityLabels, key)
}

func isIsolationLabel(key string) bool { return strings.HasPrefix(key, isolationPrefix) }
