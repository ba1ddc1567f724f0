package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// withoutPatterns does something while the API server takes Decisions as it did before the
// references in them had a pattern. In the end they have it again.
func withoutPatterns(t *testing.T, namespace string, do func()) {
	t.Helper()
	kept := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}}
	if err := testClient.Get(t.Context(), client.ObjectKey{Name: "decisions.firebreak.dev"}, kept); err != nil {
		t.Fatal(err)
	}
	text, err := kept.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	loose := &unstructured.Unstructured{}
	pattern := `"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"`
	if err := loose.UnmarshalJSON([]byte(strings.ReplaceAll(string(text), pattern, `".*"`))); err != nil {
		t.Fatal(err)
	}
	change := func(from, to *unstructured.Unstructured, refused bool) {
		if err := testClient.Patch(context.Background(), to.DeepCopy(), client.MergeFrom(from)); err != nil {
			t.Fatal(err)
		}
		eventually(t, func(ctx context.Context) string {
			probe := decisionAbout(shellEvent(namespace, "a/b", ""), "probe", v1alpha1.DecisionJoin)
			probe.Spec.IncidentRef.Name = "a/b"
			if err := testClient.Create(ctx, probe, client.DryRunAll); apierrors.IsInvalid(err) != refused {
				return fmt.Sprintf("the names are refused: must be %t, the answer is %v", refused, err)
			}
			return ""
		})
	}
	change(kept, loose, false)
	defer change(loose, kept, true)
	do()
}

// startResponder starts the reconciler of incidents that no playbook answers.
func startResponder(t *testing.T, namespace string) {
	t.Helper()
	mgr := newManager(t, namespace)
	if err := AddIndexes(t.Context(), mgr.GetFieldIndexer()); err != nil {
		t.Fatal(err)
	}
	incidents := &IncidentReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Guard: &testGuard{}, Expressions: &Expressions{}, Manager: "manager", Clock: clock.RealClock{},
	}
	if err := incidents.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	start(t, mgr)
}

// TestNamesThatNoObjectCanHave: a Decision that names what cannot be there is answered, and
// freezes neither what it is about nor the Decisions after it.
func TestNamesThatNoObjectCanHave(t *testing.T) {
	namespace := newDomain(t)
	event := shellEvent(namespace, "strange", "cart-1")
	mustCreate(t, event)
	incident := declared(t, namespace, "inc")

	type asked struct {
		decision *v1alpha1.Decision
		want     string
	}
	var all []asked
	decide := func(kind v1alpha1.SubjectKind, decides v1alpha1.DecisionType, subject, refers, want string) {
		decision := decisionAbout(event, fmt.Sprintf("decision-%02d", len(all)), decides)
		decision.Spec.Subject = v1alpha1.DecisionSubject{Kind: kind, Name: subject}
		decision.Spec.IncidentRef.Name = refers
		mustCreate(t, decision)
		all = append(all, asked{decision, want})
	}
	withoutPatterns(t, namespace, func() {
		for _, name := range []string{"tenant/INC2", "..", ".", "a%b"} {
			decide(v1alpha1.SubjectSecurityEvent, v1alpha1.DecisionJoin, event.Name, name, "False NoSuchIncident")
			decide(v1alpha1.SubjectIncident, v1alpha1.DecisionMarkDuplicate, incident.Name, name, "False NoSuchIncident")
			decide(v1alpha1.SubjectSecurityEvent, v1alpha1.DecisionDismiss, name, "", "False SubjectNotFound")
			decide(v1alpha1.SubjectIncident, v1alpha1.DecisionNote, name, "", "False SubjectNotFound")
		}
	})
	decide(v1alpha1.SubjectSecurityEvent, v1alpha1.DecisionJoin, event.Name, incident.Name, "True Accepted")
	decide(v1alpha1.SubjectIncident, v1alpha1.DecisionAcknowledge, incident.Name, "", "True Accepted")

	startAssessor(t, namespace, nil)
	startResponder(t, namespace)
	for _, one := range all {
		if got := awaitAnswer(t, one.decision); got != one.want {
			t.Errorf("%s of %q, naming %q: got %q, want %q", one.decision.Spec.Type, one.decision.Spec.Subject.Name, one.decision.Spec.IncidentRef.Name, got, one.want)
		}
	}
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(incident), incident); err != nil {
			return err.Error()
		}
		if incident.Status.EventCount != 1 {
			return fmt.Sprintf("the incident counts %d events, want the one that joined", incident.Status.EventCount)
		}
		return ""
	})
}
