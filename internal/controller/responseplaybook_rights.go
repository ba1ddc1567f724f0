package controller

import (
	"context"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		review, err := action.ReviewRights(ctx, playbook, account.needs, func(ctx context.Context, question action.Question) (bool, error) {
			return r.ask(ctx, playbook.Namespace, account.name, question)
		})
		if err != nil {
			condition.Status, condition.Reason = metav1.ConditionUnknown, v1alpha1.ReasonNotAsked
			condition.Message = lifecycle.Cut(err.Error(), maxPreflightMessage)
			return condition
		}
		if len(review.Missing) > 0 {
			condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.ReasonRightsMissing
		}
		if message := rightsInWords(playbook, account.name, review); message != "" {
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

// ask has the API server answer one question.
func (r *ResponsePlaybookReconciler) ask(ctx context.Context, namespace, account string, q action.Question) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:   "system:serviceaccount:" + namespace + ":" + account,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: q.Namespace, Group: q.Group, Resource: q.Resource, Subresource: q.Subresource, Name: q.Name, Verb: q.Verb,
		},
	}}
	if err := r.Client.Create(ctx, review); err != nil {
		return false, fmt.Errorf("asking whether ServiceAccount '%s' may %s %s: %w", account, q.Verb, q.Resource, err)
	}
	return review.Status.Allowed, nil
}

// rightsInWords names everything that is missing, and what would be right.
func rightsInWords(playbook *v1alpha1.ResponsePlaybook, account string, review action.Review) string {
	var parts []string
	for i, lack := range review.Missing {
		right := fmt.Sprintf("%s (%s)", lack.Right, strings.Join(lack.Who, ", "))
		if i > 0 && review.Missing[i-1].Place == lack.Place {
			parts[len(parts)-1] += ", " + right
		} else {
			parts = append(parts, lack.Place+": "+right)
		}
	}
	text := ""
	if len(parts) > 0 {
		text = fmt.Sprintf("ServiceAccount '%s' may not, %s. 'kubectl firebreak rbac %s -n %s' prints the Roles that it needs",
			account, strings.Join(parts, "; "), playbook.Name, playbook.Namespace)
		if len(playbook.Spec.Scope.Namespaces) == 0 && account == playbook.Spec.ServiceAccountName {
			text += "; or name in `scope.namespaces` where it is meant to act"
		}
	}
	if len(review.Notes) > 0 {
		text = strings.TrimPrefix(text+". "+strings.Join(review.Notes, ". "), ". ")
	}
	return text
}
