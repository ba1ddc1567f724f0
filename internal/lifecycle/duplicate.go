package lifecycle

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// maxDuplicates is with how many duplicates an incident goes on.
	maxDuplicates = 32
	// originalLook is how often a duplicate looks at its original, besides when that changes.
	originalLook = 5 * time.Minute
)

// TakesUpNothing says that an incident takes up no further event and no duplicate: it has
// come to its review, was resolved, is a duplicate itself, or is on its way out.
func TakesUpNothing(incident *v1alpha1.Incident) bool {
	status := &incident.Status
	return incident.DeletionTimestamp != nil || status.Resolution != "" || status.Phase.Rank() >= v1alpha1.PhaseReview.Rank() ||
		status.DuplicateOf.TakenUpTime != nil
}

// OriginalOf finds the incident that goes on with a duplicate, as far as each was taken up
// by the next. It is the incident itself when it is no duplicate, and nil when the
// original is not there.
func OriginalOf(incident *v1alpha1.Incident, among map[string]*v1alpha1.Incident) *v1alpha1.Incident {
	seen := map[string]bool{}
	for incident != nil && incident.Status.DuplicateOf.TakenUpTime != nil {
		if seen[incident.Name] {
			return nil
		}
		seen[incident.Name] = true
		incident = among[incident.Status.DuplicateOf.Name]
	}
	return incident
}

// waitsForOriginal says that the incident is a duplicate and does nothing new: what it has
// done stands until its original has come to recovery.
func (m *machine) waitsForOriginal() bool {
	return m.status.DuplicateOf.Name != "" && m.status.Resolution == ""
}

// undoesAll says that everything is undone, and the incident closes after that.
func (m *machine) undoesAll() bool {
	return m.status.Resolution == v1alpha1.ResolutionFalsePositive || m.status.Resolution == v1alpha1.ResolutionDuplicate
}

// whyUndone says why everything is undone.
func (m *machine) whyUndone() string {
	if m.status.Resolution == v1alpha1.ResolutionDuplicate {
		return "the incident is a duplicate of " + m.status.DuplicateOf.Name
	}
	return "the incident is a false positive"
}

func (m *machine) reasonUndone() string {
	if m.status.Resolution == v1alpha1.ResolutionDuplicate {
		return v1alpha1.ReasonDuplicate
	}
	return v1alpha1.ReasonReverted
}

// awaitHolding says why nobody can look whether what a duplicate has done still stands, and
// what it could not carry through.
func (m *machine) awaitHolding() {
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		if why := m.unmadeOf(step); why != "" && m.textOf(step) != nil {
			m.add(v1alpha1.Awaiting{
				Type: v1alpha1.AwaitingFailure, Step: step.Name, Command: m.command("retry", step.Name),
				Message: why + " (see to it, and retry the step; skip it to leave it as it is)",
			})
		}
	}
	if m.Problem != nil && m.left() > 0 {
		m.add(v1alpha1.Awaiting{Type: v1alpha1.AwaitingPlaybook, Message: m.Problem.Message, Command: m.command("show", "")})
	}
}

// markDuplicate takes in that another incident goes on with this one.
func (m *machine) markDuplicate(decision *v1alpha1.Decision) answer {
	name := decision.Spec.IncidentRef.Name
	original := m.Originals[name]
	switch {
	case m.status.Resolution != "":
		return refuse(v1alpha1.ReasonAlreadyDecided, "the incident is being closed as %s", m.status.Resolution)
	case name == m.incident.Name:
		return refuse(v1alpha1.ReasonInvalid, "`incidentRef` must name another incident: none is a duplicate of itself")
	case original == nil:
		return refuse(v1alpha1.ReasonNoSuchIncident, "there is no Incident '%s' in namespace '%s'", name, m.incident.Namespace)
	case !sameMode(original, m.incident):
		return refuse(v1alpha1.ReasonOtherMode, "this incident is %s and incident '%s' is %s: the original must be of the same mode; close this one by itself",
			inWords(m.incident), name, inWords(original))
	case original.Status.DuplicateOf.Name != "":
		return m.refuseChain(original)
	case original.DeletionTimestamp != nil:
		return refuse(v1alpha1.ReasonClosed, "incident '%s' is being deleted", name)
	case TakesUpNothing(original):
		return refuse(v1alpha1.ReasonClosed, "incident '%s' takes up nothing more: it must be before its review, but is in %s; close this one by itself", name, original.Status.Phase)
	case len(original.Status.Duplicates) >= maxDuplicates:
		return refuse(v1alpha1.ReasonNotAllowed, "incident '%s' has %d duplicates already: that is the most", name, maxDuplicates)
	}
	m.status.DuplicateOf = v1alpha1.IncidentOriginal{
		Name: name, By: decision.Spec.By, DecisionRef: v1alpha1.DecisionReference{Name: decision.Name}, Time: m.now,
	}
	return accept(fmt.Sprintf("a duplicate of %s, which goes on with its events and objects; what was done stands until that one has come to recovery", name))
}

