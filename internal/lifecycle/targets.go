package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	defaultAttempts = 3
	defaultBackoff  = 2 * time.Second
	maxBackoff      = 5 * time.Minute
	defaultLook     = time.Second
	// maxUndo is how many characters of an undo record the status keeps.
	maxUndo = 4096
)

// syncTargets adds objects that joined after a step had begun, and begins anew what
// must be done for them. Containment first; the phase stays.
func (m *machine) syncTargets() {
	if m.Playbook == nil || m.status.Resolution != "" || m.waitsForOriginal() || len(m.out.Look) > 0 || m.status.Phase.Rank() >= v1alpha1.PhaseReview.Rank() {
		return
	}
	joined := false
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		text := m.textOf(step)
		if text == nil || step.State == v1alpha1.StepPending || step.StartTime == nil || waivedForAll(step) {
			continue
		}
		if text.Target == "" || Resolves(text) {
			continue
		}
		before, want := len(step.Targets), m.targetsOf(text)
		if !m.fitLater(step, text, want) {
			continue
		}
		step.Targets = mergeTargets(step.Targets, want)
		if len(step.Targets) == before {
			continue
		}
		if step.State != v1alpha1.StepRunning && step.State != v1alpha1.StepAwaitingApproval {
			joined = true
			m.reopen(step)
		}
	}
	if joined {
		m.reopenUntargeted()
	}
	m.askAgain()
}

// waivedForAll says that a person has decided against a step that cannot be undone: it
// does not begin anew for what joins.
func waivedForAll(step *v1alpha1.IncidentStep) bool {
	return TraitOf(step.Action).Destroys && step.State == v1alpha1.StepSkipped && strings.HasPrefix(step.Message, skippedBy)
}

// reopen begins a finished step anew. A step by which nothing was done because of its
// `when` stays skipped: it has no start time.
func (m *machine) reopen(step *v1alpha1.IncidentStep) {
	step.State = v1alpha1.StepRunning
	step.Attempts = min(step.Attempts+1, maxAttempts)
	step.EndTime, step.HoldingTime, step.NextTime, step.Approvers, step.Digest = nil, nil, nil, nil, ""
	step.Message = ""
	m.startClock(step)
}

// reopenUntargeted asks again for approvals, waits and reverts: what was approved or
// undone was for other targets. Tasks of people stay done, and so does what acts on the
// incident as a whole: no job runs and no request is sent again.
func (m *machine) reopenUntargeted() {
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		text := m.textOf(step)
		if text == nil || !stepDone(step) || step.StartTime == nil || text.Target != "" || text.Targets != "" || text.Task != nil || onIncident(text) || step.Definition != "" {
			continue
		}
		m.putBack(step)
	}
}

// putBack lets a step begin anew when its turn comes.
func (m *machine) putBack(step *v1alpha1.IncidentStep) {
	step.State = v1alpha1.StepPending
	step.EndTime, step.Approvers, step.Digest, step.Message = nil, nil, "", ""
}

// runTargets carries on a step that acts on objects.
func (m *machine) runTargets(index int, text *v1alpha1.PlaybookStep) {
	step := &m.status.Steps[index]
	late := step.State == v1alpha1.StepRunning && m.late(step)
	open, held := 0, 0
	for i := range step.Targets {
		target := &step.Targets[i]
		if lost(target) {
			continue // it was made: it is made again, whatever becomes of the step
		}
		m.turn(step, target)
		m.confirm(step, target)
		if late && !proving(text, target) && (target.State == v1alpha1.TargetPending || target.State == v1alpha1.TargetActing || target.State == v1alpha1.TargetApplied) {
			target.Message = Cut(joinWords(fmt.Sprintf("not done within %s", limitOf(text)), target.Message), 1024)
			giveUp(step, target, v1alpha1.TargetFailed)
		}
		switch target.State {
		case v1alpha1.TargetPending:
			open++
			m.queue(&m.out.Plans, Work{VerbPlan, index, i}, target)
		case v1alpha1.TargetActing:
			open++
			m.queue(&m.out.Work, Work{VerbApply, index, i}, target)
		case v1alpha1.TargetApplied:
			open++
			m.queue(&m.out.Work, Work{VerbObserve, index, i}, target)
		case v1alpha1.TargetHeld:
			held++
		}
	}
	switch {
	case open > 0 && step.State != v1alpha1.StepRunning:
		step.State = v1alpha1.StepRunning
		m.startClock(step)
	case open > 0:
	case held > 0:
		m.awaitRelease(step)
	default:
		m.endTargets(step, text)
	}
}

