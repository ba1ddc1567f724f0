package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ResponsePlanName is the only name a ResponsePlan can have: there is one a namespace.
const ResponsePlanName = "default"

// ResponseMode says whether playbooks run.
// +kubebuilder:validation:Enum=Enforce;DryRun;Paused
type ResponseMode string

// The response modes.
const (
	// ResponseEnforce lets playbooks run.
	ResponseEnforce ResponseMode = "Enforce"
	// ResponseDryRun makes every write of every playbook a server-side dry run.
	ResponseDryRun ResponseMode = "DryRun"
	// ResponsePaused stops them at once; what is isolated stays isolated.
	ResponsePaused ResponseMode = "Paused"
)

// RoleSubjectKind is the kind of a subject of a role.
// +kubebuilder:validation:Enum=User;Group
type RoleSubjectKind string

// The kinds of role subjects.
const (
	RoleSubjectUser  RoleSubjectKind = "User"
	RoleSubjectGroup RoleSubjectKind = "Group"
)

// RoleSubject is who holds a role.
type RoleSubject struct {
	// kind says whether name is a user or a group of Kubernetes.
	// +required
	Kind RoleSubjectKind `json:"kind,omitempty"`

	// name of the user or group.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// ChannelName is a channel's name.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
type ChannelName string

// RoleName is a role's name.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
type RoleName string

// ChannelSecretReference names the value of a Secret of the plan's namespace that holds a
// channel's URL. It is read as the plan's ServiceAccount.
type ChannelSecretReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`

	// key in the Secret's data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// PlanChannel is one way to reach people: a chat, a pager, a mailbox or a webhook.
type PlanChannel struct {
	// name of the channel.
	// +required
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name ChannelName `json:"name,omitempty"`

	// urlSecretKeyRef is where its URL is. It must be a shoutrrr URL that begins with
	// 'generic://' (any webhook), 'slack://', 'teams://', 'pagerduty://', 'opsgenie://' or
	// 'smtp://', and lead to a host that the manager's `--egress-allow` names.
	// +required
	URLSecretKeyRef ChannelSecretReference `json:"urlSecretKeyRef,omitzero"`

	// tlp is the strictest marking that the channel may carry: a message about an incident
	// that is marked more strictly is refused. The strictest is 'Red', then come
	// 'AmberStrict', 'Amber', 'Green' and 'Clear'.
	// +required
	TLP TLP `json:"tlp,omitempty"`
}

// PlanRole is a role of the response organisation (ISO/IEC 27002:2022, 5.24).
type PlanRole struct {
	// name of the role, such as 'IncidentManager'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z][A-Za-z0-9-]*$`
	Name string `json:"name,omitempty"`

	// subjects are who holds it.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Subjects []RoleSubject `json:"subjects,omitempty"`

	// channels are where they are told: names of the plan's `channels`. Empty means nowhere.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Channels []ChannelName `json:"channels,omitempty"`
}

// PlanLessons says when a lesson must be recorded (ISO/IEC 27002:2022, 5.27).
type PlanLessons struct {
	// requiredFrom is the severity from which an incident cannot be closed without a
	// LessonLearned. Empty means 'High'.
	// +optional
	// +kubebuilder:default=High
	RequiredFrom Severity `json:"requiredFrom,omitempty"`
}

