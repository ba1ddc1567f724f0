package lifecycle

import (
	"fmt"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// leftBy begins the message of an effect that a person leaves in place although all are
// undone: the incident is a false positive, or a duplicate.
const leftBy = "left in place by "

// undoLate is after how many failed tries a person is told that something cannot be undone.
const undoLate = 5

// waived says that a person leaves the effect in place.
func waived(target *v1alpha1.StepTarget) bool {
	return target.State == v1alpha1.TargetFailed && strings.HasPrefix(target.Message, leftBy)
}

// stuck says that the effect cannot be undone, or not for long.
func stuck(target *v1alpha1.StepTarget) bool {
	return target.State == v1alpha1.TargetFailed && strings.HasPrefix(target.Message, undoFailed) ||
		target.State == v1alpha1.TargetReverting && target.Attempts >= undoLate
}

// left counts the effects that are still to be undone.
func (m *machine) left() int {
	count := 0
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		for j := range step.Targets {
			if target := &step.Targets[j]; reversible(step, target) && !waived(target) {
				count++
			}
		}
	}
	return count
}

// stuckSteps lists the steps whose effects cannot be undone, where all are.
func (m *machine) stuckSteps() []*v1alpha1.IncidentStep {
	if !m.undoesAll() || m.closed() {
		return nil
	}
	var steps []*v1alpha1.IncidentStep
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		for j := range step.Targets {
			if stuck(&step.Targets[j]) {
				steps = append(steps, step)
				break
			}
		}
	}
	return steps
}

// stuckMessage says what of a step cannot be undone, and why.
func stuckMessage(step *v1alpha1.IncidentStep) string {
	var parts []string
	for i := range step.Targets {
		if target := &step.Targets[i]; stuck(target) {
			parts = append(parts, joinWords(objectName(target.Kind, target.Namespace, target.Name), target.Message))
		}
	}
	return strings.Join(parts, "; ")
}

// retryLeft tries again to undo what could not be undone.
func (m *machine) retryLeft(step *v1alpha1.IncidentStep) answer {
	again := 0
	for i := range step.Targets {
		target := &step.Targets[i]
		if !stuck(target) && !waived(target) {
			continue
		}
		target.State, target.Attempts, target.NextTime, target.Message = v1alpha1.TargetReverting, 0, nil, ""
		again++
	}
	if again == 0 {
		return refuse(v1alpha1.ReasonNotAwaited, "%s, and nothing of step '%s' could not be undone", m.whyUndone(), step.Name)
	}
	return accept(countOf(again, "effect") + " will be undone")
}

// leaveInPlace gives up undoing the effects of a step.
func (m *machine) leaveInPlace(step *v1alpha1.IncidentStep, decision *v1alpha1.Decision) answer {
	given := 0
	for i := range step.Targets {
		target := &step.Targets[i]
		// Without the pinned text nothing can be undone at all.
		if stuck(target) || m.Problem != nil && reversible(step, target) && !waived(target) {
			target.State, target.NextTime = v1alpha1.TargetFailed, nil
			target.Message = Cut(leftBy+decision.Spec.By+"; "+target.Message, 1024)
			given++
		}
	}
	if given == 0 {
		return refuse(v1alpha1.ReasonNotAwaited, "%s, and nothing of step '%s' could not be undone", m.whyUndone(), step.Name)
	}
	return accept(fmt.Sprintf("%s of step '%s' left in place", countOf(given, "effect"), step.Name))
}
