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
func (r *SecurityEventReconciler) outlived(ctx context.Context, event *v1alpha1.SecurityEvent) (string, error) {
	last := &event.Status
	key := types.NamespacedName{Namespace: event.Namespace, Name: last.IncidentRef.Name}
	if key.Name == "" || last.Assessment.Outcome != v1alpha1.OutcomePromoted && last.Assessment.Outcome != v1alpha1.OutcomeJoined {
		return "", nil
	}
	seen := occurrences(last.Counters)
	grown := seen > max(last.Occurrences, r.counted.absorbed(event.UID))
	incident := &v1alpha1.Incident{}
	if !grown {
		err := r.Client.Get(ctx, key, incident)
		if err != nil || r.detach(event, incident) || !leftOut(incident, event) {
			return "", client.IgnoreNotFound(err)
		}
	}
	err := r.APIReader.Get(ctx, key, incident)
	if err != nil && !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("read incident %q of event %q: %w", key.Name, event.Name, err)
	}
	gone := apierrors.IsNotFound(err)
	switch {
	case !gone && r.detach(event, incident):
		return "", nil
	case grown && (gone || over(incident)):
		return fmt.Sprintf("; seen again, %d times in all, after incident %q had come to its end", seen, key.Name), nil
	case grown:
		r.counted.absorb(event.UID, seen)
		return "", nil
	case !gone && leftOut(incident, event):
		return fmt.Sprintf("; incident %q has come to its review without taking up this event", key.Name), nil
	default:
		return "", nil
	}
}

// over says whether an incident takes up nothing more: it has come to its review or was
// resolved, or is on its way out.
func over(incident *v1alpha1.Incident) bool {
	return incident.DeletionTimestamp != nil || incident.Status.Resolution != "" || reviewed(incident)
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

// concernsEvents lets through incidents that have just come to their review, were closed,
// or had events detached, as far as one can tell.
var concernsEvents = predicate.Funcs{
	CreateFunc: func(create event.CreateEvent) bool {
		incident, ok := create.Object.(*v1alpha1.Incident)
		return ok && (reviewed(incident) || len(incident.Status.DetachedEvents) > 0)
	},
	UpdateFunc: func(update event.UpdateEvent) bool {
		before, ok := update.ObjectOld.(*v1alpha1.Incident)
		after, alsoOK := update.ObjectNew.(*v1alpha1.Incident)
		return ok && alsoOK && (reviewed(after) && before.Status.Phase != after.Status.Phase ||
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
