package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// HeardEvery is how often it is written down at most that a source was heard, which is
// silent after a time.
func HeardEvery(silentAfter time.Duration) time.Duration {
	return max(time.Minute, silentAfter/10)
}

// PlanObjective is how fast people mean to answer what is of one severity.
type PlanObjective struct {
	// severity is of which severity the events are that it is about.
	// +required
	Severity Severity `json:"severity,omitempty"`

	// when is a CEL expression over `event` that says for which of them it counts. Of several
	// objectives of one severity the first that does counts; one whose expression fails to
	// evaluate does. Empty means that it counts for all.
	// +optional
	When Expression `json:"when,omitempty"`

	// assessWithin is how long an event may wait for a person to decide about it, from 1m to
	// 8760h. It counts from when the event was deferred; after that the event is overdue.
	// Empty, or where there is no objective, it is 15m for 'Critical', 1h for 'High', 8h for
	// 'Medium', 72h for 'Low' and 168h for 'Informational'.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('8760h')",message="`assessWithin` must be from '1m' to '8760h'"
	AssessWithin *metav1.Duration `json:"assessWithin,omitempty"`
}

// PlanRetention is what is deleted after which time. Before anything goes, what was on record
// about it is written into Evidence of type RetentionJournal, which is never deleted.
type PlanRetention struct {
	// dismissedEvents is how long an event is kept after it was dismissed, from 24h to
	// 876000h; it goes within an hour after that, with the Decisions about it. Its assessments
	// are in a RetentionJournal from then on. An event that has ever belonged to an
	// incident stays with that. Empty means for ever.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('24h') && duration(self) <= duration('876000h')",message="`dismissedEvents` must be from '24h' to '876000h'"
	DismissedEvents *metav1.Duration `json:"dismissedEvents,omitempty"`

	// closedIncidents is how long an incident is kept after it was closed, from 24h to
	// 876000h; it goes within an hour after that, with the Decisions about it, its events and
	// the Decisions about these. Its essentials, and their assessments, are in a
	// RetentionJournal from then on. It stays while anything needs it: an open incident that
	// refers to it or is its original or duplicate, an effect that was not undone, a lesson
	// that is not done. Its evidence stays as long as `evidence` says, its lessons for ever.
	// Empty means for ever.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('24h') && duration(self) <= duration('876000h')",message="`closedIncidents` must be from '24h' to '876000h'"
	ClosedIncidents *metav1.Duration `json:"closedIncidents,omitempty"`

	// evidence is how long a piece of evidence that Firebreak keeps is kept after it was collected
	// and its incident was closed, from 24h to 876000h; it goes within an hour after that, with its
	// bytes where no other Evidence of the domain has the same. What it was, and its digest, is
	// in a RetentionJournal from then on. It stays while anything needs its incident, and a sealed
	// part of a timeline as long as its incident is there. Evidence whose bytes people keep is
	// theirs to delete. Empty means for ever.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('24h') && duration(self) <= duration('876000h')",message="`evidence` must be from '24h' to '876000h'"
	Evidence *metav1.Duration `json:"evidence,omitempty"`
}

// ExpectedSource is a product that must not fall silent.
type ExpectedSource struct {
	// product is what its events name as `source.product`, such as 'falco'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Product string `json:"product,omitempty"`

	// silentAfter is for how long nothing may be heard of it, from 5m to 8760h. What counts
	// are its events, their repeats, and what the receiver takes without recording an event:
	// heartbeats, passed checks, requests that no audit rule selects. Drills do not.
	// +required
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m') && duration(self) <= duration('8760h')",message="`silentAfter` must be from '5m' to '8760h'"
	SilentAfter *metav1.Duration `json:"silentAfter,omitempty"`

	// submittedBy is the user from whom it must be heard: what others report in the product's
	// name does not count then. Empty means anybody who may report; of what the receiver reads
	// in policy reports, which may name any product, nothing counts unless this is the receiver:
	// system:serviceaccount:firebreak-system:firebreak-receiver.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SubmittedBy string `json:"submittedBy,omitempty"`
}

// SourceHeard is when an expected source was heard.
type SourceHeard struct {
	// product is what `expectedSources` calls it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Product string `json:"product,omitempty"`

	// expectedTime is since when it is expected: what was never heard is silent from then on.
	// +optional
	ExpectedTime *metav1.Time `json:"expectedTime,omitempty"`

	// lastHeardTime is when receivers have last heard it, by their clocks. It is written at
	// most once a minute, and no more often than in a tenth of `silentAfter`. What is
	// reported past the receivers is not in it, but counts. Empty means not yet.
	// +optional
	LastHeardTime *metav1.Time `json:"lastHeardTime,omitempty"`
}
