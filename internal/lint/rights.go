package lint

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/expression"
	"github.com/firebreak-dev/firebreak/internal/manifest"
)

const accountField = "spec.serviceAccountName"

// holder is a ServiceAccount that needs rights.
type holder struct {
	account string
	// named is where the manifests name it.
	named site
	// whose says in words whose it is; empty for the playbook's.
	whose string
	// print says in words what prints its rights.
	print string
	// held says that a role among the manifests that is for nobody else has some of the rights, and
	// reached that a binding gives it some.
	held, reached bool
}

// review asks the RBAC manifests for every right that a playbook needs of a ServiceAccount.
// Where a binding leads to a role that is not among them, what is missing may be in that role.
func (r *run) review(ctx context.Context, p *playbook, needs []action.StepRights, h holder) error {
	if len(needs) == 0 {
		return nil
	}
	subject := subjectOf(p.Namespace, h.account)
	if _, err := action.ReviewRights(ctx, &p.spec, needs, func(_ context.Context, question action.Question) (bool, error) {
		// Many may read.
		h.held = h.held || !slices.Contains([]string{"get", "list", "watch"}, question.Verb) && r.rbac.held(question, r.given.accounts)
		h.reached = h.reached || r.rbac.allows(subject, question)
		return true, nil
	}); err != nil {
		return err
	}
	if !r.bound(p.Namespace, h, Error, "") {
		return nil
	}
	review, err := action.ReviewRights(ctx, &p.spec, needs, func(_ context.Context, question action.Question) (bool, error) {
		return r.rbac.allows(subject, question), nil
	})
	if err != nil {
		return err
	}
	for _, lack := range review.Missing {
		severity, where := Error, r.boundElsewhere(subject, lack.Namespace)
		if elsewhere := r.elsewhere(subject, lack.Namespace); elsewhere != "" {
			severity, where = Warning, elsewhere
		}
		at := h.named
		if len(lack.Steps) > 0 {
			at = site{p.Object, p.step(lack.Steps[0])}
		}
		may := "may not " + lack.Right
		if choice, is := strings.CutPrefix(lack.Right, "at least one of "); is {
			may = "may do none of " + choice
		}
		r.add(at, severity, ReasonRightsMissing, "ServiceAccount '%s'%s %s %s, needed for %s: a Role or ClusterRole bound to it must allow that; %s%s",
			h.account, h.whose, may, lack.Place, strings.Join(lack.Who, ", "), h.print, where)
	}
	return nil
}

// bound says whether the rights of a ServiceAccount can be told by the manifests. Where it is
// among them itself, and so is a role that was made for it, or a binding that misnames it, but none
// that names it, that is as bad as what follows from it. Else its bindings may be kept elsewhere.
func (r *run) bound(namespace string, h holder, severity Severity, effect string) bool {
	if namespace == "" {
		r.add(h.named, Warning, ReasonNotGiven,
			"the rights of ServiceAccount '%s' are not checked: the namespace of the %s is not known; name it with `metadata.namespace` or -n", h.account, h.named.object.Kind)
		return false
	}
	subject := subjectOf(namespace, h.account)
	if h.reached || r.rbac.names(subject) || r.elsewhere(subject, r.rbac.placesOf(subject)...) != "" {
		return true
	}
	printed, misnamed := strings.ToUpper(h.print[:1])+h.print[1:], r.rbac.misnamed(subject, r.given.accounts)
	if !r.given.accounts[key{namespace, h.account}] || !h.held && misnamed == "" {
		r.add(h.named, Warning, ReasonNotGiven,
			"the rights of ServiceAccount '%s' are not checked: no RoleBinding or ClusterRoleBinding among the manifests names it; give them too. %s", h.account, printed)
		return false
	}
	r.add(h.named, severity, ReasonRightsMissing,
		"ServiceAccount '%s'%s may do nothing%s: it is among the manifests, but no RoleBinding or ClusterRoleBinding there gives it a role; the `subjects` of one must have {kind: ServiceAccount, name: %s, namespace: %s}%s. %s",
		h.account, h.whose, effect, h.account, namespace, misnamed, printed)
	return false
}

