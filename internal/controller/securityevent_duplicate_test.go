package controller

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// takenUpBy writes what the IncidentReconciler writes when one incident goes on with another.
func takenUpBy(original string) func(*v1alpha1.IncidentStatus) {
	return func(status *v1alpha1.IncidentStatus) {
		now := metav1.Now()
		status.Phase = v1alpha1.PhaseContainment
		status.DuplicateOf = v1alpha1.IncidentOriginal{Name: original, By: "kim", DecisionRef: v1alpha1.DecisionReference{Name: "mark"}, Time: now, TakenUpTime: &now}
	}
}

func awaitIncident(t *testing.T, event *v1alpha1.SecurityEvent, name string) *v1alpha1.SecurityEvent {
	t.Helper()
	got := &v1alpha1.SecurityEvent{}
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), got); err != nil {
			return err.Error()
		}
		if now := got.Status.IncidentRef.Name; now != name {
			return fmt.Sprintf("event %s belongs to %q, want %q", event.Name, now, name)
		}
		return ""
	})
	return got
}

// TestEventsOfADuplicate: they belong to the original, and so does what comes later, until
// the original takes up nothing more.
func TestEventsOfADuplicate(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	startAssessor(t, namespace, nil)
	original, last := declared(t, namespace, "original"), declared(t, namespace, "last")
	setIncident(t, namespace, last.Name, inPhase(v1alpha1.PhaseContainment))
	setIncident(t, namespace, original.Name, takenUpBy(last.Name))
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	duplicate := awaitAssessment(t, event, v1alpha1.OutcomePromoted).Status.IncidentRef.Name
	setIncident(t, namespace, duplicate, takenUpBy(original.Name))

	// The original became a duplicate itself: the last one goes on with all.
	got := awaitIncident(t, event, last.Name)
	want := v1alpha1.Assessment{
		Outcome: v1alpha1.OutcomeJoined, Reason: v1alpha1.ReasonDuplicate, By: "kim", DecisionRef: v1alpha1.DecisionReference{Name: "mark"},
		Message:  fmt.Sprintf("incident %s is a duplicate of incident last, by kim", duplicate),
		Policy:   got.Status.EarlierAssessments[0].Policy,
		Rule:     "shell-in-container",
		Workload: got.Status.EarlierAssessments[0].Workload, Time: got.Status.Assessment.Time,
	}
	if diff := cmp.Diff(want, got.Status.Assessment); diff != "" || len(got.Status.EarlierAssessments) != 1 {
		t.Errorf("%d earlier assessments, and this one (-want +got):\n%s", len(got.Status.EarlierAssessments), diff)
	}
	later := shellEvent(namespace, "later", "cart-1")
	mustCreate(t, later)
	awaitAssessment(t, later, v1alpha1.OutcomeJoined)
	awaitIncident(t, later, last.Name)

	strange := shellEvent(namespace, "strange", "cart-2")
	strange.Spec.Source.Rule = "Strange"
	mustCreate(t, strange)
	awaitAssessment(t, strange, v1alpha1.OutcomeDeferred)
	join := decisionAbout(strange, "join", v1alpha1.DecisionJoin)
	join.Spec.IncidentRef.Name = duplicate
	mustCreate(t, join)
	if got := awaitAnswer(t, join); got != "False Duplicate" {
		t.Errorf("got %q for joining an event to a duplicate", got)
	}

	setIncident(t, namespace, last.Name, func(status *v1alpha1.IncidentStatus) {
		status.Phase, status.Resolution = v1alpha1.PhaseClosed, v1alpha1.ResolutionResolved
		status.Resources = []v1alpha1.IncidentResource{{ResourceReference: event.Spec.Resources[0]}}
	})
	tooLate := shellEvent(namespace, "too-late", "cart-1")
	mustCreate(t, tooLate)
	next := getIncident(t, namespace, awaitAssessment(t, tooLate, v1alpha1.OutcomePromoted).Status.IncidentRef.Name)
	if next.Labels[v1alpha1.LabelCorrelationSequence] != "2" {
		t.Errorf("got the incident %+v, want the second of its key", next)
	}
	repeat(t, event, 1)
	awaitIncident(t, event, next.Name)
}

// TestBroughtBy: who promoted an event of a duplicate must not approve for the original.
func TestBroughtBy(t *testing.T) {
	by := func(person, reason string) v1alpha1.Assessment {
		assessment := v1alpha1.Assessment{By: person, Reason: reason}
		if person != "manager" {
			assessment.DecisionRef.Name = "decision"
		}
		return assessment
	}
	for name, test := range map[string]struct {
		history []v1alpha1.Assessment // the last is in force
		want    []string
	}{
		"by a rule":                     {[]v1alpha1.Assessment{by("manager", v1alpha1.ReasonRuleMatched)}, nil},
		"by a person":                   {[]v1alpha1.Assessment{by("manager", v1alpha1.ReasonNoRuleMatched), by("jane", v1alpha1.ReasonDecidedByPerson)}, []string{"jane"}},
		"of a duplicate":                {[]v1alpha1.Assessment{by("jane", v1alpha1.ReasonDecidedByPerson), by("kim", v1alpha1.ReasonDuplicate)}, []string{"kim", "jane"}},
		"of a duplicate of a duplicate": {[]v1alpha1.Assessment{by("jane", v1alpha1.ReasonDecidedByPerson), by("kim", v1alpha1.ReasonDuplicate), by("lee", v1alpha1.ReasonDuplicate)}, []string{"lee", "kim", "jane"}},
		"joined by another after that":  {[]v1alpha1.Assessment{by("kim", v1alpha1.ReasonDuplicate), by("jane", v1alpha1.ReasonDecidedByPerson)}, []string{"jane"}},
	} {
		t.Run(name, func(t *testing.T) {
			last := len(test.history) - 1
			status := &v1alpha1.SecurityEventStatus{Assessment: test.history[last], EarlierAssessments: test.history[:last]}
			if diff := cmp.Diff(test.want, broughtBy(status)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
