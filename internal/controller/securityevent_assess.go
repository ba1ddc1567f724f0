package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

const (
	// maxEarlier is how many earlier assessments are kept, see classify.Earlier.
	maxEarlier = 16
	// maxAssessmentMessage is how much of a message an assessment holds.
	maxAssessmentMessage = 1024
)

// assessOnce assesses an event, and says how long what was assessed is to wait before it is
// written: the incident that it opens goes first.
func (r *SecurityEventReconciler) assessOnce(ctx context.Context, event *v1alpha1.SecurityEvent) (*classify.Assessment, time.Duration, error) {
	first := event.Status.Assessment.Outcome == ""
	if opened, wait, ok := r.opened.get(event, r.Clock.Now()); ok && first {
		if wait == 0 {
			r.apply(event, opened.record, opened.incident)
		}
		return opened.assessed, wait, nil
	}
	assessed, err := r.assess(ctx, event)
	if err != nil || assessed == nil || !first || event.Status.Assessment.Outcome != v1alpha1.OutcomePromoted {
		return assessed, 0, err
	}
	r.opened.note(event, assessed, r.Clock.Now())
	return assessed, tellAfter, nil
}

// assess decides about an event that nobody has decided about, or that needs another
// incident than it has, and does what was decided but for the event's own status, which
// the caller writes. The result is nil when nothing new was decided.
func (r *SecurityEventReconciler) assess(ctx context.Context, event *v1alpha1.SecurityEvent) (*classify.Assessment, error) {
	last, again, missed := &event.Status.Assessment, "", false
	if !undecided(event) && !seenMoreOften(event) {
		var err error
		if again, missed, err = r.outlived(ctx, event); err != nil || again == "" {
			return nil, err
		}
	}
	question, current, err := r.ask(ctx, event)
	if err != nil {
		return nil, err
	}
	result, err := r.classify(ctx, question)
	if err != nil {
		return nil, err
	}
	if opened, err := r.openedBefore(ctx, event, &result); err != nil || opened {
		return &result, err
	}
	if wasRefused(last, &result) || stillTooFew(last, &result) {
		return nil, nil
	}
	if missed {
		leaveOut(last, &result)
	}
	if staysLeftOut(last, &result) {
		return nil, nil
	}
	if tooFew(&result) && again != "" {
		return nil, nil // the threshold was raised since
	}
	if !result.Until.IsZero() {
		r.await(event, &result.Record)
		return &result, nil
	}
	result.Record.Message = classify.Line(result.Record.Message+again, maxAssessmentMessage)
	record, incident := result.Record, ""
	if result.Incident != nil {
		record, incident, err = r.promote(ctx, event, result, current)
		if err != nil {
			return nil, err
		}
	}
	if again == "" && sameDecision(last, &record) {
		r.say(event, last)
		return nil, nil
	}
	r.apply(event, record, incident)
	return &result, nil
}

// ask gives what an event is assessed by, and whether it is as it was read, when that is
// asked beside: of an event that may open an incident.
func (r *SecurityEventReconciler) ask(ctx context.Context, event *v1alpha1.SecurityEvent) (question classify.Input, current func() error, err error) {
	policies, err := r.policiesOf(ctx, event.Namespace)
	if err != nil {
		return question, nil, err
	}
	full, err := r.whole(ctx, event, event)
	if err != nil {
		return question, nil, err
	}
	question = classify.Input{Event: full, Policies: policies, By: r.ManagerUser, Now: r.Clock.Now()}
	if knownWorkload(event) == "" && len(event.Spec.Resources) > 0 && opensAny(ctx, question) {
		current = r.promoter.ask(ctx, event)
	}
	question.Workload, err = r.promoter.workloadOf(ctx, event)
	if err == nil && question.Workload == "" {
		question.Workload, err = r.workloadOf(ctx, event)
	}
	question.Now = r.Clock.Now()
	return question, current, err
}