// giveUp ends a target that is not done. What would be undone stays on record; what was
// sent cannot be undone, and is not sent again under the same key.
func giveUp(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget, state v1alpha1.TargetState) {
	target.State = state
	if TraitOf(step.Action).Sends {
		target.Undo = ""
	}
}

// queue gives work for a target, now or when it is due.
func (m *machine) queue(list *[]Work, work Work, target *v1alpha1.StepTarget) {
	if target.NextTime != nil && m.Now.Before(target.NextTime.Time) {
		m.wake(target.NextTime.Time)
		return
	}
	*list = append(*list, work)
}

// endTargets ends a step all of whose targets are done with.
func (m *machine) endTargets(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep) {
	count := map[v1alpha1.TargetState]int{}
	var failures, gone []string
	for i := range step.Targets {
		target := &step.Targets[i]
		if lost(target) {
			count[v1alpha1.TargetSucceeded]++
			continue
		}
		count[target.State]++
		name := objectName(target.Kind, target.Namespace, target.Name)
		switch target.State {
		case v1alpha1.TargetFailed:
			failures = append(failures, joinWords(name, target.Message))
		case v1alpha1.TargetGone:
			gone = append(gone, joinWords(name, target.Message))
		}
	}
	done := count[v1alpha1.TargetSucceeded] + count[v1alpha1.TargetReverted]
	switch {
	case len(failures) > 0:
		m.fail(step, text, fmt.Sprintf("%d of %d failed: %s", len(failures), len(step.Targets), strings.Join(failures, "; ")))
	case done == 0 && count[v1alpha1.TargetSkipped] > 0:
		m.end(step, v1alpha1.StepSkipped, "a person decided against it")
	case done == 0 && text.OnNoTargets == v1alpha1.OnNoTargetsSkip:
		m.end(step, v1alpha1.StepSkipped, "there is nothing left to act on: "+strings.Join(gone, "; "))
	case done == 0:
		m.fail(step, text, "there is nothing left to act on: "+strings.Join(gone, "; "))
	case len(step.Targets) == 1:
		m.end(step, v1alpha1.StepSucceeded, step.Targets[0].Message)
	default:
		m.end(step, v1alpha1.StepSucceeded, fmt.Sprintf("done for %d of %d%s", done, len(step.Targets), more(gone)))
	}
}

func more(gone []string) string {
	if len(gone) == 0 {
		return ""
	}
	return "; gone: " + strings.Join(gone, "; ")
}

// record takes down results.
func (m *machine) record(results []Result) {
	verbose := len(results) <= entriesEach
	for _, result := range results {
		if result.Step < 0 || result.Step >= len(m.status.Steps) {
			continue
		}
		step := &m.status.Steps[result.Step]
		text := m.textOf(step)
		if text == nil {
			// The pinned text is gone. What became of an effect is taken down nevertheless.
			text = &v1alpha1.PlaybookStep{}
		}
		if result.Target == WholeStep {
			m.recordWhole(step, text, result)
			continue
		}
		if result.Target < 0 || result.Target >= len(step.Targets) {
			continue
		}
		m.recordTarget(step, text, result, verbose)
	}
}

