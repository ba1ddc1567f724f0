package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// toldIn gives the Kubernetes Events of a namespace, the oldest first.
func toldIn(t *testing.T, namespace string) []eventsv1.Event {
	t.Helper()
	list := &eventsv1.EventList{}
	if err := testClient.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	return list.Items
}

// wantTold holds the Events about one object, as 'Type Reason note'.
func wantTold(t *testing.T, about client.Object, want ...string) {
	t.Helper()
	var got []string
	for _, one := range toldIn(t, about.GetNamespace()) {
		if one.Regarding.UID == about.GetUID() {
			got = append(got, fmt.Sprintf("%s %s %s", one.Type, one.Reason, one.Note))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Kubernetes Events (-want +got):\n%s", diff)
	}
}

// TestPolicyTellsWhetherItCompiles: each change is told once, also over a restart.
func TestPolicyTellsWhetherItCompiles(t *testing.T) {
	namespace := newDomain(t)
	first := startAssessor(t, namespace, nil)
	policy := shellPolicy(namespace)
	mustCreate(t, policy)
	awaitReady(t, policy, metav1.ConditionTrue, "2 rules are in force")
	editMatch(t, policy, `event.sorce.rule == "x"`)
	awaitReady(t, policy, metav1.ConditionFalse, "generation 1 stays in force")
	problem := meta.FindStatusCondition(policy.Status.Conditions, v1alpha1.ConditionReady).Message
	first.stop()
	startAssessor(t, namespace, nil)
	noise := shellEvent(namespace, "noise", "cart-1")
	noise.Spec.Source.Rule = "Noise"
	mustCreate(t, noise)
	awaitAssessment(t, noise, v1alpha1.OutcomeDismissed)
	wantTold(t, policy, "Warning ExpressionError "+problem)
	editMatch(t, policy, `event.source.?rule.orValue("") == "x"`)
	awaitReady(t, policy, metav1.ConditionTrue, "2 rules are in force")
	wantTold(t, policy, "Warning ExpressionError "+problem,
		"Normal Compiled Ready is true again (Compiled); before it was ExpressionError: "+problem)
}

// TestPolicyTellsNothingOfItsNamespace: a policy that came before its namespace was a response
// domain compiles for the first time, not again.
func TestPolicyTellsNothingOfItsNamespace(t *testing.T) {
	namespace := newNamespace(t, nil)
	startAssessor(t, namespace, nil)
	policy := shellPolicy(namespace)
	mustCreate(t, policy)
	awaitReady(t, policy, metav1.ConditionFalse, "not a response domain")
	labelDomain(t, namespace, `""`)
	awaitReady(t, policy, metav1.ConditionTrue, "2 rules are in force")
	wantTold(t, policy)
}

// TestTellChange: what is told follows from what a condition was and is, and is told once.
func TestTellChange(t *testing.T) {
	namespace := newDomain(t)
	event := shellEvent(namespace, "any", "cart-1")
	mustCreate(t, event)
	condition := func(status metav1.ConditionStatus, reason, message string) *metav1.Condition {
		return &metav1.Condition{Type: v1alpha1.ConditionSourcesHeard, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(noon)}
	}
	heard, one, both := condition(metav1.ConditionTrue, "AllHeard", ""), condition(metav1.ConditionFalse, "SourceSilent", "falco"), condition(metav1.ConditionFalse, "SourceSilent", "falco and trivy")
	more := condition(metav1.ConditionTrue, "AllHeard", "more")
	for at, change := range [][2]*metav1.Condition{{nil, heard}, {heard, one}, {heard, one}, {one, one}, {one, both}, {both, one}, {one, heard}, {heard, more}} {
		what := told{kind: kindSecurityEvent, namespace: namespace, name: event.Name, uid: event.UID, action: "Listen", at: noon.Add(time.Duration(at) * time.Second)}
		if err := tellChange(t.Context(), testClient, what, change[0], *change[1]); err != nil {
			t.Fatal(err)
		}
	}
	wantTold(t, event, "Warning SourceSilent falco", "Warning SourceSilent falco and trivy", "Warning SourceSilent falco",
		"Normal AllHeard SourcesHeard is true again (AllHeard); before it was SourceSilent: falco")
}
