package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// held is how long what must not happen is watched for not happening.
const held = 2 * time.Second

func stalled(reason string) func(*v1alpha1.Incident) bool {
	return func(i *v1alpha1.Incident) bool {
		for _, c := range i.Status.Conditions {
			if c.Type == v1alpha1.ConditionStalled {
				return c.Status == metav1.ConditionTrue && c.Reason == reason
			}
		}
		return false
	}
}

// untouched holds that nobody isolates or deletes a pod.
func (s *scene) untouched(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	harness.Always(t, held, "that nobody touches the pod", func(ctx context.Context) error {
		now := &corev1.Pod{}
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(pod), now); err != nil {
			return err
		}
		if now.UID != pod.UID || now.ResourceVersion != pod.ResourceVersion {
			return fmt.Errorf("it was touched: %v", now.ObjectMeta)
		}
		return nil
	})
}

func missingPlaybook(t *testing.T, s *scene) {
	found := playbook(s.Namespace)
	done(t, s.Client.Delete(t.Context(), found))
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the incident to say that there is no playbook", stalled(v1alpha1.ReasonPlaybookNotFound))
	if awaited(incident, v1alpha1.AwaitingPlaybook) == nil {
		t.Errorf("got awaiting %+v, want a playbook", incident.Status.Awaiting)
	}
	done(t, s.Client.Create(t.Context(), playbook(s.Namespace)))
	s.until(t, incident, "it to go on", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
}

// withoutRights: the step fails, says what is missing, and can be tried again.
func withoutRights(t *testing.T, s *scene) {
	s.ServiceAccount(t, "powerless")
	found := playbook(s.Namespace)
	done(t, patchTo(t, s, found, func(p *v1alpha1.ResponsePlaybook) { p.Spec.ServiceAccountName = "powerless" }))
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the incident to wait for a person", func(i *v1alpha1.Incident) bool { return len(i.Status.Awaiting) > 0 })
	if isTrue(incident.Status.Conditions, v1alpha1.ConditionContained) {
		t.Error("an account without rights contains nothing")
	}
	if text := fmt.Sprintf("%+v", incident.Status.Awaiting) + fmt.Sprintf("%+v", incident.Status.Resources) + fmt.Sprintf("%+v", incident.Status.Steps); !strings.Contains(text, "powerless") && !strings.Contains(text, "cannot") {
		t.Errorf("the incident must say who lacks which right: %s", text)
	}
	if len(s.policiesSelecting(t, pod)) != 0 {
		t.Error("there must be no policy")
	}
}

// patchTo reads an object and changes it as the administrator.
func patchTo[T client.Object](t *testing.T, s *scene, object T, change func(T)) error {
	t.Helper()
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object))
	return patch(t, s.Client, object, change)
}

// vanishedPod: nothing was contained, and nobody says that it was.
func vanishedPod(t *testing.T, s *scene) {
	s.alert(t, "gone")
	incident := s.incident(t)
	s.until(t, incident, "the incident to wait for a person", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingFailure) != nil })
	if isTrue(incident.Status.Conditions, v1alpha1.ConditionContained) {
		t.Error("a pod that is gone is not contained")
	}
	if len(incident.Status.Resources) != 1 || incident.Status.Resources[0].State != v1alpha1.ResourceGone {
		t.Errorf("got the resources %+v, want one that is Gone", incident.Status.Resources)
	}
	s.closeIncident(t, incident, v1alpha1.ResolutionFalsePositive)
}

// replacedPod came back under its name: it is another, and is left alone.
func replacedPod(t *testing.T, s *scene) {
	pod := s.shop(t, "cart")
	incident := harness.MakeIncident(s.Namespace, "declared", func(i *v1alpha1.Incident) {
		i.Spec.PlaybookRef.Name = contain
		i.Spec.Resources = podResource(s.Target, pod.Name, "0b0c0c6e-0000-4000-8000-000000000000")
	})
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	done(t, s.jane.Create(t.Context(), incident))
	s.until(t, incident, "the incident to wait for a person", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingFailure) != nil })
	if len(incident.Status.Resources) != 1 || incident.Status.Resources[0].State != v1alpha1.ResourceReplaced {
		t.Errorf("got the resources %+v, want one that is Replaced", incident.Status.Resources)
	}
	s.untouched(t, pod)
}

// hostNetworkPod cannot be isolated by policies: the step says so.
func hostNetworkPod(t *testing.T, s *scene) {
	pod := s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: "agent"}, harness.PodLabels("agent"), nil, func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "isolation to fail", func(i *v1alpha1.Incident) bool {
		return awaited(i, v1alpha1.AwaitingFailure) != nil || awaited(i, v1alpha1.AwaitingTask) != nil
	})
	if isolate := step(incident, "isolate"); isTrue(incident.Status.Conditions, v1alpha1.ConditionContained) || !strings.Contains(fmt.Sprint(isolate), "hostNetwork") {
		t.Errorf("got %+v, want a step that says that 'hostNetwork' cannot be isolated", isolate)
	}
}

