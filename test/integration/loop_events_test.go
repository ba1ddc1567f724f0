package integration

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// event waits until an event was assessed so.
func (s *scene) event(t *testing.T, event *v1alpha1.SecurityEvent, outcome v1alpha1.AssessmentOutcome) {
	t.Helper()
	harness.WaitFor(t, s.Client, event, "the event to be "+string(outcome), func(e *v1alpha1.SecurityEvent) bool {
		return e.Status.Assessment.Outcome == outcome
	})
}

func podResource(namespace, name string, uid v1alpha1.ObjectUID) []v1alpha1.ResourceReference {
	return []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: name, UID: uid}}
}

// deferredThenPromoted: no rule decides, so a person does.
func deferredThenPromoted(t *testing.T, s *scene) {
	pod := s.shop(t, "cart")
	event := harness.MakeEvent(s.Namespace, "odd", jane, func(e *v1alpha1.SecurityEvent) {
		e.Spec.Resources = podResource(s.Target, pod.Name, "")
	})
	done(t, s.jane.Create(t.Context(), event))
	s.event(t, event, v1alpha1.OutcomeDeferred)
	if event.Status.Assessment.Reason != v1alpha1.ReasonNoRuleMatched {
		t.Errorf("got the assessment %+v, want the reason NoRuleMatched", event.Status.Assessment)
	}

	s.accept(t, harness.MakeDecision(s.Namespace, "", jane, v1alpha1.DecisionPromote, about(v1alpha1.SubjectSecurityEvent, event.Name), func(d *v1alpha1.Decision) {
		d.Spec.Severity, d.Spec.Category = v1alpha1.SeverityCritical, v1alpha1.CategoryIntrusion
		d.Spec.PlaybookRef.Name = contain
	}))
	s.event(t, event, v1alpha1.OutcomePromoted)
	if a := event.Status.Assessment; a.By != jane || a.DecisionRef.Name == "" || len(event.Status.EarlierAssessments) != 1 {
		t.Errorf("got the assessment %+v, want one by %s that names the Decision and keeps the earlier", a, jane)
	}
	incident := s.incident(t)
	if event.Status.IncidentRef.Name != incident.Name {
		t.Errorf("the event names the incident %q, want %q", event.Status.IncidentRef.Name, incident.Name)
	}
	s.until(t, incident, "the pod to be contained", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
	if incident.Status.Severity != v1alpha1.SeverityCritical {
		t.Errorf("got severity %s, want the Critical that was decided", incident.Status.Severity)
	}
}

func dismissedByPerson(t *testing.T, s *scene) {
	event := harness.MakeEvent(s.Namespace, "odd", jane)
	done(t, s.jane.Create(t.Context(), event))
	s.event(t, event, v1alpha1.OutcomeDeferred)
	s.accept(t, harness.MakeDecision(s.Namespace, "", jane, v1alpha1.DecisionDismiss, about(v1alpha1.SubjectSecurityEvent, event.Name)))
	s.event(t, event, v1alpha1.OutcomeDismissed)
}

// brokenRules: a rule that does not compile puts no policy in force, and one that fails
// leaves the event to a person.
func brokenRules(t *testing.T, s *scene) {
	broken := harness.MakePolicy(s.Namespace, "event.sevrity == 'High'", contain, func(p *v1alpha1.ClassificationPolicy) { p.Name = "typo" })
	done(t, s.Client.Create(t.Context(), broken))
	harness.WaitFor(t, s.Client, broken, "the policy not to be ready", func(p *v1alpha1.ClassificationPolicy) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionFalse {
				return c.Reason == v1alpha1.ReasonExpressionError && strings.Contains(c.Message, "rule") && strings.Contains(c.Message, "sevrity")
			}
		}
		return false
	})

	failing := harness.MakePolicy(s.Namespace, "event.resources[7].name == 'x'", contain, func(p *v1alpha1.ClassificationPolicy) {
		p.Name, p.Spec.Priority = "failing", new(int32)
		*p.Spec.Priority = 10
	})
	done(t, s.Client.Create(t.Context(), failing))
	harness.WaitFor(t, s.Client, failing, "the policy to be ready", func(p *v1alpha1.ClassificationPolicy) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
	event := harness.MakeEvent(s.Namespace, "odd", jane)
	done(t, s.jane.Create(t.Context(), event))
	s.event(t, event, v1alpha1.OutcomeDeferred)
	if a := event.Status.Assessment; a.Reason != v1alpha1.ReasonRuleError || a.Policy.Name != "failing" {
		t.Errorf("got the assessment %+v, want RuleError of the policy 'failing'", a)
	}
}

// secondPod joins after containment: it is contained too, and what was approved for the
// first alone does not count for both.
func secondPod(t *testing.T, s *scene) {
	first := s.shop(t, "cart")
	s.alert(t, first.Name)
	incident := s.incident(t)
	s.until(t, incident, "an approval to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
	stale := *awaited(incident, v1alpha1.AwaitingApproval)

	const second = "cart-7f9-b"
	s.alert(t, second)
	s.until(t, incident, "both pods to be isolated", func(i *v1alpha1.Incident) bool {
		isolate := step(i, "isolate")
		return len(isolate.Targets) == 2 && isolate.State == v1alpha1.StepSucceeded && isTrue(i.Status.Conditions, v1alpha1.ConditionContained)
	})
	if incident.Status.Phase != v1alpha1.PhaseEradication {
		t.Errorf("got the phase %s, want Eradication: it stays", incident.Status.Phase)
	}
	s.incident(t) // still one
	answer := s.decide(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionApprove, func(d *v1alpha1.Decision) {
		d.Spec.Step, d.Spec.Digest, d.Spec.Role, d.Spec.Groups = stale.Step, stale.Digest, stale.Role, []string{"security-oncall"}
	}))
	if answer.Status != metav1.ConditionFalse || answer.Reason != v1alpha1.ReasonStale {
		t.Errorf("got %s (%s: %s), want the approval of one pod to be refused as Stale for two", answer.Status, answer.Reason, answer.Message)
	}
	s.approve(t, incident)
	s.until(t, incident, "both pods to be deleted", func(i *v1alpha1.Incident) bool { return len(step(i, "delete-pod").Targets) == 2 })
	s.until(t, incident, "the incident to be in review", inPhase(v1alpha1.PhaseReview))
}

// repeats raise a counter, and make no second incident.
func repeats(t *testing.T, s *scene) {
	pod := s.shop(t, "cart")
	for range 5 {
		s.alert(t, pod.Name)
	}
	incident := s.incident(t)
	s.until(t, incident, "five events to be counted", func(i *v1alpha1.Incident) bool { return i.Status.EventCount == 5 })
	var events v1alpha1.SecurityEventList
	done(t, s.Client.List(t.Context(), &events, client.InNamespace(s.Namespace)))
	total := int64(0)
	for _, event := range events.Items {
		total += event.Status.Occurrences
	}
	if len(events.Items) != 1 || total != 5 {
		t.Errorf("got %d events seen %d times, want one event seen 5 times", len(events.Items), total)
	}
}
