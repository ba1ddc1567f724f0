package controller

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// drillSays begins what is told about a drill; empty for the real thing.
func drillSays(mode v1alpha1.Mode) string {
	if mode == v1alpha1.ModeDrill {
		return "DRILL: "
	}
	return ""
}

// inWords says which mode it is.
func inWords(mode v1alpha1.Mode) string {
	if mode == v1alpha1.ModeDrill {
		return "a drill"
	}
	return "live"
}

// creating are the options by which something of a mode is created. By an older CRD a drill
// must not become the real thing.
func creating(mode v1alpha1.Mode) []client.CreateOption {
	if mode != v1alpha1.ModeDrill {
		return nil
	}
	return []client.CreateOption{client.FieldValidation(metav1.FieldValidationStrict)}
}
