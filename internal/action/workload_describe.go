package action

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Describe documents the action.
func (quarantine) Describe() Description {
	return Description{
		Does:  "Takes a pod out of its workload and its Services: it takes away few labels, without which none of them selects the pod any more. The workload starts a clean replica, and this pod stays as it is for forensics, with the label `quarantine.firebreak.dev/…`.",
		Kinds: []schema.GroupVersionKind{podKind},
		Undo:  "Gives back the labels it took, but for those that somebody has set since and those that the workload selects by: the workload would take the compromised pod back and delete the clean one. `readopt: Allow` gives them back too. As long as an isolation or another quarantine holds the pod no label comes back: the last to let go gives back what all have taken (annotation `labels.firebreak.dev/…`).",
		Limits: []string{
			"A pod that is isolated only with its whole workload is refused, where that needs a label to stay: it would have its network back.",
			"It does not cut the network, and a NetworkPolicy that selects by a label that was taken no longer restricts the pod: `isolate` it first.",
			"A pod of a StatefulSet is refused: no clean one can start as long as this one is there under its name. `isolate` keeps it; `delete` after `collect` has it replaced.",
			"A DaemonSet starts a second pod on the same node, which cannot run where both need a port of the node.",
			"Where nothing says by which labels the pod's owner selects it, it is only taken out of its Services.",
		},
		Example: `
name: quarantine
target: Pods
quarantine: {readopt: Deny}
`,
	}
}

// Rights are what quarantine takes.
func (quarantine) Rights(*v1alpha1.PlaybookStep, []schema.GroupVersionKind) []Right {
	owners := slices.DeleteFunc(slices.Clone(workloadKinds), func(kind schema.GroupVersionKind) bool {
		return kind.Kind == "Deployment" || kind.Kind == "CronJob" // they own no pods themselves
	})
	rights := []Right{
		rightOn(podKind, "get", "patch"), {Resource: "services", Verbs: []string{"list"}},
		{Group: "networking.k8s.io", Resource: "networkpolicies", Verbs: []string{"list"}, Need: Useful},
	}
	return append(rights, rightsOn(owners, "", "get")...)
}

var scaleKinds = []schema.GroupVersionKind{
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
	{Group: "apps", Version: "v1", Kind: "ReplicaSet"},
	{Version: "v1", Kind: "ReplicationController"},
}

// Describe documents the action.
func (scale) Describe() Description {
	return Description{
		Does: "Sets the replicas of a workload by its `scale` subresource: no right to change what its pods run is needed. Any kind that serves `scale` can be named by `targets`. Who needs that is written in the field manager `firebreak-scale/…` of the workload.",
		Undo: "Sets the replicas there were before, when no other incident holds them and nobody has set others since.",
		Limits: []string{
			"Where two incidents want different numbers, the workload gets the smaller one.",
			"With `replicas: 0` a HorizontalPodAutoscaler of the workload stops by itself, and goes on after the undo. Other numbers are refused where there is one: it would undo them.",
			"DaemonSets, Jobs and CronJobs serve no `scale`: the step fails for them. `suspend` stops the latter two. A ReplicaSet of a Deployment is refused: the Deployment would scale it back.",
			"All pods end with `replicas: 0`, with what they know: collect first.",
		},
		Kinds: scaleKinds,
		Example: `
name: stop
target: Workloads
scale: {replicas: 0}
`,
	}
}

