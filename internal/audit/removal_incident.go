package audit

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxTimeline is how many entries the API keeps in a timeline.
const maxTimeline = 256

// RemovedIncident is what was known of an incident, so that it can be accounted for, and what
// is left of its record can be checked.
type RemovedIncident struct {
	Title string `json:"title"`
	// Mode is 'Drill' for an exercise, and absent for the real thing.
	Mode v1alpha1.Mode `json:"mode,omitempty"`
	// Severity, Priority, Category and Resolution are as they were in the end.
	Severity   v1alpha1.Severity   `json:"severity"`
	Priority   v1alpha1.Priority   `json:"priority,omitempty"`
	Category   v1alpha1.Category   `json:"category"`
	Resolution v1alpha1.Resolution `json:"resolution,omitempty"`
	// SubmittedBy and Rule say who and what opened it.
	SubmittedBy string `json:"submittedBy,omitempty"`
	Rule        string `json:"rule,omitempty"`
	// RelatedTo, DuplicateOf and Duplicates name other incidents.
	RelatedTo   string                    `json:"relatedTo,omitempty"`
	DuplicateOf v1alpha1.IncidentOriginal `json:"duplicateOf,omitzero"`
	Duplicates  []string                  `json:"duplicates,omitempty"`
	// Times are when it reached each phase for the first time.
	Times v1alpha1.IncidentTimes `json:"times,omitzero"`
	// Closed says who closed it, and why.
	Closed RemovedClosure `json:"closed"`
	// Conditions are what was reached, and why it was not where it was not.
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Determinations are what was found about it, by whom.
	Determinations []v1alpha1.IncidentDetermination `json:"determinations,omitempty"`
	// Playbook is what answered; its revision ends in a hash of the text.
	Playbook v1alpha1.PinnedPlaybook `json:"playbook,omitzero"`
	// Occurrences is how often its events were seen; text, because JSON's numbers are not exact.
	Occurrences int64 `json:"occurrences,string"`
	// Audit is the head of its timeline: the last entry's sequence and hash.
	Audit v1alpha1.IncidentAudit `json:"audit,omitzero"`
	// Timeline are the last entries up to that head, at most 256: those that no sealed journal holds.
	Timeline []v1alpha1.TimelineEntry `json:"timeline,omitempty"`
	// Evidence is what was preserved for it, its sealed journals among that.
	Evidence []EvidenceDigest `json:"evidence,omitempty"`
}

// RemovedClosure is by whom and why an incident was closed.
type RemovedClosure struct {
	// Time is when it was closed, the last time.
	Time metav1.Time `json:"time"`
	// By is who decided that, Reason what they said, and Decision the Decision's name.
	By       string `json:"by,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Decision string `json:"decision,omitempty"`
}

// EvidenceDigest identifies a piece of evidence.
type EvidenceDigest struct {
	Name string                `json:"name"`
	UID  types.UID             `json:"uid"`
	Type v1alpha1.EvidenceType `json:"type"`
	Step string                `json:"step,omitempty"`
	// CollectedTime is when it was collected, Digest that of the bytes.
	CollectedTime metav1.Time `json:"collectedTime"`
	Digest        string      `json:"digest"`
	// Journal is the part of the timeline that a sealed journal holds.
	Journal *v1alpha1.JournalRange `json:"journal,omitempty"`
}

// RemovalOfIncident takes down an incident with the Decisions about it and its evidence. It
// was closed at a time.
func RemovalOfIncident(incident *v1alpha1.Incident, closed metav1.Time, decisions []v1alpha1.Decision, evidence []v1alpha1.Evidence) Removal {
	spec, status := &incident.Spec, &incident.Status
	removed := &RemovedIncident{
		Title: spec.Title, Severity: status.Severity, Priority: status.Priority, Category: status.Category, Resolution: status.Resolution,
		SubmittedBy: spec.SubmittedBy, Rule: spec.Rule, RelatedTo: spec.RelatedTo.Name, DuplicateOf: status.DuplicateOf,
		Times: status.Times, Closed: closureOf(incident, closed, decisions), Conditions: status.Conditions,
		Determinations: status.Determinations, Playbook: status.Playbook, Occurrences: status.EventCount, Audit: status.Audit,
		Timeline: status.Timeline[max(0, len(status.Timeline)-maxTimeline):],
	}
	if spec.Mode == v1alpha1.ModeDrill {
		removed.Mode = spec.Mode
	}
	for i := range status.Duplicates {
		removed.Duplicates = append(removed.Duplicates, status.Duplicates[i].Name)
	}
	for i := range evidence {
		piece := &evidence[i]
		removed.Evidence = append(removed.Evidence, EvidenceDigest{
			Name: piece.Name, UID: piece.UID, Type: piece.Spec.Type, Step: piece.Spec.Step,
			CollectedTime: piece.Spec.CollectedTime, Digest: piece.Spec.Digest, Journal: piece.Spec.Journal,
		})
	}
	removal := removalOf("Incident", &incident.ObjectMeta)
	removal.Incident = removed
	return removal
}

// closureOf finds the Decision by which an incident was closed: the last one to close it that
// was accepted, or the one that made it a duplicate.
func closureOf(incident *v1alpha1.Incident, closed metav1.Time, decisions []v1alpha1.Decision) RemovedClosure {
	closure := RemovedClosure{Time: closed}
	original, last := &incident.Status.DuplicateOf, (*v1alpha1.Decision)(nil)
	duplicate := incident.Status.Resolution == v1alpha1.ResolutionDuplicate
	if duplicate {
		closure.By, closure.Decision = original.By, original.DecisionRef.Name
	}
	for i := range decisions {
		decision := &decisions[i]
		switch {
		case !accepted(decision):
		case duplicate && decision.Name == original.DecisionRef.Name,
			!duplicate && decision.Spec.Type == v1alpha1.DecisionClose && (last == nil || last.CreationTimestamp.Before(&decision.CreationTimestamp)):
			last = decision
		}
	}
	if last != nil {
		closure.By, closure.Reason, closure.Decision = last.Spec.By, last.Spec.Reason, last.Name
	}
	return closure
}

func accepted(decision *v1alpha1.Decision) bool {
	for i := range decision.Status.Conditions {
		if condition := &decision.Status.Conditions[i]; condition.Type == v1alpha1.ConditionAccepted {
			return condition.Status == metav1.ConditionTrue
		}
	}
	return false
}
