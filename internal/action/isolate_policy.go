package action

import (
	"context"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action/isolation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const policyPage = 500

// policyAccess names a right on NetworkPolicies of the target's namespace.
func (r *Request) policyAccess(verb, name string) access {
	return access{verb: verb, group: networkingv1.GroupName, resource: "networkpolicies", namespace: r.Target.Namespace, name: name}
}

// Beside gives the NetworkPolicies of the target's namespace.
func (isolate) Beside(namespace string) (client.ObjectList, []client.ListOption) {
	return &networkingv1.NetworkPolicyList{}, policiesOf(namespace)
}

func policiesOf(namespace string) []client.ListOption {
	return []client.ListOption{client.InNamespace(namespace), client.Limit(policyPage)}
}

// networkPolicies lists the NetworkPolicies of a namespace.
func (r *Request) networkPolicies(ctx context.Context, namespace string) ([]networkingv1.NetworkPolicy, error) {
	var all []networkingv1.NetworkPolicy
	list := &networkingv1.NetworkPolicyList{}
	for {
		err := r.Client.List(ctx, list, append(policiesOf(namespace), client.Continue(list.Continue))...)
		if err != nil {
			return nil, err
		}
		all = append(all, list.Items...)
		if list.Continue == "" {
			return all, nil
		}
	}
}

// isOwn says whether a policy is the one this incident made.
func (r *Request) isOwn(policy *networkingv1.NetworkPolicy) bool {
	return policy.Labels[LabelManagedBy] == ManagedBy && policy.Labels[v1alpha1.LabelIncident] == IncidentLabel(r.Incident.Name)
}

// divide tells the policy of this name from all others. It fails when the name is taken.
func (r *Request) divide(policies []networkingv1.NetworkPolicy, name string) (own *networkingv1.NetworkPolicy, others []networkingv1.NetworkPolicy, err error) {
	others = make([]networkingv1.NetworkPolicy, 0, len(policies))
	for i := range policies {
		if policies[i].Name != name {
			others = append(others, policies[i])
			continue
		}
		own = &policies[i]
		if !r.isOwn(own) {
			return nil, nil, fmt.Errorf("the name of NetworkPolicy '%s' is taken by one that is not of this incident: delete it", name)
		}
	}
	return own, others, nil
}

// applyPolicy makes the isolating policy. Whatever another has written into it is
// replaced: the lists are given even when they are empty.
func (r *Request) applyPolicy(ctx context.Context, record *isolateRecord, cut isolation.Cut) error {
	spec := isolation.Policy(record.selector(), cut)
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec)
	if err != nil {
		return fmt.Errorf("NetworkPolicy '%s': %w", record.Policy, err)
	}
	for _, list := range []string{"ingress", "egress"} {
		if _, ok := content[list]; !ok {
			content[list] = []any{}
		}
	}
	policy := &unstructured.Unstructured{Object: map[string]any{"spec": content}}
	policy.SetGroupVersionKind(networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"))
	policy.SetNamespace(r.Target.Namespace)
	policy.SetName(record.Policy)
	policy.SetLabels(map[string]string{LabelManagedBy: ManagedBy, v1alpha1.LabelIncident: IncidentLabel(r.Incident.Name)})
	return r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(policy), client.ForceOwnership, client.FieldOwner(fieldOwner(r.Incident)))
}

// stands says whether the isolating policy is as it was made.
func stands(own *networkingv1.NetworkPolicy, record *isolateRecord, cut isolation.Cut) error {
	if own == nil {
		return fmt.Errorf("NetworkPolicy '%s' was deleted at the same time", record.Policy)
	}
	want := isolation.Policy(record.selector(), cut)
	if !equality.Semantic.DeepEqual(own.Spec.PodSelector, want.PodSelector) || !covers(isolation.Types(&own.Spec), want.PolicyTypes) ||
		!equality.Semantic.DeepEqual(own.Spec.Ingress, want.Ingress) || !equality.Semantic.DeepEqual(own.Spec.Egress, want.Egress) {
		return fmt.Errorf("NetworkPolicy '%s' was changed at the same time", record.Policy)
	}
	return nil
}

func covers(have, want []networkingv1.PolicyType) bool {
	for _, one := range want {
		found := false
		for _, other := range have {
			found = found || other == one
		}
		if !found {
			return false
		}
	}
	return true
}

// removePolicies takes the policies away. It says which it has left, because they do not
// carry the incident's labels any more.
func (r *Request) removePolicies(ctx context.Context, record *isolateRecord) (left []string, problem *lifecycle.Result) {
	says, at, err := r.deletePolicy(ctx, record.Policy)
	left = append(left, says...)
	if err == nil && record.ClusterPolicy != "" {
		says, at, err = r.deleteClusterPolicy(ctx, record.ClusterPolicy)
		left = append(left, says...)
	}
	if err != nil {
		failure := r.failure(err, at)
		return nil, &failure
	}
	return left, nil
}

// deletePolicy deletes the isolating policy, and no other of its name.
func (r *Request) deletePolicy(ctx context.Context, name string) (left []string, at access, err error) {
	policy := &networkingv1.NetworkPolicy{}
	err = r.Client.Get(ctx, client.ObjectKey{Namespace: r.Target.Namespace, Name: name}, policy)
	if err != nil {
		return nil, r.policyAccess("get", name), client.IgnoreNotFound(err)
	}
	if !r.isOwn(policy) {
		return []string{fmt.Sprintf(saysLeft, nameOf("NetworkPolicy", name))}, access{}, nil
	}
	err = r.Client.Delete(ctx, policy, client.Preconditions{UID: &policy.UID})
	return nil, r.policyAccess("delete", name), client.IgnoreNotFound(err)
}