// refuseChain names the incident to use instead of one that is a duplicate itself.
func (m *machine) refuseChain(original *v1alpha1.Incident) answer {
	seen := map[string]bool{}
	last := original
	for last.Status.DuplicateOf.Name != "" && !seen[last.Name] {
		seen[last.Name] = true
		next := m.Originals[last.Status.DuplicateOf.Name]
		if last.Status.DuplicateOf.Name == m.incident.Name {
			return refuse(v1alpha1.ReasonDuplicate, "incident '%s' is a duplicate of this one", original.Name)
		}
		if next == nil {
			break
		}
		last = next
	}
	return refuse(v1alpha1.ReasonDuplicate, "incident '%s' is a duplicate itself: mark this one as a duplicate of '%s'", original.Name, orText(last.Status.DuplicateOf.Name, last.Name))
}

// takesAsDuplicate says whether an incident that does nothing new takes a Decision.
func (m *machine) takesAsDuplicate(decision *v1alpha1.Decision) bool {
	switch decision.Spec.Type {
	case v1alpha1.DecisionNote, v1alpha1.DecisionAcknowledge, v1alpha1.DecisionPause, v1alpha1.DecisionResume,
		v1alpha1.DecisionSetSeverity, v1alpha1.DecisionDetermine:
		return true
	case v1alpha1.DecisionClose:
		return decision.Spec.Resolution == v1alpha1.ResolutionFalsePositive
	case v1alpha1.DecisionRetryStep, v1alpha1.DecisionSkipStep:
		step := m.stepNamed(decision.Spec.Step)
		return step != nil && (slices.Contains(m.driftedSteps(), step) || m.unwatchedOf(step) != "" || m.unmadeOf(step) != "")
	default:
		return false
	}
}

// unmade says that a duplicate could not carry through what it had begun. What nobody has
// confirmed is not among it: a duplicate asks for no approval.
func (m *machine) unmade(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) bool {
	return step.State == v1alpha1.StepRunning && TraitOf(step.Action).Held && target.State == v1alpha1.TargetFailed &&
		reversible(step, target) && (target.ConfirmedBy != "" || !m.confirms(step))
}

// unmadeOf says what of a step a duplicate could not carry through; empty when there is nothing.
func (m *machine) unmadeOf(step *v1alpha1.IncidentStep) string {
	for i := range step.Targets {
		if target := &step.Targets[i]; m.unmade(step, target) {
			return joinWords(step.Action+" of "+objectName(target.Kind, target.Namespace, target.Name)+" failed", target.Message)
		}
	}
	return ""
}

// retryHeld has a duplicate see once more to what it holds. It begins no step anew.
func (m *machine) retryHeld(step *v1alpha1.IncidentStep) answer {
	countAnew(step)
	lookNow(step)
	for i := range step.Targets {
		if target := &step.Targets[i]; m.unmade(step, target) {
			target.State, target.Attempts, target.NextTime, target.Message = v1alpha1.TargetActing, 0, nil, ""
		}
	}
	return accept("what the step holds is looked at again, and made again where it is lost or has failed; nothing new is begun")
}

