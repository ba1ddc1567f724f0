package integration

import (
	"context"
	"errors"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const decisionsPolicy = "firebreak-decisions"

// unguard takes the guard of Decisions away until the test has ended.
func unguard(t *testing.T, d *harness.Domain) (restore func()) {
	t.Helper()
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{}
	done(t, d.Client.Get(t.Context(), client.ObjectKey{Name: decisionsPolicy}, binding))
	done(t, d.Client.Delete(t.Context(), binding))
	forge := func(ctx context.Context) error {
		return d.Client.Create(ctx, harness.MakeDecision(d.Namespace, "inc", "somebody", v1alpha1.DecisionAcknowledge), client.DryRunAll)
	}
	harness.Eventually(t, harness.Patience, "the guard to be gone", forge)
	restored := false
	restore = func() {
		if restored {
			return
		}
		restored = true
		again := &admissionv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: binding.Name, Labels: binding.Labels}, Spec: binding.Spec,
		}
		if err := d.Client.Create(context.WithoutCancel(t.Context()), again); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(restore)
	return restore
}

// othersPolicy refuses all Decisions, as a policy of the cluster's owner might.
func othersPolicy(t *testing.T, d *harness.Domain) {
	t.Helper()
	const name = "others"
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: ptr.To(admissionv1.Fail),
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create},
					Rule:       admissionv1.Rule{APIGroups: []string{"firebreak.dev"}, APIVersions: []string{"*"}, Resources: []string{"decisions"}},
				},
			}}},
			Validations: []admissionv1.Validation{{Expression: "'team' in object.metadata.?labels.orValue({})", Message: "everything must have the label team"}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
	}
	for _, object := range []client.Object{policy, binding} {
		done(t, d.Client.Create(t.Context(), object))
		t.Cleanup(func() {
			if err := d.Client.Delete(context.WithoutCancel(t.Context()), object); err != nil {
				t.Error(err)
			}
		})
	}
	harness.Eventually(t, harness.Patience, "the other policy to bite", func(ctx context.Context) error {
		if err := d.Client.Create(ctx, harness.MakeDecision(d.Namespace, "inc", "somebody", v1alpha1.DecisionAcknowledge), client.DryRunAll); err == nil {
			return errors.New("it does not refuse yet")
		}
		return nil
	})
}

func guardedIs(status metav1.ConditionStatus, reason string) func(*v1alpha1.ResponsePlan) bool {
	return func(p *v1alpha1.ResponsePlan) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == v1alpha1.ConditionGuarded {
				return c.Status == status && c.Reason == reason
			}
		}
		return false
	}
}

// TestNoDecisionCountsUnguarded takes the guard away: whoever can create a Decision could
// then write any name, so none counts.
func TestNoDecisionCountsUnguarded(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	restore := unguard(t, d)
	d.StartManager(t)
	plan := harness.MakePlan(d.Namespace, "")
	incident := harness.MakeIncident(d.Namespace, "inc")
	for _, object := range []client.Object{plan, incident} {
		done(t, d.Client.Create(t.Context(), object))
	}
	harness.WaitFor(t, d.Client, plan, "the plan to say that it is not guarded", guardedIs(metav1.ConditionFalse, v1alpha1.ReasonForgeryAccepted))

	d.Allow(t, d.Namespace, harness.User(mary), rbacv1.PolicyRule{APIGroups: []string{"firebreak.dev"}, Resources: []string{"decisions"}, Verbs: []string{"create"}})
	forged := harness.MakeDecision(d.Namespace, "inc", jane, v1alpha1.DecisionAcknowledge)
	done(t, d.As(t, mary).Create(t.Context(), forged))
	t.Run("another's policy proves nothing", func(t *testing.T) {
		othersPolicy(t, d)
		harness.WaitFor(t, d.Client, plan, "the plan to say that nothing is proven", guardedIs(metav1.ConditionFalse, v1alpha1.ReasonProbeFailed))
	})
	restore()
	harness.WaitFor(t, d.Client, plan, "the plan to be guarded", guardedIs(metav1.ConditionTrue, v1alpha1.ReasonForgeryRefused))

	// It was made while everybody could make it, so it does not count later either.
	harness.WaitFor(t, d.Client, forged, "an answer to the forged Decision", func(d *v1alpha1.Decision) bool {
		return meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionAccepted) != nil
	})
	if answer := meta.FindStatusCondition(forged.Status.Conditions, v1alpha1.ConditionAccepted); answer.Status != metav1.ConditionFalse || answer.Reason != v1alpha1.ReasonNotGuarded {
		t.Errorf("the forged Decision was answered with %s (%s: %s), want False (NotGuarded)", answer.Status, answer.Reason, answer.Message)
	}
}
