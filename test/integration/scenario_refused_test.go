package integration

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
	"github.com/firebreak-dev/firebreak/test/harness"
)

func init() {
	maps.Copy(scenarios, map[string]func(*testing.T, *scene){
		"a playbook that would destroy evidence": evidenceLoss,
		"a lesson that is refused":               refusedLesson,
	})
}

// evidenceLoss: what `Ready` forbids is not run, and runs when it is mended.
func evidenceLoss(t *testing.T, s *scene) {
	collects := playbook(s.Namespace).Spec.Containment.Steps[0]
	found := playbook(s.Namespace)
	done(t, patchTo(t, s, found, func(p *v1alpha1.ResponsePlaybook) { p.Spec.Containment.Steps = p.Spec.Containment.Steps[1:] }))
	harness.WaitFor(t, s.Client, found, "the playbook to be refused", func(p *v1alpha1.ResponsePlaybook) bool {
		for _, condition := range p.Status.Conditions {
			if condition.Type == v1alpha1.ConditionReady && condition.Reason == v1alpha1.ReasonEvidenceLoss {
				return true
			}
		}
		return false
	})
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.until(t, incident, "the incident to say that its playbook must not run", stalled(v1alpha1.ReasonPlaybookNotReady))
	if waits := awaited(incident, v1alpha1.AwaitingPlaybook); waits == nil || !strings.Contains(waits.Message, "evidenceLoss: Allow") {
		t.Errorf("got awaiting %+v, want what to do about the playbook", incident.Status.Awaiting)
	}
	s.untouched(t, pod)
	done(t, patchTo(t, s, found, func(p *v1alpha1.ResponsePlaybook) {
		p.Spec.Containment.Steps = append([]v1alpha1.PlaybookStep{collects}, p.Spec.Containment.Steps...)
	}))
	s.until(t, incident, "it to go on", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionContained) })
}

// refusedLesson: a policy of the cluster refuses the lesson. The incident says so, goes on
// with everything else, and drafts the lesson when it may.
func refusedLesson(t *testing.T, s *scene) {
	policy := refuseLessons(t, s)
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	incident := s.incident(t)
	s.approve(t, incident)
	s.until(t, incident, "the incident to say that there can be no lesson", func(i *v1alpha1.Incident) bool {
		waits := awaited(i, v1alpha1.AwaitingFailure)
		return waits != nil && strings.Contains(waits.Message, "lessons are written elsewhere")
	})
	done(t, s.Client.Delete(t.Context(), policy))
	harness.Eventually(t, held*10, "lessons to be allowed", func(ctx context.Context) error { return s.Client.Create(ctx, s.lesson("probe"), client.DryRunAll) })
	s.accept(t, harness.MakeDecision(s.Namespace, incident.Name, jane, v1alpha1.DecisionAcknowledge))
	s.until(t, incident, "the lesson to be drafted", func(i *v1alpha1.Incident) bool { return isTrue(i.Status.Conditions, v1alpha1.ConditionReviewed) })
	if waits := awaited(incident, v1alpha1.AwaitingFailure); waits != nil {
		t.Errorf("it still waits: %+v", waits)
	}
	s.closeIncident(t, incident, v1alpha1.ResolutionResolved)
}

func (s *scene) lesson(name string) *v1alpha1.LessonLearned {
	return &v1alpha1.LessonLearned{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: name},
		Spec:       lifecycle.DraftLesson(&v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "inc-none"}}),
	}
}

// refuseLessons has the API server refuse lessons in the scene's namespace, and waits until it does.
func refuseLessons(t *testing.T, s *scene) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	t.Helper()
	name := "no-lessons-in-" + s.Namespace
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{v1alpha1.SchemeGroupVersion.Group}, APIVersions: []string{"*"}, Resources: []string{"lessonslearned"}},
				},
			}}},
			Validations: []admissionregistrationv1.Validation{{Expression: "false", Message: "lessons are written elsewhere"}},
		},
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			MatchResources: &admissionregistrationv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.Namespace}}},
		},
	}
	for _, object := range []client.Object{policy, binding} {
		done(t, s.Client.Create(t.Context(), object))
		t.Cleanup(func() { _ = s.Client.Delete(context.WithoutCancel(t.Context()), object) })
	}
	harness.Eventually(t, held*10, "lessons to be refused", func(ctx context.Context) error {
		if err := s.Client.Create(ctx, s.lesson("probe"), client.DryRunAll); err == nil || !strings.Contains(err.Error(), "lessons are written elsewhere") {
			return fmt.Errorf("creating one gives: %w", err)
		}
		return nil
	})
	return binding
}