// recordWhole takes down the result of work that is about all targets of a step.
func (m *machine) recordWhole(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, result Result) {
	switch result.Verb {
	case VerbResolve:
		m.recordResolve(step, text, result)
	case VerbVerify:
		m.recordVerify(step, text, result)
	}
}

// outcomes are the states that the verbs begin with and may end in.
var outcomes = map[Verb]struct {
	from v1alpha1.TargetState
	to   []v1alpha1.TargetState
}{
	VerbPlan:    {v1alpha1.TargetPending, []v1alpha1.TargetState{v1alpha1.TargetActing, v1alpha1.TargetHeld, v1alpha1.TargetGone, v1alpha1.TargetFailed, v1alpha1.TargetSucceeded}},
	VerbApply:   {v1alpha1.TargetActing, []v1alpha1.TargetState{v1alpha1.TargetSucceeded, v1alpha1.TargetApplied, v1alpha1.TargetGone, v1alpha1.TargetFailed, v1alpha1.TargetPending}},
	VerbObserve: {v1alpha1.TargetApplied, []v1alpha1.TargetState{v1alpha1.TargetSucceeded, v1alpha1.TargetApplied, v1alpha1.TargetFailed, v1alpha1.TargetPending}},
	VerbUndo:    {v1alpha1.TargetReverting, []v1alpha1.TargetState{v1alpha1.TargetReverted, v1alpha1.TargetFailed}},
}

// sane makes a failure of a result that cannot be.
func sane(result Result) Result {
	switch {
	case !slices.Contains(outcomes[result.Verb].to, result.State):
		result.Message = joinWords(fmt.Sprintf("%s has ended in state '%s', which it must not", result.Verb, result.State), result.Message)
	case utf8.RuneCountInString(result.Undo) > maxUndo:
		result.Message = fmt.Sprintf("the record that undoing needs has %d characters: it must have at most %d, so nothing was done", utf8.RuneCountInString(result.Undo), maxUndo)
	default:
		return result
	}
	result.State, result.Undo, result.Permanent = v1alpha1.TargetFailed, "", true
	return result
}

func (m *machine) recordTarget(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, result Result, verbose bool) {
	target := &step.Targets[result.Target]
	if target.State == v1alpha1.TargetSucceeded && result.Verb == VerbObserve {
		m.recordLook(step, target, result)
		return
	}
	if target.State != outcomes[result.Verb].from {
		return // it was decided otherwise since
	}
	if lost(target) {
		m.recordAgain(step, target, result)
		return
	}
	result = sane(m.tried(step, target, result))
	target.NextTime = nil
	target.Message = Cut(result.Message, 1024)
	if result.Proof != "" {
		target.Proof = result.Proof
	}
	if result.State == v1alpha1.TargetFailed && m.retry(target, text, result) {
		return
	}
	if result.State == v1alpha1.TargetPending {
		if target.Attempts = min(target.Attempts+1, maxAttempts); target.Attempts >= attemptsOf(text) {
			result.State = v1alpha1.TargetFailed
		}
	}
	target.State = result.State
	m.warn(step, target, result, verbose)
	m.keep(step, target, result)
	m.logTarget(step, target, result, verbose)
}

// warn takes down what may go against an effect that is about to be made: the message goes
// when it is made, the timeline stays.
func (m *machine) warn(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget, result Result, verbose bool) {
	if result.Warning == "" || result.State != v1alpha1.TargetActing {
		return
	}
	target.Message = Cut(joinWords(target.Message, result.Warning), 1024)
	if verbose && target.Attempts == 0 {
		m.log(v1alpha1.TimelineEntry{Action: "TargetContested", Outcome: "Warned", Step: step.Name,
			Resource: objectName(target.Kind, target.Namespace, target.Name), Message: joinWords(step.Action, result.Warning)})
	}
}

