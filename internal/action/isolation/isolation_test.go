package isolation

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

const own = "isolation.firebreak.dev/0123456789"

var (
	both    = Cut{Ingress: true, Egress: true}
	withDNS = Cut{Ingress: true, Egress: true, AllowDNS: true}
)

func keep(key string) bool { return strings.HasPrefix(key, "isolation.firebreak.dev/") }

func matching(pairs ...string) metav1.LabelSelector {
	selector := metav1.LabelSelector{MatchLabels: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		selector.MatchLabels[pairs[i]] = pairs[i+1]
	}
	return selector
}

func expression(key string, operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
}

func policy(name string, selector metav1.LabelSelector, ingress, egress int, types ...networkingv1.PolicyType) networkingv1.NetworkPolicy {
	made := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	made.Spec.PodSelector = selector
	made.Spec.PolicyTypes = types
	made.Spec.Ingress = make([]networkingv1.NetworkPolicyIngressRule, ingress)
	made.Spec.Egress = make([]networkingv1.NetworkPolicyEgressRule, egress)
	return made
}

func egressTo(name string, selector metav1.LabelSelector, ports ...networkingv1.NetworkPolicyPort) networkingv1.NetworkPolicy {
	made := policy(name, selector, 0, 1, networkingv1.PolicyTypeEgress)
	made.Spec.Egress[0].Ports = ports
	return made
}

func port(number int32, protocol corev1.Protocol) networkingv1.NetworkPolicyPort {
	value := intstr.FromInt32(number)
	return networkingv1.NetworkPolicyPort{Port: &value, Protocol: &protocol}
}

