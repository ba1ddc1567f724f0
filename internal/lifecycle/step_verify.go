package lifecycle

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// runVerify looks again and again whether all is well, until the step's deadline.
func (m *machine) runVerify(index int, text *v1alpha1.PlaybookStep) {
	step := &m.status.Steps[index]
	if m.anyDry() {
		m.skipDry(step)
		return
	}
	if quiet := text.Verify.NoEventsFor; quiet != nil {
		m.runQuiet(step, text, quiet.Duration)
		return
	}
	if m.late(step) {
		m.fail(step, text, joinWords(fmt.Sprintf("it did not hold within %s", limitOf(text)), step.Message))
		return
	}
	if step.NextTime != nil && m.Now.Before(step.NextTime.Time) && !m.Stirred[step.Name] {
		m.wake(step.NextTime.Time)
		return
	}
	m.out.Work = append(m.out.Work, Work{VerbVerify, index, WholeStep})
}

// runQuiet waits until no event of the incident has come for a while, by the
// manager's own clock: what reporters say about time is not relied on.
func (m *machine) runQuiet(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, quiet time.Duration) {
	last := m.incident.CreationTimestamp.Time
	if m.status.LastEventTime != nil {
		last = m.status.LastEventTime.Time
	}
	until := last.Add(quiet)
	if !m.Now.Before(until) {
		m.end(step, v1alpha1.StepSucceeded, fmt.Sprintf("no event for %s", quiet))
		return
	}
	if m.late(step) {
		m.fail(step, text, fmt.Sprintf("events have not ceased for %s within %s", quiet, limitOf(text)))
		return
	}
	m.wake(until)
}

// recordVerify takes down one look.
func (m *machine) recordVerify(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, result Result) {
	if step.State != v1alpha1.StepRunning || text.Verify == nil {
		return
	}
	step.Message = Cut(result.Message, 1024)
	after := orDefault(result.After, defaultLook)
	switch result.State {
	case v1alpha1.TargetSucceeded:
		if step.HoldingTime == nil {
			step.HoldingTime = m.now.DeepCopy()
		}
		needed := durationOr(text.Verify.For, 0)
		if m.now.Sub(step.HoldingTime.Time) >= needed {
			for i := range step.Targets {
				step.Targets[i].State = v1alpha1.TargetSucceeded
			}
			m.end(step, v1alpha1.StepSucceeded, heldFor(m.now.Sub(step.HoldingTime.Time), result.Message))
			return
		}
		after = min(after, needed-m.now.Sub(step.HoldingTime.Time))
	case v1alpha1.TargetFailed:
		step.HoldingTime = nil
		if result.Permanent {
			m.fail(step, text, result.Message)
			return
		}
	default:
		step.HoldingTime = nil
	}
	next := metav1.NewTime(m.Now.Add(after))
	step.NextTime = &next
}

func heldFor(held time.Duration, message string) string {
	if held < time.Second {
		return message
	}
	return fmt.Sprintf("%s; held for %s", message, held)
}
