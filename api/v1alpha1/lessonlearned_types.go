package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// LessonText is one finding of a review.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=512
type LessonText string

// ControlReference names a control of ISO/IEC 27001:2022 Annex A, such as 'A.8.16'.
// +kubebuilder:validation:MinLength=5
// +kubebuilder:validation:MaxLength=6
// +kubebuilder:validation:Pattern=`^A\.[5-8]\.[0-9]{1,2}$`
type ControlReference string

// RootCause is why it could happen.
type RootCause struct {
	// category is a word for it, such as 'Misconfiguration'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Category string `json:"category,omitempty"`

	// description says it in full.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Description string `json:"description,omitempty"`
}

// LessonLearnedSpec is what people learned (ISO/IEC 27002:2022, 5.27). Firebreak
// drafts it; people fill it in.
type LessonLearnedSpec struct {
	// incidentRefs are the incidents it was learned from.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	IncidentRefs []IncidentReference `json:"incidentRefs,omitempty"`

	// summary says what happened and what was done.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Summary string `json:"summary,omitempty"`

	// rootCause is why it could happen. Empty means not found yet.
	// +optional
	RootCause RootCause `json:"rootCause,omitzero"`

	// contributingControls are the controls that failed or were missing.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	ContributingControls []ControlReference `json:"contributingControls,omitempty"`

	// wentWell is what worked.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	WentWell []LessonText `json:"wentWell,omitempty"`

	// wentWrong is what did not.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	WentWrong []LessonText `json:"wentWrong,omitempty"`

	// lucky is what went well without anyone's merit.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Lucky []LessonText `json:"lucky,omitempty"`

	// tlp is the marking of the lesson. Empty means 'Amber'.
	// +optional
	// +kubebuilder:default=Amber
	TLP TLP `json:"tlp,omitempty"`
}

// LessonMeasures are what the response took, from the incidents' records.
type LessonMeasures struct {
	// timeToAcknowledge is from the first record (times.awareTime) until a person took it on. Empty means nobody did.
	// +optional
	TimeToAcknowledge *metav1.Duration `json:"timeToAcknowledge,omitempty"`

	// timeToContain is from the first record until it was contained. Empty means that it was not.
	// +optional
	TimeToContain *metav1.Duration `json:"timeToContain,omitempty"`

	// timeToRecover is from the first record until recovery was verified. Empty means that it was not.
	// +optional
	TimeToRecover *metav1.Duration `json:"timeToRecover,omitempty"`

	// events is how often the events of the incidents were seen.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Events int64 `json:"events,omitempty"`

	// targets is how many objects the incidents were about.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Targets int64 `json:"targets,omitempty"`
}

// LessonLearnedStatus is what Firebreak knows beside what people wrote.
type LessonLearnedStatus struct {
	// conditions are Measured: the measures were taken from the incidents' records.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// measures are what the response took. With several incidents the longest times
	// and the sums. Drills and duplicates are not in them.
	// +optional
	Measures LessonMeasures `json:"measures,omitzero"`
}

// LessonLearned is what was learned from incidents.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=lessonslearned,singular=lessonlearned,shortName=lesson,categories=firebreak
// +kubebuilder:printcolumn:name=Incident,type=string,JSONPath=`.spec.incidentRefs[0].name`
// +kubebuilder:printcolumn:name=Contained,type=string,JSONPath=`.status.measures.timeToContain`
// +kubebuilder:printcolumn:name=Recovered,type=string,JSONPath=`.status.measures.timeToRecover`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Summary,type=string,JSONPath=`.spec.summary`,priority=1
type LessonLearned struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what people learned.
	// +required
	Spec LessonLearnedSpec `json:"spec,omitzero"`

	// status is what Firebreak knows beside it. Only Firebreak writes it.
	// +optional
	Status LessonLearnedStatus `json:"status,omitzero"`
}

// LessonLearnedList is a list of LessonsLearned.
// +kubebuilder:object:root=true
type LessonLearnedList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []LessonLearned `json:"items"`
}