func TestCompute(t *testing.T) {
	const in, out = networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress
	everyPod := metav1.LabelSelector{}
	pod := map[string]string{"app": "cart", "tier": "web", "pod-template-hash": "7f9", own: "x"}
	dnsName := intstr.FromString("dns")
	endPort := int32(60)
	wide := port(53, corev1.ProtocolUDP)
	wide.EndPort = &endPort
	tests := map[string]struct {
		cut      Cut
		policies []networkingv1.NetworkPolicy
		workload []string
		labels   map[string]string
		want     []Label
		blocked  string
		reason   string
	}{
		"no policies":                        {cut: both},
		"default-deny is harmless":           {cut: both, policies: []networkingv1.NetworkPolicy{policy("deny", everyPod, 0, 0, in, out)}},
		"a policy about another pod":         {cut: both, policies: []networkingv1.NetworkPolicy{policy("db", matching("app", "db"), 1, 1, in, out)}},
		"egress rules, but only ingress cut": {cut: Cut{Ingress: true}, policies: []networkingv1.NetworkPolicy{policy("out", everyPod, 0, 1, out)}},
		"ingress rules, but only egress cut": {cut: Cut{Egress: true}, policies: []networkingv1.NetworkPolicy{policy("in", everyPod, 1, 0, in)}},
		"rules of a type the policy lacks":   {cut: both, policies: []networkingv1.NetworkPolicy{policy("in", everyPod, 0, 1, in)}},
		"allowed by a label of its own": {
			cut: both, policies: []networkingv1.NetworkPolicy{policy("web", matching("tier", "web"), 1, 0, in)}, workload: []string{"app", "pod-template-hash"},
			want: []Label{{Key: "tier", Value: "web"}},
		},
		"allowed by a label of the workload": {
			cut: both, policies: []networkingv1.NetworkPolicy{policy("cart", matching("app", "cart"), 1, 0, in)}, workload: []string{"app", "pod-template-hash"},
			want: []Label{{Key: "app", Value: "cart", Workload: true}},
		},
		"of two labels the one that is not the workload's": {
			cut: both, policies: []networkingv1.NetworkPolicy{policy("cart", matching("app", "cart", "tier", "web"), 1, 0, in)}, workload: []string{"app"},
			want: []Label{{Key: "tier", Value: "web"}},
		},
		"two labels rather than one of the workload": {
			cut: both, policies: []networkingv1.NetworkPolicy{
				policy("one", matching("app", "cart", "tier", "web"), 1, 0, in), policy("two", matching("app", "cart", "track", "a"), 1, 0, in),
			},
			labels: map[string]string{"app": "cart", "tier": "web", "track": "a"}, workload: []string{"app"},
			want: []Label{{Key: "tier", Value: "web"}, {Key: "track", Value: "a"}},
		},
		"one label that gets out of two policies": {
			cut: both, policies: []networkingv1.NetworkPolicy{
				policy("one", matching("app", "cart", "tier", "web"), 1, 0, in), policy("two", matching("app", "cart"), 0, 1, out),
			},
			want: []Label{{Key: "app", Value: "cart"}},
		},
		"In":     {cut: both, policies: []networkingv1.NetworkPolicy{policy("p", expression("tier", metav1.LabelSelectorOpIn, "web", "db"), 1, 0, in)}, want: []Label{{Key: "tier", Value: "web"}}},
		"Exists": {cut: both, policies: []networkingv1.NetworkPolicy{policy("p", expression("tier", metav1.LabelSelectorOpExists), 1, 0, in)}, want: []Label{{Key: "tier", Value: "web"}}},
		"a policy that selects once the label is gone, and can be escaped too": {
			cut: both, policies: []networkingv1.NetworkPolicy{
				policy("one", matching("app", "cart"), 1, 0, in),
				policy("two", metav1.LabelSelector{MatchLabels: map[string]string{"tier": "web"}, MatchExpressions: expression("app", metav1.LabelSelectorOpDoesNotExist).MatchExpressions}, 1, 0, in),
			},
			want: []Label{{Key: "app", Value: "cart"}, {Key: "tier", Value: "web"}},
		},
		"a policy that selects once the label is gone, so another goes": {
			cut: both, policies: []networkingv1.NetworkPolicy{
				policy("one", matching("app", "cart", "tier", "web"), 1, 0, in), policy("two", expression("app", metav1.LabelSelectorOpDoesNotExist), 1, 0, in),
			},
			want: []Label{{Key: "tier", Value: "web"}},
		},
		"a policy that selects once the label is gone, and nothing helps": {
			cut: both, policies: []networkingv1.NetworkPolicy{
				policy("one", matching("app", "cart"), 1, 0, in), policy("two", expression("app", metav1.LabelSelectorOpDoesNotExist), 1, 0, in),
			},
			blocked: "two", reason: "once it lacks the label 'app'",
		},
		"every pod is allowed":           {cut: both, policies: []networkingv1.NetworkPolicy{policy("allow-all", everyPod, 1, 0, in)}, blocked: "allow-all", reason: "selects every pod of its namespace and allows ingress"},
		"NotIn cannot be escaped":        {cut: both, policies: []networkingv1.NetworkPolicy{policy("p", expression("app", metav1.LabelSelectorOpNotIn, "db"), 0, 1, out)}, blocked: "p", reason: "allows egress: taking labels away"},
		"DoesNotExist cannot be escaped": {cut: both, policies: []networkingv1.NetworkPolicy{policy("p", expression("gone", metav1.LabelSelectorOpDoesNotExist), 1, 1, in, out)}, blocked: "p", reason: "allows ingress and egress: taking labels away"},
		"labels of Firebreak stay":       {cut: both, policies: []networkingv1.NetworkPolicy{policy("p", expression(own, metav1.LabelSelectorOpExists), 1, 0, in)}, blocked: "p", reason: "by a label that cannot be taken away for good (" + own + ")"},
		"no policyTypes: ingress":        {cut: both, policies: []networkingv1.NetworkPolicy{policy("p", everyPod, 1, 0)}, blocked: "p", reason: "allows ingress:"},
		"no policyTypes: egress by its rules": {
			cut: Cut{Egress: true}, policies: []networkingv1.NetworkPolicy{policy("p", everyPod, 0, 1)}, blocked: "p", reason: "allows egress:",
		},
		"no policyTypes and no rules is a default-deny": {cut: both, policies: []networkingv1.NetworkPolicy{policy("p", everyPod, 0, 0)}},
		"DNS for every pod, DNS left open":              {cut: withDNS, policies: []networkingv1.NetworkPolicy{egressTo("dns", everyPod, port(53, corev1.ProtocolUDP), port(53, corev1.ProtocolTCP))}},
		"DNS for every pod, DNS cut":                    {cut: both, policies: []networkingv1.NetworkPolicy{egressTo("dns", everyPod, port(53, corev1.ProtocolUDP))}, blocked: "dns", reason: "`dns: Allow` would accept that"},
		"more than DNS":                                 {cut: withDNS, policies: []networkingv1.NetworkPolicy{egressTo("web", everyPod, port(53, corev1.ProtocolUDP), port(443, corev1.ProtocolTCP))}, blocked: "web", reason: "allows egress:"},
		"a range that begins at 53":                     {cut: withDNS, policies: []networkingv1.NetworkPolicy{egressTo("range", everyPod, wide)}, blocked: "range", reason: "allows egress:"},
		"a named port is not known to be DNS":           {cut: withDNS, policies: []networkingv1.NetworkPolicy{egressTo("named", everyPod, networkingv1.NetworkPolicyPort{Port: &dnsName})}, blocked: "named", reason: "allows egress:"},
		"SCTP is not DNS":                               {cut: withDNS, policies: []networkingv1.NetworkPolicy{egressTo("sctp", everyPod, port(53, corev1.ProtocolSCTP))}, blocked: "sctp", reason: "allows egress:"},
		"a selector that cannot be understood":          {cut: both, policies: []networkingv1.NetworkPolicy{policy("odd", expression("a", "Near"), 1, 0, in)}, blocked: "odd", reason: "cannot be understood"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			on := test.labels
			if on == nil {
				on = pod
			}
			before := maps.Clone(on)
			got, err := Compute(Input{Labels: on, Policies: test.policies, Cut: test.cut, Keep: keep, Workload: func(key string) bool {
				return strings.Contains(" "+strings.Join(test.workload, " ")+" ", " "+key+" ")
			}})
			if diff := cmp.Diff(before, on); diff != "" {
				t.Errorf("Compute changed the pod's labels:\n%s", diff)
			}
			var blocked *BlockedError
			switch {
			case test.blocked == "" && err != nil:
				t.Fatalf("Compute() = %v, want no error", err)
			case test.blocked != "" && !errors.As(err, &blocked):
				t.Fatalf("Compute() = %v, %v; want it blocked by %q", got, err, test.blocked)
			case test.blocked != "":
				if blocked.Policy != test.blocked || !strings.Contains(blocked.Error(), test.reason) {
					t.Errorf("blocked by %q: %v; want %q because it %q", blocked.Policy, blocked, test.blocked, test.reason)
				}
				return
			}
			if len(got) == 0 && len(test.want) == 0 {
				return
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("labels to take away (-want +got):\n%s", diff)
			}
		})
	}
}

