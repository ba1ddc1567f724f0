// Package isolation computes how a pod is taken out of reach by Kubernetes
// NetworkPolicies. It is pure: it reads nothing and writes nothing.
//
// NetworkPolicies add up: what one allows, no other can deny. So a pod is isolated only
// when a policy selects it that allows nothing, and no other policy that selects it
// allows anything. The latter is reached by taking away the labels they select it by.
package isolation

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// dnsPort is the port of name resolution.
const dnsPort = 53

// Cut says what is to be cut. The zero value cuts nothing.
type Cut struct {
	// Ingress cuts connections to the pod.
	Ingress bool
	// Egress cuts connections from the pod.
	Egress bool
	// AllowDNS leaves name resolution open when Egress is cut: UDP and TCP port 53.
	AllowDNS bool
	// AllowIngress and AllowEgress stay open, such as for a forensic workstation.
	AllowIngress []networkingv1.NetworkPolicyIngressRule
	AllowEgress  []networkingv1.NetworkPolicyEgressRule
	// DenyTier says that a ClusterNetworkPolicy, which comes before all NetworkPolicies,
	// denies what is cut: all egress, and ingress from pods. It cannot deny ingress from
	// elsewhere.
	DenyTier bool
}

// Label is a label that must be taken off the pod.
type Label struct {
	// Key is the label's key.
	Key string `json:"key"`
	// Value is the value it has, to give it back.
	Value string `json:"value"`
	// Workload says that the pod's workload selects by it, or may: giving it back would
	// make the workload take the pod back.
	Workload bool `json:"workload,omitempty"`
}

// Input is everything the computation depends on.
type Input struct {
	// Labels are the pod's labels, with the label that isolates it.
	Labels map[string]string
	// Policies are the NetworkPolicies of the pod's namespace, but for the one that isolates it.
	Policies []networkingv1.NetworkPolicy
	// Cut says what is to be cut.
	Cut Cut
	// Keep says of a label's key that it must stay. Nil means of none.
	Keep func(key string) bool
	// Workload says of a label's key that the pod's workload selects by it. Such labels
	// are taken only when there is no other way. Nil means of none.
	Workload func(key string) bool
}

// BlockedError says that no removal of labels can isolate the pod.
type BlockedError struct {
	// Policy is the NetworkPolicy that stands in the way.
	Policy string
	// Reason says why, and what a person can do.
	Reason string
}

// Error names the policy and says why.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("NetworkPolicy '%s' %s", e.Policy, e.Reason)
}

// Types gives the directions a policy is about. The API server fills policyTypes in;
// where they are missing, a policy is about ingress, and about egress when it has
// egress rules.
func Types(spec *networkingv1.NetworkPolicySpec) []networkingv1.PolicyType {
	if len(spec.PolicyTypes) > 0 {
		return spec.PolicyTypes
	}
	types := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(spec.Egress) > 0 {
		types = append(types, networkingv1.PolicyTypeEgress)
	}
	return types
}

// Allows says in which of the directions that are cut the policy allows something to
// the pods it selects, in words; empty when it allows nothing there. A policy without a
// rule only denies. A rule counts even if nothing matches its peers today.
func Allows(spec *networkingv1.NetworkPolicySpec, cut Cut) string {
	types := Types(spec)
	ingress := cut.Ingress && slices.Contains(types, networkingv1.PolicyTypeIngress) &&
		slices.ContainsFunc(spec.Ingress, func(rule networkingv1.NetworkPolicyIngressRule) bool { return cut.opensIngress(&rule) })
	egress, onlyDNS := false, true
	if cut.Egress && !cut.DenyTier && slices.Contains(types, networkingv1.PolicyTypeEgress) {
		for i := range spec.Egress {
			dns := isDNS(&spec.Egress[i])
			if dns && cut.AllowDNS || cut.leavesEgress(&spec.Egress[i]) {
				continue
			}
			egress = true
			onlyDNS = onlyDNS && dns
		}
	}
	switch {
	case ingress && egress:
		return "ingress and egress"
	case ingress:
		return "ingress"
	case egress && onlyDNS:
		return "egress for name resolution (`dns: Allow` would accept that)"
	case egress:
		return "egress"
	default:
		return ""
	}
}

// isDNS says whether a rule allows nothing but name resolution.
func isDNS(rule *networkingv1.NetworkPolicyEgressRule) bool {
	if len(rule.Ports) == 0 {
		return false
	}
	for _, port := range rule.Ports {
		if port.Port == nil || port.Port.Type != intstr.Int || port.Port.IntVal != dnsPort {
			return false
		}
		if port.EndPort != nil && *port.EndPort != dnsPort {
			return false
		}
		if port.Protocol != nil && *port.Protocol == corev1.ProtocolSCTP {
			return false
		}
	}
	return true
}

// Policy gives the spec that isolates the pods that the selector selects: it allows
// nothing in the directions that are cut, but what is left open.
func Policy(selector metav1.LabelSelector, cut Cut) networkingv1.NetworkPolicySpec {
	spec := networkingv1.NetworkPolicySpec{PodSelector: selector}
	if cut.Ingress {
		spec.PolicyTypes = append(spec.PolicyTypes, networkingv1.PolicyTypeIngress)
		spec.Ingress = slices.Clone(cut.AllowIngress)
	}
	if !cut.Egress {
		return spec
	}
	spec.PolicyTypes = append(spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	spec.Egress = slices.Clone(cut.AllowEgress)
	if cut.AllowDNS {
		port := intstr.FromInt32(dnsPort)
		udp, tcp := corev1.ProtocolUDP, corev1.ProtocolTCP
		spec.Egress = append(spec.Egress, networkingv1.NetworkPolicyEgressRule{
			Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: &port}, {Protocol: &tcp, Port: &port}},
		})
	}
	return spec
}
