package integration

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	garbageCollector    = "system:serviceaccount:kube-system:generic-garbage-collector"
	namespaceController = "system:serviceaccount:kube-system:namespace-controller"
)

func assessed(outcome v1alpha1.AssessmentOutcome, incident string) func(*v1alpha1.SecurityEvent) {
	return func(e *v1alpha1.SecurityEvent) {
		e.Status.Assessment = v1alpha1.Assessment{Outcome: outcome, Reason: v1alpha1.ReasonRuleMatched, By: harness.Manager, Time: metav1.Now()}
		e.Status.IncidentRef.Name = incident
	}
}

func TestWhatMustBeKeptIsNotDeleted(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	janitor := harness.User(jane)
	records := []string{"securityevents", "incidents", "evidence", "lessonslearned"}
	for _, resource := range records {
		d.Allow(t, d.Namespace, janitor, harness.Rule("firebreak.dev", []string{resource}, []string{"create", "delete", "deletecollection"}))
	}
	manager := d.As(t, harness.Manager)
	phase := func(phase v1alpha1.Phase) func(*v1alpha1.Incident) {
		return func(i *v1alpha1.Incident) { i.Status.Phase = phase }
	}
	event := func(name string, change func(*v1alpha1.SecurityEvent)) client.Object {
		object := harness.MakeEvent(d.Namespace, name, harness.Receiver)
		done(t, d.As(t, harness.Receiver).Create(t.Context(), object))
		done(t, patchStatus(t, manager, object, change))
		return object
	}
	incident := func(name string, change func(*v1alpha1.Incident)) client.Object {
		object := harness.MakeIncident(d.Namespace, name)
		done(t, manager.Create(t.Context(), object))
		done(t, patchStatus(t, manager, object, change))
		return object
	}
	evidence := harness.MakeEvidence(d.Namespace, "evidence", jane)
	done(t, d.As(t, jane).Create(t.Context(), evidence))
	lesson := harness.MakeLesson(d.Namespace, "lesson", "closed")
	done(t, d.As(t, jane).Create(t.Context(), lesson))

	kept := map[string]struct {
		object  client.Object
		refusal string
	}{
		"an incident of no phase yet": {incident("new", func(*v1alpha1.Incident) {}), "the Incident 'new' is open and must be closed first"},
		"an open incident":            {incident("open", phase(v1alpha1.PhaseReview)), "the Incident 'open' is open and must be closed first"},
		"a closed incident": {incident("closed", phase(v1alpha1.PhaseClosed)),
			"the Incident 'closed' must be kept: it is closed, and goes by the plan's `retention.closedIncidents`, once it is journaled; to delete it all the same takes the RBAC verb 'purge' on 'incidents', which no shipped role has"},
		"evidence":                 {evidence, "the Evidence 'evidence' must be preserved"},
		"a lesson":                 {lesson, "the LessonLearned 'lesson' must be kept"},
		"an event nobody assessed": {event("new", func(*v1alpha1.SecurityEvent) {}), "the SecurityEvent 'new' must be kept"},
		"a deferred event":         {event("deferred", assessed(v1alpha1.OutcomeDeferred, "")), "the SecurityEvent 'deferred' must be kept"},
		"an event of an incident":  {event("joined", assessed(v1alpha1.OutcomeJoined, "open")), "the SecurityEvent 'joined' must be kept"},
		"a dismissed event": {event("dismissed", assessed(v1alpha1.OutcomeDismissed, "")),
			"the SecurityEvent 'dismissed' must be kept: it was dismissed, and goes by the plan's `retention.dismissedEvents`, once its assessment is journaled; to delete it all the same takes the RBAC verb 'purge' on 'securityevents', which no shipped role has"},
	}
	for name, test := range kept {
		t.Run(name, func(t *testing.T) {
			refused(t, d.As(t, jane).Delete(t.Context(), test.object), test.refusal)
			refused(t, d.As(t, jane).DeleteAllOf(t.Context(), copyOf(t, test.object), client.InNamespace(d.Namespace)), "takes the RBAC verb 'purge'")
			foreground := metav1.DeletePropagationForeground
			refused(t, d.As(t, jane).Delete(t.Context(), test.object, &client.DeleteOptions{PropagationPolicy: &foreground}), test.refusal)
			// Kubernetes itself can, or deletions would hang for ever.
			done(t, d.As(t, namespaceController).Delete(t.Context(), test.object, client.DryRunAll))
			done(t, d.As(t, garbageCollector).Delete(t.Context(), test.object, client.DryRunAll))
		})
	}
	t.Run("the verb purge deletes", func(t *testing.T) {
		d.Allow(t, d.Namespace, harness.User(mary), harness.Rule("firebreak.dev", records, []string{"delete", "purge"}))
		for _, test := range kept {
			done(t, d.As(t, mary).Delete(t.Context(), test.object))
		}
	})
}

