package integration

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// TestTheManagerDeletesOnlyWhatIsOver is the way of retention through admission: it is as
// narrow as what retention deletes.
func TestTheManagerDeletesOnlyWhatIsOver(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	manager := d.As(t, harness.Manager)
	d.Allow(t, d.Namespace, harness.User(jane), harness.Rule("firebreak.dev", []string{"decisions"}, []string{"create", "delete"}),
		harness.Rule("firebreak.dev", []string{"securityevents"}, []string{"dismiss"}), harness.Rule("firebreak.dev", []string{"incidents"}, []string{"acknowledge"}),
		harness.Rule("firebreak.dev", []string{"responseplans"}, []string{"stop-automation"}))
	event := func(name string, change func(*v1alpha1.SecurityEvent)) client.Object {
		object := harness.MakeEvent(d.Namespace, name, harness.Receiver)
		done(t, d.As(t, harness.Receiver).Create(t.Context(), object))
		done(t, patchStatus(t, manager, object, change))
		return object
	}
	decision := func(name string, kind v1alpha1.SubjectKind, kindOf v1alpha1.DecisionType, answered bool) client.Object {
		subject := v1alpha1.DecisionSubject{Kind: kind, Name: "subject"}
		if kind == v1alpha1.SubjectResponsePlan {
			subject.Name = v1alpha1.ResponsePlanName
		}
		object := &v1alpha1.Decision{
			ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: name},
			Spec:       v1alpha1.DecisionSpec{Subject: subject, Type: kindOf, By: jane, Reason: "a test"},
		}
		done(t, d.As(t, jane).Create(t.Context(), object))
		if answered {
			done(t, patchStatus(t, manager, object, func(one *v1alpha1.Decision) {
				one.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: "True", Reason: "Accepted", LastTransitionTime: metav1.Now()}}
			}))
		}
		return object
	}
	incident := func(name string, phase v1alpha1.Phase) client.Object {
		object := harness.MakeIncident(d.Namespace, name)
		done(t, manager.Create(t.Context(), object))
		done(t, patchStatus(t, manager, object, func(i *v1alpha1.Incident) { i.Status.Phase = phase }))
		return object
	}
	piece := func(name string, change func(*v1alpha1.Evidence)) client.Object {
		object := harness.MakeEvidence(d.Namespace, name, "system:serviceaccount:"+d.Namespace+":responder")
		change(object)
		status := object.Status
		done(t, manager.Create(t.Context(), object))
		done(t, patchStatus(t, manager, object, func(e *v1alpha1.Evidence) { e.Status = status }))
		return object
	}
	kept := func(e *v1alpha1.Evidence) { e.Status.Location = "domain/" + e.Spec.Digest[len("sha256:"):] }
	journal := func(e *v1alpha1.Evidence) {
		kept(e)
		e.Spec.Type, e.Spec.IncidentRef = v1alpha1.EvidenceRetentionJournal, v1alpha1.IncidentReference{}
	}
	evidence := harness.MakeEvidence(d.Namespace, "evidence", jane)
	d.Allow(t, d.Namespace, harness.User(jane), harness.Rule("firebreak.dev", []string{"evidence"}, []string{"create"}))
	done(t, d.As(t, jane).Create(t.Context(), evidence))
	answered := decision("answered", v1alpha1.SubjectSecurityEvent, v1alpha1.DecisionDismiss, true)
	for name, test := range map[string]struct {
		object  client.Object
		refusal string
	}{
		"a dismissed event":            {event("dismissed", assessed(v1alpha1.OutcomeDismissed, "")), ""},
		"a deferred event":             {event("deferred", assessed(v1alpha1.OutcomeDeferred, "")), "must be kept"},
		"an event of an incident":      {event("joined", assessed(v1alpha1.OutcomeJoined, "open")), ""},
		"an event of none any more":    {event("nowhere", assessed(v1alpha1.OutcomeJoined, "")), "must be kept"},
		"an event nobody assessed":     {event("new", func(*v1alpha1.SecurityEvent) {}), "must be kept"},
		"an unanswered Decision":       {decision("waits", v1alpha1.SubjectSecurityEvent, v1alpha1.DecisionDismiss, false), "is a record and must be kept"},
		"a Decision about an incident": {decision("about-incident", v1alpha1.SubjectIncident, v1alpha1.DecisionAcknowledge, true), ""},
		"an unanswered one about it":   {decision("incident-waits", v1alpha1.SubjectIncident, v1alpha1.DecisionAcknowledge, false), "is a record and must be kept"},
		"a Decision about the plan":    {decision("stop", v1alpha1.SubjectResponsePlan, v1alpha1.DecisionStopAutomation, true), "is a record and must be kept"},
		"a closed incident":            {incident("closed", v1alpha1.PhaseClosed), ""},
		"an open incident":             {incident("open", v1alpha1.PhaseReview), "is open and must be closed first"},
		"an incident of no phase yet":  {incident("new", ""), "is open and must be closed first"},
		"a person's evidence":          {evidence, "must be preserved"},
		"evidence that it keeps":       {piece("kept", kept), ""},
		"evidence without bytes":       {piece("lost", func(*v1alpha1.Evidence) {}), "must be preserved"},
		"a retention journal":          {piece("retention-1", journal), "must be preserved"},
	} {
		t.Run(name, func(t *testing.T) {
			err := manager.Delete(t.Context(), test.object, client.DryRunAll)
			if test.refusal != "" {
				refused(t, err, test.refusal)
				return
			}
			done(t, err)
		})
	}
	t.Run("an answered Decision about an event", func(t *testing.T) {
		refused(t, d.As(t, jane).Delete(t.Context(), answered), "is a record and must be kept")
		done(t, manager.Delete(t.Context(), answered))
	})
}