func TestComputeGivesUpOnTooManyWays(t *testing.T) {
	pod := map[string]string{}
	var policies []networkingv1.NetworkPolicy
	for i := range 14 {
		selector := metav1.LabelSelector{MatchLabels: map[string]string{}}
		for j := range 6 {
			key := fmt.Sprintf("k%d-%d", i, j)
			pod[key] = "v"
			selector.MatchLabels[key] = "v"
		}
		policies = append(policies, policy(fmt.Sprintf("p%02d", i), selector, 1, 0))
	}
	_, err := Compute(Input{Labels: pod, Policies: policies, Cut: both})
	if err == nil || !strings.Contains(err.Error(), "too many ways") {
		t.Fatalf("Compute() error = %v, want one that says there are too many ways", err)
	}
}

func TestPolicy(t *testing.T) {
	udp, tcp, dns := corev1.ProtocolUDP, corev1.ProtocolTCP, intstr.FromInt32(53)
	selector := metav1.LabelSelector{MatchLabels: map[string]string{own: "x"}}
	tests := map[string]struct {
		cut  Cut
		want networkingv1.NetworkPolicySpec
	}{
		"both":                              {both, networkingv1.NetworkPolicySpec{PodSelector: selector, PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}}},
		"only ingress, DNS does not matter": {Cut{Ingress: true, AllowDNS: true}, networkingv1.NetworkPolicySpec{PodSelector: selector, PolicyTypes: []networkingv1.PolicyType{"Ingress"}}},
		"only egress":                       {Cut{Egress: true}, networkingv1.NetworkPolicySpec{PodSelector: selector, PolicyTypes: []networkingv1.PolicyType{"Egress"}}},
		"DNS left open": {withDNS, networkingv1.NetworkPolicySpec{PodSelector: selector, PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"},
			Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: &dns}, {Protocol: &tcp, Port: &dns}}}}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := Policy(selector, test.cut)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Policy() (-want +got):\n%s", diff)
			}
			if allows := Allows(&got, test.cut); allows != "" {
				t.Errorf("the isolating policy itself allows %s", allows)
			}
		})
	}
}

