package integration

import (
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

func init() {
	maps.Copy(scenarios, map[string]func(*testing.T, *scene){
		"containment that is taken away": heldContainment,
		"a dry run":                      dryRun,
		"confirmed step by step":         confirmed,
		"what people add":                addedByPeople,
	})
}

// editPlaybook changes the scene's playbook, and waits until it is ready again.
func (s *scene) editPlaybook(t *testing.T, edit func(*v1alpha1.ResponsePlaybookSpec)) {
	t.Helper()
	playbook := playbook(s.Namespace)
	done(t, patchTo(t, s, playbook, func(p *v1alpha1.ResponsePlaybook) { edit(&p.Spec) }))
	harness.WaitFor(t, s.Client, playbook, "the playbook to be ready", func(p *v1alpha1.ResponsePlaybook) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionReady) && p.Status.ObservedGeneration == p.Generation
	})
}

func logged(incident *v1alpha1.Incident, action string) int {
	count := 0
	for i := range incident.Status.Timeline {
		if incident.Status.Timeline[i].Action == action {
			count++
		}
	}
	return count
}

// loosen takes the isolating label off a pod, as a GitOps controller would.
func (s *scene) loosen(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	before := pod.DeepCopy()
	maps.DeleteFunc(pod.Labels, func(key, _ string) bool { return strings.Contains(key, "firebreak.dev/") })
	done(t, s.Client.Patch(t.Context(), pod, client.MergeFrom(before)))
}

// heldContainment is design principle 4: what is taken away is made again, and with the
// third loss a person is called.
func heldContainment(t *testing.T, s *scene) {
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the pod to be contained", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
	for loss := int32(1); loss <= 3; loss++ {
		s.loosen(t, pod)
		s.until(t, incident, "the loss to be made good", func(i *v1alpha1.Incident) bool {
			target := step(i, "isolate").Targets[0]
			return target.Losses == loss && target.State == v1alpha1.TargetSucceeded
		})
		done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
		if selecting := s.policiesSelecting(t, pod); len(selecting) != 1 {
			t.Fatalf("after loss %d the pod is selected by the policies %v, want one", loss, selecting)
		}
		if drifted := isTrue(incident.Status.Conditions, v1alpha1.ConditionContainmentDrifted); drifted != (loss == 3) {
			t.Errorf("after loss %d: ContainmentDrifted is %t", loss, drifted)
		}
	}
	asked := awaited(incident, v1alpha1.AwaitingFailure)
	if asked == nil || asked.Step != "isolate" || !strings.Contains(asked.Message, "was taken away 3 times") {
		t.Errorf("a person must be called: %+v", incident.Status.Awaiting)
	}
	if lost, drifted := logged(incident, "ContainmentLost"), logged(incident, "ContainmentDrifted"); lost != 3 || drifted != 1 {
		t.Errorf("on the timeline: %d losses and %d calls for a person, want 3 and 1", lost, drifted)
	}
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionRetryStep, func(d *v1alpha1.Decision) { d.Spec.Step = "isolate" }))
	s.until(t, incident, "the drift to be over", func(i *v1alpha1.Incident) bool {
		return !isTrue(i.Status.Conditions, v1alpha1.ConditionContainmentDrifted) && awaited(i, v1alpha1.AwaitingFailure) == nil
	})
	s.closeIncident(t, incident, v1alpha1.ResolutionFalsePositive)
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	if selecting := s.policiesSelecting(t, pod); len(selecting) != 0 {
		t.Errorf("after the false positive the policies %v are left", selecting)
	}
}

