package action

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Describe documents the action.
func (isolate) Describe() Description {
	return Description{
		Does: "Cuts the network of a pod, or of all pods of a workload. " +
			"For a pod it labels this one pod, adds a NetworkPolicy for that label which allows nothing but what `allow` and `dns` leave open, and takes away the labels by which other NetworkPolicies still allow traffic to the pod: policies add up, and none can deny what another allows. " +
			"For a workload its NetworkPolicy selects as the workload does, so that pods to come are cut too, and no pod is written. " +
			"With `clusterNetworkPolicy: Use`, where the cluster has that API, a ClusterNetworkPolicy of the Admin tier (priority 0) denies all egress, and ingress from pods, whatever NetworkPolicies allow. " +
			"It never touches a policy that is not its own.",
		Kinds: append([]schema.GroupVersionKind{podKind}, groupKinds...),
		Undo:  "Takes its label and policies away and gives back the labels it took, but for those that somebody has set since and those that the workload selects by: the workload would take the compromised pod back and delete the clean one. `readopt: Allow` gives them back too. As long as a quarantine or another isolation holds the pod no label comes back: the last to let go gives back what all have taken (annotation `labels.firebreak.dev/…`).",
		Limits: []string{
			"It needs a network plugin that enforces NetworkPolicies, and ClusterNetworkPolicies where they are used. The proof is `Computed`, from the objects and not from packets, or `Enforced`, where a `probe` has tried it.",
			"A probe is a pod in the domain's namespace that tries to connect to the isolated pod, and to `reference` for control. Where it reaches the pod three times, the step fails, and the isolation stays. Where it does not reach the control either, cannot be started, gives no verdict in 90 seconds or before the step's deadline, or is refused a connection, it proves nothing: the proof stays `Computed`, the message says why, and no isolation fails for it. Where NetworkPolicies say what pods of the domain's namespace may connect to, a `reference` must be named: one that they reach just as they would reach the pod.",
			"A probe tries ingress to the pod's first address, by TCP and from one node. A port on which nothing listens and nothing answers looks like one that is cut: name `ports` on which the pod listens. It has no token and meets the restricted Pod Security Standard, and stays for people to look at until the isolation is undone or the incident is deleted. An isolation that was taken away and made again is not probed again.",
			"Pods with `hostNetwork: true` are refused: neither kind of policy applies to them.",
			"A policy that selects every pod of the namespace and allows something cannot be escaped by labels: the step fails and names it.",
			"Where labels must go by which the workload selects, a Deployment or DaemonSet starts a clean pod at once; a StatefulSet cannot until the isolated one is deleted.",
			"Labels are never taken off a whole workload: where another NetworkPolicy allows its pods something, the step fails and names it. So it does where the workload's selector also selects pods that are not its own.",
			"A ClusterNetworkPolicy cannot deny ingress from outside the cluster, nor from pods on the host's network: a NetworkPolicy that allows that must still be escaped by labels. With it `allow.ingress` does not reach pods.",
			"With `clusterNetworkPolicy: Ignore` other people's ClusterNetworkPolicies are not looked at: an `Accept` of theirs comes before any NetworkPolicy.",
			"What becomes of connections that are open already depends on the network plugin. With `survivingConnections: Delete` the pod is deleted once it is isolated: collect before.",
		},
		Example: `
name: isolate
target: Pods
isolate:
  ingress: Deny
  egress: Deny
  dns: Deny
  allow:
    ingress: [{cidrs: [192.0.2.7/32], ports: [{port: 22}]}]   # the forensic workstation
  clusterNetworkPolicy: Use
  probe: {image: registry.example/busybox:1.37, reference: "cart.shop.svc:8080"}
timeout: 2m
retry: {attempts: 5, backoff: 2s}
onFailure: Escalate
instructions: Cut the pod off at the firewall of its node.
`,
	}
}

// Rights are what isolating and releasing takes.
func (isolate) Rights(step *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right {
	rights := []Right{
		{Group: networkingv1.GroupName, Resource: "networkpolicies", Verbs: []string{"get", "list", "create", "patch", "delete"}},
	}
	workloads := slices.DeleteFunc(slices.Clone(kinds), func(kind schema.GroupVersionKind) bool { return kind == podKind })
	if len(workloads) < len(kinds) {
		rights = append(rights, rightOn(podKind, "get", "patch"))
		rights = append(rights, ownerRights()...)
		if step.Isolate.SurvivingConnections == v1alpha1.SurvivingDeleted {
			rights = append(rights, rightOn(podKind, "delete"))
		}
	}
	if len(workloads) > 0 {
		rights = append(rights, rightOn(podKind, "list"))
		rights = append(rights, rightsOn(workloads, "", "get")...)
	}
	if probe := step.Isolate.Probe; probe != nil {
		rights = append(rights, Right{Resource: "pods", Verbs: []string{"get", "create", "delete"}, Place: InDomain, Need: Useful})
		if probe.Reference == "" {
			rights = append(rights, Right{Group: networkingv1.GroupName, Resource: "networkpolicies", Verbs: []string{"list"}, Place: InDomain, Need: Useful})
		}
	}
	if step.Isolate.ClusterNetworkPolicy == v1alpha1.ClusterPolicyUsed {
		rights = append(rights, rightOn(clusterPolicyKind, "get", "list", "create", "patch", "delete"))
	}
	return rights
}

// ownerRights are for reading what owns a pod.
func ownerRights() []Right {
	rights := rightsOn(workloadKinds, "", "get")
	for i := range rights {
		rights[i].Need = Useful
	}
	return rights
}
