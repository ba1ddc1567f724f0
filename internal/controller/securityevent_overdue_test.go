package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// aging is a deferred event of severity Critical, and who looks at it.
type aging struct {
	event  *v1alpha1.SecurityEvent
	events *SecurityEventReconciler
	clock  *clocktesting.FakePassiveClock
}

func startAging(t *testing.T, change ...func(*v1alpha1.SecurityEvent)) *aging {
	t.Helper()
	namespace := newDomain(t)
	a := &aging{clock: clocktesting.NewFakePassiveClock(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC))}
	startAssessor(t, namespace, nil, func(r *SecurityEventReconciler) {
		r.Clock = a.clock
		a.events = r
	})
	a.event = shellEvent(namespace, "waits", "cart-1")
	for _, one := range change {
		one(a.event)
	}
	mustCreate(t, a.event)
	a.event = awaitAssessment(t, a.event, v1alpha1.OutcomeDeferred)
	return a
}

// look reconciles the event until that has seen what is stored, and gives when it looks again.
func (a *aging) look(t *testing.T) time.Duration {
	t.Helper()
	var result ctrl.Result
	eventually(t, func(ctx context.Context) string {
		var err error
		if result, err = a.events.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(a.event)}); err != nil {
			return err.Error()
		}
		if result.RequeueAfter == conflictRetry {
			return "the cache is behind"
		}
		return ""
	})
	if err := testClient.Get(t.Context(), client.ObjectKeyFromObject(a.event), a.event); err != nil {
		t.Fatal(err)
	}
	return result.RequeueAfter
}

func (a *aging) reason() string {
	return meta.FindStatusCondition(a.event.Status.Conditions, v1alpha1.ConditionAssessed).Reason
}

func (a *aging) told(t *testing.T) []eventsv1.Event {
	t.Helper()
	return slices.DeleteFunc(toldIn(t, a.event.Namespace), func(told eventsv1.Event) bool { return told.Regarding.Kind != kindSecurityEvent })
}

func TestDeferredEventsAgeIntoOverdue(t *testing.T) {
	a := startAging(t)
	if after := a.look(t); after != 15*time.Minute || a.reason() != v1alpha1.ReasonNoRuleMatched {
		t.Fatalf("looks again after %s, is %s; must be the 15m of 'Critical' without a plan", after, a.reason())
	}
	a.clock.SetTime(a.clock.Now().Add(15 * time.Minute))
	if after := a.look(t); after != 0 || a.reason() != v1alpha1.ReasonAssessmentOverdue {
		t.Fatalf("looks again after %s, is %s", after, a.reason())
	}
	assessed := meta.FindStatusCondition(a.event.Status.Conditions, v1alpha1.ConditionAssessed)
	for _, want := range []string{"since 2026-11-21T16:00:00Z (NoRuleMatched)", "by 2026-11-21T16:15:00Z",
		"kubectl firebreak promote waits -n " + a.event.Namespace, "kubectl firebreak dismiss waits"} {
		if !strings.Contains(assessed.Message, want) {
			t.Errorf("%q must say %q", assessed.Message, want)
		}
	}
	if assessed.Status != metav1.ConditionFalse || a.event.Status.Assessment.Reason != v1alpha1.ReasonNoRuleMatched {
		t.Errorf("got %+v, and the assessment %+v", assessed, a.event.Status.Assessment)
	}
	a.look(t)
	told := a.told(t)
	if len(told) != 1 || told[0].Reason != v1alpha1.ReasonAssessmentOverdue || told[0].Regarding.UID != a.event.UID || told[0].Type != "Warning" {
		t.Fatalf("got the Kubernetes Events %+v, want one", told)
	}
	if counts := a.events.late.counts(); counts[[2]string{a.event.Namespace, "Critical"}] != 1 {
		t.Errorf("got the metrics %v", counts)
	}

	before := a.event.ResourceVersion
	a.look(t)
	if a.event.ResourceVersion != before {
		t.Error("nothing new must not be written")
	}
}

// TestDrillsAgeApart: a drill that nobody decides about says so, as a drill, and nobody is called
// by the metrics.
func TestDrillsAgeApart(t *testing.T) {
	a := startAging(t, func(e *v1alpha1.SecurityEvent) { e.Spec.Mode = v1alpha1.ModeDrill })
	a.clock.SetTime(a.clock.Now().Add(15 * time.Minute))
	a.look(t)
	a.look(t)
	if told := a.told(t); a.reason() != v1alpha1.ReasonAssessmentOverdue || len(told) != 1 || !strings.HasPrefix(told[0].Note, "DRILL: it waits for a person") {
		t.Errorf("it is %s, and told as %+v", a.reason(), told)
	}
	if counts := a.events.late.counts(); len(counts) > 0 {
		t.Errorf("got the metrics %v of a drill", counts)
	}
}