// dryRun goes through all phases and changes nothing.
func dryRun(t *testing.T, s *scene) {
	s.editPlaybook(t, func(p *v1alpha1.ResponsePlaybookSpec) { p.Mode = v1alpha1.PlaybookDryRun })
	pod := s.shop(t, "cart")
	before := pod.DeepCopy()
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.approve(t, incident)
	s.until(t, incident, "the incident to be in review", inPhase(v1alpha1.PhaseReview))
	for _, kind := range []string{v1alpha1.ConditionContained, v1alpha1.ConditionEradicated, v1alpha1.ConditionRecovered} {
		if !slices.ContainsFunc(incident.Status.Conditions, func(c metav1.Condition) bool {
			return c.Type == kind && c.Status == metav1.ConditionFalse && c.Reason == v1alpha1.ReasonDryRun
		}) {
			t.Errorf("%s must be False by reason DryRun: %+v", kind, incident.Status.Conditions)
		}
	}
	for name, state := range map[string]v1alpha1.StepState{"preserve": v1alpha1.StepSucceeded, "isolate": v1alpha1.StepSucceeded,
		"delete-pod": v1alpha1.StepSucceeded, "release": v1alpha1.StepSkipped, "healthy": v1alpha1.StepSkipped} {
		got := step(incident, name)
		if got.State != state || strings.HasPrefix(got.Message, "dry run: ") != (name != "preserve") {
			t.Errorf("step %s is %s: %q, want %s", name, got.State, got.Message, state)
		}
	}
	if incident.Status.Mode != v1alpha1.ModeDryRun {
		t.Errorf("the mode is %q", incident.Status.Mode)
	}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	if pod.UID != before.UID || !maps.Equal(pod.Labels, before.Labels) || pod.DeletionTimestamp != nil {
		t.Errorf("the pod was changed: %+v", pod.ObjectMeta)
	}
	var policies networkingv1.NetworkPolicyList
	done(t, s.Client.List(t.Context(), &policies, client.InNamespace(s.Target)))
	if len(policies.Items) > 0 {
		t.Errorf("there are %d NetworkPolicies, want none", len(policies.Items))
	}
}

// confirmed waits for a person before each step that writes; an approval of what was
// shown before something joined is stale.
func confirmed(t *testing.T, s *scene) {
	s.editPlaybook(t, func(p *v1alpha1.ResponsePlaybookSpec) {
		p.Mode = v1alpha1.PlaybookConfirm
		p.Eradication = v1alpha1.PlaybookPhase{}
		p.Recovery.Steps = p.Recovery.Steps[:1]
	})
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	waits := func(step string) func(*v1alpha1.Incident) bool {
		return func(i *v1alpha1.Incident) bool {
			return slices.ContainsFunc(i.Status.Awaiting, func(a v1alpha1.Awaiting) bool { return a.Type == v1alpha1.AwaitingApproval && a.Step == step })
		}
	}
	s.until(t, incident, "the isolation to be confirmed", waits("isolate"))
	shown := awaited(incident, v1alpha1.AwaitingApproval).Digest
	if isolated := s.isolated(t); len(isolated) > 0 {
		t.Fatalf("%v are isolated before anybody has confirmed it", isolated)
	}
	s.alert(t, "cart-7f9-b")
	s.until(t, incident, "both pods to be shown", func(i *v1alpha1.Incident) bool {
		return len(step(i, "isolate").Targets) == 2 && step(i, "isolate").Digest != shown
	})
	stale := s.decide(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionApprove, func(d *v1alpha1.Decision) {
		d.Spec.Step, d.Spec.Digest = "isolate", shown
	}))
	if stale.Reason != v1alpha1.ReasonStale {
		t.Errorf("an approval of one pod must be stale now that there are two: %+v", stale)
	}
	s.approve(t, incident)
	s.until(t, incident, "the revert to be confirmed", waits("release"))
	if isolated := s.isolated(t); len(isolated) != 2 {
		t.Errorf("%v are isolated, want both", isolated)
	}
	s.approve(t, incident)
	s.until(t, incident, "the incident to be in review", inPhase(v1alpha1.PhaseReview))
	if isolated := s.isolated(t); len(isolated) != 0 {
		t.Errorf("%v are isolated after the revert", isolated)
	}
	if incident.Status.Mode != v1alpha1.ModeConfirm || step(incident, "isolate").Targets[0].ConfirmedBy != jane {
		t.Errorf("mode %q, step %+v", incident.Status.Mode, step(incident, "isolate"))
	}
}

