package action

import (
	"context"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action/isolation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// clusterPolicyKind is the kind whose Admin tier comes before every NetworkPolicy.
var clusterPolicyKind = schema.GroupVersionKind{Group: "policy.networking.k8s.io", Version: "v1alpha2", Kind: "ClusterNetworkPolicy"}

// firstPriority comes before every other of the tier.
const firstPriority = int64(0)

func clusterPolicyAccess(verb, name string) access {
	return access{verb: verb, group: clusterPolicyKind.Group, resource: "clusternetworkpolicies", name: name}
}

// planClusterPolicy decides whether there will be a ClusterNetworkPolicy: when the step
// wants one, the cluster knows the kind, and no other comes before it.
func (r *Request) planClusterPolicy(ctx context.Context, record *isolateRecord, cut *isolation.Cut) *lifecycle.Result {
	if r.Step.Isolate.ClusterNetworkPolicy != v1alpha1.ClusterPolicyUsed {
		return nil
	}
	var problem lifecycle.Result
	_, err := r.Client.RESTMapper().RESTMapping(clusterPolicyKind.GroupKind(), clusterPolicyKind.Version)
	switch {
	case meta.IsNoMatchError(err):
		return nil
	case err != nil:
		problem = r.failure(err, clusterPolicyAccess("list", ""))
		return &problem
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(clusterPolicyKind.GroupVersion().WithKind("ClusterNetworkPolicyList"))
	err = r.Client.List(ctx, list)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil // the API was taken away since
	}
	if err != nil {
		problem = r.failure(err, clusterPolicyAccess("list", ""))
		return &problem
	}
	for i := range list.Items {
		if rival := &list.Items[i]; rivals(rival, *cut) {
			problem = refused("ClusterNetworkPolicy '%s' lets traffic through with priority %d of the Admin tier, and which of two with one priority counts is not defined: give it another priority, or say `clusterNetworkPolicy: Ignore`",
				rival.GetName(), firstPriority)
			return &problem
		}
	}
	record.ClusterPolicy, cut.DenyTier = record.Policy, true
	return nil
}

// rivals says whether a policy of others lets something through before ours denies it.
func rivals(policy *unstructured.Unstructured, cut isolation.Cut) bool {
	tier, _, _ := unstructured.NestedString(policy.Object, "spec", "tier")
	priority, _, _ := unstructured.NestedInt64(policy.Object, "spec", "priority")
	if tier != "Admin" || priority != firstPriority || policy.GetLabels()[LabelManagedBy] == ManagedBy {
		return false
	}
	for direction, isCut := range map[string]bool{"ingress": cut.Ingress, "egress": cut.Egress} {
		rules, _, _ := unstructured.NestedSlice(policy.Object, "spec", direction)
		for _, rule := range rules {
			if content, ok := rule.(map[string]any); isCut && ok && content["action"] != "Deny" {
				return true
			}
		}
	}
	return false
}

// clusterPolicySpec denies what is cut, but what stays open.
func (r *Request) clusterPolicySpec(record *isolateRecord, cut isolation.Cut) (map[string]any, error) {
	selector := record.selector()
	pods, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&selector)
	if err != nil {
		return nil, err
	}
	spec := map[string]any{
		"tier": "Admin", "priority": firstPriority,
		"subject": map[string]any{"pods": map[string]any{
			"namespaceSelector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": r.Target.Namespace}},
			"podSelector":       pods,
		}},
	}
	everyPod := map[string]any{"namespaces": map[string]any{}}
	if cut.Ingress {
		spec["ingress"] = []any{map[string]any{"name": "deny", "action": "Deny", "from": []any{everyPod}}}
	}
	if cut.Egress {
		everywhere := map[string]any{"networks": []any{"0.0.0.0/0", "::/0"}}
		rules := []any{}
		for i, open := range isolation.Policy(selector, cut).Egress {
			rules = append(rules, acceptEgress(i, &open, everywhere))
		}
		spec["egress"] = append(rules, map[string]any{"name": "deny", "action": "Deny", "to": []any{everywhere, everyPod}})
	}
	return spec, nil
}

