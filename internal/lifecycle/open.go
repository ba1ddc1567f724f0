package lifecycle

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxResources is how many resources an incident keeps.
const maxResources = 128

// open makes the first record of an incident.
func (m *machine) open() {
	status, spec := m.status, &m.incident.Spec
	status.ObservedGeneration = m.incident.Generation
	if status.Phase != "" {
		return
	}
	status.Phase = v1alpha1.PhaseAssessment
	status.Severity = spec.Severity
	status.Category = spec.Category
	status.Priority = PriorityOf(spec.Severity, spec.Impact)
	status.Times.OccurredTime = spec.OccurredTime.DeepCopy()
	status.Times.DetectedTime = spec.DetectedTime.DeepCopy()
	aware := m.incident.CreationTimestamp
	if aware.IsZero() {
		aware = m.now
	}
	if status.Times.DetectedTime == nil {
		status.Times.DetectedTime = aware.DeepCopy()
	}
	status.Times.AwareTime = aware.DeepCopy()
	m.once(&status.Times.ClassifiedTime)
	for _, determination := range spec.Determinations {
		status.Determinations = append(status.Determinations, v1alpha1.IncidentDetermination{Determination: determination, Time: m.now})
	}
	for _, resource := range spec.Resources {
		m.addResource(v1alpha1.IncidentResource{
			ResourceReference: resource, EventRef: m.opener(),
			SubmittedBy: spec.SubmittedBy, Rule: spec.Rule,
		})
	}
	message := fmt.Sprintf("%s incident of category %s: %s", spec.Severity, spec.Category, spec.Title)
	if IsDrill(m.incident) {
		message = "DRILL: " + message
	}
	if spec.Rule != "" {
		message += fmt.Sprintf(" (rule %s, event of %s)", spec.Rule, spec.SubmittedBy)
	}
	m.log(v1alpha1.TimelineEntry{Action: "IncidentOpened", Outcome: "Succeeded", Message: message})
	if len(m.foreign) > 0 {
		m.log(v1alpha1.TimelineEntry{Action: "EventsRefused", Outcome: "Refused", Message: fmt.Sprintf(
			"not taken in, because the incident is %s and they are not: %s", inWords(m.incident), listed(m.foreign))})
	}
}

// opener is the first event that the incident names, of its own mode.
func (m *machine) opener() v1alpha1.EventReference {
	for _, reference := range m.incident.Spec.EventRefs {
		if !slices.Contains(m.foreign, reference.Name) {
			return reference
		}
	}
	return v1alpha1.EventReference{}
}

// pin takes down which playbook runs, and its steps. What is pinned stays.
func (m *machine) pin() {
	if m.Pin == nil || m.Playbook == nil || m.status.Playbook.Revision != "" || m.status.Resolution != "" || m.waitsForOriginal() {
		return
	}
	m.status.Playbook = *m.Pin
	if runs := m.allowance(m.limits().MaxRunsPerHour); m.RecentRuns >= runs {
		m.status.Playbook.Hold = Cut(m.tooManyRuns(m.incident.Spec.SubmittedBy, m.incident.Spec.Rule, runs), 512)
	}
	for _, phase := range phasesOf(m.Playbook) {
		for i := range phase.steps {
			step := &phase.steps[i]
			m.status.Steps = append(m.status.Steps, v1alpha1.IncidentStep{
				Name: step.Name, Phase: phase.phase, Action: ActionOf(step), State: v1alpha1.StepPending,
			})
		}
	}
	m.log(v1alpha1.TimelineEntry{Action: "PlaybookPinned", Outcome: "Succeeded", Message: fmt.Sprintf(
		"playbook %s, generation %d, pinned as %s; it acts as %s", m.Pin.Name, m.Pin.Generation, m.Pin.Revision, m.actingAs())})
}

type phaseSteps struct {
	phase v1alpha1.Phase
	steps []v1alpha1.PlaybookStep
}

