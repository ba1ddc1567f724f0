package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// anySender lets the scene's policy take alerts of everybody who may report.
func (s *scene) anySender(t *testing.T) {
	t.Helper()
	policy := harness.MakePolicy(s.Namespace, "", "")
	done(t, patchTo(t, s, policy, func(p *v1alpha1.ClassificationPolicy) {
		p.Spec.Rules[0].Match = "event.source.rule == 'Terminal shell in container'"
	}))
	harness.WaitFor(t, s.Client, policy, "the policy to be in force", func(p *v1alpha1.ClassificationPolicy) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionReady) && p.Status.ObservedGeneration == p.Generation
	})
}

// alertBy is alert in the name of another sender.
func (s *scene) alertBy(t *testing.T, sender harness.Sender, pod string) {
	t.Helper()
	answer := s.receiver.Post(t, s.Namespace, "falco", sender.Token, harness.FalcoAlert(s.Target, pod, time.Now()))
	if answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s, want 2xx", answer.Code, answer.Body)
	}
}

// incidentAbout waits for the incident that a pod has opened.
func (s *scene) incidentAbout(t *testing.T, pod string) *v1alpha1.Incident {
	t.Helper()
	var found *v1alpha1.Incident
	harness.Eventually(t, harness.Patience, "an incident about "+pod, func(ctx context.Context) error {
		var list v1alpha1.IncidentList
		if err := s.Client.List(ctx, &list, client.InNamespace(s.Namespace)); err != nil {
			return err
		}
		for i := range list.Items {
			if resources := list.Items[i].Spec.Resources; len(resources) > 0 && resources[0].Name == pod {
				found = &list.Items[i]
				return nil
			}
		}
		return fmt.Errorf("there is none among %d", len(list.Items))
	})
	return found
}

// isolated lists the pods that a policy of Firebreak selects.
func (s *scene) isolated(t *testing.T) map[string]bool {
	t.Helper()
	var pods corev1.PodList
	done(t, s.Client.List(t.Context(), &pods, client.InNamespace(s.Target)))
	names := map[string]bool{}
	for i := range pods.Items {
		for _, policy := range s.policiesSelecting(t, &pods.Items[i]) {
			if strings.HasPrefix(policy, "firebreak-") {
				names[pods.Items[i].Name] = true
			}
		}
	}
	return names
}

// forgedTargets are thirty pods of one workload, so that they join one incident: only as
// many as `maxTargets` allows are acted on. What another sender reports is acted on
// nevertheless, and a person can release the rest.
func forgedTargets(t *testing.T, s *scene) {
	const forged, limit = 30, 10
	s.anySender(t)
	_, set := s.FakeWorkload(t, client.ObjectKey{Namespace: s.Target, Name: "cart"}, forged+1)
	name := func(i int) string { return fmt.Sprintf("%s-%02d", set.Name, i) }
	for i := range forged + 1 {
		s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: name(i)}, harness.PodLabels("cart"), set)
	}
	for i := range forged {
		s.alert(t, name(i))
	}
	incident := s.incident(t)
	s.until(t, incident, "all pods to be looked at", func(i *v1alpha1.Incident) bool { return count(i, looked) == forged })
	if held := count(incident, onHold); held != forged-limit {
		t.Errorf("%d pods are held, want %d", held, forged-limit)
	}
	s.until(t, incident, "the others to be isolated", func(*v1alpha1.Incident) bool { return len(s.isolated(t)) == limit })
	if awaited(incident, v1alpha1.AwaitingApproval) == nil || isTrue(incident.Status.Conditions, v1alpha1.ConditionContained) {
		t.Errorf("a person must be asked about the pods that are held, and it is not contained: %+v", incident.Status.Awaiting)
	}

	other := s.NewSender(t, "tetragon")
	s.alertBy(t, other, name(forged))
	s.until(t, incident, "the real alert to be acted on", func(*v1alpha1.Incident) bool { return s.isolated(t)[name(forged)] })
	if acted := len(s.isolated(t)); acted != limit+1 {
		t.Errorf("%d pods are isolated, want %d", acted, limit+1)
	}

	s.approve(t, incident)
	s.until(t, incident, "the rest to be isolated", func(*v1alpha1.Incident) bool { return len(s.isolated(t)) == forged+1 })
	s.until(t, incident, "it to be contained", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
	if held := count(incident, onHold); held != 0 {
		t.Errorf("%d pods are still held", held)
	}
}

func count(incident *v1alpha1.Incident, what func(*v1alpha1.IncidentResource) bool) int {
	found := 0
	for i := range incident.Status.Resources {
		if what(&incident.Status.Resources[i]) {
			found++
		}
	}
	return found
}

