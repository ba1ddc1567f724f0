package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// repeat sets how many repeats one receiver has counted.
func repeat(t *testing.T, event *v1alpha1.SecurityEvent, count int) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"status":{"counters":[{"spool":"receiver-0","count":%d}]}}`, count)
	if err := testClient.Status().Patch(t.Context(), event.DeepCopy(), client.RawPatch(types.MergePatchType, patch)); err != nil {
		t.Fatal(err)
	}
}

func awaitOccurrences(t *testing.T, event *v1alpha1.SecurityEvent, want int64) *v1alpha1.SecurityEvent {
	t.Helper()
	got := &v1alpha1.SecurityEvent{}
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), got); err != nil {
			return err.Error()
		}
		if got.Status.Occurrences != want {
			return fmt.Sprintf("occurrences are %d, want %d", got.Status.Occurrences, want)
		}
		return ""
	})
	return got
}

// setIncident writes an incident's status as the IncidentReconciler would.
func setIncident(t *testing.T, namespace, name string, change func(*v1alpha1.IncidentStatus)) {
	t.Helper()
	incident := getIncident(t, namespace, name)
	for _, resource := range incident.Spec.Resources {
		incident.Status.Resources = append(incident.Status.Resources, v1alpha1.IncidentResource{ResourceReference: resource})
	}
	change(&incident.Status)
	if err := testClient.Status().Update(t.Context(), incident); err != nil {
		t.Fatal(err)
	}
}

func getIncident(t *testing.T, namespace, name string) *v1alpha1.Incident {
	t.Helper()
	incident := &v1alpha1.Incident{}
	if err := testClient.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, incident); err != nil {
		t.Fatal(err)
	}
	return incident
}

func inPhase(phase v1alpha1.Phase) func(*v1alpha1.IncidentStatus) {
	return func(status *v1alpha1.IncidentStatus) { status.Phase = phase }
}

func awaitIncidentOtherThan(t *testing.T, event *v1alpha1.SecurityEvent, name string) *v1alpha1.SecurityEvent {
	t.Helper()
	got := &v1alpha1.SecurityEvent{}
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), got); err != nil {
			return err.Error()
		}
		if now := got.Status.IncidentRef.Name; now == "" || now == name {
			return fmt.Sprintf("event %s belongs to %q, want another than %q", event.Name, now, name)
		}
		return ""
	})
	return got
}

func TestRepeatAfterReviewOpensNextIncident(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	startAssessor(t, namespace, nil)
	event, other := shellEvent(namespace, "first", "cart-1"), shellEvent(namespace, "other", "cart-1")
	mustCreate(t, event)
	first := awaitAssessment(t, event, v1alpha1.OutcomePromoted).Status.IncidentRef.Name
	mustCreate(t, other)
	awaitAssessment(t, other, v1alpha1.OutcomeJoined)

	// Repeats while the incident is in progress belong to it, also once it has come to its review.
	repeat(t, event, 3)
	awaitOccurrences(t, event, 4)
	setIncident(t, namespace, first, inPhase(v1alpha1.PhaseReview))
	for i := 4; i <= 6; i++ {
		repeat(t, event, i)
	}
	awaitIncidentOtherThan(t, event, first)
	got := awaitOccurrences(t, event, 7)
	second := getIncident(t, namespace, got.Status.IncidentRef.Name)
	if got.Status.Assessment.Outcome != v1alpha1.OutcomePromoted || len(got.Status.EarlierAssessments) != 1 ||
		second.Spec.RelatedTo.Name != first || second.Labels[v1alpha1.LabelCorrelationSequence] != "2" {
		t.Errorf("got the status %+v and the incident %+v", got.Status, second)
	}
	repeat(t, other, 1)
	if joined := awaitIncidentOtherThan(t, other, first).Status; joined.IncidentRef.Name != second.Name || joined.Assessment.Outcome != v1alpha1.OutcomeJoined {
		t.Errorf("the other event has the status %+v, want that it joined %q", joined, second.Name)
	}

	setIncident(t, namespace, second.Name, func(status *v1alpha1.IncidentStatus) {
		status.Phase, status.Resolution = v1alpha1.PhaseClosed, v1alpha1.ResolutionResolved
	})
	repeat(t, event, 7)
	awaitIncidentOtherThan(t, event, second.Name)
	got = awaitOccurrences(t, event, 8)
	if third := getIncident(t, namespace, got.Status.IncidentRef.Name); third.Spec.RelatedTo.Name != second.Name {
		t.Errorf("the third incident is related to %q, want %q", third.Spec.RelatedTo.Name, second.Name)
	}
	if incidents := incidentsIn(t, namespace); len(incidents) != 3 || len(got.Status.EarlierAssessments) != 2 {
		t.Errorf("got %d incidents and %d earlier assessments, want 3 and 2", len(incidents), len(got.Status.EarlierAssessments))
	}
}

func TestCrashWhileNextIncidentOpens(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	var broken atomic.Bool
	crashing := startAssessor(t, namespace, func(inner client.Client) client.Client {
		return interceptor.NewClient(withWatch{inner}, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
				if broken.Load() {
					return errors.New("killed")
				}
				return c.SubResource(sub).Patch(ctx, object, patch, options...)
			},
		})
	})
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	first := awaitAssessment(t, event, v1alpha1.OutcomePromoted).Status.IncidentRef.Name
	setIncident(t, namespace, first, inPhase(v1alpha1.PhaseClosed))
	broken.Store(true)
	repeat(t, event, 1)
	eventually(t, func(context.Context) string {
		if got := len(incidentsIn(t, namespace)); got != 2 {
			return fmt.Sprintf("%d incidents, want 2", got)
		}
		return ""
	})
	crashing.stop()

	startAssessor(t, namespace, nil)
	got := awaitIncidentOtherThan(t, event, first)
	if incidents := incidentsIn(t, namespace); len(incidents) != 2 || len(got.Status.EarlierAssessments) != 1 || got.Status.Occurrences != 2 {
		t.Errorf("got %d incidents and the status %+v, want 2 and one earlier assessment", len(incidents), got.Status)
	}
}

func TestRepeatOfWhatAPersonPromoted(t *testing.T) {
	namespace := newDomain(t)
	startAssessor(t, namespace, nil)
	event := shellEvent(namespace, "strange", "cart-1")
	mustCreate(t, event)
	awaitAssessment(t, event, v1alpha1.OutcomeDeferred)
	mustCreate(t, decisionAbout(event, "promote", v1alpha1.DecisionPromote))
	first := awaitAssessment(t, event, v1alpha1.OutcomePromoted).Status.IncidentRef.Name

	setIncident(t, namespace, first, inPhase(v1alpha1.PhaseClosed))
	repeat(t, event, 1)
	got := awaitAssessment(t, event, v1alpha1.OutcomeDeferred)
	if got.Status.IncidentRef.Name != "" || len(got.Status.EarlierAssessments) != 2 {
		t.Errorf("got the status %+v, want that a person decides anew", got.Status)
	}
	// Another look finds the same, and says nothing new.
	repeat(t, event, 2)
	if got = awaitOccurrences(t, event, 3); len(got.Status.EarlierAssessments) != 2 || !strings.Contains(got.Status.Assessment.Message, "seen again, 2 times in all") {
		t.Errorf("got the status %+v, want the assessment of before", got.Status)
	}
	mustCreate(t, shellPolicy(namespace))
	second := awaitAssessment(t, event, v1alpha1.OutcomePromoted).Status.IncidentRef.Name
	if second == first || len(incidentsIn(t, namespace)) != 2 {
		t.Errorf("the event belongs to %q, want a second incident", second)
	}
}

func TestJoinThatTheIncidentMissed(t *testing.T) {
	namespace := newDomain(t)
	policy := shellPolicy(namespace)
	policy.Spec.Rules[1].Correlate.By = []v1alpha1.Expression{"event.resources[0].namespace"}
	mustCreate(t, policy)
	startAssessor(t, namespace, nil)
	first := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, first)
	opened := awaitAssessment(t, first, v1alpha1.OutcomePromoted).Status.IncidentRef.Name
	same, missed, taken := shellEvent(namespace, "same", "cart-1"), shellEvent(namespace, "missed", "cart-2"), shellEvent(namespace, "taken", "cart-3")
	for _, event := range []*v1alpha1.SecurityEvent{same, missed, taken} {
		mustCreate(t, event)
		awaitAssessment(t, event, v1alpha1.OutcomeJoined)
	}
	setIncident(t, namespace, opened, func(status *v1alpha1.IncidentStatus) {
		status.Phase = v1alpha1.PhaseReview
		status.Resources = []v1alpha1.IncidentResource{
			{ResourceReference: first.Spec.Resources[0], EventRef: v1alpha1.EventReference{Name: "first"}},
			{ResourceReference: taken.Spec.Resources[0], EventRef: v1alpha1.EventReference{Name: "taken"}},
		}
	})
	got := awaitIncidentOtherThan(t, missed, opened)
	if second := getIncident(t, namespace, got.Status.IncidentRef.Name); second.Spec.RelatedTo.Name != opened || got.Status.Assessment.Outcome != v1alpha1.OutcomePromoted {
		t.Errorf("got the status %+v and the incident %+v", got.Status, second.Spec)
	}
	// An event that comes later is assessed after the look at the others was due.
	late := shellEvent(namespace, "late", "cart-1")
	mustCreate(t, late)
	awaitAssessment(t, late, v1alpha1.OutcomeJoined)
	for _, event := range []*v1alpha1.SecurityEvent{first, same, taken} {
		if err := testClient.Get(t.Context(), client.ObjectKeyFromObject(event), event); err != nil {
			t.Fatal(err)
		}
		if event.Status.IncidentRef.Name != opened {
			t.Errorf("event %s has moved to %q", event.Name, event.Status.IncidentRef.Name)
		}
	}
	if incidents := incidentsIn(t, namespace); len(incidents) != 2 {
		t.Errorf("got %d incidents, want 2", len(incidents))
	}
}

// TestLeftOutWhatAPersonJoined: the policies do not dismiss what a person has judged to be
// part of an incident, and it does not stay with one that has not taken it up.
func TestLeftOutWhatAPersonJoined(t *testing.T) {
	for name, rule := range map[string]string{
		"below its threshold": "Terminal shell in container", "dismissed by a rule": "Noise", "no rule": "Strange",
	} {
		t.Run(name, func(t *testing.T) {
			namespace := newDomain(t)
			mustCreate(t, thresholdPolicy(namespace, time.Hour))
			startAssessor(t, namespace, nil)
			declared(t, namespace, "open")
			event := shellEvent(namespace, "first", "cart-1")
			event.Spec.Source.Rule = rule
			event.Spec.ObservedTime = metav1.NewTime(time.Now().Truncate(time.Second))
			mustCreate(t, event)
			join := decisionAbout(event, "join", v1alpha1.DecisionJoin)
			join.Spec.IncidentRef.Name = "open"
			mustCreate(t, join)
			before := awaitAssessment(t, event, v1alpha1.OutcomeJoined)
			setIncident(t, namespace, "open", inPhase(v1alpha1.PhaseReview))

			got := awaitAssessment(t, event, v1alpha1.OutcomeDeferred)
			if a := got.Status.Assessment; a.Reason != v1alpha1.ReasonLeftOut || got.Status.IncidentRef.Name != "" || a.DecisionRef.Name != "" ||
				!strings.Contains(a.Message, `incident "open" has come to its review without taking up this event`) {
				t.Errorf("got %+v", got.Status)
			}
			repeat(t, event, 1)
			got = awaitOccurrences(t, event, 2)
			if got.Status.Assessment.Reason != v1alpha1.ReasonLeftOut || len(got.Status.EarlierAssessments) != len(before.Status.EarlierAssessments)+1 {
				t.Errorf("it must wait for a person: %+v", got.Status)
			}
			if rule == "Terminal shell in container" {
				countIn(t, event, 0, 0)
				awaitAssessment(t, event, v1alpha1.OutcomePromoted)
			}
		})
	}
}

func TestLeftOut(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC))
	later := metav1.NewTime(at.Add(time.Minute))
	known := func(pod, uid string, gone *metav1.Time) v1alpha1.IncidentResource {
		resource := shellEvent("", "", pod).Spec.Resources[0]
		resource.UID = v1alpha1.ObjectUID(uid)
		return v1alpha1.IncidentResource{ResourceReference: resource, GoneTime: gone, EventRef: v1alpha1.EventReference{Name: "first"}}
	}
	for name, test := range map[string]struct {
		phase v1alpha1.Phase
		known v1alpha1.IncidentResource
		uid   string
		want  bool
	}{
		"in progress":               {v1alpha1.PhaseRecovery, known("cart-2", "", nil), "", false},
		"another pod":               {v1alpha1.PhaseReview, known("cart-2", "", nil), "", true},
		"another pod, closed":       {v1alpha1.PhaseClosed, known("cart-2", "", nil), "", true},
		"the pod":                   {v1alpha1.PhaseReview, known("cart-1", "a", nil), "", false},
		"the pod by its UID":        {v1alpha1.PhaseReview, known("cart-1", "a", nil), "a", false},
		"another pod of that name":  {v1alpha1.PhaseReview, known("cart-1", "b", nil), "a", true},
		"the pod, gone afterwards":  {v1alpha1.PhaseReview, known("cart-1", "a", &later), "", false},
		"what came after it":        {v1alpha1.PhaseReview, known("cart-1", "a", &at), "", true},
		"the pod, seen until later": {v1alpha1.PhaseReview, known("cart-1", "a", &at), "a", false},
	} {
		t.Run(name, func(t *testing.T) {
			event := shellEvent("", "second", "cart-1")
			event.CreationTimestamp = metav1.NewTime(at.Add(time.Second))
			event.Spec.Resources[0].UID = v1alpha1.ObjectUID(test.uid)
			incident := &v1alpha1.Incident{Status: v1alpha1.IncidentStatus{Phase: test.phase, Resources: []v1alpha1.IncidentResource{test.known}}}
			if got := leftOut(incident, event); got != test.want {
				t.Errorf("left out: %t, want %t", got, test.want)
			}
			event.Spec.Resources = nil
			if leftOut(incident, event) {
				t.Error("an event without resources is left out of nothing")
			}
		})
	}
}
