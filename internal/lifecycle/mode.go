package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// DryRun says that nothing may take effect: every write is a server-side dry run.
// In a drill it always is so.
func DryRun(in Input) bool {
	return IsDrill(in.Incident) || in.Plan != nil && in.Plan.Spec.Response == v1alpha1.ResponseDryRun ||
		in.Playbook != nil && in.Playbook.Mode == v1alpha1.PlaybookDryRun
}

// IsDrill says that an incident is an exercise.
func IsDrill(incident *v1alpha1.Incident) bool { return incident.Spec.Mode == v1alpha1.ModeDrill }

// sameMode says that both are drills or neither is.
func sameMode(a, b *v1alpha1.Incident) bool { return a.Spec.Mode.OrLive() == b.Spec.Mode.OrLive() }

func inWords(incident *v1alpha1.Incident) string {
	if IsDrill(incident) {
		return "a drill"
	}
	return "live"
}

// ownMode gives the events of an incident's own mode, and names the others: who declares an
// incident may name any.
func ownMode(incident *v1alpha1.Incident, events []v1alpha1.SecurityEvent) (own []v1alpha1.SecurityEvent, foreign []string) {
	for i := range events {
		if events[i].Spec.Mode.OrLive() != incident.Spec.Mode.OrLive() {
			foreign = append(foreign, events[i].Name)
		}
	}
	if len(foreign) == 0 {
		return events, nil
	}
	return slices.DeleteFunc(slices.Clone(events), func(event v1alpha1.SecurityEvent) bool { return slices.Contains(foreign, event.Name) }), foreign
}

// drillMeans says why nothing that a drill does counts.
const drillMeans = "the incident is a drill: effects are only tried"

const (
	// dryRunSays begins the messages of steps and targets that were only tried.
	dryRunSays = "dry run: "
	// confirmSays begins the messages of targets that wait because the playbook asks for it.
	confirmSays = "the playbook's `mode` is 'Confirm'"
)

// mode takes down how the playbook runs now.
func (m *machine) mode() {
	if m.closed() || m.status.Playbook.Revision == "" {
		return
	}
	before := m.status.Mode
	switch {
	case m.paused:
		m.status.Mode = v1alpha1.ModePaused
		return // it is on the timeline already
	case m.dryRun:
		m.status.Mode = v1alpha1.ModeDryRun
	case m.Playbook != nil && m.Playbook.Mode == v1alpha1.PlaybookConfirm:
		m.status.Mode = v1alpha1.ModeConfirm
	default:
		m.status.Mode = v1alpha1.ModeEnforce
	}
	quiet := before == "" && m.status.Mode == v1alpha1.ModeEnforce || before == v1alpha1.ModePaused
	if before != m.status.Mode && !quiet {
		message := modeMeans[m.status.Mode]
		if IsDrill(m.incident) {
			message = drillMeans
		}
		m.log(v1alpha1.TimelineEntry{Action: "ModeSet", Outcome: string(m.status.Mode), Message: message})
	}
}

var modeMeans = map[v1alpha1.IncidentMode]string{
	v1alpha1.ModeEnforce: "effects are made",
	v1alpha1.ModeConfirm: "each step that writes waits for an approval",
	v1alpha1.ModeDryRun:  "effects are only tried, and nothing is undone",
}

// confirms says that what a step writes waits for a person.
func (m *machine) confirms(step *v1alpha1.IncidentStep) bool {
	trait := TraitOf(step.Action)
	return m.Playbook != nil && m.Playbook.Mode == v1alpha1.PlaybookConfirm && !m.dryRun && trait.Acts && !trait.Reads && !trait.Tells
}

// confirm holds what nobody has confirmed.
func (m *machine) confirm(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) {
	begins := target.State == v1alpha1.TargetPending || target.State == v1alpha1.TargetActing // begun anew by a person
	if m.confirms(step) && begins && target.ConfirmedBy == "" {
		target.State, target.Message = v1alpha1.TargetHeld, confirmSays
	}
}

// letGo lets a target be acted on that was held. One that may have been acted on before
// goes on from there: planned anew, the record of how it was would be lost.
func letGo(target *v1alpha1.StepTarget) {
	target.State, target.Message = v1alpha1.TargetPending, ""
	if target.Undo != "" {
		target.State = v1alpha1.TargetActing
	}
}

// tries says that what a step does is only tried. What only reads is done all the same:
// evidence is Firebreak's own.
func (m *machine) tries(step *v1alpha1.IncidentStep) bool {
	return m.dryRun && !TraitOf(step.Action).Reads
}

// turn gives a target whose intent was recorded in the other mode back: what was only
// tried is planned anew before it is made, and what may have been made is not tried.
func (m *machine) turn(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) {
	tried, begun := target.Mode == v1alpha1.ResponseDryRun, target.State == v1alpha1.TargetActing || target.State == v1alpha1.TargetApplied
	switch {
	case tried == m.tries(step):
	case tried && begun:
		target.State, target.Mode, target.Undo, target.NextTime = v1alpha1.TargetPending, "", "", nil
	case tried:
	case target.State == v1alpha1.TargetActing, target.State == v1alpha1.TargetPending && target.Undo != "",
		target.State == v1alpha1.TargetApplied && step.Action == "evict": // which looks by evicting
		giveUp(step, target, v1alpha1.TargetFailed)
		target.NextTime = nil
		target.Message = "the effect may have been made before the dry run began: set `response: Enforce`, then retry the step"
	}
}

