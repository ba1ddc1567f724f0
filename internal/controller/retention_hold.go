package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/classify"
	"github.com/firebreak-dev/firebreak/internal/evidence"
)

const (
	// indexIncidentEvents finds the Incidents that name an event, by its name.
	indexIncidentEvents = "firebreak.incidentEvents"
	// namedRetry is how long an event stays at least that an incident names: as a rule for as
	// long as the incident.
	namedRetry = 10 * time.Minute

	kindDecision = "Decision"
)

// eventsOfIncident are the events that an incident names: that opened it, or were detached.
func eventsOfIncident(object client.Object) []string {
	incident, ok := object.(*v1alpha1.Incident)
	if !ok {
		return nil
	}
	var names []string
	for _, reference := range incident.Spec.EventRefs {
		names = append(names, reference.Name)
	}
	for i := range incident.Status.DetachedEvents {
		names = append(names, incident.Status.DetachedEvents[i].Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// held says whether an event whose time is over must stay nevertheless, and when to look
// again; zero is that it may go.
func (r *RetentionReconciler) held(ctx context.Context, event *v1alpha1.SecurityEvent, decisions []v1alpha1.Decision) (time.Duration, error) {
	incidents := &v1alpha1.IncidentList{}
	err := r.Client.List(ctx, incidents, client.InNamespace(event.Namespace), client.MatchingFields{indexIncidentEvents: event.Name},
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
	decisions, err := decisionsAbout(ctx, r.Client, namespace, v1alpha1.SubjectSecurityEvent, event.Name)
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

// isLost says whether the bytes of a journal are gone for good.
func isLost(err error) bool {
	return errors.Is(err, evidence.ErrNotStored) || errors.Is(err, evidence.ErrChanged)
}

// tellLost tells by a Kubernetes Event that the bytes of the last journal are lost. Its name
// follows from the journal, so that another try finds it.
func (r *RetentionReconciler) tellLost(ctx context.Context, journal *v1alpha1.Evidence, lost error) error {
	sum := sha256.Sum256([]byte(journal.UID))
	told := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: journal.Namespace, Name: journal.Name + ".lost-" + hex.EncodeToString(sum[:8])},
		EventTime:           metav1.NewMicroTime(r.Clock.Now()),
		ReportingController: audit.Controller,
		ReportingInstance:   audit.Controller,
		Action:              "Retain",
		Reason:              v1alpha1.ReasonRetentionJournalLost,
		Type:                corev1.EventTypeWarning,
		Note: classify.Line(fmt.Sprintf("what was on record about the objects that evidence '%s' names is lost; retention goes on after it, "+
			"and 'kubectl firebreak verify --retention' will say so: restore the store from a backup: %v", journal.Name, lost), 1000),
		Regarding: corev1.ObjectReference{
			APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Evidence",
			Namespace: journal.Namespace, Name: journal.Name, UID: journal.UID,
		},
	}
	if err := r.Client.Create(ctx, told); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("tell that evidence %q is lost: %w", journal.Name, err)
	}
	return nil
}
