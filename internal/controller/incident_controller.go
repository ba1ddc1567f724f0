package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/expression"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
	"github.com/firebreak-dev/firebreak/internal/lookup"
)

// projectRetry is how soon publishing is tried again.
const projectRetry = 10 * time.Second

// maxRounds is how many writes one reconciliation makes at most; what is left goes on in
// the next, so that one incident never keeps a worker from the others.
const maxRounds = 24

// Journals seals what leaves an incident's timeline.
type Journals interface {
	// SealJournal preserves entries as Evidence of type Journal, once.
	SealJournal(ctx context.Context, incident *v1alpha1.Incident, entries []v1alpha1.TimelineEntry) (*v1alpha1.Evidence, error)
}

// Evaluator evaluates the expressions of playbooks.
type Evaluator interface {
	lifecycle.Conditions
	action.Evaluator
}

// IncidentReconciler carries incidents on: it reads, lets package lifecycle decide,
// writes the status, and only then acts.
type IncidentReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads without a cache.
	Live client.Reader
	// Identities act as ServiceAccounts of the domain.
	Identities *impersonation.Factory
	// Guard says whether Decisions can be trusted.
	Guard Guard
	// Evidence preserves what is collected.
	Evidence action.Recorder
	// Journals seals timelines.
	Journals Journals
	// Expressions evaluates the expressions of playbooks.
	Expressions Evaluator
	// Egress sends requests out of the cluster. Nil means that none leaves.
	Egress *action.Egress
	// Manager is the manager's user name.
	Manager string
	// SystemNamespace is the manager's namespace: it is protected.
	SystemNamespace string
	// Clock tells the time.
	Clock clock.PassiveClock
	// Concurrency is how many incidents are carried on at the same time.
	Concurrency int

	values    expression.Cache
	revisions revisionCache
	// lessonless says since when the lesson of an incident could not be created.
	lessonless sync.Map
	runs       runLedger
	written    writtenVersions
	looks      lookTimes
	verifies   *verifyWatches
	// collecting and publishing are for what can wait while others are attacked.
	collecting, publishing *backstage
}

var _ reconcile.Reconciler = (*IncidentReconciler)(nil)

