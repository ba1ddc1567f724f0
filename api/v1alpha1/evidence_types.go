package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// EvidenceType is what a piece of evidence is.
// +kubebuilder:validation:Enum=Manifest;Log;Events;Journal;UndoRecord;RetentionJournal
type EvidenceType string

// The types of evidence.
const (
	// EvidenceManifest is the text of objects of the API.
	EvidenceManifest EvidenceType = "Manifest"
	// EvidenceLog is the log of a container.
	EvidenceLog EvidenceType = "Log"
	// EvidenceEvents is the Kubernetes Events about an object.
	EvidenceEvents EvidenceType = "Events"
	// EvidenceJournal is a sealed part of an incident's timeline.
	EvidenceJournal EvidenceType = "Journal"
	// EvidenceUndoRecord is what undoing an effect needs, or sending something again alike,
	// where it is too large for the incident's status. It was kept before the effect was made.
	EvidenceUndoRecord EvidenceType = "UndoRecord"
	// EvidenceRetentionJournal is what was on record about objects whose time was over, by the
	// plan's `retention`. It was kept before they were deleted, and belongs to no incident.
	EvidenceRetentionJournal EvidenceType = "RetentionJournal"
)

// EvidenceTool is what collected it.
type EvidenceTool struct {
	// name of the tool.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// version of the tool.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Version string `json:"version,omitempty"`
}

// EvidenceOrigin shows that the source was working when it was recorded
// (ISO/IEC 27002:2022, 5.28).
type EvidenceOrigin struct {
	// node is the node the pod ran on. Empty when it is about no pod.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node,omitempty"`

	// containerID is the container's ID by its runtime. Empty when it is about no container.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ContainerID string `json:"containerID,omitempty"`

	// imageID is the image's ID by its runtime. Empty when it is about no container.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	ImageID string `json:"imageID,omitempty"`

	// apiServerVersion is the version of the API server it was read from.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	APIServerVersion string `json:"apiServerVersion,omitempty"`
}

// EvidenceSpec is what was preserved, and how. It never changes.
// +kubebuilder:validation:XValidation:rule="has(self.incidentRef) != (self.type == 'RetentionJournal')",message="`incidentRef` must name the incident; only a 'RetentionJournal' has none"
type EvidenceSpec struct {
	// incidentRef is the incident it belongs to. Only a RetentionJournal belongs to none.
	// +optional
	IncidentRef IncidentReference `json:"incidentRef,omitzero"`

	// step is the playbook's step that collected it. Empty when no step did.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Step string `json:"step,omitempty"`

	// type is what it is.
	// +required
	Type EvidenceType `json:"type,omitempty"`

	// resource is the object it is about. Empty when it is about none.
	// +optional
	Resource *ResourceReference `json:"resource,omitempty"`

	// method says how it was collected.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Method string `json:"method,omitempty"`

	// tool is what collected it.
	// +required
	Tool EvidenceTool `json:"tool,omitzero"`

	// collectedTime is when it was collected.
	// +required
	CollectedTime metav1.Time `json:"collectedTime,omitzero"`

	// collectedBy is the identity that read it: the playbook's ServiceAccount. Of a Journal,
	// a RetentionJournal and an UndoRecord it is the manager.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	CollectedBy string `json:"collectedBy,omitempty"`

	// digest is the SHA-256 of the bytes, as 'sha256:' and 64 hexadecimal digits.
	// +required
	// +kubebuilder:validation:MinLength=71
	// +kubebuilder:validation:MaxLength=71
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	Digest string `json:"digest,omitempty"`

	// sizeBytes is how many bytes there are.
	// +required
	// +kubebuilder:validation:Minimum=0
	SizeBytes *int64 `json:"sizeBytes,omitempty"`

	// mediaType is the type of the bytes, such as 'application/json'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=127
	MediaType string `json:"mediaType,omitempty"`

	// redacted are the paths in the objects whose values were left out because they
	// are secret. Empty means that nothing was.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	Redacted []string `json:"redacted,omitempty"`

	// origin shows that the source was working.
	// +optional
	Origin EvidenceOrigin `json:"origin,omitzero"`

	// journal is the part of the timeline that evidence of type Journal holds, or of the one
	// chain of all RetentionJournals of the namespace.
	// +optional
	Journal *JournalRange `json:"journal,omitempty"`
}

// JournalRange is the part of a timeline that a Journal holds.
type JournalRange struct {
	// firstSequence is the sequence of its first entry.
	// +required
	// +kubebuilder:validation:Minimum=1
	FirstSequence int64 `json:"firstSequence,omitempty"`

	// lastSequence is the sequence of its last entry.
	// +required
	// +kubebuilder:validation:Minimum=1
	LastSequence int64 `json:"lastSequence,omitempty"`

	// previous is the hash of the entry before the first.
	// +required
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	Previous string `json:"previous,omitempty"`

	// lastHash is the hash of its last entry.
	// +required
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	LastHash string `json:"lastHash,omitempty"`
}

// EvidenceStatus says where the bytes are.
type EvidenceStatus struct {
	// conditions are Stored: the bytes are in the store under their digest.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// location is the key of the bytes in the store: the UID of the namespace, a
	// slash, and the digest's hexadecimal digits.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Location string `json:"location,omitempty"`
}

// Evidence is one preserved piece of evidence (ISO/IEC 27002:2022, 5.28; ISO/IEC 27037).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=evidence,singular=evidence,shortName=evd,categories=firebreak
// +kubebuilder:printcolumn:name=Incident,type=string,JSONPath=`.spec.incidentRef.name`
// +kubebuilder:printcolumn:name=Type,type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name=Resource,type=string,JSONPath=`.spec.resource.name`
// +kubebuilder:printcolumn:name=Bytes,type=integer,JSONPath=`.spec.sizeBytes`
// +kubebuilder:printcolumn:name=Stored,type=string,JSONPath=`.status.conditions[?(@.type=='Stored')].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Digest,type=string,JSONPath=`.spec.digest`,priority=1
// +kubebuilder:selectablefield:JSONPath=`.spec.incidentRef.name`
// +kubebuilder:selectablefield:JSONPath=`.spec.digest`
type Evidence struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what was preserved. It cannot be changed.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="`spec` must not change: evidence is a record"
	Spec EvidenceSpec `json:"spec,omitzero"`

	// status says where the bytes are. Only Firebreak writes it.
	// +optional
	Status EvidenceStatus `json:"status,omitzero"`
}

// EvidenceList is a list of Evidence.
// +kubebuilder:object:root=true
type EvidenceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Evidence `json:"items"`
}
