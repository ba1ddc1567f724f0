package controller

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// outlived says in words why an event that belongs to an incident needs another one:
// it was seen again after the incident had come to its review, or the incident has come
// there without taking it up. It is empty while the incident does.
//
// Repeats that were counted while the incident was in progress are its own. How many
// those are is `status.occurrences`, which changes in one write with the incident: a
// repeat opens one incident, and not another one after a crash.
//
// missed says that the incident has not taken up the event at all.
func (r *SecurityEventReconciler) outlived(ctx context.Context, event *v1alpha1.SecurityEvent) (why string, missed bool, err error) {
	last := &event.Status
	key := types.NamespacedName{Namespace: event.Namespace, Name: last.IncidentRef.Name}
	if key.Name == "" || last.Assessment.Outcome != v1alpha1.OutcomePromoted && last.Assessment.Outcome != v1alpha1.OutcomeJoined {
		return "", false, nil
	}
	seen := occurrences(last.Counters)
	grown := seen > max(last.Occurrences, r.counted.absorbed(event.UID))
	incident := &v1alpha1.Incident{}
	if !grown {
		err = r.Client.Get(ctx, key, incident)
		if err != nil || r.detach(event, incident) || !leftOut(incident, event) && !movesOn(incident) {
			return "", false, client.IgnoreNotFound(err)
		}
	}
	err = r.APIReader.Get(ctx, key, incident)
	switch {
	case apierrors.IsNotFound(err) && grown:
		return seenAgain(key.Name, seen), false, nil
	case apierrors.IsNotFound(err):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("read incident %q of event %q: %w", key.Name, event.Name, err)
	case r.detach(event, incident):
		return "", false, nil
	case movesOn(incident):
		why, err = r.moveOn(ctx, event, incident, grown)
		return why, false, err
	case grown && over(incident):
		return seenAgain(key.Name, seen), false, nil
	case grown:
		r.counted.absorb(event.UID, seen)
		return "", false, nil
	case leftOut(incident, event):
		return fmt.Sprintf("; incident %q has come to its review without taking up this event", key.Name), true, nil
	default:
		return "", false, nil
	}
}

func seenAgain(incident string, seen int64) string {
	return fmt.Sprintf("; seen again, %d times in all, after incident %q had come to its end", seen, incident)
}

// over says whether an incident takes up nothing more.
func over(incident *v1alpha1.Incident) bool { return lifecycle.TakesUpNothing(incident) }

// movesOn says whether the events of an incident belong to another now, of which it was
// found to be a duplicate.
func movesOn(incident *v1alpha1.Incident) bool { return incident.Status.DuplicateOf.TakenUpTime != nil }

// moveOn makes an event of a duplicate one of the incident that goes on with it. One that
// was seen again after that had come to its end needs another incident, and it says why.
func (r *SecurityEventReconciler) moveOn(ctx context.Context, event *v1alpha1.SecurityEvent, duplicate *v1alpha1.Incident, grown bool) (string, error) {
	original, err := originalOf(ctx, r.APIReader, duplicate)
	if err != nil {
		return "", err
	}
	switch {
	case grown && (original == nil || over(original)):
		return seenAgain(duplicate.Name, occurrences(event.Status.Counters)), nil
	case original == nil || original.Name == event.Status.IncidentRef.Name:
		return "", nil
	}
	last, of := &event.Status.Assessment, &duplicate.Status.DuplicateOf
	r.apply(event, v1alpha1.Assessment{
		Outcome:     v1alpha1.OutcomeJoined,
		Policy:      last.Policy,
		Rule:        last.Rule,
		Reason:      v1alpha1.ReasonDuplicate,
		Message:     fmt.Sprintf("incident %s is a duplicate of incident %s, by %s", duplicate.Name, original.Name, of.By),
		Workload:    last.Workload,
		By:          of.By,
		DecisionRef: of.DecisionRef,
		Time:        metav1.NewTime(r.Clock.Now()),
	}, original.Name)
	return "", nil
}

func reviewed(incident *v1alpha1.Incident) bool {
	return incident.Status.Phase.Rank() >= v1alpha1.PhaseReview.Rank()
}

