package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// approve lets a step go on. It is bound to what was shown.
func (m *machine) approve(decision *v1alpha1.Decision) answer {
	step, text, refused := m.stepOf(decision)
	if refused != nil {
		return *refused
	}
	if step.State != v1alpha1.StepAwaitingApproval {
		return refuse(v1alpha1.ReasonNotAwaited, "step '%s' does not wait for an approval: it is %s", step.Name, step.State)
	}
	if now := m.shownFor(step).digest(); decision.Spec.Digest != now {
		return refuse(v1alpha1.ReasonStale, "the approval is for something else than what would be done now: look again, and approve digest %s", now)
	}
	if text.Approve == nil {
		return m.release(step, decision)
	}
	if refused := m.inRole(decision, text.Approve.Role); refused != nil {
		return *refused
	}
	m.bind(step)
	count := int(max(text.Approve.Count, 1))
	if len(step.Approvers) >= count {
		return refuse(v1alpha1.ReasonAlreadyDecided, "step '%s' is approved already: it goes on when its turn comes", step.Name)
	}
	for i := range step.Approvers {
		if step.Approvers[i].By == decision.Spec.By {
			return refuse(v1alpha1.ReasonSamePerson, "%s has approved already; %d different people must", decision.Spec.By, count)
		}
	}
	if count > 1 && slices.Contains(m.Promoters, decision.Spec.By) {
		return refuse(v1alpha1.ReasonSamePerson, "%s has promoted the event: %d other people must approve", decision.Spec.By, count)
	}
	if count > 1 && retried(step, decision.Spec.By) {
		return refuse(v1alpha1.ReasonSamePerson, "%s has retried the step: %d other people must approve", decision.Spec.By, count)
	}
	step.Approvers = append(step.Approvers, v1alpha1.Approver{By: decision.Spec.By, DecisionRef: v1alpha1.DecisionReference{Name: decision.Name}, Time: m.now})
	if left := count - len(step.Approvers); left > 0 {
		return accept(fmt.Sprintf("approved; %d more must approve", left))
	}
	return accept("approved")
}

// maxRetriedBy is how many people are kept who have begun a step anew.
const maxRetriedBy = 16

// retried says whether a person has begun the step anew.
func retried(step *v1alpha1.IncidentStep, by string) bool {
	return slices.Contains(step.RetriedBy, by)
}

// release lets the steps act on targets in spite of a limit or protection.
func (m *machine) release(step *v1alpha1.IncidentStep, decision *v1alpha1.Decision) answer {
	if step.Action == "revert" {
		step.Approvers = []v1alpha1.Approver{{By: decision.Spec.By, DecisionRef: v1alpha1.DecisionReference{Name: decision.Name}, Time: m.now}}
		step.State, step.Digest, step.Message = v1alpha1.StepRunning, "", ""
		m.startClock(step)
		return accept("approved")
	}
	released, confirmed := map[v1alpha1.ObjectUID]bool{}, 0
	for i := range step.Targets {
		target := &step.Targets[i]
		if target.State != v1alpha1.TargetHeld {
			continue
		}
		confirmed++
		if m.confirms(step) {
			target.ConfirmedBy = decision.Spec.By
		}
		if !strings.HasPrefix(target.Message, confirmSays) {
			released[target.UID] = true
			continue
		}
		letGo(target)
		step.State, step.Digest, step.Message = v1alpha1.StepRunning, "", ""
		m.startClock(step)
	}
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		if released[resource.UID] || resource.Workload.UID != "" && released[resource.Workload.UID] {
			resource.Hold, resource.ApprovedBy = "", decision.Spec.By
		}
	}
	for i := range m.status.Steps {
		other := &m.status.Steps[i]
		freed := false
		for j := range other.Targets {
			target := &other.Targets[j]
			if target.State == v1alpha1.TargetHeld && !strings.HasPrefix(target.Message, confirmSays) && m.freed(target, released) {
				letGo(target)
				target.ApprovedBy = decision.Spec.By
				freed = true
			}
		}
		if freed {
			other.State, other.Digest, other.Message = v1alpha1.StepRunning, "", ""
			m.startClock(other)
		}
	}
	return accept(fmt.Sprintf("%d held targets may be acted on", confirmed))
}

