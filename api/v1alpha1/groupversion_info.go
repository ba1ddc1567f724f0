// Package v1alpha1 holds the kinds of firebreak.dev/v1alpha1: security events, the
// policies that classify them, the incidents they become, the playbooks and plans
// that answer, and the decisions, evidence and lessons that remain.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +groupName=firebreak.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of every kind of Firebreak.
const GroupName = "firebreak.dev"

var (
	// SchemeGroupVersion is the group and version of the kinds in this package.
	SchemeGroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

	schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds the kinds of this package to a scheme.
	AddToScheme = schemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(SchemeGroupVersion,
		&SecurityEvent{}, &SecurityEventList{},
		&ClassificationPolicy{}, &ClassificationPolicyList{},
		&Incident{}, &IncidentList{},
		&Decision{}, &DecisionList{},
		&ResponsePlaybook{}, &ResponsePlaybookList{},
		&ResponsePlan{}, &ResponsePlanList{},
		&Evidence{}, &EvidenceList{},
		&LessonLearned{}, &LessonLearnedList{},
	)
	metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
	return nil
}
