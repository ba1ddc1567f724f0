package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
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

// lateClock runs as the real one does, but began at another time.
type lateClock struct{ began, at time.Time }

var _ clock.PassiveClock = lateClock{}

func (c lateClock) Now() time.Time                   { return c.at.Add(time.Since(c.began)) }
func (c lateClock) Since(at time.Time) time.Duration { return c.Now().Sub(at) }

func thresholdPolicy(namespace string, within time.Duration) *v1alpha1.ClassificationPolicy {
	policy := shellPolicy(namespace)
	policy.Spec.Rules[1].Threshold = v1alpha1.Threshold{Occurrences: 3, Within: &metav1.Duration{Duration: within}}
	return policy
}

// countIn counts repeats of an event in minutes after it was observed, as a receiver does.
func countIn(t *testing.T, event *v1alpha1.SecurityEvent, minutes ...int) {
	t.Helper()
	var recent []string
	for _, minute := range minutes {
		at := event.Spec.ObservedTime.Truncate(time.Minute).Add(time.Duration(minute) * time.Minute)
		recent = append(recent, fmt.Sprintf(`{"minuteTime":%q,"count":1}`, at.UTC().Format(time.RFC3339)))
	}
	patch := fmt.Appendf(nil, `{"status":{"counters":[{"spool":"receiver-0","count":%d,"recent":[%s]}]}}`, len(minutes), strings.Join(recent, ","))
	if err := testClient.Status().Patch(t.Context(), event, client.RawPatch(types.MergePatchType, patch)); err != nil {
		t.Fatal(err)
	}
}

func awaitPending(t *testing.T, event *v1alpha1.SecurityEvent, message string) {
	t.Helper()
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), event); err != nil {
			return err.Error()
		}
		assessed := meta.FindStatusCondition(event.Status.Conditions, v1alpha1.ConditionAssessed)
		if assessed == nil || assessed.Status != metav1.ConditionFalse || assessed.Reason != v1alpha1.ReasonThresholdPending ||
			!strings.Contains(assessed.Message, message) || event.Status.Assessment.Outcome != "" {
			return fmt.Sprintf("got %+v and the condition %+v", event.Status.Assessment, assessed)
		}
		return ""
	})
}

func TestThresholdIsReached(t *testing.T) {
	namespace := newDomain(t)
	startAssessor(t, namespace, nil)
	mustCreate(t, thresholdPolicy(namespace, time.Hour))
	event := shellEvent(namespace, "first", "cart-1")
	event.Spec.ObservedTime = metav1.NewTime(time.Now().Truncate(time.Second))
	mustCreate(t, event)
	awaitPending(t, event, `rule "shell-in-container" of policy "runtime" asks for 3 occurrences within 1h0m0s; it waits for them until `)
	countIn(t, event, 0)
	countIn(t, event, 0, 1)
	got := awaitAssessment(t, event, v1alpha1.OutcomePromoted)
	if incidents := incidentsIn(t, namespace); len(incidents) != 1 || incidents[0].Name != got.Status.IncidentRef.Name {
		t.Errorf("got %d incidents, and the event's is %q", len(incidents), got.Status.IncidentRef.Name)
	}
	if len(got.Status.EarlierAssessments) != 0 {
		t.Errorf("waiting is no assessment, got %+v", got.Status.EarlierAssessments)
	}
}

