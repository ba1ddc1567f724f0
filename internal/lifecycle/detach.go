package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxDetached is how many detached events an incident keeps.
const maxDetached = 32

// Detachment finds the Decision by which an event was detached from an incident and which
// the event has not taken down yet; nil when there is none.
func Detachment(incident *v1alpha1.Incident, event *v1alpha1.SecurityEvent) *v1alpha1.DetachedEvent {
	detached := detachmentOf(&incident.Status, event.Name)
	if detached == nil || tookDown(event, detached) {
		return nil
	}
	return detached
}

func detachmentOf(status *v1alpha1.IncidentStatus, event string) *v1alpha1.DetachedEvent {
	for i := range status.DetachedEvents {
		if status.DetachedEvents[i].Name == event {
			return &status.DetachedEvents[i]
		}
	}
	return nil
}

// tookDown says whether an event says itself that it was detached.
func tookDown(event *v1alpha1.SecurityEvent, detached *v1alpha1.DetachedEvent) bool {
	status := &event.Status
	return status.Assessment.DecisionRef == detached.DecisionRef ||
		slices.ContainsFunc(status.EarlierAssessments, func(earlier v1alpha1.Assessment) bool { return earlier.DecisionRef == detached.DecisionRef })
}

// attached says whether an event is the incident's. One that a person has joined to it
// again, after it was detached, is.
func (m *machine) attached(event *v1alpha1.SecurityEvent) bool {
	detached := detachmentOf(m.status, event.Name)
	if detached == nil {
		return true
	}
	if event.Status.IncidentRef.Name != m.incident.Name || !tookDown(event, detached) {
		return false
	}
	if m.status.Phase.Rank() < v1alpha1.PhaseReview.Rank() {
		m.attachAgain(event)
	}
	return true
}

// attachAgain has what a detached event has named looked at anew.
func (m *machine) attachAgain(event *v1alpha1.SecurityEvent) {
	m.status.DetachedEvents = slices.DeleteFunc(m.status.DetachedEvents, func(one v1alpha1.DetachedEvent) bool { return one.Name == event.Name })
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		if resource.State == v1alpha1.ResourceDetached && resource.EventRef.Name == event.Name {
			resource.State, resource.Message, resource.GoneTime = "", "", nil
		}
	}
	m.log(v1alpha1.TimelineEntry{Actor: event.Status.Assessment.By, Decision: event.Status.Assessment.DecisionRef.Name,
		Action: "EventJoinedAgain", Outcome: "Succeeded", Message: "event " + event.Name + " belongs to the incident again"})
}

// detachEvent takes in that an event does not belong to the incident. The event itself
// says so later: it follows what is written here.
func (m *machine) detachEvent(decision *v1alpha1.Decision) answer {
	name := decision.Spec.EventRef.Name
	if m.status.Resolution != "" {
		return refuse(v1alpha1.ReasonAlreadyDecided, "the incident is being closed as %s", m.status.Resolution)
	}
	if detached := detachmentOf(m.status, name); detached != nil {
		return refuse(v1alpha1.ReasonAlreadyDecided, "event '%s' was detached already, by %s", name, detached.By)
	}
	at := slices.IndexFunc(m.Events, func(event v1alpha1.SecurityEvent) bool { return event.Name == name })
	if at < 0 {
		return refuse(v1alpha1.ReasonNoSuchEvent, "event '%s' does not belong to the incident", name)
	}
	var count int64
	others := 0
	for i := range m.Events {
		if i != at && m.attached(&m.Events[i]) {
			others++
			count += max(m.Events[i].Status.Occurrences, 1)
		}
	}
	if others == 0 && slices.Contains(m.incident.Spec.EventRefs, v1alpha1.EventReference{Name: name}) {
		return refuse(v1alpha1.ReasonNotAllowed, "event '%s' is all that the incident is about: close the incident as 'FalsePositive' instead", name)
	}
	if len(m.status.DetachedEvents) >= maxDetached {
		return refuse(v1alpha1.ReasonNotAllowed, "%d events were detached already: that is the most", maxDetached)
	}
	m.status.DetachedEvents = append(m.status.DetachedEvents, v1alpha1.DetachedEvent{
		Name: name, By: decision.Spec.By, DecisionRef: v1alpha1.DecisionReference{Name: decision.Name}, Time: m.now,
	})
	m.status.EventCount, m.recount = count, time.Time{}
	given, standing := m.detachResources(name, decision.Spec.By)
	message := fmt.Sprintf("event %s does not belong to the incident; a person must decide about it", name)
	if len(given) > 0 {
		message += "; no further step acts on " + listed(given)
	}
	if assets := m.detachAssets(name); len(assets) > 0 {
		message += "; it is no longer about " + listed(assets)
	}
	if len(standing) > 0 {
		message += "; what was done stays: " + listed(standing)
	}
	return accept(message)
}