// Rights are what scaling takes.
func (scale) Rights(step *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right {
	rights := append(rightsOn(kinds, "", "get"), rightsOn(kinds, "scale", "get", "patch")...)
	if step.Scale != nil && step.Scale.Replicas != nil && *step.Scale.Replicas > 0 {
		rights = append(rights, Right{Group: "autoscaling", Resource: "horizontalpodautoscalers", Verbs: []string{"list"}, Need: Useful})
	}
	return rights
}

// Describe documents the action.
func (suspend) Describe() Description {
	return Description{
		Does:  "Stops what starts or reconciles other things: `spec.suspend` of a CronJob, Job or any kind of Flux, and automatic syncing (`spec.syncPolicy.automated`) of an Argo CD Application. What is no Job or CronJob is named by `targets`. The annotation `suspend.firebreak.dev/…` says which incident needs it.",
		Kinds: suspendKinds,
		Undo:  "Sets what there was before, of an Application exactly, when no other incident's annotation is left and nobody has changed it since.",
		Limits: []string{
			"A suspended Job ends its pods; a suspended CronJob leaves the Jobs it has started, which have to be suspended for themselves.",
			"What Flux and Argo CD have applied stays. A sync that is under way goes on.",
			"An Application that an ApplicationSet manages, or a CronJob that a GitOps controller manages, is set back by it: suspend that first.",
		},
		Example: `
name: stop-gitops
targets: '[{"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "namespace": "flux-system", "name": "apps"}]'
suspend: {}
`,
	}
}

// Rights are what suspending takes.
func (suspend) Rights(_ *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right {
	return rightsOn(kinds, "", "get", "patch")
}

// Describe documents the action.
func (evict) Describe() Description {
	return Description{
		Does:  "Deletes a pod, by its UID, as far as its PodDisruptionBudgets allow, and waits until it is gone. What is not allowed yet is tried again until the step's `timeout`.",
		Kinds: []schema.GroupVersionKind{podKind},
		Limits: []string{
			"An attacker's pods may keep a PodDisruptionBudget from ever allowing it: `delete` asks for none.",
			"Static pods are refused: their manifest has to be taken off the node.",
		},
		Example: `
name: evict
target: Pods
evict: {}
timeout: 10m
`,
	}
}

// Rights are what evicting takes.
func (evict) Rights(*v1alpha1.PlaybookStep, []schema.GroupVersionKind) []Right {
	return []Right{rightOn(podKind, "get"), {Resource: "pods/eviction", Verbs: []string{"create"}}}
}

// Describe documents the action.
func (restart) Describe() Description {
	return Description{
		Does:  "Has a workload replace all its pods, as `kubectl rollout restart` does, and waits until it has. Tried again after a crash it is the same restart.",
		Kinds: rolloutKinds,
		Limits: []string{
			"The new pods are those of the same template: `rollback` goes back to an earlier one.",
			"A paused Deployment, and a StatefulSet or DaemonSet with `updateStrategy: OnDelete`, are refused: they would not replace their pods.",
			"There is nothing to undo: `revert` passes it over.",
		},
		Example: `
name: fresh-pods
target: Workloads
restart: {}
timeout: 15m
`,
	}
}

// Rights are what restarting takes.
func (restart) Rights(_ *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right {
	return rightsOn(kinds, "", "get", "patch")
}

// Describe documents the action.
func (rollback) Describe() Description {
	return Description{
		Does:  "Takes a workload back to the pod template of an earlier revision, as `kubectl rollout undo` does, and waits until it has replaced its pods. The annotation `rollback.firebreak.dev/…` says which incident needs it.",
		Kinds: rolloutKinds,
		Undo:  "Writes the template there was before, by the name of its revision, when no other incident's annotation is left and nobody has changed the template since.",
		Limits: []string{
			"Without `toRevision` the one before the present is meant: whoever has deployed twice has made that one too.",
			"A workload that another incident says it has taken back already is refused without `toRevision`: the revision before would be the one that was left.",
			"Revisions beyond the workload's `revisionHistoryLimit` are gone: where the one to go back to is, a person is told.",
			"Only the pod template is written; annotations of the workload stay, other than with kubectl.",
			"A paused Deployment, and a StatefulSet or DaemonSet with `updateStrategy: OnDelete`, are refused.",
			"Effects on data, such as a migrated schema, are not taken back.",
		},
		Example: `
name: last-good
target: Workloads
rollback: {}
timeout: 15m
`,
	}
}

// Rights are what rolling back takes.
func (rollback) Rights(_ *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right {
	rights := rightsOn(kinds, "", "get", "patch")
	history := map[string]bool{}
	for _, kind := range kinds {
		resource := "controllerrevisions"
		if kind.Kind == "Deployment" {
			resource = "replicasets"
		}
		if !history[resource] {
			history[resource] = true
			right := Right{Group: "apps", Resource: resource, Verbs: []string{"list"}}
			if len(kinds) > 1 {
				right.Need = OneOf
			}
			rights = append(rights, right)
		}
	}
	return rights
}
