package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action/isolation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

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
	// Selector is what the policy selects by instead of Label, when a whole workload is isolated.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// ClusterPolicy is the name of the ClusterNetworkPolicy; empty when there is none.
	ClusterPolicy string `json:"clusterPolicy,omitempty"`
}

// selector is what the policies select by.
func (record *isolateRecord) selector() metav1.LabelSelector {
	if record.Selector != nil {
		return *record.Selector
	}
	return metav1.LabelSelector{MatchLabels: map[string]string{record.Label.Key: record.Label.Value}}
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
	if record.Policy == "" || record.Selector == nil && !isIsolationLabel(record.Label.Key) {
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
	for i := range step.Isolate.Allow.Ingress {
		from, ports := openTraffic(&step.Isolate.Allow.Ingress[i])
		cut.AllowIngress = append(cut.AllowIngress, networkingv1.NetworkPolicyIngressRule{From: from, Ports: ports})
	}
	for i := range step.Isolate.Allow.Egress {
		to, ports := openTraffic(&step.Isolate.Allow.Egress[i])
		cut.AllowEgress = append(cut.AllowEgress, networkingv1.NetworkPolicyEgressRule{To: to, Ports: ports})
	}
	if !cut.Ingress && !cut.Egress {
		return cut, fmt.Errorf("step '%s' cuts nothing: `isolate.ingress` or `isolate.egress` must be 'Deny'", step.Name)
	}
	return cut, nil
}

// Plan finds out whether the target can be isolated, and which labels that takes.
func (isolate) Plan(ctx context.Context, r *Request) lifecycle.Result {
	cut, err := cutOf(r.Step)
	if err != nil {
		return refused("%v", err)
	}
	record := r.newIsolateRecord()
	if problem := r.planClusterPolicy(ctx, record, &cut); problem != nil {
		return *problem
	}
	if r.isGroup() {
		return r.planGroup(ctx, record, cut)
	}
	return r.planPod(ctx, record, cut)
}

func (r *Request) planPod(ctx context.Context, record *isolateRecord, cut isolation.Cut) lifecycle.Result {
	pod, problem := r.isolatable(ctx)
	if problem != nil {
		return *problem
	}
	owner, isWorkloadLabel, err := r.workloadLabels(ctx, pod)
	if err != nil {
		return r.failure(err, r.accessTo("get", owner.kind, pod.Namespace, owner.Name))
	}
	policies, err := r.networkPolicies(ctx, r.Target.Namespace)
	if err != nil {
		return r.failure(err, r.policyAccess("list", ""))
	}
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
		return refused("%s cannot be isolated: %v", r.targetName(), inTheWay(err, others))
	}
	if err := record.carryOver(r.Target.Undo); err != nil {
		return refused("%v", err)
	}
	result := r.planned(record, record.describe("will be", cut)+r.probePlan())
	result.Warning = fights(r.targetName(), pod)
	return result
}

// planned is the plan of an isolation whose record is complete.
func (r *Request) planned(record *isolateRecord, message string) lifecycle.Result {
	undo, err := json.Marshal(record)
	if err != nil || len(undo) > MaxUndo {
		return refused("%s cannot be isolated: what undoing needs (%d labels and the selector) is more than can be recorded", r.targetName(), len(record.Removed))
	}
	if r.Step.Isolate.ClusterNetworkPolicy == v1alpha1.ClusterPolicyUsed && record.ClusterPolicy == "" {
		message += "; the cluster has no ClusterNetworkPolicies to use"
	}
	return lifecycle.Result{State: v1alpha1.TargetActing, Undo: string(undo), Message: say("%s", message)}
}