// listed names a few and counts the rest.
func listed(names []string) string {
	const most = 6
	return strings.Join(names[:min(len(names), most)], ", ") + andMore(len(names)-most)
}

// detachResources gives up what an event alone has named. It lists that, and the effects
// on it that stand.
func (m *machine) detachResources(event, by string) (given, standing []string) {
	gone := map[v1alpha1.ObjectUID]bool{}
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		if resource.EventRef.Name != event || resource.State == v1alpha1.ResourceDetached || m.namedByOther(resource) {
			continue
		}
		gone[resource.UID], gone[resource.Workload.UID] = true, true
		given = append(given, resourceName(&resource.ResourceReference))
		resource.State, resource.Hold = v1alpha1.ResourceDetached, ""
		resource.Message = Cut(fmt.Sprintf("event %s was detached by %s", event, by), 512)
	}
	for i := range m.status.Resources {
		if resource := &m.status.Resources[i]; resource.State == v1alpha1.ResourcePresent {
			delete(gone, resource.UID)
			delete(gone, resource.Workload.UID)
		}
	}
	delete(gone, "")
	if len(given) == 0 {
		return nil, nil
	}
	for i := range m.status.Steps {
		standing = append(standing, m.detachTargets(&m.status.Steps[i], gone)...)
	}
	return given, standing
}

// namedByOther says whether another event of the incident names an object, and makes it
// the one that has.
func (m *machine) namedByOther(resource *v1alpha1.IncidentResource) bool {
	event := m.otherEvent(resource.EventRef.Name, func(spec *v1alpha1.SecurityEventSpec) bool {
		return slices.ContainsFunc(spec.Resources, func(named v1alpha1.ResourceReference) bool { return sameResource(resource, &named) })
	})
	if event == nil {
		return false
	}
	resource.EventRef.Name, resource.SubmittedBy, resource.Rule = event.Name, event.Spec.SubmittedBy, ruleOf(event)
	return true
}

// otherEvent finds another event of the incident by what it names; nil when there is none.
func (m *machine) otherEvent(than string, names func(*v1alpha1.SecurityEventSpec) bool) *v1alpha1.SecurityEvent {
	for i := range m.Events {
		if event := &m.Events[i]; event.Name != than && m.attached(event) && names(&event.Spec) {
			return event
		}
	}
	return nil
}

// detachTargets takes objects off a step as far as it has done nothing to them, and lists
// what it has done to the others. What a step has looked up is looked up anew.
func (m *machine) detachTargets(step *v1alpha1.IncidentStep, gone map[v1alpha1.ObjectUID]bool) (standing []string) {
	text := m.textOf(step)
	anew := text != nil && Resolves(text) && !stepDone(step) && step.State != v1alpha1.StepFailed
	step.Targets = slices.DeleteFunc(step.Targets, func(target v1alpha1.StepTarget) bool {
		untouched := target.State == v1alpha1.TargetShown || (target.State == v1alpha1.TargetPending || target.State == v1alpha1.TargetHeld) && target.Undo == ""
		if gone[target.UID] && reversible(step, &target) {
			standing = append(standing, step.Name+" of "+objectName(target.Kind, target.Namespace, target.Name))
		}
		return untouched && (gone[target.UID] || anew)
	})
	if step.ResolvedResources == nil {
		return standing
	}
	if anew {
		step.ResolvedResources = nil
		if step.State == v1alpha1.StepAwaitingApproval {
			step.State, step.Digest, step.Message = v1alpha1.StepRunning, "", ""
		}
		return standing
	}
	known := min(*step.ResolvedResources, m.present())
	step.ResolvedResources = &known
	return standing
}
