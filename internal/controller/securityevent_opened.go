package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

const (
	// tellAfter is how long after its incident was opened an event is told so: by then what
	// the incident contains first is contained, and does not share the API server with it.
	tellAfter = 250 * time.Millisecond
	// tellBy is how long what was assessed is believed; after that the event is assessed anew.
	tellBy = 10 * time.Second
)

// openedIncidents remember what was assessed of events whose incident was just opened, and
// that do not say so yet. They are in memory only: whoever assesses the event anew finds
// the incident that it has opened.
type openedIncidents struct {
	mu sync.Mutex
	of map[client.ObjectKey]openedIncident
}

type openedIncident struct {
	event    types.UID
	assessed *classify.Assessment
	record   v1alpha1.Assessment
	incident string
	// occurrences are those the event had then: of the others the incident may take up none.
	occurrences int64
	at          time.Time
}

// note remembers the assessment by which an event has opened its incident.
func (o *openedIncidents) note(event *v1alpha1.SecurityEvent, assessed *classify.Assessment, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil {
		o.of = map[client.ObjectKey]openedIncident{}
	}
	o.of[client.ObjectKeyFromObject(event)] = openedIncident{
		event: event.UID, assessed: assessed, at: now,
		record: event.Status.Assessment, incident: event.Status.IncidentRef.Name, occurrences: event.Status.Occurrences,
	}
}

// get gives what was assessed of an event that has just opened its incident, and how long
// it is still to wait.
func (o *openedIncidents) get(event *v1alpha1.SecurityEvent, now time.Time) (opened openedIncident, wait time.Duration, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	opened, ok = o.of[client.ObjectKeyFromObject(event)]
	age := now.Sub(opened.at)
	if !ok || opened.event != event.UID || age < 0 || age > tellBy {
		return openedIncident{}, 0, false
	}
	return opened, max(tellAfter-age, 0), true
}

func (o *openedIncidents) forget(event client.ObjectKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.of, event)
}

// openedBefore decides about an event that nobody has decided about although it has opened an
// incident, before a crash: it belongs to that, whatever the policies say by now.
func (r *SecurityEventReconciler) openedBefore(ctx context.Context, event *v1alpha1.SecurityEvent, now *classify.Assessment) (bool, error) {
	if event.Status.Assessment.Outcome != "" {
		return false, nil
	}
	opened, err := r.promoter.known.opened(ctx, event)
	if err != nil || opened == nil || opened.Spec.Rule == "" {
		return false, err // what a person has opened is for the Decision
	}
	record := now.Record
	if now.Incident == nil || now.Incident.Rule != opened.Spec.Rule {
		record.Policy, record.Rule, record.Reason = v1alpha1.PolicyGeneration{}, "", v1alpha1.ReasonOpenedBefore
		record.Message = fmt.Sprintf("it had opened incident %s by rule %s, which could not be written then; what the policies say by now does not change that",
			opened.Name, opened.Spec.Rule)
		now.Until, now.Incident = time.Time{}, nil
	}
	record.Outcome, record.By, record.Time = v1alpha1.OutcomePromoted, r.ManagerUser, metav1.NewTime(r.Clock.Now())
	record.Message = classify.Line(record.Message, maxAssessmentMessage)
	now.Record = record
	r.apply(event, record, opened.Name)
	if over(opened) {
		event.Status.Occurrences = 1 // who was seen since needs another incident
	}
	return true, nil
}
