package lifecycle

import (
	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// runTask waits until a person says that a task is done.
func (m *machine) runTask(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep) {
	if step.State != v1alpha1.StepAwaitingTask {
		step.State = v1alpha1.StepAwaitingTask
		m.log(v1alpha1.TimelineEntry{Action: "TaskAwaited", Outcome: "AwaitingTask", Step: step.Name, Message: taskMessage(text)})
	}
	if m.late(step) {
		m.overdue(step, text, text.Task.Otherwise, "nobody has done it within "+limitOf(text).String())
	}
}

func taskMessage(text *v1alpha1.PlaybookStep) string {
	message := text.Task.Message
	for _, item := range text.Task.Checklist {
		message += "; [ ] " + string(item)
	}
	return message
}
