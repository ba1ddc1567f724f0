package controller

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
	"github.com/firebreak-dev/firebreak/internal/lookup"
)

const (
	// reconcileTimeout ends a reconcile that hangs; it is tried again.
	reconcileTimeout = 30 * time.Second
	// conflictRetry is when to look again after somebody else has written the object:
	// by then the cache has caught up.
	conflictRetry = 50 * time.Millisecond
	// minRetry and maxRetry are how soon what has failed is tried again.
	minRetry = 5 * time.Millisecond
	maxRetry = time.Minute
	// defaultEventWorkers is how many events are assessed at the same time.
	defaultEventWorkers = 16
)

// Identities gives clients that act as the ServiceAccounts of a domain.
type Identities interface {
	// Client gives a client that acts as a ServiceAccount, by impersonation.
	Client(ctx context.Context, namespace, serviceAccount string) (client.Client, error)
}

// SecurityEventReconciler assesses events, opens the incidents of those that matter,
// counts repeats, and does what people decide about events.
type SecurityEventReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// APIReader reads without a cache.
	APIReader client.Reader
	// Identities act as the plan's ServiceAccount to find out workloads.
	Identities Identities
	// Guard says whether Decisions can be trusted.
	Guard Guard
	// Policies are the compiled policies, shared with the ClassificationPolicyReconciler.
	Policies *PolicyStore
	// Clock gives the time.
	Clock clock.PassiveClock
	// ManagerUser is who assesses. Empty means the ServiceAccount of the manager that ships.
	ManagerUser string
	// MaxConcurrentReconciles is how many events are assessed at the same time. Zero means 16.
	MaxConcurrentReconciles int

	promoter    *promoter
	counted     writeGate
	lookups     failingLookups
	expressions Expressions
	late        countedEvents
	unseen      countedEvents
	opened      openedIncidents
}

var _ reconcile.Reconciler = (*SecurityEventReconciler)(nil)

// SetupWithManager adds the reconciler to a manager, and the indexes that only it needs;
// those of AddIndexes must be there.
func (r *SecurityEventReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	if err := indexSecurityEvents(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if r.ManagerUser == "" {
		r.ManagerUser = "system:serviceaccount:" + v1alpha1.SystemNamespace + ":" + v1alpha1.ManagerServiceAccount
	}
	workers := r.MaxConcurrentReconciles
	if workers <= 0 {
		workers = defaultEventWorkers
	}
	r.APIReader = lookup.Reader(r.APIReader)
	r.promoter = newPromoter(r.Client, r.APIReader, r.Clock, workers)
	return ctrl.NewControllerManagedBy(mgr).
		Named("securityevent").
		For(&v1alpha1.SecurityEvent{}, builder.WithPredicates(eventNeedsWork)).
		Watches(&v1alpha1.Decision{}, handler.EnqueueRequestsFromMapFunc(eventOfDecision)).
		Watches(&v1alpha1.ClassificationPolicy{}, handler.EnqueueRequestsFromMapFunc(r.undecidedEventsOfPolicy),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.undecidedEventsOfNamespace),
			builder.WithPredicates(domainChanges)).
		Watches(&v1alpha1.Incident{}, handler.EnqueueRequestsFromMapFunc(r.eventsOfIncident), builder.WithPredicates(concernsEvents)).
		Watches(&v1alpha1.ResponsePlan{}, handler.EnqueueRequestsFromMapFunc(r.deferredEventsOfPlan),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers, ReconciliationTimeout: reconcileTimeout,
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minRetry, maxRetry),
		}).
		Complete(r)
}

