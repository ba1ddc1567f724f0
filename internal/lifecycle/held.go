package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// heldLook is how often an effect that must stand is looked at, from when it was made
	// until it is undone, the step is skipped or the incident is closed.
	heldLook = 15 * time.Second
	// driftLosses is with which loss a person is called.
	driftLosses = 3
	// driftCalm is how long an effect must have stood for its next loss to be made good at
	// once, however many there were.
	driftCalm = 10 * time.Minute
	// maxLosses is up to what losses are counted.
	maxLosses = 10000
)

// These begin the messages of targets whose effect is not looked at.
const (
	notWatched = "nobody can look whether it still stands: "
	goneSince  = "gone since: "
)

// lost says that the effect on a target was taken away and is being made again.
func lost(target *v1alpha1.StepTarget) bool {
	if target.Losses == 0 || target.Undo == "" {
		return false
	}
	switch target.State {
	case v1alpha1.TargetPending, v1alpha1.TargetActing, v1alpha1.TargetApplied:
		return true
	default:
		return false
	}
}

// proving says that a target is isolated and only its probe has yet to end: past the deadline
// it is looked at once more, for what stands must not count as failed.
func proving(text *v1alpha1.PlaybookStep, target *v1alpha1.StepTarget) bool {
	return target.State == v1alpha1.TargetApplied && text.Isolate != nil && text.Isolate.Probe != nil
}

// drifted says that a person must find out what takes the effect away.
func drifted(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) bool {
	if step.State == v1alpha1.StepSkipped {
		return false
	}
	return lost(target) && (target.Losses >= driftLosses || target.Attempts >= driftLosses) ||
		target.State == v1alpha1.TargetSucceeded && target.Losses >= driftLosses && !strings.HasPrefix(target.Message, goneSince)
}

// watched says that the effect on a target stands and must go on standing.
func (m *machine) watched(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) bool {
	return TraitOf(step.Action).Held && target.State == v1alpha1.TargetSucceeded && target.Undo != "" &&
		step.State != v1alpha1.StepSkipped && !strings.HasPrefix(target.Message, goneSince) && !m.knownGone(target)
}

func (m *machine) knownGone(target *v1alpha1.StepTarget) bool {
	return slices.ContainsFunc(m.status.Resources, func(resource v1alpha1.IncidentResource) bool {
		return resource.UID == target.UID && resource.GoneTime != nil
	})
}

// holdEffects looks at the effects that must stand, and makes again what was lost. It
// keeps no step and no phase waiting.
func (m *machine) holdEffects() {
	if m.paused || m.dryRun || m.Playbook == nil || m.Problem != nil || m.status.Resolution != "" {
		return
	}
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		if !TraitOf(step.Action).Held || m.textOf(step) == nil {
			continue
		}
		for j := range step.Targets {
			target := &step.Targets[j]
			switch {
			case m.watched(step, target):
				m.queue(&m.out.Plans, Work{VerbObserve, i, j}, target)
			case !lost(target) || step.State == v1alpha1.StepSkipped:
			case target.State == v1alpha1.TargetPending:
				m.queue(&m.out.Plans, Work{VerbPlan, i, j}, target)
			case target.State == v1alpha1.TargetActing:
				m.queue(&m.out.Work, Work{VerbApply, i, j}, target)
			default:
				m.queue(&m.out.Work, Work{VerbObserve, i, j}, target)
			}
		}
	}
}

