package controller

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	// ServerTime asks the API server what time it is.
	ServerTime(ctx context.Context, namespace string) (time.Time, error)
	// EvidenceOf lists the evidence of an incident, by its name.
	EvidenceOf(ctx context.Context, namespace, incident string) ([]v1alpha1.Evidence, error)
	// EvidenceNamed reads a piece of evidence; nil when it is not there.
	EvidenceNamed(ctx context.Context, namespace, name string) (*v1alpha1.Evidence, error)
	// EachEvidence goes through all the evidence of a namespace.
	EachEvidence(ctx context.Context, namespace string, look func(*v1alpha1.Evidence), options ...client.ListOption) error
	// RemoveBytes removes bytes that no Evidence names any more.
	RemoveBytes(ctx context.Context, namespace string, locations []string) error
}

// RetentionReconciler deletes dismissed events, closed incidents and evidence whose time is over, a
// batch at a time: first it journals what was on record about them, then it deletes just what is in
// the journal. After a crash it begins by deleting what the last journal still names.
type RetentionReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Journals keep what was on record.
	Journals RetentionJournals
	// Clock tells the time.
	Clock clock.PassiveClock

	// dismissed and closed are the hours in which events were dismissed and incidents closed,
	// orphaned those in which evidence was collected whose incident is gone.
	dismissed, closed, orphaned knownHours
	// heads are the ends of the domains' journals.
	heads map[string]*journalHead
	// mu has one reconciliation run at a time: journals are one chain.
	mu sync.Mutex
}

// journalHead is the end of a domain's chain of journals.
type journalHead struct {
	// domain is the UID of the namespace: one that was made anew begins a new chain.
	domain types.UID
	// plan is the UID of the plan that says how long is kept.
	plan types.UID
	// known says that last is the end, and that what it names was tried to delete.
	known bool
	last  *v1alpha1.JournalRange
	// journaled are the resourceVersions of which the journals tell, by UID, until the cache
	// shows that the objects are gone or have changed.
	journaled map[types.UID]string
	// kept are the incidents of which was told that they stay, by UID.
	kept map[types.UID]toldKept
	// refused are the objects that the API server refused to delete, by UID, and when.
	refused map[types.UID]time.Time
	// decided is when it was last looked what is over.
	decided time.Time
	// ahead is when was told that the manager's clock is ahead; zero is that it is not.
	ahead time.Time
	// unwitnessed is when was told last that the API server's time could not be learned.
	unwitnessed time.Time
	// evidence is what is known of the domain's evidence.
	evidence knownEvidence
	// unswept are the locations of bytes whose Evidence the journal that is being executed has
	// deleted.
	unswept []string
}

var _ reconcile.Reconciler = (*RetentionReconciler)(nil)

