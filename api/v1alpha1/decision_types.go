package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// SubjectKind is the kind a Decision is about.
// +kubebuilder:validation:Enum=Incident;SecurityEvent;ResponsePlan
type SubjectKind string

// The kinds a Decision can be about.
const (
	SubjectIncident      SubjectKind = "Incident"
	SubjectSecurityEvent SubjectKind = "SecurityEvent"
	SubjectResponsePlan  SubjectKind = "ResponsePlan"
)

// DecisionSubject names what a Decision is about, in the same namespace.
type DecisionSubject struct {
	// kind is the subject's kind.
	// +required
	Kind SubjectKind `json:"kind,omitempty"`

	// name is the subject's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`
}

// DecisionType is what is decided. The RBAC verb needed on the subject is the
// type in kebab-case, such as 'complete-task' on 'incidents'.
// +kubebuilder:validation:Enum=Acknowledge;Confirm;Approve;Reject;CompleteTask;SkipStep;RetryStep;Pause;Resume;SetSeverity;Determine;UsePlaybook;AddResource;DetachEvent;MarkDuplicate;RunAction;Note;Close;Promote;Join;Dismiss;StopAutomation;ResumeAutomation
type DecisionType string

// The types of Decisions on an Incident.
const (
	// DecisionAcknowledge says: I am on it.
	DecisionAcknowledge DecisionType = "Acknowledge"
	// DecisionConfirm says that it is an incident: eradication may begin.
	DecisionConfirm DecisionType = "Confirm"
	// DecisionApprove lets a step go on.
	DecisionApprove DecisionType = "Approve"
	// DecisionReject ends a step that waits for approval: it is not done.
	DecisionReject DecisionType = "Reject"
	// DecisionCompleteTask says that a person has done what a step asks, or what a
	// failed step should have done.
	DecisionCompleteTask DecisionType = "CompleteTask"
	// DecisionSkipStep goes on without a step; the reason waives it.
	DecisionSkipStep DecisionType = "SkipStep"
	// DecisionRetryStep begins a failed step anew.
	DecisionRetryStep DecisionType = "RetryStep"
	// DecisionPause stops the automation of one incident.
	DecisionPause DecisionType = "Pause"
	// DecisionResume lets it go on.
	DecisionResume DecisionType = "Resume"
	// DecisionSetSeverity changes the severity in force.
	DecisionSetSeverity DecisionType = "SetSeverity"
	// DecisionDetermine says what was found about a question on which duties hang.
	DecisionDetermine DecisionType = "Determine"
	// DecisionUsePlaybook pins another playbook, as long as none has had an effect.
	DecisionUsePlaybook DecisionType = "UsePlaybook"
	// DecisionAddResource makes an object one that the incident is about.
	DecisionAddResource DecisionType = "AddResource"
	// DecisionDetachEvent says that an event does not belong to the incident: a person decides
	// about it anew, and no further step acts on what it alone has named.
	DecisionDetachEvent DecisionType = "DetachEvent"
	// DecisionMarkDuplicate says that the incident is about the same as another, which goes on
	// with both: this one does nothing new, and closes by itself.
	DecisionMarkDuplicate DecisionType = "MarkDuplicate"
	// DecisionRunAction runs an action beside the playbook's steps: one of those that its
	// `adHoc` names.
	DecisionRunAction DecisionType = "RunAction"
	// DecisionNote adds the reason to the timeline.
	DecisionNote DecisionType = "Note"
	// DecisionClose closes the incident.
	DecisionClose DecisionType = "Close"
)

// The types of Decisions on a SecurityEvent.
const (
	// DecisionPromote makes the event an incident.
	DecisionPromote DecisionType = "Promote"
	// DecisionJoin makes the event part of an open incident.
	DecisionJoin DecisionType = "Join"
	// DecisionDismiss says that the event is not an incident.
	DecisionDismiss DecisionType = "Dismiss"
)

// The types of Decisions on the ResponsePlan 'default'.
const (
	// DecisionStopAutomation stops the automation of the whole domain at once.
	DecisionStopAutomation DecisionType = "StopAutomation"
	// DecisionResumeAutomation lets it go on.
	DecisionResumeAutomation DecisionType = "ResumeAutomation"
)