// recordLook takes down whether an effect still stands. A look that finds nothing new
// changes nothing but when to look again.
func (m *machine) recordLook(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget, result Result) {
	if !m.watched(step, target) {
		return
	}
	m.lookAfter(target, max(result.After, heldLook))
	switch {
	case result.State == v1alpha1.TargetGone:
		target.Message, target.NextTime = Cut(goneSince+result.Message, 1024), nil
		m.markGone(target)
	case result.State == v1alpha1.TargetSucceeded:
		if strings.HasPrefix(target.Message, notWatched) {
			target.Message = Cut(result.Message, 1024)
		}
		if result.Proof != "" {
			target.Proof = result.Proof
		}
	case result.State != v1alpha1.TargetFailed:
	case result.Permanent:
		if !strings.HasPrefix(target.Message, notWatched) {
			m.log(v1alpha1.TimelineEntry{Action: "ContainmentUnwatched", Outcome: "Escalated", Step: step.Name,
				Resource: objectName(target.Kind, target.Namespace, target.Name), Message: notWatched + result.Message})
		}
		target.Message = Cut(notWatched+result.Message, 1024)
	case !result.Unknown:
		m.lose(step, target, result.Message)
	}
}

func (m *machine) lookAfter(target *v1alpha1.StepTarget, after time.Duration) {
	next := metav1.NewTime(m.Now.Add(after))
	target.NextTime = &next
}

// lose takes down that an effect was taken away, and has it made again: at once, and
// later than that when it happens again and again.
func (m *machine) lose(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget, why string) {
	calm := target.LossTime == nil || m.now.Sub(target.LossTime.Time) >= driftCalm
	target.Losses = min(target.Losses+1, maxLosses)
	target.LossTime = m.now.DeepCopy()
	target.State, target.Attempts, target.NextTime = v1alpha1.TargetPending, 0, nil
	target.Message = Cut("taken away: "+why, 1024)
	if target.Losses > driftLosses && !calm {
		m.lookAfter(target, backoffOf(heldLook, target.Losses-driftLosses))
	}
	if loud(target.Losses) {
		m.log(v1alpha1.TimelineEntry{Action: "ContainmentLost", Outcome: "Lost", Step: step.Name,
			Resource: objectName(target.Kind, target.Namespace, target.Name),
			Message:  fmt.Sprintf("%s was taken away, %s; it is made again: %s", step.Action, times(target.Losses), why)})
	}
	if target.Losses == driftLosses {
		m.log(v1alpha1.TimelineEntry{Action: "ContainmentDrifted", Outcome: "Escalated", Step: step.Name,
			Resource: objectName(target.Kind, target.Namespace, target.Name), Message: driftMessage(step, target)})
	}
}

// loud says whether a loss is taken down by itself: the first ones, and then ever fewer.
func loud(losses int32) bool { return losses <= driftLosses || losses&(losses-1) == 0 }

func times(count int32) string {
	if count == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", count)
}

// backoffOf doubles with each try.
func backoffOf(base time.Duration, try int32) time.Duration {
	for i := int32(1); i < try && base < maxBackoff; i++ {
		base *= 2
	}
	return min(base, maxBackoff)
}

// recordAgain takes down a try to make an effect again that was lost. It never gives up.
func (m *machine) recordAgain(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget, result Result) {
	result = sane(result)
	target.NextTime = nil
	target.Message = Cut(result.Message, 1024)
	if result.Proof != "" {
		target.Proof = result.Proof
	}
	switch result.State {
	case v1alpha1.TargetSucceeded:
		target.State, target.Attempts = v1alpha1.TargetSucceeded, 0
		m.lookAfter(target, heldLook)
		if loud(target.Losses) {
			m.log(v1alpha1.TimelineEntry{Actor: m.actingAs(), Action: "ContainmentRestored", Outcome: "Succeeded", Step: step.Name,
				Resource: objectName(target.Kind, target.Namespace, target.Name), Message: joinWords(step.Action, result.Message)})
		}
	case v1alpha1.TargetGone:
		target.State, target.Message = v1alpha1.TargetSucceeded, Cut(goneSince+result.Message, 1024)
		m.markGone(target)
	case v1alpha1.TargetActing:
		target.State = v1alpha1.TargetActing
		if result.Undo != "" {
			target.Undo = result.Undo
		}
	case v1alpha1.TargetApplied:
		target.State = v1alpha1.TargetApplied
		m.lookAfter(target, orDefault(result.After, defaultLook))
	default:
		target.State = v1alpha1.TargetPending
		target.Attempts = min(target.Attempts+1, maxAttempts)
		m.lookAfter(target, backoffOf(defaultBackoff, target.Attempts))
	}
}