func TestThePlanSaysWhenAnEventIsOverdue(t *testing.T) {
	a := startAging(t)
	minutes := func(count int) *metav1.Duration {
		return &metav1.Duration{Duration: time.Duration(count) * time.Minute}
	}
	plan := &v1alpha1.ResponsePlan{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: a.event.Namespace},
		Spec: v1alpha1.ResponsePlanSpec{Objectives: []v1alpha1.PlanObjective{
			{Severity: v1alpha1.SeverityCritical, When: `event.source.?product.orValue("") == "trivy"`, AssessWithin: minutes(1)},
			{Severity: v1alpha1.SeverityCritical, AssessWithin: minutes(5)},
		}},
	}
	mustCreate(t, plan)
	a.awaitLook(t, 5*time.Minute)
	a.clock.SetTime(a.clock.Now().Add(6 * time.Minute))
	a.awaitLook(t, 0)
	if a.reason() != v1alpha1.ReasonAssessmentOverdue {
		t.Fatalf("is %s", a.reason())
	}
	// Given more time, it is overdue no more; a person decides in the end.
	plan.Spec.Objectives[1].AssessWithin = minutes(30)
	if err := testClient.Update(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	a.awaitLook(t, 24*time.Minute)
	if a.reason() != v1alpha1.ReasonNoRuleMatched || len(a.events.late.counts()) != 0 {
		t.Fatalf("is %s, %v", a.reason(), a.events.late.counts())
	}
	a.clock.SetTime(a.clock.Now().Add(time.Hour))
	a.awaitLook(t, 0)
	mustCreate(t, &v1alpha1.Decision{
		ObjectMeta: metav1.ObjectMeta{Name: "noise", Namespace: a.event.Namespace},
		Spec: v1alpha1.DecisionSpec{
			Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectSecurityEvent, Name: a.event.Name}, Type: v1alpha1.DecisionDismiss,
			By: "jane", Reason: "a test",
		},
	})
	a.event = awaitAssessment(t, a.event, v1alpha1.OutcomeDismissed)
	if a.reason() != v1alpha1.ReasonDecidedByPerson || len(a.events.late.counts()) != 0 {
		t.Errorf("is %s, %v", a.reason(), a.events.late.counts())
	}
	if told := a.told(t); len(told) != 1 {
		t.Errorf("got %d Kubernetes Events, want one: it is the same delay", len(told))
	}
}

// TestThePlanAsksForTheWholeEvent has an objective ask for what the cache does not keep of an
// event that was decided: a rule has deferred this one.
func TestThePlanAsksForTheWholeEvent(t *testing.T) {
	namespace := newDomain(t)
	policy := shellPolicy(namespace)
	for i := range policy.Spec.Rules {
		policy.Spec.Rules[i] = v1alpha1.ClassificationRule{Name: policy.Spec.Rules[i].Name, Match: "true", Outcome: v1alpha1.RuleDefer}
	}
	mustCreate(t, policy)
	mustCreate(t, &v1alpha1.ResponsePlan{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: namespace},
		Spec: v1alpha1.ResponsePlanSpec{Objectives: []v1alpha1.PlanObjective{{
			Severity: v1alpha1.SeverityCritical, When: `event.?attributes["proc.name"].orValue("") == "sh" && event.?description.orValue("") == "A shell"`,
			AssessWithin: &metav1.Duration{Duration: 3 * time.Minute},
		}}},
	})
	a := &aging{clock: clocktesting.NewFakePassiveClock(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC))}
	startAssessor(t, namespace, nil, func(r *SecurityEventReconciler) {
		r.Clock = a.clock
		a.events = r
	})
	a.event = shellEvent(namespace, "waits", "cart-1")
	a.event.Spec.Attributes, a.event.Spec.Description = map[string]v1alpha1.AttributeValue{"proc.name": "sh"}, "A shell"
	mustCreate(t, a.event)
	a.event = awaitAssessment(t, a.event, v1alpha1.OutcomeDeferred)
	if a.event.Status.Assessment.Reason != v1alpha1.ReasonDeferredByRule {
		t.Fatalf("deferred by %s", a.event.Status.Assessment.Reason)
	}
	a.awaitLook(t, 3*time.Minute)
}

