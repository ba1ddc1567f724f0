package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PlaybookPhase holds the steps of one phase.
type PlaybookPhase struct {
	// within is how long the phase may take; passing it is said on the timeline and in the
	// condition 'Stalled', and stops nothing. Empty means as long as its steps do.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('8760h')",message="`within` must be from '1s' to '8760h', such as '30m'"
	Within *metav1.Duration `json:"within,omitempty"`

	// steps are done in order; neighbours of one parallel group at the same time.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Steps []PlaybookStep `json:"steps,omitempty"`
}

// PlaybookMode says how a playbook writes.
// +kubebuilder:validation:Enum=Enforce;Confirm;DryRun
type PlaybookMode string

// The playbook modes.
const (
	// PlaybookEnforce writes.
	PlaybookEnforce PlaybookMode = "Enforce"
	// PlaybookConfirm waits before each step that writes until a person has approved what
	// would be done.
	PlaybookConfirm PlaybookMode = "Confirm"
	// PlaybookDryRun makes every write a server-side dry run.
	PlaybookDryRun PlaybookMode = "DryRun"
)

// ActionName is the name of an action that people may run beside a playbook.
// +kubebuilder:validation:Enum=collect;isolate;quarantine;scale;suspend;cordon;drain;taint;revokeAccess;blockImage;patch;apply;delete;evict;restart;rollback;job;http;notify;revert
type ActionName string

// ProtectedNamespace is the name of a namespace.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
type ProtectedNamespace string

// PlaybookScope says where a playbook is meant to act.
type PlaybookScope struct {
	// namespaces are those in which the playbook needs its rights. What is in another one
	// waits for an approval. Empty means all of them, and rights in the whole cluster.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Namespaces []ScopeNamespace `json:"namespaces,omitempty"`
}

// ScopeNamespace is the name of a namespace.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
type ScopeNamespace string

// EvidenceLossPolicy says whether evidence may be lost.
// +kubebuilder:validation:Enum=Allow;Deny
type EvidenceLossPolicy string

// The evidence loss policies.
const (
	// EvidenceLossAllow lets a playbook destroy before it collects.
	EvidenceLossAllow EvidenceLossPolicy = "Allow"
	// EvidenceLossDeny keeps such a playbook from being Ready.
	EvidenceLossDeny EvidenceLossPolicy = "Deny"
)

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
	// action runs: the playbook can do what that account can, and nothing else; `kubectl
	// firebreak rbac` prints which rights its steps need. Who sets it must hold the verb
	// 'impersonate' on it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// variables are values for the expressions of all steps, as `variables.<name>`: CEL
	// expressions over `incident`, `resources` and the variables before them. They are
	// evaluated each time they are needed.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Variables []NamedExpression `json:"variables,omitempty"`

	// scope says where the playbook is meant to act.
	// +optional
	Scope PlaybookScope `json:"scope,omitzero"`

	// evidenceLoss says whether the playbook may destroy what it has not collected
	// before. With 'Deny' such a playbook is not Ready. Empty means 'Deny'.
	// +optional
	// +kubebuilder:default=Deny
	EvidenceLoss EvidenceLossPolicy `json:"evidenceLoss,omitempty"`

	// mode says how the playbook writes. 'Confirm' waits before each step that writes until
	// a person has approved it; 'DryRun' only tries: every write is a server-side dry run,
	// `http` and `job` are rendered and not sent, and what would follow from the effects is
	// skipped. Empty means 'Enforce'.
	// +optional
	// +kubebuilder:default=Enforce
	Mode PlaybookMode `json:"mode,omitempty"`

	// adHoc are the actions that a person may run beside the steps, by a RunAction Decision:
	// under the same ServiceAccount and limits, undone and recorded like a step. Empty
	// means none.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	AdHoc []ActionName `json:"adHoc,omitempty"`

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
	// conditions are Ready: it can be run; Authorized: its ServiceAccount holds the rights
	// its steps need (a warning); and Reversible: it undoes what it does (a warning).
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
// +kubebuilder:printcolumn:name=Authorized,type=string,JSONPath=`.status.conditions[?(@.type=='Authorized')].status`
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
