package lifecycle

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// RetainedEvidence is what is known about a piece of evidence, as far as its retention hangs on it.
type RetainedEvidence struct {
	// Evidence is the piece.
	Evidence *v1alpha1.Evidence
	// Keep is how long the plan keeps evidence.
	Keep time.Duration
	// Incident is the incident it belongs to, and what may need that; nil when it is gone.
	Incident *Retained
	// Goes says that the incident goes right after it.
	Goes bool
	// Holds say, in words, what else asks for it to be kept.
	Holds []string
	// Now is the time.
	Now time.Time
}

// conditionLegalHold is the condition of Evidence that must be kept, whatever the plan says.
const conditionLegalHold = "LegalHold"

func legalHold(piece *v1alpha1.Evidence) bool {
	return meta.IsStatusConditionTrue(piece.Status.Conditions, conditionLegalHold)
}

func heldByLaw(piece *v1alpha1.Evidence) string {
	return "evidence " + piece.Name + " is under legal hold"
}

// LegalHolds say, in words, which of the evidence is under legal hold: its incident is held by it.
func LegalHolds(evidence []v1alpha1.Evidence) []string {
	var holds []string
	for i := range evidence {
		if legalHold(&evidence[i]) {
			holds = append(holds, heldByLaw(&evidence[i]))
		}
	}
	return holds
}

// OrphanHolds say, in words, what needs the evidence of an incident that is gone: the incidents
// that were related to it while they are open, and lessons that are not done. A draft that nobody
// has touched is nobody's.
func OrphanHolds(incident string, related []v1alpha1.Incident, lessons []v1alpha1.LessonLearned) []string {
	var holds []string
	for i := range related {
		if related[i].Status.Phase != v1alpha1.PhaseClosed {
			holds = append(holds, "incident "+related[i].Name+", which is open, refers to its incident")
		}
	}
	for i := range lessons {
		lesson := &lessons[i]
		untouched := lesson.Name == LessonName(incident) && lesson.Generation <= 1
		if lesson.Spec.RootCause.Category == "" && !untouched {
			holds = append(holds, "lesson "+lesson.Name+" is not done: it must say the root cause, `rootCause`")
		}
	}
	return holds
}

// EvidenceKeptBecause says in words why a piece of evidence must stay, and until when at least;
// empty is that it may go. Zero is that nobody can tell until when.
func EvidenceKeptBecause(in RetainedEvidence) (why string, until time.Time) {
	piece := in.Evidence
	switch {
	case piece.DeletionTimestamp != nil:
		return "it is being deleted: a finalizer that is not Firebreak's keeps it", time.Time{}
	case piece.Spec.Type == v1alpha1.EvidenceRetentionJournal:
		return "it is what is left of what was deleted", time.Time{}
	case piece.Status.Location == "":
		return "Firebreak does not keep its bytes: who collected it must say when it may go", time.Time{}
	case legalHold(piece):
		return heldByLaw(piece), time.Time{}
	case len(in.Holds) > 0:
		return in.Holds[0], time.Time{}
	}
	since := piece.Spec.CollectedTime.Time
	if in.Incident != nil {
		closed, over := ClosedAt(&in.Incident.Incident.Status)
		if !over {
			return "its incident is open", time.Time{}
		}
		if closed.After(since) {
			since = closed
		}
	}
	if over := since.Add(in.Keep); in.Now.Before(over) {
		return "its time is not over", over
	}
	if in.Incident == nil {
		return "", time.Time{}
	}
	if why := KeptBecause(*in.Incident); why != "" {
		return "its incident is kept: " + why, time.Time{}
	}
	if piece.Spec.Type == v1alpha1.EvidenceJournal && !in.Goes {
		return "it is a part of its incident's record, and goes with that", time.Time{}
	}
	return "", time.Time{}
}
