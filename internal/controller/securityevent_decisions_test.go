package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// awaitAnswer waits until a Decision is answered, and gives the answer as 'Status Reason'.
func awaitAnswer(t *testing.T, decision *v1alpha1.Decision) string {
	t.Helper()
	got := &v1alpha1.Decision{}
	answer := ""
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(decision), got); err != nil {
			return err.Error()
		}
		condition := meta.FindStatusCondition(got.Status.Conditions, v1alpha1.ConditionAccepted)
		if condition == nil {
			return "Decision " + decision.Name + " has no answer"
		}
		answer = string(condition.Status) + " " + condition.Reason
		return ""
	})
	return answer
}

func decisionAbout(event *v1alpha1.SecurityEvent, name string, decides v1alpha1.DecisionType) *v1alpha1.Decision {
	return &v1alpha1.Decision{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: event.Namespace},
		Spec: v1alpha1.DecisionSpec{
			Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectSecurityEvent, Name: event.Name},
			Type:    decides, By: "jane", Reason: "I have looked",
		},
	}
}

func TestPeopleDecide(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, &v1alpha1.ResponsePlan{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: namespace},
		Spec: v1alpha1.ResponsePlanSpec{ServiceAccountName: "reader", Roles: []v1alpha1.PlanRole{
			{Name: "IncidentManager", Subjects: []v1alpha1.RoleSubject{{Kind: v1alpha1.RoleSubjectGroup, Name: "oncall"}}},
		}},
	})
	running := startAssessor(t, namespace, nil)
	running.guard.refuses.Store(true)

	event := shellEvent(namespace, "strange", "cart-1")
	mustCreate(t, event)
	awaitAssessment(t, event, v1alpha1.OutcomeDeferred)
	dismiss := decisionAbout(event, "dismiss", v1alpha1.DecisionDismiss)
	mustCreate(t, dismiss)
	missing := decisionAbout(shellEvent(namespace, "missing", "x"), "missing", v1alpha1.DecisionPromote)
	mustCreate(t, missing)
	if got := awaitAnswer(t, missing); got != "False SubjectNotFound" {
		t.Errorf("got %q for an event that does not exist", got)
	}
	if got := awaitAssessment(t, event, v1alpha1.OutcomeDeferred); got.Status.Assessment.DecisionRef.Name != "" {
		t.Error("a Decision took effect although nobody can tell who created it")
	}
	running.guard.refuses.Store(false)
	if got := awaitAnswer(t, dismiss); got != "True Accepted" {
		t.Errorf("got %q for Dismiss", got)
	}
	awaitAssessment(t, event, v1alpha1.OutcomeDismissed)

	for name, test := range map[string]struct {
		role   string
		groups []string
		want   string
	}{
		"no-such-role": {"Janitor", nil, "False NoSuchRole"},
		"not-in-role":  {"IncidentManager", []string{"others"}, "False NotInRole"},
	} {
		decision := decisionAbout(event, name, v1alpha1.DecisionPromote)
		decision.Spec.Role, decision.Spec.Groups = test.role, test.groups
		mustCreate(t, decision)
		if got := awaitAnswer(t, decision); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}

	promote := decisionAbout(event, "promote", v1alpha1.DecisionPromote)
	promote.Spec.Role, promote.Spec.Groups = "IncidentManager", []string{"oncall"}
	promote.Spec.Severity, promote.Spec.Category = v1alpha1.SeverityLow, v1alpha1.CategoryFraud
	promote.Spec.PlaybookRef = v1alpha1.PlaybookReference{Name: "contain"}
	mustCreate(t, promote)
	if got := awaitAnswer(t, promote); got != "True Accepted" {
		t.Errorf("got %q for Promote", got)
	}
	got := awaitAssessment(t, event, v1alpha1.OutcomePromoted)
	last := got.Status.Assessment
	if last.By != "jane" || last.DecisionRef.Name != "promote" || last.Reason != v1alpha1.ReasonDecidedByPerson || last.Message != "I have looked" {
		t.Errorf("got the assessment %+v", last)
	}
	if len(got.Status.EarlierAssessments) != 2 {
		t.Errorf("got %d earlier assessments, want 2", len(got.Status.EarlierAssessments))
	}
	incidents := incidentsIn(t, namespace)
	if len(incidents) != 1 || incidents[0].Spec.Category != v1alpha1.CategoryFraud || incidents[0].Spec.Severity != v1alpha1.SeverityLow ||
		incidents[0].Spec.PlaybookRef.Name != "contain" || incidents[0].Name != got.Status.IncidentRef.Name {
		t.Errorf("got the incidents %+v", incidents)
	}
	for _, decides := range []v1alpha1.DecisionType{v1alpha1.DecisionPromote, v1alpha1.DecisionDismiss} {
		late := decisionAbout(event, "late-"+strings.ToLower(string(decides)), decides)
		mustCreate(t, late)
		if got := awaitAnswer(t, late); got != "False AlreadyDecided" {
			t.Errorf("got %q for a late %s", got, decides)
		}
	}
}

