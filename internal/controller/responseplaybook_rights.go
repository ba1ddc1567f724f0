package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// authorized asks the API server for every right of every step, as the playbook's
// ServiceAccount, in every namespace of its scope; and as the plan's for what it must read.
func (r *ResponsePlaybookReconciler) authorized(ctx context.Context, playbook *v1alpha1.ResponsePlaybook, plan *v1alpha1.ResponsePlan) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionAuthorized, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllowed}
	var messages []string
	for _, account := range accountsOf(playbook, plan) {
		asking := &rightsReview{client: r.Client, playbook: playbook, account: account.name, answers: map[question]bool{}, missing: map[string]map[string][]string{}}
		for _, step := range account.needs {
			if err := asking.step(ctx, step); err != nil {
				condition.Status, condition.Reason = metav1.ConditionUnknown, v1alpha1.ReasonNotAsked
				condition.Message = lifecycle.Cut(err.Error(), maxPreflightMessage)
				return condition
			}
		}
		if len(asking.missing) > 0 {
			condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.ReasonRightsMissing
		}
		if message := asking.message(); message != "" {
			messages = append(messages, message)
		}
	}
	condition.Message = lifecycle.Cut(strings.Join(messages, ". "), maxPreflightMessage)
	return condition
}

// accountRights are what one ServiceAccount needs.
type accountRights struct {
	name  string
	needs []action.StepRights
}

// accountsOf are the ServiceAccounts that a playbook acts as.
func accountsOf(playbook *v1alpha1.ResponsePlaybook, plan *v1alpha1.ResponsePlan) []accountRights {
	accounts := []accountRights{{playbook.Spec.ServiceAccountName, action.PlaybookRights(&playbook.Spec)}}
	if needs := action.PlanRights(&playbook.Spec, plan); len(needs) > 0 {
		accounts = append(accounts, accountRights{plan.Spec.ServiceAccountName, needs})
	}
	return accounts
}

// question is one question to the API server.
type question struct{ namespace, group, resource, subresource, name, verb string }

// rightsReview asks for rights, each once, and keeps what is missing.
type rightsReview struct {
	client   client.Client
	playbook *v1alpha1.ResponsePlaybook
	account  string
	answers  map[question]bool
	// missing is by place and by right; the values are the steps that need it.
	missing map[string]map[string][]string
	// notes are what else is worth knowing.
	notes []string
}

func (a *rightsReview) step(ctx context.Context, step action.StepRights) error {
	alternatives := map[alternative]*choice{}
	for _, right := range step.Rights {
		if right.Unknown != "" {
			a.notes = append(a.notes, "not asked for: "+right.String())
			continue
		}
		if right.Need == action.Useful {
			continue
		}
		for _, namespace := range right.Places(a.playbook) {
			lacks, err := a.lacks(ctx, right, namespace)
			if err != nil {
				return err
			}
			place := placeInWords(right, namespace)
			if right.Need == action.OneOf {
				alternativeOf(alternatives, place, right).add(right, len(lacks) == 0)
			} else if len(lacks) > 0 {
				right.Verbs = lacks
				a.miss(place, right.String(), stepInWords(step))
			}
		}
	}
	a.choose(step, alternatives)
	return nil
}

// alternative is one thing a step does to several kinds, in one place.
type alternative struct{ place, verbs, subresource string }

// choice is on which kinds it may do that.
type choice struct {
	met   bool
	unmet []string
}

func alternativeOf(all map[alternative]*choice, place string, right action.Right) *choice {
	_, subresource, _ := strings.Cut(right.Resource, "/")
	key := alternative{place, strings.Join(right.Verbs, ","), subresource}
	if all[key] == nil {
		all[key] = &choice{}
	}
	return all[key]
}

func (c *choice) add(right action.Right, allowed bool) {
	if allowed {
		c.met = true
	} else {
		c.unmet = append(c.unmet, right.String())
	}
}

