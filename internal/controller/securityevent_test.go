package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
)

// testGuard proves that Decisions can be trusted, unless it refuses to say; some it doubts.
type testGuard struct {
	refuses atomic.Bool
	doubted atomic.Pointer[time.Time]
}

func (g *testGuard) Trust(context.Context, string, []v1alpha1.Decision) Verdict {
	if g.refuses.Load() {
		return Verdict{Trust: TrustUnknown, Why: "the test says so"}
	}
	verdict := Verdict{Trust: TrustProven}
	if doubted := g.doubted.Load(); doubted != nil {
		verdict.Doubted = *doubted
	}
	return verdict
}

type testIdentities struct{}

func (testIdentities) Client(_ context.Context, _, serviceAccount string) (client.Client, error) {
	if serviceAccount == "reader" {
		return testClient, nil
	}
	return nil, &impersonation.NotAllowedError{ServiceAccount: serviceAccount, Why: "the test says so"}
}

// assessor is the reconcilers of this file's tests, in a manager of their own.
type assessor struct {
	guard testGuard
	stop  func()
}

// startAssessor starts both reconcilers; wrap may put faults before the client.
func startAssessor(t *testing.T, namespace string, wrap func(client.Client) client.Client, edit ...func(*SecurityEventReconciler)) *assessor {
	t.Helper()
	mgr := newManager(t, namespace)
	writer := mgr.GetClient()
	if wrap != nil {
		writer = wrap(writer)
	}
	if err := AddIndexes(t.Context(), mgr.GetFieldIndexer()); err != nil {
		t.Fatal(err)
	}
	result := &assessor{}
	policies := &PolicyStore{Live: mgr.GetAPIReader()}
	events := &SecurityEventReconciler{
		Client: writer, APIReader: mgr.GetAPIReader(), Identities: testIdentities{}, Guard: &result.guard,
		Policies: policies, Clock: clock.RealClock{}, MaxConcurrentReconciles: 8,
	}
	for _, apply := range edit {
		apply(events)
	}
	if err := events.SetupWithManager(t.Context(), mgr); err != nil {
		t.Fatal(err)
	}
	compiler := &ClassificationPolicyReconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Policies: policies, Clock: clock.RealClock{}}
	if err := compiler.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	result.stop = start(t, mgr)
	return result
}

func shellPolicy(namespace string) *v1alpha1.ClassificationPolicy {
	return &v1alpha1.ClassificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "runtime", Namespace: namespace},
		Spec: v1alpha1.ClassificationPolicySpec{Rules: []v1alpha1.ClassificationRule{
			{Name: "noise", Match: `event.source.?rule.orValue("") == "Noise"`, Outcome: v1alpha1.RuleDismiss},
			{
				Name:    "shell-in-container",
				Match:   `event.source.?rule.orValue("") == "Terminal shell in container"`,
				Outcome: v1alpha1.RulePromote,
				Correlate: v1alpha1.Correlation{
					By: []v1alpha1.Expression{"event.resources[0].namespace", "event.workload"},
				},
				Incident: v1alpha1.IncidentTemplate{
					Title:     `"Shell in " + event.resources[0].namespace + "/" + event.workload`,
					Category:  v1alpha1.CategoryIntrusion,
					Playbooks: []v1alpha1.PlaybookChoice{{PlaybookRef: v1alpha1.PlaybookReference{Name: "contain"}}},
				},
			},
		}},
	}
}

func shellEvent(namespace, name, pod string) *v1alpha1.SecurityEvent {
	return &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: v1alpha1.SecurityEventSpec{
			Source:       v1alpha1.EventSource{Kind: v1alpha1.SourceAutomatic, Product: "falco", Rule: "Terminal shell in container"},
			SubmittedBy:  "system:serviceaccount:falco:falcosidekick",
			Title:        "A shell was spawned",
			Severity:     v1alpha1.SeverityCritical,
			ObservedTime: metav1.NewTime(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)),
			Resources:    []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: pod}},
		},
	}
}

func awaitAssessment(t *testing.T, event *v1alpha1.SecurityEvent, want v1alpha1.AssessmentOutcome) *v1alpha1.SecurityEvent {
	t.Helper()
	got := &v1alpha1.SecurityEvent{}
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), got); err != nil {
			return err.Error()
		}
		if got.Status.Assessment.Outcome != want {
			return fmt.Sprintf("event %s is %q (%s), want %q", event.Name, got.Status.Assessment.Outcome, got.Status.Assessment.Message, want)
		}
		return ""
	})
	return got
}

