package controller

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// indexClosedHour finds the Incidents that were closed within an hour, by its number.
	indexClosedHour = "firebreak.closedHour"
	// indexIncidentRelated finds the Incidents that are related to an earlier one, by its name.
	indexIncidentRelated = "spec.relatedTo.name"
	// indexLessonIncidents finds the lessons of an Incident, by its name.
	indexLessonIncidents = "spec.incidentRefs"
	// keptRetry is how long an incident stays at least that something needs.
	keptRetry = time.Hour

	kindIncident, kindSecurityEvent = "Incident", "SecurityEvent"
)

// indexRetained adds the indexes by which closed incidents are found, and what needs them.
func indexRetained(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range []struct {
		object client.Object
		field  string
		values client.IndexerFunc
	}{
		{&v1alpha1.Incident{}, indexClosedHour, func(object client.Object) []string {
			if hour, ok := closedHour(object); ok {
				return []string{strconv.FormatInt(hour, 10)}
			}
			return nil
		}},
		{&v1alpha1.Incident{}, indexIncidentRelated, func(object client.Object) []string {
			if incident, ok := object.(*v1alpha1.Incident); ok {
				return nonEmpty(incident.Spec.RelatedTo.Name)
			}
			return nil
		}},
		{&v1alpha1.LessonLearned{}, indexLessonIncidents, func(object client.Object) []string {
			var names []string
			if lesson, ok := object.(*v1alpha1.LessonLearned); ok {
				for _, reference := range lesson.Spec.IncidentRefs {
					names = append(names, reference.Name)
				}
			}
			return names
		}},
	} {
		if err := indexer.IndexField(ctx, index.object, index.field, index.values); err != nil {
			return fmt.Errorf("index %s: %w", index.field, err)
		}
	}
	return nil
}

// closedHour is the hour in which an incident was closed, in hours since 1970.
func closedHour(object client.Object) (int64, bool) {
	incident, ok := object.(*v1alpha1.Incident)
	if !ok {
		return 0, false
	}
	at, closed := lifecycle.ClosedAt(&incident.Status)
	return at.Unix() / int64(time.Hour/time.Second), closed
}

// noteClosed takes down in which hours incidents were closed.
func (r *RetentionReconciler) noteClosed(ctx context.Context, object client.Object) []reconcile.Request {
	hour, ok := closedHour(object)
	if !ok || !r.closed.note(object.GetNamespace(), hour) {
		return nil
	}
	return planOfDomain(ctx, object)
}

func planOfDomain(_ context.Context, object client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: v1alpha1.ResponsePlanName}}}
}

// incidentOf names the incident with which a removal belongs together; empty when it is none's.
func incidentOf(removal *audit.Removal) string {
	if removal.Kind == kindIncident {
		return removal.Name
	}
	return removal.With
}

// removeClosedHour deletes a batch of the incidents that were closed within an hour.
func (r *RetentionReconciler) removeClosedHour(ctx context.Context, namespace string, hour int64, head *journalHead, because string) (taken, error) {
	list := &v1alpha1.IncidentList{}
	err := r.Client.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{indexClosedHour: strconv.FormatInt(hour, 10)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return taken{}, fmt.Errorf("list the closed incidents of namespace %q: %w", namespace, err)
	}
	if len(list.Items) == 0 {
		r.closed.forget(namespace, hour)
		return taken{}, nil
	}
	took := taken{}
	for i := range list.Items {
		one, err := r.takeIncident(ctx, &list.Items[i], head, removalBatch-len(took.removals))
		if err != nil {
			return taken{}, err
		}
		took.removals, took.wait = append(took.removals, one.removals...), sooner(took.wait, one.wait)
		if len(took.removals) >= removalBatch {
			break
		}
	}
	if len(took.removals) == 0 {
		return took, nil
	}
	r.stamp(head, took.removals, because)
	return took, r.remove(ctx, namespace, head, took.removals)
}

