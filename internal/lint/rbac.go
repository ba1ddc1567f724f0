package lint

import (
	"cmp"
	"fmt"
	"slices"

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
	bindings     []*binding
}

// binding gives a role to subjects, in a namespace or everywhere.
type binding struct {
	*manifest.Object

	namespace string // empty is everywhere
	role      rbacv1.RoleRef
	subjects  []rbacv1.Subject
}

// keep keeps an object of RBAC and says whether it is one.
func (r *rbac) keep(object *manifest.Object, namespace string) (bool, error) {
	if object.APIVersion != rbacv1.SchemeGroupVersion.String() {
		return false, nil // the API server knows no other version
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
		for i := range one.Subjects {
			if subject := &one.Subjects[i]; subject.Kind == rbacv1.ServiceAccountKind {
				subject.Namespace = cmp.Or(subject.Namespace, namespace) // as the authorizer takes it
			}
		}
		r.bindings = append(r.bindings, &binding{object, namespace, one.RoleRef, one.Subjects})
	case "ClusterRoleBinding":
		one := rbacv1.ClusterRoleBinding{}
		if err := object.Decode(&one); err != nil {
			return false, err
		}
		r.bindings = append(r.bindings, &binding{object, "", one.RoleRef, one.Subjects})
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

// bindingsOf are the bindings of a subject.
func (r *rbac) bindingsOf(s subject) []*binding {
	var all []*binding
	for _, one := range r.bindings {
		if slices.ContainsFunc(one.subjects, s.is) {
			all = append(all, one)
		}
	}
	return all
}

// names says whether a binding names a subject itself, and not only a group that it belongs to.
func (r *rbac) names(s subject) bool {
	s.groups = nil
	return len(r.bindingsOf(s)) > 0
}

// misnamed says in words which bindings name a ServiceAccount of the same name elsewhere, which is
// not given.
func (r *rbac) misnamed(s subject, given map[key]bool) string {
	for _, one := range r.bindings {
		for _, other := range one.subjects {
			if other.Kind == rbacv1.ServiceAccountKind && other.Name == s.name && other.Namespace != "" && !given[key{other.Namespace, other.Name}] {
				return fmt.Sprintf("; %s '%s' names one in namespace '%s'", one.Kind, one.Name, other.Namespace)
			}
		}
	}
	return ""
}

// held says whether a role that was given for nobody else has a right: a Role of the namespace, of any
// for the empty one, or a ClusterRole.
func (r *rbac) held(q action.Question, given map[key]bool) bool {
	has := func(rules []rbacv1.PolicyRule) bool {
		return slices.ContainsFunc(rules, func(rule rbacv1.PolicyRule) bool { return covers(&rule, q) })
	}
	for k, rules := range r.roles {
		if (q.Namespace == "" || k.namespace == q.Namespace) && has(rules) && r.isFree("Role", k, given) {
			return true
		}
	}
	return slices.ContainsFunc(r.clusterRoles, func(role rbacv1.ClusterRole) bool {
		return has(role.Rules) && r.isFree("ClusterRole", key{name: role.Name}, given)
	})
}

// isFree says that a role is bound to nobody, or to ServiceAccounts alone that are not given.
func (r *rbac) isFree(kind string, role key, given map[key]bool) bool {
	return !slices.ContainsFunc(r.bindings, func(one *binding) bool {
		return one.role.Kind == kind && one.role.Name == role.name && (kind == "ClusterRole" || one.namespace == role.namespace) &&
			slices.ContainsFunc(one.subjects, func(s rbacv1.Subject) bool {
				return s.Kind != rbacv1.ServiceAccountKind || given[key{s.Namespace, s.Name}]
			})
	})
}

// applies says whether what a binding gives counts in a namespace; empty is all of them.
func (b *binding) applies(namespace string) bool {
	return b.namespace == "" || b.namespace == namespace
}

// roleKinds are the kinds that a binding's role may be of.
func (b *binding) roleKinds() []string {
	if b.Kind == "ClusterRoleBinding" {
		return []string{"ClusterRole"}
	}
	return []string{"Role", "ClusterRole"}
}

// isRefused says that the API server takes no such binding.
func (b *binding) isRefused() bool {
	return b.role.Name == "" || !slices.Contains(b.roleKinds(), b.role.Kind) || !slices.Contains([]string{"", rbacv1.GroupName}, b.role.APIGroup)
}

// placesOf are the namespaces in which a subject has any rights; empty is everywhere.
func (r *rbac) placesOf(s subject) []string {
	var places []string
	for _, one := range r.bindingsOf(s) {
		if !slices.Contains(places, one.namespace) {
			places = append(places, one.namespace)
		}
	}
	slices.Sort(places)
	return places
}

// rulesOf are the rules that a binding gives; known is false when not all of its role was given.
func (r *rbac) rulesOf(one *binding) (rules []rbacv1.PolicyRule, known bool) {
	if one.role.Kind != "ClusterRole" {
		rules, known = r.roles[key{one.namespace, one.role.Name}]
		return rules, known
	}
	return r.rulesOfCluster(one.role.Name, map[string]bool{})
}

// rulesOfCluster are the rules of a ClusterRole. Of one that others are part of by their labels
// they are those of its parts alone, which may be made of parts too: its own are overwritten.
func (r *rbac) rulesOfCluster(name string, seen map[string]bool) (rules []rbacv1.PolicyRule, known bool) {
	if seen[name] {
		return nil, true
	}
	seen[name] = true
	for i := range r.clusterRoles {
		role := &r.clusterRoles[i]
		switch {
		case role.Name != name:
		case role.AggregationRule == nil:
			rules, known = append(rules, role.Rules...), true
		default:
			var more []rbacv1.PolicyRule
			more, known = r.rulesOfParts(role, seen)
			rules = append(rules, more...)
		}
	}
	return rules, known
}

// rulesOfParts are the rules of the ClusterRoles that are part of another by their labels. Where
// none is given for one of its selectors its parts are kept elsewhere, and are not all known; nor are
// they where it has rules, as a cluster prints it: those are of parts.
func (r *rbac) rulesOfParts(of *rbacv1.ClusterRole, seen map[string]bool) (rules []rbacv1.PolicyRule, known bool) {
	known = len(of.Rules) == 0
	for i := range of.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&of.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			continue
		}
		matched := false
		for j := range r.clusterRoles {
			if r.clusterRoles[j].Name == of.Name || !selector.Matches(labels.Set(r.clusterRoles[j].Labels)) {
				continue
			}
			more, all := r.rulesOfCluster(r.clusterRoles[j].Name, seen)
			rules, matched, known = append(rules, more...), true, known && all
		}
		known = known && matched
	}
	return rules, known
}

// namesOf are the roles that were given of the kind, and in the place, that a binding means.
func (r *rbac) namesOf(one *binding) []string {
	var names []string
	if one.role.Kind == "ClusterRole" {
		for i := range r.clusterRoles {
			names = append(names, r.clusterRoles[i].Name)
		}
	} else {
		for k := range r.roles {
			if k.namespace == one.namespace {
				names = append(names, k.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// unboundOf are the roles that were given of the kind, and in the place, that a binding means, and
// that no binding names.
func (r *rbac) unboundOf(one *binding) []string {
	return slices.DeleteFunc(r.namesOf(one), func(name string) bool {
		return slices.ContainsFunc(r.bindings, func(other *binding) bool {
			return other.role.Kind == one.role.Kind && other.role.Name == name && (one.role.Kind == "ClusterRole" || other.namespace == one.namespace)
		})
	})
}

// isGiven says whether the role that a binding means was given, be it without its parts.
func (r *rbac) isGiven(one *binding) bool {
	return slices.Contains(r.namesOf(one), one.role.Name)
}

// allows answers as the API server's RBAC would, by what was given.
func (r *rbac) allows(s subject, q action.Question) bool {
	for _, one := range r.bindingsOf(s) {
		if !one.applies(q.Namespace) {
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
