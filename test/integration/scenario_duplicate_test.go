package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

func init() {
	maps.Copy(scenarios, map[string]func(*testing.T, *scene){
		"a duplicate":              duplicateIncident,
		"duplicates of each other": duplicatesOfEachOther,
		"two kinds of senders":     twoSources,
	})
}

// twoIncidents are about a pod each, of different workloads; both are contained. The
// first is the older.
func (s *scene) twoIncidents(t *testing.T) (original, duplicate *v1alpha1.Incident, pods [2]*corev1.Pod) {
	t.Helper()
	pods = [2]*corev1.Pod{s.shop(t, "cart"), s.shop(t, "search")}
	var incidents [2]*v1alpha1.Incident
	for i, pod := range pods {
		s.alert(t, pod.Name)
		event := s.eventAbout(t, pod.Name)
		s.event(t, event, v1alpha1.OutcomePromoted)
		incidents[i] = &v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: event.Status.IncidentRef.Name}}
	}
	for _, incident := range incidents {
		s.until(t, incident, "it to be contained", func(i *v1alpha1.Incident) bool {
			return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) && awaited(i, v1alpha1.AwaitingApproval) != nil
		})
	}
	return incidents[0], incidents[1], pods
}

func (s *scene) mark(duplicate, original string) *v1alpha1.Decision {
	return harness.MakeDecision(s.Namespace, duplicate, jane, v1alpha1.DecisionMarkDuplicate, func(d *v1alpha1.Decision) {
		d.Spec.IncidentRef.Name = original
	})
}

func takenUp(i *v1alpha1.Incident) bool { return i.Status.DuplicateOf.TakenUpTime != nil }

// duplicateIncident: the original goes on with the duplicate's event and pod. The duplicate
// holds on to its isolation until the original has come to recovery, then it closes.
func duplicateIncident(t *testing.T, s *scene) {
	original, duplicate, pods := s.twoIncidents(t)
	for _, test := range []struct{ original, reason, says string }{
		{duplicate.Name, v1alpha1.ReasonInvalid, "none is a duplicate of itself"},
		{"inc-nope", v1alpha1.ReasonNoSuchIncident, "there is no Incident 'inc-nope'"},
	} {
		if answer := s.decide(t, s.mark(duplicate.Name, test.original)); answer.Reason != test.reason || !strings.Contains(answer.Message, test.says) {
			t.Errorf("got the answer %s: %s, want %s: %s", answer.Reason, answer.Message, test.reason, test.says)
		}
	}
	s.accept(t, s.mark(duplicate.Name, original.Name))
	s.until(t, duplicate, "the original to take it up", takenUp)
	event := s.eventAbout(t, pods[1].Name)
	harness.WaitFor(t, s.Client, event, "its event to be the original's", func(e *v1alpha1.SecurityEvent) bool { return e.Status.IncidentRef.Name == original.Name })
	if a := event.Status.Assessment; a.Outcome != v1alpha1.OutcomeJoined || a.Reason != v1alpha1.ReasonDuplicate || a.By != jane || a.DecisionRef.Name == "" || len(event.Status.EarlierAssessments) != 1 {
		t.Errorf("got the assessment %+v, want it joined by %s's Decision", a, jane)
	}
	s.until(t, original, "the original to isolate both pods", func(i *v1alpha1.Incident) bool {
		return len(step(i, "isolate").Targets) == 2 && isTrue(i.Status.Conditions, v1alpha1.ConditionContained) && i.Status.EventCount == 2
	})
	if known := original.Status.Duplicates; len(known) != 1 || known[0].Name != duplicate.Name || known[0].By != jane {
		t.Errorf("the original has the duplicates %+v, want %s", known, duplicate.Name)
	}
	if answer := s.decide(t, s.mark(original.Name, duplicate.Name)); answer.Reason != v1alpha1.ReasonDuplicate || !strings.Contains(answer.Message, "is a duplicate of this one") {
		t.Errorf("the other way round: got the answer %s: %s", answer.Reason, answer.Message)
	}

	// A new alert of the duplicate's key is the original's.
	const sibling = "search-7f9-b"
	s.alert(t, sibling)
	late := s.eventAbout(t, sibling)
	s.event(t, late, v1alpha1.OutcomeJoined)
	if late.Status.IncidentRef.Name != original.Name {
		t.Errorf("the new event belongs to %s, want %s", late.Status.IncidentRef.Name, original.Name)
	}
	s.until(t, original, "three pods to be isolated", func(i *v1alpha1.Incident) bool {
		return len(step(i, "isolate").Targets) == 3 && isTrue(i.Status.Conditions, v1alpha1.ConditionContained)
	})

	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pods[1]), pods[1]))
	if selecting := s.policiesSelecting(t, pods[1]); len(selecting) != 2 {
		t.Errorf("the duplicate's pod is selected by %v, want the policies of both incidents", selecting)
	}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(duplicate), duplicate))
	if duplicate.Status.Resolution != "" || len(duplicate.Status.Awaiting) > 0 || step(duplicate, "isolate").State != v1alpha1.StepSucceeded {
		t.Errorf("the duplicate must hold on and ask nobody for anything: %+v", duplicate.Status)
	}
	s.approve(t, original)
	s.until(t, duplicate, "the duplicate to be closed", inPhase(v1alpha1.PhaseClosed))
	if duplicate.Status.Resolution != v1alpha1.ResolutionDuplicate || step(duplicate, "isolate").State != v1alpha1.StepReverted || step(duplicate, "delete-pod").State != v1alpha1.StepSkipped {
		t.Errorf("got %s and the steps %+v, want everything undone", duplicate.Status.Resolution, duplicate.Status.Steps)
	}
	if left := s.policiesSelecting(t, pods[1]); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	s.until(t, original, "the original to be in review", inPhase(v1alpha1.PhaseReview))
	var lessons v1alpha1.LessonLearnedList
	done(t, s.Client.List(t.Context(), &lessons, client.InNamespace(s.Namespace)))
	for _, lesson := range lessons.Items {
		if lesson.Spec.IncidentRefs[0].Name == duplicate.Name {
			t.Error("a duplicate has no lesson")
		}
	}
}

