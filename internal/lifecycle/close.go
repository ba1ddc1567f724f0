package lifecycle

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// close takes in the Decision to close. The gates are those of ISO/IEC 27002:2022,
// 5.26: what was to be done is done or waived, recovery is verified or waived.
func (m *machine) close(decision *v1alpha1.Decision) answer {
	if m.status.Resolution != "" {
		return refuse(v1alpha1.ReasonAlreadyDecided, "it is being closed as %s already", m.status.Resolution)
	}
	if decision.Spec.Resolution == v1alpha1.ResolutionDuplicate {
		return refuse(v1alpha1.ReasonInvalid, "`resolution` must not be 'Duplicate': decide 'MarkDuplicate', which names the incident that goes on")
	}
	if decision.Spec.Resolution != v1alpha1.ResolutionFalsePositive {
		if open := m.openGates(); len(open) > 0 {
			return refuse(v1alpha1.ReasonGateOpen, "it cannot be closed yet: %s", strings.Join(open, "; "))
		}
		if len(m.status.Steps) == 0 {
			m.closeByHand(decision)
		}
	}
	m.status.Resolution = decision.Spec.Resolution
	m.status.Assignee = orText(m.status.Assignee, decision.Spec.By)
	return accept(fmt.Sprintf("closed as %s", decision.Spec.Resolution))
}

func orText(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// openGates lists what keeps the incident from being closed.
func (m *machine) openGates() []string {
	var open []string
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		if stepDone(step) || continued(step, m.textOf(step)) {
			continue
		}
		open = append(open, fmt.Sprintf("step '%s' of %s is %s (do it, or waive it with SkipStep and a reason)", step.Name, step.Phase, step.State))
	}
	if m.status.Phase.Rank() < v1alpha1.PhaseReview.Rank() && len(m.status.Steps) > 0 && m.status.PausedBy == "" && !m.Automation.Stopped {
		for _, resource := range m.unlooked() {
			open = append(open, resource+" has just joined, and nobody has looked at it (try again in a moment)")
		}
	}
	if m.unconfirmed() && len(m.status.Steps) > 0 {
		open = append(open, "nobody has confirmed that it is an incident (confirm it, or close it as 'FalsePositive')")
	}
	if len(open) > 6 {
		open = append(open[:6], fmt.Sprintf("and %d more", len(open)-6))
	}
	if len(open) == 0 && len(m.status.Steps) > 0 && lessonRequired(m.Plan, m.status.Severity) && !m.LessonDrafted {
		open = append(open, "its LessonLearned '"+LessonName(m.incident.Name)+"' is not there: Firebreak drafts it in Review")
	}
	return open
}

func lessonRequired(plan *v1alpha1.ResponsePlan, severity v1alpha1.Severity) bool {
	from := v1alpha1.SeverityHigh
	if plan != nil && plan.Spec.Lessons.RequiredFrom != "" {
		from = plan.Spec.Lessons.RequiredFrom
	}
	return severity.Rank() >= from.Rank()
}

// closeByHand takes a person's word for what no playbook has done.
func (m *machine) closeByHand(decision *v1alpha1.Decision) {
	m.defaultConditions()
	if m.unconfirmed() {
		m.setConfirmed(decision.Spec.By)
	}
	for _, goal := range goals {
		if IsDrill(m.incident) {
			m.setCondition(goal.condition, metav1.ConditionFalse, v1alpha1.ReasonDryRun, "a drill, closed by hand by "+decision.Spec.By)
			continue
		}
		m.setCondition(goal.condition, metav1.ConditionTrue, v1alpha1.ReasonByPerson, "closed by hand by "+decision.Spec.By)
		m.once(goal.time(&m.status.Times))
	}
}

// finish closes the incident once everything that closing needs is done.
func (m *machine) finish() {
	if m.status.Resolution == "" || m.closed() {
		return
	}
	if m.undoesAll() {
		if m.left() > 0 {
			return
		}
		for _, goal := range goals {
			if findCondition(m.status.Conditions, goal.condition).Status == metav1.ConditionFalse {
				m.setCondition(goal.condition, metav1.ConditionFalse, m.reasonUndone(), m.whyUndone())
			}
		}
	} else if m.out.DraftLesson {
		return
	}
	if left := Standing(m.status); len(left) > 0 {
		m.log(v1alpha1.TimelineEntry{Action: "ContainmentLeft", Outcome: "InPlace", Message: "left in place: " + strings.Join(left, ", ")})
	}
	m.status.Phase = v1alpha1.PhaseClosed
	m.once(&m.status.Times.ClosedTime)
	closed := v1alpha1.TimelineEntry{Action: "IncidentClosed", Outcome: string(m.status.Resolution)}
	reason, message := v1alpha1.ReasonByPerson, "closed as "+string(m.status.Resolution)
	if m.status.Resolution == v1alpha1.ResolutionDuplicate {
		reason, message, closed.Message = v1alpha1.ReasonDuplicate, "a duplicate of "+m.status.DuplicateOf.Name, "a duplicate of "+m.status.DuplicateOf.Name
	}
	m.setCondition(v1alpha1.ConditionClosed, metav1.ConditionTrue, reason, message)
	m.log(closed)
}

// Standing lists the effects that were made, can be undone and were not.
func Standing(status *v1alpha1.IncidentStatus) []string {
	var left []string
	for i := range status.Steps {
		step := &status.Steps[i]
		for j := range step.Targets {
			if target := &step.Targets[j]; reversible(step, target) {
				left = append(left, step.Name+" of "+objectName(target.Kind, target.Namespace, target.Name))
			}
		}
	}
	return left
}