// acceptEgress leaves open what a rule of the NetworkPolicy leaves open.
func acceptEgress(number int, open *networkingv1.NetworkPolicyEgressRule, everywhere map[string]any) map[string]any {
	rule := map[string]any{"name": fmt.Sprintf("allow-%d", number), "action": "Accept", "to": []any{everywhere}}
	if len(open.To) > 0 {
		networks := []any{}
		for _, peer := range open.To {
			networks = append(networks, peer.IPBlock.CIDR)
		}
		rule["to"] = []any{map[string]any{"networks": networks}}
	}
	protocols := []any{}
	for _, port := range open.Ports {
		number := map[string]any{"number": int64(port.Port.IntVal)}
		if port.EndPort != nil {
			number = map[string]any{"range": map[string]any{"start": int64(port.Port.IntVal), "end": int64(*port.EndPort)}}
		}
		protocols = append(protocols, map[string]any{protocolField(&port): map[string]any{"destinationPort": number}})
	}
	if len(protocols) > 0 {
		rule["protocols"] = protocols
	}
	return rule
}

func protocolField(port *networkingv1.NetworkPolicyPort) string {
	switch {
	case port.Protocol == nil || *port.Protocol == "TCP":
		return "tcp"
	case *port.Protocol == "UDP":
		return "udp"
	default:
		return "sctp"
	}
}

// applyClusterPolicy makes the ClusterNetworkPolicy. Server-side apply refuses fields
// that the cluster's version of the kind does not have.
func (r *Request) applyClusterPolicy(ctx context.Context, record *isolateRecord, cut isolation.Cut) error {
	spec, err := r.clusterPolicySpec(record, cut)
	if err != nil {
		return err
	}
	policy := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	policy.SetGroupVersionKind(clusterPolicyKind)
	policy.SetName(record.ClusterPolicy)
	policy.SetLabels(map[string]string{LabelManagedBy: ManagedBy, v1alpha1.LabelIncident: IncidentLabel(r.Incident.Name)})
	return r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(policy), client.ForceOwnership, client.FieldOwner(fieldOwner(r.Incident)))
}

// clusterPolicyStands says what is wrong with the ClusterNetworkPolicy; nil when nothing is.
func (r *Request) clusterPolicyStands(ctx context.Context, record *isolateRecord, cut isolation.Cut) *lifecycle.Result {
	var problem lifecycle.Result
	policy, err := r.object(ctx, clusterPolicyKind, client.ObjectKey{Name: record.ClusterPolicy})
	switch {
	case apierrors.IsNotFound(err):
		problem = failed("ClusterNetworkPolicy '%s' was deleted at the same time", record.ClusterPolicy)
		return &problem
	case err != nil:
		problem = r.failure(err, clusterPolicyAccess("get", record.ClusterPolicy))
		return &problem
	}
	want, err := r.clusterPolicySpec(record, cut)
	if err != nil {
		problem = refused("ClusterNetworkPolicy '%s': %v", record.ClusterPolicy, err)
		return &problem
	}
	if !equality.Semantic.DeepEqual(policy.Object["spec"], any(want)) {
		problem = failed("ClusterNetworkPolicy '%s' was changed at the same time", record.ClusterPolicy)
		return &problem
	}
	return nil
}

// deleteClusterPolicy deletes the ClusterNetworkPolicy, and no other of its name.
func (r *Request) deleteClusterPolicy(ctx context.Context, name string) (left []string, at access, err error) {
	policy, err := r.object(ctx, clusterPolicyKind, client.ObjectKey{Name: name})
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil, access{}, nil
	}
	if err != nil {
		return nil, clusterPolicyAccess("get", name), err
	}
	labels := policy.GetLabels()
	if labels[LabelManagedBy] != ManagedBy || labels[v1alpha1.LabelIncident] != IncidentLabel(r.Incident.Name) {
		return []string{fmt.Sprintf(saysLeft, nameOf(clusterPolicyKind.Kind, name))}, access{}, nil
	}
	uid := policy.GetUID()
	err = r.Client.Delete(ctx, policy, client.Preconditions{UID: &uid})
	return nil, clusterPolicyAccess("delete", name), client.IgnoreNotFound(err)
}
