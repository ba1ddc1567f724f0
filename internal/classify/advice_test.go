package classify

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestAdvice: whoever reports something is told what to do now, and nobody else.
func TestAdvice(t *testing.T) {
	status := func(outcome v1alpha1.AssessmentOutcome, incident string) v1alpha1.SecurityEventStatus {
		return v1alpha1.SecurityEventStatus{Assessment: v1alpha1.Assessment{Outcome: outcome}, IncidentRef: v1alpha1.IncidentReference{Name: incident}}
	}
	long := "inc-" + strings.Repeat("x", 249)
	for name, test := range map[string]struct {
		kind   v1alpha1.SourceKind
		mode   v1alpha1.Mode
		status v1alpha1.SecurityEventStatus
		want   []string
	}{
		"an alert":      {v1alpha1.SourceAutomatic, v1alpha1.ModeLive, status(v1alpha1.OutcomePromoted, "inc-1"), nil},
		"not looked at": {v1alpha1.SourceHuman, v1alpha1.ModeLive, status("", ""), []string{"Write down at once", "Wait until"}},
		"deferred":      {v1alpha1.SourceHuman, v1alpha1.ModeLive, status(v1alpha1.OutcomeDeferred, ""), []string{"Write down at once", "may destroy evidence"}},
		"promoted":      {v1alpha1.SourceHuman, v1alpha1.ModeLive, status(v1alpha1.OutcomePromoted, "inc-1"), []string{"Incident inc-1 deals with it", "report that too"}},
		"joined":        {v1alpha1.SourceHuman, v1alpha1.ModeLive, status(v1alpha1.OutcomeJoined, long), []string{"Incident " + long + " deals with it"}},
		"dismissed":     {v1alpha1.SourceHuman, v1alpha1.ModeLive, status(v1alpha1.OutcomeDismissed, ""), []string{"nothing more needs to be done", "report that too"}},
		"where nobody looks": {v1alpha1.SourceHuman, v1alpha1.ModeLive, v1alpha1.SecurityEventStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionAssessed, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotADomain},
		}}, []string{"Nobody looks at what is reported in namespace office"}},
		"of an exercise": {v1alpha1.SourceHuman, v1alpha1.ModeDrill, status(v1alpha1.OutcomeDeferred, ""), []string{"This is a drill. Write down"}},
	} {
		got := Advice(&v1alpha1.SecurityEvent{ObjectMeta: metav1.ObjectMeta{Namespace: "office"}, Spec: v1alpha1.SecurityEventSpec{Source: v1alpha1.EventSource{Kind: test.kind}, Mode: test.mode}, Status: test.status})
		if len(test.want) == 0 && got != "" || len(got) > 1024 {
			t.Errorf("%s: advice %q", name, got)
		}
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: advice %q, want %q in it", name, got, want)
			}
		}
	}
}
