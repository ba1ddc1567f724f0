package controller

import (
	"context"
	"maps"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// eventReads tells which events are read past the cache.
type eventReads struct {
	client.Reader
	mu    sync.Mutex
	names map[string]bool
}

func (r *eventReads) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if object.GetObjectKind().GroupVersionKind().Kind == "SecurityEvent" {
		r.mu.Lock()
		r.names[key.Name] = true
		r.mu.Unlock()
	}
	return r.Reader.Get(ctx, key, object, options...)
}

func (r *eventReads) all() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.names)
}

// TestReadOnceMore: whether an event is as it was read is asked of those that open an
// incident, also when that shows only by their workload, and of no others.
func TestReadOnceMore(t *testing.T) {
	namespace := newDomain(t)
	cartPod(t, namespace)
	mustCreate(t, &v1alpha1.ResponsePlan{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: namespace}, Spec: v1alpha1.ResponsePlanSpec{ServiceAccountName: "reader"},
	})
	policy := shellPolicy(namespace)
	byWorkload := policy.Spec.Rules[1]
	byWorkload.Name, byWorkload.Match = "by-workload", `event.source.?rule.orValue("") == "Of a cart" && event.workload == "cart"`
	policy.Spec.Rules = append(policy.Spec.Rules, byWorkload)
	mustCreate(t, policy)
	reads := &eventReads{names: map[string]bool{}}
	startAssessor(t, namespace, nil, func(r *SecurityEventReconciler) { reads.Reader, r.APIReader = r.APIReader, reads })
	for _, test := range []struct {
		name, rule string
		want       v1alpha1.AssessmentOutcome
	}{
		{"noise", "Noise", v1alpha1.OutcomeDismissed},
		{"unknown", "Never heard of", v1alpha1.OutcomeDeferred},
		{"shell", "Terminal shell in container", v1alpha1.OutcomePromoted},
		{"of-a-cart", "Of a cart", v1alpha1.OutcomePromoted},
	} {
		event := shellEvent(namespace, test.name, "cart-7f9-abc")
		event.Spec.Resources[0].Namespace, event.Spec.Source.Rule = namespace, test.rule
		mustCreate(t, event)
		awaitAssessment(t, event, test.want)
	}
	if diff := cmp.Diff(map[string]bool{"shell": true, "of-a-cart": true}, reads.all()); diff != "" {
		t.Errorf("events read past the cache (-want +got):\n%s", diff)
	}
}

// TestGuessedWithoutWorkload: an event that may open an incident is known as one before its
// workload is, also by rules that name the workload, so that it is read beside the look at it.
func TestGuessedWithoutWorkload(t *testing.T) {
	source := shellPolicy("security")
	byWorkload := source.Spec.Rules[1]
	byWorkload.Name, byWorkload.Match = "by-workload", `event.source.?rule.orValue("") == "Of a cart" && event.workload == "cart"`
	source.Spec.Rules = append(source.Spec.Rules, byWorkload)
	policy, err := classify.Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	for rule, want := range map[string]bool{"Terminal shell in container": true, "Noise": false, "Never heard of": false, "Of a cart": false} {
		event := shellEvent("security", "one", "cart-7f9-abc")
		event.Spec.Source.Rule = rule
		question := classify.Input{Event: event, Policies: []*classify.Policy{policy}, By: "manager", Now: event.Spec.ObservedTime.Time}
		if got := opensAny(t.Context(), question); got != want {
			t.Errorf("%s: got %v, want %v", rule, got, want)
		}
	}
}
