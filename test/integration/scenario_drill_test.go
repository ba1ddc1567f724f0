package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

func init() {
	maps.Copy(scenarios, map[string]func(*testing.T, *scene){
		"a drill, then the same live":       func(t *testing.T, s *scene) { bothModes(t, s, v1alpha1.ModeDrill, v1alpha1.ModeLive) },
		"live, then the same as a drill":    func(t *testing.T, s *scene) { bothModes(t, s, v1alpha1.ModeLive, v1alpha1.ModeDrill) },
		"thresholds of drills":              drillThreshold,
		"limits of drills":                  drillLimits,
		"a drill joins nothing that's live": drillJoins,
	})
}

// report posts a SecurityEvent of a mode about a pod, as a sender does. Two of one pod differ
// in nothing but the mode.
func (s *scene) report(t *testing.T, mode v1alpha1.Mode, pod string) {
	t.Helper()
	body, err := json.Marshal(v1alpha1.SecurityEventSpec{
		Source: v1alpha1.EventSource{Kind: v1alpha1.SourceAutomatic, Product: "falco", Rule: "Terminal shell in container"},
		Title:  "A shell was spawned in " + pod, Severity: v1alpha1.SeverityHigh, Mode: mode, Fingerprint: "shell in " + pod,
		ObservedTime: s.seen, Resources: podResource(s.Target, pod, ""),
	})
	done(t, err)
	if answer := s.receiver.Post(t, s.Namespace, "events", s.sender.Token, body); answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s, want 2xx", answer.Code, answer.Body)
	}
}

// eventOf waits for the one event of a mode about a pod.
func (s *scene) eventOf(t *testing.T, mode v1alpha1.Mode, pod, what string, holds func(*v1alpha1.SecurityEvent) bool) *v1alpha1.SecurityEvent {
	t.Helper()
	var found v1alpha1.SecurityEvent
	harness.Eventually(t, harness.Patience, fmt.Sprintf("the event of mode %s about %s, %s", mode, pod, what), func(ctx context.Context) error {
		var list v1alpha1.SecurityEventList
		if err := s.Client.List(ctx, &list, client.InNamespace(s.Namespace), client.MatchingFields{"spec.mode": string(mode)}); err != nil {
			return err
		}
		count := 0
		for i := range list.Items {
			if list.Items[i].Spec.Resources[0].Name == pod {
				found = list.Items[i]
				count++
			}
		}
		if count != 1 || !holds(&found) {
			return fmt.Errorf("there are %d events, the last is %+v", count, found.Status)
		}
		return nil
	})
	return &found
}

func promoted(event *v1alpha1.SecurityEvent) bool {
	return event.Status.Assessment.Outcome == v1alpha1.OutcomePromoted
}

// incidentOf waits for the incident that the event of a mode about a pod has opened.
func (s *scene) incidentOf(t *testing.T, mode v1alpha1.Mode, pod string) *v1alpha1.Incident {
	t.Helper()
	event := s.eventOf(t, mode, pod, "promoted", promoted)
	incident := &v1alpha1.Incident{}
	done(t, s.Client.Get(t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: event.Status.IncidentRef.Name}, incident))
	if incident.Spec.Mode != mode || incident.Spec.EventRefs[0].Name != event.Name {
		t.Fatalf("the event of mode %s has opened %+v", mode, incident.Spec)
	}
	return incident
}

func asksApproval(incident *v1alpha1.Incident) bool {
	return awaited(incident, v1alpha1.AwaitingApproval) != nil
}

// wantCut holds a pod to be there, and to be isolated by one policy or by none.
func (s *scene) wantCut(t *testing.T, pod *corev1.Pod, policies int, when string) {
	t.Helper()
	now := &corev1.Pod{}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), now))
	if got := s.policiesSelecting(t, now); now.UID != pod.UID || len(got) != policies {
		t.Errorf("%s: the pod is selected by the policies %v, want %d", when, got, policies)
	}
}