func looked(r *v1alpha1.IncidentResource) bool { return r.State != "" }
func onHold(r *v1alpha1.IncidentResource) bool { return r.Hold != "" }

// forgedRuns use up what one sender may make the playbook run, and nothing of another's.
func forgedRuns(t *testing.T, s *scene) {
	const limit = 2
	s.anySender(t)
	done(t, patchTo(t, s, playbook(s.Namespace), func(p *v1alpha1.ResponsePlaybook) { p.Spec.Limits.MaxRunsPerHour = limit }))
	for i := range limit + 1 {
		app := fmt.Sprintf("victim-%d", i)
		s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: app}, harness.PodLabels(app), nil)
		s.alert(t, app)
		incident := s.incidentAbout(t, app)
		s.until(t, incident, "it to be looked at", func(i *v1alpha1.Incident) bool { return count(i, looked) == 1 })
		if isHeld := count(incident, onHold) == 1; isHeld != (i >= limit) {
			t.Errorf("the alert %d: held is %t, want %t: %+v", i+1, isHeld, i >= limit, incident.Status.Resources)
		}
	}
	s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: "real"}, harness.PodLabels("real"), nil)
	s.alertBy(t, s.NewSender(t, "tetragon"), "real")
	genuine := s.incidentAbout(t, "real")
	s.until(t, genuine, "the real alert to be acted on", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })

	last := fmt.Sprintf("victim-%d", limit)
	if s.isolated(t)[last] {
		t.Errorf("%s is isolated, want it held", last)
	}
	held := s.incidentAbout(t, last)
	s.approve(t, held)
	s.until(t, held, "it to be acted on after the approval", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
	if by := held.Status.Resources[0].ApprovedBy; by != jane {
		t.Errorf("the record says that %q has approved, want %s", by, jane)
	}
}

// protectedNamespace waits for a person because of its label; the same label on a pod is
// an attacker's and means nothing.
func protectedNamespace(t *testing.T, s *scene) {
	label := map[string]string{v1alpha1.LabelProtected: "true"}
	optOut := s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: "opt-out"}, label, nil)
	s.alert(t, optOut.Name)
	s.until(t, s.incidentAbout(t, optOut.Name), "the pod that would opt out to be contained", func(i *v1alpha1.Incident) bool {
		return isTrue(i.Status.Conditions, v1alpha1.ConditionContained)
	})

	s.heldElsewhere(t, s.Target+"-vault", label, v1alpha1.LabelProtected)
}

// outOfScope waits for a person in a namespace in which the playbook is not meant to act,
// and not where it is.
func outOfScope(t *testing.T, s *scene) {
	done(t, patchTo(t, s, playbook(s.Namespace), func(p *v1alpha1.ResponsePlaybook) {
		p.Spec.Scope.Namespaces = []v1alpha1.ScopeNamespace{v1alpha1.ScopeNamespace(s.Target)}
	}))
	inside := s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: "inside"}, harness.PodLabels("inside"), nil)
	s.alert(t, inside.Name)
	s.until(t, s.incidentAbout(t, inside.Name), "the pod in scope to be contained", func(i *v1alpha1.Incident) bool {
		return isTrue(i.Status.Conditions, v1alpha1.ConditionContained)
	})
	s.heldElsewhere(t, s.Target+"-attic", nil, "`scope.namespaces`")
}

// heldElsewhere has a pod in another namespace reported: it is left alone until a person
// approves, who is told why.
func (s *scene) heldElsewhere(t *testing.T, namespace string, labels map[string]string, says string) {
	t.Helper()
	s.NewNamespace(t, namespace, labels)
	s.Allow(t, namespace, harness.Account(s.Namespace, contain), harness.ContainRules()...)
	pod := s.FakePod(t, client.ObjectKey{Namespace: namespace, Name: "vault"}, harness.PodLabels("vault"), nil)
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	answer := s.receiver.Post(t, s.Namespace, "falco", s.sender.Token, harness.FalcoAlert(namespace, pod.Name, time.Now()))
	if answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s", answer.Code, answer.Body)
	}
	incident := s.incidentAbout(t, pod.Name)
	s.until(t, incident, "an approval to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
	if hold := incident.Status.Resources[0].Hold; !strings.Contains(hold, namespace) || !strings.Contains(hold, says) {
		t.Errorf("the hold says %q, want it to name the namespace and %s", hold, says)
	}
	s.untouched(t, pod)
	s.approve(t, incident)
	s.until(t, incident, "the pod to be contained after the approval", func(i *v1alpha1.Incident) bool {
		return isTrue(i.Status.Conditions, v1alpha1.ConditionContained)
	})
}