// takeUpDuplicates takes in the incidents that people have found to be duplicates of this
// one, with all objects and assets that they are about.
func (m *machine) takeUpDuplicates() {
	if m.closed() || m.status.DuplicateOf.Name != "" || TakesUpNothing(m.incident) {
		return
	}
	for i := range m.Duplicates {
		duplicate := &m.Duplicates[i]
		if !sameMode(duplicate, m.incident) || hasDuplicate(m.status, duplicate.Name) || len(m.status.Duplicates) >= maxDuplicates {
			continue
		}
		if m.full() {
			return
		}
		of := &duplicate.Status.DuplicateOf
		m.status.Duplicates = append(m.status.Duplicates, v1alpha1.IncidentDuplicate{Name: duplicate.Name, By: of.By, DecisionRef: of.DecisionRef, Time: m.now})
		m.log(v1alpha1.TimelineEntry{Actor: of.By, Decision: of.DecisionRef.Name, Action: "DuplicateTakenUp", Outcome: "Succeeded",
			Message: fmt.Sprintf("incident %s is a duplicate of this one, which goes on with its events and objects", duplicate.Name)})
		first := len(m.out.Entries)
		for j := range duplicate.Status.Resources {
			m.takeUpResource(&duplicate.Status.Resources[j])
		}
		m.takeUpAssets(duplicate)
		m.condense(first)
	}
	m.countOmitted()
}

func (m *machine) takeUpResource(resource *v1alpha1.IncidentResource) {
	if resource.State == v1alpha1.ResourceDetached || resource.GoneTime != nil || m.omitted[resourceName(&resource.ResourceReference)] {
		return
	}
	for i := range m.status.Resources {
		known := &m.status.Resources[i]
		if known.State != v1alpha1.ResourceDetached && sameResource(known, &resource.ResourceReference) {
			return
		}
	}
	m.addResource(v1alpha1.IncidentResource{
		ResourceReference: resource.ResourceReference, EventRef: resource.EventRef, SubmittedBy: resource.SubmittedBy, Rule: resource.Rule,
	})
}

func hasDuplicate(status *v1alpha1.IncidentStatus, name string) bool {
	return slices.ContainsFunc(status.Duplicates, func(duplicate v1alpha1.IncidentDuplicate) bool { return duplicate.Name == name })
}

// followOriginal waits until the original has taken this incident up, and then until it is
// safe to let go of what was done.
func (m *machine) followOriginal() {
	of := &m.status.DuplicateOf
	if !m.waitsForOriginal() || m.closed() || m.full() {
		return
	}
	if of.TakenUpTime == nil {
		m.awaitTakingUp(of)
	}
	if of.TakenUpTime != nil {
		m.awaitOriginal(of)
	}
	if m.waitsForOriginal() {
		m.wake(m.Now.Add(originalLook))
	}
}

// awaitTakingUp goes on as soon as the original says that it goes on with this incident.
// What has happened to the original since it was named may take the mark away again: until
// here nothing has been given up by it.
func (m *machine) awaitTakingUp(of *v1alpha1.IncidentOriginal) {
	original := m.Originals[of.Name]
	switch {
	case original == nil || original.DeletionTimestamp != nil:
		m.withdraw("there is no incident " + of.Name + " any more")
	case !sameMode(original, m.incident): // it was made anew under its name
		m.withdraw(fmt.Sprintf("incident %s is %s, and this one is %s", of.Name, inWords(original), inWords(m.incident)))
	case hasDuplicate(&original.Status, m.incident.Name):
		of.TakenUpTime = m.now.DeepCopy()
		m.log(v1alpha1.TimelineEntry{Action: "DuplicateTakenUp", Outcome: "Succeeded", Message: fmt.Sprintf("incident %s goes on with the events and objects of this one", of.Name)})
	case original.Status.DuplicateOf.TakenUpTime != nil:
		next := original.Status.DuplicateOf.Name
		if next == m.incident.Name {
			m.withdraw("incident " + of.Name + " is a duplicate of this one")
			return
		}
		m.log(v1alpha1.TimelineEntry{Action: "DuplicateRedirected", Outcome: "Succeeded",
			Message: fmt.Sprintf("incident %s became a duplicate of %s at the same time: this one is a duplicate of %s", of.Name, next, next)})
		of.Name = next
		m.wake(m.Now)
	case original.Status.DuplicateOf.Name != "" && !TakesUpNothing(original):
		if m.oldestInCircle(original) {
			m.withdraw("it and incident " + of.Name + " were marked as duplicates of each other at the same time, and this one is the oldest: it goes on")
		}
	case TakesUpNothing(original):
		m.withdraw("incident " + of.Name + " came to its review, or was closed, before it could take this one up")
	case len(original.Status.Duplicates) >= maxDuplicates:
		m.withdraw(fmt.Sprintf("incident %s has %d duplicates already", of.Name, maxDuplicates))
	}
}

