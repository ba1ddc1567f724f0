package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// selecting are the NetworkPolicies that select a pod by the labels it has.
func (d *demo) selecting(ctx context.Context, pod *corev1.Pod) ([]networkingv1.NetworkPolicy, error) {
	policies := &networkingv1.NetworkPolicyList{}
	if err := d.list(ctx, pod.Namespace, policies); err != nil {
		return nil, err
	}
	var found []networkingv1.NetworkPolicy
	for _, policy := range policies.Items {
		selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		if err != nil {
			return nil, err
		}
		if selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, policy)
		}
	}
	slices.SortFunc(found, func(a, b networkingv1.NetworkPolicy) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// effect says what a NetworkPolicy does to the pods it selects.
func effect(policy networkingv1.NetworkPolicy) string {
	var words []string
	for _, direction := range policy.Spec.PolicyTypes {
		rules := len(policy.Spec.Ingress)
		if direction == networkingv1.PolicyTypeEgress {
			rules = len(policy.Spec.Egress)
		}
		verb := "denies all "
		if rules > 0 {
			verb = "allows "
		}
		words = append(words, verb+strings.ToLower(string(direction)))
	}
	return strings.Join(words, ", ")
}

// allows says whether a NetworkPolicy lets anything through to or from its pods.
func allows(policy networkingv1.NetworkPolicy) bool {
	return len(policy.Spec.Ingress) > 0 || len(policy.Spec.Egress) > 0
}

// served says whether the Service sends traffic to a pod.
func (d *demo) served(ctx context.Context, pod *corev1.Pod) (bool, error) {
	slicesOf := &discoveryv1.EndpointSliceList{}
	if err := d.list(ctx, pod.Namespace, slicesOf); err != nil {
		return false, err
	}
	for _, slice := range slicesOf.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.TargetRef != nil && endpoint.TargetRef.UID == pod.UID {
				return true, nil
			}
		}
	}
	return false, nil
}

func labelText(set map[string]string) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(set)) {
		words = append(words, key+"="+set[key])
	}
	return strings.Join(words, " ")
}

// difference are the labels that only one of two sets has.
func difference(of, without map[string]string) map[string]string {
	only := map[string]string{}
	for key, value := range of {
		if without[key] != value {
			only[key] = value
		}
	}
	return only
}