// bothModes sends the same as a drill and live: neither swallows the other, and what is done
// about the one touches nothing of the other.
func bothModes(t *testing.T, s *scene, first, second v1alpha1.Mode) {
	pod := s.shop(t, "cart")
	s.report(t, first, pod.Name)
	s.until(t, s.incidentOf(t, first, pod.Name), "an approval to be awaited", asksApproval)
	s.wantCut(t, pod, map[v1alpha1.Mode]int{v1alpha1.ModeLive: 1}[first], "after the first")
	s.report(t, second, pod.Name)
	live, drill := s.incidentOf(t, v1alpha1.ModeLive, pod.Name), s.incidentOf(t, v1alpha1.ModeDrill, pod.Name)
	if live.Name == drill.Name || live.Labels[v1alpha1.LabelCorrelation] == drill.Labels[v1alpha1.LabelCorrelation] {
		t.Fatalf("the incidents are %s and %s of one correlation", live.Name, drill.Name)
	}
	s.until(t, live, "the live one to be contained and to ask", func(i *v1alpha1.Incident) bool {
		return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) && asksApproval(i)
	})
	s.until(t, drill, "the drill to ask", asksApproval)
	if drill.Status.Mode != v1alpha1.ModeDryRun || conditionStatus(drill, v1alpha1.ConditionContained) != metav1.ConditionFalse {
		t.Errorf("the drill is %+v", drill.Status)
	}
	s.wantCut(t, pod, 1, "with both")
	s.report(t, first, pod.Name)
	s.eventOf(t, first, pod.Name, "seen twice", func(e *v1alpha1.SecurityEvent) bool { return e.Status.Occurrences == 2 })
	s.eventOf(t, second, pod.Name, "seen once", func(e *v1alpha1.SecurityEvent) bool { return e.Status.Occurrences == 1 })
	s.noDuplicates(t, live, drill)

	s.approve(t, drill)
	s.until(t, drill, "the drill to be in review", inPhase(v1alpha1.PhaseReview))
	s.wantCut(t, pod, 1, "after the drill has deleted and released it")
	s.until(t, drill, "the close to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingClose) != nil })
	s.closeIncident(t, drill, map[v1alpha1.Mode]v1alpha1.Resolution{v1alpha1.ModeDrill: v1alpha1.ResolutionResolved, v1alpha1.ModeLive: v1alpha1.ResolutionFalsePositive}[first])
	s.wantCut(t, pod, 1, "after the drill")
	s.saysDrill(t, drill)

	s.approve(t, live)
	s.until(t, live, "the live one to be in review", inPhase(v1alpha1.PhaseReview))
	if err := s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), &corev1.Pod{}); !apierrors.IsNotFound(err) {
		t.Errorf("the pod must be gone, but: %v", err)
	}
	for _, condition := range []string{v1alpha1.ConditionContained, v1alpha1.ConditionEradicated, v1alpha1.ConditionRecovered} {
		if !isTrue(live.Status.Conditions, condition) || isTrue(drill.Status.Conditions, condition) {
			t.Errorf("%s is %+v of the live one, and %+v of the drill", condition, live.Status.Conditions, drill.Status.Conditions)
		}
	}
}

// noDuplicates holds a person not to make a drill and what is live one.
func (s *scene) noDuplicates(t *testing.T, live, drill *v1alpha1.Incident) {
	t.Helper()
	for duplicate, original := range map[*v1alpha1.Incident]string{live: drill.Name, drill: live.Name} {
		answer := s.decide(t, harness.MakeDecision(s.Namespace, duplicate.Name, jane, v1alpha1.DecisionMarkDuplicate, func(d *v1alpha1.Decision) {
			d.Spec.IncidentRef.Name = original
		}))
		if answer.Status != metav1.ConditionFalse || answer.Reason != v1alpha1.ReasonOtherMode || !strings.Contains(answer.Message, "of the same mode") {
			t.Errorf("%s as a duplicate of %s is answered: %+v", duplicate.Name, original, answer)
		}
	}
}

