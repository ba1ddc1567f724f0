package integration

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// detachedEvent: a second pod is contained, and its event found to be another matter. It
// stays contained, is not deleted, and its event is for a person to decide about.
func detachedEvent(t *testing.T, s *scene) {
	first := s.shop(t, "cart")
	s.alert(t, first.Name)
	incident := s.incident(t)
	const second = "cart-7f9-b"
	s.alert(t, second)
	s.until(t, incident, "both pods to be isolated", func(i *v1alpha1.Incident) bool {
		return len(step(i, "isolate").Targets) == 2 && step(i, "isolate").State == v1alpha1.StepSucceeded && awaited(i, v1alpha1.AwaitingApproval) != nil
	})
	event := s.eventAbout(t, second)
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionDetachEvent, func(d *v1alpha1.Decision) {
		d.Spec.EventRef.Name = event.Name
	}))
	s.event(t, event, v1alpha1.OutcomeDeferred)
	if a := event.Status.Assessment; a.Reason != v1alpha1.ReasonDetached || a.By != jane || event.Status.IncidentRef.Name != "" || len(event.Status.EarlierAssessments) != 1 {
		t.Errorf("got %+v, want it detached by %s", event.Status, jane)
	}
	s.approve(t, incident)
	s.until(t, incident, "the incident to be in recovery or later", func(i *v1alpha1.Incident) bool {
		return i.Status.Phase.Rank() >= v1alpha1.PhaseRecovery.Rank()
	})
	if targets := step(incident, "delete-pod").Targets; len(targets) != 1 || targets[0].Name != first.Name {
		t.Errorf("got the targets %+v, want the first pod only", targets)
	}
	pod := client.ObjectKey{Namespace: s.Target, Name: second}
	done(t, s.Client.Get(t.Context(), pod, &corev1.Pod{}))

	joined := harness.MakeDecision(s.Namespace, "", jane, v1alpha1.DecisionPromote, about(v1alpha1.SubjectSecurityEvent, event.Name))
	s.accept(t, joined)
	s.event(t, event, v1alpha1.OutcomePromoted)
	if event.Status.IncidentRef.Name == incident.Name {
		t.Error("the event must have an incident of its own")
	}
}

// eventAbout waits for the event about a pod.
func (s *scene) eventAbout(t *testing.T, pod string) *v1alpha1.SecurityEvent {
	t.Helper()
	found := &v1alpha1.SecurityEvent{}
	harness.Eventually(t, harness.Patience, "an event about "+pod, func(ctx context.Context) error {
		var list v1alpha1.SecurityEventList
		if err := s.Client.List(ctx, &list, client.InNamespace(s.Namespace)); err != nil {
			return err
		}
		for i := range list.Items {
			if resources := list.Items[i].Spec.Resources; len(resources) > 0 && resources[0].Name == pod {
				found = &list.Items[i]
				return nil
			}
		}
		return fmt.Errorf("there are %d events, and none is about it", len(list.Items))
	})
	return found
}
