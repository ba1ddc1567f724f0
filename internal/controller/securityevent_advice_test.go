package controller

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestReporterIsAdvised: whoever has reported something reads on it what to do now, which goes
// with what is decided.
func TestReporterIsAdvised(t *testing.T) {
	namespace := newDomain(t)
	startAssessor(t, namespace, nil)
	report := &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Name: "report-1", Namespace: namespace},
		Spec: v1alpha1.SecurityEventSpec{
			Source: v1alpha1.EventSource{Kind: v1alpha1.SourceHuman}, SubmittedBy: "jane", Title: "A laptop was left on a train",
			Severity: v1alpha1.SeverityMedium, ObservedTime: metav1.NewTime(noon), Report: v1alpha1.EventReport{Type: v1alpha1.ReportPhysicalBreach},
		},
	}
	mustCreate(t, report)
	if got := awaitAssessment(t, report, v1alpha1.OutcomeDeferred); !strings.HasPrefix(got.Status.Advice, "Write down at once") {
		t.Errorf("advice %q while it waits for a person", got.Status.Advice)
	}
	mustCreate(t, decisionAbout(report, "promote", v1alpha1.DecisionPromote))
	got := awaitAssessment(t, report, v1alpha1.OutcomePromoted)
	if want := "Incident " + got.Status.IncidentRef.Name + " deals with it."; !strings.HasPrefix(got.Status.Advice, want) {
		t.Errorf("advice %q, want %q", got.Status.Advice, want)
	}
	alert := shellEvent(namespace, "alert", "cart-1")
	mustCreate(t, alert)
	if got := awaitAssessment(t, alert, v1alpha1.OutcomeDeferred); got.Status.Advice != "" {
		t.Errorf("advice %q to an alerting system", got.Status.Advice)
	}
}
