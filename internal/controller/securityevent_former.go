package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Isolation takes labels off a pod, and so takes it out of its workload, and a playbook may
// delete it: a later alert about it would correlate by another name, and open another incident.
// What an incident has on record of that very pod tells its workload then. Only UIDs count, which
// nobody chooses: no label, annotation or name of a pod leads an event anywhere.

// podKey is how indexIncidentPods knows a pod. A drill tells nothing about what is live.
func podKey(mode v1alpha1.Mode, uid v1alpha1.ObjectUID) string {
	return string(mode.OrLive()) + "/" + string(uid)
}

// podsOfIncident are the pods that an incident was found to be about, while it is not closed.
func podsOfIncident(object client.Object) []string {
	incident, ok := object.(*v1alpha1.Incident)
	if !ok || incident.Status.Phase == v1alpha1.PhaseClosed {
		return nil
	}
	var keys []string
	for i := range incident.Status.Resources {
		if known := &incident.Status.Resources[i]; isKnownPod(known) {
			keys = append(keys, podKey(incident.Spec.Mode, known.UID))
		}
	}
	return keys
}

// isKnownPod says that Firebreak has seen the pod itself, by the UID that is on record, and that
// nobody has found since that it does not belong to the incident.
func isKnownPod(known *v1alpha1.IncidentResource) bool {
	return known.State == v1alpha1.ResourcePresent && known.APIVersion == "v1" && known.Kind == "Pod" && known.UID != ""
}

// formerWorkload gives the workload that the pod an event names first had, by an incident that
// knows the pod with this UID. Empty when none does.
func (r *SecurityEventReconciler) formerWorkload(ctx context.Context, event *v1alpha1.SecurityEvent, uid v1alpha1.ObjectUID) (string, error) {
	if err := r.promoter.known.ensureComplete(ctx, event.Namespace); err != nil {
		return "", err
	}
	list := &v1alpha1.IncidentList{}
	err := r.Client.List(ctx, list, client.InNamespace(event.Namespace), client.MatchingFields{indexIncidentPods: podKey(event.Spec.Mode, uid)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return "", fmt.Errorf("list the incidents that know pod %s: %w", uid, err)
	}
	pod := event.Spec.Resources[0]
	pod.UID = uid
	return formerWorkload(list.Items, &pod, func(incident *v1alpha1.Incident, name string) *v1alpha1.SecurityEvent {
		return r.assessedEvent(ctx, incident, name)
	}), nil
}

// formerWorkload decides by which name events of a pod correlate that has no workload any more:
// by that which the event that brought it into an incident was assessed with, the oldest first, so
// that it is the same; or else, when none tells, by the owner that a playbook's ServiceAccount has seen.
func formerWorkload(incidents []v1alpha1.Incident, pod *v1alpha1.ResourceReference, eventOf func(*v1alpha1.Incident, string) *v1alpha1.SecurityEvent) string {
	oldest := make([]*v1alpha1.Incident, 0, len(incidents))
	for i := range incidents {
		oldest = append(oldest, &incidents[i])
	}
	slices.SortFunc(oldest, func(a, b *v1alpha1.Incident) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	seen := ""
	for _, incident := range oldest {
		for i := range incident.Status.Resources {
			known := &incident.Status.Resources[i]
			if !isKnownPod(known) || known.UID != pod.UID || !sameObject(&known.ResourceReference, pod) {
				continue
			}
			opener := known.EventRef.Name
			if opener == "" && len(incident.Spec.EventRefs) > 0 {
				opener = incident.Spec.EventRefs[0].Name
			}
			assessed := eventOf(incident, opener)
			if assessed != nil && len(assessed.Spec.Resources) > 0 && sameObject(&assessed.Spec.Resources[0], pod) && assessed.Status.Assessment.Workload != "" {
				return assessed.Status.Assessment.Workload
			}
			seen = cmp.Or(seen, known.Workload.Name)
		}
	}
	return seen
}

// assessedEvent gives an event of an incident with what was assessed of it, also while the event
// does not say so yet. Nil when there is none, or it belongs to another incident.
func (r *SecurityEventReconciler) assessedEvent(ctx context.Context, incident *v1alpha1.Incident, name string) *v1alpha1.SecurityEvent {
	event := &v1alpha1.SecurityEvent{}
	if name == "" || r.Client.Get(ctx, client.ObjectKey{Namespace: incident.Namespace, Name: name}, event) != nil {
		return nil // the cache answers, or the event is gone
	}
	if opened, _, ok := r.opened.get(event, r.Clock.Now()); ok && event.Status.Assessment.Outcome == "" {
		event.Status.Assessment, event.Status.IncidentRef.Name = opened.record, opened.incident
	}
	if event.Status.IncidentRef.Name != incident.Name {
		return nil
	}
	return event
}
