package lifecycle

import (
	"fmt"
	"slices"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// HoldsRole says whether a person holds a role of the plan, by name or by one of
// their groups. Without a plan nobody holds any role.
func HoldsRole(plan *v1alpha1.ResponsePlan, role, by string, groups []string) (reason, message string, ok bool) {
	if plan == nil {
		return v1alpha1.ReasonNoSuchRole, fmt.Sprintf("role %q is asked for, but this namespace has no ResponsePlan 'default' that says who holds it", role), false
	}
	for _, candidate := range plan.Spec.Roles {
		if candidate.Name != role {
			continue
		}
		for _, subject := range candidate.Subjects {
			if subject.Kind == v1alpha1.RoleSubjectUser && subject.Name == by ||
				subject.Kind == v1alpha1.RoleSubjectGroup && slices.Contains(groups, subject.Name) {
				return "", "", true
			}
		}
		return v1alpha1.ReasonNotInRole, fmt.Sprintf("%s does not hold role %q of the plan, neither by name nor by the groups the Decision names", by, role), false
	}
	return v1alpha1.ReasonNoSuchRole, fmt.Sprintf("the plan has no role %q", role), false
}