// freed says whether no hold is left on a target: it is one of those released, or the
// workload of one.
func (m *machine) freed(target *v1alpha1.StepTarget, released map[v1alpha1.ObjectUID]bool) bool {
	if released[target.UID] {
		return true
	}
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		if resource.Workload.UID == target.UID && resource.Hold == "" {
			return true
		}
	}
	return false
}

// reject decides that a step that waits for approval is not done. What it guards is
// not done either until a person decides how to go on.
func (m *machine) reject(decision *v1alpha1.Decision) answer {
	step, text, refused := m.stepOf(decision)
	if refused != nil {
		return *refused
	}
	if step.State != v1alpha1.StepAwaitingApproval {
		return refuse(v1alpha1.ReasonNotAwaited, "step '%s' does not wait for an approval: it is %s", step.Name, step.State)
	}
	if text.Approve != nil {
		if refused := m.inRole(decision, text.Approve.Role); refused != nil {
			return *refused
		}
		m.end(step, v1alpha1.StepFailed, "rejected by "+decision.Spec.By)
		return accept("nothing that the step guards is done; skip or retry steps, or close the incident")
	}
	if text.Revert != nil {
		m.skip(step, decision)
		return accept("nothing is undone; the playbook goes on without it")
	}
	for i := range step.Targets {
		if target := &step.Targets[i]; target.State == v1alpha1.TargetHeld {
			giveUp(step, target, v1alpha1.TargetSkipped)
			target.Message = "rejected by " + decision.Spec.By
		}
	}
	step.State = v1alpha1.StepRunning
	return accept("the held targets of this step are left alone")
}

// These begin the messages of steps that a person has decided about.
const (
	skippedBy = "skipped by "
	doneBy    = "done by "
)

// completeTask says that a person has done a task, or what a failed step should have done.
func (m *machine) completeTask(decision *v1alpha1.Decision) answer {
	step, text, refused := m.stepOf(decision)
	if refused != nil {
		return *refused
	}
	if step.State != v1alpha1.StepAwaitingTask || text.Approve != nil {
		return refuse(v1alpha1.ReasonNotAwaited, "step '%s' does not wait for a person to do something: it is %s", step.Name, step.State)
	}
	if text.Task != nil {
		if refused := m.inRole(decision, text.Task.Role); refused != nil {
			return *refused
		}
	}
	m.end(step, v1alpha1.StepSucceeded, doneBy+decision.Spec.By)
	return accept("done by " + decision.Spec.By)
}

// skipStep goes on without a step. The reason waives it.
func (m *machine) skipStep(decision *v1alpha1.Decision) answer {
	step := m.stepNamed(decision.Spec.Step)
	if step == nil {
		return refuse(v1alpha1.ReasonNoSuchStep, "the incident has no step '%s'", decision.Spec.Step)
	}
	if m.undoesAll() {
		return m.leaveInPlace(step, decision)
	}
	drifting := slices.Contains(m.driftedSteps(), step)
	if stepDone(step) && !drifting && m.unwatchedOf(step) == "" {
		return refuse(v1alpha1.ReasonAlreadyDecided, "step '%s' is over: it is %s", step.Name, step.State)
	}
	if text := m.textOf(step); text != nil && text.Task != nil {
		if refused := m.inRole(decision, text.Task.Role); refused != nil {
			return *refused
		}
	}
	m.skip(step, decision)
	if step.Action != "approve" {
		return accept("the playbook goes on without it")
	}
	// What nobody has approved is not done: what the step guards is skipped with it.
	for _, guarded := range m.guardedBy(step) {
		if !stepDone(guarded) {
			m.skip(guarded, decision)
		}
	}
	// What was waived is bound to what was known, as what is approved is.
	step.Digest = m.shownFor(step).digest()
	return accept("nobody has approved it, so what the step guards is skipped too; the playbook goes on after that")
}