// oldestInCircle says that incidents were marked as duplicates in a circle, at the same
// time, and this one was opened first. It is the one that goes on, whoever finds out.
func (m *machine) oldestInCircle(original *v1alpha1.Incident) bool {
	seen := map[string]bool{}
	for at := original; at != nil && !seen[at.Name] && at.Status.DuplicateOf.Name != ""; at = m.Originals[at.Status.DuplicateOf.Name] {
		seen[at.Name] = true
		if older(at, m.incident) {
			return false
		}
		if at.Status.DuplicateOf.Name == m.incident.Name {
			return true
		}
	}
	return false
}

func older(a, b *v1alpha1.Incident) bool {
	if order := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); order != 0 {
		return order < 0
	}
	return a.Name < b.Name
}

// awaitOriginal lets go of what was done, once the original needs it no more.
func (m *machine) awaitOriginal(of *v1alpha1.IncidentOriginal) {
	original := OriginalOf(m.incident, m.Originals)
	if original == nil {
		m.withdraw("incident " + of.Name + ", which was to go on with it, is not there any more")
		return
	}
	why := letsGo(original)
	if why == "" {
		return
	}
	m.status.Resolution = v1alpha1.ResolutionDuplicate
	m.status.Assignee = orText(m.status.Assignee, of.By)
	m.log(v1alpha1.TimelineEntry{Action: "DuplicateReleased", Outcome: "Succeeded",
		Message: fmt.Sprintf("incident %s %s: what this one has done is undone", original.Name, why)})
}

// letsGo says why duplicates of an incident may let go of what they hold; empty while they
// must not. That it is contained is not enough: another playbook may contain the same
// objects by less. From recovery on they would be let go anyway.
func letsGo(original *v1alpha1.Incident) string {
	status := &original.Status
	switch {
	case status.Phase == v1alpha1.PhaseClosed || status.Resolution != "":
		return "was closed as " + string(status.Resolution)
	case status.Phase.Rank() < v1alpha1.PhaseRecovery.Rank():
		return ""
	}
	contained, eradicated := findCondition(status.Conditions, v1alpha1.ConditionContained), findCondition(status.Conditions, v1alpha1.ConditionEradicated)
	if contained == nil || eradicated == nil || contained.Status != metav1.ConditionTrue && !triedByDrill(original, contained) {
		return ""
	}
	switch eradicated.Reason {
	case v1alpha1.ReasonNewTarget, v1alpha1.ReasonInProgress, v1alpha1.ReasonWaiting, v1alpha1.ReasonDrifted:
		return ""
	}
	if slices.ContainsFunc(status.Resources, func(resource v1alpha1.IncidentResource) bool { return resource.State == "" }) {
		return ""
	}
	if contained.Status != metav1.ConditionTrue {
		return "is in " + string(status.Phase) + ", and as a drill would be contained"
	}
	return "is contained and in " + string(status.Phase)
}

// triedByDrill says that a goal is as near as a drill comes to it: what it would do was tried,
// and nothing is held.
func triedByDrill(incident *v1alpha1.Incident, goal *metav1.Condition) bool {
	return IsDrill(incident) && goal.Reason == v1alpha1.ReasonDryRun
}

// withdraw takes the mark away: the incident goes on by itself.
func (m *machine) withdraw(why string) {
	m.log(v1alpha1.TimelineEntry{Action: "DuplicateWithdrawn", Outcome: "Withdrawn", Message: why + "; this incident goes on by itself"})
	m.status.DuplicateOf = v1alpha1.IncidentOriginal{}
	m.wake(m.Now)
}

// carryThrough ends what was being done when the incident was found to be a duplicate, as
// far as it must stand then: left half-made it would hold nothing.
func (m *machine) carryThrough() {
	if m.Playbook == nil || m.Problem != nil {
		return
	}
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		if step.State != v1alpha1.StepRunning || !TraitOf(step.Action).Held || m.textOf(step) == nil {
			continue
		}
		for j := range step.Targets {
			target := &step.Targets[j]
			if lost(target) {
				continue // it is made again as what holds is
			}
			m.turn(step, target)
			switch target.State {
			case v1alpha1.TargetActing:
				m.queue(&m.out.Work, Work{VerbApply, i, j}, target)
			case v1alpha1.TargetApplied:
				m.queue(&m.out.Work, Work{VerbObserve, i, j}, target)
			}
		}
	}
}