// TestThresholdIsNotReached: dismissed when its time is over; what comes later counts anew.
func TestThresholdIsNotReached(t *testing.T) {
	namespace := newDomain(t)
	event := shellEvent(namespace, "first", "cart-1") // observed at 16:00; it waits until 16:02
	startAssessor(t, namespace, nil, func(r *SecurityEventReconciler) {
		r.Clock = lateClock{time.Now(), event.Spec.ObservedTime.Add(2*time.Minute - 3*time.Second)}
	})
	mustCreate(t, thresholdPolicy(namespace, time.Minute))
	mustCreate(t, event)
	awaitPending(t, event, "until 2026-11-21T16:02:00Z")
	got := awaitAssessment(t, event, v1alpha1.OutcomeDismissed)
	if a := got.Status.Assessment; a.Reason != v1alpha1.ReasonThresholdNotReached || a.Rule != "shell-in-container" || !strings.Contains(a.Message, "there were at most 1") {
		t.Errorf("got %+v", a)
	}
	countIn(t, event, 20)
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), got); err != nil {
			return err.Error()
		}
		if got.Status.Occurrences != 2 || got.Status.Assessment.Outcome != v1alpha1.OutcomeDismissed {
			return fmt.Sprintf("got %+v", got.Status)
		}
		return ""
	})
	countIn(t, event, 20, 21, 22)
	if got := awaitAssessment(t, event, v1alpha1.OutcomeDismissed); len(got.Status.EarlierAssessments) != 0 {
		t.Errorf("it was dismissed once, got %+v", got.Status.EarlierAssessments)
	}
	countIn(t, event, 20, 21, 22, 22)
	got = awaitAssessment(t, event, v1alpha1.OutcomePromoted)
	if earlier := got.Status.EarlierAssessments; len(earlier) != 1 || earlier[0].Reason != v1alpha1.ReasonThresholdNotReached {
		t.Errorf("got the earlier assessments %+v", earlier)
	}
}

// TestThresholdAcrossEvents: the receiver begins a new event every full hour.
func TestThresholdAcrossEvents(t *testing.T) {
	namespace := newDomain(t)
	startAssessor(t, namespace, nil)
	mustCreate(t, thresholdPolicy(namespace, 10*time.Minute))
	report := func(name, fingerprint string, observed time.Duration) *v1alpha1.SecurityEvent {
		event := shellEvent(namespace, name, "cart-1")
		event.Spec.Fingerprint = fingerprint
		event.Spec.ObservedTime = metav1.NewTime(event.Spec.ObservedTime.Add(observed))
		mustCreate(t, event)
		return event
	}
	before, other := report("before", "a", 57*time.Minute), report("other", "b", 58*time.Minute)
	awaitAssessment(t, before, v1alpha1.OutcomeDismissed)
	awaitAssessment(t, other, v1alpha1.OutcomeDismissed)
	after := report("after", "a", 61*time.Minute)
	awaitAssessment(t, after, v1alpha1.OutcomeDismissed)
	countIn(t, after, 2)
	awaitAssessment(t, after, v1alpha1.OutcomePromoted)
}

// TestWaitingIsDecidedByPeople: who knows better need not wait.
func TestWaitingIsDecidedByPeople(t *testing.T) {
	namespace := newDomain(t)
	startAssessor(t, namespace, nil)
	mustCreate(t, thresholdPolicy(namespace, time.Hour))
	for name, test := range map[string]struct {
		decision v1alpha1.DecisionType
		want     v1alpha1.AssessmentOutcome
	}{
		"dismissed": {v1alpha1.DecisionDismiss, v1alpha1.OutcomeDismissed},
		"promoted":  {v1alpha1.DecisionPromote, v1alpha1.OutcomePromoted},
	} {
		event := shellEvent(namespace, name, "cart-1")
		event.Spec.ObservedTime = metav1.NewTime(time.Now().Truncate(time.Second))
		mustCreate(t, event)
		awaitPending(t, event, "it waits")
		mustCreate(t, &v1alpha1.Decision{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "d-", Namespace: namespace},
			Spec: v1alpha1.DecisionSpec{
				Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectSecurityEvent, Name: name}, Type: test.decision, By: "jane@example.com", Reason: "known",
			},
		})
		awaitAssessment(t, event, test.want)
		countIn(t, event, 0, 0, 0)
		if got := awaitAssessment(t, event, test.want); got.Status.Assessment.By != "jane@example.com" {
			t.Errorf("got %+v, want that what jane has decided stands", got.Status.Assessment)
		}
	}
}
