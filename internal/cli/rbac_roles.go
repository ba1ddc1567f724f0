package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// grant is what gives a playbook its rights.
type grant struct {
	objects []any
	// remarks are what a person should know before applying them.
	remarks []string
}

// rolesFor gives the Roles of a playbook, one for each namespace, and a ClusterRole for
// what is in no namespace, each with its binding.
func rolesFor(playbook *v1alpha1.ResponsePlaybook) grant {
	collected := map[string]rightSet{}
	result := grant{}
	for _, step := range action.PlaybookRights(&playbook.Spec) {
		for _, right := range step.Rights {
			if right.Unknown != "" {
				result.remarks = append(result.remarks, fmt.Sprintf("%s: grant by hand %s", playbook.Name, right.String()))
				continue
			}
			for _, namespace := range right.Places(playbook) {
				if collected[namespace] == nil {
					collected[namespace] = rightSet{}
				}
				collected[namespace].add(right)
			}
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(collected)) {
		to := holder{playbook: playbook, name: playbook.Name, account: playbook.Spec.ServiceAccountName}
		result.objects = append(result.objects, to.roleAndBinding(namespace, collected[namespace].rules())...)
	}
	if _, everywhere := collected[""]; everywhere && len(playbook.Spec.Scope.Namespaces) == 0 {
		result.remarks = append(result.remarks, fmt.Sprintf(
			"%s: these rights are in the whole cluster. Name in spec.scope.namespaces where it is meant to act, and they are only there", playbook.Name))
	}
	return result
}

func (g *grant) add(other grant) {
	g.objects = append(g.objects, other.objects...)
	g.remarks = append(g.remarks, other.remarks...)
}

// tells says whether a playbook tells people, or lets them have others told.
func tells(playbook *v1alpha1.ResponsePlaybook) bool {
	if slices.ContainsFunc(playbook.Spec.AdHoc, func(name v1alpha1.ActionName) bool { return lifecycle.TraitOf(string(name)).Tells }) {
		return true
	}
	for _, phase := range []v1alpha1.PlaybookPhase{playbook.Spec.Containment, playbook.Spec.Eradication, playbook.Spec.Recovery} {
		if slices.ContainsFunc(phase.Steps, func(step v1alpha1.PlaybookStep) bool { return step.Notify != nil }) {
			return true
		}
	}
	return false
}

// channelRoles gives the Role by which the plan's ServiceAccount reads the channels of a playbook.
func channelRoles(playbook *v1alpha1.ResponsePlaybook, plan *v1alpha1.ResponsePlan) grant {
	result := grant{}
	if !tells(playbook) {
		return result
	}
	if err := action.CheckChannels(&playbook.Spec, plan); err != nil {
		result.remarks = append(result.remarks, fmt.Sprintf("%s: %v", playbook.Name, err))
	}
	collected := rightSet{}
	for _, step := range action.PlanRights(&playbook.Spec, plan) {
		for _, right := range step.Rights {
			collected.add(right)
		}
	}
	if len(collected) > 0 {
		to := holder{playbook: playbook, name: playbook.Name + "-channels", account: plan.Spec.ServiceAccountName}
		result.objects = to.roleAndBinding(playbook.Namespace, collected.rules())
	}
	return result
}

// rightKey is what verbs are allowed on.
type rightKey struct{ group, resource, name string }

// rightSet are rights without duplicates.
type rightSet map[rightKey]map[string]bool

// nameless are verbs that no name can restrict: the name is not known yet, or there is none.
var nameless = []string{"create", "list", "watch", "deletecollection"}

func (s rightSet) add(right action.Right) {
	for _, verb := range right.Verbs {
		names := right.Names
		if len(names) == 0 || slices.Contains(nameless, verb) {
			names = []string{""}
		}
		for _, name := range names {
			key := rightKey{right.Group, right.Resource, name}
			if s[key] == nil {
				s[key] = map[string]bool{}
			}
			s[key][verb] = true
		}
	}
}

// rules gives the fewest rules: resources of one group with the same verbs share one.
func (s rightSet) rules() []rbacv1.PolicyRule {
	keys := slices.SortedFunc(maps.Keys(s), func(a, b rightKey) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.resource, b.resource), cmp.Compare(a.name, b.name))
	})
	var rules []rbacv1.PolicyRule
	for _, key := range keys {
		verbs := slices.SortedFunc(maps.Keys(s[key]), func(a, b string) int { return cmp.Or(verbOrder(a)-verbOrder(b), cmp.Compare(a, b)) })
		if key.name != "" {
			rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{key.group}, Resources: []string{key.resource}, ResourceNames: []string{key.name}, Verbs: verbs})
			continue
		}
		same := slices.IndexFunc(rules, func(rule rbacv1.PolicyRule) bool {
			return rule.APIGroups[0] == key.group && len(rule.ResourceNames) == 0 && slices.Equal(rule.Verbs, verbs)
		})
		if same >= 0 {
			rules[same].Resources = append(rules[same].Resources, key.resource)
			continue
		}
		rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{key.group}, Resources: []string{key.resource}, Verbs: verbs})
	}
	return rules
}

func verbOrder(verb string) int {
	usual := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	if order := slices.Index(usual, verb); order >= 0 {
		return order
	}
	return len(usual)
}

// holder is a ServiceAccount that gets rights for a playbook.
type holder struct {
	playbook *v1alpha1.ResponsePlaybook
	name     string
	account  string
}

// roleAndBinding gives a Role and its binding, or for no namespace a ClusterRole.
func (h holder) roleAndBinding(namespace string, rules []rbacv1.PolicyRule) []any {
	name := action.NameFor("firebreak-"+h.playbook.Namespace, h.name, 253)
	subject := rbacv1ac.Subject().WithKind(rbacv1.ServiceAccountKind).WithNamespace(h.playbook.Namespace).WithName(h.account)
	reference := rbacv1ac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithName(name)
	applied := make([]*rbacv1ac.PolicyRuleApplyConfiguration, 0, len(rules))
	for _, rule := range rules {
		one := rbacv1ac.PolicyRule().WithAPIGroups(rule.APIGroups...).WithResources(rule.Resources...).WithVerbs(rule.Verbs...)
		if len(rule.ResourceNames) > 0 {
			one.WithResourceNames(rule.ResourceNames...)
		}
		applied = append(applied, one)
	}
	if namespace == "" {
		return []any{
			rbacv1ac.ClusterRole(name).WithRules(applied...),
			rbacv1ac.ClusterRoleBinding(name).WithRoleRef(reference.WithKind("ClusterRole")).WithSubjects(subject),
		}
	}
	return []any{
		rbacv1ac.Role(name, namespace).WithRules(applied...),
		rbacv1ac.RoleBinding(name, namespace).WithRoleRef(reference.WithKind("Role")).WithSubjects(subject),
	}
}