// choose says what is missing where a step may act on none of the kinds that it may meet.
func (a *rightsReview) choose(step action.StepRights, alternatives map[alternative]*choice) {
	keys := slices.SortedFunc(maps.Keys(alternatives), func(x, y alternative) int {
		return cmp.Or(cmp.Compare(x.place, y.place), cmp.Compare(x.verbs, y.verbs), cmp.Compare(x.subresource, y.subresource))
	})
	for _, key := range keys {
		switch one := alternatives[key]; {
		case !one.met:
			a.miss(key.place, "at least one of ["+strings.Join(one.unmet, "; ")+"]", stepInWords(step))
		case step.Step != "" && len(one.unmet) > 0:
			a.notes = append(a.notes, fmt.Sprintf("%s %s cannot act where it takes %s", stepInWords(step), key.place, strings.Join(one.unmet, "; ")))
		}
	}
}

func (a *rightsReview) miss(place, right, who string) {
	if a.missing[place] == nil {
		a.missing[place] = map[string][]string{}
	}
	if !slices.Contains(a.missing[place][right], who) {
		a.missing[place][right] = append(a.missing[place][right], who)
	}
}

func stepInWords(step action.StepRights) string {
	switch {
	case step.AdHoc:
		return "`adHoc` '" + step.Step + "'"
	case step.Step == "":
		return "finding the targets"
	default:
		return "step '" + step.Step + "'"
	}
}

func placeInWords(right action.Right, namespace string) string {
	switch {
	case right.Place == action.InCluster:
		return "in the cluster"
	case namespace == "":
		return "in all namespaces"
	default:
		return "in namespace '" + namespace + "'"
	}
}

// lacks gives the verbs of a right that are not allowed.
func (a *rightsReview) lacks(ctx context.Context, right action.Right, namespace string) ([]string, error) {
	names := right.Names
	if len(names) == 0 {
		names = []string{""}
	}
	resource, subresource, _ := strings.Cut(right.Resource, "/")
	var lacks []string
	for _, verb := range right.Verbs {
		for _, name := range names {
			allowed, err := a.ask(ctx, question{namespace, right.Group, resource, subresource, name, verb})
			if err != nil {
				return nil, err
			}
			if !allowed && !slices.Contains(lacks, verb) {
				lacks = append(lacks, verb)
			}
		}
	}
	return lacks, nil
}

func (a *rightsReview) ask(ctx context.Context, q question) (bool, error) {
	if known, ok := a.answers[q]; ok {
		return known, nil
	}
	namespace, account := a.playbook.Namespace, a.account
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:   "system:serviceaccount:" + namespace + ":" + account,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: q.namespace, Group: q.group, Resource: q.resource, Subresource: q.subresource, Name: q.name, Verb: q.verb,
		},
	}}
	if err := a.client.Create(ctx, review); err != nil {
		return false, fmt.Errorf("asking whether ServiceAccount '%s' may %s %s: %w", account, q.verb, q.resource, err)
	}
	a.answers[q] = review.Status.Allowed
	return review.Status.Allowed, nil
}

// message names everything that is missing, and what would be right.
func (a *rightsReview) message() string {
	var parts []string
	for _, place := range slices.Sorted(maps.Keys(a.missing)) {
		var rights []string
		for _, right := range slices.Sorted(maps.Keys(a.missing[place])) {
			rights = append(rights, fmt.Sprintf("%s (%s)", right, strings.Join(a.missing[place][right], ", ")))
		}
		parts = append(parts, place+": "+strings.Join(rights, ", "))
	}
	text := ""
	if len(parts) > 0 {
		text = fmt.Sprintf("ServiceAccount '%s' may not, %s. 'kubectl firebreak rbac %s -n %s' prints the Roles that it needs",
			a.account, strings.Join(parts, "; "), a.playbook.Name, a.playbook.Namespace)
		if len(a.playbook.Spec.Scope.Namespaces) == 0 && a.account == a.playbook.Spec.ServiceAccountName {
			text += "; or name in `scope.namespaces` where it is meant to act"
		}
	}
	if len(a.notes) > 0 {
		text = strings.TrimPrefix(text+". "+strings.Join(a.notes, ". "), ". ")
	}
	return text
}
