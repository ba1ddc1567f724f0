package cli

import (
	"context"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const maxGroups = 16

// whoAmI asks the API server who it takes the caller for: that name must stand in the
// Decision.
func (s *session) whoAmI(ctx context.Context) (authenticationv1.UserInfo, error) {
	api, err := s.client()
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	review := &authenticationv1.SelfSubjectReview{}
	if err := api.Create(ctx, review); err != nil {
		return authenticationv1.UserInfo{}, explain(err, "ask the API server who you are")
	}
	return review.Status.UserInfo, nil
}

// plan reads the domain's plan; nil when it cannot be read or there is none.
func (s *session) plan(ctx context.Context, namespace string) *v1alpha1.ResponsePlan {
	api, err := s.client()
	if err != nil {
		return nil
	}
	plan := &v1alpha1.ResponsePlan{}
	if err := api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.ResponsePlanName}, plan); err != nil {
		return nil
	}
	return plan
}

// groupsForRole are the groups of a person that a Decision must name so that it counts
// for a role: those that hold it. Who holds it by name needs none. Without a plan it
// is not known which count, so that all go but Kubernetes' own.
func groupsForRole(plan *v1alpha1.ResponsePlan, role string, own []string) []string {
	if role == "" {
		return nil
	}
	holds := func(group string) bool { return !strings.HasPrefix(group, "system:") }
	if plan != nil {
		holds = func(group string) bool {
			return slices.ContainsFunc(plan.Spec.Roles, func(r v1alpha1.PlanRole) bool {
				return r.Name == role && slices.Contains(r.Subjects, v1alpha1.RoleSubject{Kind: v1alpha1.RoleSubjectGroup, Name: group})
			})
		}
	}
	var groups []string
	for _, group := range slices.Sorted(slices.Values(own)) {
		if holds(group) && len(groups) < maxGroups && !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	return groups
}

// awaitedRole is the role the plan asks of who decides this. Empty when it asks for none.
func awaitedRole(incident *v1alpha1.Incident, step string, kinds ...v1alpha1.AwaitingType) string {
	for _, awaiting := range incident.Status.Awaiting {
		if awaiting.Role != "" && awaiting.Step == step && slices.Contains(kinds, awaiting.Type) {
			return awaiting.Role
		}
	}
	return ""
}