// TestRetentionByTheManagerThatShips has the manager itself, with no more than its rights and
// held by admission, delete a closed incident with all its parts and its evidence.
func TestRetentionByTheManagerThatShips(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	manager := d.As(t, harness.Manager)
	d.Allow(t, d.Namespace, harness.User(jane), harness.Rule("firebreak.dev", []string{"decisions"}, []string{"create"}),
		harness.Rule("firebreak.dev", []string{"incidents"}, []string{"note"}))
	namespace := &corev1.Namespace{}
	done(t, d.Client.Get(t.Context(), client.ObjectKey{Name: d.Namespace}, namespace))
	long := metav1.NewTime(time.Now().Add(-50 * time.Hour).Truncate(time.Second))
	var gone, kept []client.Object
	for name, phase := range map[string]v1alpha1.Phase{"over": v1alpha1.PhaseClosed, "open": v1alpha1.PhaseReview} {
		incident := harness.MakeIncident(d.Namespace, name)
		event := harness.MakeEvent(d.Namespace, "sev-"+name, harness.Receiver)
		note := harness.MakeDecision(d.Namespace, name, jane, v1alpha1.DecisionNote)
		piece := harness.MakeEvidence(d.Namespace, "log-"+name, "system:serviceaccount:"+d.Namespace+":responder", func(e *v1alpha1.Evidence) {
			e.Spec.IncidentRef.Name, e.Spec.CollectedTime = name, long
		})
		done(t, manager.Create(t.Context(), incident))
		done(t, d.As(t, harness.Receiver).Create(t.Context(), event))
		done(t, d.As(t, jane).Create(t.Context(), note))
		done(t, manager.Create(t.Context(), piece))
		done(t, patchStatus(t, manager, incident, func(i *v1alpha1.Incident) {
			i.Status.Phase, i.Status.Severity, i.Status.Times.ClosedTime = phase, v1alpha1.SeverityHigh, &long
		}))
		done(t, patchStatus(t, manager, event, func(e *v1alpha1.SecurityEvent) {
			assessed(v1alpha1.OutcomeJoined, name)(e)
			e.Status.Occurrences = 1
		}))
		done(t, patchStatus(t, manager, note, func(one *v1alpha1.Decision) {
			one.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: "True", Reason: "Accepted", LastTransitionTime: long}}
		}))
		done(t, patchStatus(t, manager, piece, func(e *v1alpha1.Evidence) {
			e.Status.Location = string(namespace.UID) + "/" + strings.TrimPrefix(e.Spec.Digest, "sha256:")
		}))
		objects := []client.Object{incident, event, note, piece}
		if phase == v1alpha1.PhaseClosed {
			gone = objects
		} else {
			kept = objects
		}
	}
	day := &metav1.Duration{Duration: 24 * time.Hour}
	d.ServiceAccount(t, "reader")
	done(t, d.Client.Create(t.Context(), harness.MakePlan(d.Namespace, "reader", func(p *v1alpha1.ResponsePlan) {
		p.Spec.Retention = v1alpha1.PlanRetention{ClosedIncidents: day, Evidence: day}
	})))
	d.StartManager(t)
	for _, object := range gone {
		harness.Eventually(t, harness.Patience, object.GetName()+" to go", func(ctx context.Context) error {
			err := d.Client.Get(ctx, client.ObjectKeyFromObject(object), object)
			if err == nil {
				return errors.New("it is there")
			}
			return client.IgnoreNotFound(err)
		})
	}
	for _, object := range kept {
		done(t, d.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object))
	}
	journal := &v1alpha1.Evidence{}
	done(t, d.Client.Get(t.Context(), client.ObjectKey{Namespace: d.Namespace, Name: "retention-1"}, journal))
	if journal.Spec.Type != v1alpha1.EvidenceRetentionJournal || journal.Spec.Journal == nil || journal.Spec.Journal.LastSequence != int64(len(gone)) {
		t.Errorf("the journal is %+v: it must be about the %d objects that went", journal.Spec, len(gone))
	}
}
