package controller

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// guardRetry is when to ask again whether Decisions can be trusted.
const guardRetry = 2 * time.Second

// eventAnswer is what becomes of a Decision.
type eventAnswer struct {
	accepted bool
	reason   string
	message  string
}

func refusedAnswer(reason, format string, arguments ...any) eventAnswer {
	return eventAnswer{reason: reason, message: fmt.Sprintf(format, arguments...)}
}

func acceptedAnswer(format string, arguments ...any) eventAnswer {
	return eventAnswer{accepted: true, reason: v1alpha1.ReasonAccepted, message: fmt.Sprintf(format, arguments...)}
}

// answerDecisions does what people have decided about an event, in the order in which
// they did. While nobody can tell who created them, they wait.
func (r *SecurityEventReconciler) answerDecisions(ctx context.Context, event *v1alpha1.SecurityEvent) (ctrl.Result, error) {
	decisions, err := r.unanswered(ctx, client.ObjectKeyFromObject(event))
	if err != nil || len(decisions) == 0 {
		return ctrl.Result{}, err
	}
	verdict := r.Guard.Trust(ctx, event.Namespace, decisions)
	if verdict.Trust == TrustUnknown {
		log.FromContext(ctx).Info("Decisions wait until the admission policies are proven to stand", "cause", verdict.Why)
		return ctrl.Result{RequeueAfter: guardRetry}, nil
	}
	for i := range decisions {
		decision := &decisions[i]
		given, err := r.judge(ctx, event, decision, verdict.Refused(decision))
		if err != nil {
			return ctrl.Result{}, fmt.Errorf("decision %q: %w", decision.Name, err)
		}
		if err := r.answer(ctx, decision, given); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, nil
}

// answerWithoutEvent refuses the Decisions about an event that does not exist. The
// cache may not have seen the event yet, so the API server is asked.
func (r *SecurityEventReconciler) answerWithoutEvent(ctx context.Context, key types.NamespacedName) (ctrl.Result, error) {
	decisions, err := r.unanswered(ctx, key)
	if err != nil || len(decisions) == 0 {
		return ctrl.Result{}, err
	}
	domain, err := isDomain(ctx, r.Client, key.Namespace)
	if err != nil || !domain {
		return ctrl.Result{}, err
	}
	err = r.APIReader.Get(ctx, key, &v1alpha1.SecurityEvent{})
	if err == nil {
		return ctrl.Result{RequeueAfter: conflictRetry}, nil
	}
	if !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	for i := range decisions {
		refused := refusedAnswer(v1alpha1.ReasonSubjectNotFound, "there is no SecurityEvent %q in namespace %q", key.Name, key.Namespace)
		if err := r.answer(ctx, &decisions[i], refused); err != nil {
			return requeueOnConflict(err)
		}
	}
	return ctrl.Result{}, nil
}

func (r *SecurityEventReconciler) unanswered(ctx context.Context, event types.NamespacedName) ([]v1alpha1.Decision, error) {
	list := &v1alpha1.DecisionList{}
	err := r.Client.List(ctx, list, client.InNamespace(event.Namespace), client.MatchingFields{indexUnanswered: event.Name})
	if err != nil {
		return nil, fmt.Errorf("list the Decisions about event %q: %w", event.Name, err)
	}
	lifecycle.SortDecisions(list.Items)
	return list.Items, nil
}

// judge does what a Decision says, unless it cannot be trusted. What has been done already was
// trusted then: only its answer was lost.
func (r *SecurityEventReconciler) judge(ctx context.Context, event *v1alpha1.SecurityEvent, decision *v1alpha1.Decision, distrust string) (eventAnswer, error) {
	for _, done := range append(event.Status.EarlierAssessments, event.Status.Assessment) {
		if done.DecisionRef.Name == decision.Name {
			return acceptedNow(event, decision), nil
		}
	}
	if distrust != "" {
		return refusedAnswer(v1alpha1.ReasonNotGuarded, "%s", distrust), nil
	}
	return r.decide(ctx, event, decision)
}

// decide does what a Decision says, as far as it may.
func (r *SecurityEventReconciler) decide(ctx context.Context, event *v1alpha1.SecurityEvent, decision *v1alpha1.Decision) (eventAnswer, error) {
	if decision.Spec.Role != "" {
		plan, err := planOf(ctx, r.Client, event.Namespace)
		if err != nil {
			return eventAnswer{}, err
		}
		reason, message, ok := lifecycle.HoldsRole(plan, decision.Spec.Role, decision.Spec.By, decision.Spec.Groups)
		if !ok {
			return refusedAnswer(reason, "%s", message), nil
		}
	}
	outcome := event.Status.Assessment.Outcome
	belongs := outcome == v1alpha1.OutcomePromoted || outcome == v1alpha1.OutcomeJoined
	switch decision.Spec.Type {
	case v1alpha1.DecisionPromote:
		if belongs {
			return refusedAnswer(v1alpha1.ReasonAlreadyDecided, "the event belongs to incident %q already", event.Status.IncidentRef.Name), nil
		}
		return r.promoteByPerson(ctx, event, decision)
	case v1alpha1.DecisionJoin:
		if belongs {
			return refusedAnswer(v1alpha1.ReasonAlreadyDecided,
				"the event belongs to incident %q: detach it there first, with 'DetachEvent'", event.Status.IncidentRef.Name), nil
		}
		return r.joinByPerson(ctx, event, decision)
	case v1alpha1.DecisionDismiss:
		if belongs {
			return refusedAnswer(v1alpha1.ReasonAlreadyDecided,
				"the event belongs to incident %q: close that with the resolution 'FalsePositive' instead", event.Status.IncidentRef.Name), nil
		}
		if outcome == v1alpha1.OutcomeDismissed {
			return refusedAnswer(v1alpha1.ReasonAlreadyDecided, "the event is dismissed already, by %s", event.Status.Assessment.By), nil
		}
		return r.recordPerson(ctx, event, decision, v1alpha1.OutcomeDismissed, "")
	default:
		return refusedAnswer(v1alpha1.ReasonNotAwaited, "a Decision about a SecurityEvent must be of type 'Promote', 'Join' or 'Dismiss', not %q", decision.Spec.Type), nil
	}
}

func (r *SecurityEventReconciler) promoteByPerson(ctx context.Context, event *v1alpha1.SecurityEvent, decision *v1alpha1.Decision) (eventAnswer, error) {
	incident := classify.NewIncident(event)
	incident.PlaybookRef = decision.Spec.PlaybookRef
	if decision.Spec.Severity != "" {
		incident.Severity = decision.Spec.Severity
	}
	if decision.Spec.Category != "" {
		incident.Category = decision.Spec.Category
	}
	name, _, err := r.promoter.openOrJoin(ctx, promotion{event: event, incident: incident, correlation: classify.DecisionCorrelation(decision, event)})
	if neverTaken(err) {
		return refusedAnswer(v1alpha1.ReasonIncidentRefused, "%s", classify.Line(err.Error(), maxAssessmentMessage)), nil
	}
	if err != nil {
		return eventAnswer{}, err
	}
	return r.recordPerson(ctx, event, decision, v1alpha1.OutcomePromoted, name)
}

// joinByPerson makes an event part of the incident that a person names. Should that come to
// its review in between, the event is for the policies again.
func (r *SecurityEventReconciler) joinByPerson(ctx context.Context, event *v1alpha1.SecurityEvent, decision *v1alpha1.Decision) (eventAnswer, error) {
	incident := &v1alpha1.Incident{}
	key := types.NamespacedName{Namespace: event.Namespace, Name: decision.Spec.IncidentRef.Name}
	err := r.APIReader.Get(ctx, key, incident)
	switch {
	case apierrors.IsNotFound(err):
		return refusedAnswer(v1alpha1.ReasonNoSuchIncident, "there is no Incident %q in namespace %q", key.Name, key.Namespace), nil
	case err != nil:
		return eventAnswer{}, fmt.Errorf("read incident %q: %w", key.Name, err)
	case incident.Spec.Mode.OrLive() != event.Spec.Mode.OrLive():
		return refusedAnswer(v1alpha1.ReasonOtherMode,
			"the event is %s and incident %q is %s: the incident must be of the event's own mode; promote the event instead", inWords(event.Spec.Mode), key.Name, inWords(incident.Spec.Mode)), nil
	case movesOn(incident):
		return refusedAnswer(v1alpha1.ReasonDuplicate, "incident %q is a duplicate: join the event to %q", key.Name, incident.Status.DuplicateOf.Name), nil
	case over(incident):
		return refusedAnswer(v1alpha1.ReasonClosed,
			"incident %q takes up nothing more: it must be before its review, but is in %s; promote the event instead", key.Name, incident.Status.Phase), nil
	}
	return r.recordPerson(ctx, event, decision, v1alpha1.OutcomeJoined, key.Name)
}

// recordPerson writes a person's assessment to the event.
func (r *SecurityEventReconciler) recordPerson(ctx context.Context, event *v1alpha1.SecurityEvent, decision *v1alpha1.Decision,
	outcome v1alpha1.AssessmentOutcome, incident string) (eventAnswer, error) {
	before := event.DeepCopy()
	r.apply(event, v1alpha1.Assessment{
		Outcome:     outcome,
		Reason:      v1alpha1.ReasonDecidedByPerson,
		Message:     classify.Line(decision.Spec.Reason, maxAssessmentMessage),
		Workload:    knownWorkload(before),
		By:          decision.Spec.By,
		DecisionRef: v1alpha1.DecisionReference{Name: decision.Name},
		Time:        metav1.NewTime(r.Clock.Now()),
	}, incident)
	if err := r.write(ctx, before, event); err != nil {
		return eventAnswer{}, err
	}
	return acceptedNow(event, decision), nil
}

func acceptedNow(event *v1alpha1.SecurityEvent, decision *v1alpha1.Decision) eventAnswer {
	switch decision.Spec.Type {
	case v1alpha1.DecisionDismiss:
		return acceptedAnswer("the event is dismissed")
	case v1alpha1.DecisionJoin:
		return acceptedAnswer("the event belongs to incident %q", decision.Spec.IncidentRef.Name)
	}
	return acceptedAnswer("the event has opened incident %q", event.Status.IncidentRef.Name)
}

// answer writes on a Decision whether it was accepted.
func (r *SecurityEventReconciler) answer(ctx context.Context, decision *v1alpha1.Decision, given eventAnswer) error {
	condition := metav1.Condition{
		Status: metav1.ConditionFalse, Reason: given.reason, Message: given.message, LastTransitionTime: metav1.NewTime(r.Clock.Now()),
	}
	if given.accepted {
		condition.Status = metav1.ConditionTrue
	}
	return answerDecision(ctx, r.Client, decision, condition)
}