// opensAny says whether the policies seem to open an incident for an event whose workload
// is not known yet: its resource stands in for it, as it does where there is none. Asking the
// rules twice takes less than a request.
func opensAny(ctx context.Context, question classify.Input) bool {
	question.Workload = question.Event.Spec.Resources[0].Name
	guess, err := classify.Assess(ctx, question)
	return err == nil && guess.Incident != nil
}

// confirmJoin looks again once a join is written: an incident that has come to its
// review in between has not taken up the event, and another must be opened.
func (r *SecurityEventReconciler) confirmJoin(ctx context.Context, event *v1alpha1.SecurityEvent, assessed *classify.Assessment) error {
	if assessed == nil || event.Status.Assessment.Outcome != v1alpha1.OutcomeJoined {
		return nil
	}
	if taken, err := r.takenUp(ctx, event); err != nil || taken {
		return err
	}
	record, name, err := r.promote(ctx, event, *assessed, nil)
	if err != nil || name == event.Status.IncidentRef.Name {
		return err
	}
	before := event.DeepCopy()
	r.apply(event, record, name)
	return r.write(ctx, before, event)
}

// takenUp says whether the incident of an event has come to its review since, but knows
// what the event is about.
func (r *SecurityEventReconciler) takenUp(ctx context.Context, event *v1alpha1.SecurityEvent) (bool, error) {
	key, incident := client.ObjectKey{Namespace: event.Namespace, Name: event.Status.IncidentRef.Name}, &v1alpha1.Incident{}
	if err := r.Client.Get(ctx, key, incident); err != nil || !reviewed(incident) || len(event.Spec.Resources) == 0 {
		return false, client.IgnoreNotFound(err)
	}
	if err := r.APIReader.Get(ctx, key, incident); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return reviewed(incident) && !leftOut(incident, event), nil
}

// promote opens or joins the incident of an assessment; current is promotion's. An incident
// that the API server will never take defers the event to a person.
func (r *SecurityEventReconciler) promote(ctx context.Context, event *v1alpha1.SecurityEvent, result classify.Assessment, current func() error) (v1alpha1.Assessment, string, error) {
	record := result.Record
	name, joined, err := r.promoter.openOrJoin(ctx, promotion{event, result.Incident, result.Correlation, current})
	switch {
	case neverTaken(err):
		record.Outcome, record.Reason = v1alpha1.OutcomeDeferred, v1alpha1.ReasonIncidentRefused
		record.Message = classify.Line(fmt.Sprintf("the incident of rule %q of policy %q was refused: %v; a person must decide",
			record.Rule, record.Policy.Name, err), maxAssessmentMessage)
		return record, "", nil
	case err != nil:
		return record, "", err
	case joined:
		record.Outcome = v1alpha1.OutcomeJoined
		record.Message += "; incident " + name + " is open for the same key"
	}
	return record, name, nil
}

// neverTaken says whether an error says that the API server will never take an incident.
func neverTaken(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err)
}

// undecided says whether an event is for the policies to decide: nobody has, or all
// they could do was to defer it, and no person has decided since.
func undecided(event *v1alpha1.SecurityEvent) bool {
	last := &event.Status.Assessment
	return last.Outcome == "" ||
		last.Outcome == v1alpha1.OutcomeDeferred && last.DecisionRef.Name == "" &&
			(last.Reason == v1alpha1.ReasonNoRuleMatched || last.Reason == v1alpha1.ReasonRuleError || last.Reason == v1alpha1.ReasonIncidentRefused ||
				last.Reason == v1alpha1.ReasonLeftOut)
}

// leaveOut defers an event that its incident has not taken up, and for which the policies
// open none, although a person has judged that it belongs to one, or it has reached the
// threshold that its rule had then. They do not dismiss it, and it does not stay with an
// incident that does not know it.
func leaveOut(last *v1alpha1.Assessment, result *classify.Assessment) {
	if result.Incident != nil || last.DecisionRef.Name == "" && !tooFew(result) {
		return
	}
	record := &result.Record
	record.Outcome, record.Reason = v1alpha1.OutcomeDeferred, v1alpha1.ReasonLeftOut
	record.Message += "; a person must decide: promote or dismiss it"
	result.Until = time.Time{}
}