// takeIncident is what is on record about an incident and its parts, the parts first. Of one
// with more parts than there is room for it is as many events as there is; the incident comes
// in a later batch, and with it all that is needed to check its record. One that must stay is
// left out, and that is told.
func (r *RetentionReconciler) takeIncident(ctx context.Context, cached *v1alpha1.Incident, head *journalHead, room int) (taken, error) {
	if wait := r.refusedFor(head, cached.UID); wait > 0 {
		return taken{wait: wait}, nil
	}
	if head.journaled[cached.UID] == cached.ResourceVersion {
		return taken{wait: conflictRetry}, nil // the cache has yet to see what became of it
	}
	known, err := r.partsOf(ctx, cached.DeepCopy())
	if err != nil {
		return taken{}, err
	}
	parts := known.removals()
	for i := range parts {
		if wait := r.refusedFor(head, parts[i].UID); wait > 0 {
			return taken{wait: wait}, nil
		}
		if head.journaled[parts[i].UID] == parts[i].ResourceVersion {
			return taken{wait: conflictRetry}, nil
		}
	}
	why, evidence, err := r.keptBecause(ctx, known)
	if err != nil {
		return taken{}, err
	}
	if why != "" {
		r.tellKept(ctx, head, cached, why)
		return taken{wait: keptRetry}, nil
	}
	over := r.overWith(known, evidence)
	switch events := parts[:len(parts)-len(known.about)]; {
	case len(parts)+len(over) < room:
	case room < removalBatch:
		return taken{}, nil // in the next batch
	case len(events) > 0:
		return taken{removals: firstEvents(events, room)}, nil
	}
	over = over[:min(len(over), max(0, removalBatch-1-len(parts)))] // the others go after it, as those of an incident that is gone
	closed, _ := lifecycle.ClosedAt(&known.Incident.Status)
	last := audit.RemovalOfIncident(known.Incident, metav1.NewTime(closed.UTC()), known.about, evidence)
	return taken{removals: append(append(parts, over...), last)}, nil
}

// firstEvents are the first removals for which there is room. The Decisions about the last
// event among them are with it.
func firstEvents(events []audit.Removal, room int) []audit.Removal {
	end := min(room, len(events))
	for end < len(events) && events[end].Kind == kindDecision {
		end++
	}
	return events[:end]
}

// incidentParts is an incident, what goes with it, and what may need it.
type incidentParts struct {
	lifecycle.Retained
	// about are the Decisions about the incident itself, aboutEvents those about its events.
	about       []v1alpha1.Decision
	aboutEvents map[string][]v1alpha1.Decision
}

// removals takes down the parts in the order in which they go: each event before the Decisions
// about it, and last those about the incident.
func (p *incidentParts) removals() []audit.Removal {
	var removals []audit.Removal
	for i := range p.Events {
		removals = append(removals, audit.RemovalOfEvent(&p.Events[i]))
		for j := range p.aboutEvents[p.Events[i].Name] {
			removals = append(removals, audit.RemovalOfDecision(&p.aboutEvents[p.Events[i].Name][j]))
		}
	}
	for i := range p.about {
		removals = append(removals, audit.RemovalOfDecision(&p.about[i]))
	}
	for i := range removals {
		removals[i].With = p.Incident.Name
	}
	return removals
}

// partsOf reads an incident's parts, and what may need it, as the cache has them: there may be
// thousands of events, which are looked at in each round. None of it must be changed.
func (r *RetentionReconciler) partsOf(ctx context.Context, incident *v1alpha1.Incident) (*incidentParts, error) {
	parts := &incidentParts{Retained: lifecycle.Retained{Incident: incident}, aboutEvents: map[string][]v1alpha1.Decision{}}
	var err error
	if parts.Plan, err = planOf(ctx, r.Client, incident.Namespace); err != nil {
		return nil, err
	}
	events, lessons := &v1alpha1.SecurityEventList{}, &v1alpha1.LessonLearnedList{}
	if err := r.Client.List(ctx, events, client.InNamespace(incident.Namespace), client.MatchingFields{indexEventIncident: incident.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the events of incident %q: %w", incident.Name, err)
	}
	parts.Events = events.Items
	slices.SortFunc(parts.Events, func(a, b v1alpha1.SecurityEvent) int { return compareNames(&a, &b) })
	if err := r.Client.List(ctx, lessons, client.InNamespace(incident.Namespace), client.MatchingFields{indexLessonIncidents: incident.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the lessons of incident %q: %w", incident.Name, err)
	}
	parts.Lessons = lessons.Items
	if parts.about, err = r.decisions(ctx, incident.Namespace, v1alpha1.SubjectIncident, incident.Name); err != nil {
		return nil, err
	}
	slices.SortFunc(parts.about, func(a, b v1alpha1.Decision) int { return compareNames(&a, &b) })
	parts.Decisions = append(parts.Decisions, parts.about...)
	for i := range parts.Events {
		name := parts.Events[i].Name
		about, err := r.decisions(ctx, incident.Namespace, v1alpha1.SubjectSecurityEvent, name)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(about, func(a, b v1alpha1.Decision) int { return compareNames(&a, &b) })
		parts.aboutEvents[name], parts.Decisions = about, append(parts.Decisions, about...)
	}
	parts.Others, err = r.othersOf(ctx, incident, parts.Events)
	return parts, err
}

// othersOf reads the incidents that refer to one, that it is a duplicate of, and that name one
// of its events.
func (r *RetentionReconciler) othersOf(ctx context.Context, incident *v1alpha1.Incident, events []v1alpha1.SecurityEvent) ([]v1alpha1.Incident, error) {
	fields := []client.MatchingFields{{indexIncidentRelated: incident.Name}, {indexIncidentOriginal: incident.Name}}
	for i := range events {
		fields = append(fields, client.MatchingFields{indexIncidentEvents: eventKey(events[i].Spec.Mode, events[i].Name)})
	}
	var others []v1alpha1.Incident
	for _, field := range fields {
		list := &v1alpha1.IncidentList{}
		if err := r.Client.List(ctx, list, client.InNamespace(incident.Namespace), field, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list the incidents that refer to %q: %w", incident.Name, err)
		}
		others = append(others, list.Items...)
	}
	names := duplicateNames(incident)
	if of := incident.Status.DuplicateOf.Name; of != "" {
		names = append(names, of)
	}
	for _, name := range names {
		other := v1alpha1.Incident{}
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: incident.Namespace, Name: name}, &other)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read incident %q: %w", name, err)
		}
		if err == nil {
			others = append(others, other)
		}
	}
	return others, nil
}

