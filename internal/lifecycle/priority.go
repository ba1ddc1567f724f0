package lifecycle

import "github.com/firebreak-dev/firebreak/api/v1alpha1"

// PriorityOf gives the priority from severity and impact: Critical is P1, High P2, Medium
// P3, the rest P4; a High impact on any goal raises it by one, an impact that was
// assessed and is nowhere High lowers it by one.
func PriorityOf(severity v1alpha1.Severity, impact v1alpha1.Impact) v1alpha1.Priority {
	priorities := []v1alpha1.Priority{v1alpha1.PriorityP1, v1alpha1.PriorityP2, v1alpha1.PriorityP3, v1alpha1.PriorityP4}
	index := min(max(v1alpha1.SeverityCritical.Rank()-severity.Rank(), 0), 3)
	goals := []v1alpha1.ImpactLevel{impact.Confidentiality, impact.Integrity, impact.Availability}
	assessed, high := false, false
	for _, level := range goals {
		assessed = assessed || level != ""
		high = high || level == v1alpha1.ImpactHigh
	}
	switch {
	case high:
		index--
	case assessed:
		index++
	}
	return priorities[min(max(index, 0), 3)]
}
