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

// Resolution is how an incident ended.
// +kubebuilder:validation:Enum=Resolved;FalsePositive;AcceptedRisk
type Resolution string

// The resolutions.
const (
	ResolutionResolved      Resolution = "Resolved"
	ResolutionFalsePositive Resolution = "FalsePositive"
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

	// playbookRef is the playbook that answers. Empty means that people answer by hand.
	// +optional
	PlaybookRef PlaybookReference `json:"playbookRef,omitzero"`

	// resources are the objects of the cluster it is about.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Resources []ResourceReference `json:"resources,omitempty"`

	// assets are the things outside the cluster it is about.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Assets []Asset `json:"assets,omitempty"`

	// eventRefs are the events that opened it. Later ones point at the incident themselves.
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
}

// ResourceState says what was found when a resource was looked up.
// +kubebuilder:validation:Enum=Present;Gone;Replaced;Unreadable
type ResourceState string

// The states of resources.
const (
	// ResourcePresent means that the object is there; its UID is pinned.
	ResourcePresent ResourceState = "Present"
	// ResourceGone means that there is no such object any more.
	ResourceGone ResourceState = "Gone"
	// ResourceReplaced means that an object of that name is there, but not the one meant.
	ResourceReplaced ResourceState = "Replaced"
	// ResourceUnreadable means that the playbook's ServiceAccount may not read it.
	ResourceUnreadable ResourceState = "Unreadable"
)

// WorkloadReference names the top owner of a pod.
type WorkloadReference struct {
	// apiVersion is the owner's group and version.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	APIVersion string `json:"apiVersion,omitempty"`

	// kind is the owner's kind, such as 'Deployment'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind,omitempty"`

	// name is the owner's name. Its namespace is the pod's.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// uid is the owner's UID.
	// +required
	UID ObjectUID `json:"uid,omitempty"`
}

// IncidentResource is an object the incident is about, as it was found.
type IncidentResource struct {
	ResourceReference `json:",inline"`

	// state is what was found at the first look; with 'Present' the UID is pinned.
	// Empty means that nobody has looked yet.
	// +optional
	State ResourceState `json:"state,omitempty"`

	// message says more about the state.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`

	// hold says why actions on the object wait for an approval: its namespace is
	// protected, or a limit of the playbook is reached. Empty means that they do not.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Hold string `json:"hold,omitempty"`

	// approvedBy is who has approved actions on it in spite of the hold. Empty means nobody.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ApprovedBy string `json:"approvedBy,omitempty"`

	// workload is the top owner of a pod. Empty when it has none or it could not be read.
	// +optional
	Workload WorkloadReference `json:"workload,omitzero"`

	// goneTime is when it was found to be gone; an event after that which names no UID
	// means another object of that name. Empty while it is there.
	// +optional
	GoneTime *metav1.Time `json:"goneTime,omitempty"`

	// eventRef is the event that first named it. Empty when the incident itself did.
	// +optional
	EventRef EventReference `json:"eventRef,omitzero"`

	// submittedBy is who submitted that event; limits count by it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SubmittedBy string `json:"submittedBy,omitempty"`

	// rule is the rule by which that event came, as 'policy/rule'.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	Rule string `json:"rule,omitempty"`
}

// StepState is where a step of a playbook stands.
// +kubebuilder:validation:Enum=Pending;Running;AwaitingApproval;AwaitingTask;Succeeded;Failed;Skipped;Reverted
type StepState string

// The states of steps.
const (
	// StepPending means that its turn has not come.
	StepPending StepState = "Pending"
	// StepRunning means that it is being done.
	StepRunning StepState = "Running"
	// StepAwaitingApproval means that a person must approve before it goes on.
	StepAwaitingApproval StepState = "AwaitingApproval"
	// StepAwaitingTask means that a person must do something.
	StepAwaitingTask StepState = "AwaitingTask"
	// StepSucceeded means that it is done.
	StepSucceeded StepState = "Succeeded"
	// StepFailed means that it could not be done.
	StepFailed StepState = "Failed"
	// StepSkipped means that it was not needed, or a person decided against it.
	StepSkipped StepState = "Skipped"
	// StepReverted means that all its effects were undone.
	StepReverted StepState = "Reverted"
)

// TargetState is where a step stands for one of its targets.
// +kubebuilder:validation:Enum=Pending;Held;Acting;Applied;Succeeded;Failed;Gone;Skipped;Reverting;Reverted
type TargetState string