// Reconcile assesses one event, keeps its count, and answers the Decisions about it.
func (r *SecurityEventReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	event := &v1alpha1.SecurityEvent{}
	err := r.Client.Get(ctx, request.NamespacedName, event)
	if apierrors.IsNotFound(err) {
		r.late.forget(request.NamespacedName)
		r.unseen.forget(request.NamespacedName)
		r.opened.forget(request.NamespacedName)
		return r.answerWithoutEvent(ctx, request.NamespacedName)
	}
	if err != nil || event.DeletionTimestamp != nil {
		return ctrl.Result{}, err
	}
	domain, err := isDomain(ctx, r.Client, event.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !domain {
		return requeueOnConflict(r.refuse(ctx, event))
	}
	r.unseen.forget(request.NamespacedName)
	result, err := r.handle(ctx, event)
	var refused *incidentRefusedError
	if errors.As(err, &refused) {
		if err := r.sayRefused(ctx, event, refused); err != nil {
			return requeueOnConflict(err)
		}
		return ctrl.Result{}, err
	}
	if err != nil {
		return requeueOnConflict(err)
	}
	return result, nil
}

// sayRefused shows on an event that its incident cannot be opened for the time being.
func (r *SecurityEventReconciler) sayRefused(ctx context.Context, event *v1alpha1.SecurityEvent, refused *incidentRefusedError) error {
	before := event.DeepCopy()
	changed := meta.SetStatusCondition(&event.Status.Conditions, metav1.Condition{
		Type:               v1alpha1.ConditionAssessed,
		Status:             metav1.ConditionFalse,
		Reason:             v1alpha1.ReasonIncidentRefused,
		Message:            classify.Line(refused.Error(), maxAssessmentMessage) + fmt.Sprintf("; it is tried again within %s", maxRetry),
		ObservedGeneration: event.Generation,
		LastTransitionTime: metav1.NewTime(r.Clock.Now()),
	})
	if !changed {
		return nil
	}
	return r.write(ctx, before, event)
}

func (r *SecurityEventReconciler) handle(ctx context.Context, event *v1alpha1.SecurityEvent) (ctrl.Result, error) {
	before := event.DeepCopy()
	assessed, untold, err := r.assessOnce(ctx, event)
	if err != nil || untold > 0 {
		return ctrl.Result{RequeueAfter: untold}, err
	}
	overdue, err := r.age(ctx, before, event)
	if err != nil {
		return ctrl.Result{}, err
	}
	wait, err := r.writeAssessed(ctx, before, event)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.opened.forget(client.ObjectKeyFromObject(event))
	if err := r.confirmJoin(ctx, event, assessed); err != nil {
		return ctrl.Result{}, err
	}
	result, err := r.answerDecisions(ctx, event)
	if err != nil {
		return ctrl.Result{}, err
	}
	result.RequeueAfter = sooner(result.RequeueAfter, wait)
	if assessed != nil && !assessed.Until.IsZero() && undecided(event) {
		// It is below a threshold, and no person has decided since.
		result.RequeueAfter = sooner(result.RequeueAfter, max(assessed.Until.Sub(r.Clock.Now()), time.Millisecond))
	}
	result.RequeueAfter = sooner(result.RequeueAfter, overdue)
	return result, nil
}

// sooner is the shorter of two waits; what is not positive is for ever.
func sooner(a, b time.Duration) time.Duration {
	if a <= 0 || b > 0 && b < a {
		return max(b, 0)
	}
	return a
}

// writeAssessed writes what was assessed and counted. A count alone is written at most
// once a second; then it says how long to wait.
func (r *SecurityEventReconciler) writeAssessed(ctx context.Context, before, event *v1alpha1.SecurityEvent) (time.Duration, error) {
	now := r.Clock.Now()
	decided := !equality.Semantic.DeepEqual(before.Status, event.Status)
	event.Status.Occurrences = occurrences(event.Status.Counters)
	if opened, _, ok := r.opened.get(event, now); ok {
		event.Status.Occurrences = opened.occurrences // the next look judges by the incident whose the others are
	}
	counted := before.Status.Occurrences != event.Status.Occurrences
	if !decided && !counted {
		return 0, nil
	}
	if !decided {
		if wait := r.counted.wait(event.UID, now); wait > 0 {
			event.Status.Occurrences = before.Status.Occurrences
			return wait, nil
		}
	}
	if err := r.write(ctx, before, event); err != nil {
		return 0, err
	}
	r.counted.wrote(event.UID, now)
	return 0, nil
}

func (r *SecurityEventReconciler) write(ctx context.Context, before, event *v1alpha1.SecurityEvent) error {
	event.Status.ObservedGeneration = event.Generation
	event.Status.Advice = classify.Advice(event)
	err := r.Client.Status().Patch(ctx, event, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		return fmt.Errorf("write status of event %q: %w", event.Name, err)
	}
	return nil
}

// refuse says on an event that nobody assesses it: its namespace is not a domain.
func (r *SecurityEventReconciler) refuse(ctx context.Context, event *v1alpha1.SecurityEvent) error {
	before := event.DeepCopy()
	changed := meta.SetStatusCondition(&event.Status.Conditions, metav1.Condition{
		Type:   v1alpha1.ConditionAssessed,
		Status: metav1.ConditionFalse,
		Reason: v1alpha1.ReasonNotADomain,
		Message: fmt.Sprintf("namespace %q must have the label '%s' to be a response domain; until then nobody assesses this event",
			event.Namespace, v1alpha1.LabelDomain),
		ObservedGeneration: event.Generation,
		LastTransitionTime: metav1.NewTime(r.Clock.Now()),
	})
	if event.Status.Assessment.Outcome != "" {
		return nil
	}
	if event.Spec.Mode != v1alpha1.ModeDrill {
		r.unseen.note(client.ObjectKeyFromObject(event), event.Spec.Severity)
	}
	if !changed {
		return nil
	}
	return r.write(ctx, before, event)
}

// occurrences is how often a thing was seen: once, and every repeat.
func occurrences(counters []v1alpha1.EventCounter) int64 {
	total := int64(1)
	for _, counter := range counters {
		if counter.Count > math.MaxInt64-total {
			return math.MaxInt64
		}
		total += counter.Count
	}
	return total
}

// requeueOnConflict turns an error that says that what was read is out of date into
// another look a moment later.
func requeueOnConflict(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) || errors.Is(err, errStale) {
		return ctrl.Result{RequeueAfter: conflictRetry}, nil
	}
	return ctrl.Result{}, err
}