// addedByPeople lets a person add an object, run actions beside the playbook, and find
// out what is refused.
func addedByPeople(t *testing.T, s *scene) {
	s.editPlaybook(t, func(p *v1alpha1.ResponsePlaybookSpec) {
		p.AdHoc = []v1alpha1.ActionName{"collect", "isolate", "revert"}
	})
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "an approval to be awaited", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
	run := func(action string) *v1alpha1.Decision {
		return harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionRunAction, func(d *v1alpha1.Decision) {
			d.Spec.Action = &runtime.RawExtension{Raw: []byte(action)}
		})
	}

	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionAddResource, func(d *v1alpha1.Decision) {
		d.Spec.Resource = v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: s.Target, Name: "cart-7f9-b"}
	}))
	s.until(t, incident, "the pod that was added to be isolated", func(*v1alpha1.Incident) bool { return s.isolated(t)["cart-7f9-b"] })

	for name, test := range map[string]struct{ action, reason, says string }{
		"not allowed":      {`{"target": "Pods", "delete": {}}`, v1alpha1.ReasonNotAllowed, "allows collect, isolate, revert"},
		"an unknown field": {`{"target": "Pods", "collect": {"everything": true}}`, v1alpha1.ReasonInvalid, "there is no such field: `collect.everything`"},
		"two actions":      {`{"target": "Pods", "collect": {}, "isolate": {}}`, v1alpha1.ReasonInvalid, "exactly one of the fields"},
	} {
		if answer := s.decide(t, run(test.action)); answer.Reason != test.reason || !strings.Contains(answer.Message, test.says) {
			t.Errorf("%s: got %s: %q, want %s: %q", name, answer.Reason, answer.Message, test.reason, test.says)
		}
	}
	s.accept(t, run(`{"target": "Pods", "collect": {}}`))
	s.until(t, incident, "what a person has run to be done", func(i *v1alpha1.Incident) bool { return step(i, "adhoc-1").State == v1alpha1.StepSucceeded })
	s.accept(t, run(`{"revert": {"steps": ["isolate"]}}`))
	s.until(t, incident, "the isolation to be undone", func(i *v1alpha1.Incident) bool { return step(i, "adhoc-2").State == v1alpha1.StepSucceeded })
	if isolated := s.isolated(t); len(isolated) != 0 {
		t.Errorf("%v are isolated, want none", isolated)
	}

	other := s.decide(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionUsePlaybook, func(d *v1alpha1.Decision) { d.Spec.PlaybookRef.Name = contain }))
	if other.Reason != v1alpha1.ReasonHadEffect {
		t.Errorf("a playbook that has acted must not be replaced: %+v", other)
	}
	s.closeIncident(t, incident, v1alpha1.ResolutionFalsePositive)

	byHand := harness.MakeIncident(s.Namespace, "by-hand", func(i *v1alpha1.Incident) {
		i.Spec.Resources = []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: s.Target, Name: pod.Name}}
	})
	done(t, s.jane.Create(t.Context(), byHand))
	missing := harness.MakeDecision(s.Namespace, "by-hand", jane, v1alpha1.DecisionUsePlaybook, func(d *v1alpha1.Decision) { d.Spec.PlaybookRef.Name = "nope" })
	if answer := s.decide(t, missing); answer.Reason != v1alpha1.ReasonPlaybookNotFound {
		t.Errorf("a playbook that is not there must be refused: %+v", answer)
	}
	s.accept(t, harness.MakeDecision(s.Namespace, "by-hand", jane, v1alpha1.DecisionUsePlaybook, func(d *v1alpha1.Decision) { d.Spec.PlaybookRef.Name = contain }))
	s.until(t, byHand, "it to be contained", func(i *v1alpha1.Incident) bool {
		return i.Status.Playbook.Name == contain && isTrue(i.Status.Conditions, v1alpha1.ConditionContained)
	})
}
