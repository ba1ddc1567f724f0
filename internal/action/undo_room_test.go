package action

import (
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestInlineUndo: however many records there are, those in the status stay within a bound;
// where there are few, each has as much room as the API gives it.
func TestInlineUndo(t *testing.T) {
	for _, size := range []int{100, 400, 1500, 4096} {
		incident := &v1alpha1.Incident{}
		request := &Request{Incident: incident}
		inline, count := 0, 0
		for i := range 20 {
			incident.Status.Steps = append(incident.Status.Steps, v1alpha1.IncidentStep{State: v1alpha1.StepRunning, Targets: make([]v1alpha1.StepTarget, 128)})
			// All targets are planned with what was written before.
			limit := request.inlineUndo()
			if i == 0 && limit < 3000 {
				t.Errorf("the first step may keep %d bytes for each of 128 targets", limit)
			}
			kept := 200 // a reference
			if size <= limit {
				kept = size
			}
			targets := incident.Status.Steps[i].Targets
			for j := range targets {
				targets[j].Undo = string(make([]byte, kept))
				inline += kept
				count++
			}
			incident.Status.Steps[i].State = v1alpha1.StepSucceeded
		}
		if most := allInlineUndo + count*minInlineUndo; inline > most {
			t.Errorf("records of %d bytes: %d bytes are kept in the status, must be at most %d", size, inline, most)
		}
	}
	few := &Request{Incident: &v1alpha1.Incident{Status: v1alpha1.IncidentStatus{Steps: []v1alpha1.IncidentStep{
		{State: v1alpha1.StepRunning, Targets: make([]v1alpha1.StepTarget, 10)},
	}}}}
	if got := few; !got.fitsInline(strings.Repeat("x", maxInlineUndo)) || got.fitsInline(strings.Repeat("x", maxInlineUndo+1)) {
		t.Errorf("with ten targets each may have %d bytes, and no more", maxInlineUndo)
	}
	// What counts is how much it takes in the status: there a quotation mark takes two bytes.
	many := &Request{Incident: &v1alpha1.Incident{Status: v1alpha1.IncidentStatus{Steps: []v1alpha1.IncidentStep{
		{State: v1alpha1.StepRunning, Targets: make([]v1alpha1.StepTarget, 128)},
	}}}}
	if !many.fitsInline(strings.Repeat("x", 3000)) || many.fitsInline(strings.Repeat(`"`, 3000)) {
		t.Error("records are not measured as they are written")
	}
}
