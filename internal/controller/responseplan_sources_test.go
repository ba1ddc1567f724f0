package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func expecting(sources ...v1alpha1.SourceHeard) *v1alpha1.ResponsePlan {
	plan := &v1alpha1.ResponsePlan{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: "security"}}
	plan.Spec.ExpectedSources = []v1alpha1.ExpectedSource{
		{Product: "falco", SilentAfter: &metav1.Duration{Duration: time.Hour}},
		{Product: "trivy-operator", SilentAfter: &metav1.Duration{Duration: 24 * time.Hour}, SubmittedBy: "trivy"},
	}
	plan.Status.Sources = sources
	return plan
}

func heardAt(product string, expected, last time.Duration) v1alpha1.SourceHeard {
	heard := v1alpha1.SourceHeard{Product: product, ExpectedTime: &metav1.Time{Time: noon.Add(-expected)}}
	if last >= 0 {
		heard.LastHeardTime = &metav1.Time{Time: noon.Add(-last)}
	}
	return heard
}

func TestSilentSources(t *testing.T) {
	for name, test := range map[string]struct {
		sources []v1alpha1.SourceHeard
		silent  []string
		next    time.Duration
	}{
		"newly expected":             {nil, nil, time.Hour},
		"never heard, not for long":  {[]v1alpha1.SourceHeard{heardAt("falco", 59*time.Minute, -1)}, nil, time.Minute},
		"never heard":                {[]v1alpha1.SourceHeard{heardAt("falco", time.Hour, -1)}, []string{"falco"}, 24 * time.Hour},
		"heard lately":               {[]v1alpha1.SourceHeard{heardAt("falco", 100*time.Hour, 10*time.Minute)}, nil, 50 * time.Minute},
		"heard long ago":             {[]v1alpha1.SourceHeard{heardAt("falco", 100*time.Hour, 61*time.Minute)}, []string{"falco"}, 24 * time.Hour},
		"a clock is ahead":           {[]v1alpha1.SourceHeard{heardAt("falco", 100*time.Hour, 0), {Product: "falco"}}, nil, time.Hour},
		"both":                       {[]v1alpha1.SourceHeard{heardAt("falco", 100*time.Hour, -1), heardAt("trivy-operator", 100*time.Hour, 25*time.Hour)}, []string{"falco", "trivy-operator"}, 0},
		"what is heard, not expects": {[]v1alpha1.SourceHeard{{Product: "falco", LastHeardTime: &metav1.Time{Time: noon}}}, nil, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			silent, next := silentSources(expecting(test.sources...), noon)
			var names []string
			for i := range silent {
				names = append(names, silent[i].source.Product)
			}
			if diff := cmp.Diff(test.silent, names); diff != "" {
				t.Errorf("silent (-want +got):\n%s", diff)
			}
			if test.next == 0 && !next.IsZero() || test.next > 0 && !next.Equal(noon.Add(test.next)) {
				t.Errorf("next is %s, want %s", next, test.next)
			}
		})
	}
	ahead := expecting(heardAt("falco", 100*time.Hour, 0))
	ahead.Status.Sources[0].LastHeardTime.Time = noon.Add(1000 * time.Hour)
	if _, next := silentSources(ahead, noon); !next.Equal(noon.Add(time.Hour)) {
		t.Errorf("where a clock is ahead it must count from now: next is %s", next)
	}
}

func TestWhatIsSaidOfSilentSources(t *testing.T) {
	silent, _ := silentSources(expecting(heardAt("falco", 100*time.Hour, -1), heardAt("trivy-operator", 100*time.Hour, 25*time.Hour)), noon)
	said := sourcesHeard(silent)
	want := "'falco' was not heard ever, and is expected since 2026-11-17T08:00:00Z (silentAfter 1h0m0s); " +
		"'trivy-operator' was not heard from 'trivy' since 2026-11-20T11:00:00Z (silentAfter 24h0m0s): check that it runs"
	if said.Status != metav1.ConditionFalse || said.Reason != v1alpha1.ReasonSourceSilent || !strings.HasPrefix(said.Message, want) {
		t.Errorf("got %+v, want %q", said, want)
	}
	if said := sourcesHeard(nil); said.Status != metav1.ConditionTrue || said.Message != "" {
		t.Errorf("got %+v", said)
	}
}

func TestExpectSources(t *testing.T) {
	plan := expecting(heardAt("falco", time.Hour, 0), heardAt("gone", time.Hour, 0))
	expectSources(plan, noon)
	want := []v1alpha1.SourceHeard{heardAt("falco", time.Hour, 0), heardAt("trivy-operator", 0, -1)}
	if diff := cmp.Diff(want, plan.Status.Sources); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	plan.Spec.ExpectedSources = nil
	if expectSources(plan, noon); plan.Status.Sources != nil {
		t.Errorf("got %v, want none", plan.Status.Sources)
	}
}