// tried makes of a result what it means when nothing may take effect. What an action
// finds undone after a dry run was to be expected; that a write is refused was not.
func (m *machine) tried(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget, result Result) Result {
	if !m.tries(step) || result.Verb == VerbUndo {
		return result
	}
	if result.Verb == VerbObserve && target.Mode != v1alpha1.ResponseDryRun {
		return result // a look at what was really made
	}
	switch result.State {
	case v1alpha1.TargetFailed:
		if result.Verb == VerbPlan || result.Permanent || result.Unknown {
			return result
		}
		result.State, result.Message = v1alpha1.TargetSucceeded, "it would be accepted"
	case v1alpha1.TargetApplied, v1alpha1.TargetPending:
		result.State = v1alpha1.TargetSucceeded
	}
	if target.Mode == v1alpha1.ResponseDryRun && result.State == v1alpha1.TargetSucceeded {
		result.Message, result.Proof = dryRunSays+result.Message, ""
	}
	return result
}

// dry says that a step was only tried, or skipped because others were.
func dry(step *v1alpha1.IncidentStep) bool {
	if step.State == v1alpha1.StepSkipped && strings.HasPrefix(step.Message, dryRunSays) {
		return true
	}
	for i := range step.Targets {
		if target := &step.Targets[i]; target.Mode == v1alpha1.ResponseDryRun && target.State == v1alpha1.TargetSucceeded {
			return true
		}
	}
	return false
}

// anyDry says that some step was only tried.
func (m *machine) anyDry() bool {
	for i := range m.status.Steps {
		if dry(&m.status.Steps[i]) {
			return true
		}
	}
	return false
}

// skipDry skips a step that would be about effects that were only tried.
func (m *machine) skipDry(step *v1alpha1.IncidentStep) {
	m.end(step, v1alpha1.StepSkipped, dryRunSays+"nothing has taken effect")
	m.wake(m.Now) // a verify step beside it, which was asked before, has nothing to verify either
}

// onlyDry says that a revert is about nothing but effects that were only tried.
func (m *machine) onlyDry(index int, text *v1alpha1.PlaybookStep) bool {
	tried := false
	for _, at := range m.undoOrder(index, text.Revert.Steps) {
		step := &m.status.Steps[at]
		tried = tried || dry(step)
		if slices.ContainsFunc(step.Targets, func(target v1alpha1.StepTarget) bool { return reversible(step, &target) }) {
			return false
		}
	}
	return tried
}

// revertDry ends a revert while nothing may be undone.
func (m *machine) revertDry(index int, text *v1alpha1.PlaybookStep) {
	standing := 0
	for _, at := range m.undoOrder(index, text.Revert.Steps) {
		step := &m.status.Steps[at]
		for i := range step.Targets {
			if reversible(step, &step.Targets[i]) {
				standing++
			}
		}
	}
	step := &m.status.Steps[index]
	if standing == 0 {
		m.skipDry(step)
		return
	}
	m.fail(step, text, fmt.Sprintf("%s made before the dry run began must be undone: set `response: Enforce`, then retry the step", countOf(standing, "effect")))
}

// confirmRevert says that a revert waits until a person has confirmed it.
func (m *machine) confirmRevert(step *v1alpha1.IncidentStep) bool {
	if m.Playbook == nil || m.Playbook.Mode != v1alpha1.PlaybookConfirm || len(step.Approvers) > 0 {
		return false
	}
	m.awaitRelease(step)
	return true
}

// undoable lists what a revert would undo now, as 'step/UID'.
func (m *machine) undoable(revert *v1alpha1.IncidentStep) []string {
	text := m.textOf(revert)
	if text == nil || text.Revert == nil {
		return nil
	}
	at := slices.IndexFunc(m.status.Steps, func(step v1alpha1.IncidentStep) bool { return step.Name == revert.Name })
	var all []string
	for _, index := range m.undoOrder(at, text.Revert.Steps) {
		step := &m.status.Steps[index]
		for i := range step.Targets {
			if reversible(step, &step.Targets[i]) {
				all = append(all, step.Name+"/"+string(step.Targets[i].UID))
			}
		}
	}
	return all
}

// retryDry lets a step that was only tried be done.
func (m *machine) retryDry(step *v1alpha1.IncidentStep) {
	for i := range step.Targets {
		if target := &step.Targets[i]; target.Mode == v1alpha1.ResponseDryRun && target.State == v1alpha1.TargetSucceeded {
			target.State, target.Mode, target.Attempts, target.NextTime, target.Message = v1alpha1.TargetPending, "", 0, nil, ""
		}
	}
}
