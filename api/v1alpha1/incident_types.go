package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Phase is where an incident stands. It is derived from the conditions for people
// to read; it goes back only by a Decision to reopen.
// +kubebuilder:validation:Enum=Assessment;Containment;Eradication;Recovery;Review;Closed
type Phase string

// The phases, in order (ISO/IEC 27035-1:2023; NIST SP 800-61r3 RS and RC).
const (
	PhaseAssessment  Phase = "Assessment"
	PhaseContainment Phase = "Containment"
	PhaseEradication Phase = "Eradication"
	PhaseRecovery    Phase = "Recovery"
	PhaseReview      Phase = "Review"
	PhaseClosed      Phase = "Closed"
)

// Rank orders phases: Assessment is 1, Closed is 6, anything else 0.
func (p Phase) Rank() int {
	switch p {
	case PhaseAssessment:
		return 1
	case PhaseContainment:
		return 2
	case PhaseEradication:
		return 3
	case PhaseRecovery:
		return 4
	case PhaseReview:
		return 5
	case PhaseClosed:
		return 6
	default:
		return 0
	}
}

// Resolution is how an incident ended. 'Duplicate' means that another incident went on with it.
// +kubebuilder:validation:Enum=Resolved;FalsePositive;Duplicate;AcceptedRisk
type Resolution string

// The resolutions.
const (
	ResolutionResolved      Resolution = "Resolved"
	ResolutionFalsePositive Resolution = "FalsePositive"
	ResolutionDuplicate     Resolution = "Duplicate"
	ResolutionAcceptedRisk  Resolution = "AcceptedRisk"
)

// IncidentSpec is what was known when the incident was declared. It never changes;
// what changes lives in status.
type IncidentSpec struct {
	// title says in one line what happened.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Title string `json:"title,omitempty"`

	// mode says whether it is the real thing, 'Live', or an exercise, 'Drill'. In a drill the
	// playbook runs as a dry run, whatever its own mode: every write is only tried, nothing is
	// sent, and it is never contained. It joins, limits and holds nothing that is live. Empty
	// means 'Live'.
	// +optional
	// +kubebuilder:default=Live
	Mode Mode `json:"mode,omitempty"`

	// severity is how bad it was judged to be at the start.
	// +required
	Severity Severity `json:"severity,omitempty"`

	// category is the kind of the incident.
	// +required
	Category Category `json:"category,omitempty"`

	// impact is the effect on confidentiality, integrity and availability. Empty means not assessed.
	// +optional
	Impact Impact `json:"impact,omitzero"`

	// tlp is the marking of the incident. Empty means 'Amber'.
	// +optional
	// +kubebuilder:default=Amber
	TLP TLP `json:"tlp,omitempty"`

	// confirm says whether a person must confirm the incident before it is eradicated:
	// 'Automatic' or 'Required'. Containment never waits for that. Empty means 'Automatic'.
	// +optional
	Confirm Confirmation `json:"confirm,omitempty"`

	// determinations are what is to be assumed at the start.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Determinations []Determination `json:"determinations,omitempty"`

	// playbookRef is the playbook that answers. Empty means that people answer by hand.
	// +optional
	PlaybookRef PlaybookReference `json:"playbookRef,omitzero"`

	// resources are the objects of the cluster it is about.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Resources []ResourceReference `json:"resources,omitempty"`

	// assets are the things outside the cluster it is about. Those of later events are in
	// `status.assets`, with these.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Assets []Asset `json:"assets,omitempty"`

	// eventRefs are the events that opened it. Later ones point at the incident themselves. One
	// of the other mode is not taken in.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	EventRefs []EventReference `json:"eventRefs,omitempty"`

	// relatedTo is an earlier incident of the same cause that was past containment
	// when this one opened. Empty means none.
	// +optional
	RelatedTo IncidentReference `json:"relatedTo,omitzero"`

	// submittedBy is the sender of the event that opened the incident, and rule the
	// policy's rule that did: limits count by both. Both are empty when a person declared it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SubmittedBy string `json:"submittedBy,omitempty"`

	// rule is the rule of the ClassificationPolicy that opened it, as 'policy/rule'.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	Rule string `json:"rule,omitempty"`

	// occurredTime is when it began, as far as known. Empty means not known.
	// +optional
	OccurredTime *metav1.Time `json:"occurredTime,omitempty"`

	// detectedTime is when it was first seen. Empty means at creation.
	// +optional
	DetectedTime *metav1.Time `json:"detectedTime,omitempty"`
}