func TestKubernetesItselfCleansUp(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	manager := d.As(t, harness.Manager)
	evidence := harness.MakeEvidence(d.Namespace, "evidence", "system:serviceaccount:x:y", func(e *v1alpha1.Evidence) {
		e.OwnerReferences = []metav1.OwnerReference{{APIVersion: "firebreak.dev/v1alpha1", Kind: "Incident", Name: "inc", UID: "0b0c0c6e-0000-4000-8000-000000000000"}}
	})
	done(t, manager.Create(t.Context(), evidence))
	// The garbage collector takes away the reference to an owner that is gone.
	done(t, patch(t, d.As(t, garbageCollector, harness.Masters), evidence, func(e *v1alpha1.Evidence) { e.OwnerReferences = nil }))
}

func TestDomainsAreNotDeletedByMistake(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	root := d.As(t, "root", harness.Masters)
	namespace := &corev1.Namespace{}
	done(t, d.Client.Get(t.Context(), client.ObjectKey{Name: d.Namespace}, namespace))

	refused(t, root.Delete(t.Context(), namespace), "remove the label 'firebreak.dev/domain' first")
	done(t, patch(t, root, namespace.DeepCopy(), func(n *corev1.Namespace) { n.Labels["team"] = "blue" }))
	done(t, patch(t, root, namespace.DeepCopy(), func(n *corev1.Namespace) { delete(n.Labels, v1alpha1.LabelDomain) }))
	done(t, root.Delete(t.Context(), namespace))

	target := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: d.Target}}
	done(t, root.Delete(t.Context(), target))
}

func TestNobodyBorrowsTheControlPlane(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	root := d.As(t, "root", harness.Masters)
	impersonator := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: v1alpha1.ImpersonatorClusterRole}
	subjects := []rbacv1.Subject{harness.Account(v1alpha1.SystemNamespace, v1alpha1.ManagerServiceAccount)}
	for _, name := range []string{"kube-system", v1alpha1.SystemNamespace} {
		t.Run(name, func(t *testing.T) {
			namespace := &corev1.Namespace{}
			done(t, d.Client.Get(t.Context(), client.ObjectKey{Name: name}, namespace))
			refused(t, patch(t, root, namespace, func(n *corev1.Namespace) { n.Labels[v1alpha1.LabelDomain] = "true" }),
				"the namespace '"+name+"' must not be a response domain")
			refused(t, root.Create(t.Context(), &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: name}, RoleRef: impersonator, Subjects: subjects,
			}), "'firebreak-impersonator' must not be bound in '"+name+"'")
		})
	}
	refused(t, root.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "x"}, RoleRef: impersonator, Subjects: subjects,
	}), "'firebreak-impersonator' must be bound by a RoleBinding in each domain")
	// Other roles are nobody's business here.
	other := impersonator
	other.Name = "view"
	done(t, root.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "x"}, RoleRef: other, Subjects: subjects[:0],
	}, client.DryRunAll))
}
