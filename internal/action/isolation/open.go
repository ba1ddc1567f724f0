package isolation

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const maxPort = 65535

// opensIngress says whether a rule of another policy lets in more than what stays open.
func (c Cut) opensIngress(rule *networkingv1.NetworkPolicyIngressRule) bool {
	if c.DenyTier && onlyPods(rule.From) {
		return false
	}
	return !slices.ContainsFunc(c.AllowIngress, func(open networkingv1.NetworkPolicyIngressRule) bool {
		return peersWithin(rule.From, open.From) && portsWithin(rule.Ports, open.Ports)
	})
}

// leavesEgress says whether a rule of another policy lets out no more than what stays open.
func (c Cut) leavesEgress(rule *networkingv1.NetworkPolicyEgressRule) bool {
	return slices.ContainsFunc(c.AllowEgress, func(open networkingv1.NetworkPolicyEgressRule) bool {
		return peersWithin(rule.To, open.To) && portsWithin(rule.Ports, open.Ports)
	})
}

// onlyPods says whether all peers of a rule are pods. No peer means everybody.
func onlyPods(peers []networkingv1.NetworkPolicyPeer) bool {
	return len(peers) > 0 && !slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool {
		return peer.IPBlock != nil || peer.PodSelector == nil && peer.NamespaceSelector == nil
	})
}

// peersWithin says whether each peer is a block of addresses in one of those that stay
// open. Who a selector stands for is not known here.
func peersWithin(peers, open []networkingv1.NetworkPolicyPeer) bool {
	return len(peers) > 0 && !slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool {
		return !slices.ContainsFunc(open, func(wider networkingv1.NetworkPolicyPeer) bool { return blockWithin(&peer, &wider) })
	})
}

func blockWithin(peer, wider *networkingv1.NetworkPolicyPeer) bool {
	if peer.IPBlock == nil || wider.IPBlock == nil || len(wider.IPBlock.Except) > 0 {
		return false
	}
	inner, err := netip.ParsePrefix(peer.IPBlock.CIDR)
	outer, err2 := netip.ParsePrefix(wider.IPBlock.CIDR)
	return err == nil && err2 == nil && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// portsWithin says whether each port is among those that stay open. None means all of them.
func portsWithin(ports, open []networkingv1.NetworkPolicyPort) bool {
	if len(open) == 0 {
		return true
	}
	return len(ports) > 0 && !slices.ContainsFunc(ports, func(port networkingv1.NetworkPolicyPort) bool {
		return !slices.ContainsFunc(open, func(wider networkingv1.NetworkPolicyPort) bool { return portWithin(&port, &wider) })
	})
}

func portWithin(port, wider *networkingv1.NetworkPolicyPort) bool {
	first, last, known := portRange(port)
	from, to, plain := portRange(wider)
	return known && plain && protocolOf(port) == protocolOf(wider) && from <= first && last <= to
}

// portRange gives the ports of a rule; a named port is not known here.
func portRange(port *networkingv1.NetworkPolicyPort) (first, last int32, known bool) {
	switch {
	case port.Port == nil:
		return 1, maxPort, true
	case port.Port.Type != intstr.Int:
		return 0, 0, false
	case port.EndPort != nil:
		return port.Port.IntVal, *port.EndPort, true
	default:
		return port.Port.IntVal, port.Port.IntVal, true
	}
}

func protocolOf(port *networkingv1.NetworkPolicyPort) corev1.Protocol {
	if port.Protocol == nil {
		return corev1.ProtocolTCP
	}
	return *port.Protocol
}