// IncidentTimes are the first times each stage was reached. They never move.
type IncidentTimes struct {
	// occurredTime is when it began, as far as known.
	// +optional
	OccurredTime *metav1.Time `json:"occurredTime,omitempty"`

	// detectedTime is when it was first seen.
	// +optional
	DetectedTime *metav1.Time `json:"detectedTime,omitempty"`

	// awareTime is when the organisation knew: when the incident was opened.
	// +optional
	AwareTime *metav1.Time `json:"awareTime,omitempty"`

	// acknowledgedTime is when a person took it on.
	// +optional
	AcknowledgedTime *metav1.Time `json:"acknowledgedTime,omitempty"`

	// classifiedTime is when severity and category were decided.
	// +optional
	ClassifiedTime *metav1.Time `json:"classifiedTime,omitempty"`

	// containedTime is when it was first contained.
	// +optional
	ContainedTime *metav1.Time `json:"containedTime,omitempty"`

	// eradicatedTime is when its cause was first removed.
	// +optional
	EradicatedTime *metav1.Time `json:"eradicatedTime,omitempty"`

	// recoveredTime is when normal operation was first verified.
	// +optional
	RecoveredTime *metav1.Time `json:"recoveredTime,omitempty"`

	// closedTime is when it was closed.
	// +optional
	ClosedTime *metav1.Time `json:"closedTime,omitempty"`
}

// IncidentMode says how an incident's playbook runs now.
// +kubebuilder:validation:Enum=Enforce;Confirm;DryRun;Paused
type IncidentMode string

// The modes of incidents.
const (
	// ModeEnforce means that it writes.
	ModeEnforce IncidentMode = "Enforce"
	// ModeConfirm means that each step that writes waits for an approval.
	ModeConfirm IncidentMode = "Confirm"
	// ModeDryRun means that it only tries.
	ModeDryRun IncidentMode = "DryRun"
	// ModePaused means that it is stopped.
	ModePaused IncidentMode = "Paused"
)

// PinnedPlaybook is the exact text of the playbook that runs.
type PinnedPlaybook struct {
	// name of the ResponsePlaybook.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// generation of the ResponsePlaybook when it was pinned.
	// +required
	// +kubebuilder:validation:Minimum=1
	Generation int64 `json:"generation,omitempty"`

	// revision is the apps/v1 ControllerRevision, owned by the incident, that holds the text.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Revision string `json:"revision,omitempty"`

	// serviceAccountName is the ServiceAccount under which its actions run.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// hold says why everything it does waits for an approval: `limits.maxRunsPerHour` was
	// reached when it was pinned. Empty means that it was not.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Hold string `json:"hold,omitempty"`
}

// PhaseDeadline is by when a phase should be over.
type PhaseDeadline struct {
	// phase is the phase.
	// +required
	Phase Phase `json:"phase,omitempty"`

	// dueTime is by when it should be over.
	// +required
	DueTime metav1.Time `json:"dueTime,omitzero"`

	// overdueTime is when it was found not to be. Empty while it is not late.
	// +optional
	OverdueTime *metav1.Time `json:"overdueTime,omitempty"`
}

// IncidentDetermination is what was found about one question, by whom and when.
type IncidentDetermination struct {
	Determination `json:",inline"`

	// by is the person who determined it. Empty when the incident began with it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by,omitempty"`

	// decisionRef is the Decision by which they did. Empty when the incident began with it.
	// +optional
	DecisionRef DecisionReference `json:"decisionRef,omitzero"`

	// time is when it was determined.
	// +required
	Time metav1.Time `json:"time,omitzero"`
}

