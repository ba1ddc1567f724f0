package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
// +kubebuilder:validation:Enum=Shown;Pending;Held;Acting;Applied;Succeeded;Failed;Gone;Skipped;Reverting;Reverted
type TargetState string

// The states of targets.
const (
	// TargetShown means that it was looked up so that people see what they approve, before the
	// step begins; it is looked up again then.
	TargetShown TargetState = "Shown"
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
// +kubebuilder:validation:Enum=Computed;Enforced
type Proof string

// The proofs.
const (
	// ProofComputed means that it follows from the objects of the API: whether the network
	// plugin enforces them is not tried.
	ProofComputed Proof = "Computed"
	// ProofEnforced means that a probe could not connect to it, and could elsewhere.
	ProofEnforced Proof = "Enforced"
)

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

	// approvedBy is who has approved actions on it although a limit or a protection held
	// it. It counts for every step of the incident. Empty means nobody.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ApprovedBy string `json:"approvedBy,omitempty"`

	// confirmedBy is who has confirmed the step for this target, where the playbook's mode
	// is 'Confirm'. Empty means nobody.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ConfirmedBy string `json:"confirmedBy,omitempty"`

	// mode is 'DryRun' when the effect is only tried. Empty means that it is made.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == 'DryRun'",message="`mode` must be 'DryRun' or absent"
	Mode ResponseMode `json:"mode,omitempty"`

	// attempts is how often the effect was begun, at most 100.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Attempts int32 `json:"attempts,omitempty"`

	// nextTime is when it is tried or looked at again. Empty means at once.
	// +optional
	NextTime *metav1.Time `json:"nextTime,omitempty"`

	// losses is how often something took the effect away although it must stand; each
	// time it is made again. A person's RetryStep begins to count anew. At most 10000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	Losses int32 `json:"losses,omitempty"`

	// lossTime is when it was found to be taken away the last time.
	// +optional
	LossTime *metav1.Time `json:"lossTime,omitempty"`

	// proof says how sure it is that the effect works. Empty where nothing is to prove.
	// +optional
	Proof Proof `json:"proof,omitempty"`

	// message says what was done, or why not.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// undo is what is needed to undo the effect, as JSON, written before the effect
	// was made; beyond 4096 bytes, or fewer where the incident has many of them,
	// '{"keptInEvidence":{"name":…,"digest":…}}', the Evidence that keeps it. Of a step that
	// sends something it is what is sent, until that is answered. Empty when nothing can be
	// undone.
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

// StepOutput is a value that a step has yielded for later ones.
type StepOutput struct {
	// name of the value.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// value is the value; what is longer was cut.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Value *string `json:"value,omitempty"`
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
	// attempt, its targets and what will be done. Of an approve step it covers the incident's
	// objects and what the steps after it were found to act on beyond these.
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

	// definition is the step's text, as JSON, when it is not in the playbook: a person has
	// run it by RunAction. Empty otherwise.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Definition string `json:"definition,omitempty"`

	// retriedBy are the last people who have begun the step anew: they do not count among
	// several who must approve it.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	RetriedBy []string `json:"retriedBy,omitempty"`

	// outputs are what the step has yielded, for expressions of later steps:
	// `steps.<name>.outputs.<output>`.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Outputs []StepOutput `json:"outputs,omitempty"`

	// resolvedResources is for how many of the incident's resources the targets were
	// looked up, when the step looks for them beyond these: for those who approve, and
	// again when it begins. Empty means not yet, or that it does not.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	ResolvedResources *int32 `json:"resolvedResources,omitempty"`

	// targets are the objects the step acts on. An action that acts on no object has the
	// incident itself.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Targets []StepTarget `json:"targets,omitempty"`
}
