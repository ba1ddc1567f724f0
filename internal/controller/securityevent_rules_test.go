package controller

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestSeverityIsWorkedOut(t *testing.T) {
	namespace := newDomain(t)
	startAssessor(t, namespace, nil)
	policy := shellPolicy(namespace)
	policy.Spec.Rules[1].Incident.SeverityExpression = `event.workload == "cart-1" ? "Medium" : "Grave"`
	mustCreate(t, policy)

	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	got := awaitAssessment(t, event, v1alpha1.OutcomePromoted)
	incident := &v1alpha1.Incident{}
	key := client.ObjectKey{Namespace: namespace, Name: got.Status.IncidentRef.Name}
	if err := testClient.Get(t.Context(), key, incident); err != nil || incident.Spec.Severity != v1alpha1.SeverityMedium {
		t.Errorf("got severity %q (%v), want Medium", incident.Spec.Severity, err)
	}

	other := shellEvent(namespace, "other", "cart-2")
	mustCreate(t, other)
	got = awaitAssessment(t, other, v1alpha1.OutcomeDeferred)
	if a := got.Status.Assessment; a.Reason != v1alpha1.ReasonRuleError || !strings.Contains(a.Message, "but yields 'Grave'") {
		t.Errorf("got %+v, want a RuleError that says what was yielded", a)
	}
}