// skip waives one step.
func (m *machine) skip(step *v1alpha1.IncidentStep, decision *v1alpha1.Decision) {
	if text := m.textOf(step); text != nil {
		// What is known now is waived, also of a step that has not begun.
		if targets := m.targetsOf(text); !Resolves(text) && m.roomFor(len(targets)) {
			step.Targets = mergeTargets(step.Targets, targets)
		}
	}
	for i := range step.Targets {
		switch target := &step.Targets[i]; target.State {
		case v1alpha1.TargetShown:
			target.State, target.Message = v1alpha1.TargetSkipped, ""
		case v1alpha1.TargetPending, v1alpha1.TargetHeld:
			giveUp(step, target, v1alpha1.TargetSkipped)
		case v1alpha1.TargetActing, v1alpha1.TargetApplied:
			// It may have taken effect: failed, with its undo record kept.
			giveUp(step, target, v1alpha1.TargetFailed)
		}
	}
	if step.StartTime == nil {
		step.StartTime = m.now.DeepCopy()
	}
	m.end(step, v1alpha1.StepSkipped, skippedBy+decision.Spec.By)
}

// retryStep begins a failed step anew.
func (m *machine) retryStep(decision *v1alpha1.Decision) answer {
	if known := m.stepNamed(decision.Spec.Step); known != nil && m.undoesAll() {
		return m.retryLeft(known)
	}
	step, text, refused := m.stepOf(decision)
	if refused != nil {
		return *refused
	}
	if m.waitsForOriginal() {
		return m.retryHeld(step)
	}
	drifting := slices.Contains(m.driftedSteps(), step)
	if drifting {
		countAnew(step)
	}
	failed := m.canRetry(step, text)
	switch {
	case drifting && (stepDone(step) || !failed):
		return accept("what was taken away is made again, and counted anew")
	case m.unwatchedOf(step) != "" && (stepDone(step) || !failed):
		lookNow(step)
		return accept("what stands is looked at again")
	case !failed && m.passedOver(step):
		m.lookAgain()
		return accept("what could not be read is looked at again")
	case !failed:
		return refuse(v1alpha1.ReasonNotAwaited, "step '%s' has not failed: it is %s", step.Name, step.State)
	}
	tryAnew(step)
	if step.RetriedBy = append(slices.DeleteFunc(step.RetriedBy, func(by string) bool { return by == decision.Spec.By }), decision.Spec.By); len(step.RetriedBy) > maxRetriedBy {
		step.RetriedBy = step.RetriedBy[1:]
	}
	m.retryDry(step)
	m.lookAgain()
	if text.Revert != nil {
		m.retryUndo(step, text.Revert.Steps)
	}
	step.State = v1alpha1.StepPending
	step.Approvers, step.Digest, step.Message, step.EndTime = nil, "", "", nil
	return accept("begun anew")
}

// tryAnew lets the targets be acted on again at which a step has failed.
func tryAnew(step *v1alpha1.IncidentStep) {
	for i := range step.Targets {
		if target := &step.Targets[i]; target.State == v1alpha1.TargetFailed || target.State == v1alpha1.TargetGone {
			target.State, target.Attempts, target.NextTime, target.Message, target.ConfirmedBy = v1alpha1.TargetPending, 0, nil, "", ""
			switch {
			case TraitOf(step.Action).Sends:
				target.Undo = "" // another attempt has another key, and says how things are then
			case target.Undo != "":
				// It may have taken effect: planned anew, the record of how it was would be lost.
				target.State = v1alpha1.TargetActing
			}
		}
	}
}

// canRetry says that a step has failed, or was only tried and can be done now.
func (m *machine) canRetry(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep) bool {
	return dry(step) && !m.dryRun || step.State == v1alpha1.StepFailed || step.State == v1alpha1.StepAwaitingTask && text.Task == nil
}

// retryUndo lets effects that could not be undone be tried again.
func (m *machine) retryUndo(revert *v1alpha1.IncidentStep, names []v1alpha1.StepName) {
	at := slices.IndexFunc(m.status.Steps, func(step v1alpha1.IncidentStep) bool { return step.Name == revert.Name })
	for _, index := range m.undoOrder(at, names) {
		targets := m.status.Steps[index].Targets
		for i := range targets {
			switch target := &targets[i]; {
			case target.State == v1alpha1.TargetFailed && reversible(&m.status.Steps[index], target):
				target.Message = ""
			case target.State == v1alpha1.TargetReverting:
				target.Attempts, target.NextTime = 0, nil
			}
		}
	}
}

// lookAgain asks for another look at what could not be read: rights may have been granted.
func (m *machine) lookAgain() {
	for i := range m.status.Resources {
		if resource := &m.status.Resources[i]; resource.State == v1alpha1.ResourceUnreadable {
			resource.State, resource.Message, resource.GoneTime = "", "", nil
		}
	}
}
