package lifecycle

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// answerWithin is by when a person should have answered, where nothing else says so. A step that
// waits for people has its own, unless it could not even begin.
var answerWithin = map[v1alpha1.AwaitingType]time.Duration{
	v1alpha1.AwaitingApproval:     time.Hour,
	v1alpha1.AwaitingTask:         time.Hour,
	v1alpha1.AwaitingFailure:      time.Hour,
	v1alpha1.AwaitingPlaybook:     time.Hour,
	v1alpha1.AwaitingResume:       time.Hour,
	v1alpha1.AwaitingConfirmation: time.Hour,
	v1alpha1.AwaitingClose:        7 * 24 * time.Hour,
}

// expect gives an awaiting a time by which it is late, and says once that it is. What has
// a time of its own says so by itself.
func (m *machine) expect(awaiting *v1alpha1.Awaiting) {
	within, ok := answerWithin[awaiting.Type]
	if awaiting.DueTime != nil || !ok {
		return
	}
	due := metav1.NewTime(awaiting.SinceTime.Add(within))
	awaiting.DueTime = &due
	switch {
	case awaiting.OverdueTime != nil:
	case m.now.Before(&due):
		m.wake(due.Time)
	case m.full():
	default:
		awaiting.OverdueTime = m.now.DeepCopy()
		m.log(v1alpha1.TimelineEntry{Action: "Overdue", Outcome: "Escalated", Step: awaiting.Step,
			Message: fmt.Sprintf("nobody has answered within %s: %s", within, awaiting.Message)})
	}
}

// setDeadline takes down by when a phase that was entered should be over.
func (m *machine) setDeadline(phase v1alpha1.Phase) {
	if m.Playbook == nil {
		return
	}
	within := map[v1alpha1.Phase]*metav1.Duration{
		v1alpha1.PhaseContainment: m.Playbook.Containment.Within,
		v1alpha1.PhaseEradication: m.Playbook.Eradication.Within,
		v1alpha1.PhaseRecovery:    m.Playbook.Recovery.Within,
	}[phase]
	if limit := durationOr(within, 0); limit > 0 {
		m.status.PhaseDeadlines = append(m.status.PhaseDeadlines, v1alpha1.PhaseDeadline{Phase: phase, DueTime: metav1.NewTime(m.now.Add(limit))})
	}
}

// watchPhase says once that the phase has taken too long. Nothing is stopped by it.
func (m *machine) watchPhase() {
	deadline := m.deadline()
	switch {
	case deadline == nil || deadline.OverdueTime != nil:
	case m.now.Before(&deadline.DueTime):
		m.wake(deadline.DueTime.Time)
	default:
		deadline.OverdueTime = m.now.DeepCopy()
		m.log(v1alpha1.TimelineEntry{Action: "PhaseOverdue", Outcome: "Escalated", Message: phaseIsLate(deadline)})
	}
}

// deadline is that of the phase now; nil when it has none.
func (m *machine) deadline() *v1alpha1.PhaseDeadline {
	for i := range m.status.PhaseDeadlines {
		if deadline := &m.status.PhaseDeadlines[i]; deadline.Phase == m.status.Phase {
			return deadline
		}
	}
	return nil
}

func phaseIsLate(deadline *v1alpha1.PhaseDeadline) string {
	return fmt.Sprintf("%s should have been over by %s", deadline.Phase, deadline.DueTime.UTC().Format(time.RFC3339))
}

// overduePhase says that the phase now takes too long.
func (m *machine) overduePhase() bool {
	deadline := m.deadline()
	return deadline != nil && deadline.OverdueTime != nil
}