// staysLeftOut says that the policies still open no incident for an event that was left out.
func staysLeftOut(last *v1alpha1.Assessment, result *classify.Assessment) bool {
	return last.Outcome == v1alpha1.OutcomeDeferred && last.Reason == v1alpha1.ReasonLeftOut && result.Incident == nil
}

// wasRefused says whether the API server has refused the incident of an assessment
// already: the same text of the same rule makes the same one.
func wasRefused(last *v1alpha1.Assessment, result *classify.Assessment) bool {
	return result.Incident != nil && last.Outcome == v1alpha1.OutcomeDeferred && last.Reason == v1alpha1.ReasonIncidentRefused &&
		last.Policy == result.Record.Policy && last.Rule == result.Record.Rule
}

// sameDecision says whether deciding again has changed nothing. That the last one says why
// it was needed as well is no change: it is not said twice.
func sameDecision(last, now *v1alpha1.Assessment) bool {
	return last.Outcome == now.Outcome && last.Reason == now.Reason && last.Policy == now.Policy && last.Rule == now.Rule &&
		(last.Message == now.Message || strings.HasPrefix(last.Message, now.Message+"; "))
}

// apply puts an assessment in force; the one before is kept.
func (r *SecurityEventReconciler) apply(event *v1alpha1.SecurityEvent, record v1alpha1.Assessment, incident string) {
	status := &event.Status
	if status.Assessment.Outcome != "" {
		status.EarlierAssessments = classify.Earlier(status, maxEarlier)
	}
	status.Assessment = record
	status.IncidentRef = v1alpha1.IncidentReference{Name: incident}
	status.Occurrences = occurrences(status.Counters)
	r.say(event, &record)
	if !isDeferred(event) {
		r.late.forget(client.ObjectKeyFromObject(event))
	}
}

// await shows on an event that it is below the threshold of its rule, and waits for more of them.
// Nothing is in force then: one that waited for a person does not any more.
func (r *SecurityEventReconciler) await(event *v1alpha1.SecurityEvent, record *v1alpha1.Assessment) {
	if status := &event.Status; status.Assessment.Outcome != "" {
		status.EarlierAssessments, status.Assessment = classify.Earlier(status, maxEarlier), v1alpha1.Assessment{}
	}
	r.say(event, record)
}

// say shows on an event what was decided.
func (r *SecurityEventReconciler) say(event *v1alpha1.SecurityEvent, record *v1alpha1.Assessment) {
	condition := metav1.Condition{
		Type:               v1alpha1.ConditionAssessed,
		Status:             metav1.ConditionTrue,
		Reason:             record.Reason,
		Message:            record.Message,
		ObservedGeneration: event.Generation,
		LastTransitionTime: record.Time,
	}
	if record.Outcome == v1alpha1.OutcomeDeferred || record.Outcome == "" {
		condition.Status = metav1.ConditionFalse
	}
	meta.SetStatusCondition(&event.Status.Conditions, condition)
}

// policiesOf gives what is in force in a namespace.
func (r *SecurityEventReconciler) policiesOf(ctx context.Context, namespace string) ([]*classify.Policy, error) {
	list := &v1alpha1.ClassificationPolicyList{}
	if err := r.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list the classification policies of namespace %q: %w", namespace, err)
	}
	policies := make([]*classify.Policy, 0, len(list.Items))
	for i := range list.Items {
		// The ClassificationPolicyReconciler says on the policy why it does not compile.
		counts, err := r.Policies.inForce(ctx, &list.Items[i])
		if err != nil {
			return nil, err
		}
		policies = append(policies, counts.compiled)
	}
	return policies, nil
}
