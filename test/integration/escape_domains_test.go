package integration

import (
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// twoDomains cannot see, trigger or act on each other's things.
func twoDomains(t *testing.T, s *scene) {
	other := newScene(t, s.Cluster, s.receiver)
	const rival = "rival@example.com"
	other.Bind(t, other.Namespace, "firebreak-incident-manager", harness.User(rival))
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "an approval to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
	as := other.As(t, rival)

	t.Run("see", func(t *testing.T) {
		for _, list := range []client.ObjectList{
			&v1alpha1.IncidentList{}, &v1alpha1.SecurityEventList{}, &v1alpha1.DecisionList{}, &v1alpha1.EvidenceList{}, &v1alpha1.ResponsePlaybookList{}, &v1alpha1.ResponsePlanList{},
		} {
			refused(t, as.List(t.Context(), list, client.InNamespace(s.Namespace)), "cannot list")
			refused(t, as.List(t.Context(), list), "cannot list")
		}
	})
	t.Run("trigger", func(t *testing.T) {
		answer := s.receiver.Post(t, s.Namespace, "falco", other.sender.Token, harness.FalcoAlert(s.Target, pod.Name, time.Now()))
		if answer.Code != http.StatusForbidden {
			t.Errorf("the receiver answers %d: %s, want 403", answer.Code, answer.Body)
		}
		refused(t, as.Create(t.Context(), harness.MakeIncident(s.Namespace, "theirs")), "cannot create")
	})
	t.Run("decide", func(t *testing.T) {
		shown := awaited(incident, v1alpha1.AwaitingApproval)
		approval := func(namespace string) *v1alpha1.Decision {
			return harness.MakeDecision(namespace, incident.Name, rival, v1alpha1.DecisionApprove, func(d *v1alpha1.Decision) {
				d.Spec.Step, d.Spec.Digest = shown.Step, shown.Digest
			})
		}
		refused(t, as.Create(t.Context(), approval(s.Namespace)), "cannot create")
		own := approval(other.Namespace)
		done(t, as.Create(t.Context(), own))
		harness.WaitFor(t, s.Client, own, "the Decision to find nothing in its own domain", func(d *v1alpha1.Decision) bool {
			return len(d.Status.Conditions) == 1 && d.Status.Conditions[0].Status == metav1.ConditionFalse && d.Status.Conditions[0].Reason == v1alpha1.ReasonSubjectNotFound
		})
	})
	t.Run("act", func(t *testing.T) { actAcross(t, s, other, incident) })
	t.Run("what both hold", func(t *testing.T) { bothHold(t, s, other, incident, pod) })
}

// actAcross has a playbook of the other domain, which may do everything there, reach for
// the records of this one.
func actAcross(t *testing.T, s, other *scene, incident *v1alpha1.Incident) {
	const name = "raider"
	other.account(t, name)
	all := []string{"get", "list", "create", "update", "patch", "delete"}
	other.Allow(t, other.Namespace, harness.Account(other.Namespace, name),
		harness.Rule("firebreak.dev", []string{"incidents", "evidence", "responseplaybooks"}, all), harness.Rule("", []string{"secrets", "configmaps", "pods"}, all))
	own := "firebreak.dev/v1alpha1"
	raid := other.try(t, name, podResource(s.Target, "cart-7f9-a", ""), map[string]string{
		"incident": targetsLine(own, "Incident", s.Namespace, incident.Name) + "\ndelete: {}",
		"playbook": targetsLine(own, "ResponsePlaybook", s.Namespace, contain) + "\npatch: {fields: {spec: {description: owned}}}",
		"collect":  "target: Pods\ncollect: {logs: {}}",
		"plant":    "apply: {object: {apiVersion: v1, kind: ConfigMap, metadata: {name: planted, namespace: " + s.Namespace + "}}}",
	})
	allFailed(t, raid, nil)
	missing := harness.MakePlaybook(other.Namespace, "borrowed", "reader-of-"+s.Namespace)
	done(t, other.Client.Create(t.Context(), missing))
	harness.WaitFor(t, other.Client, missing, "an account of another domain to be nobody here", func(p *v1alpha1.ResponsePlaybook) bool {
		return p.Status.ObservedGeneration > 0 && !isTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
}

// bothHold: both domains isolate one pod; when one has done with it, the other's stands.
func bothHold(t *testing.T, s, other *scene, incident *v1alpha1.Incident, pod *corev1.Pod) {
	other.Allow(t, s.Target, harness.Account(other.Namespace, contain), harness.ContainRules()...)
	held := harness.MakeIncident(other.Namespace, "same-pod", func(i *v1alpha1.Incident) {
		i.Spec.PlaybookRef.Name = contain
		i.Spec.Resources = podResource(s.Target, pod.Name, "")
	})
	done(t, other.jane.Create(t.Context(), held))
	other.until(t, held, "the pod to be contained by the other too", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	if policies := s.policiesSelecting(t, pod); len(policies) != 2 {
		t.Errorf("the pod is selected by %v, want a policy of each domain", policies)
	}
	other.closeIncident(t, held, v1alpha1.ResolutionFalsePositive)
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	if policies := s.policiesSelecting(t, pod); len(policies) != 1 {
		t.Errorf("the pod is selected by %v, want the policy of the domain that still holds it", policies)
	}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(incident), incident))
	if !isTrue(incident.Status.Conditions, v1alpha1.ConditionContained) {
		t.Errorf("the incident of the other domain is not contained any more: %+v", incident.Status.Conditions)
	}
}

// staleApprovals were given for other targets, or an earlier attempt.
func staleApprovals(t *testing.T, s *scene) {
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	shown := func(i *v1alpha1.Incident) v1alpha1.Awaiting {
		s.until(t, i, "an approval to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
		return *awaited(i, v1alpha1.AwaitingApproval)
	}
	stale := func(of v1alpha1.Awaiting) {
		t.Helper()
		answer := s.decide(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionApprove, func(d *v1alpha1.Decision) {
			d.Spec.Step, d.Spec.Digest, d.Spec.Role, d.Spec.Groups = of.Step, of.Digest, of.Role, []string{"security-oncall"}
		}))
		if answer.Status != metav1.ConditionFalse || answer.Reason != v1alpha1.ReasonStale {
			t.Errorf("got the answer %+v, want it refused as %s", answer, v1alpha1.ReasonStale)
		}
	}
	one := shown(incident)
	s.alert(t, "cart-7f9-b")
	s.until(t, incident, "the approval to be asked for both pods", func(i *v1alpha1.Incident) bool {
		now := awaited(i, v1alpha1.AwaitingApproval)
		return now != nil && now.Digest != one.Digest && len(step(i, "isolate").Targets) == 2
	})
	stale(one)
	two := shown(incident)

	reject := harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionReject, func(d *v1alpha1.Decision) {
		d.Spec.Step, d.Spec.Role, d.Spec.Groups = two.Step, two.Role, []string{"security-oncall"}
	})
	s.accept(t, reject)
	s.until(t, incident, "the rejected step to have failed", func(i *v1alpha1.Incident) bool { return step(i, two.Step).State == v1alpha1.StepFailed })
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionRetryStep, func(d *v1alpha1.Decision) { d.Spec.Step = two.Step }))
	three := shown(incident)
	if three.Digest == two.Digest {
		t.Error("the digest of another attempt must be another")
	}
	stale(two)
	for _, name := range []string{pod.Name, "cart-7f9-b"} {
		done(t, s.Client.Get(t.Context(), client.ObjectKey{Namespace: s.Target, Name: name}, &corev1.Pod{}))
	}
	s.approve(t, incident)
	s.until(t, incident, "both pods to be deleted after the approval that counts", func(i *v1alpha1.Incident) bool {
		return step(i, "delete-pod").State == v1alpha1.StepSucceeded
	})
}
