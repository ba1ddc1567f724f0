package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// scenarios are further things that happen to an incident on its way.
var scenarios = map[string]func(*testing.T, *scene){
	"forged targets":                   forgedTargets,
	"forged runs":                      forgedRuns,
	"a protected namespace":            protectedNamespace,
	"a namespace out of scope":         outOfScope,
	"rights that are granted later":    grantedLater,
	"a policy that allows everybody":   allowsEverybody,
	"the red button in the middle":     stoppedInTheMiddle,
	"a playbook edited in the middle":  editedInTheMiddle,
	"a namespace that is no domain":    noDomain,
	"a domain that lets nobody act":    noImpersonator,
	"a second pod and its containment": joinedPod,
}

// grantedLater: the step that failed says which right is missing; once it is granted a
// person retries the step.
func grantedLater(t *testing.T, s *scene) {
	const account = "reader-only"
	s.ServiceAccount(t, account, harness.ReadRules()...)
	done(t, patchTo(t, s, playbook(s.Namespace), func(p *v1alpha1.ResponsePlaybook) { p.Spec.ServiceAccountName = account }))
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the isolation to fail", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingFailure) != nil })
	message := step(incident, "isolate").Message
	for _, part := range []string{account, "list", "networkpolicies", s.Target} {
		if !strings.Contains(message, part) {
			t.Errorf("the step says %q, want it to name %q", message, part)
		}
	}
	if !stalled(v1alpha1.ReasonStepFailed)(incident) {
		t.Errorf("got the conditions %+v, want Stalled because of StepFailed", incident.Status.Conditions)
	}

	s.Allow(t, s.Target, harness.Account(s.Namespace, account), harness.ContainRules()...)
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionRetryStep, func(d *v1alpha1.Decision) { d.Spec.Step = "isolate" }))
	s.until(t, incident, "the pod to be contained", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
	if attempts := step(incident, "isolate").Attempts; attempts != 2 {
		t.Errorf("got attempt %d, want the second", attempts)
	}
	if !s.isolated(t)[pod.Name] {
		t.Error("no policy selects the pod")
	}
}

// allowsEverybody is a policy with an empty selector: no label can be taken away to get
// out of its reach, so isolation fails and says by which policy.
func allowsEverybody(t *testing.T, s *scene) {
	allow := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Target, Name: "open-to-all"},
		Spec: networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{{}}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		},
	}
	done(t, s.Client.Create(t.Context(), allow))
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the isolation to fail", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingFailure) != nil })
	if message := step(incident, "isolate").Message; !strings.Contains(message, allow.Name) {
		t.Errorf("the step says %q, want it to name the policy %s", message, allow.Name)
	}
	if isTrue(incident.Status.Conditions, v1alpha1.ConditionContained) {
		t.Error("a pod that is open to everybody is not contained")
	}
	after := &networkingv1.NetworkPolicy{}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(allow), after))
	if after.ResourceVersion != allow.ResourceVersion {
		t.Error("the team's policy was touched")
	}
}

// stoppedInTheMiddle: what is approved while the automation is stopped is not done
// before it is resumed, and what is isolated stays isolated.
func stoppedInTheMiddle(t *testing.T, s *scene) {
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "an approval to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
	about := about(v1alpha1.SubjectResponsePlan, v1alpha1.ResponsePlanName)
	s.accept(t, harness.MakeDecision(s.Namespace, "", jane, v1alpha1.DecisionStopAutomation, about))
	s.until(t, incident, "the incident to be paused", stalled(v1alpha1.ReasonPaused))
	s.approve(t, incident)
	harness.Always(t, held, "that the pod is there and isolated", func(ctx context.Context) error {
		now := &corev1.Pod{}
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(pod), now); err != nil {
			return err
		}
		if len(s.policiesSelecting(t, now)) != 1 {
			return fmt.Errorf("no policy selects it any more: %v", now.Labels)
		}
		return nil
	})
	s.accept(t, harness.MakeDecision(s.Namespace, "", jane, v1alpha1.DecisionResumeAutomation, about))
	s.until(t, incident, "the incident to go on to its review", inPhase(v1alpha1.PhaseReview))
}

// editedInTheMiddle: an incident goes by the text that was pinned when it began.
func editedInTheMiddle(t *testing.T, s *scene) {
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "an approval to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
	digest := awaited(incident, v1alpha1.AwaitingApproval).Digest
	done(t, patchTo(t, s, playbook(s.Namespace), func(p *v1alpha1.ResponsePlaybook) {
		p.Spec.ServiceAccountName = "reader"
		p.Spec.Eradication = v1alpha1.PlaybookPhase{}
		p.Spec.Recovery = v1alpha1.PlaybookPhase{}
	}))
	s.approve(t, incident)
	s.until(t, incident, "the incident to be in review", inPhase(v1alpha1.PhaseReview))
	if got := step(incident, "delete-pod").State; got != v1alpha1.StepSucceeded {
		t.Errorf("the step delete-pod is %q, want it done as the pinned text says", got)
	}
	if p := incident.Status.Playbook; p.Generation != 1 || p.ServiceAccountName != contain || step(incident, "ok-to-delete").Digest != digest {
		t.Errorf("got the playbook %+v and the step %+v, want what was pinned", p, step(incident, "ok-to-delete"))
	}
}

