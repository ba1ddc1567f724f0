package action

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// Description documents an action. The texts are Markdown, in whole sentences; fields and
// their meaning are taken from the API and are not repeated here.
type Description struct {
	// Does says what the action does to one target.
	Does string
	// Kinds are what it can act on. Empty means any object.
	Kinds []schema.GroupVersionKind
	// Undo says what undoing restores, and what not. Empty means that it cannot be undone,
	// or that there is nothing to undo.
	Undo string
	// Limits say what it does not do, and when it refuses; one sentence each.
	Limits []string
	// Example is a step of this action as YAML, with the fields that people mostly want.
	// The rights that the documentation names are those of this step.
	Example string
}

// Describer is an action that says what it does and which rights it takes. Every action
// of the registry is one.
type Describer interface {
	// Describe documents the action.
	Describe() Description
	// Rights are what the playbook's ServiceAccount needs for a step of this action, with
	// its undo. The kinds are those it may have to act on, as far as that can be told
	// before it runs: all that `target` stands for and the action can act on. They are
	// empty when it acts on nothing, or `targets` does not tell.
	Rights(step *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right
}

// DescriptionOf documents the action of that name; ok is false when nothing does.
func DescriptionOf(name string) (description Description, ok bool) {
	if describer, is := registry[name].(Describer); is {
		return describer.Describe(), true
	}
	description, ok = decided[name]
	return description, ok
}

// decided are the actions that act on nothing, or are not in the registry.
var decided = map[string]Description{
	"approve": {
		Does: "Waits until people have approved what comes next. An approval is a Decision of type `Approve`, bound to a digest of what was shown: the step, its attempt, the targets by their UIDs, and the change.",
		Limits: []string{
			"What the steps after it must look up (`targets`, Nodes, Namespaces, ServiceAccounts, Images) is looked up when it is asked for, shown, and part of the digest; and again when the step begins. What is found only then is not acted on before it is approved too.",
			"The digest covers the playbook's text as it is pinned, not what expressions in it will yield, nor which effects a `revert` after it will find to undo.",
			"With `count` above 1, who retried the step does not count, nor who promoted or joined any of the incident's events, also one that was detached since.",
			"When nobody answers `within` the time, it escalates and goes on waiting, or fails with `otherwise: Abort`.",
		},
		Example: `
name: ok-to-delete
approve: {role: IncidentManager, count: 1, message: Look at the evidence first, within: 30m, otherwise: Escalate}
`,
	},
	"task": {
		Does:   "Asks a person to do something by hand, and waits until a Decision of type `CompleteTask` says that it is done.",
		Limits: []string{"Firebreak does not check that it was done: the person's name stands for it."},
		Example: `
name: revoke-badge
task:
  message: Lock the person's badge and accounts.
  checklist: [Badge locked, Accounts locked, Line manager told]
  within: 2h
`,
	},
	"verify": {
		Does: "Waits until a CEL condition holds for the targets for a time (`expression`), or until no event has joined the incident for a time (`noEventsFor`). It changes nothing.",
		Limits: []string{
			"A target that is gone is left out of `objects`; a workload that was made anew under its name counts, a pod does not.",
			"After a dry run it is skipped: there is no effect to verify.",
		},
		Example: `
name: healthy
target: Workloads
verify:
  expression: objects.all(w, w.?status.?readyReplicas.orValue(0) == w.spec.replicas)
  for: 1m
  within: 10m
`,
	},
	"wait": {
		Does: "Lets time pass.",
		Example: `
name: let-it-settle
wait: {duration: 5m}
`,
	},
	"revert": {
		Does: "Undoes the effects of the steps it names, or of all, each by its own undo record and the latest first. It needs the rights of these steps.",
		Example: `
name: release
revert: {steps: [isolate]}
`,
	},
}

// workloadKinds are what `target: Workloads` may stand for.
var workloadKinds = []schema.GroupVersionKind{
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
	{Group: "apps", Version: "v1", Kind: "DaemonSet"},
	{Group: "apps", Version: "v1", Kind: "ReplicaSet"},
	{Group: "batch", Version: "v1", Kind: "Job"},
	{Group: "batch", Version: "v1", Kind: "CronJob"},
	{Version: "v1", Kind: "ReplicationController"},
}

var podKind = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}

// kindsOf are the kinds that a step's `target` stands for, or that its `targets` name
// literally, as far as the action can act on them.
func kindsOf(step *v1alpha1.PlaybookStep, can []schema.GroupVersionKind) []schema.GroupVersionKind {
	var kinds []schema.GroupVersionKind
	switch step.Target {
	case v1alpha1.TargetPods:
		kinds = []schema.GroupVersionKind{podKind}
	case v1alpha1.TargetWorkloads:
		kinds = slices.Clone(workloadKinds)
	case v1alpha1.TargetNodes:
		kinds = []schema.GroupVersionKind{{Version: "v1", Kind: "Node"}}
	case v1alpha1.TargetNamespaces:
		kinds = []schema.GroupVersionKind{{Version: "v1", Kind: "Namespace"}}
	case v1alpha1.TargetServiceAccounts:
		kinds = []schema.GroupVersionKind{{Version: "v1", Kind: "ServiceAccount"}}
	case v1alpha1.TargetImages:
		return nil
	default:
		if step.Targets == "" {
			return nil
		}
		if kinds = namedKinds(step.Targets); len(kinds) == 0 {
			return slices.Clone(can)
		}
	}
	if len(can) == 0 {
		return kinds
	}
	return slices.DeleteFunc(kinds, func(kind schema.GroupVersionKind) bool { return !slices.Contains(can, kind) })
}

// traits of the action a step has.
func traitOf(step *v1alpha1.PlaybookStep) lifecycle.Trait {
	return lifecycle.TraitOf(lifecycle.ActionOf(step))
}
