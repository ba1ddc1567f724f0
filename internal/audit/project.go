package audit

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// Controller is the reporting controller of every Event.
	Controller = "firebreak.dev/manager"
	// maxNote is the longest note an Event can have, in bytes.
	maxNote = 1024
)

// Project creates the Kubernetes Event of one timeline entry. Its name follows from the
// entry's hash, so that doing it again finds it done. The recorder of client-go is not
// used: it drops and coalesces.
func Project(ctx context.Context, writer client.Client, incident *v1alpha1.Incident, entry v1alpha1.TimelineEntry) error {
	event := EventOf(incident, entry)
	err := writer.Create(ctx, event)
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return fmt.Errorf("event of timeline entry %d: %w", entry.Sequence, err)
}

// EventOf gives the Event of one timeline entry.
func EventOf(incident *v1alpha1.Incident, entry v1alpha1.TimelineEntry) *eventsv1.Event {
	name := incident.Name
	if len(name) > 200 {
		name = name[:200]
	}
	kind := corev1.EventTypeNormal
	switch entry.Outcome {
	case "Failed", "Refused", "Escalated", "Stale", "NotShown":
		kind = corev1.EventTypeWarning
	}
	if entry.Action == "Stalled" {
		kind = corev1.EventTypeWarning
	}
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: incident.Namespace, Name: strings.TrimRight(name, ".-") + "." + entry.Hash[:16],
			Labels: map[string]string{v1alpha1.LabelIncident: incident.Name},
		},
		EventTime:           metav1.NewMicroTime(entry.Time.Time),
		ReportingController: Controller,
		ReportingInstance:   Controller,
		Action:              entry.Action,
		Reason:              entry.Action,
		Type:                kind,
		Note:                note(incident.Spec.Mode, entry),
		Regarding: corev1.ObjectReference{
			APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Incident",
			Namespace: incident.Namespace, Name: incident.Name, UID: incident.UID,
		},
	}
}

// note says what the entry says, in at most 1024 bytes, and whether it is about a drill.
func note(mode v1alpha1.Mode, entry v1alpha1.TimelineEntry) string {
	var parts []string
	if mode == v1alpha1.ModeDrill {
		parts = append(parts, "DRILL")
	}
	parts = append(parts, fmt.Sprintf("#%d", entry.Sequence))
	for _, part := range []string{entry.Step, entry.Resource, entry.Outcome} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	text := strings.Join(parts, " ")
	if entry.Message != "" {
		text += ": " + entry.Message
	}
	text += " (by " + entry.Actor + ")"
	if len(text) <= maxNote {
		return text
	}
	cut := maxNote - len("…")
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
