package action

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// openTraffic gives the peers and ports of traffic that stays open.
func openTraffic(traffic *v1alpha1.AllowedTraffic) ([]networkingv1.NetworkPolicyPeer, []networkingv1.NetworkPolicyPort) {
	peers := make([]networkingv1.NetworkPolicyPeer, 0, len(traffic.CIDRs))
	for _, cidr := range traffic.CIDRs {
		peers = append(peers, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: string(cidr)}})
	}
	var ports []networkingv1.NetworkPolicyPort
	for _, port := range traffic.Ports {
		protocol := corev1.Protocol(port.Protocol)
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		one := networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: ptr.To(intstr.FromInt32(port.Port))}
		if port.EndPort != 0 {
			one.EndPort = ptr.To(port.EndPort)
		}
		ports = append(ports, one)
	}
	return peers, ports
}