func incidentsIn(t *testing.T, namespace string) []v1alpha1.Incident {
	t.Helper()
	list := &v1alpha1.IncidentList{}
	if err := testClient.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func TestEventsAreAssessed(t *testing.T) {
	namespace := newDomain(t)
	startAssessor(t, namespace, nil)
	mustCreate(t, shellPolicy(namespace))

	first := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, first)
	got := awaitAssessment(t, first, v1alpha1.OutcomePromoted)
	incidents := incidentsIn(t, namespace)
	if len(incidents) != 1 || !strings.HasPrefix(incidents[0].Name, "inc-20261121-") || got.Status.IncidentRef.Name != incidents[0].Name {
		t.Fatalf("got %d incidents, the event's is %q", len(incidents), got.Status.IncidentRef.Name)
	}
	incident := incidents[0]
	want := v1alpha1.IncidentSpec{
		Title: "Shell in shop/cart-1", Mode: v1alpha1.ModeLive, Severity: v1alpha1.SeverityCritical, Category: v1alpha1.CategoryIntrusion, TLP: v1alpha1.TLPAmber,
		PlaybookRef: v1alpha1.PlaybookReference{Name: "contain"}, Resources: first.Spec.Resources,
		EventRefs: []v1alpha1.EventReference{{Name: "first"}}, SubmittedBy: first.Spec.SubmittedBy, Rule: "runtime/shell-in-container",
		OccurredTime: &first.Spec.ObservedTime, DetectedTime: &first.Spec.ObservedTime,
	}
	if diff := cmp.Diff(want, incident.Spec); diff != "" {
		t.Errorf("incident (-want +got):\n%s", diff)
	}
	if got.Status.Occurrences != 1 || !meta.IsStatusConditionTrue(got.Status.Conditions, v1alpha1.ConditionAssessed) ||
		got.Status.Assessment.Policy.Generation != 1 || got.Status.Assessment.Workload != "cart-1" ||
		got.Status.Assessment.By != "system:serviceaccount:firebreak-system:firebreak-manager" {
		t.Errorf("got the status %+v", got.Status)
	}

	second := shellEvent(namespace, "second", "cart-1")
	mustCreate(t, second)
	if got := awaitAssessment(t, second, v1alpha1.OutcomeJoined); got.Status.IncidentRef.Name != incident.Name {
		t.Errorf("the second event joined %q, want %q", got.Status.IncidentRef.Name, incident.Name)
	}

	noise := shellEvent(namespace, "noise", "cart-1")
	noise.Spec.Source.Rule = "Noise"
	mustCreate(t, noise)
	awaitAssessment(t, noise, v1alpha1.OutcomeDismissed)

	other := shellEvent(namespace, "other", "cart-1")
	other.Spec.Source.Rule = "Something else"
	mustCreate(t, other)
	deferred := awaitAssessment(t, other, v1alpha1.OutcomeDeferred)
	if deferred.Status.Assessment.Reason != v1alpha1.ReasonNoRuleMatched || meta.IsStatusConditionTrue(deferred.Status.Conditions, v1alpha1.ConditionAssessed) {
		t.Errorf("got %+v", deferred.Status)
	}
	if incidents := incidentsIn(t, namespace); len(incidents) != 1 {
		t.Errorf("got %d incidents, want 1", len(incidents))
	}
}

// withWatch makes a client of one that is never asked to watch.
type withWatch struct{ client.Client }

func (withWatch) Watch(context.Context, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
	return nil, errors.New("not needed")
}

func awaitReady(t *testing.T, policy *v1alpha1.ClassificationPolicy, status metav1.ConditionStatus, message string) {
	t.Helper()
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
			return err.Error()
		}
		ready := meta.FindStatusCondition(policy.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Status != status || ready.ObservedGeneration != policy.Generation || !strings.Contains(ready.Message, message) {
			return fmt.Sprintf("Ready is %+v, want %s with %q", ready, status, message)
		}
		return ""
	})
}