// lostOf lists the effects of a phase that are lost.
func (m *machine) lostOf(steps []*v1alpha1.IncidentStep) []string {
	var names []string
	for _, step := range steps {
		for i := range step.Targets {
			if target := &step.Targets[i]; lost(target) && step.State != v1alpha1.StepSkipped {
				names = append(names, joinWords(step.Name+" of "+objectName(target.Kind, target.Namespace, target.Name), target.Message))
			}
		}
	}
	return names
}

// drift says whether effects are taken away again and again.
func (m *machine) drift() {
	steps, unwatched := m.driftedSteps(), m.unwatchedSteps()
	status, reason, message := metav1.ConditionFalse, v1alpha1.ReasonHolding, ""
	switch {
	case len(steps) > 0:
		status, reason, message = metav1.ConditionTrue, v1alpha1.ReasonDrifted, driftOf(steps[0])
	case len(unwatched) > 0:
		status, reason, message = metav1.ConditionUnknown, v1alpha1.ReasonNotWatched, m.unwatchedOf(unwatched[0])
	case findCondition(m.status.Conditions, v1alpha1.ConditionContainmentDrifted) == nil:
		return
	}
	m.setCondition(v1alpha1.ConditionContainmentDrifted, status, reason, message)
}

func (m *machine) driftedSteps() []*v1alpha1.IncidentStep {
	var steps []*v1alpha1.IncidentStep
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		if !m.closed() && m.status.Resolution == "" && slices.ContainsFunc(step.Targets, func(target v1alpha1.StepTarget) bool { return drifted(step, &target) }) {
			steps = append(steps, step)
		}
	}
	return steps
}

// driftOf says what of a step is taken away again and again.
func driftOf(step *v1alpha1.IncidentStep) string {
	for i := range step.Targets {
		if target := &step.Targets[i]; drifted(step, target) {
			return driftMessage(step, target)
		}
	}
	return ""
}

// driftMessage stays the same while nothing new happens, so that it is not written anew
// with each look.
func driftMessage(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) string {
	name := step.Action + " of " + objectName(target.Kind, target.Namespace, target.Name)
	if target.Losses < driftLosses {
		return joinWords(name+" was taken away and cannot be made again", target.Message)
	}
	return joinWords(fmt.Sprintf("%s was taken away %s; find what does it and stop it", name, times(target.Losses)), target.Message)
}

// unwatchedSteps lists the steps with effects that nobody can look at.
func (m *machine) unwatchedSteps() []*v1alpha1.IncidentStep {
	var steps []*v1alpha1.IncidentStep
	for i := range m.status.Steps {
		if step := &m.status.Steps[i]; m.unwatchedOf(step) != "" {
			steps = append(steps, step)
		}
	}
	return steps
}

// unwatchedOf says which effect of a step nobody can look at; empty when there is none.
func (m *machine) unwatchedOf(step *v1alpha1.IncidentStep) string {
	for i := range step.Targets {
		if target := &step.Targets[i]; strings.HasPrefix(target.Message, notWatched) && m.watched(step, target) {
			return joinWords(step.Action+" of "+objectName(target.Kind, target.Namespace, target.Name), target.Message)
		}
	}
	return ""
}

// lookNow has effects looked at once more that nobody could look at: a person has seen to it.
func lookNow(step *v1alpha1.IncidentStep) {
	for i := range step.Targets {
		if target := &step.Targets[i]; strings.HasPrefix(target.Message, notWatched) {
			target.NextTime = nil
		}
	}
}

// countAnew lets a step's losses count from the beginning: a person has seen to it.
func countAnew(step *v1alpha1.IncidentStep) {
	for i := range step.Targets {
		target := &step.Targets[i]
		if !drifted(step, target) {
			continue
		}
		target.Attempts, target.NextTime = 0, nil
		if target.Losses = 1; !lost(target) {
			target.Losses, target.LossTime = 0, nil
		}
	}
}