// The states of targets.
const (
	// TargetPending means that nothing was done to it.
	TargetPending TargetState = "Pending"
	// TargetHeld means that a limit or a protection holds it until a person approves.
	TargetHeld TargetState = "Held"
	// TargetActing means that what is needed to undo is recorded and the effect may have been made.
	TargetActing TargetState = "Acting"
	// TargetApplied means that the effect was made and is being observed.
	TargetApplied TargetState = "Applied"
	// TargetSucceeded means that the effect stands.
	TargetSucceeded TargetState = "Succeeded"
	// TargetFailed means that the effect could not be made.
	TargetFailed TargetState = "Failed"
	// TargetGone means that the object was gone before the effect was needed.
	TargetGone TargetState = "Gone"
	// TargetSkipped means that a person decided against it.
	TargetSkipped TargetState = "Skipped"
	// TargetReverting means that the effect is being undone.
	TargetReverting TargetState = "Reverting"
	// TargetReverted means that the effect was undone.
	TargetReverted TargetState = "Reverted"
)

// Proof says how sure it is that a containment works.
// +kubebuilder:validation:Enum=Computed
type Proof string

// ProofComputed means that it follows from the objects of the API: whether the network
// plugin enforces them is not tried.
const ProofComputed Proof = "Computed"

// StepTarget is one object a step acts on, pinned by its UID.
type StepTarget struct {
	// apiVersion is the object's group and version.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	APIVersion string `json:"apiVersion,omitempty"`

	// kind is the object's kind.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind,omitempty"`

	// namespace is the object's namespace. Empty for cluster-scoped kinds.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`

	// name is the object's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// uid is the object's UID: no other object is ever written.
	// +required
	UID ObjectUID `json:"uid,omitempty"`

	// state is where the step stands for this target.
	// +required
	State TargetState `json:"state,omitempty"`

	// attempts is how often the effect was begun, at most 100.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Attempts int32 `json:"attempts,omitempty"`

	// nextTime is when it is tried or looked at again. Empty means at once.
	// +optional
	NextTime *metav1.Time `json:"nextTime,omitempty"`

	// proof says how sure it is that the effect works. Empty where nothing is to prove.
	// +optional
	Proof Proof `json:"proof,omitempty"`

	// message says what was done, or why not.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// undo is what is needed to undo the effect, as JSON, written before the effect
	// was made. Empty when nothing can be undone.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Undo string `json:"undo,omitempty"`
}

// Approver is a person who has approved a step.
type Approver struct {
	// by is the person.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by,omitempty"`

	// decisionRef is the Decision by which they approved.
	// +required
	DecisionRef DecisionReference `json:"decisionRef,omitzero"`

	// time is when their approval was accepted.
	// +required
	Time metav1.Time `json:"time,omitzero"`
}

// IncidentStep is where one step of the playbook stands.
type IncidentStep struct {
	// name is the step's name in the playbook.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// phase is the phase the step belongs to.
	// +required
	Phase Phase `json:"phase,omitempty"`

	// action is the step's action, such as 'isolate'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Action string `json:"action,omitempty"`

	// state is where the step stands.
	// +required
	State StepState `json:"state,omitempty"`

	// attempts is how often the step was begun; a person's RetryStep and a new target
	// begin it anew.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Attempts int32 `json:"attempts,omitempty"`

	// startTime is when the current attempt began.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// endTime is when the step ended.
	// +optional
	EndTime *metav1.Time `json:"endTime,omitempty"`

	// deadlineTime is when the current attempt fails or escalates at the latest.
	// +optional
	DeadlineTime *metav1.Time `json:"deadlineTime,omitempty"`

	// holdingTime is since when a verify step's expression has held without a break.
	// +optional
	HoldingTime *metav1.Time `json:"holdingTime,omitempty"`

	// nextTime is when the step is looked at again. Empty means at once.
	// +optional
	NextTime *metav1.Time `json:"nextTime,omitempty"`

	// message says what was done, what is waited for, or why it failed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// digest is what an approval of this step must carry: a hash over the step, its
	// attempt, its targets and what will be done.
	// +optional
	// +kubebuilder:validation:MinLength=71
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest,omitempty"`

	// approvers are who has approved the current attempt.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Approvers []Approver `json:"approvers,omitempty"`

	// targets are the objects the step acts on.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Targets []StepTarget `json:"targets,omitempty"`
}

// AwaitingType is what kind of thing a person must do.
// +kubebuilder:validation:Enum=Approval;Task;Failure;Playbook;Close;Resume
type AwaitingType string

// The types of things a person must do.
const (
	// AwaitingApproval means: approve or reject a step.
	AwaitingApproval AwaitingType = "Approval"
	// AwaitingTask means: do a task and say so.
	AwaitingTask AwaitingType = "Task"
	// AwaitingFailure means: a step failed; retry it, do it by hand, or skip it.
	AwaitingFailure AwaitingType = "Failure"
	// AwaitingPlaybook means: the playbook is missing or not usable, or there is none.
	AwaitingPlaybook AwaitingType = "Playbook"
	// AwaitingClose means: everything is done; review and close.
	AwaitingClose AwaitingType = "Close"
	// AwaitingResume means: the automation was stopped; resume it when it may go on.
	AwaitingResume AwaitingType = "Resume"
)