func TestDecisionSurvivesCrash(t *testing.T) {
	namespace := newDomain(t)
	var answers atomic.Int32
	crashing := startAssessor(t, namespace, func(inner client.Client) client.Client {
		return interceptor.NewClient(withWatch{inner}, interceptor.Funcs{
			SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, object client.Object, options ...client.SubResourceUpdateOption) error {
				if _, ok := object.(*v1alpha1.Decision); ok {
					answers.Add(1)
					return errors.New("killed")
				}
				return c.SubResource(sub).Update(ctx, object, options...)
			},
		})
	})
	event := shellEvent(namespace, "strange", "cart-1")
	mustCreate(t, event)
	awaitAssessment(t, event, v1alpha1.OutcomeDeferred)
	promote := decisionAbout(event, "promote", v1alpha1.DecisionPromote)
	mustCreate(t, promote)
	eventually(t, func(context.Context) string {
		if answers.Load() < 2 {
			return "no answer tried twice yet"
		}
		return ""
	})
	crashing.stop()
	startAssessor(t, namespace, nil)
	if got := awaitAnswer(t, promote); got != "True Accepted" {
		t.Errorf("got %q", got)
	}
	if incidents := incidentsIn(t, namespace); len(incidents) != 1 {
		t.Errorf("got %d incidents, want 1", len(incidents))
	}
}

// TestDoubtedDecision: what may be forged does nothing, but what has been done already, when it
// was not in doubt, is answered so.
func TestDoubtedDecision(t *testing.T) {
	namespace := newDomain(t)
	var answers atomic.Int32
	crashing := startAssessor(t, namespace, func(inner client.Client) client.Client {
		return interceptor.NewClient(withWatch{inner}, interceptor.Funcs{
			SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, object client.Object, options ...client.SubResourceUpdateOption) error {
				if _, ok := object.(*v1alpha1.Decision); ok {
					answers.Add(1)
					return errors.New("killed")
				}
				return c.SubResource(sub).Update(ctx, object, options...)
			},
		})
	})
	done := shellEvent(namespace, "done", "cart-1")
	mustCreate(t, done)
	awaitAssessment(t, done, v1alpha1.OutcomeDeferred)
	before := decisionAbout(done, "before", v1alpha1.DecisionDismiss)
	mustCreate(t, before)
	eventually(t, func(context.Context) string {
		if answers.Load() == 0 {
			return "no answer tried yet"
		}
		return ""
	})
	crashing.stop()

	event := shellEvent(namespace, "strange", "cart-2")
	mustCreate(t, event)
	forged := decisionAbout(event, "forged", v1alpha1.DecisionDismiss)
	mustCreate(t, forged)
	guard, until := &testGuard{}, forged.CreationTimestamp.Add(time.Second)
	guard.doubted.Store(&until)
	startAssessor(t, namespace, nil, func(r *SecurityEventReconciler) { r.Guard = guard })
	if got := awaitAnswer(t, before); got != "True Accepted" {
		t.Errorf("got %q for what was done already", got)
	}
	if got := awaitAnswer(t, forged); got != "False NotGuarded" {
		t.Errorf("got %q for what may be forged", got)
	}
	if got := awaitAssessment(t, event, v1alpha1.OutcomeDeferred); got.Status.Assessment.DecisionRef.Name != "" {
		t.Errorf("what may be forged took effect: %+v", got.Status.Assessment)
	}
	always := forged.CreationTimestamp.Time
	guard.doubted.Store(&always)
	honest := decisionAbout(event, "honest", v1alpha1.DecisionDismiss)
	mustCreate(t, honest)
	if got := awaitAnswer(t, honest); got != "True Accepted" {
		t.Errorf("got %q for one that was created since", got)
	}
}

