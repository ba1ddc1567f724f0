package lifecycle

import (
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	defaultTimeout = 5 * time.Minute
	// maxAttempts is up to what attempts are counted.
	maxAttempts = 100
)

// stepDone says that nothing more is done for the step by itself or by a person.
func stepDone(step *v1alpha1.IncidentStep) bool {
	switch step.State {
	case v1alpha1.StepSucceeded, v1alpha1.StepSkipped, v1alpha1.StepReverted:
		return true
	default:
		return false
	}
}

// runSteps begins and carries on the steps whose turn it is: in each phase in order,
// neighbours of one parallel group together. Targets that wait for an approval hold
// back the phase, but not what can be done for the others.
func (m *machine) runSteps() {
	if m.paused || m.nothingSeen() && !m.waitsForOriginal() || len(m.status.Steps) == 0 {
		return
	}
	if m.undoesAll() {
		m.revertAll()
		return
	}
	if m.waitsForOriginal() {
		m.carryThrough()
		m.park()
		return
	}
	if m.status.Resolution != "" || len(m.out.Look) > 0 {
		return
	}
	if m.Playbook == nil || m.Problem != nil {
		m.park()
		return
	}
	m.enter(v1alpha1.PhaseContainment)
	// What people have run waits for no other step, of whatever phase.
	beside := map[v1alpha1.Phase]bool{}
	for _, goal := range goals {
		beside[goal.phase] = m.runAdHoc(goal.phase)
	}
	for _, goal := range goals {
		if goal.phase == v1alpha1.PhaseEradication && m.unconfirmed() {
			break
		}
		if over := m.runPhase(goal.phase); !over || !beside[goal.phase] {
			break
		}
	}
	m.watchDeadlines()
	m.park()
}

// watchDeadlines asks for another decision when the deadline of a step passes.
func (m *machine) watchDeadlines() {
	for i := range m.status.Steps {
		if step := &m.status.Steps[i]; m.ran[i] && step.DeadlineTime != nil && !m.late(step) {
			m.wake(step.DeadlineTime.Time)
		}
	}
}

// park stops the clocks of steps that had begun and must wait for earlier ones, because
// an object has joined or a step was retried, or for the playbook. They start anew when it is their turn again.
func (m *machine) park() {
	for i := range m.status.Steps {
		if step := &m.status.Steps[i]; step.State == v1alpha1.StepRunning && !m.ran[i] {
			step.DeadlineTime = nil
		}
	}
}

// runPhase says whether the phase is over.
func (m *machine) runPhase(phase v1alpha1.Phase) bool {
	over := true
	group := ""
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		if step.Phase != phase || step.Definition != "" || stepDone(step) || continued(step, m.textOf(step)) {
			continue
		}
		text := m.textOf(step)
		if text == nil {
			return false
		}
		if group != "" && text.Parallel != group || m.full() {
			return false
		}
		m.runStep(i, text)
		if stepDone(step) || continued(step, text) {
			continue
		}
		over = false
		if onlyHeldRemain(step) {
			continue
		}
		if text.Parallel == "" {
			return false
		}
		group = text.Parallel
	}
	return over
}

func (m *machine) textOf(step *v1alpha1.IncidentStep) *v1alpha1.PlaybookStep {
	return TextOf(m.Playbook, step)
}

// continued says that the step failed and the playbook goes on without it.
func continued(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep) bool {
	return step.State == v1alpha1.StepFailed && text != nil && text.OnFailure == v1alpha1.OnFailureContinue && text.Approve == nil
}

// onlyHeldRemain says that the step waits for an approval of some targets, and is
// done with all others.
func onlyHeldRemain(step *v1alpha1.IncidentStep) bool {
	held := false
	for i := range step.Targets {
		if lost(&step.Targets[i]) {
			continue
		}
		switch step.Targets[i].State {
		case v1alpha1.TargetHeld:
			if strings.HasPrefix(step.Targets[i].Message, confirmSays) {
				return false // what comes after it waits, as after an approve step
			}
			held = true
		case v1alpha1.TargetShown, v1alpha1.TargetPending, v1alpha1.TargetActing, v1alpha1.TargetApplied:
			return false
		}
	}
	return held
}

// runStep begins a step or carries it on.
func (m *machine) runStep(index int, text *v1alpha1.PlaybookStep) {
	step := &m.status.Steps[index]
	m.ran[index] = true
	if step.State == v1alpha1.StepPending && !m.begin(step, text) {
		return
	}
	if step.State == v1alpha1.StepRunning && step.DeadlineTime == nil {
		m.startClock(step)
	}
	switch {
	case step.State == v1alpha1.StepFailed, step.State == v1alpha1.StepAwaitingTask && text.Task == nil:
		return
	case step.State == v1alpha1.StepRunning && Resolves(text) && step.ResolvedResources == nil:
		m.runResolve(index, text)
	case text.Approve != nil:
		m.runApprove(step, text)
	case text.Task != nil:
		m.runTask(step, text)
	case text.Wait != nil:
		m.runWait(step, text)
	case text.Revert != nil:
		m.runRevert(index, text)
	case text.Verify != nil:
		m.runVerify(index, text)
	default:
		m.runTargets(index, text)
	}
}