// duplicatesOfEachOther: of two Decisions at the same time one counts in the end, and
// neither incident waits for ever.
func duplicatesOfEachOther(t *testing.T, s *scene) {
	first, second, _ := s.twoIncidents(t)
	done(t, s.jane.Create(t.Context(), s.mark(first.Name, second.Name)))
	done(t, s.jane.Create(t.Context(), s.mark(second.Name, first.Name)))
	harness.Eventually(t, harness.Patience, "one of them to go on with the other", func(ctx context.Context) error {
		var marked, taking int
		for _, incident := range []*v1alpha1.Incident{first, second} {
			if err := s.Client.Get(ctx, client.ObjectKeyFromObject(incident), incident); err != nil {
				return err
			}
			if takenUp(incident) {
				marked++
			}
			if len(incident.Status.Duplicates) == 1 && incident.Status.DuplicateOf.Name == "" {
				taking++
			}
		}
		if marked != 1 || taking != 1 {
			return fmt.Errorf("%d are duplicates, and %d go on: %+v, %+v", marked, taking, first.Status.DuplicateOf, second.Status.DuplicateOf)
		}
		return nil
	})
}

// twoSources: Falco and Alertmanager report about pods of one workload, and one incident
// is about both.
func twoSources(t *testing.T, s *scene) {
	policy := harness.MakePolicy(s.Namespace, "", "")
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(policy), policy))
	policy.Spec.Rules[0].Match = v1alpha1.Expression(fmt.Sprintf("event.submittedBy == %q && event.source.product in ['falco', 'alertmanager']", s.sender.User))
	done(t, s.Client.Update(t.Context(), policy))
	harness.WaitFor(t, s.Client, policy, "the policy's new generation to be in force", func(p *v1alpha1.ClassificationPolicy) bool {
		return p.Status.ObservedGeneration == p.Generation && isTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	const sibling = "cart-7f9-b"
	body, err := json.Marshal(map[string]any{
		"version": "4", "status": "firing", "receiver": "firebreak", "groupKey": "{}:{}", "truncatedAlerts": 0,
		"groupLabels": map[string]string{}, "commonLabels": map[string]string{}, "commonAnnotations": map[string]string{}, "externalURL": "",
		"alerts": []any{map[string]any{
			"status": "firing", "fingerprint": "c0ffee", "startsAt": time.Now().UTC().Format(time.RFC3339), "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
			"labels":      map[string]string{"alertname": "EgressSpike", "severity": "critical", "namespace": s.Target, "pod": sibling},
			"annotations": map[string]string{"summary": "Ten times the usual traffic leaves the pod"},
		}},
	})
	done(t, err)
	if answer := s.receiver.Post(t, s.Namespace, "alertmanager", s.sender.Token, body); answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s, want 2xx", answer.Code, answer.Body)
	}
	event := s.eventAbout(t, sibling)
	s.event(t, event, v1alpha1.OutcomeJoined)
	if event.Spec.Source.Product != "alertmanager" || event.Status.IncidentRef.Name != incident.Name {
		t.Errorf("the event of %s belongs to %q, want %s", event.Spec.Source.Product, event.Status.IncidentRef.Name, incident.Name)
	}
	s.until(t, incident, "both pods to be contained", func(i *v1alpha1.Incident) bool {
		return len(step(i, "isolate").Targets) == 2 && isTrue(i.Status.Conditions, v1alpha1.ConditionContained)
	})
	s.incident(t)
}
