package action

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// Place says where a right is needed.
type Place int

// The places.
const (
	// AtTargets is each namespace of the playbook's `scope`; where that is empty, all.
	AtTargets Place = iota
	// InDomain is the playbook's own namespace.
	InDomain
	// InCluster is the cluster: the objects are in no namespace.
	InCluster
)

// Need says how much a step needs a right.
type Need int

// The needs.
const (
	// Required is what the step fails without.
	Required Need = iota
	// OneOf is one of several kinds that may be met: what is missing matters when such an
	// object is met. A step that holds none of its OneOf rights cannot do anything.
	OneOf
	// Useful is what the step does without, and knows less.
	Useful
)

// Right is what the playbook's ServiceAccount must be allowed.
type Right struct {
	// Group is the API group, empty for the core group.
	Group string
	// Resource is the resource, with its subresource: 'pods/log'.
	Resource string
	// Verbs are the verbs.
	Verbs []string
	// Names restrict it to objects of these names. Empty means any.
	Names []string
	// Place says where.
	Place Place
	// Namespace is the one namespace where it is needed, when the playbook names it.
	Namespace string
	// Need says how much it is needed.
	Need Need
	// Unknown says in words on what the verbs are needed, when that is known only when
	// the step runs. Group and Resource are empty then.
	Unknown string
}

// Places are the namespaces in which a playbook needs the right; empty is the whole cluster.
// By them rights are both granted and asked for.
func (r Right) Places(playbook *v1alpha1.ResponsePlaybook) []string {
	switch {
	case r.Place == InCluster:
		return []string{""}
	case r.Place == InDomain:
		return []string{playbook.Namespace}
	case r.Namespace != "":
		return []string{r.Namespace}
	case len(playbook.Spec.Scope.Namespaces) == 0:
		return []string{""}
	}
	names := make([]string, 0, len(playbook.Spec.Scope.Namespaces))
	for _, name := range playbook.Spec.Scope.Namespaces {
		names = append(names, string(name))
	}
	return names
}

// StepRights are the rights of one step.
type StepRights struct {
	// Step is the step's name. Empty stands for looking at what the incident is about,
	// which every playbook does.
	Step string
	// AdHoc says that it is no step: Step is the name of an action that people may run.
	AdHoc bool
	// Rights are what it needs.
	Rights []Right
}

// rightsOn gives the same verbs on objects of several kinds, at the targets. With more
// than one kind, each is one of those that may be met.
func rightsOn(kinds []schema.GroupVersionKind, subresource string, verbs ...string) []Right {
	rights := make([]Right, 0, len(kinds))
	for _, kind := range kinds {
		right := rightOn(kind, verbs...)
		if subresource != "" {
			right.Resource += "/" + subresource
		}
		if len(kinds) > 1 {
			right.Need = OneOf
		}
		rights = append(rights, right)
	}
	return rights
}

// rightOn gives verbs on objects of a kind, at the targets, or in the cluster when such
// objects are in no namespace.
func rightOn(kind schema.GroupVersionKind, verbs ...string) Right {
	plural, _ := meta.UnsafeGuessKindToResource(kind)
	right := Right{Group: kind.Group, Resource: plural.Resource, Verbs: verbs}
	if slices.Contains(clusterKinds, kind.Kind) {
		right.Place = InCluster
	}
	return right
}

// clusterKinds are kinds of Kubernetes whose objects are in no namespace.
var clusterKinds = []string{
	"APIService", "CertificateSigningRequest", "ClusterNetworkPolicy", "ClusterRole", "ClusterRoleBinding",
	"CustomResourceDefinition", "IngressClass", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding",
	"MutatingWebhookConfiguration", "Namespace", "Node", "PersistentVolume", "PriorityClass", "RuntimeClass", "StorageClass",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration", "VolumeAttachment",
}

// secretRight is reading one Secret of the domain.
func secretRight(name string) Right {
	return Right{Resource: "secrets", Verbs: []string{"get"}, Names: []string{name}, Place: InDomain}
}

// PlaybookRights are all the rights a playbook needs: to look at what the incident is
// about, step by step, and for what people may run beside the steps.
func PlaybookRights(playbook *v1alpha1.ResponsePlaybookSpec) []StepRights {
	steps := stepsOf(playbook)
	var all []StepRights
	if looking := lookingRights(steps); len(looking) > 0 {
		all = append(all, StepRights{Rights: looking})
	}
	for _, step := range steps {
		if rights := stepRights(step); len(rights) > 0 {
			all = append(all, StepRights{Step: step.Name, Rights: rights})
		}
	}
	for _, name := range playbook.AdHoc {
		if rights := adHocRights(string(name)); len(rights) > 0 {
			all = append(all, StepRights{Step: string(name), AdHoc: true, Rights: rights})
		}
	}
	return all
}

