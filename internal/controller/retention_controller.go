package controller

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	"github.com/firebreak-dev/firebreak/internal/audit"
)

const (
	// indexDismissedHour finds the SecurityEvents that were dismissed within an hour, by its number.
	indexDismissedHour = "firebreak.dismissedHour"

	// removalBatch is how many events one journal is about, and removalRounds how many
	// journals one reconciliation makes.
	removalBatch, removalRounds = 256, 4
	// removalTimeout ends a reconciliation that hangs.
	removalTimeout = 2 * time.Minute
)

// RetentionJournals keep what was on record about objects before they are deleted.
type RetentionJournals interface {
	// SealRemovals preserves removals after the journal before.
	SealRemovals(ctx context.Context, namespace string, after *v1alpha1.JournalRange, removals []audit.Removal) (*v1alpha1.Evidence, error)
	// LastRemovals finds the last journal; nil when there is none.
	LastRemovals(ctx context.Context, namespace string) (*v1alpha1.Evidence, error)
	// ReadRemovals reads and checks what a journal holds.
	ReadRemovals(ctx context.Context, journal *v1alpha1.Evidence) ([]audit.Removal, error)
}

// RetentionReconciler deletes dismissed events whose time is over, a batch at a time: first it
// journals what was on record about them, then it deletes just what is in the journal. After
// a crash it begins by deleting what the last journal still names.
type RetentionReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Journals keep what was on record.
	Journals RetentionJournals
	// Clock tells the time.
	Clock clock.PassiveClock

	hours dismissedHours
	// heads are the ends of the domains' journals. One reconciliation runs at a time.
	heads map[string]*journalHead
}

// journalHead is the end of a domain's chain of journals.
type journalHead struct {
	last *v1alpha1.JournalRange
	// removed are the objects of the last journal: the cache may still show them.
	removed map[types.UID]bool
}

var _ reconcile.Reconciler = (*RetentionReconciler)(nil)

// Reconcile deletes what is over in one domain, and says when the next is.
func (r *RetentionReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	domain, err := isDomain(ctx, r.Client, request.Namespace)
	if err != nil || !domain {
		return ctrl.Result{}, err
	}
	plan, err := planOf(ctx, r.Client, request.Namespace)
	if err != nil || plan == nil || plan.Spec.Retention.DismissedEvents == nil {
		return ctrl.Result{}, err
	}
	keep := plan.Spec.Retention.DismissedEvents.Duration
	for range removalRounds {
		hour, some := r.hours.earliest(request.Namespace)
		if !some {
			return ctrl.Result{}, nil
		}
		if left := expiryOf(hour, keep).Sub(r.Clock.Now()); left > 0 {
			return ctrl.Result{RequeueAfter: left}, nil
		}
		wait, err := r.removeHour(ctx, request.Namespace, hour, "retention.dismissedEvents: "+keep.String())
		if err != nil {
			// What the journal names may be there yet: the next try begins with that.
			delete(r.heads, request.Namespace)
			return ctrl.Result{}, err
		}
		if wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
	}
	return ctrl.Result{RequeueAfter: time.Millisecond}, nil
}

// expiryOf is when what was dismissed within an hour is over: all of it.
func expiryOf(hour int64, keep time.Duration) time.Time {
	return time.Unix((hour+1)*int64(time.Hour/time.Second), 0).Add(keep)
}

// removeHour deletes a batch of the events that were dismissed within an hour. It says how
// long to wait when there are some that cannot go just now.
func (r *RetentionReconciler) removeHour(ctx context.Context, namespace string, hour int64, because string) (time.Duration, error) {
	head, err := r.head(ctx, namespace)
	if err != nil {
		return 0, err
	}
	list := &v1alpha1.SecurityEventList{}
	err = r.Client.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{indexDismissedHour: strconv.FormatInt(hour, 10)},
		client.Limit(removalBatch), client.UnsafeDisableDeepCopy)
	if err != nil {
		return 0, fmt.Errorf("list the dismissed events of namespace %q: %w", namespace, err)
	}
	if len(list.Items) == 0 {
		r.hours.forget(namespace, hour)
		return 0, nil
	}
	removals, pending, err := r.takeDown(ctx, list.Items, head, because)
	if err != nil {
		return 0, err
	}
	switch {
	case len(removals) > 0:
		return 0, r.remove(ctx, namespace, head, removals)
	case pending:
		return guardRetry, nil
	default:
		return conflictRetry, nil // the cache has yet to see that they are gone
	}
}

// takeDown is what is on record about events and the Decisions about them, each event before
// its Decisions. An event about which a Decision has no answer yet is left out.
func (r *RetentionReconciler) takeDown(ctx context.Context, events []v1alpha1.SecurityEvent, head *journalHead, because string) ([]audit.Removal, bool, error) {
	now := metav1.NewTime(r.Clock.Now().UTC().Truncate(time.Second))
	var removals []audit.Removal
	pending := false
	for i := range events {
		one := &events[i]
		if one.DeletionTimestamp != nil {
			pending = true // another's finalizer
			continue
		}
		if head.removed[one.UID] {
			continue
		}
		decisions, err := decisionsAbout(ctx, r.Client, one.Namespace, v1alpha1.SubjectSecurityEvent, one.Name)
		if err != nil {
			return nil, false, err
		}
		if slices.ContainsFunc(decisions, func(decision v1alpha1.Decision) bool { return unansweredAboutEvent(&decision) }) {
			pending = true
			continue
		}
		removals = append(removals, audit.RemovalOfEvent(one.DeepCopy()))
		for j := range decisions {
			removals = append(removals, audit.RemovalOfDecision(&decisions[j]))
		}
	}
	for i := range removals {
		removals[i].Time, removals[i].Because = now, because
	}
	return removals, pending, nil
}

