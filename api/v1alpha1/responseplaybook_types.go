package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TargetKind says which objects of an incident a step acts on.
// +kubebuilder:validation:Enum=Pods;Workloads
type TargetKind string

// The kinds of targets.
const (
	// TargetPods means the pods the incident is about.
	TargetPods TargetKind = "Pods"
	// TargetWorkloads means the top owners of these pods.
	TargetWorkloads TargetKind = "Workloads"
)

// FailurePolicy says what follows when a step fails.
// +kubebuilder:validation:Enum=Abort;Continue;Escalate
type FailurePolicy string

// The failure policies.
const (
	// OnFailureAbort stops the playbook: a person must decide how to go on.
	OnFailureAbort FailurePolicy = "Abort"
	// OnFailureContinue goes on with the next step.
	OnFailureContinue FailurePolicy = "Continue"
	// OnFailureEscalate asks a person to do the step by hand, by its instructions.
	OnFailureEscalate FailurePolicy = "Escalate"
)

// NoTargetsPolicy says what follows when a step finds nothing to act on.
// +kubebuilder:validation:Enum=Fail;Skip
type NoTargetsPolicy string

// The policies for no targets.
const (
	OnNoTargetsFail NoTargetsPolicy = "Fail"
	OnNoTargetsSkip NoTargetsPolicy = "Skip"
)

// Retry says how often and how fast a failed effect is tried again.
type Retry struct {
	// attempts is how often the effect is tried in all. Empty means 3.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=20
	// +kubebuilder:default=3
	Attempts int32 `json:"attempts,omitempty"`

	// backoff is the wait before the second attempt; it doubles with each further one,
	// up to 5 minutes. Empty means 2s.
	// +optional
	// +kubebuilder:default="2s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('5m')",message="`backoff` must be from '10ms' to '5m'"
	Backoff *metav1.Duration `json:"backoff,omitempty"`
}

// PlaybookStep is one step of a playbook: exactly one action.
// +kubebuilder:validation:ExactlyOneOf=collect;isolate;delete;approve;task;verify;wait;revert
// +kubebuilder:validation:XValidation:rule="has(self.target) || !(has(self.collect) || has(self.isolate) || has(self.delete))",message="`target` must be set for 'collect', 'isolate' and 'delete'"
// +kubebuilder:validation:XValidation:rule="!has(self.target) || has(self.collect) || has(self.isolate) || has(self.delete) || (has(self.verify) && has(self.verify.expression))",message="`target` must not be set for actions that act on no object"
// +kubebuilder:validation:XValidation:rule="!has(self.verify) || !has(self.verify.expression) || has(self.target)",message="`target` must be set for 'verify' with an `expression`: it says which objects are looked at"
// +kubebuilder:validation:XValidation:rule="!has(self.isolate) || !has(self.target) || self.target == 'Pods'",message="`target` must be 'Pods' for 'isolate'"
type PlaybookStep struct {
	// name of the step, unique in the playbook.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// when is a CEL expression over `incident` (its effective severity, priority,
	// category, title and eventCount); the step is skipped when it is false. Empty
	// means always.
	// +optional
	When Expression `json:"when,omitempty"`

	// target says which objects of the incident the step acts on.
	// +optional
	Target TargetKind `json:"target,omitempty"`

	// onNoTargets says what follows when there are none. Empty means 'Fail': a step
	// that did nothing must not look like one that did.
	// +optional
	// +kubebuilder:default=Fail
	OnNoTargets NoTargetsPolicy `json:"onNoTargets,omitempty"`

	// parallel names a group: neighbouring steps of one group run at the same time.
	// Empty means alone.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Parallel string `json:"parallel,omitempty"`

	// timeout is how long the step may take, but for approve, task, verify and wait,
	// which have their own. Empty means 5m.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="`timeout` must be from '1s' to '24h'"
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// retry says how often and how fast a failed effect is tried again.
	// +optional
	// +kubebuilder:default={}
	Retry Retry `json:"retry,omitzero"`

	// onFailure says what follows when the step fails. Empty means 'Escalate'.
	// +optional
	// +kubebuilder:default=Escalate
	OnFailure FailurePolicy `json:"onFailure,omitempty"`

	// instructions tell a person what to do when the step fails.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Instructions string `json:"instructions,omitempty"`

	// collect preserves evidence of the targets. Rights: get on pods, their owners and
	// pods/log; list on events and networkpolicies.
	// +optional
	Collect *CollectAction `json:"collect,omitempty"`

	// isolate cuts the network of the target pods. It can be undone. Rights: get and
	// patch pods; get, list, create, patch and delete networkpolicies; get the pods' owners.
	// +optional
	Isolate *IsolateAction `json:"isolate,omitempty"`

	// delete deletes the targets. It cannot be undone. Rights: get and delete on them.
	// +optional
	Delete *DeleteAction `json:"delete,omitempty"`

	// approve waits until people have approved what comes next.
	// +optional
	Approve *ApproveAction `json:"approve,omitempty"`

	// task asks a person to do something by hand.
	// +optional
	Task *TaskAction `json:"task,omitempty"`

	// verify waits until a condition holds. Rights: get on the targets.
	// +optional
	Verify *VerifyAction `json:"verify,omitempty"`

	// wait lets time pass.
	// +optional
	Wait *WaitAction `json:"wait,omitempty"`

	// revert undoes the effects of earlier steps, with the rights of their actions.
	// +optional
	Revert *RevertAction `json:"revert,omitempty"`
}

