package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// reversible says that a target has an effect that can be undone and was not. What was
// only tried is none, and neither is what was sent.
func reversible(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) bool {
	return target.Undo != "" && target.Mode == "" && target.State != v1alpha1.TargetReverted && !TraitOf(step.Action).Sends
}

// runRevert undoes the effects of the steps that it names.
func (m *machine) runRevert(index int, text *v1alpha1.PlaybookStep) {
	step := &m.status.Steps[index]
	if m.dryRun || m.onlyDry(index, text) {
		m.revertDry(index, text)
		return
	}
	if m.confirmRevert(step) {
		return
	}
	next := m.out.Next
	open, undone, failures := m.undo(m.undoOrder(index, text.Revert.Steps))
	switch {
	case open > 0 && m.late(step):
		m.fail(step, text, joinWords(fmt.Sprintf("%d effects could not be undone within %s", open, limitOf(text)), strings.Join(failures, "; ")))
		m.out.Next = next
		m.out.Work = slices.DeleteFunc(m.out.Work, func(work Work) bool { return work.Verb == VerbUndo })
	case open > 0:
	case len(failures) > 0:
		m.fail(step, text, "could not be undone: "+strings.Join(failures, "; "))
	default:
		m.end(step, v1alpha1.StepSucceeded, countOf(undone, "effect")+" undone")
	}
}

// undo begins or carries on undoing the effects of steps. It says how many are left, how
// many were undone, and what failed.
func (m *machine) undo(order []int) (open, undone int, failures []string) {
	for _, index := range order {
		other := &m.status.Steps[index]
		if other.State == v1alpha1.StepRunning && m.ran[index] {
			return open + 1, undone, failures // it is waited for
		}
		first := 0
		for i := range other.Targets {
			target := &other.Targets[i]
			switch {
			case underWay(other, target):
			case m.dryRun && reversible(other, target), target.State == v1alpha1.TargetHeld && !stepDone(other) && reversible(other, target):
				open++ // it is waited for
			case target.State == v1alpha1.TargetReverted:
				undone++
			case target.State == v1alpha1.TargetReverting:
				open++
				m.queue(&m.out.Work, Work{VerbUndo, index, i}, target)
				if target.Attempts == 0 {
					first++
				} else {
					failures = append(failures, target.Message)
				}
			case waived(target):
			case target.State == v1alpha1.TargetFailed && strings.HasPrefix(target.Message, undoFailed):
				failures = append(failures, joinWords(objectName(target.Kind, target.Namespace, target.Name), target.Message))
			case reversible(other, target):
				open++
				first++
				target.State, target.NextTime, target.Attempts, target.Losses, target.LossTime = v1alpha1.TargetReverting, nil, 0, 0, nil
				m.out.Work = append(m.out.Work, Work{VerbUndo, index, i})
			}
		}
		m.markReverted(other)
		if first > 0 {
			// The steps are undone one after the other, in their order. What has failed and
			// is tried again holds up no other.
			return open, undone, failures
		}
	}
	return open, undone, failures
}

// underWay says that an effect was being made when its step had to wait: undoing it now
// could leave it standing. It is undone when the step is over.
func underWay(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) bool {
	return step.State == v1alpha1.StepRunning && !lost(target) && (target.State == v1alpha1.TargetActing || target.State == v1alpha1.TargetApplied)
}

// undoFailed begins the message of a target that could not be undone for good.
const undoFailed = "not undone"

// undoOrder lists the steps before an index that are to be undone, in their order; no
// names mean all, the last first. What comes later must stand: a revert that begins anew
// for a new object would undo it for the old ones.
func (m *machine) undoOrder(before int, names []v1alpha1.StepName) []int {
	var order []int
	if len(names) == 0 {
		for i := range m.status.Steps {
			if i < before || m.status.Steps[i].Definition != "" && i != before {
				order = append(order, i)
			}
		}
		slices.Reverse(order)
	}
	for _, name := range names {
		for i := range before {
			if m.status.Steps[i].Name == string(name) {
				order = append(order, i)
			}
		}
	}
	return order
}

// allSteps lists all steps, the last first.
func (m *machine) allSteps() []int { return m.undoOrder(len(m.status.Steps), nil) }

// markReverted shows a step all of whose effects were undone.
func (m *machine) markReverted(step *v1alpha1.IncidentStep) {
	if step.State != v1alpha1.StepSucceeded {
		return
	}
	reverted := 0
	for i := range step.Targets {
		switch {
		case step.Targets[i].State == v1alpha1.TargetReverted:
			reverted++
		case step.Targets[i].Undo != "":
			return
		}
	}
	if reverted > 0 {
		step.State = v1alpha1.StepReverted
	}
}

// revertAll undoes everything that was done: the incident is a false positive or a duplicate.
func (m *machine) revertAll() {
	var skipped []string
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		if stepDone(step) || step.State == v1alpha1.StepFailed {
			continue
		}
		skipped = append(skipped, step.Name)
		for j := range step.Targets {
			switch target := &step.Targets[j]; target.State {
			case v1alpha1.TargetShown, v1alpha1.TargetPending, v1alpha1.TargetHeld:
				target.State = v1alpha1.TargetSkipped
			}
		}
		m.finishStep(step, v1alpha1.StepSkipped, m.whyUndone())
	}
	if len(skipped) > 0 {
		m.log(v1alpha1.TimelineEntry{Action: "StepsSkipped", Outcome: "Skipped", Message: m.whyUndone() + ": " + strings.Join(skipped, ", ")})
	}
	m.undo(m.allSteps())
}

func countOf(count int, noun string) string {
	if count == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", count, noun)
}
