package integration

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const falco = "system:serviceaccount:falco:falco"

func TestRecordsSayWhoMadeThem(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	d.Bind(t, d.Namespace, "firebreak-reporter", harness.User(mary))
	d.Bind(t, d.Namespace, "firebreak-incident-manager", harness.User(jane))
	// A responder who may create incidents, but not declare.
	d.Allow(t, d.Namespace, harness.User(mary), harness.Rule("firebreak.dev", []string{"incidents"}, []string{"create"}))
	claim := func(change func(*v1alpha1.IncidentSpec)) client.Object {
		return harness.MakeIncident(d.Namespace, "claim", func(i *v1alpha1.Incident) { change(&i.Spec) })
	}
	const noClaims = "`spec.submittedBy` and `spec.rule` must not be set"
	tests := map[string]struct {
		user    string
		object  client.Object
		refusal string // empty: allowed
	}{
		"an event in her own name":      {mary, harness.MakeEvent(d.Namespace, "mine", mary), ""},
		"an event in another's name":    {mary, harness.MakeEvent(d.Namespace, "forged", falco), "`spec.submittedBy` must be 'mary@example.com', the user you are authenticated as"},
		"an event in the receiver's":    {mary, harness.MakeEvent(d.Namespace, "forged", harness.Receiver), "`spec.submittedBy` must be 'mary@example.com'"},
		"the receiver for a sender":     {harness.Receiver, harness.MakeEvent(d.Namespace, "alert", falco), ""},
		"evidence in her own name":      {jane, harness.MakeEvidence(d.Namespace, "mine", jane), ""},
		"evidence in another's name":    {jane, harness.MakeEvidence(d.Namespace, "forged", mary), "`spec.collectedBy` must be 'jane@example.com'"},
		"the manager for an account":    {harness.Manager, harness.MakeEvidence(d.Namespace, "collected", falco), ""},
		"a forged journal":              {jane, harness.MakeEvidence(d.Namespace, "journal", jane, func(e *v1alpha1.Evidence) { e.Spec.Type = v1alpha1.EvidenceJournal }), "only Firebreak seals timelines"},
		"an incident with `declare`":    {jane, harness.MakeIncident(d.Namespace, "declared"), ""},
		"an incident without `declare`": {mary, harness.MakeIncident(d.Namespace, "undeclared"), "'mary@example.com' must hold the RBAC verb 'declare' on 'incidents'"},
		"an incident with a submitter":  {jane, claim(func(s *v1alpha1.IncidentSpec) { s.SubmittedBy = falco }), noClaims},
		"an incident with a rule":       {jane, claim(func(s *v1alpha1.IncidentSpec) { s.Rule = "policy/rule" }), noClaims},
		"the manager by a rule":         {harness.Manager, claim(func(s *v1alpha1.IncidentSpec) { s.SubmittedBy, s.Rule = falco, "policy/rule" }), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := d.As(t, test.user).Create(t.Context(), test.object)
			if test.refusal == "" {
				done(t, err)
			} else {
				refused(t, err, test.refusal)
			}
		})
	}
}

func TestWhoNamesAnAccountMustBeAllowedToBeIt(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	const author, pipeline = "author@example.com", "pipeline@example.com"
	for _, user := range []string{author, pipeline} {
		d.Bind(t, d.Namespace, "firebreak-author", harness.User(user))
	}
	one := harness.Rule("", []string{"serviceaccounts"}, []string{"impersonate"})
	one.ResourceNames = []string{"contain"}
	d.Allow(t, d.Namespace, harness.User(pipeline), one)
	as, asPipeline := d.As(t, author), d.As(t, pipeline)
	const refusal = "must hold the RBAC verb 'impersonate' on the ServiceAccount 'contain'"

	t.Run("a playbook", func(t *testing.T) {
		refused(t, as.Create(t.Context(), harness.MakePlaybook(d.Namespace, "playbook", "contain")), "'"+author+"' "+refusal)
		playbook := harness.MakePlaybook(d.Namespace, "playbook", "contain")
		done(t, asPipeline.Create(t.Context(), playbook))
		refused(t, asPipeline.Create(t.Context(), harness.MakePlaybook(d.Namespace, "another", "default")), "'impersonate' on the ServiceAccount 'default'")
		refused(t, patch(t, as, playbook.DeepCopy(), func(p *v1alpha1.ResponsePlaybook) { p.Spec.Limits.MaxTargets = 100 }), "'"+author+"' "+refusal)
		done(t, patch(t, as, playbook.DeepCopy(), func(p *v1alpha1.ResponsePlaybook) { p.Labels = map[string]string{"team": "red"} }))
		done(t, patch(t, asPipeline, playbook.DeepCopy(), func(p *v1alpha1.ResponsePlaybook) { p.Spec.Description = "Cuts it off." }))
		refused(t, patch(t, as, playbook.DeepCopy(), func(p *v1alpha1.ResponsePlaybook) { p.Spec.ServiceAccountName = "default" }), "'default'")
		refused(t, patch(t, asPipeline, playbook.DeepCopy(), func(p *v1alpha1.ResponsePlaybook) { p.Spec.ServiceAccountName = "default" }), "'default'")
	})
	t.Run("a plan", func(t *testing.T) {
		refused(t, as.Create(t.Context(), harness.MakePlan(d.Namespace, "contain")), "'"+author+"' "+refusal)
		plan := harness.MakePlan(d.Namespace, "")
		done(t, as.Create(t.Context(), plan))
		refused(t, patch(t, as, plan.DeepCopy(), func(p *v1alpha1.ResponsePlan) { p.Spec.ServiceAccountName = "contain" }), refusal)
		done(t, patch(t, asPipeline, plan, func(p *v1alpha1.ResponsePlan) { p.Spec.ServiceAccountName = "contain" }))
		done(t, patch(t, as, plan.DeepCopy(), func(p *v1alpha1.ResponsePlan) { p.Spec.Response = v1alpha1.ResponsePaused }))
		done(t, patch(t, as, plan.DeepCopy(), func(p *v1alpha1.ResponsePlan) { p.Spec.ServiceAccountName = "" }))
	})
}

