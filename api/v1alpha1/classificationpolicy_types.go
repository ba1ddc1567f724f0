package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// RuleOutcome is what a rule decides about the events it matches.
// +kubebuilder:validation:Enum=Promote;Dismiss;Defer
type RuleOutcome string

// The outcomes of rules.
const (
	RulePromote RuleOutcome = "Promote"
	RuleDismiss RuleOutcome = "Dismiss"
	RuleDefer   RuleOutcome = "Defer"
)

// Expression is a CEL expression in Kubernetes' own dialect.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=2048
type Expression string

// Correlation says which events belong to one incident.
type Correlation struct {
	// by are CEL expressions over `event` that yield text; events of one rule with
	// equal values join the same open incident.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	By []Expression `json:"by,omitempty"`

	// within is how long after an incident was opened events still join it.
	// Empty means 1h. It must be positive.
	// +optional
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="`within` must be a positive duration such as '1h'"
	Within *metav1.Duration `json:"within,omitempty"`
}

// Threshold is how often the same thing must be seen before it matters. The same thing is
// what one submitter reports of one product and rule with one fingerprint.
type Threshold struct {
	// occurrences is how often it must be seen, the first time included. From 2 to 1000000.
	// +required
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=1000000
	Occurrences int32 `json:"occurrences,omitempty"`

	// within is the time within which it must be seen that often, by the reporter's clock
	// and in whole minutes: what is up to a minute further apart may count. From 1m to 24h.
	// Each time an event is seen it waits that long for the rest. Then it is dismissed with
	// the reason 'ThresholdNotReached'. What comes later counts all the same: when the
	// threshold is reached within some such time, the event is promoted. Every full hour the
	// receiver begins a new event of the same thing; what the ones before have counted counts
	// with it.
	// +required
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('24h')",message="`within` must be from '1m' to '24h'"
	Within *metav1.Duration `json:"within,omitempty"`
}

// PlaybookChoice is one playbook and when to choose it.
type PlaybookChoice struct {
	// when is a CEL expression over `event`; the first choice whose expression is
	// true is taken. Empty means always.
	// +optional
	When Expression `json:"when,omitempty"`

	// playbookRef is the playbook to run.
	// +required
	PlaybookRef PlaybookReference `json:"playbookRef,omitzero"`
}

// IncidentTemplate is what an incident opened by a rule looks like.
// +kubebuilder:validation:XValidation:rule="!has(self.severity) || !has(self.severityExpression)",message="`severity` and `severityExpression` must not both be set: one says what the other works out"
type IncidentTemplate struct {
	// title is a CEL expression over `event` that yields the incident's title; what is
	// longer than 256 characters is cut. Empty means the event's title.
	// +optional
	Title Expression `json:"title,omitempty"`

	// severity is the incident's severity. When neither it nor `severityExpression` is set,
	// it is the event's.
	// +optional
	Severity Severity `json:"severity,omitempty"`

	// severityExpression is a CEL expression over `event` that yields the incident's severity:
	// 'Informational', 'Low', 'Medium', 'High' or 'Critical'. Anything else is an error of the
	// rule, and defers the event to a person.
	// +optional
	SeverityExpression Expression `json:"severityExpression,omitempty"`

	// category is the incident's category.
	// +required
	Category Category `json:"category,omitempty"`

	// impact is the effect to assume until a person has looked. Empty means not assessed.
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

	// determinations are what is to be assumed until a person has determined it.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Determinations []Determination `json:"determinations,omitempty"`

	// playbooks are asked in order; the first whose `when` is true runs. When none
	// is, the incident waits for a person.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Playbooks []PlaybookChoice `json:"playbooks,omitempty"`
}

// ClassificationRule decides about the events it matches.
// +kubebuilder:validation:XValidation:rule="self.outcome == 'Promote' ? has(self.incident) : !has(self.incident) && !has(self.correlate) && !has(self.threshold)",message="`incident` must be set when `outcome` is 'Promote', and `incident`, `correlate` and `threshold` must not be set otherwise"
type ClassificationRule struct {
	// name of the rule, unique in the policy; it is recorded with every decision.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// match is a CEL expression over `event` that yields true for the events this rule decides.
	// +required
	Match Expression `json:"match,omitempty"`

	// outcome is what is decided: 'Promote' to an incident, 'Dismiss', or 'Defer' to a person.
	// +required
	Outcome RuleOutcome `json:"outcome,omitempty"`

	// threshold is how often the same thing must be seen before the rule promotes it. Empty
	// means that once is enough.
	// +optional
	Threshold Threshold `json:"threshold,omitzero"`

	// correlate says which events belong to one incident. Empty means that every
	// event opens an incident of its own.
	// +optional
	Correlate Correlation `json:"correlate,omitzero"`

	// incident is what the incident looks like. It must be set when outcome is 'Promote'.
	// +optional
	Incident IncidentTemplate `json:"incident,omitzero"`
}

// ClassificationPolicySpec holds the criteria that turn events into incidents
// (ISO/IEC 27002:2022, 5.25).
type ClassificationPolicySpec struct {
	// priority orders the policies of a namespace: the highest is asked first, equals
	// by name. Empty means 0; from -1000000 to 1000000.
	// +optional
	// +kubebuilder:validation:Minimum=-1000000
	// +kubebuilder:validation:Maximum=1000000
	Priority *int32 `json:"priority,omitempty"`

	// rules are asked in order; the first that matches decides.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Rules []ClassificationRule `json:"rules,omitempty"`
}

// PolicyRevision is where the text of one generation of a policy is kept.
type PolicyRevision struct {
	// generation of the ClassificationPolicy.
	// +required
	// +kubebuilder:validation:Minimum=1
	Generation int64 `json:"generation,omitempty"`

	// revision is the apps/v1 ControllerRevision, owned by the policy, that holds the text.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Revision string `json:"revision,omitempty"`
}

// ClassificationPolicyStatus says whether the policy is in force.
type ClassificationPolicyStatus struct {
	// conditions are Ready: every expression compiles.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// inForce is the generation by which events are assessed: the newest that compiles. Empty
	// while none does.
	// +optional
	InForce PolicyRevision `json:"inForce,omitzero"`

	// revisions are the generations that were in force and whose text is kept, the oldest first,
	// so that what was decided by them can be explained; the last 10.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	Revisions []PolicyRevision `json:"revisions,omitempty"`
}

// ClassificationPolicy holds criteria by which events are assessed.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=cpol,categories=firebreak
// +kubebuilder:printcolumn:name=Priority,type=integer,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name=Ready,type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name=Reason,type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].reason`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=In force,type=integer,JSONPath=`.status.inForce.generation`,priority=1
type ClassificationPolicy struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec holds the criteria.
	// +required
	Spec ClassificationPolicySpec `json:"spec,omitzero"`

	// status says whether the policy is in force. Only Firebreak writes it.
	// +optional
	Status ClassificationPolicyStatus `json:"status,omitzero"`
}

// ClassificationPolicyList is a list of ClassificationPolicies.
// +kubebuilder:object:root=true
type ClassificationPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ClassificationPolicy `json:"items"`
}