// inTheWay says of a policy in the way that is another incident's isolation what can be done.
func inTheWay(err error, policies []networkingv1.NetworkPolicy) error {
	var blocked *isolation.BlockedError
	if !errors.As(err, &blocked) {
		return err
	}
	for i := range policies {
		policy := &policies[i]
		if policy.Name == blocked.Policy && policy.Labels[LabelManagedBy] == ManagedBy {
			return fmt.Errorf("incident '%s' has isolated it with NetworkPolicy '%s', which leaves open what this step would cut: both must leave the same open (`allow`, `dns`), or the other must be undone first",
				policy.Labels[v1alpha1.LabelIncident], policy.Name)
		}
	}
	return err
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
	pod, absent := r.targetPod(ctx)
	if absent != nil {
		return nil, absent
	}
	var problem lifecycle.Result
	switch {
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

// Apply makes the policy and moves the pod under it with one write. The policy alone
// selects no pod.
func (isolate) Apply(ctx context.Context, r *Request) lifecycle.Result {
	cut, err := cutOf(r.Step)
	if err != nil {
		return refused("%v", err)
	}
	record, err := decodeIsolateRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	if record.Selector != nil {
		return r.startProbe(ctx, nil, r.applyGroup(ctx, record, cut))
	}
	pod, problem, err := r.cutOff(ctx, record, &cut)
	if problem != nil {
		return *problem
	}
	switch {
	case err != nil:
		return r.applyFailed(ctx, record, err)
	case r.DryRun:
		return done("%s", record.describe("would be", cut))
	default:
		return r.startProbe(ctx, pod, r.endConnections(ctx, r.judge(ctx, pod, record, cut)))
	}
}

// cutOff makes the policies and labels the pod. Where labels go, the policies come first:
// in the other order the pod would for a moment be without labels that policies restrict
// it by, and open to everybody. Otherwise neither write waits for the other.
func (r *Request) cutOff(ctx context.Context, record *isolateRecord, cut *isolation.Cut) (pod *corev1.Pod, problem *lifecycle.Result, err error) {
	labels := map[string]any{record.Label.Key: record.Label.Value}
	for _, label := range record.Removed {
		labels[label.Key] = nil
	}
	if len(record.Removed) > 0 || record.ClusterPolicy != "" {
		if problem := r.applyPolicies(ctx, record, cut); problem != nil {
			return nil, problem, nil
		}
		pod, err = r.patchPod(ctx, labels, nil, "")
		return pod, nil, err
	}
	var both sync.WaitGroup
	both.Go(func() {
		defer func() {
			if recovered := recover(); recovered != nil {
				err = fmt.Errorf("an error within Firebreak ended the labelling: %v", recovered) // beyond the reach of who recovers the caller
			}
		}()
		pod, err = r.patchPod(ctx, labels, nil, "")
	})
	problem = r.applyPolicies(ctx, record, cut)
	both.Wait()
	return pod, problem, err
}

// applyFailed says why the pod could not be labelled. A policy for a pod that is gone
// is taken away again.
func (r *Request) applyFailed(ctx context.Context, record *isolateRecord, err error) lifecycle.Result {
	_, problem := r.isolatable(ctx)
	if problem == nil || problem.State != v1alpha1.TargetGone {
		return r.failure(err, r.targetAccess("patch"))
	}
	if failure := r.deletePolicies(ctx, record); failure != nil {
		return *failure
	}
	if r.deletesPod() {
		// It was there when this was planned: an earlier try before a crash has deleted it.
		problem.State = v1alpha1.TargetSucceeded
	}
	return *problem
}

// applyPolicies makes the policies. They select nothing yet when they go by a label.
func (r *Request) applyPolicies(ctx context.Context, record *isolateRecord, cut *isolation.Cut) *lifecycle.Result {
	var problem lifecycle.Result
	if err := r.applyPolicy(ctx, record, *cut); apierrors.IsNotFound(err) {
		problem = gone("namespace '%s' does not exist any more", r.Target.Namespace)
		return &problem
	} else if err != nil {
		problem = r.failure(err, r.policyAccess("patch", record.Policy))
		return &problem
	}
	if record.ClusterPolicy == "" {
		return nil
	}
	cut.DenyTier = true
	if err := r.applyClusterPolicy(ctx, record, *cut); err != nil {
		problem = r.failure(err, clusterPolicyAccess("patch", record.ClusterPolicy))
		return &problem
	}
	return nil
}

// deletePolicies takes the policies away.
func (r *Request) deletePolicies(ctx context.Context, record *isolateRecord) *lifecycle.Result {
	_, problem := r.removePolicies(ctx, record)
	return problem
}

// standing looks whether the policies are as they were made, and gives the other
// NetworkPolicies of the namespace.
func (r *Request) standing(ctx context.Context, record *isolateRecord, cut *isolation.Cut) ([]networkingv1.NetworkPolicy, *lifecycle.Result) {
	var problem lifecycle.Result
	policies, err := r.networkPolicies(ctx, r.Target.Namespace)
	if err != nil {
		problem = r.failure(err, r.policyAccess("list", ""))
		return nil, &problem
	}
	own, others, err := r.divide(policies, record.Policy)
	if err == nil {
		err = stands(own, record, *cut)
	}
	if err != nil {
		problem = failed("%v", err)
		return nil, &problem
	}
	if record.ClusterPolicy == "" {
		return others, nil
	}
	cut.DenyTier = true
	return others, r.clusterPolicyStands(ctx, record, *cut)
}

// judge computes anew, from what is in the API now, whether the pod is isolated.
func (r *Request) judge(ctx context.Context, pod *corev1.Pod, record *isolateRecord, cut isolation.Cut) lifecycle.Result {
	others, problem := r.standing(ctx, record, &cut)
	if problem != nil {
		return *problem
	}
	if pod.Labels[record.Label.Key] != record.Label.Value {
		return takenBack(pod, "label '%s' was taken off %s: NetworkPolicy '%s' does not select it", record.Label.Key, r.targetName(), record.Policy)
	}
	further, err := isolation.Compute(isolation.Input{Labels: pod.Labels, Policies: others, Cut: cut, Keep: record.mustStay})
	switch {
	case err != nil:
		return refused("%s is not isolated: %v", r.targetName(), inTheWay(err, others))
	case len(further) == 0:
		result := done("%s", record.describe("is", cut))
		result.Proof = v1alpha1.ProofComputed
		return result
	case slices.ContainsFunc(further, record.hasRemoved):
		return takenBack(pod, "%s is not isolated: something has put back %s, by which a NetworkPolicy allows traffic to it", r.targetName(), quoteKeys(further))
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
	isProbed := r.Target.State == v1alpha1.TargetApplied
	if r.DryRun && !isProbed {
		return done("%s was not isolated: it was a dry run", r.targetName())
	}
	cut, err := cutOf(r.Step)
	if err != nil {
		return refused("%v", err)
	}
	record, err := decodeIsolateRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	if record.Selector != nil {
		return r.observeGroup(ctx, record, cut)
	}
	pod, problem := r.isolatable(ctx)
	switch {
	case problem != nil && problem.State == v1alpha1.TargetGone:
		problem.State = v1alpha1.TargetSucceeded
		return *problem
	case problem != nil && isProbed:
		return r.observeProbed(ctx, nil, *problem)
	case problem != nil:
		return *problem
	}
	result := r.judge(ctx, pod, record, cut)
	if isProbed {
		return r.observeProbed(ctx, pod, result)
	}
	if result.State == v1alpha1.TargetPending {
		result.State = v1alpha1.TargetFailed
	}
	return r.heldProof(result)
}