func TestThePinnedPlaybookIsLeftAlone(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	root, manager := d.As(t, "root", harness.Masters), d.As(t, harness.Manager)
	incident := harness.MakeIncident(d.Namespace, "inc")
	done(t, manager.Create(t.Context(), incident))
	revision := func(name string, owner metav1.OwnerReference) *appsv1.ControllerRevision {
		return &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: d.Namespace, OwnerReferences: []metav1.OwnerReference{owner}},
			Data:       runtime.RawExtension{Raw: []byte(`{"spec":{}}`)}, Revision: 1,
		}
	}
	ours := metav1.OwnerReference{APIVersion: "firebreak.dev/v1alpha1", Kind: "Incident", Name: incident.Name, UID: incident.UID}
	theirs := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", UID: "0b0c0c6e-0000-4000-8000-000000000000"}
	pinned, foreign := revision("pinned", ours), revision("foreign", theirs)

	refused(t, root.Create(t.Context(), revision("forged", ours)), "the ControllerRevision 'forged' must be left alone")
	done(t, manager.Create(t.Context(), pinned))
	refused(t, root.Delete(t.Context(), pinned), "the ControllerRevision 'pinned' must be left alone")
	refused(t, patch(t, root, pinned.DeepCopy(), func(r *appsv1.ControllerRevision) { r.OwnerReferences = nil }), "must be left alone")
	done(t, d.As(t, garbageCollector).Delete(t.Context(), pinned, client.DryRunAll))
	refused(t, manager.Delete(t.Context(), pinned), "deletes only those of policies")
	refused(t, manager.Create(t.Context(), revision("theirs", theirs)), "makes those of incidents and classification policies only")

	done(t, root.Create(t.Context(), foreign))
	refused(t, patch(t, root, foreign.DeepCopy(), func(r *appsv1.ControllerRevision) { r.OwnerReferences = []metav1.OwnerReference{ours} }), "must be left alone")
	done(t, root.Delete(t.Context(), foreign))
}

// TestTheKeptPolicyIsLeftAlone: by its text events are assessed while a newer one does not compile.
func TestTheKeptPolicyIsLeftAlone(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	root, manager := d.As(t, "root", harness.Masters), d.As(t, harness.Manager)
	kept := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Name: "runtime-1", Namespace: d.Namespace, OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "firebreak.dev/v1alpha1", Kind: "ClassificationPolicy", Name: "runtime", UID: "0b0c0c6e-0000-4000-8000-000000000000",
		}}},
		Data: runtime.RawExtension{Raw: []byte(`{"rules":[]}`)}, Revision: 1,
	}
	refused(t, root.Create(t.Context(), kept.DeepCopy()), "the ControllerRevision 'runtime-1' must be left alone")
	done(t, manager.Create(t.Context(), kept))
	refused(t, root.Delete(t.Context(), kept), "or of a classification policy that was in force")
	refused(t, patch(t, root, kept.DeepCopy(), func(r *appsv1.ControllerRevision) { r.Revision = 2 }), "must be left alone")
	done(t, manager.Delete(t.Context(), kept))
}