// keep takes down what follows from the state that a target has reached.
func (m *machine) keep(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget, result Result) {
	if TraitOf(step.Action).Sends && result.State != v1alpha1.TargetActing {
		target.Undo = "" // there is an answer: it is not sent again under the same key
	}
	switch result.State {
	case v1alpha1.TargetFailed:
		if result.Verb == VerbUndo {
			target.Message = Cut(joinWords(undoFailed, result.Message), 1024)
		}
	case v1alpha1.TargetActing:
		if m.tries(step) {
			target.Undo, target.Mode = result.Undo, v1alpha1.ResponseDryRun
		} else if result.Undo != "" {
			target.Undo = result.Undo
		}
	case v1alpha1.TargetApplied:
		m.lookAfter(target, orDefault(result.After, defaultLook))
	case v1alpha1.TargetGone:
		m.markGone(target)
	case v1alpha1.TargetSucceeded:
		m.keepSuccess(step, target, result)
	}
}

func (m *machine) keepSuccess(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget, result Result) {
	switch {
	case target.Mode == v1alpha1.ResponseDryRun:
		target.Undo = ""
	case step.Action == "delete" || step.Action == "evict":
		m.markGone(target)
	case TraitOf(step.Action).Held && target.Undo != "":
		m.lookAfter(target, heldLook)
	}
	keepOutputs(step, result.Outputs)
}

const (
	maxOutputs     = 16
	maxOutputValue = 1024
)

// keepOutputs keeps what a step has yielded; of one name the last.
func keepOutputs(step *v1alpha1.IncidentStep, outputs []v1alpha1.StepOutput) {
	for _, output := range outputs {
		if output.Value != nil {
			value := Cut(*output.Value, maxOutputValue)
			output.Value = &value
		}
		at := slices.IndexFunc(step.Outputs, func(known v1alpha1.StepOutput) bool { return known.Name == output.Name })
		switch {
		case at >= 0:
			step.Outputs[at] = output
		case output.Name != "" && len(step.Outputs) < maxOutputs:
			step.Outputs = append(step.Outputs, output)
		}
	}
}

// retry keeps a target for another try, when there is one left.
func (m *machine) retry(target *v1alpha1.StepTarget, text *v1alpha1.PlaybookStep, result Result) bool {
	target.Attempts = min(target.Attempts+1, maxAttempts)
	attempts := attemptsOf(text)
	if result.Verb == VerbUndo {
		// Undoing is tried until the revert's deadline: what was done must be undone.
		attempts = maxAttempts
	}
	if result.Permanent || target.Attempts >= attempts {
		return false
	}
	m.lookAfter(target, backoffOf(durationOr(text.Retry.Backoff, defaultBackoff), target.Attempts))
	return true
}

func attemptsOf(text *v1alpha1.PlaybookStep) int32 {
	if text.Retry.Attempts == 0 {
		return defaultAttempts
	}
	return text.Retry.Attempts
}

func orDefault(duration, otherwise time.Duration) time.Duration {
	if duration <= 0 {
		return otherwise
	}
	return duration
}

// markGone takes down that an object is no more.
func (m *machine) markGone(target *v1alpha1.StepTarget) {
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		if resource.UID == target.UID && resource.GoneTime == nil {
			resource.GoneTime = m.now.DeepCopy()
		}
	}
}

// logTarget takes down what was done to one target, unless the step's end says it as well.
func (m *machine) logTarget(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget, result Result, verbose bool) {
	interesting := result.State == v1alpha1.TargetFailed || result.State == v1alpha1.TargetGone || result.State == v1alpha1.TargetReverted ||
		result.State == v1alpha1.TargetSucceeded && len(step.Targets) > 1
	if !interesting || !verbose {
		return
	}
	m.log(v1alpha1.TimelineEntry{Actor: m.actingAs(), Action: "Target" + string(result.State), Outcome: string(result.State), Step: step.Name,
		Resource: objectName(target.Kind, target.Namespace, target.Name), Message: joinWords(step.Action, target.Message)})
}