// noDomain: an event in a namespace that is not a domain says that nobody assesses it.
func noDomain(t *testing.T, s *scene) {
	event := harness.MakeEvent(s.Target, "odd", jane)
	s.Bind(t, s.Target, "firebreak-reporter", harness.User(jane))
	done(t, s.jane.Create(t.Context(), event))
	harness.WaitFor(t, s.Client, event, "the event to say so", func(e *v1alpha1.SecurityEvent) bool {
		for _, c := range e.Status.Conditions {
			if c.Type == v1alpha1.ConditionAssessed && c.Status == metav1.ConditionFalse && c.Reason == v1alpha1.ReasonNotADomain {
				return strings.Contains(c.Message, v1alpha1.LabelDomain)
			}
		}
		return false
	})
	if event.Status.Assessment.Outcome != "" {
		t.Errorf("got the assessment %+v, want none", event.Status.Assessment)
	}
}

// noImpersonator: without the binding nothing is done, and the incident says what to do.
func noImpersonator(t *testing.T, s *scene) {
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: v1alpha1.ImpersonatorClusterRole}}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(binding), binding))
	done(t, s.Client.Delete(t.Context(), binding))
	pod := s.shop(t, "cart")
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the incident to say that nobody may act", stalled(v1alpha1.ReasonCannotImpersonate))
	waiting := awaited(incident, v1alpha1.AwaitingPlaybook)
	if waiting == nil || !strings.Contains(waiting.Message, v1alpha1.ImpersonatorClusterRole) || !strings.Contains(waiting.Message, "kubectl firebreak init") {
		t.Errorf("got awaiting %+v, want it to name the ClusterRole and the command", incident.Status.Awaiting)
	}
	s.untouched(t, pod)
	s.Bind(t, s.Namespace, v1alpha1.ImpersonatorClusterRole, harness.Account(v1alpha1.SystemNamespace, v1alpha1.ManagerServiceAccount))
	s.until(t, incident, "the pod to be contained", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
}

// joinedPod: while a pod that joined is not isolated yet, the incident does not say that
// it is contained, whatever it said before, and its phase and times stay.
func joinedPod(t *testing.T, s *scene) {
	first := s.shop(t, "cart")
	s.alert(t, first.Name)
	incident := s.incident(t)
	s.until(t, incident, "the first pod to be contained", func(i *v1alpha1.Incident) bool {
		return i.Status.Phase == v1alpha1.PhaseEradication && isTrue(i.Status.Conditions, v1alpha1.ConditionContained)
	})
	contained := incident.Status.Times.ContainedTime.DeepCopy()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	watched, err := s.Client.Watch(ctx, &v1alpha1.IncidentList{}, client.InNamespace(s.Namespace))
	done(t, err)
	defer watched.Stop()

	const second = "cart-7f9-b"
	s.alert(t, second)
	var states []metav1.ConditionStatus
	for change := range watched.ResultChan() {
		now, ok := change.Object.(*v1alpha1.Incident)
		if !ok {
			t.Fatalf("the watch has ended: %+v", change)
		}
		if now.Status.Phase != v1alpha1.PhaseEradication {
			t.Errorf("got the phase %s, want Eradication: it never goes back", now.Status.Phase)
		}
		status := conditionStatus(now, v1alpha1.ConditionContained)
		if len(states) == 0 || states[len(states)-1] != status {
			states = append(states, status)
		}
		if isolate := step(now, "isolate"); len(isolate.Targets) == 2 && isolate.State == v1alpha1.StepSucceeded && status == metav1.ConditionTrue {
			incident = now
			break
		}
	}
	if fmt.Sprint(states) != fmt.Sprint([]metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionTrue}) {
		t.Errorf("Contained was %v, want True, then False while the second pod is open, then True", states)
	}
	if !incident.Status.Times.ContainedTime.Equal(contained) {
		t.Errorf("the time of containment was moved from %s to %s", contained, incident.Status.Times.ContainedTime)
	}
	if acted := s.isolated(t); !acted[first.Name] || !acted[second] {
		t.Errorf("isolated are %v, want both pods", acted)
	}
}

func conditionStatus(incident *v1alpha1.Incident, kind string) metav1.ConditionStatus {
	for _, c := range incident.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return metav1.ConditionUnknown
}