// TestComputedRemovalIsolates checks the computation against trying every set of labels.
func TestComputedRemovalIsolates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom([]string{"a", "b", "c", "d", own})
		value := rapid.SampledFrom([]string{"1", "2"})
		pod := rapid.MapOfN(key, value, 0, 5).Draw(t, "pod")
		pod[own] = "1"
		workload := rapid.SampledFrom([]string{"", "a", "ab", "abcd"}).Draw(t, "workload")
		requirement := rapid.Custom(func(t *rapid.T) metav1.LabelSelectorRequirement {
			made := metav1.LabelSelectorRequirement{Key: key.Draw(t, "key"), Operator: rapid.SampledFrom([]metav1.LabelSelectorOperator{
				metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist,
			}).Draw(t, "operator")}
			if made.Operator == metav1.LabelSelectorOpIn || made.Operator == metav1.LabelSelectorOpNotIn {
				made.Values = []string{value.Draw(t, "value")}
			}
			return made
		})
		policies := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) networkingv1.NetworkPolicy {
			selector := metav1.LabelSelector{
				MatchLabels:      rapid.MapOfN(key, value, 0, 2).Draw(t, "matchLabels"),
				MatchExpressions: rapid.SliceOfN(requirement, 0, 2).Draw(t, "matchExpressions"),
			}
			types := rapid.SampledFrom([][]networkingv1.PolicyType{nil, {"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}).Draw(t, "types")
			return policy("p", selector, rapid.IntRange(0, 1).Draw(t, "ingress"), rapid.IntRange(0, 1).Draw(t, "egress"), types...)
		}), 0, 5).Draw(t, "policies")
		cut := rapid.SampledFrom([]Cut{both, {Ingress: true}, {Egress: true}, withDNS}).Draw(t, "cut")

		input := Input{Labels: pod, Policies: policies, Cut: cut, Keep: keep, Workload: func(key string) bool { return strings.Contains(workload, key) }}
		removed, err := Compute(input)
		best := bruteForce(input)
		if err != nil {
			if best >= 0 {
				t.Fatalf("Compute() = %v, but a set of labels of cost %d isolates the pod", err, best)
			}
			return
		}
		left, cost := maps.Clone(pod), 0
		for _, label := range removed {
			if pod[label.Key] != label.Value || keep(label.Key) {
				t.Fatalf("label %+v must be one of the pod's own: %v", label, pod)
			}
			delete(left, label.Key)
			cost += costOf(input, label.Key)
		}
		if allowed(policies, left, cut) {
			t.Fatalf("after removing %v the pod is still allowed traffic", removed)
		}
		if cost != best {
			t.Fatalf("removing %v costs %d, but %d is enough", removed, cost, best)
		}
	})
}

func costOf(input Input, key string) int {
	if input.Workload(key) {
		return 1 + workloadCost
	}
	return 1
}

func allowed(policies []networkingv1.NetworkPolicy, on map[string]string, cut Cut) bool {
	for i := range policies {
		selector, err := metav1.LabelSelectorAsSelector(&policies[i].Spec.PodSelector)
		if err == nil && selector.Matches(labels.Set(on)) && Allows(&policies[i].Spec, cut) != "" {
			return true
		}
	}
	return false
}

// bruteForce gives the lowest cost of a set of labels whose removal isolates, or -1.
func bruteForce(input Input) int {
	var keys []string
	for key := range input.Labels {
		if !keep(key) {
			keys = append(keys, key)
		}
	}
	best := -1
	for set := range 1 << len(keys) {
		left, cost := maps.Clone(input.Labels), 0
		for i, key := range keys {
			if set&(1<<i) != 0 {
				delete(left, key)
				cost += costOf(input, key)
			}
		}
		if (best < 0 || cost < best) && !allowed(input.Policies, left, input.Cut) {
			best = cost
		}
	}
	return best
}
