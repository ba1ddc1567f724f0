package isolation

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func block(cidr string, except ...string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr, Except: except}}
}

func ports(first, last int32, protocol corev1.Protocol) networkingv1.NetworkPolicyPort {
	made := port(first, protocol)
	if last > 0 {
		made.EndPort = &last
	}
	return made
}

func TestAllowsKnowsWhatStaysOpen(t *testing.T) {
	const tcp, udp = corev1.ProtocolTCP, corev1.ProtocolUDP
	pods := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}}
	named := intstr.FromString("ssh")
	open := Cut{
		Ingress: true, Egress: true,
		AllowIngress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{block("192.0.2.0/28"), block("2001:db8::/64")}, Ports: []networkingv1.NetworkPolicyPort{ports(20, 30, tcp), ports(53, 0, udp)}}},
		AllowEgress:  []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{block("198.51.100.0/24")}}},
	}
	type peers = []networkingv1.NetworkPolicyPeer
	type portList = []networkingv1.NetworkPolicyPort
	tests := map[string]struct {
		peers  peers
		ports  portList
		egress bool
		deny   bool
		opens  bool
	}{
		"just that":                          {peers: peers{block("192.0.2.0/28")}, ports: portList{ports(22, 0, tcp)}},
		"less addresses, less ports":         {peers: peers{block("192.0.2.8/29"), block("2001:db8::1/128")}, ports: portList{ports(21, 25, tcp), ports(53, 0, udp)}},
		"with an exception":                  {peers: peers{block("192.0.2.0/28", "192.0.2.1/32")}, ports: portList{ports(22, 0, tcp)}},
		"more addresses":                     {peers: peers{block("192.0.2.0/24")}, ports: portList{ports(22, 0, tcp)}, opens: true},
		"one peer too many":                  {peers: peers{block("192.0.2.0/28"), block("203.0.113.1/32")}, ports: portList{ports(22, 0, tcp)}, opens: true},
		"everybody":                          {ports: portList{ports(22, 0, tcp)}, opens: true},
		"pods":                               {peers: peers{pods}, ports: portList{ports(22, 0, tcp)}, opens: true},
		"all ports":                          {peers: peers{block("192.0.2.0/28")}, opens: true},
		"more ports":                         {peers: peers{block("192.0.2.0/28")}, ports: portList{ports(22, 31, tcp)}, opens: true},
		"another protocol":                   {peers: peers{block("192.0.2.0/28")}, ports: portList{ports(22, 0, udp)}, opens: true},
		"a port by its name":                 {peers: peers{block("192.0.2.0/28")}, ports: portList{{Port: &named}}, opens: true},
		"all ports of a protocol":            {peers: peers{block("192.0.2.0/28")}, ports: portList{{}}, opens: true},
		"not addresses":                      {peers: peers{block("shop")}, ports: portList{ports(22, 0, tcp)}, opens: true},
		"any port where all are open":        {egress: true, peers: peers{block("198.51.100.7/32")}, ports: portList{{Port: &named}}},
		"out to more":                        {egress: true, peers: peers{block("198.51.0.0/16")}, opens: true},
		"out to anywhere":                    {egress: true, opens: true},
		"out, where the tier denies it":      {egress: true, deny: true},
		"pods, where the tier denies them":   {peers: peers{pods}, deny: true},
		"everybody, where the tier denies":   {deny: true, opens: true},
		"addresses, where the tier denies":   {peers: peers{pods, block("203.0.113.0/24")}, deny: true, opens: true},
		"a peer that the tier does not know": {peers: peers{{}}, deny: true, opens: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}}
			if test.egress {
				spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: test.peers, Ports: test.ports}}
			} else {
				spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: test.peers, Ports: test.ports}}
			}
			cut := open
			cut.DenyTier = test.deny
			if got := Allows(&spec, cut); (got != "") != test.opens {
				t.Errorf("Allows() = %q, want that it opens something: %t", got, test.opens)
			}
		})
	}
	own := Policy(matching("app", "cart"), open)
	if got := Allows(&own, open); got != "" {
		t.Errorf("the isolating policy itself allows %s", got)
	}
}

func TestCheckGroup(t *testing.T) {
	const in = networkingv1.PolicyTypeIngress
	pods := []map[string]string{{"app": "cart"}, {"app": "cart", "track": "canary"}}
	tests := map[string]struct {
		policies []networkingv1.NetworkPolicy
		blocked  string
	}{
		"none":                 {},
		"a default-deny":       {policies: []networkingv1.NetworkPolicy{policy("deny", metav1.LabelSelector{}, 0, 0, in)}},
		"about others":         {policies: []networkingv1.NetworkPolicy{policy("db", matching("app", "db"), 1, 0, in)}},
		"about all of them":    {policies: []networkingv1.NetworkPolicy{policy("cart", matching("app", "cart"), 1, 0, in)}, blocked: "cart"},
		"about one of them":    {policies: []networkingv1.NetworkPolicy{policy("canary", matching("track", "canary"), 1, 0, in)}, blocked: "canary"},
		"cannot be understood": {policies: []networkingv1.NetworkPolicy{policy("odd", expression("a", "Near"), 1, 0, in)}, blocked: "odd"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := CheckGroup(pods, test.policies, both)
			var blocked *BlockedError
			if test.blocked == "" && err != nil {
				t.Fatalf("CheckGroup() = %v, want no error", err)
			}
			if test.blocked != "" && (!errors.As(err, &blocked) || blocked.Policy != test.blocked || !strings.Contains(err.Error(), ":")) {
				t.Errorf("CheckGroup() = %v, want it blocked by %q", err, test.blocked)
			}
		})
	}
}