// DecisionSpec is what a person decided. It never changes.
// +kubebuilder:validation:XValidation:rule="self.type in ['Promote', 'Join', 'Dismiss'] ? self.subject.kind == 'SecurityEvent' : self.type in ['StopAutomation', 'ResumeAutomation'] ? self.subject.kind == 'ResponsePlan' : self.subject.kind == 'Incident'",message="`subject.kind` must be 'SecurityEvent' for 'Promote', 'Join' and 'Dismiss', 'ResponsePlan' for 'StopAutomation' and 'ResumeAutomation', 'Incident' for all other types"
// +kubebuilder:validation:XValidation:rule="self.subject.kind != 'ResponsePlan' || self.subject.name == 'default'",message="`subject.name` must be 'default' for kind 'ResponsePlan': there is one plan a namespace"
// +kubebuilder:validation:XValidation:rule="self.type in ['Approve', 'Reject', 'CompleteTask', 'SkipStep', 'RetryStep'] ? has(self.step) : !has(self.step)",message="`step` must be set for 'Approve', 'Reject', 'CompleteTask', 'SkipStep' and 'RetryStep', and for no other type"
// +kubebuilder:validation:XValidation:rule="self.type == 'Approve' ? has(self.digest) : !has(self.digest)",message="`digest` must be set for 'Approve' (copy it from the incident's `status.awaiting`), and for no other type"
// +kubebuilder:validation:XValidation:rule="self.type == 'Close' ? has(self.resolution) : !has(self.resolution)",message="`resolution` must be set for 'Close', and for no other type"
// +kubebuilder:validation:XValidation:rule="!has(self.resolution) || self.resolution != 'Duplicate'",message="`resolution` must not be 'Duplicate': a Decision of type 'MarkDuplicate' names the incident that goes on"
// +kubebuilder:validation:XValidation:rule="self.type == 'SetSeverity' ? has(self.severity) : (!has(self.severity) || self.type == 'Promote')",message="`severity` must be set for 'SetSeverity', may be set for 'Promote', and for no other type"
// +kubebuilder:validation:XValidation:rule="self.type == 'Promote' || !has(self.category)",message="`category` must not be set but for 'Promote'"
// +kubebuilder:validation:XValidation:rule="self.type == 'UsePlaybook' ? has(self.playbookRef) : (!has(self.playbookRef) || self.type == 'Promote')",message="`playbookRef` must be set for 'UsePlaybook', may be set for 'Promote', and for no other type"
// +kubebuilder:validation:XValidation:rule="self.type == 'AddResource' ? has(self.resource) : !has(self.resource)",message="`resource` must be set for 'AddResource', and for no other type"
// +kubebuilder:validation:XValidation:rule="self.type == 'Determine' ? has(self.determination) : !has(self.determination)",message="`determination` must be set for 'Determine', and for no other type"
// +kubebuilder:validation:XValidation:rule="self.type == 'DetachEvent' ? has(self.eventRef) : !has(self.eventRef)",message="`eventRef` must be set for 'DetachEvent', and for no other type"
// +kubebuilder:validation:XValidation:rule="self.type in ['Join', 'MarkDuplicate'] ? has(self.incidentRef) : !has(self.incidentRef)",message="`incidentRef` must be set for 'Join' and 'MarkDuplicate', and for no other type"
// +kubebuilder:validation:XValidation:rule="self.type == 'RunAction' ? has(self.action) : !has(self.action)",message="`action` must be set for 'RunAction', and for no other type"
// +kubebuilder:validation:XValidation:rule="!(self.type in ['Approve', 'Reject', 'SkipStep', 'Determine', 'UsePlaybook', 'AddResource', 'DetachEvent', 'MarkDuplicate', 'RunAction', 'Close', 'Join', 'Dismiss', 'Note', 'StopAutomation']) || has(self.reason)",message="`reason` must say why for 'Approve', 'Reject', 'SkipStep', 'Close', 'Determine', 'UsePlaybook', 'AddResource', 'DetachEvent', 'MarkDuplicate', 'RunAction', 'Join', 'Dismiss', 'Note' and 'StopAutomation'"
type DecisionSpec struct {
	// subject is what the Decision is about.
	// +required
	Subject DecisionSubject `json:"subject,omitzero"`

	// type is what is decided.
	// +required
	Type DecisionType `json:"type,omitempty"`

	// by is the person who decides. It must be the authenticated user.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by,omitempty"`

	// groups are groups of that person that count for the roles of the plan. Each
	// must be a group of the authenticated user. Empty means none.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Groups []string `json:"groups,omitempty"`

	// role is the role of the plan in which the person decides. Empty means in none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Role string `json:"role,omitempty"`

	// reason says why. It is part of the record.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`

	// step is the step of the playbook it is about.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Step string `json:"step,omitempty"`

	// digest is what was shown to the person, from the incident's `status.awaiting`:
	// an approval for something else is refused as stale.
	// +optional
	// +kubebuilder:validation:MinLength=71
	// +kubebuilder:validation:MaxLength=71
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	Digest string `json:"digest,omitempty"`

	// severity is the severity to set.
	// +optional
	Severity Severity `json:"severity,omitempty"`

	// category is the category of the incident that a Promote opens. Empty means 'Other'.
	// +optional
	Category Category `json:"category,omitempty"`

	// playbookRef is the playbook of the incident that a Promote opens; empty means that
	// people answer by hand. For a UsePlaybook it is the playbook to use from now on.
	// +optional
	PlaybookRef PlaybookReference `json:"playbookRef,omitzero"`

	// resource is the object that an AddResource makes one of the incident's.
	// +optional
	Resource ResourceReference `json:"resource,omitzero"`

	// determination is what a Determine has found.
	// +optional
	Determination Determination `json:"determination,omitzero"`

	// eventRef is the event that a DetachEvent takes away from the incident.
	// +optional
	EventRef EventReference `json:"eventRef,omitzero"`

	// incidentRef is the open incident that a Join makes the event part of. For a MarkDuplicate
	// it is the open incident that goes on, of which the subject is a duplicate.
	// +optional
	IncidentRef IncidentReference `json:"incidentRef,omitzero"`

	// action is what a RunAction does: a step as in a playbook, with exactly one action,
	// such as {"target": "Pods", "collect": {}}. Its name is given by Firebreak. What must
	// not be is refused when it is looked at.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Action *runtime.RawExtension `json:"action,omitempty"`

	// resolution is how the incident ended. It must not be 'Duplicate'.
	// +optional
	Resolution Resolution `json:"resolution,omitempty"`
}