// Awaiting is one thing a person must do now.
type Awaiting struct {
	// type is what kind of thing it is.
	// +required
	Type AwaitingType `json:"type,omitempty"`

	// step is the step it is about. Empty when it is about the incident.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Step string `json:"step,omitempty"`

	// sinceTime is since when it has been waited for.
	// +required
	SinceTime metav1.Time `json:"sinceTime,omitzero"`

	// dueTime is when it is late. Empty means that nothing happens by itself.
	// +optional
	DueTime *metav1.Time `json:"dueTime,omitempty"`

	// message says what must be done, and shows what would happen.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// role is the role of the plan the person must hold. Empty means that the RBAC verb is enough.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Role string `json:"role,omitempty"`

	// digest is what the Decision must carry, so that it cannot be given for something else.
	// +optional
	// +kubebuilder:validation:MinLength=71
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest,omitempty"`

	// command is the line to type.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Command string `json:"command,omitempty"`
}

// TimelineEntry is one thing that happened, chained by hash to the one before.
type TimelineEntry struct {
	// sequence counts the entries of the incident, from 1, without a gap.
	// +required
	// +kubebuilder:validation:Minimum=1
	Sequence int64 `json:"sequence,omitempty"`

	// time is when it happened.
	// +required
	Time metav1.Time `json:"time,omitzero"`

	// actor is who did it: the manager, the playbook's ServiceAccount, or a person.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Actor string `json:"actor,omitempty"`

	// decision is the Decision by which a person did it. Empty when no person did.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Decision string `json:"decision,omitempty"`

	// action is what was done, such as 'IncidentOpened' or 'StepSucceeded'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Action string `json:"action,omitempty"`

	// outcome is one word for how it went, such as 'Succeeded', 'Failed' or 'Refused'.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Outcome string `json:"outcome,omitempty"`

	// step is the playbook's step it belongs to. Empty when it belongs to none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Step string `json:"step,omitempty"`

	// resource is the object it was done to, as 'kind/namespace/name'. Empty when to none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=400
	Resource string `json:"resource,omitempty"`

	// message says it in words.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// previous is the hash of the entry before; 64 zeros for the first.
	// +required
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	Previous string `json:"previous,omitempty"`

	// hash is the SHA-256, in hexadecimal, of this entry without its hash as
	// canonical JSON (RFC 8785).
	// +required
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	Hash string `json:"hash,omitempty"`
}

// IncidentAudit is the head of the timeline's hash chain.
type IncidentAudit struct {
	// sequence is the sequence of the last entry.
	// +required
	// +kubebuilder:validation:Minimum=1
	Sequence int64 `json:"sequence,omitempty"`

	// headHash is the hash of the last entry.
	// +required
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	HeadHash string `json:"headHash,omitempty"`

	// projectedSequence is the last entry that has been published as a Kubernetes Event.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ProjectedSequence int64 `json:"projectedSequence,omitempty"`

	// sealedSequence is the last entry that was moved to Evidence of type Journal.
	// +optional
	// +kubebuilder:validation:Minimum=1
	SealedSequence int64 `json:"sealedSequence,omitempty"`

	// sealedHash is the hash of that entry: the first one left here chains to it.
	// +optional
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	SealedHash string `json:"sealedHash,omitempty"`
}

// DecisionAnswer is what was decided about a Decision, kept here until the
// Decision itself says so.
type DecisionAnswer struct {
	// name of the Decision.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// uid of the Decision.
	// +required
	UID ObjectUID `json:"uid,omitempty"`

	// status is 'True' when it was accepted, 'False' when it was refused.
	// +required
	// +kubebuilder:validation:Enum=True;False
	Status metav1.ConditionStatus `json:"status,omitempty"`

	// reason is one word for why.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Reason string `json:"reason,omitempty"`

	// message says why in words.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// IncidentStatus is where the incident stands and everything that was done.
type IncidentStatus struct {
	// conditions are Acknowledged, Contained, Eradicated, Recovered, Reviewed, Closed and Stalled.
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

	// assignee is the person who has acknowledged it last. Empty means nobody.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Assignee string `json:"assignee,omitempty"`

	// resolution is how it ended. Empty while it is open.
	// +optional
	Resolution Resolution `json:"resolution,omitempty"`

	// times are the first times each stage was reached.
	// +optional
	Times IncidentTimes `json:"times,omitzero"`

	// playbook is the exact text that runs. Empty until it is pinned.
	// +optional
	Playbook PinnedPlaybook `json:"playbook,omitzero"`

	// pausedBy says who has paused this incident's automation. Empty means that nobody has.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PausedBy string `json:"pausedBy,omitempty"`

	// steps are the steps of the playbook, in its order.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=96
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

	// timeline is what happened, the oldest first; what does not fit was sealed into
	// Evidence of type Journal.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
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