// saysDrill holds the record of a drill to say that it is one, and to be whole.
func (s *scene) saysDrill(t *testing.T, drill *v1alpha1.Incident) {
	t.Helper()
	s.until(t, drill, "all entries to be projected", func(i *v1alpha1.Incident) bool {
		return i.Status.Audit.ProjectedSequence == i.Status.Audit.Sequence
	})
	var events eventsv1.EventList
	done(t, s.Client.List(t.Context(), &events, client.InNamespace(s.Namespace), client.MatchingLabels{v1alpha1.LabelIncident: drill.Name}))
	if int64(len(events.Items)) != drill.Status.Audit.Sequence {
		t.Errorf("got %d Events, want %d", len(events.Items), drill.Status.Audit.Sequence)
	}
	for i := range events.Items {
		if !strings.HasPrefix(events.Items[i].Note, "DRILL #") {
			t.Errorf("an Event of the drill says %q", events.Items[i].Note)
		}
	}
	if opened := drill.Status.Timeline[0].Message; !strings.HasPrefix(opened, "DRILL: ") {
		t.Errorf("the timeline begins with %q", opened)
	}
}

// drillThreshold: what is seen as a drill does not count for what is live, nor the other way
// round.
func drillThreshold(t *testing.T, s *scene) {
	policy := harness.MakePolicy(s.Namespace, "", "")
	done(t, patchTo(t, s, policy, func(p *v1alpha1.ClassificationPolicy) {
		p.Spec.Rules[0].Threshold = v1alpha1.Threshold{Occurrences: 2, Within: &metav1.Duration{Duration: 3600e9}}
	}))
	harness.WaitFor(t, s.Client, policy, "the policy to be in force", func(p *v1alpha1.ClassificationPolicy) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionReady) && p.Status.ObservedGeneration == p.Generation
	})
	waits := func(e *v1alpha1.SecurityEvent) bool {
		return len(e.Status.Conditions) == 1 && e.Status.Conditions[0].Reason == v1alpha1.ReasonThresholdPending
	}
	for pod, modes := range map[string][]v1alpha1.Mode{"one": {v1alpha1.ModeDrill, v1alpha1.ModeLive}, "other": {v1alpha1.ModeLive, v1alpha1.ModeDrill}} {
		s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: pod}, harness.PodLabels(pod), nil)
		s.report(t, modes[0], pod)
		s.eventOf(t, modes[0], pod, "waiting", waits)
		s.report(t, modes[1], pod)
		s.eventOf(t, modes[1], pod, "waiting", waits)
		s.report(t, modes[1], pod)
		s.eventOf(t, modes[1], pod, "promoted", promoted)
		s.eventOf(t, modes[0], pod, "waiting still", waits)
		s.report(t, modes[0], pod)
		s.eventOf(t, modes[0], pod, "promoted", promoted)
	}
}

// drillLimits: drills do not use up what a sender may make the playbook run live, and what is
// live leaves the drills theirs.
func drillLimits(t *testing.T, s *scene) {
	done(t, patchTo(t, s, playbook(s.Namespace), func(p *v1alpha1.ResponsePlaybook) { p.Spec.Limits.MaxRunsPerHour = 1 }))
	for i, test := range []struct {
		mode v1alpha1.Mode
		held bool
	}{
		{v1alpha1.ModeDrill, false}, {v1alpha1.ModeDrill, true}, {v1alpha1.ModeLive, false}, {v1alpha1.ModeDrill, true}, {v1alpha1.ModeLive, true},
	} {
		pod := fmt.Sprintf("victim-%d", i)
		s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: pod}, harness.PodLabels(pod), nil)
		s.report(t, test.mode, pod)
		incident := s.incidentOf(t, test.mode, pod)
		s.until(t, incident, "it to be looked at", func(i *v1alpha1.Incident) bool { return count(i, looked) == 1 })
		if isHeld := count(incident, onHold) == 1; isHeld != test.held {
			t.Errorf("report %d, %s: held is %t, want %t: %+v", i, test.mode, isHeld, test.held, incident.Status.Resources)
		}
	}
}