// ResponsePlanSpec is how a domain prepares (ISO/IEC 27002:2022, 5.24). Everything is
// optional.
// +kubebuilder:validation:XValidation:rule="!has(self.roles) || self.roles.all(r, !has(r.channels) || r.channels.all(c, has(self.channels) && self.channels.exists(x, x.name == c)))",message="`roles[].channels` must be names of `channels`"
// +kubebuilder:validation:XValidation:rule="!has(self.channels) || has(self.serviceAccountName)",message="`serviceAccountName` must be set with `channels`: their Secrets are read as it"
type ResponsePlanSpec struct {
	// serviceAccountName is the ServiceAccount of this namespace by which Firebreak
	// reads pods and their owners while it assesses events, and the Secrets of `channels`.
	// Who sets it must hold the verb 'impersonate' on it. Empty means that owners are not
	// looked up, and `event.workload` is the resource's own name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// response says whether playbooks run, also those that run already. 'DryRun' only
	// tries: what was done before stays, and is neither undone nor made again. Empty means
	// 'Enforce'.
	// +optional
	// +kubebuilder:default=Enforce
	Response ResponseMode `json:"response,omitempty"`

	// roles are who does what.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Roles []PlanRole `json:"roles,omitempty"`

	// channels are where people are told, by the action 'notify'. No address ever comes
	// from an event.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Channels []PlanChannel `json:"channels,omitempty"`

	// lessons says when a lesson must be recorded.
	// +optional
	Lessons PlanLessons `json:"lessons,omitzero"`

	// objectives are how fast people mean to answer.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Objectives []PlanObjective `json:"objectives,omitempty"`

	// expectedSources are the products that must not fall silent. The condition SourcesHeard
	// says whether one has.
	// +optional
	// +listType=map
	// +listMapKey=product
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	ExpectedSources []ExpectedSource `json:"expectedSources,omitempty"`

	// retention is what is deleted after which time. Empty means that nothing is.
	// +optional
	Retention PlanRetention `json:"retention,omitzero"`
}

// ResponsePlanStatus says whether the domain is guarded, and its sources are heard.
type ResponsePlanStatus struct {
	// conditions are Ready (the plan is in force), AutomationStopped (a Decision has
	// stopped the domain's automation), Guarded (a forged Decision was refused
	// within the last minute) and SourcesHeard (none of `expectedSources` is silent).
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// sources are when the expected sources were last heard. Receivers write it.
	// +optional
	// +listType=map
	// +listMapKey=product
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Sources []SourceHeard `json:"sources,omitempty"`

	// retention is where the journals of what the plan's `retention` has deleted end. Empty means
	// that nothing was deleted.
	// +optional
	Retention RetentionHead `json:"retention,omitzero"`
}

// RetentionHead is where the one chain of all RetentionJournals of a namespace ends. It is written
// before anything that the last one names is deleted: should that be taken away, this still tells.
type RetentionHead struct {
	// sequence is the sequence of the last removal in the last journal: so many there were.
	// +required
	// +kubebuilder:validation:Minimum=1
	Sequence int64 `json:"sequence,omitempty"`

	// hash is the hash of that removal, the `journal.lastHash` of its Evidence.
	// +required
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	Hash string `json:"hash,omitempty"`
}

// ResponsePlan is how one response domain prepares for incidents.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=plan,categories=firebreak
// +kubebuilder:printcolumn:name=Response,type=string,JSONPath=`.spec.response`
// +kubebuilder:printcolumn:name=Ready,type=string,JSONPath=`.status.conditions[?(@.type=='Ready')].status`
// +kubebuilder:printcolumn:name=Guarded,type=string,JSONPath=`.status.conditions[?(@.type=='Guarded')].status`
// +kubebuilder:printcolumn:name=Heard,type=string,JSONPath=`.status.conditions[?(@.type=='SourcesHeard')].status`
// +kubebuilder:printcolumn:name=Stopped,type=string,JSONPath=`.status.conditions[?(@.type=='AutomationStopped')].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="`metadata.name` must be 'default': there is one plan a namespace"
type ResponsePlan struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata. The name must be 'default'.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is how the domain prepares.
	// +optional
	Spec ResponsePlanSpec `json:"spec,omitzero"`

	// status says whether the domain is guarded, and its sources are heard. Only Firebreak
	// writes it.
	// +optional
	Status ResponsePlanStatus `json:"status,omitzero"`
}

// ResponsePlanList is a list of ResponsePlans.
// +kubebuilder:object:root=true
type ResponsePlanList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ResponsePlan `json:"items"`
}
