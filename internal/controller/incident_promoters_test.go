package controller

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// TestPromoters: who has promoted or joined an event is known as long as the Decision is
// there, whatever the event says of itself by now.
func TestPromoters(t *testing.T) {
	namespace := newDomain(t)
	mgr := newManager(t, namespace)
	if err := AddIndexes(t.Context(), mgr.GetFieldIndexer()); err != nil {
		t.Fatal(err)
	}
	start(t, mgr)
	for i, one := range []struct {
		event, by string
		decides   v1alpha1.DecisionType
		refused   bool
	}{
		{"opener", "ann", v1alpha1.DecisionPromote, false},
		{"detached", "bob", v1alpha1.DecisionPromote, false},
		{"joined", "cem", v1alpha1.DecisionJoin, false},
		{"joined", "ann", v1alpha1.DecisionJoin, false},
		{"joined", "dee", v1alpha1.DecisionDismiss, false},
		{"joined", "eve", v1alpha1.DecisionPromote, true},
		{"elsewhere", "fay", v1alpha1.DecisionPromote, false},
		{"of-duplicate", "gus", v1alpha1.DecisionPromote, false},
		{"of-its-duplicate", "hal", v1alpha1.DecisionJoin, false},
		{"opened-duplicate", "ida", v1alpha1.DecisionPromote, false},
	} {
		decision := decisionAbout(shellEvent(namespace, one.event, "cart"), fmt.Sprint("decision-", i), one.decides)
		decision.Spec.By = one.by
		if one.decides == v1alpha1.DecisionJoin {
			decision.Spec.IncidentRef.Name = "inc"
		}
		mustCreate(t, decision)
		if one.refused {
			meta.SetStatusCondition(&decision.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: "NotInRole"})
			if err := testClient.Status().Update(t.Context(), decision); err != nil {
				t.Fatal(err)
			}
		}
	}
	createDuplicate(t, namespace)
	run := &incidentRun{IncidentReconciler: &IncidentReconciler{Client: mgr.GetClient()}, incident: &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "inc"},
		Spec:       v1alpha1.IncidentSpec{EventRefs: []v1alpha1.EventReference{{Name: "opener"}}},
		Status:     v1alpha1.IncidentStatus{DetachedEvents: []v1alpha1.DetachedEvent{{Name: "detached"}}, Duplicates: duplicatesNamed("inc-dup")},
	}}
	in := lifecycle.Input{
		Events:    []v1alpha1.SecurityEvent{*shellEvent(namespace, "joined", "cart")},
		Decisions: []v1alpha1.Decision{{Spec: v1alpha1.DecisionSpec{Type: v1alpha1.DecisionApprove}}},
	}
	eventually(t, func(ctx context.Context) string {
		in.Promoters = nil
		if err := run.gatherPromoters(ctx, &in); err != nil {
			return err.Error()
		}
		return cmp.Diff([]string{"ann", "bob", "cem", "gus", "hal", "ida"}, in.Promoters)
	})
}

func duplicatesNamed(names ...string) []v1alpha1.IncidentDuplicate {
	var duplicates []v1alpha1.IncidentDuplicate
	for _, name := range names {
		duplicates = append(duplicates, v1alpha1.IncidentDuplicate{Name: name, By: "kim", DecisionRef: v1alpha1.DecisionReference{Name: "mark"}, Time: metav1.Now()})
	}
	return duplicates
}

// createDuplicate creates an incident that has a duplicate itself, and events of both.
func createDuplicate(t *testing.T, namespace string) {
	t.Helper()
	for event, incident := range map[string]string{"of-duplicate": "inc-dup", "of-its-duplicate": "inc-dup-dup", "elsewhere": "inc-other"} {
		stored := shellEvent(namespace, event, "cart")
		mustCreate(t, stored)
		stored.Status.IncidentRef.Name = incident
		if err := testClient.Status().Update(t.Context(), stored); err != nil {
			t.Fatal(err)
		}
	}
	mustCreate(t, &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Name: "inc-dup", Namespace: namespace},
		Spec: v1alpha1.IncidentSpec{Title: "Declared", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryOther,
			EventRefs: []v1alpha1.EventReference{{Name: "opened-duplicate"}}},
	})
	setIncident(t, namespace, "inc-dup", func(status *v1alpha1.IncidentStatus) {
		inPhase(v1alpha1.PhaseContainment)(status)
		status.Duplicates = duplicatesNamed("inc-dup-dup", "inc") // a circle ends, and one may be gone
	})
}