// drillJoins: no person makes an event of one mode part of an incident of the other, nor does
// who declares an incident.
func drillJoins(t *testing.T, s *scene) {
	for i, mode := range []v1alpha1.Mode{v1alpha1.ModeLive, v1alpha1.ModeDrill} {
		other := map[v1alpha1.Mode]v1alpha1.Mode{v1alpha1.ModeLive: v1alpha1.ModeDrill, v1alpha1.ModeDrill: v1alpha1.ModeLive}[mode]
		pod := s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: fmt.Sprintf("pod-%d", i)}, harness.PodLabels("x"), nil)
		event := harness.MakeEvent(s.Namespace, fmt.Sprintf("event-%d", i), jane, func(e *v1alpha1.SecurityEvent) {
			e.Spec.Mode, e.Spec.Resources = mode, podResource(s.Target, pod.Name, "")
		})
		done(t, s.jane.Create(t.Context(), event))
		s.event(t, event, v1alpha1.OutcomeDeferred)
		declared := harness.MakeIncident(s.Namespace, fmt.Sprintf("declared-%d", i), func(i *v1alpha1.Incident) {
			i.Spec.Mode, i.Spec.EventRefs = other, []v1alpha1.EventReference{{Name: event.Name}}
		})
		done(t, s.jane.Create(t.Context(), declared))
		s.until(t, declared, "the incident to be opened", func(i *v1alpha1.Incident) bool { return i.Status.Phase != "" })
		answer := s.decide(t, harness.MakeDecision(s.Namespace, "", jane, v1alpha1.DecisionJoin, about(v1alpha1.SubjectSecurityEvent, event.Name), func(d *v1alpha1.Decision) {
			d.Spec.IncidentRef.Name = declared.Name
		}))
		if answer.Status != metav1.ConditionFalse || answer.Reason != v1alpha1.ReasonOtherMode || !strings.Contains(answer.Message, "must be of the event's own mode") {
			t.Errorf("%s: the Join is answered: %+v", mode, answer)
		}
		s.accept(t, harness.MakeDecision(s.Namespace, "", jane, v1alpha1.DecisionPromote, about(v1alpha1.SubjectSecurityEvent, event.Name)))
		s.event(t, event, v1alpha1.OutcomePromoted)
		opened := &v1alpha1.Incident{}
		done(t, s.Client.Get(t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: event.Status.IncidentRef.Name}, opened))
		if opened.Spec.Mode != mode {
			t.Errorf("a person has promoted the event of mode %s to an incident of mode %s", mode, opened.Spec.Mode)
		}
		late := harness.MakeIncident(s.Namespace, fmt.Sprintf("late-%d", i), func(i *v1alpha1.Incident) {
			i.Spec.Mode, i.Spec.EventRefs, i.Spec.Resources = other, []v1alpha1.EventReference{{Name: event.Name}}, podResource(s.Target, pod.Name, "")
		})
		done(t, s.jane.Create(t.Context(), late))
		s.until(t, late, "the incident to be opened", func(i *v1alpha1.Incident) bool { return i.Status.Phase != "" })
		if from := late.Status.Resources[0].EventRef.Name; from != "" {
			t.Errorf("what the incident of mode %s was declared about is said to come from the event %s of mode %s", other, from, mode)
		}
		done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(declared), declared))
		if len(declared.Status.Resources) > 0 || declared.Status.EventCount > 0 {
			t.Errorf("the incident of mode %s has taken in the event of mode %s: %+v", other, mode, declared.Status.Resources)
		}
	}
}