// Reconcile deletes what is over in one domain, and says when the next is.
func (r *RetentionReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	namespace := &corev1.Namespace{}
	if err := r.Client.Get(ctx, types.NamespacedName{Name: request.Namespace}, namespace); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if _, domain := namespace.Labels[v1alpha1.LabelDomain]; !domain || namespace.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	plan, err := planOf(ctx, r.Client, request.Namespace)
	if err != nil || plan == nil {
		return ctrl.Result{}, err
	}
	kinds := r.expiring(plan)
	if len(kinds) == 0 {
		return ctrl.Result{}, nil
	}
	head := r.heads[request.Namespace]
	if head == nil || head.domain != namespace.UID {
		head = &journalHead{domain: namespace.UID, journaled: map[types.UID]string{}, kept: map[types.UID]toldKept{}}
		if r.heads == nil {
			r.heads = map[string]*journalHead{}
		}
		r.heads[request.Namespace] = head
	}
	head.plan = plan.UID
	if plan.Spec.Retention.Evidence != nil {
		// First, for what the last journal names may leave evidence.
		if err := r.knowEvidence(ctx, request.Namespace, head); err != nil {
			return ctrl.Result{}, err
		}
	}
	// A manager may have been killed when the incident was gone, and its parts or the last bytes
	// were all that was left to remove.
	if err := r.find(ctx, request.Namespace, head); err != nil {
		return ctrl.Result{}, err
	}
	wait, err := r.removeOver(ctx, request.Namespace, head, kinds)
	if errors.Is(err, errClockAhead) {
		return ctrl.Result{RequeueAfter: clockRetry}, nil
	}
	if err != nil {
		// What the journal names may be there yet: the next try begins with that.
		head.known = false
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

// expiring is a kind of objects of which the plan says how long they are kept.
type expiring struct {
	keep time.Duration
	// because is the plan's field, and what it says.
	because string
	// hours are those in which the time of such objects began.
	hours *knownHours
	// remove deletes a batch of those whose time began within an hour.
	remove func(ctx context.Context, namespace string, hour int64, head *journalHead, because string) (taken, error)
}

// expiring are the kinds of which a plan says how long they are kept.
func (r *RetentionReconciler) expiring(plan *v1alpha1.ResponsePlan) []expiring {
	var kinds []expiring
	add := func(field string, keep *metav1.Duration, kind expiring) {
		if keep != nil {
			kind.keep, kind.because = keep.Duration, "retention."+field+": "+keep.Duration.String()
			kinds = append(kinds, kind)
		}
	}
	retention := &plan.Spec.Retention
	add("dismissedEvents", retention.DismissedEvents, expiring{hours: &r.dismissed, remove: r.removeHour})
	add("closedIncidents", retention.ClosedIncidents, expiring{hours: &r.closed, remove: r.removeClosedHour})
	add("evidence", retention.Evidence, expiring{hours: &r.closed, remove: r.removeEvidenceHour})
	add("evidence", retention.Evidence, expiring{hours: &r.orphaned, remove: r.removeOrphanHour})
	return kinds
}

// removeOver deletes what is over, hour by hour. It says how long to wait until there may be
// more; zero is for ever.
func (r *RetentionReconciler) removeOver(ctx context.Context, namespace string, head *journalHead, kinds []expiring) (time.Duration, error) {
	rounds, wait := 0, time.Duration(0)
	for i := range kinds {
		kind := &kinds[i]
		for _, hour := range kind.hours.of(namespace) {
			head.decided = r.Clock.Now()
			if left := expiryOf(hour, kind.keep).Sub(head.decided); left > 0 {
				wait = sooner(wait, left)
				break
			}
			for more := true; more; rounds++ {
				if rounds >= removalRounds {
					return time.Millisecond, nil
				}
				if err := r.find(ctx, namespace, head); err != nil {
					return 0, err
				}
				took, err := kind.remove(ctx, namespace, hour, head, kind.because)
				if err != nil {
					return 0, err
				}
				if more = len(took.removals) > 0; !more {
					wait = sooner(wait, took.wait)
					break
				}
			}
		}
	}
	if wait == 0 || wait > conflictRetry {
		clear(head.journaled) // the cache has seen it all
	}
	return wait, nil
}

// expiryOf is when what began within an hour is over: all of it.
func expiryOf(hour int64, keep time.Duration) time.Time {
	return time.Unix((hour+1)*int64(time.Hour/time.Second), 0).Add(keep)
}

// taken is what a batch removes, and how long to wait for what is left out of it.
type taken struct {
	removals []audit.Removal
	wait     time.Duration
}

// removeHour deletes a batch of the events that were dismissed within an hour.
func (r *RetentionReconciler) removeHour(ctx context.Context, namespace string, hour int64, head *journalHead, because string) (taken, error) {
	// What must stay may be among the first: then more of them are looked at.
	for limit := removalBatch; ; limit *= 4 {
		list := &v1alpha1.SecurityEventList{}
		err := r.Client.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{indexDismissedHour: strconv.FormatInt(hour, 10)},
			client.Limit(int64(limit)), client.UnsafeDisableDeepCopy)
		if err != nil {
			return taken{}, fmt.Errorf("list the dismissed events of namespace %q: %w", namespace, err)
		}
		if len(list.Items) == 0 {
			r.dismissed.forget(namespace, hour)
			return taken{}, nil
		}
		took, err := r.takeDown(ctx, list.Items, head, because)
		if err != nil {
			return taken{}, err
		}
		if len(took.removals) > 0 {
			return took, r.remove(ctx, namespace, head, took.removals)
		}
		if len(list.Items) < limit {
			return took, nil
		}
	}
}

// takeDown is what is on record about a batch of events and the Decisions about them, each
// event before its Decisions. What must stay is left out.
func (r *RetentionReconciler) takeDown(ctx context.Context, events []v1alpha1.SecurityEvent, head *journalHead, because string) (taken, error) {
	took, batch := taken{}, 0
	for i := range events {
		one := &events[i]
		if wait := r.refusedFor(head, one.UID); wait > 0 {
			took.wait = sooner(took.wait, wait)
			continue
		}
		if head.journaled[one.UID] == one.ResourceVersion {
			took.wait = sooner(took.wait, conflictRetry) // the cache has yet to see what became of it
			continue
		}
		decisions, err := r.decisions(ctx, one.Namespace, v1alpha1.SubjectSecurityEvent, one.Name)
		if err != nil {
			return taken{}, err
		}
		held, err := r.held(ctx, one, decisions)
		if err != nil {
			return taken{}, err
		}
		if held > 0 {
			took.wait = sooner(took.wait, held)
			continue
		}
		took.removals = append(took.removals, audit.RemovalOfEvent(one))
		for j := range decisions {
			took.removals = append(took.removals, audit.RemovalOfDecision(&decisions[j]))
		}
		if batch++; batch == removalBatch {
			break
		}
	}
	r.stamp(head, took.removals, because)
	return took, nil
}

// stamp says of removals when and why they are made: at the latest time by which any of them was
// found to be over.
func (r *RetentionReconciler) stamp(head *journalHead, removals []audit.Removal, because string) {
	at := r.Clock.Now()
	if head.decided.After(at) {
		at = head.decided
	}
	now := metav1.NewTime(at.UTC().Truncate(time.Second))
	for i := range removals {
		removals[i].Time, removals[i].Because = now, because
	}
}

// remove journals removals, and then makes them.
func (r *RetentionReconciler) remove(ctx context.Context, namespace string, head *journalHead, removals []audit.Removal) error {
	if err := r.witness(ctx, namespace, head, removals); err != nil {
		return err
	}
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
	head.last = journal.Spec.Journal
	if err := r.noteHead(ctx, namespace, head); err != nil {
		return err
	}
	return r.execute(ctx, namespace, head, journal, removals)
}

// execute deletes what a journal names, in its order, group by group, and then the bytes of the
// evidence among it. Of one that was made by a clock that was ahead it deletes nothing, and
// returns errClockAhead.
func (r *RetentionReconciler) execute(ctx context.Context, namespace string, head *journalHead, journal *v1alpha1.Evidence, removals []audit.Removal) error {
	head.unswept = nil
	if !r.trusted(ctx, journal, removals) {
		return errClockAhead
	}
	for start := 0; start < len(removals); {
		end, remove := groupEnd(removals, start), r.removeGroup
		switch {
		case incidentOf(&removals[start]) != "":
			remove = r.removeParts
		case removals[start].Kind == kindEvidence:
			remove = r.removeEvidence
		}
		if err := remove(ctx, namespace, head, removals[start:end]); err != nil {
			return fmt.Errorf("what the journal %q names: %w", journal.Name, err)
		}
		start = end
	}
	if len(head.unswept) == 0 {
		return nil
	}
	if err := r.Journals.RemoveBytes(ctx, namespace, head.unswept); err != nil {
		return fmt.Errorf("the bytes of what the journal %q names: %w", journal.Name, err)
	}
	r.tellSwept(ctx, journal, len(head.unswept))
	return nil
}

// groupEnd says where the group of a removal ends: an event and its Decisions, or an incident
// and its parts.
func groupEnd(removals []audit.Removal, start int) int {
	end, incident := start+1, incidentOf(&removals[start])
	for end < len(removals) && incidentOf(&removals[end]) == incident && (incident != "" || removals[end].Kind == kindDecision) {
		end++
	}
	return end
}

// removeGroup deletes an event and the Decisions about it. An event that has changed since it
// was journaled, or that must stay by now, stays with its Decisions.
func (r *RetentionReconciler) removeGroup(ctx context.Context, namespace string, head *journalHead, group []audit.Removal) error {
	held, err := r.heldSince(ctx, namespace, group)
	if err != nil || held {
		return err
	}
	for i := range group {
		removal := &group[i]
		stays, _, err := r.try(ctx, namespace, head, removal)
		if err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		head.journaled[removal.UID] = removal.ResourceVersion
		if stays {
			return nil
		}
	}
	return nil
}

func (r *RetentionReconciler) delete(ctx context.Context, namespace string, removal *audit.Removal) error {
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: removal.Name}}
	object.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind(removal.Kind))
	return r.Client.Delete(ctx, object, client.Preconditions{UID: &removal.UID, ResourceVersion: &removal.ResourceVersion})
}

