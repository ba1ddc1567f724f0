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

// confirmedByPerson: the rule asks for a person before eradication, and suspects a breach.
func confirmedByPerson(t *testing.T, s *scene) {
	policy := harness.MakePolicy(s.Namespace, "", "")
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(policy), policy))
	policy.Spec.Rules[0].Incident.Confirm = v1alpha1.ConfirmRequired
	policy.Spec.Rules[0].Incident.Determinations = []v1alpha1.Determination{{Name: "personal-data-breach", Outcome: v1alpha1.DeterminationSuspected}}
	done(t, s.Client.Update(t.Context(), policy))
	harness.WaitFor(t, s.Client, policy, "the policy's new generation to be in force", func(p *v1alpha1.ClassificationPolicy) bool {
		return p.Status.ObservedGeneration == p.Generation && isTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "a confirmation to be awaited", func(i *v1alpha1.Incident) bool {
		return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) && awaited(i, v1alpha1.AwaitingConfirmation) != nil
	})
	if awaited(incident, v1alpha1.AwaitingApproval) != nil || step(incident, "ok-to-delete").State != v1alpha1.StepPending {
		t.Errorf("got the steps %+v, want that eradication has not begun", incident.Status.Steps)
	}
	if found := incident.Status.Determinations; len(found) != 1 || found[0].Outcome != v1alpha1.DeterminationSuspected || found[0].By != "" {
		t.Errorf("got the determinations %+v, want the rule's suspicion", found)
	}
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionDetermine, func(d *v1alpha1.Decision) {
		d.Spec.Determination = v1alpha1.Determination{Name: "personal-data-breach", Outcome: v1alpha1.DeterminationExcluded}
	}))
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionConfirm))
	s.approve(t, incident)
	s.until(t, incident, "the incident to be in review", inPhase(v1alpha1.PhaseReview))
	if found := incident.Status.Determinations; len(found) != 1 || found[0].Outcome != v1alpha1.DeterminationExcluded || found[0].By != jane {
		t.Errorf("got the determinations %+v, want what %s has found", found, jane)
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
