package controller

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

const (
	// indexUndecided finds the SecurityEvents that are for the policies to decide, by 'true'.
	indexUndecided = "firebreak.undecided"
	// indexDeferred finds the SecurityEvents that wait for a person, by 'true'.
	indexDeferred = "firebreak.deferred"
	// indexSameThing finds the SecurityEvents of the same thing, and some others, by bucketOf.
	indexSameThing = "firebreak.sameThing"
	// indexUnanswered finds the unanswered Decisions about a SecurityEvent, by its name.
	indexUnanswered = "firebreak.unansweredEventDecision"
	// indexCorrelation finds the Incidents of one correlation, by its label.
	indexCorrelation = "firebreak.correlation"
	// indexIncidentPods finds the Incidents that are not closed and know a pod, by its podKey.
	indexIncidentPods = "firebreak.incidentPods"
)

// indexSecurityEvents adds the indexes of the SecurityEventReconciler to a cache.
func indexSecurityEvents(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range []struct {
		object client.Object
		field  string
		values client.IndexerFunc
	}{
		{&v1alpha1.SecurityEvent{}, indexUndecided, eventsThat(undecided)},
		{&v1alpha1.SecurityEvent{}, indexDeferred, eventsThat(isDeferred)},
		{&v1alpha1.SecurityEvent{}, indexSameThing, func(object client.Object) []string {
			if event, ok := object.(*v1alpha1.SecurityEvent); ok {
				return nonEmpty(bucketOf(classify.SameThing(event)))
			}
			return nil
		}},
		{&v1alpha1.Decision{}, indexUnanswered, func(object client.Object) []string {
			if decision, ok := object.(*v1alpha1.Decision); ok && unansweredAboutEvent(decision) {
				return []string{decision.Spec.Subject.Name}
			}
			return nil
		}},
		{&v1alpha1.Incident{}, indexCorrelation, func(object client.Object) []string {
			return nonEmpty(object.GetLabels()[v1alpha1.LabelCorrelation])
		}},
		{&v1alpha1.Incident{}, indexIncidentPods, podsOfIncident},
	} {
		if err := indexer.IndexField(ctx, index.object, index.field, index.values); err != nil {
			return fmt.Errorf("index %s: %w", index.field, err)
		}
	}
	return nil
}

// eventsThat indexes the events that are so, by 'true'.
func eventsThat(are func(*v1alpha1.SecurityEvent) bool) client.IndexerFunc {
	return func(object client.Object) []string {
		if event, ok := object.(*v1alpha1.SecurityEvent); ok && are(event) {
			return []string{"true"}
		}
		return nil
	}
}

func unansweredAboutEvent(decision *v1alpha1.Decision) bool {
	return decision.Spec.Subject.Kind == v1alpha1.SubjectSecurityEvent &&
		meta.FindStatusCondition(decision.Status.Conditions, v1alpha1.ConditionAccepted) == nil
}

// eventNeedsWork leaves out the echo of the manager's own writes: what is new is a new
// event, a repeat, or an event without an assessment. One that has come to another
// incident is looked at once more, now that the cache knows: the incident may have come
// to its review in between.
var eventNeedsWork = predicate.Funcs{
	UpdateFunc: func(update event.UpdateEvent) bool {
		before, ok := update.ObjectOld.(*v1alpha1.SecurityEvent)
		after, alsoOK := update.ObjectNew.(*v1alpha1.SecurityEvent)
		if !ok || !alsoOK {
			return true
		}
		return after.Status.Assessment.Outcome == "" && equality.Semantic.DeepEqual(before.Status.Conditions, after.Status.Conditions) ||
			before.Status.IncidentRef != after.Status.IncidentRef ||
			!equality.Semantic.DeepEqual(before.Status.Counters, after.Status.Counters)
	},
	DeleteFunc: func(deleted event.DeleteEvent) bool {
		gone, ok := deleted.Object.(*v1alpha1.SecurityEvent)
		return ok && (isOverdue(gone) || isUnassessed(gone)) // it counts no more
	},
}

// domainChanges lets through namespaces that have just become response domains, or are none any more:
// what is in them must say so.
var domainChanges = predicate.Funcs{
	CreateFunc: func(create event.CreateEvent) bool {
		// What is in a new namespace may have been looked at before the cache has shown that.
		_, labelled := create.Object.GetLabels()[v1alpha1.LabelDomain]
		return labelled
	},
	UpdateFunc: func(update event.UpdateEvent) bool {
		_, before := update.ObjectOld.GetLabels()[v1alpha1.LabelDomain]
		_, after := update.ObjectNew.GetLabels()[v1alpha1.LabelDomain]
		return after != before
	},
	DeleteFunc:  func(event.DeleteEvent) bool { return false },
	GenericFunc: func(event.GenericEvent) bool { return false },
}

// eventOfDecision maps an unanswered Decision to the event it is about.
func eventOfDecision(_ context.Context, object client.Object) []reconcile.Request {
	decision, ok := object.(*v1alpha1.Decision)
	if !ok || !unansweredAboutEvent(decision) {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{
		Namespace: decision.Namespace, Name: decision.Spec.Subject.Name,
	}}}
}

func (r *SecurityEventReconciler) undecidedEventsOfPolicy(ctx context.Context, policy client.Object) []reconcile.Request {
	return r.undecidedEvents(ctx, policy.GetNamespace())
}

func (r *SecurityEventReconciler) undecidedEventsOfNamespace(ctx context.Context, namespace client.Object) []reconcile.Request {
	return r.undecidedEvents(ctx, namespace.GetName())
}

// undecidedEvents lists also the events that are being assessed just now: they may not
// have seen what has changed.
func (r *SecurityEventReconciler) undecidedEvents(ctx context.Context, namespace string) []reconcile.Request {
	return r.eventsBy(ctx, namespace, client.MatchingFields{indexUndecided: "true"})
}
