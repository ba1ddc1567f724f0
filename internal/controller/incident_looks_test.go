package controller

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestLookTimes checks that what was looked at just now is not looked at again because
// something else made the incident be read.
func TestLookTimes(t *testing.T) {
	stored, later := metav1.Unix(1000, 0), metav1.Unix(1015, 0)
	incident := func(state v1alpha1.TargetState, next *metav1.Time) *v1alpha1.Incident {
		return &v1alpha1.Incident{Status: v1alpha1.IncidentStatus{Steps: []v1alpha1.IncidentStep{{
			Name: "isolate", Targets: []v1alpha1.StepTarget{{UID: "a", State: state, Undo: "{}", NextTime: next}},
		}}}}
	}
	key := types.NamespacedName{Namespace: "security", Name: "inc"}
	for name, test := range map[string]struct {
		noted, read *v1alpha1.Incident
		want        *metav1.Time
	}{
		"remembered":        {incident(v1alpha1.TargetSucceeded, &later), incident(v1alpha1.TargetSucceeded, &stored), &later},
		"stored is later":   {incident(v1alpha1.TargetSucceeded, &stored), incident(v1alpha1.TargetSucceeded, &later), &later},
		"never written":     {incident(v1alpha1.TargetSucceeded, &later), incident(v1alpha1.TargetSucceeded, nil), &later},
		"in another state":  {incident(v1alpha1.TargetSucceeded, &later), incident(v1alpha1.TargetReverting, &stored), &stored},
		"nothing was noted": {incident(v1alpha1.TargetApplied, &later), incident(v1alpha1.TargetSucceeded, &stored), &stored},
	} {
		t.Run(name, func(t *testing.T) {
			var times lookTimes
			times.note(key, test.noted)
			times.restore(key, test.read)
			if got := test.read.Status.Steps[0].Targets[0].NextTime; !got.Equal(test.want) {
				t.Errorf("looked at again at %v, want %v", got, test.want)
			}
		})
	}
	var times lookTimes
	times.note(key, incident(v1alpha1.TargetSucceeded, &later))
	closed := incident(v1alpha1.TargetSucceeded, &later)
	closed.Status.Phase = v1alpha1.PhaseClosed
	times.note(key, closed)
	read := incident(v1alpha1.TargetSucceeded, &stored)
	times.restore(key, read)
	if got := read.Status.Steps[0].Targets[0].NextTime.Time; !got.Equal(time.Unix(1000, 0)) {
		t.Errorf("a closed incident is remembered: %v", got)
	}
}