func TestJoinByPerson(t *testing.T) {
	namespace := newDomain(t)
	startAssessor(t, namespace, nil)
	open, ended := declared(t, namespace, "open"), declared(t, namespace, "ended")
	ended.Status.Phase = v1alpha1.PhaseReview
	if err := testClient.Status().Update(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	event := shellEvent(namespace, "strange", "cart-1")
	mustCreate(t, event)
	awaitAssessment(t, event, v1alpha1.OutcomeDeferred)
	for _, test := range []struct{ incident, want string }{
		{"none", "False NoSuchIncident"}, {"ended", "False IncidentClosed"}, {"open", "True Accepted"}, {"ended", "False AlreadyDecided"},
	} {
		decision := decisionAbout(event, "", v1alpha1.DecisionJoin)
		decision.GenerateName, decision.Spec.IncidentRef.Name = "join-", test.incident
		mustCreate(t, decision)
		if got := awaitAnswer(t, decision); got != test.want {
			t.Errorf("%s: got %q, want %q", test.incident, got, test.want)
		}
	}
	got := awaitAssessment(t, event, v1alpha1.OutcomeJoined)
	if a := got.Status.Assessment; got.Status.IncidentRef.Name != open.Name || a.By != "jane" || a.Reason != v1alpha1.ReasonDecidedByPerson {
		t.Errorf("got %+v", got.Status)
	}

	// Now the incident says that it does not belong to it; the policies leave it to a person.
	detached := v1alpha1.DetachedEvent{Name: event.Name, By: "kim", DecisionRef: v1alpha1.DecisionReference{Name: "detach"}, Time: metav1.Now()}
	open.Status.DetachedEvents = []v1alpha1.DetachedEvent{detached}
	if err := testClient.Status().Update(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	got = awaitAssessment(t, event, v1alpha1.OutcomeDeferred)
	if a := got.Status.Assessment; a.Reason != v1alpha1.ReasonDetached || a.By != "kim" || a.DecisionRef.Name != "detach" || got.Status.IncidentRef.Name != "" {
		t.Errorf("got %+v", got.Status)
	}
	if len(got.Status.EarlierAssessments) != 2 || got.Status.EarlierAssessments[1].Outcome != v1alpha1.OutcomeJoined {
		t.Errorf("got the earlier assessments %+v", got.Status.EarlierAssessments)
	}
	mustCreate(t, shellPolicy(namespace))
	again := decisionAbout(event, "again", v1alpha1.DecisionJoin)
	again.Spec.IncidentRef.Name = "open"
	mustCreate(t, again)
	if got := awaitAnswer(t, again); got != "True Accepted" {
		t.Errorf("got %q for joining it again", got)
	}
	countIn(t, event, 1)
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), got); err != nil {
			return err.Error()
		}
		if got.Status.Occurrences != 2 || got.Status.IncidentRef.Name != "open" || len(got.Status.EarlierAssessments) != 3 {
			return fmt.Sprintf("got %+v", got.Status)
		}
		return ""
	})
}

// declared is an incident that a person has declared.
func declared(t *testing.T, namespace, name string) *v1alpha1.Incident {
	t.Helper()
	incident := &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       v1alpha1.IncidentSpec{Title: "Declared", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryOther},
	}
	mustCreate(t, incident)
	return incident
}