// DecisionStatus says whether the Decision was accepted.
type DecisionStatus struct {
	// conditions are Accepted; while it is absent nobody has looked yet.
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

// Decision is what a person decided about an incident, an event or the plan. It
// is created, never edited (ISO/IEC 27002:2022, 5.24 to 5.26).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=dec,categories=firebreak
// +kubebuilder:printcolumn:name=Type,type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name=Subject,type=string,JSONPath=`.spec.subject.name`
// +kubebuilder:printcolumn:name=Step,type=string,JSONPath=`.spec.step`
// +kubebuilder:printcolumn:name=By,type=string,JSONPath=`.spec.by`
// +kubebuilder:printcolumn:name=Accepted,type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].status`
// +kubebuilder:printcolumn:name=Answer,type=string,JSONPath=`.status.conditions[?(@.type=='Accepted')].reason`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Reason,type=string,JSONPath=`.spec.reason`,priority=1
// +kubebuilder:selectablefield:JSONPath=`.spec.subject.name`
// +kubebuilder:selectablefield:JSONPath=`.spec.type`
type Decision struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what was decided. It cannot be changed.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="`spec` must not change: a Decision is a record; create another"
	Spec DecisionSpec `json:"spec,omitzero"`

	// status says whether it was accepted. Only Firebreak writes it.
	// +optional
	Status DecisionStatus `json:"status,omitzero"`
}

// DecisionList is a list of Decisions.
// +kubebuilder:object:root=true
type DecisionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Decision `json:"items"`
}
