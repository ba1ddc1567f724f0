package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ResourceState says what was found when a resource was looked up.
// +kubebuilder:validation:Enum=Present;Gone;Replaced;Unreadable;Detached
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
	// ResourceDetached means that the one event that named it was found not to belong to
	// the incident: no further step acts on it.
	ResourceDetached ResourceState = "Detached"
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

// DetachedEvent is an event that was found not to belong to the incident.
type DetachedEvent struct {
	// name of the SecurityEvent.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// by is the person who decided that.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by,omitempty"`

	// decisionRef is the Decision by which they did.
	// +required
	DecisionRef DecisionReference `json:"decisionRef,omitzero"`

	// time is when it was decided.
	// +required
	Time metav1.Time `json:"time,omitzero"`
}

// IncidentOriginal is the incident of which another is a duplicate.
type IncidentOriginal struct {
	// name of the Incident.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// by is the person who decided that.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by,omitempty"`

	// decisionRef is the Decision by which they did.
	// +required
	DecisionRef DecisionReference `json:"decisionRef,omitzero"`

	// time is when it was decided.
	// +required
	Time metav1.Time `json:"time,omitzero"`

	// takenUpTime is when the other incident was seen to have it among its `duplicates`: from
	// then on the events are the other's. Empty while that is waited for.
	// +optional
	TakenUpTime *metav1.Time `json:"takenUpTime,omitempty"`
}

// IncidentDuplicate is an incident that was found to be a duplicate of this one.
type IncidentDuplicate struct {
	// name of the Incident.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// by is the person who decided that.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by,omitempty"`

	// decisionRef is the Decision by which they did.
	// +required
	DecisionRef DecisionReference `json:"decisionRef,omitzero"`

	// time is when its events and objects were taken up.
	// +required
	Time metav1.Time `json:"time,omitzero"`
}

// IncidentResource is an object the incident is about, as it was found.
type IncidentResource struct {
	ResourceReference `json:",inline"`

	// state is what was found at the first look, with 'Present' the UID is pinned; or
	// 'Detached'.
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

	// unseenTime is since when the object could not be read for a reason that may pass, such
	// as an API server that does not answer. After two minutes the state becomes
	// 'Unreadable'. It is empty once the object was looked at.
	// +optional
	UnseenTime *metav1.Time `json:"unseenTime,omitempty"`

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

// AssetState says whether the incident is about an asset.
// +kubebuilder:validation:Enum=Detached
type AssetState string

// The states of assets.
const (
	// AssetDetached means that the one event that named it was found not to belong to the
	// incident.
	AssetDetached AssetState = "Detached"
)

// IncidentAsset is a thing outside the cluster that the incident is about.
type IncidentAsset struct {
	Asset `json:",inline"`

	// state is 'Detached' when the incident is not about it any more. Empty means that it is.
	// +optional
	State AssetState `json:"state,omitempty"`

	// eventRef is the event that first named it, of which the owner is. Empty when the incident
	// itself did, or a duplicate of it.
	// +optional
	EventRef EventReference `json:"eventRef,omitzero"`
}