func phasesOf(playbook *v1alpha1.ResponsePlaybookSpec) []phaseSteps {
	return []phaseSteps{
		{v1alpha1.PhaseContainment, playbook.Containment.Steps},
		{v1alpha1.PhaseEradication, playbook.Eradication.Steps},
		{v1alpha1.PhaseRecovery, playbook.Recovery.Steps},
	}
}

// StepOf finds the text of a step of the playbook by its name; nil when there is none.
func StepOf(playbook *v1alpha1.ResponsePlaybookSpec, name string) *v1alpha1.PlaybookStep {
	if playbook == nil {
		return nil
	}
	for _, phase := range phasesOf(playbook) {
		for i := range phase.steps {
			if phase.steps[i].Name == name {
				return &phase.steps[i]
			}
		}
	}
	return nil
}

// absorb takes in what further events say: how often, and about which objects and assets. From
// Review on no event joins any more, but one that came just before may still be counted.
func (m *machine) absorb() {
	var count int64
	first := len(m.out.Entries)
	defer func() { m.condense(first) }()
	joins := m.status.Phase.Rank() < v1alpha1.PhaseReview.Rank() && m.status.DuplicateOf.TakenUpTime == nil
	if joins {
		m.ownAssets()
	}
	for i := range m.Events {
		event := &m.Events[i]
		if !m.attached(event) {
			continue
		}
		count += max(event.Status.Occurrences, 1)
		if !joins {
			continue
		}
		for _, resource := range event.Spec.Resources {
			if m.knows(&resource, event) {
				continue
			}
			m.addResource(v1alpha1.IncidentResource{
				ResourceReference: resource, EventRef: v1alpha1.EventReference{Name: event.Name},
				SubmittedBy: event.Spec.SubmittedBy, Rule: ruleOf(event),
			})
		}
		for _, asset := range event.Spec.Assets {
			m.joinAsset(v1alpha1.IncidentAsset{Asset: asset, EventRef: v1alpha1.EventReference{Name: event.Name}}, aboutIt(event.Name, event.Spec.SubmittedBy))
		}
	}
	m.countEvents(count)
	m.countOmitted()
}

// countOmitted takes down how much is left out. What was known to be left out before may be
// counted again: it is in no list.
func (m *machine) countOmitted() {
	status := m.status
	status.OmittedResources = max(status.OmittedResources, int32(len(m.omitted))) //nolint:gosec // at most 32 an event, 128 a duplicate
	status.OmittedAssets = max(status.OmittedAssets, int32(len(m.omittedAssets))) //nolint:gosec // at most 16 an event, 128 a duplicate
}

func aboutIt(event, submitter string) string {
	return fmt.Sprintf("event %s of %s is about it too", event, submitter)
}

// ruleOf is the rule by which an event came, as 'policy/rule'; empty when a person decided.
func ruleOf(event *v1alpha1.SecurityEvent) string {
	assessment := &event.Status.Assessment
	if assessment.Policy.Name == "" {
		return ""
	}
	return assessment.Policy.Name + "/" + assessment.Rule
}

// countEvents raises the count, at most once a second: every repeat of a flood would
// otherwise be a write.
func (m *machine) countEvents(count int64) {
	status := m.status
	if count <= status.EventCount || m.closed() {
		return
	}
	if last := status.LastEventTime; last != nil && status.EventCount > 0 && !m.now.After(last.Time) {
		m.recount = last.Add(time.Second)
		return
	}
	status.EventCount = count
	status.LastEventTime = m.now.DeepCopy()
}