// remove journals removals, and then makes them.
func (r *RetentionReconciler) remove(ctx context.Context, namespace string, head *journalHead, removals []audit.Removal) error {
	journal, err := r.Journals.SealRemovals(ctx, namespace, head.last, removals)
	if err != nil {
		return err
	}
	if journal.Spec.Journal.LastHash != removals[len(removals)-1].Hash {
		// It was sealed by a try that crashed. That one counts.
		if removals, err = r.Journals.ReadRemovals(ctx, journal); err != nil {
			return err
		}
	}
	return r.execute(ctx, namespace, head, journal, removals)
}

// execute deletes what a journal names, as it names it.
func (r *RetentionReconciler) execute(ctx context.Context, namespace string, head *journalHead, journal *v1alpha1.Evidence, removals []audit.Removal) error {
	head.last, head.removed = journal.Spec.Journal, map[types.UID]bool{}
	kept := false // the event whose Decisions come next has changed, and stays
	for i := range removals {
		removal := &removals[i]
		if kept && removal.Kind == "Decision" {
			continue
		}
		err := r.delete(ctx, namespace, removal)
		switch {
		case apierrors.IsConflict(err):
			kept = removal.Kind == "SecurityEvent"
		case client.IgnoreNotFound(err) != nil:
			return fmt.Errorf("delete %s %q, which the journal %q names: %w", removal.Kind, removal.Name, journal.Name, err)
		default:
			kept = false
			head.removed[removal.UID] = true
		}
	}
	return nil
}

func (r *RetentionReconciler) delete(ctx context.Context, namespace string, removal *audit.Removal) error {
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: removal.Name}}
	object.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind(removal.Kind))
	return r.Client.Delete(ctx, object, client.Preconditions{UID: &removal.UID, ResourceVersion: &removal.ResourceVersion})
}

// head gives the end of a domain's journals. The first time it deletes what the last one
// names: a manager may have been killed before it had.
func (r *RetentionReconciler) head(ctx context.Context, namespace string) (*journalHead, error) {
	if head := r.heads[namespace]; head != nil {
		return head, nil
	}
	head := &journalHead{}
	journal, err := r.Journals.LastRemovals(ctx, namespace)
	if err != nil {
		return nil, err
	}
	if journal != nil {
		removals, err := r.Journals.ReadRemovals(ctx, journal)
		if err != nil {
			return nil, err
		}
		if err := r.execute(ctx, namespace, head, journal, removals); err != nil {
			return nil, err
		}
	}
	if r.heads == nil {
		r.heads = map[string]*journalHead{}
	}
	r.heads[namespace] = head
	return head, nil
}

// SetupWithManager registers the reconciler, its index, and what it watches.
func (r *RetentionReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.SecurityEvent{}, indexDismissedHour, func(object client.Object) []string {
		if hour, ok := dismissedHour(object); ok {
			return []string{strconv.FormatInt(hour, 10)}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("index SecurityEvents: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("retention").
		For(&v1alpha1.ResponsePlan{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.SecurityEvent{}, handler.EnqueueRequestsFromMapFunc(r.noteDismissed)).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(planOfNamespace), builder.WithPredicates(becomesDomain)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 1, ReconciliationTimeout: removalTimeout,
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minRetry, maxRetry),
		}).
		Complete(r)
}

// dismissedHour is the hour in which an event was dismissed, in hours since 1970. What has
// ever belonged to an incident stays with that.
func dismissedHour(object client.Object) (int64, bool) {
	one, ok := object.(*v1alpha1.SecurityEvent)
	if !ok || one.Status.Assessment.Outcome != v1alpha1.OutcomeDismissed || one.Status.IncidentRef.Name != "" {
		return 0, false
	}
	belonged := slices.ContainsFunc(one.Status.EarlierAssessments, func(earlier v1alpha1.Assessment) bool {
		return earlier.Outcome == v1alpha1.OutcomePromoted || earlier.Outcome == v1alpha1.OutcomeJoined
	})
	return one.Status.Assessment.Time.Unix() / int64(time.Hour/time.Second), !belonged
}

// noteDismissed takes down in which hours events were dismissed.
func (r *RetentionReconciler) noteDismissed(_ context.Context, object client.Object) []reconcile.Request {
	hour, ok := dismissedHour(object)
	if !ok || !r.hours.note(object.GetNamespace(), hour) {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: v1alpha1.ResponsePlanName}}}
}

// dismissedHours are the hours in which the events of each namespace were dismissed: a few
// numbers, however many events there are.
type dismissedHours struct {
	mu    sync.Mutex
	hours map[string]map[int64]struct{}
}

// note takes down an hour, and says whether it is new.
func (d *dismissedHours) note(namespace string, hour int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hours == nil {
		d.hours = map[string]map[int64]struct{}{}
	}
	if d.hours[namespace] == nil {
		d.hours[namespace] = map[int64]struct{}{}
	}
	_, known := d.hours[namespace][hour]
	d.hours[namespace][hour] = struct{}{}
	return !known
}

func (d *dismissedHours) earliest(namespace string) (hour int64, some bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for one := range d.hours[namespace] {
		if !some || one < hour {
			hour, some = one, true
		}
	}
	return hour, some
}

func (d *dismissedHours) forget(namespace string, hour int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.hours[namespace], hour)
}