// removeParts deletes parts of an incident, but first the incident where it is in the group:
// when that has changed since it was journaled, or must stay by now, all of it stays. Of what
// goes before the incident nothing goes after a part that has changed, and what goes after it
// goes but for that part. The Decisions about an event stay with it.
func (r *RetentionReconciler) removeParts(ctx context.Context, namespace string, head *journalHead, group []audit.Removal) error {
	stays, err := r.staysSince(ctx, namespace, head, group)
	if err != nil || stays {
		return err
	}
	parts, last := group, &group[len(group)-1]
	if last.Kind == kindIncident {
		if gone, err := r.removeIncident(ctx, namespace, head, last); err != nil || !gone {
			return err
		}
		parts = group[:len(group)-1]
	}
	kept := map[types.UID]bool{}
	event := types.UID("")
	for i := range parts {
		removal := &parts[i]
		if removal.Kind == kindSecurityEvent {
			event = removal.UID
		}
		if removal.Kind == kindEvidence {
			holds, err := r.orphanHolds(ctx, namespace, removal.Evidence.IncidentRef.Name)
			if err != nil {
				return err
			}
			if kept[removal.UID] = len(holds) > 0; len(holds) > 0 {
				continue
			}
		}
		if removal.Kind == kindDecision && removal.Decision.Subject.Kind == v1alpha1.SubjectSecurityEvent && kept[event] {
			continue
		}
		stays, _, err := r.try(ctx, namespace, head, removal)
		if err != nil {
			return err
		}
		head.journaled[removal.UID] = removal.ResourceVersion
		switch {
		case stays && last.Kind != kindIncident:
			return nil
		case stays:
			kept[removal.UID] = true
		case removal.Kind == kindEvidence:
			head.unswept = append(head.unswept, removal.Location)
		}
	}
	if last.Kind == kindIncident {
		r.noteOrphans(namespace, head, group, kept)
	}
	return nil
}

// removeIncident deletes an incident, and says whether it is gone.
func (r *RetentionReconciler) removeIncident(ctx context.Context, namespace string, head *journalHead, removal *audit.Removal) (gone bool, err error) {
	stays, deleted, err := r.try(ctx, namespace, head, removal)
	if err != nil {
		return false, err
	}
	head.journaled[removal.UID] = removal.ResourceVersion
	if stays {
		return false, nil
	}
	delete(head.kept, removal.UID)
	if deleted {
		r.tellRemoved(ctx, namespace, removal)
	}
	return true, nil
}

// staysSince says whether an incident must stay by now, although a journal names it or parts of
// it: it is looked at once more just before. It stays, too, when it has got a part since.
func (r *RetentionReconciler) staysSince(ctx context.Context, namespace string, head *journalHead, group []audit.Removal) (bool, error) {
	incident := &v1alpha1.Incident{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: incidentOf(&group[0])}, incident)
	if err != nil {
		return false, client.IgnoreNotFound(err) // what is left of it is journaled
	}
	known, err := r.partsOf(ctx, incident)
	if err != nil {
		return false, err
	}
	if why, _, err := r.keptBecause(ctx, known); err != nil || why != "" {
		return true, err
	}
	if group[len(group)-1].Kind != kindIncident {
		return false, nil
	}
	for _, part := range known.removals() {
		journaled := slices.ContainsFunc(group, func(removal audit.Removal) bool { return removal.UID == part.UID })
		if !journaled && head.journaled[part.UID] != part.ResourceVersion {
			return true, nil
		}
	}
	return false, nil
}

func compareNames(a, b client.Object) int {
	switch {
	case a.GetName() < b.GetName():
		return -1
	case a.GetName() > b.GetName():
		return 1
	}
	return 0
}