// begin starts a step, unless its `when` says that it is not needed or it has no targets.
func (m *machine) begin(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep) bool {
	if Resolves(text) {
		step.ResolvedResources = nil // also what was looked up for an approval
	}
	if text.When != "" {
		needed, err := m.when(text.When)
		if err != nil {
			m.fail(step, text, fmt.Sprintf("`when` could not be evaluated: %v", err))
			return false
		}
		if !needed {
			leaveShown(step)
			m.end(step, v1alpha1.StepSkipped, fmt.Sprintf("`when` is false: %s", text.When))
			return false
		}
	}
	step.Attempts = min(step.Attempts+1, maxAttempts)
	step.State = v1alpha1.StepRunning
	step.Message, step.EndTime, step.HoldingTime, step.NextTime = "", nil, nil, nil
	m.startClock(step)
	switch {
	case text.Notify != nil:
		step.Targets = mergeTargets(step.Targets, m.channelTargets(text.Notify))
	case onIncident(text):
		step.Targets = mergeTargets(step.Targets, []v1alpha1.StepTarget{m.incidentTarget()})
	case text.Approve != nil:
		m.lookUpAnew(step)
	case Resolves(text):
	case text.Target != "":
		targets := m.targetsOf(text)
		if !m.fit(step, text, targets) {
			return false
		}
		if step.Targets = mergeTargets(step.Targets, targets); len(step.Targets) == 0 {
			m.nothingToActOn(step, text)
			return false
		}
	}
	return true
}

// when says whether a step is to be done.
func (m *machine) when(expression v1alpha1.Expression) (bool, error) {
	if m.Conditions == nil {
		return false, errors.New("nothing is there to evaluate it")
	}
	return m.Conditions.When(string(expression), m.incident)
}

// mergeTargets adds targets that the step does not have.
func mergeTargets(have, want []v1alpha1.StepTarget) []v1alpha1.StepTarget {
	for _, target := range want {
		if findTarget(have, target.UID) == nil && len(have) < maxResources {
			have = append(have, target)
		}
	}
	return have
}

func findTarget(targets []v1alpha1.StepTarget, uid v1alpha1.ObjectUID) *v1alpha1.StepTarget {
	for i := range targets {
		if targets[i].UID == uid {
			return &targets[i]
		}
	}
	return nil
}

// startClock starts a step's deadline.
func (m *machine) startClock(step *v1alpha1.IncidentStep) {
	step.StartTime = m.now.DeepCopy()
	limit := defaultTimeout
	if text := m.textOf(step); text != nil {
		limit = limitOf(text)
	}
	deadline := metav1.NewTime(m.now.Add(limit))
	step.DeadlineTime = &deadline
}

// limitOf is how long a step may take.
func limitOf(text *v1alpha1.PlaybookStep) time.Duration {
	switch {
	case text.Approve != nil:
		return durationOr(text.Approve.Within, time.Hour)
	case text.Task != nil:
		return durationOr(text.Task.Within, 24*time.Hour)
	case text.Verify != nil:
		return durationOr(text.Verify.Within, 10*time.Minute)
	case text.Wait != nil:
		return durationOr(text.Wait.Duration, time.Second)
	default:
		return durationOr(text.Timeout, defaultTimeout)
	}
}

func durationOr(duration *metav1.Duration, otherwise time.Duration) time.Duration {
	if duration == nil || duration.Duration <= 0 {
		return otherwise
	}
	return duration.Duration
}

// late says whether the step's deadline has passed.
func (m *machine) late(step *v1alpha1.IncidentStep) bool {
	return step.DeadlineTime != nil && !m.now.Before(step.DeadlineTime)
}

// finishStep ends a step.
func (m *machine) finishStep(step *v1alpha1.IncidentStep, state v1alpha1.StepState, message string) {
	step.State = state
	step.EndTime = m.now.DeepCopy()
	step.DeadlineTime, step.NextTime, step.Digest = nil, nil, ""
	step.Message = Cut(message, 1024)
}

// end ends a step and takes it down.
func (m *machine) end(step *v1alpha1.IncidentStep, state v1alpha1.StepState, message string) {
	m.finishStep(step, state, message)
	actor := m.actingAs()
	switch step.Action {
	case "approve", "task", "wait", "revert":
		actor = m.Manager
	}
	m.log(v1alpha1.TimelineEntry{Actor: actor, Action: "Step" + string(state), Outcome: string(state), Step: step.Name,
		Resource: soleTarget(step), Message: joinWords(step.Action, message)})
}

func soleTarget(step *v1alpha1.IncidentStep) string {
	if len(step.Targets) != 1 {
		return ""
	}
	return objectName(step.Targets[0].Kind, step.Targets[0].Namespace, step.Targets[0].Name)
}

// fail ends a step that could not be done, as its onFailure says. An approval is never
// a task: whoever may complete tasks could give it.
func (m *machine) fail(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, message string) {
	m.end(step, v1alpha1.StepFailed, message)
	if text.Approve != nil {
		return
	}
	if text.OnFailure == v1alpha1.OnFailureEscalate || text.OnFailure == "" {
		step.State = v1alpha1.StepAwaitingTask
	}
}
