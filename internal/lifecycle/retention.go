package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Retained is what is known about a closed incident whose time is over, as far as something
// may need it nevertheless.
type Retained struct {
	// Incident is the incident.
	Incident *v1alpha1.Incident
	// Plan is the domain's plan; nil where there is none.
	Plan *v1alpha1.ResponsePlan
	// Events are the events that belong to it.
	Events []v1alpha1.SecurityEvent
	// Decisions are those about it and about its events.
	Decisions []v1alpha1.Decision
	// Others are the incidents that refer to it, that it is a duplicate of or that are duplicates
	// of it, and those that name one of its events.
	Others []v1alpha1.Incident
	// Lessons are what was learned from it, and maybe from others.
	Lessons []v1alpha1.LessonLearned
	// Holds say, in words, what else asks for it to be kept.
	Holds []string
}

// ClosedAt is when an incident was closed, the last time if it was more than once. It says
// false while it is open.
func ClosedAt(status *v1alpha1.IncidentStatus) (time.Time, bool) {
	closed := findCondition(status.Conditions, v1alpha1.ConditionClosed)
	if status.Phase != v1alpha1.PhaseClosed || status.Times.ClosedTime == nil {
		return time.Time{}, false
	}
	at := status.Times.ClosedTime.Time // the first time
	if closed != nil && closed.Status == metav1.ConditionTrue && closed.LastTransitionTime.After(at) {
		at = closed.LastTransitionTime.Time
	}
	return at, true
}

// KeptBecause says in words why an incident must stay although its time is over; empty is
// that it may go.
func KeptBecause(in Retained) string {
	for _, why := range []func(*Retained) string{
		keptOpen, keptStanding, keptByOthers, keptByLessons, keptUnanswered, keptUnassessed, keptUnpublished, keptHeld,
	} {
		if text := why(&in); text != "" {
			return text
		}
	}
	return ""
}

func keptOpen(in *Retained) string {
	switch {
	case in.Incident.DeletionTimestamp != nil:
		return "it is being deleted: a finalizer that is not Firebreak's keeps it"
	case in.Incident.Status.Phase != v1alpha1.PhaseClosed:
		return "it is open"
	}
	return ""
}

// keptStanding is about what was done and not undone: only the incident says how to undo it.
func keptStanding(in *Retained) string {
	status := &in.Incident.Status
	var left []string
	for i := range status.Steps {
		step := &status.Steps[i]
		for j := range step.Targets {
			target := &step.Targets[j]
			if reversible(step, target) && !strings.HasPrefix(target.Message, goneSince) && !goneAmong(status.Resources, target) {
				left = append(left, step.Name+" of "+objectName(target.Kind, target.Namespace, target.Name))
			}
		}
	}
	if len(left) == 0 {
		return ""
	}
	if more := len(left) - 3; more > 0 {
		left = append(left[:3], fmt.Sprintf("and %d more", more))
	}
	return "what it did is still in place (" + strings.Join(left, ", ") + "): undo that by hand, and have the incident deleted by somebody with the verb 'purge'"
}

func goneAmong(resources []v1alpha1.IncidentResource, target *v1alpha1.StepTarget) bool {
	return slices.ContainsFunc(resources, func(resource v1alpha1.IncidentResource) bool {
		return target.UID != "" && resource.UID == target.UID && resource.GoneTime != nil
	})
}

func keptByOthers(in *Retained) string {
	for i := range in.Others {
		if other := &in.Others[i]; other.Name != in.Incident.Name && other.Status.Phase != v1alpha1.PhaseClosed {
			return "incident " + other.Name + ", which is open, refers to it or to one of its events"
		}
	}
	return ""
}

func keptByLessons(in *Retained) string {
	for i := range in.Lessons {
		if lesson := &in.Lessons[i]; !lessonDone(lesson, in.Plan, in.Incident) {
			return "lesson " + lesson.Name + " is not done: it must say the root cause, `rootCause`"
		}
	}
	return ""
}

// lessonDone says whether a lesson needs the records of its incidents no more. A draft that
// nobody has touched, of an incident that needs no lesson, does not.
func lessonDone(lesson *v1alpha1.LessonLearned, plan *v1alpha1.ResponsePlan, incident *v1alpha1.Incident) bool {
	if lesson.Spec.RootCause.Category != "" {
		return true
	}
	needed := lessonRequired(plan, incident.Status.Severity) && incident.Status.Resolution != v1alpha1.ResolutionFalsePositive
	return lesson.Name == LessonName(incident.Name) && lesson.Generation <= 1 && !needed
}

func keptUnanswered(in *Retained) string {
	if len(in.Incident.Status.Answers) > 0 {
		return "Decision " + in.Incident.Status.Answers[0].Name + " has yet to be answered"
	}
	for i := range in.Decisions {
		if decision := &in.Decisions[i]; meta.FindStatusCondition(decision.Status.Conditions, v1alpha1.ConditionAccepted) == nil {
			return "Decision " + decision.Name + " has yet to be answered"
		}
	}
	return ""
}

// keptUnassessed is about events that were seen again: another incident may be opened for them.
func keptUnassessed(in *Retained) string {
	for i := range in.Events {
		event := &in.Events[i]
		seen := int64(1)
		for j := range event.Status.Counters {
			seen += event.Status.Counters[j].Count
		}
		if event.DeletionTimestamp == nil && seen == event.Status.Occurrences {
			continue
		}
		return "event " + event.Name + " was seen again, and has yet to be assessed"
	}
	return ""
}

func keptUnpublished(in *Retained) string {
	if record := &in.Incident.Status.Audit; record.ProjectedSequence < record.Sequence {
		return fmt.Sprintf("entries %d to %d of its timeline have yet to be published as Kubernetes Events", record.ProjectedSequence+1, record.Sequence)
	}
	return ""
}

func keptHeld(in *Retained) string {
	if len(in.Holds) == 0 {
		return ""
	}
	return in.Holds[0]
}
