package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

func TestConcurrentEventsOpenOneIncident(t *testing.T) {
	for name, test := range map[string]struct {
		managers int
		observed func(int) time.Time
	}{
		"two managers": {2, func(int) time.Time { return time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC) }},
		"over midnight": {1, func(i int) time.Time {
			return time.Date(2026, 11, 21, 23, 59, 50+i, 0, time.UTC)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			namespace := newDomain(t)
			mustCreate(t, shellPolicy(namespace))
			for range test.managers {
				startAssessor(t, namespace, nil)
			}
			const count = 20
			var wg sync.WaitGroup
			for i := range count {
				event := shellEvent(namespace, fmt.Sprintf("event-%d", i), "cart-1")
				event.Spec.ObservedTime = metav1.NewTime(test.observed(i))
				wg.Go(func() {
					if err := testClient.Create(t.Context(), event); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			outcomes := map[v1alpha1.AssessmentOutcome]int{}
			eventually(t, func(ctx context.Context) string {
				list := &v1alpha1.SecurityEventList{}
				if err := testClient.List(ctx, list, client.InNamespace(namespace)); err != nil {
					return err.Error()
				}
				clear(outcomes)
				for _, event := range list.Items {
					outcomes[event.Status.Assessment.Outcome]++
				}
				if outcomes[v1alpha1.OutcomePromoted]+outcomes[v1alpha1.OutcomeJoined] != count {
					return fmt.Sprint(outcomes)
				}
				return ""
			})
			if incidents := incidentsIn(t, namespace); len(incidents) != 1 || outcomes[v1alpha1.OutcomePromoted] != 1 {
				t.Errorf("got %d incidents and the outcomes %v, want 1 incident, promoted once", len(incidents), outcomes)
			}
		})
	}
}

func TestCrashBetweenIncidentAndStatus(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	crashing := startAssessor(t, namespace, func(inner client.Client) client.Client {
		return interceptor.NewClient(withWatch{inner}, interceptor.Funcs{
			SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
				return errors.New("killed")
			},
		})
	})
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	eventually(t, func(context.Context) string {
		if len(incidentsIn(t, namespace)) == 0 {
			return "no incident yet"
		}
		return ""
	})
	crashing.stop()

	startAssessor(t, namespace, nil)
	got := awaitAssessment(t, event, v1alpha1.OutcomePromoted)
	if incidents := incidentsIn(t, namespace); len(incidents) != 1 || got.Status.IncidentRef.Name != incidents[0].Name {
		t.Errorf("got %d incidents, want the one of the first try", len(incidents))
	}
}

// TestCrashWhileThePodLeavesItsWorkload: the incident contains the pod before the event says
// that it has opened it. Without its workload the event would be of another correlation.
func TestCrashWhileThePodLeavesItsWorkload(t *testing.T) {
	t.Run("the policy is the same", func(t *testing.T) {
		got := crashWhileThePodLeaves(t, func(*v1alpha1.ClassificationPolicy) {})
		if got.Status.Assessment.Workload != "cart" || got.Status.Assessment.Rule != "shell-in-container" || got.Status.Occurrences != 1 {
			t.Errorf("assessed as %+v, want by the same rule, with the workload 'cart'", got.Status.Assessment)
		}
	})
	t.Run("the policy dismisses by now", func(t *testing.T) {
		got := crashWhileThePodLeaves(t, func(policy *v1alpha1.ClassificationPolicy) {
			policy.Spec.Rules[1].Outcome, policy.Spec.Rules[1].Correlate, policy.Spec.Rules[1].Incident = v1alpha1.RuleDismiss, v1alpha1.Correlation{}, v1alpha1.IncidentTemplate{}
		})
		if got.Status.Assessment.Reason != v1alpha1.ReasonOpenedBefore {
			t.Errorf("assessed as %+v, want it to stay with the incident it has opened", got.Status.Assessment)
		}
	})
}

// crashWhileThePodLeaves opens an incident for an event and ends before the event says so; the
// pod leaves its workload, and the policy is edited before the next start.
func crashWhileThePodLeaves(t *testing.T, edit func(*v1alpha1.ClassificationPolicy)) *v1alpha1.SecurityEvent {
	t.Helper()
	namespace := newDomain(t)
	cartPod(t, namespace)
	mustCreate(t, shellPolicy(namespace))
	mustCreate(t, &v1alpha1.ResponsePlan{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: namespace}, Spec: v1alpha1.ResponsePlanSpec{ServiceAccountName: "reader"},
	})
	crashing := startAssessor(t, namespace, func(inner client.Client) client.Client {
		return interceptor.NewClient(withWatch{inner}, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
				if _, isEvent := object.(*v1alpha1.SecurityEvent); isEvent {
					return errors.New("killed")
				}
				return c.SubResource(sub).Patch(ctx, object, patch, options...)
			},
		})
	})
	event := shellEvent(namespace, "first", "cart-7f9-abc")
	event.Spec.Resources[0].Namespace = namespace
	mustCreate(t, event)
	eventually(t, func(context.Context) string {
		if len(incidentsIn(t, namespace)) == 0 {
			return "no incident yet"
		}
		return ""
	})
	crashing.stop()
	opened := incidentsIn(t, namespace)[0]
	opened.Status.Phase = v1alpha1.PhaseContainment
	opened.Status.Resources = []v1alpha1.IncidentResource{{
		ResourceReference: event.Spec.Resources[0], State: v1alpha1.ResourcePresent,
		Workload: v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "cart", UID: "uid-of-cart"},
	}}
	if err := testClient.Status().Update(t.Context(), &opened); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "cart-7f9-abc"}}
	if err := testClient.Patch(t.Context(), pod, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`))); err != nil {
		t.Fatal(err)
	}
	policy := shellPolicy(namespace)
	if err := testClient.Get(t.Context(), client.ObjectKeyFromObject(policy), policy); err != nil {
		t.Fatal(err)
	}
	edit(policy)
	if err := testClient.Update(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	startAssessor(t, namespace, nil)
	got := awaitAssessment(t, event, v1alpha1.OutcomePromoted)
	if incidents := incidentsIn(t, namespace); len(incidents) != 1 || got.Status.IncidentRef.Name != opened.Name {
		t.Errorf("there are %d incidents; the event names %q, want the one it has opened, %q", len(incidents), got.Status.IncidentRef.Name, opened.Name)
	}
	return got
}

func TestIncidentInReviewIsNotJoined(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	startAssessor(t, namespace, nil)
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	first := awaitAssessment(t, event, v1alpha1.OutcomePromoted).Status.IncidentRef.Name

	incident := &v1alpha1.Incident{}
	if err := testClient.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: first}, incident); err != nil {
		t.Fatal(err)
	}
	incident.Status.Phase = v1alpha1.PhaseReview
	if err := testClient.Status().Update(t.Context(), incident); err != nil {
		t.Fatal(err)
	}
	again := shellEvent(namespace, "again", "cart-1")
	mustCreate(t, again)
	second := awaitAssessment(t, again, v1alpha1.OutcomePromoted).Status.IncidentRef.Name
	if err := testClient.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: second}, incident); err != nil {
		t.Fatal(err)
	}
	if incident.Spec.RelatedTo.Name != first || incident.Labels[v1alpha1.LabelCorrelationSequence] != "2" {
		t.Errorf("incident %q is related to %q with sequence %q, want %q and '2'",
			second, incident.Spec.RelatedTo.Name, incident.Labels[v1alpha1.LabelCorrelationSequence], first)
	}
}

func TestIncidentComesToReviewDuringJoin(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	startAssessor(t, namespace, func(inner client.Client) client.Client {
		return interceptor.NewClient(withWatch{inner}, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
				if event, ok := object.(*v1alpha1.SecurityEvent); ok && event.Status.Assessment.Outcome == v1alpha1.OutcomeJoined {
					review := client.RawPatch(types.MergePatchType, []byte(`{"status":{"phase":"Review"}}`))
					incident := &v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: event.Status.IncidentRef.Name}}
					if err := testClient.Status().Patch(ctx, incident, review); err != nil {
						return err
					}
				}
				return c.SubResource(sub).Patch(ctx, object, patch, options...)
			},
		})
	})
	first := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, first)
	opened := awaitAssessment(t, first, v1alpha1.OutcomePromoted).Status.IncidentRef.Name
	late := shellEvent(namespace, "late", "cart-1")
	mustCreate(t, late)
	got := awaitAssessment(t, late, v1alpha1.OutcomePromoted)
	if got.Status.IncidentRef.Name == opened || len(incidentsIn(t, namespace)) != 2 {
		t.Errorf("the late event belongs to %q, which no longer takes it up", got.Status.IncidentRef.Name)
	}
}

func TestTakenNameGetsLonger(t *testing.T) {
	namespace := newDomain(t)
	other := newDomain(t)
	for _, domain := range []string{namespace, other} {
		mustCreate(t, shellPolicy(domain))
	}
	startAssessor(t, other, nil)
	scout := shellEvent(other, "first", "cart-1")
	mustCreate(t, scout)
	name := awaitAssessment(t, scout, v1alpha1.OutcomePromoted).Status.IncidentRef.Name

	mustCreate(t, &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       v1alpha1.IncidentSpec{Title: "Declared by hand", Severity: v1alpha1.SeverityLow, Category: v1alpha1.CategoryOther},
	})
	startAssessor(t, namespace, nil)
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	got := awaitAssessment(t, event, v1alpha1.OutcomePromoted).Status.IncidentRef.Name
	if !strings.HasPrefix(got, name) || len(got) != len(name)+5 {
		t.Errorf("got the name %q, want %q and 5 more characters", got, name)
	}
}

// TestNameOfAnotherDay: another manager has opened the incident under the name of the day
// before, and the cache does not show it yet.
func TestNameOfAnotherDay(t *testing.T) {
	namespace := newDomain(t)
	event := shellEvent(namespace, "first", "cart-1")
	event.Spec.ObservedTime = metav1.NewTime(time.Now().Truncate(time.Second))
	mustCreate(t, event)
	correlation := classify.Correlation{Policy: "runtime", Rule: "shell", Key: []string{"shop"}, Within: 72 * time.Hour}
	name, _ := correlation.IncidentName(event.Spec.ObservedTime.Add(-24*time.Hour), 1, 0)
	theirs := declared(t, namespace, name)
	theirs.Labels = map[string]string{v1alpha1.LabelCorrelation: correlation.Label(), v1alpha1.LabelCorrelationSequence: "1"}
	if err := testClient.Update(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	midnight := event.Spec.ObservedTime.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	for name, test := range map[string]struct {
		now    time.Time
		joined bool
	}{
		"in the middle of the day": {midnight.Add(-12 * time.Hour), false},
		"before midnight":          {midnight.Add(-time.Minute), true},
		"after midnight":           {midnight.Add(time.Minute), true},
	} {
		t.Run(name, func(t *testing.T) {
			stale := interceptor.NewClient(withWatch{testClient}, interceptor.Funcs{
				List:   func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return nil },
				Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return nil },
			})
			at := clocktesting.NewFakePassiveClock(test.now)
			p := newPromoter(stale, testClient, at, 1)
			p.known.complete = map[string]bool{namespace: true}
			moment := event.DeepCopy()
			moment.Spec.ObservedTime = metav1.NewTime(test.now)
			got, joined, err := p.openOrJoin(t.Context(), promotion{event: moment, incident: classify.NewIncident(moment), correlation: correlation})
			if err != nil || joined != test.joined || test.joined && got != theirs.Name {
				t.Errorf("got %q, joined %t, %v; want joined %t", got, joined, err, test.joined)
			}
		})
	}
}

func TestNameMayDiffer(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		seen, now time.Duration
		want      bool
	}{
		"today":                     {0, time.Hour, false},
		"yesterday":                 {-24 * time.Hour, 0, true},
		"seen just before midnight": {12*time.Hour - time.Minute, 11 * time.Hour, true},
		"long before":               {11 * time.Hour, 11*time.Hour + 45*time.Minute, false},
		"now just before midnight":  {0, 12*time.Hour - time.Minute, true},
		"now just after midnight":   {-11 * time.Hour, -12*time.Hour + time.Minute, true},
		"a clock that is fast":      {36 * time.Hour, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &promoter{clock: clocktesting.NewFakePassiveClock(noon.Add(test.now))}
			event := &v1alpha1.SecurityEvent{Spec: v1alpha1.SecurityEventSpec{ObservedTime: metav1.NewTime(noon.Add(test.seen))}}
			if got := p.nameMayDiffer(event); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}