// PlanRights are what the plan's ServiceAccount needs for the steps of a playbook.
func PlanRights(playbook *v1alpha1.ResponsePlaybookSpec, plan *v1alpha1.ResponsePlan) []StepRights {
	var all []StepRights
	add := func(one StepRights, channels []v1alpha1.ChannelName) {
		for _, name := range channels {
			if channel := lifecycle.ChannelOf(plan, string(name)); channel != nil {
				one.Rights = append(one.Rights, secretRight(channel.URLSecretKeyRef.Name))
			}
		}
		if len(one.Rights) > 0 {
			all = append(all, one)
		}
	}
	for _, step := range stepsOf(playbook) {
		if step.Notify != nil {
			channels, _ := lifecycle.Addressees(plan, step.Notify)
			add(StepRights{Step: step.Name}, channels)
		}
	}
	for _, name := range playbook.AdHoc {
		if plan != nil && lifecycle.TraitOf(string(name)).Tells {
			var channels []v1alpha1.ChannelName
			for i := range plan.Spec.Channels {
				channels = append(channels, plan.Spec.Channels[i].Name)
			}
			add(StepRights{Step: string(name), AdHoc: true}, channels)
		}
	}
	return all
}

// adHocRights are what an action needs that people may run, with its defaults, on whatever
// it can act on.
func adHocRights(name string) []Right {
	describer, ok := registry[name].(Describer)
	if !ok || lifecycle.TraitOf(name).Tells {
		return nil
	}
	var rights []Right
	for _, target := range []v1alpha1.TargetKind{v1alpha1.TargetPods, v1alpha1.TargetWorkloads, v1alpha1.TargetNodes} {
		step := &v1alpha1.PlaybookStep{}
		text := fmt.Sprintf(`{"name": %q, %q: {}, "target": %q}`, name, name, target)
		if err := json.Unmarshal([]byte(text), step); err != nil {
			return nil
		}
		can := describer.Describe().Kinds
		if kinds := kindsOf(step, can); len(can) > 0 && len(kinds) > 0 {
			rights = append(rights, lookingRights([]*v1alpha1.PlaybookStep{step})...)
			rights = append(rights, describer.Rights(step, kinds)...)
		}
	}
	if len(rights) == 0 {
		rights = append(rights, Right{Verbs: []string{"get"}, Unknown: fmt.Sprintf("what a person has '%s' do", name)})
	}
	return rights
}

// lookingRights are for finding the targets: the pods, and what owns them.
func lookingRights(steps []*v1alpha1.PlaybookStep) []Right {
	var rights []Right
	targets := map[v1alpha1.TargetKind]bool{}
	for _, step := range steps {
		if step.Target != "" {
			targets[step.Target] = true
		}
	}
	if len(targets) == 0 {
		return nil
	}
	rights = append(rights, rightOn(podKind, "get"))
	owners := rightsOn(workloadKinds, "", "get")
	for i := range owners {
		if !targets[v1alpha1.TargetWorkloads] {
			owners[i].Need = Useful
		}
	}
	rights = append(rights, owners...)
	for target, kind := range map[v1alpha1.TargetKind]string{
		v1alpha1.TargetNodes: "Node", v1alpha1.TargetNamespaces: "Namespace", v1alpha1.TargetServiceAccounts: "ServiceAccount",
	} {
		if targets[target] {
			rights = append(rights, rightOn(schema.GroupVersionKind{Version: "v1", Kind: kind}, "get"))
		}
	}
	slices.SortStableFunc(rights[1+len(owners):], func(a, b Right) int { return cmp.Compare(a.Resource, b.Resource) })
	return rights
}

func stepRights(step *v1alpha1.PlaybookStep) []Right {
	if step.Verify != nil {
		return verifyRights(step)
	}
	trait := traitOf(step)
	describer, ok := registry[trait.Name].(Describer)
	if !ok {
		return nil
	}
	kinds := kindsOf(step, describer.Describe().Kinds)
	rights := describer.Rights(step, kinds)
	if len(kinds) == 0 && step.Targets != "" {
		rights = append(rights, Right{Verbs: []string{"get"}, Unknown: unknownTargets(step)})
	}
	return rights
}

func unknownTargets(step *v1alpha1.PlaybookStep) string {
	return fmt.Sprintf("what `targets` of step '%s' yields, and what step '%s' does to it", step.Name, step.Name)
}

func verifyRights(step *v1alpha1.PlaybookStep) []Right {
	if step.Verify.Expression == "" {
		return nil
	}
	kinds := kindsOf(step, nil)
	if len(kinds) == 0 && step.Targets != "" {
		return []Right{{Verbs: []string{"get"}, Unknown: unknownTargets(step)}}
	}
	rights := rightsOn(kinds, "", "get")
	for _, kind := range kinds {
		// Without it the objects are looked at every second.
		watch := rightOn(kind, "watch")
		watch.Need = Useful
		rights = append(rights, watch)
	}
	return rights
}

// String says it in words: get, list 'pods'.
func (r Right) String() string {
	if r.Unknown != "" {
		return strings.Join(r.Verbs, ", ") + " on " + r.Unknown
	}
	what := r.Resource
	if r.Group != "" {
		what += "." + r.Group
	}
	if len(r.Names) > 0 {
		what += " '" + strings.Join(r.Names, "', '") + "'"
	}
	return strings.Join(r.Verbs, ", ") + " " + what
}
