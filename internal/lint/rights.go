package lint

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/expression"
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
}

// review asks the RBAC manifests for every right that a playbook needs of a ServiceAccount.
// Where a binding leads to a role that is not among them, what is missing may be in that role.
func (r *run) review(ctx context.Context, p *playbook, needs []action.StepRights, h holder) error {
	if len(needs) == 0 {
		return nil
	}
	subject := subjectOf(p.Namespace, h.account)
	elsewhere, known := r.bound(p.Namespace, h)
	if !known {
		return nil
	}
	review, err := action.ReviewRights(ctx, &p.spec, needs, func(_ context.Context, question action.Question) (bool, error) {
		return r.rbac.allows(subject, question), nil
	})
	if err != nil {
		return err
	}
	severity := Error
	if elsewhere != "" {
		severity = Warning
	}
	for _, lack := range review.Missing {
		at := h.named
		if len(lack.Steps) > 0 {
			at = site{p.Object, p.step(lack.Steps[0])}
		}
		r.add(at, severity, ReasonRightsMissing, "ServiceAccount '%s'%s may not %s %s, needed for %s: a Role or ClusterRole bound to it must allow that; %s%s",
			h.account, h.whose, lack.Right, lack.Place, strings.Join(lack.Who, ", "), h.print, elsewhere)
	}
	return nil
}

// bound says whether the rights of a ServiceAccount can be told by the manifests, and in words
// in which roles that are not among them more may be.
func (r *run) bound(namespace string, h holder) (elsewhere string, known bool) {
	if namespace == "" {
		r.add(h.named, Warning, ReasonNotGiven,
			"the rights of ServiceAccount '%s' are not checked: the namespace of the %s is not known; name it with `metadata.namespace` or -n", h.account, h.named.object.Kind)
		return "", false
	}
	count, roles := r.rbac.bindingsOf(subjectOf(namespace, h.account))
	if count == 0 {
		r.add(h.named, Warning, ReasonNotGiven,
			"the rights of ServiceAccount '%s' are not checked: no RoleBinding or ClusterRoleBinding among the manifests names it; give them too. %s", h.account, strings.ToUpper(h.print[:1])+h.print[1:])
		return "", false
	}
	if len(roles) > 0 {
		elsewhere = fmt.Sprintf(". It may be in %s, which is bound but not among the manifests", strings.Join(roles, ", "))
	}
	return elsewhere, true
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
	elsewhere, known := r.bound(plan.Namespace, h)
	if !known {
		return
	}
	anywhere := false
	for _, namespace := range r.rbac.placesOf(subjectOf(plan.Namespace, h.account)) {
		may := func(q action.Question) bool {
			q.Namespace, q.Verb = namespace, "get"
			return r.rbac.allows(subjectOf(plan.Namespace, h.account), q)
		}
		if !may(action.Question{Resource: "pods"}) {
			continue
		}
		anywhere = true
		if lacks := lackedOwners(may); lacks != "" {
			r.add(h.named, Warning, ReasonRightsMissing, "ServiceAccount '%s' of the plan may get pods %s, but not %s, %s%s", h.account, inWords(namespace), lacks, effect, elsewhere)
		}
		if namespace == "" {
			break // it says all about the others
		}
	}
	if !anywhere {
		r.add(h.named, Warning, ReasonRightsMissing, "ServiceAccount '%s' of the plan may get pods in no namespace, %s%s", h.account, effect, elsewhere)
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
