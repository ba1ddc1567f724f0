package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AwaitingType is what kind of thing a person must do.
// +kubebuilder:validation:Enum=Approval;Task;Failure;Playbook;Close;Resume;Confirmation
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
	// AwaitingConfirmation means: confirm that it is an incident, or close it as 'FalsePositive'.
	AwaitingConfirmation AwaitingType = "Confirmation"
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

	// overdueTime is when it was found to be late. Empty while it is not.
	// +optional
	OverdueTime *metav1.Time `json:"overdueTime,omitempty"`

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