// leftOut says whether an incident has come to its review and knows none of the objects
// of an event that belongs to it. From then on it does not get to know them any more.
func leftOut(incident *v1alpha1.Incident, event *v1alpha1.SecurityEvent) bool {
	reference := v1alpha1.EventReference{Name: event.Name}
	opened := slices.Contains(incident.Spec.EventRefs, reference) && !slices.ContainsFunc(incident.Status.DetachedEvents, func(detached v1alpha1.DetachedEvent) bool { return detached.Name == event.Name })
	if !reviewed(incident) || len(event.Spec.Resources) == 0 || opened {
		return false
	}
	for i := range event.Spec.Resources {
		resource := &event.Spec.Resources[i]
		for j := range incident.Status.Resources {
			known := &incident.Status.Resources[j]
			if known.State == v1alpha1.ResourceDetached {
				continue // it is the incident's no more
			}
			if known.EventRef.Name == event.Name || sameObject(&known.ResourceReference, resource) && !succeeds(event, resource, known) {
				return false
			}
		}
	}
	return true
}

// succeeds says whether an event means an object that came after the one the incident
// knows: that was gone by then.
func succeeds(event *v1alpha1.SecurityEvent, resource *v1alpha1.ResourceReference, known *v1alpha1.IncidentResource) bool {
	return resource.UID == "" && known.GoneTime != nil && event.CreationTimestamp.After(known.GoneTime.Time)
}

// sameObject says whether two references mean the same object. One without a UID means
// whatever has the name.
func sameObject(a, b *v1alpha1.ResourceReference) bool {
	return a.APIVersion == b.APIVersion && a.Kind == b.Kind && a.Namespace == b.Namespace && a.Name == b.Name &&
		(a.UID == "" || b.UID == "" || a.UID == b.UID)
}

// detach takes down that a person has found that the event does not belong to its
// incident. It says whether it did.
func (r *SecurityEventReconciler) detach(event *v1alpha1.SecurityEvent, incident *v1alpha1.Incident) bool {
	detached := lifecycle.Detachment(incident, event)
	if detached == nil {
		return false
	}
	r.apply(event, v1alpha1.Assessment{
		Outcome:     v1alpha1.OutcomeDeferred,
		Reason:      v1alpha1.ReasonDetached,
		Message:     fmt.Sprintf("detached from incident %s by %s; a person must decide", incident.Name, detached.By),
		Workload:    event.Status.Assessment.Workload,
		By:          detached.By,
		DecisionRef: detached.DecisionRef,
		Time:        metav1.NewTime(r.Clock.Now()),
	}, "")
	return true
}

// concernsEvents lets through incidents that have just come to their review, were closed or
// taken up by another, or had events detached, as far as one can tell.
var concernsEvents = predicate.Funcs{
	CreateFunc: func(create event.CreateEvent) bool {
		incident, ok := create.Object.(*v1alpha1.Incident)
		return ok && (reviewed(incident) || movesOn(incident) || len(incident.Status.DetachedEvents) > 0)
	},
	UpdateFunc: func(update event.UpdateEvent) bool {
		before, ok := update.ObjectOld.(*v1alpha1.Incident)
		after, alsoOK := update.ObjectNew.(*v1alpha1.Incident)
		return ok && alsoOK && (reviewed(after) && before.Status.Phase != after.Status.Phase || movesOn(after) && !movesOn(before) ||
			!equality.Semantic.DeepEqual(before.Status.DetachedEvents, after.Status.DetachedEvents))
	},
	DeleteFunc:  func(event.DeleteEvent) bool { return false },
	GenericFunc: func(event.GenericEvent) bool { return false },
}

func (r *SecurityEventReconciler) eventsOfIncident(ctx context.Context, incident client.Object) []reconcile.Request {
	return r.eventsBy(ctx, incident.GetNamespace(), client.MatchingFields{indexEventIncident: incident.GetName()})
}

func (r *SecurityEventReconciler) eventsBy(ctx context.Context, namespace string, fields client.MatchingFields) []reconcile.Request {
	list := &v1alpha1.SecurityEventList{}
	err := r.Client.List(ctx, list, client.InNamespace(namespace), fields, client.UnsafeDisableDeepCopy)
	if err != nil {
		log.FromContext(ctx).Error(err, "events not assessed again", "namespace", namespace)
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}