// knows says whether the incident knows the object that an event means. An event that
// came after the object was gone, and names no UID, means its successor.
func (m *machine) knows(resource *v1alpha1.ResourceReference, event *v1alpha1.SecurityEvent) bool {
	if m.omitted[resourceName(resource)] {
		return true
	}
	for i := range m.status.Resources {
		known := &m.status.Resources[i]
		if known.State == v1alpha1.ResourceDetached || !sameResource(known, resource) {
			continue
		}
		successor := known.GoneTime != nil && resource.UID == "" && known.EventRef.Name != event.Name && event.CreationTimestamp.After(known.GoneTime.Time)
		if !successor {
			return true
		}
	}
	return false
}

// addResource adds an object the incident did not know of.
func (m *machine) addResource(resource v1alpha1.IncidentResource) {
	name := resourceName(&resource.ResourceReference)
	if len(m.status.Resources) >= maxResources || !m.roomToJoin() {
		if m.status.OmittedResources == 0 && len(m.omitted) == 0 {
			m.log(v1alpha1.TimelineEntry{Action: "ResourcesOmitted", Outcome: "Failed", Resource: name, Message: fmt.Sprintf(
				"the incident has %d resources already; this one and any further ones are not acted on: look at its events", len(m.status.Resources))})
		}
		m.omitted[name] = true
		return
	}
	m.status.Resources = append(m.status.Resources, resource)
	if len(m.status.Steps) > 0 {
		message := aboutIt(resource.EventRef.Name, resource.SubmittedBy)
		if resource.EventRef.Name == "" {
			message = "named by " + whom(resource.SubmittedBy)
		}
		m.log(v1alpha1.TimelineEntry{Action: "ResourceJoined", Outcome: "Succeeded", Resource: name, Message: message})
	}
}

// sameResource says whether two references mean the same object. A reference without
// a UID means whatever had the name.
func sameResource(known *v1alpha1.IncidentResource, other *v1alpha1.ResourceReference) bool {
	if known.APIVersion != other.APIVersion || known.Kind != other.Kind || known.Namespace != other.Namespace || known.Name != other.Name {
		return false
	}
	return known.UID == "" || other.UID == "" || known.UID == other.UID
}

func resourceName(resource *v1alpha1.ResourceReference) string {
	return objectName(resource.Kind, resource.Namespace, resource.Name)
}

func objectName(kind, namespace, name string) string {
	if namespace == "" {
		return kind + " " + name
	}
	return kind + " " + namespace + "/" + name
}

// forgetAnswers drops answers that the Decisions say themselves by now.
func (m *machine) forgetAnswers() {
	var kept []v1alpha1.DecisionAnswer
	for _, answer := range m.status.Answers {
		if !m.Answered[string(answer.UID)] {
			kept = append(kept, answer)
		}
	}
	m.status.Answers = kept
}

// pause finds out whether automation may go on. When it goes on after a pause, the
// clocks of running steps start anew: nobody is late for time in which nothing may happen.
func (m *machine) pause() {
	stalled := findCondition(m.status.Conditions, v1alpha1.ConditionStalled)
	was := stalled != nil && stalled.Status == metav1.ConditionTrue && stalled.Reason == v1alpha1.ReasonPaused
	m.paused = m.status.PausedBy != "" || m.Automation.Stopped
	switch {
	case m.paused && !was && !m.closed():
		by, why := m.status.PausedBy, ""
		if m.Automation.Stopped {
			by, why = m.Automation.By, m.Automation.Why
		}
		m.log(v1alpha1.TimelineEntry{Action: "AutomationStopped", Outcome: "Succeeded",
			Message: joinWords("stopped by "+by, why) + "; what is isolated stays isolated"})
	case !m.paused && was:
		m.log(v1alpha1.TimelineEntry{Action: "AutomationResumed", Outcome: "Succeeded"})
		for i := range m.status.Steps {
			if step := &m.status.Steps[i]; step.State == v1alpha1.StepRunning {
				step.HoldingTime = nil // nobody has looked whether it held
				m.startClock(step)
			}
		}
	}
}

func joinWords(text, more string) string {
	if more == "" {
		return text
	}
	return text + ": " + more
}
