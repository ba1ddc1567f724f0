package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TrafficVerdict says whether traffic is cut.
// +kubebuilder:validation:Enum=Allow;Deny
type TrafficVerdict string

// The verdicts.
const (
	TrafficAllow TrafficVerdict = "Allow"
	TrafficDeny  TrafficVerdict = "Deny"
)

// Inclusion says whether something is taken in.
// +kubebuilder:validation:Enum=Include;Exclude
type Inclusion string

// The inclusions.
const (
	Include Inclusion = "Include"
	Exclude Inclusion = "Exclude"
)

// ObjectDetail says how much of an object is kept as evidence.
// +kubebuilder:validation:Enum=Full;None
type ObjectDetail string

// The details of objects.
const (
	// ObjectsFull keeps the target, its owners and the NetworkPolicies of its namespace, whole.
	ObjectsFull ObjectDetail = "Full"
	// ObjectsNone keeps none.
	ObjectsNone ObjectDetail = "None"
)

// CollectLogs says which container logs are kept.
type CollectLogs struct {
	// tailLines is how many of the last lines of each container are kept. Empty means 5000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +kubebuilder:default=5000
	TailLines int64 `json:"tailLines,omitempty"`

	// previous is about the logs from before the containers' last restart. Empty means 'Include'.
	// +optional
	// +kubebuilder:default=Include
	Previous Inclusion `json:"previous,omitempty"`
}

// CollectAction preserves evidence (ISO/IEC 27002:2022, 5.28).
type CollectAction struct {
	// objects says how much of the objects is kept. Empty means 'Full'.
	// +optional
	// +kubebuilder:default=Full
	Objects ObjectDetail `json:"objects,omitempty"`

	// logs says which container logs are kept. Empty means none.
	// +optional
	Logs *CollectLogs `json:"logs,omitempty"`

	// events are the Kubernetes Events about the target. Empty means 'Include'.
	// +optional
	// +kubebuilder:default=Include
	Events Inclusion `json:"events,omitempty"`
}

// DeleteAction deletes the target.
type DeleteAction struct {
	// gracePeriodSeconds is how long a pod may take to end. Empty means the pod's own.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	GracePeriodSeconds *int64 `json:"gracePeriodSeconds,omitempty"`
}

// DeadlinePolicy says what follows when people do not answer in time.
// +kubebuilder:validation:Enum=Escalate;Abort
type DeadlinePolicy string

// The deadline policies.
const (
	// OtherwiseEscalate says loudly that it is late and goes on waiting.
	OtherwiseEscalate DeadlinePolicy = "Escalate"
	// OtherwiseAbort fails the step.
	OtherwiseAbort DeadlinePolicy = "Abort"
)

// ApproveAction waits until people have approved what comes next.
type ApproveAction struct {
	// role of the plan that they must hold. Empty means that the RBAC verb 'approve'
	// is enough.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Role string `json:"role,omitempty"`

	// count is how many different people must approve; above 1, who promoted the event or retried
	// the step does not count. Empty means 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8
	// +kubebuilder:default=1
	Count int32 `json:"count,omitempty"`

	// message says what to look at before.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`

	// within is how long to wait. Empty means 1h.
	// +optional
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="`within` must be a positive duration such as '30m'"
	Within *metav1.Duration `json:"within,omitempty"`

	// otherwise is what follows. Empty means 'Escalate'.
	// +optional
	// +kubebuilder:default=Escalate
	Otherwise DeadlinePolicy `json:"otherwise,omitempty"`
}

// ChecklistItem is one thing to do.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=256
type ChecklistItem string

// TaskAction asks a person to do something by hand.
type TaskAction struct {
	// role of the plan that who completes it must hold. Empty means that the RBAC verb
	// 'complete-task' is enough.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Role string `json:"role,omitempty"`

	// message says what to do.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`

	// checklist says it in single steps.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Checklist []ChecklistItem `json:"checklist,omitempty"`

	// within is how long it may take. Empty means 24h.
	// +optional
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="`within` must be a positive duration such as '24h'"
	Within *metav1.Duration `json:"within,omitempty"`

	// otherwise is what follows. Empty means 'Escalate'.
	// +optional
	// +kubebuilder:default=Escalate
	Otherwise DeadlinePolicy `json:"otherwise,omitempty"`
}

// VerifyAction waits until a condition holds.
// +kubebuilder:validation:ExactlyOneOf=expression;noEventsFor
// +kubebuilder:validation:XValidation:rule="!has(self.for) || has(self.expression)",message="`for` must not be set without `expression`"
type VerifyAction struct {
	// expression is a CEL expression over `objects`, the list of the targets as they are now
	// without those gone, that yields true when all is well.
	// +optional
	Expression Expression `json:"expression,omitempty"`

	// for is how long the expression must hold without a break. Empty means once.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="`for` must be a duration such as '1m'"
	For *metav1.Duration `json:"for,omitempty"`

	// noEventsFor is how long the incident must have had no event.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="`noEventsFor` must be a positive duration such as '15m'"
	NoEventsFor *metav1.Duration `json:"noEventsFor,omitempty"`

	// within is how long to wait. Empty means 10m.
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="`within` must be a positive duration such as '10m'"
	Within *metav1.Duration `json:"within,omitempty"`
}

// WaitAction lets time pass.
type WaitAction struct {
	// duration is how long.
	// +required
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('720h')",message="`duration` must be more than '0s' and at most '720h'"
	Duration *metav1.Duration `json:"duration,omitempty"`
}

// StepName names a step of the same playbook.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
type StepName string

// RevertAction undoes the effects of earlier steps.
type RevertAction struct {
	// steps to undo, in this order. Empty means all that can be undone, the last first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Steps []StepName `json:"steps,omitempty"`
}