// elsewhere says in words in which roles that are not among the manifests more rights of a
// subject in one of some namespaces may be. Where it can be told that there is no such role, that is
// a finding, and there are no rights in it.
func (r *run) elsewhere(s subject, namespaces ...string) string {
	var roles []string
	for _, one := range r.rbac.bindingsOf(s) {
		if _, known := r.rbac.rulesOf(one); known || one.isRefused() || !slices.ContainsFunc(namespaces, one.applies) || r.noSuchRole(s, one) {
			continue
		}
		name, near := one.role.Kind+" '"+one.role.Name+"'", ""
		if !isOfKubernetes(one.role) {
			near = manifest.Nearest(one.role.Name, r.rbac.namesOf(one))
		}
		switch {
		case r.rbac.isGiven(one):
			name = "a part of " + name + " that is not among the manifests"
		case near != "":
			name += " (or is '" + near + "' meant?), which is bound but not among the manifests"
		default:
			name += ", which is bound but not among the manifests"
		}
		if !slices.Contains(roles, name) {
			roles = append(roles, name)
		}
	}
	if len(roles) == 0 {
		return ""
	}
	slices.Sort(roles)
	return ". It may be in " + strings.Join(roles, "; or in ")
}

// noSuchRole finds a role that was misspelt: one whose name is near, or of the other kind, is given
// where it must be, and no binding that is given means that. A role that is only not given may be
// kept elsewhere.
func (r *run) noSuchRole(s subject, one *binding) bool {
	if !r.given.accounts[key{s.namespace, s.name}] || r.rbac.isGiven(one) || isOfKubernetes(one.role) {
		return false
	}
	other := *one
	if other.role.Kind = "Role"; one.role.Kind == "Role" {
		other.role.Kind = "ClusterRole"
	}
	kind, near := one.role.Kind, manifest.Misspelt(one.role.Name, r.rbac.unboundOf(one))
	if near == "" && slices.Contains(r.rbac.unboundOf(&other), one.role.Name) {
		kind, near = other.role.Kind, one.role.Name
	}
	if near == "" || kind == "Role" && one.namespace == "" {
		return false
	}
	place := ""
	if one.role.Kind != "ClusterRole" {
		place = " in namespace '" + one.namespace + "'"
	}
	r.add(site{one.Object, "roleRef.name"}, Error, ReasonReference, "there is no %s '%s'%s, so that nothing is given by it: did you mean %s '%s', which no binding among the manifests names?",
		one.role.Kind, one.role.Name, place, kind, near)
	return true
}

// isOfKubernetes says whether a role is one that every cluster has.
func isOfKubernetes(role rbacv1.RoleRef) bool {
	return role.Kind == "ClusterRole" && slices.Contains([]string{"cluster-admin", "admin", "edit", "view"}, role.Name) || strings.HasPrefix(role.Name, "system:")
}

// boundElsewhere says in words where a subject is bound, when it is not in that namespace.
func (r *run) boundElsewhere(s subject, namespace string) string {
	var places []string
	for _, place := range r.rbac.placesOf(s) {
		if (&binding{namespace: place}).applies(namespace) {
			return ""
		}
		places = append(places, "'"+place+"'")
	}
	return ". It is bound in namespace " + strings.Join(places, ", ") + ", and a RoleBinding gives rights in its own namespace alone"
}

// checkBindings finds what the API server refuses of a binding, and ServiceAccounts that none can
// mean. In a RoleBinding one without a namespace is of the binding's own.
func (r *run) checkBindings() {
	for _, one := range r.rbac.bindings {
		switch kinds := one.roleKinds(); {
		case !slices.Contains(kinds, one.role.Kind):
			r.add(site{one.Object, "roleRef.kind"}, Error, ReasonInvalid, "`roleRef.kind` must be one of %q, is '%s'", kinds, one.role.Kind)
		case !slices.Contains([]string{"", rbacv1.GroupName}, one.role.APIGroup):
			r.add(site{one.Object, "roleRef.apiGroup"}, Error, ReasonInvalid, "`roleRef.apiGroup` must be '%s', is '%s'", rbacv1.GroupName, one.role.APIGroup)
		case one.role.Name == "":
			r.add(site{one.Object, "roleRef.name"}, Error, ReasonInvalid, "`roleRef.name` must be set: it must be the name of a %s", one.role.Kind)
		}
		for i := range one.subjects {
			subject, path := &one.subjects[i], fmt.Sprintf("subjects[%d]", i)
			switch {
			case subject.Kind != rbacv1.ServiceAccountKind:
			case subject.APIGroup != "":
				r.add(site{one.Object, path}, Error, ReasonInvalid, "`%s.apiGroup` must be empty for a ServiceAccount, is '%s'", path, subject.APIGroup)
			case subject.Namespace == "" && one.Kind == "ClusterRoleBinding":
				r.add(site{one.Object, path}, Error, ReasonInvalid, "`%s.namespace` must be set: it must be the namespace of ServiceAccount '%s'", path, subject.Name)
			}
		}
	}
}

