package lifecycle

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// AutomationOf says whether playbooks run in a domain: not while its plan says
// 'Paused', and not after an accepted StopAutomation until a later accepted
// ResumeAutomation. Of two Decisions in the same second the one that stops counts.
func AutomationOf(plan *v1alpha1.ResponsePlan, decisions []v1alpha1.Decision) Automation {
	if PausedByPlan(plan) {
		return Automation{Stopped: true, By: "the plan", Why: "`response` is 'Paused'"}
	}
	var last *v1alpha1.Decision
	for i := range decisions {
		decision := &decisions[i]
		kind := decision.Spec.Type
		if kind != v1alpha1.DecisionStopAutomation && kind != v1alpha1.DecisionResumeAutomation {
			continue
		}
		if !meta.IsStatusConditionTrue(decision.Status.Conditions, v1alpha1.ConditionAccepted) {
			continue
		}
		if last == nil || last.CreationTimestamp.Before(&decision.CreationTimestamp) ||
			last.CreationTimestamp.Equal(&decision.CreationTimestamp) && kind == v1alpha1.DecisionStopAutomation {
			last = decision
		}
	}
	if last == nil || last.Spec.Type == v1alpha1.DecisionResumeAutomation {
		return Automation{}
	}
	return Automation{Stopped: true, By: last.Spec.By, Why: last.Spec.Reason}
}

// PausedByPlan says that the plan itself stops the automation: no Decision starts it again.
func PausedByPlan(plan *v1alpha1.ResponsePlan) bool {
	return plan != nil && plan.Spec.Response == v1alpha1.ResponsePaused
}

// SortDecisions puts Decisions in the order in which they count: by creation, then by name.
func SortDecisions(decisions []v1alpha1.Decision) {
	slices.SortFunc(decisions, func(a, b v1alpha1.Decision) int {
		if order := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); order != 0 {
			return order
		}
		return strings.Compare(a.Name, b.Name)
	})
}