// TestWhoseEventsAreHeard: what anybody may write in a report keeps no source from falling silent.
func TestWhoseEventsAreHeard(t *testing.T) {
	const receiver = "system:serviceaccount:firebreak-system:firebreak-receiver"
	for name, test := range map[string]struct {
		kind                     v1alpha1.SourceKind
		product, from, expecting string
		want                     bool
		mode                     v1alpha1.Mode
	}{
		"a drill":                         {kind: v1alpha1.SourceAutomatic, product: "kyverno", from: "sender", mode: v1alpha1.ModeDrill},
		"anybody":                         {v1alpha1.SourceAutomatic, "kyverno", "sender", "", true, v1alpha1.ModeLive},
		"who is named":                    {v1alpha1.SourceAutomatic, "kyverno", "sender", "sender", true, v1alpha1.ModeLive},
		"another":                         {v1alpha1.SourceAutomatic, "kyverno", "mallory", "sender", false, v1alpha1.ModeLive},
		"another product":                 {v1alpha1.SourceAutomatic, "falco", "sender", "", false, v1alpha1.ModeLive},
		"a person":                        {v1alpha1.SourceHuman, "kyverno", "sender", "", false, v1alpha1.ModeLive},
		"a report":                        {v1alpha1.SourceAutomatic, "kyverno", receiver, "", false, v1alpha1.ModeLive},
		"a report, of a sender":           {v1alpha1.SourceAutomatic, "kyverno", receiver, "sender", false, v1alpha1.ModeLive},
		"a report, where the plan trusts": {v1alpha1.SourceAutomatic, "kyverno", receiver, receiver, true, v1alpha1.ModeLive},
	} {
		event := &v1alpha1.SecurityEvent{Spec: v1alpha1.SecurityEventSpec{Mode: test.mode, SubmittedBy: test.from, Source: v1alpha1.EventSource{Kind: test.kind, Product: test.product}}}
		if got := comesFrom(event, &v1alpha1.ExpectedSource{Product: "kyverno", SubmittedBy: test.expecting}); got != test.want {
			t.Errorf("%s: heard %t, want %t", name, got, test.want)
		}
	}
}

// TestSourcesFallSilentAndAreHeardAgain goes the way of a source that reports by itself, past
// the receivers.
func TestSourcesFallSilentAndAreHeardAgain(t *testing.T) {
	namespace := newDomain(t)
	mgr := newManager(t, namespace)
	if err := AddIndexes(t.Context(), mgr.GetFieldIndexer()); err != nil {
		t.Fatal(err)
	}
	now := clocktesting.NewFakePassiveClock(time.Now())
	plans := &ResponsePlanReconciler{Client: mgr.GetClient(), Guard: NewAdmissionGuard(mgr.GetClient(), clock.RealClock{}), Clock: now}
	if err := plans.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	plan := expecting()
	plan.Namespace = namespace
	plan.Spec.ExpectedSources = plan.Spec.ExpectedSources[:1]
	mustCreate(t, plan)
	start(t, mgr)
	await := func(status metav1.ConditionStatus) {
		t.Helper()
		eventually(t, func(ctx context.Context) string {
			if err := testClient.Get(ctx, client.ObjectKeyFromObject(plan), plan); err != nil {
				return err.Error()
			}
			if heard := meta.FindStatusCondition(plan.Status.Conditions, v1alpha1.ConditionSourcesHeard); heard == nil || heard.Status != status {
				return fmt.Sprintf("SourcesHeard is %+v, want %s", heard, status)
			}
			return ""
		})
	}
	touch := func() {
		t.Helper()
		patch := client.MergeFrom(plan.DeepCopy())
		plan.Spec.ExpectedSources[0].SubmittedBy = fmt.Sprintf("sender-%d", plan.Generation)
		if err := testClient.Patch(t.Context(), plan, patch); err != nil {
			t.Fatal(err)
		}
	}
	await(metav1.ConditionTrue)
	now.SetTime(now.Now().Add(2 * time.Hour))
	touch() // the deadline itself is an hour of the real clock away
	await(metav1.ConditionFalse)
	metrics := &Metrics{Reader: mgr.GetClient(), Events: &SecurityEventReconciler{}, Clock: now}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 || families[0].GetMetric()[0].GetGauge().GetValue() != 1 {
		t.Errorf("got the metrics %v, %v; want that one source is silent", families, err)
	}

	now.SetTime(time.Now())
	stranger := shellEvent(namespace, "stranger", "cart-1")
	mustCreate(t, stranger)
	event := shellEvent(namespace, "again", "cart-1")
	event.Spec.SubmittedBy = plan.Spec.ExpectedSources[0].SubmittedBy
	mustCreate(t, event)
	await(metav1.ConditionTrue)
	if heard := plan.Status.Sources[0].LastHeardTime; heard == nil {
		t.Error("it must be written down when it was heard")
	}
	// The clock was set back meanwhile, and the text of the plan may have changed in the silence.
	told := slices.CompactFunc(toldIn(t, namespace), func(a, b eventsv1.Event) bool { return a.Reason == b.Reason })
	if len(told) != 2 || told[0].Reason != v1alpha1.ReasonAllHeard || told[1].Reason != v1alpha1.ReasonSourceSilent ||
		told[1].Regarding.UID != plan.UID || !strings.Contains(told[0].Note, "before it was SourceSilent: 'falco' was not heard") {
		t.Errorf("told %+v, want that the source was silent, and that it was heard again", told)
	}

	patch := client.MergeFrom(plan.DeepCopy())
	plan.Spec.ExpectedSources = nil
	if err := testClient.Patch(t.Context(), plan, patch); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(plan), plan); err != nil {
			return err.Error()
		}
		if meta.FindStatusCondition(plan.Status.Conditions, v1alpha1.ConditionSourcesHeard) != nil || plan.Status.Sources != nil {
			return "a plan that expects no source must say nothing of any"
		}
		return ""
	})
}
