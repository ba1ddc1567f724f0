package controller

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// TestOpenedIncidents: an event is told a moment after its incident was opened, and only of
// its own: one that was deleted and created again is assessed anew, and so is one that could
// not be told for long.
func TestOpenedIncidents(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	opener := func(name string, uid types.UID) *v1alpha1.SecurityEvent {
		event := shellEvent("soc", name, "cart")
		event.UID = uid
		return event
	}
	told := opener("first", "1")
	told.Status.Assessment.Outcome, told.Status.IncidentRef.Name = v1alpha1.OutcomePromoted, "inc-1"
	type answer struct {
		Incident string
		Wait     time.Duration
		OK       bool
	}
	for name, one := range map[string]struct {
		event *v1alpha1.SecurityEvent
		after time.Duration
		want  answer
	}{
		"at once":              {opener("first", "1"), 0, answer{"inc-1", tellAfter, true}},
		"a moment later":       {opener("first", "1"), tellAfter - time.Millisecond, answer{"inc-1", time.Millisecond, true}},
		"when it is time":      {opener("first", "1"), tellAfter, answer{"inc-1", 0, true}},
		"again and again":      {opener("first", "1"), tellBy, answer{"inc-1", 0, true}},
		"too late":             {opener("first", "1"), tellBy + 1, answer{}},
		"the clock went back":  {opener("first", "1"), -1, answer{}},
		"created again":        {opener("first", "2"), tellAfter, answer{}},
		"another of that time": {opener("second", "1"), tellAfter, answer{}},
	} {
		t.Run(name, func(t *testing.T) {
			var opened openedIncidents
			opened.note(told, &classify.Assessment{}, now)
			found, wait, ok := opened.get(one.event, now.Add(one.after))
			if diff := cmp.Diff(one.want, answer{found.incident, wait, ok}); diff != "" {
				t.Error(diff)
			}
			opened.forget(client.ObjectKeyFromObject(told))
			if _, _, ok := opened.get(one.event, now.Add(one.after)); ok {
				t.Error("it is still known once it is forgotten")
			}
		})
	}
}

// TestTheIncidentGoesFirst: while the clock stands the incident is there and its event does
// not say so; then it does, also when what is written at first is lost.
func TestTheIncidentGoesFirst(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	now := clocktesting.NewFakePassiveClock(time.Now())
	lost := make(chan struct{}, 1)
	startAssessor(t, namespace, func(inner client.Client) client.Client {
		return interceptor.NewClient(withWatch{inner}, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, inner client.Client, name string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
				select {
				case lost <- struct{}{}:
					return errors.New("lost")
				default:
					return inner.SubResource(name).Patch(ctx, object, patch, options...)
				}
			},
		})
	}, func(r *SecurityEventReconciler) { r.Clock = now })
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	eventually(t, func(context.Context) string {
		if len(incidentsIn(t, namespace)) == 0 {
			return "no incident yet"
		}
		return ""
	})
	if len(lost) > 0 {
		t.Fatal("the event is written although no time has passed since its incident was opened")
	}
	got := &v1alpha1.SecurityEvent{}
	eventually(t, func(ctx context.Context) string {
		now.SetTime(now.Now().Add(tellAfter)) // the reconciler may take down only now when that was
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), got); err != nil {
			return err.Error()
		}
		return cmp.Diff(v1alpha1.OutcomePromoted, got.Status.Assessment.Outcome)
	})
	if incidents := incidentsIn(t, namespace); len(incidents) != 1 || got.Status.IncidentRef.Name != incidents[0].Name || len(lost) == 0 {
		t.Errorf("got %d incidents and the event of %q (%d writes lost), want one that the event names, and one lost",
			len(incidents), got.Status.IncidentRef.Name, len(lost))
	}
}

// TestSeenAgainBeforeTold: what was seen after a short playbook was through is not taken for
// the incident's own, although the event was not told of the incident yet.
func TestSeenAgainBeforeTold(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	now := clocktesting.NewFakePassiveClock(time.Now())
	startAssessor(t, namespace, nil, func(r *SecurityEventReconciler) { r.Clock = now })
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	eventually(t, func(context.Context) string {
		if len(incidentsIn(t, namespace)) == 0 {
			return "no incident yet"
		}
		return ""
	})
	first := incidentsIn(t, namespace)[0].Name
	setIncident(t, namespace, first, inPhase(v1alpha1.PhaseReview))
	repeat(t, event, 1)
	eventually(t, func(context.Context) string {
		now.SetTime(now.Now().Add(tellAfter))
		if len(incidentsIn(t, namespace)) < 2 {
			return "it was seen again after the incident's end, and no other opens"
		}
		return ""
	})
	for _, incident := range incidentsIn(t, namespace) {
		if incident.Name != first && incident.Spec.RelatedTo.Name != first {
			t.Errorf("incident %s is related to %q, want %s", incident.Name, incident.Spec.RelatedTo.Name, first)
		}
	}
}