// Reconcile carries one incident on as far as it goes now.
func (r *IncidentReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	defer r.collecting.leave(request.NamespacedName)
	defer r.publishing.leave(request.NamespacedName)
	domain, err := isDomain(ctx, r.Client, request.Namespace)
	if err != nil || !domain {
		if err == nil {
			r.verifies.keep(request.NamespacedName, nil)
		}
		return ctrl.Result{}, err
	}
	incident, err := r.read(ctx, request)
	if apierrors.IsNotFound(err) {
		return ctrl.Result{}, r.refuseOrphans(ctx, request)
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	run := &incidentRun{IncidentReconciler: r, incident: incident, base: incident.DeepCopy()}
	return run.carryOn(ctx)
}

// read gives the incident, not older than what this process has written.
func (r *IncidentReconciler) read(ctx context.Context, request ctrl.Request) (*v1alpha1.Incident, error) {
	incident := &v1alpha1.Incident{}
	if err := r.Client.Get(ctx, request.NamespacedName, incident); err != nil {
		if apierrors.IsNotFound(err) {
			r.written.forget(request.NamespacedName)
			r.revisions.forget(request.NamespacedName)
			r.looks.forget(request.NamespacedName)
			r.lessonless.Delete(request.NamespacedName)
			r.verifies.keep(request.NamespacedName, nil)
			// The ledger forgets by itself, an hour later: deleting incidents gives no new turns.
		}
		return nil, err
	}
	if r.written.newerThan(request.NamespacedName, incident.ResourceVersion) {
		if err := r.Live.Get(ctx, request.NamespacedName, incident); err != nil {
			return nil, err
		}
	}
	r.looks.restore(request.NamespacedName, incident)
	return incident, nil
}

// refuseOrphans answers Decisions about an incident that is not there.
func (r *IncidentReconciler) refuseOrphans(ctx context.Context, request ctrl.Request) error {
	decisions, err := decisionsAbout(ctx, r.Client, request.Namespace, v1alpha1.SubjectIncident, request.Name)
	if err != nil || len(decisions) == 0 {
		return err
	}
	if err := r.Live.Get(ctx, request.NamespacedName, &v1alpha1.Incident{}); !apierrors.IsNotFound(err) {
		return err
	}
	for i := range decisions {
		err := answerDecision(ctx, r.Client, &decisions[i], metav1.Condition{
			Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonSubjectNotFound, LastTransitionTime: metav1.NewTime(r.Clock.Now()),
			Message: fmt.Sprintf("there is no Incident '%s' in namespace '%s'", request.Name, request.Namespace),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// incidentRun is one reconciliation of one incident.
type incidentRun struct {
	*IncidentReconciler
	// incident is what is decided about; it may be ahead of what is stored.
	incident *v1alpha1.Incident
	// base is what is stored, as last read or written.
	base *v1alpha1.Incident
	// lessonMade says that this run has created the LessonLearned.
	lessonMade bool
	// lessonTried says that this run could not create it, and lessonProblem why, when that is
	// to be told to a person.
	lessonTried   bool
	lessonProblem string
	// fresh says that base was read or written just now and not from a cache.
	fresh bool
	// unseen are the resources that could not be looked at in this run, and why.
	unseen map[int]string
	// pinning says of each revision whose text was just found when it is stored.
	pinning map[string]<-chan error
	// reads are what was read for the decision that is being made; nil while nothing is decided.
	reads *decisionReads
	// waiting is when to look again for a reason of the controller's own.
	waiting time.Duration
}

// carryOn decides, writes and acts until there is nothing left to do now.
func (run *incidentRun) carryOn(ctx context.Context) (ctrl.Result, error) {
	var out lifecycle.Output
	for range maxRounds {
		in, err := run.gather(ctx)
		if err != nil {
			// What became of the work before it must not be lost.
			return ctrl.Result{}, errors.Join(err, run.write(ctx))
		}
		out, err = run.decide(ctx, in)
		if err != nil {
			return ctrl.Result{}, err
		}
		if err := run.write(ctx); err != nil {
			return ctrl.Result{}, err
		}
		if err := run.answerDecisions(ctx); err != nil {
			return ctrl.Result{}, err
		}
		more, err := run.act(ctx, in, out)
		if err != nil {
			return ctrl.Result{}, err
		}
		if !more {
			return run.rest(ctx, out)
		}
	}
	return ctrl.Result{RequeueAfter: time.Millisecond}, run.write(ctx)
}

// decide lets package lifecycle decide, and does the reads it asks for on the way.
func (run *incidentRun) decide(ctx context.Context, in lifecycle.Input) (lifecycle.Output, error) {
	run.reads = newDecisionReads(run.Clock)
	defer func() { run.reads = nil }()
	for {
		in.Incident, in.Unseen = run.incident, run.unseen
		out := lifecycle.Advance(in)
		if err := run.take(out); err != nil {
			return out, err
		}
		plans := run.plansNow(out)
		switch {
		case run.unsaved() > maxUnsaved:
			// Written first, so that the timeline never grows beyond what can be sealed.
			out.Work, out.DraftLesson, out.Next = nil, false, in.Now
			return out, nil
		case len(out.Look) > 0:
			sightings := run.look(ctx, in.Playbook, out.Look)
			in.Incident = run.incident
			if err := run.take(lifecycle.Sight(in, sightings)); err != nil {
				return out, err
			}
		case len(plans) > 0:
			results := run.execute(ctx, in, plans)
			in.Incident, in.Now = run.incident, run.Clock.Now()
			if err := run.take(lifecycle.Record(in, results)); err != nil {
				return out, err
			}
		default:
			return out, nil
		}
	}
}

// maxUnsaved is how many timeline entries one write may add.
const maxUnsaved = 14

// unsaved is how many timeline entries are not stored yet.
func (run *incidentRun) unsaved() int64 {
	return run.incident.Status.Audit.Sequence - run.base.Status.Audit.Sequence
}

// act does what needed to be written before it is begun. It says whether there may be more to do.
func (run *incidentRun) act(ctx context.Context, in lifecycle.Input, out lifecycle.Output) (bool, error) {
	tried := out.DraftLesson && !run.lessonTried
	if tried {
		run.draftLesson(ctx)
	}
	work := run.now(out.Work)
	if len(work) == 0 {
		return tried, nil
	}
	if err := run.confirm(ctx); err != nil {
		return false, err
	}
	results := run.execute(ctx, in, work)
	in.Incident, in.Now = run.incident, run.Clock.Now()
	return true, run.take(lifecycle.Record(in, results))
}

// rest publishes what was recorded, and says when to look again.
func (run *incidentRun) rest(ctx context.Context, out lifecycle.Output) (ctrl.Result, error) {
	run.looks.note(client.ObjectKeyFromObject(run.incident), run.incident)
	run.endVerifies()
	after := run.waiting
	if err := run.projectInTurn(ctx); apierrors.IsConflict(err) {
		return ctrl.Result{}, err
	} else if err != nil {
		// Events are a projection: deadlines and retries must not wait for them.
		log.FromContext(ctx).Error(err, "the timeline could not be published as Events; it is tried again")
		after = projectRetry
	}
	if !out.Next.IsZero() {
		until := max(out.Next.Sub(run.Clock.Now()), time.Millisecond)
		if after == 0 || until < after {
			after = until
		}
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// SetupWithManager registers the reconciler and what it watches.
func (r *IncidentReconciler) SetupWithManager(mgr ctrl.Manager) error {
	changed := predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return !r.written.isOwn(client.ObjectKeyFromObject(e.ObjectNew), e.ObjectNew.GetResourceVersion())
		},
	}
	woken := make(chan event.GenericEvent, collectingRoom+publishingRoom)
	r.collecting, r.publishing = newBackstage(collectingRoom, woken), newBackstage(publishingRoom, woken)
	r.verifies = newVerifyWatches(r.Identities, r.Clock)
	r.Live = lookup.Reader(r.Live)
	if err := mgr.Add(r.verifies); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("incident").
		WatchesRawSource(source.Channel(woken, &handler.EnqueueRequestForObject{})).
		WatchesRawSource(source.Channel(r.verifies.wake, &handler.EnqueueRequestForObject{})).
		For(&v1alpha1.Incident{}, builder.WithPredicates(changed)).
		Watches(&v1alpha1.Incident{}, handler.EnqueueRequestsFromMapFunc(r.relatedIncidents)).
		Watches(&v1alpha1.SecurityEvent{}, handler.EnqueueRequestsFromMapFunc(incidentOfEvent)).
		Watches(&v1alpha1.Decision{}, handler.EnqueueRequestsFromMapFunc(r.incidentsOfDecision)).
		Watches(&v1alpha1.ResponsePlan{}, handler.EnqueueRequestsFromMapFunc(r.openIncidents),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.incidentsOfNamespace), builder.WithPredicates(domainChanges)).
		Watches(&v1alpha1.ResponsePlaybook{}, handler.EnqueueRequestsFromMapFunc(r.incidentsOfPlaybook)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: max(r.Concurrency, 1),
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minRetry, maxRetry),
		}).
		Complete(r)
}