// checkPlan looks at what the plan's ServiceAccount must read.
func (r *run) checkPlan(ctx context.Context, plan *plan) error {
	account := plan.spec.Spec.ServiceAccountName
	if !r.refersToAccount(plan.Object, account) {
		return nil
	}
	h := holder{account: account, named: site{plan.Object, accountField}, whose: " of the plan", print: "'kubectl firebreak rbac' prints those that a playbook needs of it"}
	for _, p := range r.given.playbooks {
		needs := action.PlanRights(&p.spec.Spec, &plan.spec)
		if p.Namespace != plan.Namespace {
			continue
		}
		if err := r.review(ctx, p, needs, h); err != nil {
			return err
		}
	}
	r.checkOwners(plan, h)
	return nil
}

// ownerChains are the kinds whose names `event.workload` may be, each with what is on the way to it.
var ownerChains = [][]action.Question{
	{{Group: "apps", Resource: "replicasets"}, {Group: "apps", Resource: "deployments"}},
	{{Group: "batch", Resource: "jobs"}, {Group: "batch", Resource: "cronjobs"}},
	{{Group: "apps", Resource: "statefulsets"}}, {{Group: "apps", Resource: "daemonsets"}},
}

// checkOwners says where `event.workload` would be the pod itself.
func (r *run) checkOwners(plan *plan, h holder) {
	reader := r.readsWorkload(plan.Namespace)
	if reader == "" {
		return
	}
	effect := fmt.Sprintf("so that `event.workload`, which policy '%s' reads, is the pod itself: events of two pods of one workload do not belong together", reader)
	if h.account == "" {
		r.add(site{plan.Object, "spec"}, Warning, ReasonRightsMissing, "the plan names no `serviceAccountName`, as which the owners of pods are looked up, %s", effect)
		return
	}
	pods := action.Question{Resource: "pods", Verb: "get"}
	h.held = r.rbac.held(pods, r.given.accounts)
	for _, pods.Namespace = range r.rbac.placesOf(subjectOf(plan.Namespace, h.account)) {
		h.reached = h.reached || r.rbac.allows(subjectOf(plan.Namespace, h.account), pods)
	}
	if !r.bound(plan.Namespace, h, Warning, ", "+effect) {
		return
	}
	anywhere := false
	subject := subjectOf(plan.Namespace, h.account)
	for _, namespace := range r.rbac.placesOf(subject) {
		may := func(q action.Question) bool {
			q.Namespace, q.Verb = namespace, "get"
			return r.rbac.allows(subject, q)
		}
		if !may(action.Question{Resource: "pods"}) {
			continue
		}
		anywhere = true
		if lacks := lackedOwners(may); lacks != "" {
			r.add(h.named, Warning, ReasonRightsMissing, "ServiceAccount '%s' of the plan may get pods %s, but not %s, %s%s", h.account, inWords(namespace), lacks, effect, r.elsewhere(subject, namespace))
		}
		if namespace == "" {
			break // it says all about the others
		}
	}
	if !anywhere {
		r.add(h.named, Warning, ReasonRightsMissing, "ServiceAccount '%s' of the plan may get pods in no namespace, %s%s", h.account, effect, r.elsewhere(subject, r.rbac.placesOf(subject)...))
	}
}

// lackedOwners names the owners that cannot be looked up: the rest of a chain that can be
// looked up in part, or all where none can.
func lackedOwners(may func(action.Question) bool) string {
	var broken, all []string
	some := false
	for _, chain := range ownerChains {
		var lacks []string
		for _, owner := range chain {
			if !may(owner) {
				lacks = append(lacks, owner.Resource+"."+owner.Group)
			}
		}
		all = append(all, lacks...)
		if len(lacks) < len(chain) {
			some = true
			broken = append(broken, lacks...)
		}
	}
	if !some {
		broken = all
	}
	return strings.Join(broken, ", ")
}

func inWords(namespace string) string {
	if namespace == "" {
		return "in all namespaces"
	}
	return "in namespace '" + namespace + "'"
}

// readsWorkload is the name of a policy that reads `event.workload`; empty when none does.
func (r *run) readsWorkload(namespace string) string {
	for _, p := range r.given.policies {
		if p.Namespace == namespace && slices.ContainsFunc(p.spec.Spec.Rules, ruleReadsWorkload) {
			return p.Name
		}
	}
	return ""
}

func ruleReadsWorkload(rule v1alpha1.ClassificationRule) bool {
	all := append([]v1alpha1.Expression{rule.Match, rule.Incident.Title, rule.Incident.SeverityExpression}, rule.Correlate.By...)
	for _, choice := range rule.Incident.Playbooks {
		all = append(all, choice.When)
	}
	return slices.ContainsFunc(all, func(one v1alpha1.Expression) bool {
		reads, err := expression.Reads(one, "event", "workload")
		return one != "" && err == nil && reads
	})
}
