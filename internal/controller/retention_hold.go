package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/evidence"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// indexIncidentEvents finds the Incidents that name an event of their own mode, by its eventKey.
	indexIncidentEvents = "firebreak.incidentEvents"
	// namedRetry is how long an event stays at least that an incident names: as a rule for as
	// long as the incident.
	namedRetry = 10 * time.Minute
	// refusedRetry is how long an object stays that the API server refused to delete: each try is
	// journaled.
	refusedRetry = 24 * time.Hour

	kindDecision, kindEvidence = "Decision", "Evidence"
)

// eventKey is how indexIncidentEvents knows an event. A drill may name what is live, and the
// other way round: it takes nothing in of it, so that the one never keeps the other.
func eventKey(mode v1alpha1.Mode, name string) string { return string(mode.OrLive()) + "/" + name }

// eventsOfIncident are the events that an incident names: that opened it, or were detached.
func eventsOfIncident(object client.Object) []string {
	incident, ok := object.(*v1alpha1.Incident)
	if !ok {
		return nil
	}
	var names []string
	for _, reference := range incident.Spec.EventRefs {
		names = append(names, eventKey(incident.Spec.Mode, reference.Name))
	}
	for i := range incident.Status.DetachedEvents {
		names = append(names, eventKey(incident.Spec.Mode, incident.Status.DetachedEvents[i].Name))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// held says whether an event whose time is over must stay nevertheless, and when to look
// again; zero is that it may go.
func (r *RetentionReconciler) held(ctx context.Context, event *v1alpha1.SecurityEvent, decisions []v1alpha1.Decision) (time.Duration, error) {
	incidents := &v1alpha1.IncidentList{}
	err := r.Client.List(ctx, incidents, client.InNamespace(event.Namespace), client.MatchingFields{indexIncidentEvents: eventKey(event.Spec.Mode, event.Name)},
		client.Limit(1), client.UnsafeDisableDeepCopy)
	switch {
	case err != nil:
		return 0, fmt.Errorf("list the incidents that name event %q: %w", event.Name, err)
	case len(incidents.Items) > 0:
		return namedRetry, nil
	case event.DeletionTimestamp != nil, // another's finalizer
		occurrences(event.Status.Counters) != event.Status.Occurrences, // repeats that were not assessed yet
		slices.ContainsFunc(decisions, func(decision v1alpha1.Decision) bool { return unansweredAboutEvent(&decision) }):
		return guardRetry, nil
	}
	return 0, nil
}

// heldSince says whether an event must stay by now, although a journal names it: it is looked
// at once more just before it is deleted.
func (r *RetentionReconciler) heldSince(ctx context.Context, namespace string, group []audit.Removal) (bool, error) {
	event := &v1alpha1.SecurityEvent{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: group[0].Name}, event)
	if err != nil || event.UID != group[0].UID {
		return false, client.IgnoreNotFound(err)
	}
	decisions, err := r.decisions(ctx, namespace, v1alpha1.SubjectSecurityEvent, event.Name)
	if err != nil {
		return false, err
	}
	for i := range decisions {
		if !slices.ContainsFunc(group, func(removal audit.Removal) bool { return removal.UID == decisions[i].UID }) {
			return true, nil // a new one, which is not journaled
		}
	}
	held, err := r.held(ctx, event, decisions)
	return held > 0, err
}

// decisions are those about a subject, as the cache has them: they must not be changed.
func (r *RetentionReconciler) decisions(ctx context.Context, namespace string, kind v1alpha1.SubjectKind, name string) ([]v1alpha1.Decision, error) {
	list := &v1alpha1.DecisionList{}
	err := r.Client.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{indexDecisionSubject: subjectKey(kind, name)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list the Decisions about %s %q: %w", kind, name, err)
	}
	return list.Items, nil
}

// try deletes an object, and says whether it stays: it has changed, or the API server will not
// have it deleted, which holds up no others. What was gone before was not deleted.
func (r *RetentionReconciler) try(ctx context.Context, namespace string, head *journalHead, removal *audit.Removal) (stays, deleted bool, err error) {
	switch err = r.delete(ctx, namespace, removal); {
	case apierrors.IsConflict(err):
		return true, false, nil
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		if head.refused == nil {
			head.refused = map[types.UID]time.Time{}
		}
		head.refused[removal.UID] = r.Clock.Now()
		r.tellRefused(ctx, namespace, removal, err)
		return true, false, nil
	case client.IgnoreNotFound(err) != nil:
		return false, false, fmt.Errorf("delete %s %q: %w", removal.Kind, removal.Name, err)
	}
	delete(head.refused, removal.UID)
	return false, err == nil, nil
}

// refusedFor is for how long an object is not tried to delete, because that was refused.
func (r *RetentionReconciler) refusedFor(head *journalHead, uid types.UID) time.Duration {
	if at, refused := head.refused[uid]; refused {
		return max(0, refusedRetry-r.Clock.Now().Sub(at))
	}
	return 0
}

// keptBecause says in words why an incident must stay, by all that is known of it and by its
// evidence, which it reads: a piece under legal hold holds its incident. Empty is that it may go.
func (r *RetentionReconciler) keptBecause(ctx context.Context, known *incidentParts) (why string, evidence []v1alpha1.Evidence, err error) {
	if why = lifecycle.KeptBecause(known.Retained); why != "" {
		return why, nil, nil
	}
	evidence, err = r.Journals.EvidenceOf(ctx, known.Incident.Namespace, known.Incident.Name)
	if err != nil {
		return "", nil, err
	}
	known.Holds = append(known.Holds, lifecycle.LegalHolds(evidence)...)
	return lifecycle.KeptBecause(known.Retained), evidence, nil
}

// orphanHolds say in words what needs the evidence of an incident that is gone.
func (r *RetentionReconciler) orphanHolds(ctx context.Context, namespace, incident string) ([]string, error) {
	related, lessons := &v1alpha1.IncidentList{}, &v1alpha1.LessonLearnedList{}
	err := errors.Join(
		r.Client.List(ctx, related, client.InNamespace(namespace), client.MatchingFields{indexIncidentRelated: incident}),
		r.Client.List(ctx, lessons, client.InNamespace(namespace), client.MatchingFields{indexLessonIncidents: incident}),
	)
	if err != nil {
		return nil, fmt.Errorf("list what needs incident %q, which is gone: %w", incident, err)
	}
	return lifecycle.OrphanHolds(incident, related.Items, lessons.Items), nil
}

// isLost says whether the bytes of a journal are gone for good.
func isLost(err error) bool {
	return errors.Is(err, evidence.ErrNotStored) || errors.Is(err, evidence.ErrChanged)
}
