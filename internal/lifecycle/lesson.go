package lifecycle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// LessonName is the name of the LessonLearned that is drafted for an incident. One
// that would be too long for a name ends in a hash.
func LessonName(incident string) string {
	name := "lesson-" + incident
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(incident))
	return strings.TrimRight(name[:maxName-17], "-.") + "-" + hex.EncodeToString(sum[:8])
}

// maxName is how long the name of an object may be.
const maxName = 253

// DraftLesson fills a lesson with what the system knows; people fill in the rest.
func DraftLesson(incident *v1alpha1.Incident) v1alpha1.LessonLearnedSpec {
	status := &incident.Status
	var said []string
	if IsDrill(incident) {
		said = append(said, "A drill: nothing took effect.")
	}
	said = append(said, fmt.Sprintf("%s incident of category %s: %s.", status.Severity, status.Category, incident.Spec.Title))
	if measures := Measure([]v1alpha1.Incident{*incident}); measures.TimeToContain != nil {
		said = append(said, fmt.Sprintf("Contained %s after it was opened.", measures.TimeToContain.Duration))
	}
	spec := v1alpha1.LessonLearnedSpec{
		IncidentRefs: []v1alpha1.IncidentReference{{Name: incident.Name}},
		TLP:          incident.Spec.TLP,
	}
	for i := range status.Steps {
		step := &status.Steps[i]
		line := v1alpha1.LessonText(Cut(fmt.Sprintf("%s (%s): %s", step.Name, step.Action, orText(step.Message, string(step.State))), 512))
		switch step.State {
		case v1alpha1.StepFailed, v1alpha1.StepAwaitingTask:
			spec.WentWrong = append(spec.WentWrong, line)
		case v1alpha1.StepSkipped:
			if strings.HasPrefix(step.Message, skippedBy) {
				spec.WentWrong = append(spec.WentWrong, line)
			}
		}
	}
	if len(spec.WentWrong) > 32 {
		spec.WentWrong = spec.WentWrong[:32]
	}
	if len(status.Steps) > 0 {
		said = append(said, fmt.Sprintf("Playbook %s, generation %d, answered.", status.Playbook.Name, status.Playbook.Generation))
	}
	spec.Summary = Cut(strings.Join(said, " "), 4096)
	return spec
}

// Measure says what the response to incidents took: the longest times and the sums.
// Duplicates do not count: their originals do, with their events. Drills do not count either.
func Measure(incidents []v1alpha1.Incident) v1alpha1.LessonMeasures {
	var measures v1alpha1.LessonMeasures
	for i := range incidents {
		status := &incidents[i].Status
		if status.DuplicateOf.TakenUpTime != nil || IsDrill(&incidents[i]) {
			continue
		}
		longer(&measures.TimeToAcknowledge, status.Times.AwareTime, status.Times.AcknowledgedTime)
		longer(&measures.TimeToContain, status.Times.AwareTime, status.Times.ContainedTime)
		longer(&measures.TimeToRecover, status.Times.AwareTime, status.Times.RecoveredTime)
		measures.Events += status.EventCount
		measures.Targets += int64(len(status.Resources))
	}
	return measures
}

// longer keeps the longer of the durations. It counts from when the organisation
// knew: a reporter's clock is not relied on.
func longer(kept **metav1.Duration, from, to *metav1.Time) {
	if from == nil || to == nil {
		return
	}
	took := max(to.Sub(from.Time), 0).Truncate(time.Second)
	if *kept == nil || took > (*kept).Duration {
		*kept = &metav1.Duration{Duration: took}
	}
}