// IncidentStatus is where the incident stands and everything that was done.
type IncidentStatus struct {
	// conditions are Confirmed, Acknowledged, Contained, Eradicated, Recovered, Reviewed, Closed and Stalled, and
	// once there was reason for them ContainmentDrifted and TimelineSealed.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is where the incident stands.
	// +optional
	Phase Phase `json:"phase,omitempty"`

	// severity is the severity now.
	// +optional
	Severity Severity `json:"severity,omitempty"`

	// priority follows from severity and impact.
	// +optional
	Priority Priority `json:"priority,omitempty"`

	// category is the category now.
	// +optional
	Category Category `json:"category,omitempty"`

	// determinations are what was found so far.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Determinations []IncidentDetermination `json:"determinations,omitempty"`

	// assignee is the person who has acknowledged it last. Empty means nobody.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Assignee string `json:"assignee,omitempty"`

	// resolution is how it ended. Empty while it is open.
	// +optional
	Resolution Resolution `json:"resolution,omitempty"`

	// duplicateOf is the incident that goes on with this one. Empty while it is no duplicate.
	// +optional
	DuplicateOf IncidentOriginal `json:"duplicateOf,omitzero"`

	// duplicates are the incidents with which this one goes on: it deals with their events and
	// objects too.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Duplicates []IncidentDuplicate `json:"duplicates,omitempty"`

	// times are the first times each stage was reached.
	// +optional
	Times IncidentTimes `json:"times,omitzero"`

	// playbook is the exact text that runs. Empty until it is pinned.
	// +optional
	Playbook PinnedPlaybook `json:"playbook,omitzero"`

	// mode is how the playbook runs now, by its own mode, the plan's `response`, what people
	// have stopped, and whether the incident is a drill. Empty until one is pinned.
	// +optional
	Mode IncidentMode `json:"mode,omitempty"`

	// pausedBy says who has paused this incident's automation. Empty means that nobody has.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PausedBy string `json:"pausedBy,omitempty"`

	// phaseDeadlines are by when the phases that were entered should be over, where the
	// playbook says so.
	// +optional
	// +listType=map
	// +listMapKey=phase
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=3
	PhaseDeadlines []PhaseDeadline `json:"phaseDeadlines,omitempty"`

	// steps are the steps of the playbook, in its order; after them what people have run
	// beside it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=112
	Steps []IncidentStep `json:"steps,omitempty"`

	// awaiting is what a person must do now, the most pressing first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Awaiting []Awaiting `json:"awaiting,omitempty"`

	// eventCount is how often the events of this incident were seen, all repeats included.
	// +optional
	// +kubebuilder:validation:Minimum=1
	EventCount int64 `json:"eventCount,omitempty"`

	// lastEventTime is when eventCount last rose, by the manager's clock.
	// +optional
	LastEventTime *metav1.Time `json:"lastEventTime,omitempty"`

	// detachedEvents are the events that people have found not to belong to it. One that a
	// person joins to it again is taken off.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	DetachedEvents []DetachedEvent `json:"detachedEvents,omitempty"`

	// resources are the objects all its events are about.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Resources []IncidentResource `json:"resources,omitempty"`

	// omittedResources is how many further objects its events named beyond the 128 kept.
	// +optional
	// +kubebuilder:validation:Minimum=1
	OmittedResources int32 `json:"omittedResources,omitempty"`

	// assets are the things outside the cluster that it, all its events and its duplicates are
	// about, each type and identifier once: at most 128, which together take at most 64 KiB.
	// Empty means none, or that the manager has not looked at the incident yet.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Assets []IncidentAsset `json:"assets,omitempty"`

	// omittedAssets is how many further assets were named beyond those kept. Empty means none.
	// +optional
	// +kubebuilder:validation:Minimum=1
	OmittedAssets int32 `json:"omittedAssets,omitempty"`

	// timeline is what happened, the oldest first; from 48 entries on the older ones are
	// sealed into Evidence of type Journal. There are more than 64 only while that fails.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Timeline []TimelineEntry `json:"timeline,omitempty"`

	// audit is the head of the timeline's hash chain.
	// +optional
	Audit IncidentAudit `json:"audit,omitzero"`

	// answers are decided Decisions that do not say so themselves yet.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Answers []DecisionAnswer `json:"answers,omitempty"`
}

// Incident is a security incident and the response to it (ISO/IEC 27002:2022, 5.26).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=inc,categories=firebreak
// +kubebuilder:printcolumn:name=Sev,type=string,JSONPath=`.status.severity`
// +kubebuilder:printcolumn:name=Mode,type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name=Phase,type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name=Awaiting,type=string,JSONPath=`.status.awaiting[0].type`
// +kubebuilder:printcolumn:name=Due,type=string,JSONPath=`.status.awaiting[0].dueTime`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Title,type=string,JSONPath=`.spec.title`
// +kubebuilder:printcolumn:name=Category,type=string,JSONPath=`.status.category`,priority=1
// +kubebuilder:printcolumn:name=Events,type=integer,JSONPath=`.status.eventCount`,priority=1
// +kubebuilder:printcolumn:name=Assignee,type=string,JSONPath=`.status.assignee`,priority=1
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
// +kubebuilder:selectablefield:JSONPath=`.status.severity`
// +kubebuilder:selectablefield:JSONPath=`.status.category`
// +kubebuilder:selectablefield:JSONPath=`.spec.mode`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="`metadata.name` must be at most 63 characters: what belongs to the incident is labelled with it"
type Incident struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what was known when the incident was declared. It cannot be changed.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="`spec` must not change: it is a record; create a Decision to change what is in force"
	Spec IncidentSpec `json:"spec,omitzero"`

	// status is where the incident stands. Only Firebreak writes it.
	// +optional
	Status IncidentStatus `json:"status,omitzero"`
}

// IncidentList is a list of Incidents.
// +kubebuilder:object:root=true
type IncidentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Incident `json:"items"`
}