// PlaybookPhase holds the steps of one phase.
type PlaybookPhase struct {
	// steps are done in order; neighbours of one parallel group at the same time.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Steps []PlaybookStep `json:"steps,omitempty"`
}

// ProtectedNamespace is the name of a namespace.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
type ProtectedNamespace string

// PlaybookLimits bound what a playbook does without a person. What is beyond waits
// for approval. They count for each submitter and rule, so that forged alerts cannot
// use up what real ones need; a Critical incident may use half as much again.
type PlaybookLimits struct {
	// maxTargets is on how many objects of one incident a step acts. Empty means 10.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	// +kubebuilder:default=10
	MaxTargets int32 `json:"maxTargets,omitempty"`

	// maxRunsPerHour is for how many incidents an hour the playbook runs. Empty means 60.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +kubebuilder:default=60
	MaxRunsPerHour int32 `json:"maxRunsPerHour,omitempty"`

	// allowProtected names protected namespaces in which the playbook may act without
	// an approval. Empty means none.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	AllowProtected []ProtectedNamespace `json:"allowProtected,omitempty"`
}

// ResponsePlaybookSpec says how to answer (ISO/IEC 27002:2022, 5.26; OASIS CACAO
// calls it a playbook too).
// +kubebuilder:validation:XValidation:rule="has(self.containment) || has(self.eradication) || has(self.recovery)",message="at least one of `containment`, `eradication` and `recovery` must be set"
type ResponsePlaybookSpec struct {
	// description says in which case the playbook is right, and what it does.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`

	// runbookURL is where people read more.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^https?://`
	RunbookURL string `json:"runbookURL,omitempty"`

	// serviceAccountName is the ServiceAccount of this namespace under which every
	// action runs: the playbook can do what that account can, and nothing else. Who
	// sets it must hold the verb 'impersonate' on it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// limits bound what the playbook does without a person.
	// +optional
	// +kubebuilder:default={}
	Limits PlaybookLimits `json:"limits,omitzero"`

	// containment stops it from spreading.
	// +optional
	Containment PlaybookPhase `json:"containment,omitzero"`

	// eradication removes the cause.
	// +optional
	Eradication PlaybookPhase `json:"eradication,omitzero"`

	// recovery brings back normal operation and verifies it.
	// +optional
	Recovery PlaybookPhase `json:"recovery,omitzero"`
}

// ResponsePlaybookStatus says whether the playbook can be run.
type ResponsePlaybookStatus struct {
	// conditions are Ready: every expression compiles and every step it names exists.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// ResponsePlaybook is a procedure to contain, eradicate and recover. An incident pins
// the text it found; later edits do not touch it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=pb,categories=firebreak
// +kubebuilder:printcolumn:name=ServiceAccount,type=string,JSONPath=`.spec.serviceAccountName`
// +kubebuilder:printcolumn:name=Ready,type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name=Reason,type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Description,type=string,JSONPath=`.spec.description`,priority=1
type ResponsePlaybook struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec says how to answer.
	// +required
	Spec ResponsePlaybookSpec `json:"spec,omitzero"`

	// status says whether the playbook can be run. Only Firebreak writes it.
	// +optional
	Status ResponsePlaybookStatus `json:"status,omitzero"`
}

// ResponsePlaybookList is a list of ResponsePlaybooks.
// +kubebuilder:object:root=true
type ResponsePlaybookList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ResponsePlaybook `json:"items"`
}