func TestPolicyChangeDecidesDeferredEvents(t *testing.T) {
	namespace := newDomain(t)
	startAssessor(t, namespace, nil)
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	awaitAssessment(t, event, v1alpha1.OutcomeDeferred)

	policy := shellPolicy(namespace)
	mustCreate(t, policy)
	got := awaitAssessment(t, event, v1alpha1.OutcomePromoted)
	if len(got.Status.EarlierAssessments) != 1 || got.Status.EarlierAssessments[0].Reason != v1alpha1.ReasonNoRuleMatched {
		t.Errorf("got the earlier assessments %+v", got.Status.EarlierAssessments)
	}
	awaitReady(t, policy, metav1.ConditionTrue, "2 rules are in force")

	policy.Spec.Rules[1].Match = `event.sorce.rule == "x"`
	if err := testClient.Update(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, policy, metav1.ConditionFalse, "rule \"shell-in-container\" `match` 1:6: undefined field 'sorce'; generation 1 stays in force")

	second := shellEvent(namespace, "second", "cart-1")
	mustCreate(t, second)
	if got := awaitAssessment(t, second, v1alpha1.OutcomeJoined); got.Status.Assessment.Policy.Generation != 1 {
		t.Errorf("got generation %d, want the last good one, 1", got.Status.Assessment.Policy.Generation)
	}
}

func TestNamespaceBecomesDomain(t *testing.T) {
	name := newNamespace(t, nil)
	startAssessor(t, name, nil)
	event := shellEvent(name, "early", "cart-1")
	mustCreate(t, event)
	policy := shellPolicy(name)
	mustCreate(t, policy)
	awaitReady(t, policy, metav1.ConditionFalse, "kubectl firebreak init -n "+name)
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), event); err != nil {
			return err.Error()
		}
		condition := meta.FindStatusCondition(event.Status.Conditions, v1alpha1.ConditionAssessed)
		if condition == nil || condition.Reason != v1alpha1.ReasonNotADomain || event.Status.Assessment.Outcome != "" {
			return fmt.Sprintf("got %+v", event.Status)
		}
		return ""
	})
	label := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"firebreak.dev/domain":""}}}`))
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := testClient.Patch(t.Context(), namespace, label); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, policy, metav1.ConditionTrue, "2 rules are in force")
	awaitAssessment(t, event, v1alpha1.OutcomePromoted)
}

func TestOccurrencesFollowCounters(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	startAssessor(t, namespace, nil)
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	before := awaitAssessment(t, event, v1alpha1.OutcomePromoted)
	const repeats = 30
	for i := range repeats {
		patch := fmt.Appendf(nil, `{"status":{"counters":[{"spool":"receiver-0","count":%d},{"spool":"receiver-1","count":2}]}}`, i+1)
		if err := testClient.Status().Patch(t.Context(), event, client.RawPatch(types.MergePatchType, patch)); err != nil {
			t.Fatal(err)
		}
	}
	got := &v1alpha1.SecurityEvent{}
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), got); err != nil {
			return err.Error()
		}
		if got.Status.Occurrences != 1+repeats+2 {
			return fmt.Sprintf("occurrences are %d", got.Status.Occurrences)
		}
		return ""
	})
	if diff := cmp.Diff(before.Status.Assessment, got.Status.Assessment); diff != "" {
		t.Errorf("counting changed the assessment:\n%s", diff)
	}
}

func TestWriteGate(t *testing.T) {
	at := time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)
	gate := writeGate{}
	if wait := gate.wait("a", at); wait != 0 {
		t.Errorf("got %s for an event never written", wait)
	}
	gate.wrote("a", at)
	if wait := gate.wait("a", at.Add(300*time.Millisecond)); wait != 700*time.Millisecond {
		t.Errorf("got %s, want 700ms", wait)
	}
	if wait := gate.wait("a", at.Add(2*time.Second)); wait > 0 {
		t.Errorf("got %s, want none", wait)
	}
	gate.absorb("a", 7)
	gate.absorb("a", 5)
	if got := gate.absorbed("a"); got != 7 {
		t.Errorf("%d are absorbed before the count is written, want 7", got)
	}
	gate.wrote("a", at.Add(2*time.Second))
	if got := gate.absorbed("a"); got != 0 {
		t.Errorf("%d are absorbed after the count was written, want that only the count says so", got)
	}
	for i := range 2 * gateSize {
		gate.wrote(types.UID(fmt.Sprint(i)), at.Add(2*time.Second+time.Duration(i)*time.Millisecond))
	}
	if len(gate.last) > gateSize {
		t.Errorf("remembers %d events, want at most %d", len(gate.last), gateSize)
	}
}
