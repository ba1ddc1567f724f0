package lifecycle

import "github.com/firebreak-dev/firebreak/api/v1alpha1"

// runWait lets time pass.
func (m *machine) runWait(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep) {
	if m.late(step) {
		m.end(step, v1alpha1.StepSucceeded, "waited for "+limitOf(text).String())
	}
}
