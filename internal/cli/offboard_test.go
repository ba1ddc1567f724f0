package cli

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// contained is an open incident with an isolation that stands.
func contained(t *testing.T, namespace string) *v1alpha1.Incident {
	t.Helper()
	incident := &v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "inc-1"}, Spec: sampleIncident().Spec}
	incident.Status = v1alpha1.IncidentStatus{Phase: v1alpha1.PhaseContainment, Steps: []v1alpha1.IncidentStep{{
		Name: "isolate", Phase: v1alpha1.PhaseContainment, Action: "isolate", State: v1alpha1.StepSucceeded,
		Targets: []v1alpha1.StepTarget{{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart", UID: "0b0c0c6e-0000-4000-8000-000000000000", State: v1alpha1.TargetSucceeded, Undo: "{}"}},
	}}}
	return createIncident(t, incident)
}

func (r result) stillLabelled(t *testing.T, name string, want bool) {
	t.Helper()
	namespace := &corev1.Namespace{}
	mustDo(t, admin.Get(t.Context(), client.ObjectKey{Name: name}, namespace))
	if _, labelled := namespace.Labels[v1alpha1.LabelDomain]; labelled != want {
		t.Errorf("labelled: %t, want %t\n%s%s", labelled, want, r.out, r.err)
	}
}

func TestOffboardRefuses(t *testing.T) {
	run(t.Context(), adminConfig, "offboard").check(t, ExitError, "", "offboard -n NAMESPACE")
	run(t.Context(), adminConfig, "offboard", "-n", "there-is-none", "--reason", "r").check(t, ExitError, "", "cannot read the namespace there-is-none")
	run(t.Context(), adminConfig, "offboard", "-n", "x", "--within", "0s").check(t, ExitError, "", "must be more than 0")

	namespace := domain(t, manager)
	mustDo(t, admin.Create(t.Context(), impersonator(namespace)))
	run(t.Context(), janeConfig, "offboard", "-n", namespace, "--reason", "r").check(t, ExitError, "", "cannot read the namespace "+namespace+": you are not permitted to")
	contained(t, namespace)
	r := run(t.Context(), adminConfig, "offboard", "-n", namespace, "--reason", "r")
	r.check(t, ExitRefused, "", "has 1 open incidents\n  inc-1  Containment  stands: isolate of Pod shop/cart\n")
	r.stillLabelled(t, namespace, true)
	if decisions := decisionsIn(t, namespace); len(decisions) > 0 {
		t.Errorf("what is refused must change nothing: %s", decisions[0].Name)
	}
}

// TestOffboardWhatIsUnlabelled: without the label nothing would be undone.
func TestOffboardWhatIsUnlabelled(t *testing.T) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "unlabelled-"}}
	mustDo(t, admin.Create(t.Context(), namespace))
	incident := contained(t, namespace.Name)
	run(t.Context(), adminConfig, "offboard", "-n", namespace.Name, "--revert", "--reason", "r").
		check(t, ExitRefused, "", "inc-1 is open, and what it has done stands: isolate of Pod shop/cart\n  Make it a domain again, so that it can be undone: kubectl firebreak init -n "+namespace.Name)
	incident.Status.Phase = v1alpha1.PhaseClosed
	mustDo(t, admin.Status().Update(t.Context(), incident))
	mustDo(t, admin.Create(t.Context(), impersonator(namespace.Name)))
	run(t.Context(), adminConfig, "offboard", "-n", namespace.Name).
		check(t, ExitOK, "rolebinding firebreak-impersonator deleted\n", "inc-1 has left in place, and nobody undoes it after this: isolate of Pod shop/cart")
}

// TestOffboardCallsAPerson: what cannot be undone keeps the domain.
func TestOffboardCallsAPerson(t *testing.T) {
	for name, test := range map[string]struct {
		answer metav1.ConditionStatus
		says   string
	}{
		"the closing is refused": {metav1.ConditionFalse, "Refused (NotGuarded): it is so"},
		"an effect that stays":   {metav1.ConditionTrue, "inc-1: not everything could be undone"},
	} {
		t.Run(name, func(t *testing.T) {
			namespace := domain(t, manager)
			mustDo(t, admin.Create(t.Context(), impersonator(namespace)))
			incident := contained(t, namespace)
			manage(t, namespace, func(decision *v1alpha1.Decision) metav1.Condition {
				if decision.Spec.Type != v1alpha1.DecisionClose {
					return accepted(decision)
				}
				if test.answer == metav1.ConditionFalse {
					return metav1.Condition{Status: test.answer, Reason: v1alpha1.ReasonNotGuarded, Message: "it is so"}
				}
				incident.Status.Resolution = v1alpha1.ResolutionFalsePositive
				incident.Status.Awaiting = []v1alpha1.Awaiting{{Type: v1alpha1.AwaitingFailure, Step: "isolate", Message: "it may not", Command: "c", SinceTime: at(1)}}
				if err := admin.Status().Update(t.Context(), incident); err != nil {
					t.Error(err)
				}
				return accepted(decision)
			})
			r := run(t.Context(), adminConfig, "offboard", "-n", namespace, "--revert", "--reason", "r")
			r.check(t, ExitRefused, "the automation of "+namespace+" is stopped", test.says)
			if test.answer == metav1.ConditionTrue {
				r.check(t, ExitRefused, "", "The automation is stopped again: what is left to undo waits for the next run.")
				decisions := decisionsIn(t, namespace)
				slices.SortStableFunc(decisions, func(a, b v1alpha1.Decision) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
				if last := decisions[len(decisions)-1].Spec.Type; last != v1alpha1.DecisionStopAutomation {
					t.Errorf("the last Decision is %s, the automation must be stopped", last)
				}
				r.check(t, ExitRefused, "inc-1 closes as FalsePositive", "it may not\n    Again:          kubectl firebreak retry inc-1 isolate -n "+namespace)
			}
			r.stillLabelled(t, namespace, true)
		})
	}
}

// TestOffboardUnanswered: what lets the automation go on may be answered after the command has
// given up, so it is stopped once more whatever is accepted so far.
func TestOffboardUnanswered(t *testing.T) {
	namespace := domain(t, manager)
	mustDo(t, admin.Create(t.Context(), impersonator(namespace)))
	contained(t, namespace)
	manage(t, namespace, func(decision *v1alpha1.Decision) metav1.Condition {
		if decision.Spec.Type == v1alpha1.DecisionResumeAutomation {
			return metav1.Condition{Status: metav1.ConditionUnknown, Reason: "NotYet"}
		}
		return accepted(decision)
	})
	r := run(t.Context(), adminConfig, "offboard", "-n", namespace, "--revert", "--reason", "r", "--wait-for", "3s")
	r.check(t, ExitError, "", "no answer within 3s")
	r.check(t, ExitError, "", "The automation is stopped again")
	decisions := decisionsIn(t, namespace)
	slices.SortStableFunc(decisions, func(a, b v1alpha1.Decision) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	if last := decisions[len(decisions)-1].Spec.Type; len(decisions) != 4 || last != v1alpha1.DecisionStopAutomation {
		t.Errorf("%d Decisions, the last is %s: want Stop, Close, Resume, Stop", len(decisions), last)
	}
}

// impersonator is the RoleBinding that `init` makes.
func impersonator(namespace string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.ImpersonatorClusterRole},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: v1alpha1.ImpersonatorClusterRole},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ManagerServiceAccount}},
	}
}