// find finds the end of a domain's journals. The first time it deletes what the last one
// names: a manager may have been killed before it had. When its bytes are lost that is not
// known; the objects are journaled again then, after it.
func (r *RetentionReconciler) find(ctx context.Context, namespace string, head *journalHead) error {
	if head.known {
		return nil
	}
	journal, err := r.Journals.LastRemovals(ctx, namespace)
	if err != nil {
		return err
	}
	head.last = nil
	if journal != nil {
		head.last = journal.Spec.Journal
		if err := r.noteFound(ctx, namespace, head); err != nil {
			return err
		}
		removals, err := r.Journals.ReadRemovals(ctx, journal)
		switch {
		case isLost(err):
			r.tellLost(ctx, journal, err)
			err = nil
		case err == nil:
			err = r.execute(ctx, namespace, head, journal, removals)
		}
		if err != nil && !errors.Is(err, errClockAhead) { // what does not count is passed over
			return err
		}
	}
	if err := r.followHead(ctx, namespace, head); err != nil {
		return err
	}
	head.known = true
	return nil
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
	if err := indexRetained(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("retention").
		For(&v1alpha1.ResponsePlan{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.SecurityEvent{}, handler.EnqueueRequestsFromMapFunc(r.noteDismissed)).
		Watches(&v1alpha1.Incident{}, handler.EnqueueRequestsFromMapFunc(r.noteClosed)).
		Watches(&v1alpha1.LessonLearned{}, handler.EnqueueRequestsFromMapFunc(planOfDomain), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(planOfNamespace), builder.WithPredicates(domainChanges)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 1, ReconciliationTimeout: removalTimeout,
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minRetry, maxRetry),
		}).
		Complete(r)
}

// dismissedHour is the hour in which an event was dismissed, in hours since 1970. What belongs
// to an incident stays with that; what was detached from one stays while that names it.
func dismissedHour(object client.Object) (int64, bool) {
	one, ok := object.(*v1alpha1.SecurityEvent)
	if !ok || one.Status.Assessment.Outcome != v1alpha1.OutcomeDismissed || one.Status.IncidentRef.Name != "" {
		return 0, false
	}
	return one.Status.Assessment.Time.Unix() / int64(time.Hour/time.Second), true
}

// noteDismissed takes down in which hours events were dismissed.
func (r *RetentionReconciler) noteDismissed(_ context.Context, object client.Object) []reconcile.Request {
	hour, ok := dismissedHour(object)
	if !ok || !r.dismissed.note(object.GetNamespace(), hour) {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: v1alpha1.ResponsePlanName}}}
}
