package lint

import (
	"cmp"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/manifest"
)

// rbac are the roles and bindings that were given.
type rbac struct {
	roles        map[key][]rbacv1.PolicyRule
	clusterRoles []rbacv1.ClusterRole
	bindings     []binding
}

// binding gives a role to subjects, in a namespace or everywhere.
type binding struct {
	namespace string // empty is everywhere
	role      rbacv1.RoleRef
	subjects  []rbacv1.Subject
}

// keep keeps an object of RBAC and says whether it is one.
func (r *rbac) keep(object *manifest.Object, namespace string) (bool, error) {
	if group, _, _ := strings.Cut(object.APIVersion, "/"); group != rbacv1.GroupName {
		return false, nil
	}
	namespace = cmp.Or(object.Namespace, namespace)
	switch object.Kind {
	case "Role":
		role := rbacv1.Role{}
		if err := object.Decode(&role); err != nil {
			return false, err
		}
		if r.roles == nil {
			r.roles = map[key][]rbacv1.PolicyRule{}
		}
		r.roles[key{namespace, object.Name}] = role.Rules
	case "ClusterRole":
		role := rbacv1.ClusterRole{}
		if err := object.Decode(&role); err != nil {
			return false, err
		}
		r.clusterRoles = append(r.clusterRoles, role)
	case "RoleBinding":
		one := rbacv1.RoleBinding{}
		if err := object.Decode(&one); err != nil {
			return false, err
		}
		r.bindings = append(r.bindings, binding{namespace, one.RoleRef, one.Subjects})
	case "ClusterRoleBinding":
		one := rbacv1.ClusterRoleBinding{}
		if err := object.Decode(&one); err != nil {
			return false, err
		}
		r.bindings = append(r.bindings, binding{"", one.RoleRef, one.Subjects})
	default:
		return false, nil
	}
	return true, nil
}

// subject is a ServiceAccount as RBAC sees it.
type subject struct {
	namespace, name, user string
	groups                []string
}

func subjectOf(namespace, account string) subject {
	return subject{namespace, account, "system:serviceaccount:" + namespace + ":" + account,
		[]string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}}
}

func (s subject) is(other rbacv1.Subject) bool {
	switch other.Kind {
	case rbacv1.ServiceAccountKind:
		return other.Namespace == s.namespace && other.Name == s.name
	case rbacv1.UserKind:
		return other.Name == s.user
	case rbacv1.GroupKind:
		return slices.Contains(s.groups, other.Name)
	}
	return false
}

// bindingsOf counts the bindings of a subject, and names the roles among them that were
// not given.
func (r *rbac) bindingsOf(s subject) (count int, elsewhere []string) {
	for i := range r.bindings {
		one := &r.bindings[i]
		if !slices.ContainsFunc(one.subjects, s.is) {
			continue
		}
		count++
		name := one.role.Kind + " '" + one.role.Name + "'"
		if _, known := r.rulesOf(one); !known && !slices.Contains(elsewhere, name) {
			elsewhere = append(elsewhere, name)
		}
	}
	slices.Sort(elsewhere)
	return count, elsewhere
}

// placesOf are the namespaces in which a subject has any rights; empty is everywhere.
func (r *rbac) placesOf(s subject) []string {
	var places []string
	for i := range r.bindings {
		if one := &r.bindings[i]; slices.ContainsFunc(one.subjects, s.is) && !slices.Contains(places, one.namespace) {
			places = append(places, one.namespace)
		}
	}
	slices.Sort(places)
	return places
}

// rulesOf are the rules that a binding gives; known is false when its role was not given.
func (r *rbac) rulesOf(one *binding) (rules []rbacv1.PolicyRule, known bool) {
	if one.role.Kind != "ClusterRole" {
		rules, known = r.roles[key{one.namespace, one.role.Name}]
		return rules, known
	}
	for i := range r.clusterRoles {
		role := &r.clusterRoles[i]
		if role.Name != one.role.Name {
			continue
		}
		rules, known = append(rules, role.Rules...), true
		if role.AggregationRule != nil {
			rules = append(rules, r.aggregated(role.AggregationRule)...)
		}
	}
	return rules, known
}

// aggregated are the rules of the ClusterRoles that are part of another by their labels.
func (r *rbac) aggregated(by *rbacv1.AggregationRule) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for i := range by.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&by.ClusterRoleSelectors[i])
		if err != nil {
			continue
		}
		for j := range r.clusterRoles {
			if selector.Matches(labels.Set(r.clusterRoles[j].Labels)) {
				rules = append(rules, r.clusterRoles[j].Rules...)
			}
		}
	}
	return rules
}

// allows answers as the API server's RBAC would, by what was given.
func (r *rbac) allows(s subject, q action.Question) bool {
	for i := range r.bindings {
		one := &r.bindings[i]
		if one.namespace != "" && one.namespace != q.Namespace || !slices.ContainsFunc(one.subjects, s.is) {
			continue
		}
		rules, _ := r.rulesOf(one)
		if slices.ContainsFunc(rules, func(rule rbacv1.PolicyRule) bool { return covers(&rule, q) }) {
			return true
		}
	}
	return false
}

func covers(rule *rbacv1.PolicyRule, q action.Question) bool {
	has := func(list []string, one string) bool { return slices.Contains(list, "*") || slices.Contains(list, one) }
	resource := q.Resource
	if q.Subresource != "" {
		resource += "/" + q.Subresource
	}
	named := len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, q.Name)
	return named && has(rule.Verbs, q.Verb) && has(rule.APIGroups, q.Group) &&
		(has(rule.Resources, resource) || q.Subresource != "" && slices.Contains(rule.Resources, "*/"+q.Subresource))
}