// otherPolicies: what still allows is taken away by the labels it selects by, what
// denies does not matter, and no policy of the team is touched.
func otherPolicies(t *testing.T, s *scene) {
	pod := s.shop(t, "cart")
	allow := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Target, Name: "allow-cart"},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: harness.PodLabels("cart")},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{{}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		},
	}
	deny := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Target, Name: "default-deny"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}},
	}
	for _, policy := range []*networkingv1.NetworkPolicy{allow, deny} {
		done(t, s.Client.Create(t.Context(), policy))
	}
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the pod to be contained", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })

	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	for _, name := range s.policiesSelecting(t, pod) {
		if name == allow.Name {
			t.Errorf("the pod, labelled %v, is still allowed by %s", pod.Labels, name)
		}
	}
	if selecting := s.policiesSelecting(t, pod); len(selecting) != 2 {
		t.Errorf("the pod is selected by %v, want Firebreak's policy and the default-deny", selecting)
	}
	s.approve(t, incident)
	s.until(t, incident, "the incident to be in review", inPhase(v1alpha1.PhaseReview))
	for _, policy := range []*networkingv1.NetworkPolicy{allow, deny} {
		now := &networkingv1.NetworkPolicy{}
		done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(policy), now))
		if now.ResourceVersion != policy.ResourceVersion {
			t.Errorf("the team's policy %s was touched", policy.Name)
		}
	}
}

// kubeSystem is protected whatever the rights: nothing happens before a person approves.
func kubeSystem(t *testing.T, s *scene) {
	s.Allow(t, metav1.NamespaceSystem, harness.Account(s.Namespace, contain), harness.ContainRules()...)
	pod := s.FakePod(t, client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "proxy-" + s.Target}, harness.PodLabels("proxy"), nil)
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	answer := s.receiver.Post(t, s.Namespace, "falco", s.sender.Token, harness.FalcoAlert(pod.Namespace, pod.Name, time.Now()))
	if answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s", answer.Code, answer.Body)
	}
	incident := s.incident(t)
	s.until(t, incident, "an approval to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
	if incident.Status.Resources[0].Hold == "" {
		t.Errorf("got the resources %+v, want one that says why it is protected", incident.Status.Resources)
	}
	s.untouched(t, pod)
	s.closeIncident(t, incident, v1alpha1.ResolutionFalsePositive)
}

// forgedAlerts on thirty pods isolate no more than the limit allows.
func forgedAlerts(t *testing.T, s *scene) {
	const forged, limit = 30, 4
	done(t, patchTo(t, s, playbook(s.Namespace), func(p *v1alpha1.ResponsePlaybook) { p.Spec.Limits.MaxRunsPerHour = limit }))
	for i := range forged {
		name := fmt.Sprintf("victim-%02d", i)
		s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: name}, harness.PodLabels(name), nil)
		s.alert(t, name)
	}
	harness.Eventually(t, harness.Patience, "all incidents to be decided about", func(ctx context.Context) error {
		var list v1alpha1.IncidentList
		if err := s.Client.List(ctx, &list, client.InNamespace(s.Namespace)); err != nil {
			return err
		}
		settled := 0
		for i := range list.Items {
			resources := list.Items[i].Status.Resources
			isHeld := len(resources) == 1 && resources[0].Hold != "" && awaited(&list.Items[i], v1alpha1.AwaitingApproval) != nil
			if isHeld || isTrue(list.Items[i].Status.Conditions, v1alpha1.ConditionContained) {
				settled++
			}
		}
		if settled != forged {
			return fmt.Errorf("%d of %d are settled", settled, forged)
		}
		return nil
	})
	var policies networkingv1.NetworkPolicyList
	done(t, s.Client.List(t.Context(), &policies, client.InNamespace(s.Target)))
	if len(policies.Items) != limit {
		t.Errorf("%d pods were isolated, want %d: the limit", len(policies.Items), limit)
	}
}

// falsePositive reverts what was done.
func falsePositive(t *testing.T, s *scene) {
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "an approval to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
	s.closeIncident(t, incident, v1alpha1.ResolutionFalsePositive)
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	if selecting := s.policiesSelecting(t, pod); len(selecting) != 0 {
		t.Errorf("the policies %v are left, want none", selecting)
	}
	var lessons v1alpha1.LessonLearnedList
	done(t, s.Client.List(t.Context(), &lessons, client.InNamespace(s.Namespace)))
	if len(lessons.Items) != 0 {
		t.Error("a false positive needs no lesson")
	}
}

// redButton stops what would be done next, and keeps what was.
func redButton(t *testing.T, s *scene) {
	s.accept(t, harness.MakeDecision(s.Namespace, "", jane, v1alpha1.DecisionStopAutomation, about(v1alpha1.SubjectResponsePlan, v1alpha1.ResponsePlanName)))
	pod := s.shop(t, "cart")
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the incident to be paused", stalled(v1alpha1.ReasonPaused))
	s.untouched(t, pod)
	s.accept(t, harness.MakeDecision(s.Namespace, "", jane, v1alpha1.DecisionResumeAutomation, about(v1alpha1.SubjectResponsePlan, v1alpha1.ResponsePlanName)))
	s.until(t, incident, "the pod to be contained", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
}