// TestDeferredForLong: however often the policies have deferred an event, it waits since the first
// time; what was decided in between ends the wait.
func TestDeferredForLong(t *testing.T) {
	began := time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)
	events, event := &SecurityEventReconciler{}, shellEvent("security", "waits", "cart-1")
	decide := func(outcome v1alpha1.AssessmentOutcome, minute int) {
		events.apply(event, v1alpha1.Assessment{Outcome: outcome, Reason: "x", By: "x", Time: metav1.NewTime(began.Add(time.Duration(minute) * time.Minute))}, "")
	}
	for minute := range 60 {
		decide(v1alpha1.OutcomeDeferred, minute)
		if since := classify.DeferredSince(&event.Status); !since.Equal(began) {
			t.Fatalf("after %d deferrals it waits since %s, want since %s", minute+1, since, began)
		}
	}
	earlier := event.Status.EarlierAssessments
	if len(earlier) != maxEarlier || !earlier[1].Time.Equal(&metav1.Time{Time: began.Add(44 * time.Minute)}) {
		t.Errorf("kept %d, the second of %s, want the first and the last 15", len(earlier), earlier[1].Time)
	}
	decide(v1alpha1.OutcomeDismissed, 60)
	decide(v1alpha1.OutcomeDeferred, 61)
	if since := classify.DeferredSince(&event.Status); !since.Equal(began.Add(61 * time.Minute)) {
		t.Errorf("after it was dismissed it waits since %s", since)
	}
}

// TestPendingDoesNotAge: a deferred event that a new policy leaves below a threshold waits for more
// of them, and for no person. It is deferred, and as late as before, when the policy goes again.
func TestPendingDoesNotAge(t *testing.T) {
	a := startAging(t)
	policy := thresholdPolicy(a.event.Namespace, time.Hour)
	mustCreate(t, policy)
	awaitPending(t, a.event, "it waits for them until 2026-11-21T17:01:00Z")
	if earlier := a.event.Status.EarlierAssessments; len(earlier) != 1 || earlier[0].Outcome != v1alpha1.OutcomeDeferred || earlier[0].Workload != "cart-1" {
		t.Errorf("got the earlier assessments %+v, want that it was deferred", earlier)
	}
	a.clock.SetTime(a.clock.Now().Add(30 * time.Minute))
	a.look(t)
	if a.reason() != v1alpha1.ReasonThresholdPending || len(a.told(t)) != 0 {
		t.Errorf("is %s, told %+v, although it waits for no person", a.reason(), a.told(t))
	}
	if err := testClient.Delete(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	other := shellPolicy(a.event.Namespace)
	other.Name, other.Spec.Rules = "other", other.Spec.Rules[:1]
	mustCreate(t, other)
	a.event = awaitAssessment(t, a.event, v1alpha1.OutcomeDeferred)
	a.look(t)
	if told := a.told(t); a.reason() != v1alpha1.ReasonAssessmentOverdue || len(told) != 1 || !strings.Contains(told[0].Note, "since 2026-11-21T16:00:00Z") {
		t.Errorf("is %s, told %+v, want that it waits since it was deferred first", a.reason(), told)
	}
}

// TestPendingEnds: what a deferred event waits for does not come, and the rule dismisses it.
func TestPendingEnds(t *testing.T) {
	a := startAging(t)
	mustCreate(t, thresholdPolicy(a.event.Namespace, time.Hour))
	awaitPending(t, a.event, "it waits")
	a.clock.SetTime(a.clock.Now().Add(2 * time.Hour))
	a.look(t)
	if got := a.event.Status.Assessment; got.Outcome != v1alpha1.OutcomeDismissed || got.Reason != v1alpha1.ReasonThresholdNotReached || got.Workload != "cart-1" {
		t.Errorf("got %+v, want that the rule dismisses it", got)
	}
}

func (a *aging) awaitLook(t *testing.T, want time.Duration) {
	t.Helper()
	eventually(t, func(context.Context) string {
		if after := a.look(t); after != want {
			return fmt.Sprintf("looks again after %s, want %s", after, want)
		}
		return ""
	})
}

func TestSooner(t *testing.T) {
	for _, test := range [][3]time.Duration{{0, 0, 0}, {0, 3, 3}, {3, 0, 3}, {3, 2, 2}, {2, 3, 2}, {-1, 3, 3}, {3, -1, 3}, {-1, -1, 0}} {
		if got := sooner(test[0], test[1]); got != test[2] {
			t.Errorf("sooner(%d, %d) is %d, want %d", test[0], test[1], got, test[2])
		}
	}
}
