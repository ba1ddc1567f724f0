package integration

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	jane = "jane@example.com"
	mary = "mary@example.com"
)

func approval(namespace, by string, edit ...func(*v1alpha1.Decision)) *v1alpha1.Decision {
	return harness.MakeDecision(namespace, "inc", by, v1alpha1.DecisionApprove, append([]func(*v1alpha1.Decision){func(d *v1alpha1.Decision) {
		d.Spec.Step = "ok-to-delete"
		d.Spec.Digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	}}, edit...)...)
}

func TestDecisionsSayWhoDecides(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	d.Bind(t, d.Namespace, "firebreak-responder", harness.User(jane))
	d.Bind(t, d.Namespace, "firebreak-viewer", harness.User(mary))
	// She may create Decisions, but not approve.
	d.Allow(t, d.Namespace, harness.User(mary), harness.Rule("firebreak.dev", []string{"decisions"}, []string{"create"}))

	tests := map[string]struct {
		user     string
		groups   []string
		decision *v1alpha1.Decision
		refusal  string // empty: allowed
	}{
		"her own, with the verb": {user: jane, decision: approval(d.Namespace, jane)},
		"a forged `by`": {
			user: jane, decision: approval(d.Namespace, mary),
			refusal: "`spec.by` must be 'jane@example.com', the user you are authenticated as",
		},
		"a forged `by` by the administrator": {
			user: "root", groups: []string{harness.Masters}, decision: approval(d.Namespace, jane), refusal: "`spec.by` must be 'root'",
		},
		"the manager's probe": {
			user: harness.Manager, decision: approval(d.Namespace, "firebreak:probe"),
			refusal: "`spec.by` must be 'system:serviceaccount:firebreak-system:firebreak-manager'",
		},
		"the manager in its own name": {
			user: harness.Manager, decision: approval(d.Namespace, harness.Manager), refusal: "must hold the RBAC verb 'approve' on 'incidents'",
		},
		"without the verb": {
			user: mary, decision: approval(d.Namespace, mary),
			refusal: "'mary@example.com' must hold the RBAC verb 'approve' on 'incidents' to create a Decision of type 'Approve' about 'inc'",
		},
		"a verb of two words": {
			user: mary, refusal: "must hold the RBAC verb 'complete-task' on 'incidents'",
			decision: harness.MakeDecision(d.Namespace, "inc", mary, v1alpha1.DecisionCompleteTask, func(d *v1alpha1.Decision) { d.Spec.Step = "call" }),
		},
		"a verb of two words that she has": {
			user:     jane,
			decision: harness.MakeDecision(d.Namespace, "inc", jane, v1alpha1.DecisionCompleteTask, func(d *v1alpha1.Decision) { d.Spec.Step = "call" }),
		},
		"a verb on another kind": {
			user: mary, refusal: "must hold the RBAC verb 'promote' on 'securityevents'",
			decision: harness.MakeDecision(d.Namespace, "", mary, v1alpha1.DecisionPromote, about(v1alpha1.SubjectSecurityEvent, "event")),
		},
		"the red button": {
			user:     jane,
			decision: harness.MakeDecision(d.Namespace, "", jane, v1alpha1.DecisionStopAutomation, about(v1alpha1.SubjectResponsePlan, "default")),
		},
		"the red button without the verb": {
			user: mary, refusal: "must hold the RBAC verb 'stop-automation' on 'responseplans'",
			decision: harness.MakeDecision(d.Namespace, "", mary, v1alpha1.DecisionStopAutomation, about(v1alpha1.SubjectResponsePlan, "default")),
		},
		"groups of her own": {
			user: jane, groups: []string{"security-oncall"},
			decision: approval(d.Namespace, jane, func(d *v1alpha1.Decision) { d.Spec.Groups = []string{"security-oncall", "system:authenticated"} }),
		},
		"a group that is not hers": {
			user: jane, groups: []string{"security-oncall"},
			decision: approval(d.Namespace, jane, func(d *v1alpha1.Decision) { d.Spec.Groups = []string{"security-oncall", "board"} }),
			refusal:  "`spec.groups` must be groups of 'jane@example.com', which are: 'security-oncall', 'system:authenticated'",
		},
		"with a label of Firebreak's": {
			user: jane, refusal: "`metadata.labels` with the prefix 'firebreak.dev/' must be left as they are",
			decision: approval(d.Namespace, jane, func(d *v1alpha1.Decision) { d.Labels = map[string]string{v1alpha1.LabelIncident: "other"} }),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			as := d.As(t, test.user, test.groups...)
			for _, how := range [][]client.CreateOption{{client.DryRunAll}, nil} {
				err := as.Create(t.Context(), test.decision.DeepCopy(), how...)
				if test.refusal == "" {
					done(t, err)
				} else {
					refused(t, err, test.refusal)
				}
			}
		})
	}
}

func about(kind v1alpha1.SubjectKind, name string) func(*v1alpha1.Decision) {
	return func(d *v1alpha1.Decision) { d.Spec.Subject = v1alpha1.DecisionSubject{Kind: kind, Name: name} }
}

func TestARightForOneIncidentOnly(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	one := harness.Rule("firebreak.dev", []string{"incidents"}, []string{"acknowledge"})
	one.ResourceNames = []string{"hers"}
	d.Allow(t, d.Namespace, harness.User(jane), one, harness.Rule("firebreak.dev", []string{"decisions"}, []string{"create"}))
	as := d.As(t, jane)

	done(t, as.Create(t.Context(), harness.MakeDecision(d.Namespace, "hers", jane, v1alpha1.DecisionAcknowledge)))
	refused(t, as.Create(t.Context(), harness.MakeDecision(d.Namespace, "another", jane, v1alpha1.DecisionAcknowledge)), "about 'another'")
}

func TestDecisionsAreNeverEditedOrDeleted(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	d.Bind(t, d.Namespace, "firebreak-responder", harness.User(jane))
	decision := approval(d.Namespace, jane)
	done(t, d.As(t, jane).Create(t.Context(), decision))
	root := d.As(t, "root", harness.Masters)

	edited := decision.DeepCopy()
	edited.Spec.Reason = "another reason"
	if err := d.Client.Update(t.Context(), edited); err == nil {
		t.Error("the spec of a Decision could be edited")
	}
	refused(t, patch(t, root, decision.DeepCopy(), func(d *v1alpha1.Decision) { d.Finalizers = []string{"example.com/mine"} }),
		"`metadata.finalizers` must be left as they are")
	refused(t, patchStatus(t, root, decision.DeepCopy(), func(d *v1alpha1.Decision) {
		d.Status.Conditions = []metav1.Condition{{
			Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, LastTransitionTime: metav1.Now(),
		}}
	}), "only Firebreak's manager writes it")

	// Nobody without `purge`, which even the responder who made it does not hold.
	d.Allow(t, d.Namespace, harness.User(jane), harness.Rule("firebreak.dev", []string{"decisions"}, []string{"delete", "deletecollection"}))
	refused(t, d.As(t, jane).Delete(t.Context(), decision), "takes the RBAC verb 'purge' on 'decisions'")
	refused(t, d.As(t, jane).DeleteAllOf(t.Context(), &v1alpha1.Decision{}, client.InNamespace(d.Namespace)), "takes the RBAC verb 'purge'")
	d.Allow(t, d.Namespace, harness.User(jane), harness.Rule("firebreak.dev", []string{"decisions"}, []string{"purge"}))
	done(t, d.As(t, jane).Delete(t.Context(), decision))
}
