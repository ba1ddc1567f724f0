package lifecycle

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// maxAdHoc is how many actions people may run beside one playbook.
	maxAdHoc = 16
	// maxDefinition is how long the text of such an action may be.
	maxDefinition = 4096
)

// Offer is the playbook that a UsePlaybook Decision names.
type Offer struct {
	// Pin is the playbook to pin.
	Pin *v1alpha1.PinnedPlaybook
	// Playbook is its text.
	Playbook *v1alpha1.ResponsePlaybookSpec
	// Problem says why it cannot be used; nil when it can.
	Problem *PlaybookProblem
}

// AdHoc is what a RunAction Decision asks for.
type AdHoc struct {
	// Step is the step, with its defaults; its name does not count.
	Step *v1alpha1.PlaybookStep
	// Problem says why it cannot be; empty when it can.
	Problem string
}

// adHocName is the name of a step that a person has run beside the playbook.
var adHocName = regexp.MustCompile(`^adhoc-[0-9]+$`)

// IsAdHoc says whether a step's name is one of those that RunAction gives.
func IsAdHoc(name string) bool { return adHocName.MatchString(name) }

// TextOf finds the text of an incident's step: its own, or that of the playbook; nil when
// there is none.
func TextOf(playbook *v1alpha1.ResponsePlaybookSpec, step *v1alpha1.IncidentStep) *v1alpha1.PlaybookStep {
	if step.Definition == "" {
		return StepOf(playbook, step.Name)
	}
	text := &v1alpha1.PlaybookStep{}
	if err := json.Unmarshal([]byte(step.Definition), text); err != nil {
		return nil
	}
	return text
}

// runAdHoc begins or carries on what people have run beside the steps of a phase. It waits
// for none of them. It says whether all of it is over.
func (m *machine) runAdHoc(phase v1alpha1.Phase) bool {
	over := true
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		if step.Definition == "" || step.Phase != phase || stepDone(step) {
			continue
		}
		text := m.textOf(step)
		if text == nil || continued(step, text) {
			continue
		}
		if m.full() {
			return false
		}
		m.runStep(i, text)
		over = over && (stepDone(step) || continued(step, text))
	}
	return over
}

// tooLate says why nothing can be added to the incident any more.
func (m *machine) tooLate() *answer {
	var refused answer
	switch {
	case m.status.Resolution != "":
		refused = refuse(v1alpha1.ReasonAlreadyDecided, "the incident is being closed as %s", m.status.Resolution)
	case m.status.Phase.Rank() >= v1alpha1.PhaseReview.Rank():
		refused = refuse(v1alpha1.ReasonNotAwaited, "the incident is in %s: what is to be done now takes an incident of its own", m.status.Phase)
	default:
		return nil
	}
	return &refused
}

// runAction adds a step beside the playbook.
func (m *machine) runAction(decision *v1alpha1.Decision) answer {
	if refused := m.tooLate(); refused != nil {
		return *refused
	}
	if m.Playbook == nil || m.status.Playbook.Revision == "" {
		return refuse(v1alpha1.ReasonNotAwaited, "no playbook is pinned, under whose ServiceAccount and limits it could run: decide UsePlaybook first")
	}
	given := m.Actions[string(decision.UID)]
	if given.Step == nil {
		return refuse(v1alpha1.ReasonInvalid, "%s", orText(given.Problem, "`action` could not be read"))
	}
	action := ActionOf(given.Step)
	if !slices.Contains(m.Playbook.AdHoc, v1alpha1.ActionName(action)) {
		return refuse(v1alpha1.ReasonNotAllowed, "`adHoc` of playbook %s does not allow '%s': it allows %s", m.status.Playbook.Name, action, m.allowedAdHoc())
	}
	if isolate := given.Step.Isolate; isolate != nil && isolate.Probe != nil && !slices.Contains(m.Playbook.AdHoc, "job") {
		return refuse(v1alpha1.ReasonNotAllowed, "`isolate.probe` runs an image that you choose: `adHoc` of playbook %s must allow 'job' too, but it allows %s; leave the probe out", m.status.Playbook.Name, m.allowedAdHoc())
	}
	count := 0
	for i := range m.status.Steps {
		if m.status.Steps[i].Definition != "" {
			count++
		}
	}
	if count >= maxAdHoc {
		return refuse(v1alpha1.ReasonNotAllowed, "%d actions were run beside the playbook already: that is the most", count)
	}
	step := given.Step.DeepCopy()
	step.Name, step.Parallel = fmt.Sprintf("adhoc-%d", count+1), ""
	text, err := json.Marshal(step)
	if err != nil || len(text) > maxDefinition {
		return refuse(v1alpha1.ReasonInvalid, "`action` has %d characters with its defaults: it must have at most %d", len(text), maxDefinition)
	}
	phase := m.status.Phase
	if phase == v1alpha1.PhaseAssessment {
		phase = v1alpha1.PhaseContainment
	}
	m.status.Steps = append(m.status.Steps, v1alpha1.IncidentStep{
		Name: step.Name, Phase: phase, Action: action, State: v1alpha1.StepPending, Definition: string(text),
	})
	return accept(fmt.Sprintf("%s runs as step '%s' of %s", action, step.Name, phase))
}

func (m *machine) allowedAdHoc() string {
	if len(m.Playbook.AdHoc) == 0 {
		return "nothing"
	}
	names := make([]string, len(m.Playbook.AdHoc))
	for i, name := range m.Playbook.AdHoc {
		names[i] = string(name)
	}
	return strings.Join(names, ", ")
}

// addResourceBy adds an object that a person names.
func (m *machine) addResourceBy(decision *v1alpha1.Decision) answer {
	if refused := m.tooLate(); refused != nil {
		return *refused
	}
	resource := decision.Spec.Resource
	name := resourceName(&resource)
	for i := range m.status.Resources {
		known := &m.status.Resources[i]
		if known.State != v1alpha1.ResourceDetached && sameResource(known, &resource) && (known.GoneTime == nil || resource.UID != "") {
			return refuse(v1alpha1.ReasonAlreadyDecided, "%s is one of the incident's resources already", name)
		}
	}
	if len(m.status.Resources) >= maxResources {
		return refuse(v1alpha1.ReasonNotAllowed, "the incident has %d resources already: that is the most", maxResources)
	}
	if !m.roomToJoin() {
		return refuse(v1alpha1.ReasonNotAllowed, "the incident's steps act on so many objects that there is no room for another")
	}
	m.status.Resources = append(m.status.Resources, v1alpha1.IncidentResource{ResourceReference: resource, SubmittedBy: decision.Spec.By})
	return accept(name + " is one of the incident's resources now")
}

// usePlaybook pins another playbook, as long as the one before has done nothing.
func (m *machine) usePlaybook(decision *v1alpha1.Decision) answer {
	if refused := m.tooLate(); refused != nil {
		return *refused
	}
	if done := m.firstEffect(); done != "" {
		return refuse(v1alpha1.ReasonHadEffect, "playbook %s has acted already: %s; skip its steps, or run single actions with RunAction", m.status.Playbook.Name, done)
	}
	offer := m.Offers[string(decision.UID)]
	switch {
	case offer.Problem != nil:
		return refuse(offer.Problem.Reason, "%s", offer.Problem.Message)
	case offer.Pin == nil || offer.Playbook == nil:
		return refuse(v1alpha1.ReasonPlaybookNotFound, "there is no ResponsePlaybook '%s'", decision.Spec.PlaybookRef.Name)
	case offer.Pin.Revision == m.status.Playbook.Revision:
		return refuse(v1alpha1.ReasonAlreadyDecided, "playbook %s is the one that runs", offer.Pin.Name)
	}
	m.status.Playbook, m.status.Steps, m.status.PhaseDeadlines = v1alpha1.PinnedPlaybook{}, nil, nil
	m.Pin, m.Playbook, m.Problem = offer.Pin, offer.Playbook, nil
	m.dryRun, m.repinned = DryRun(m.Input), true
	m.pin()
	m.setDeadline(m.status.Phase)
	m.lookAnew()
	return accept("playbook " + offer.Pin.Name + " answers from now on")
}

// firstEffect is the first thing that a step has done or begun; empty when none has.
func (m *machine) firstEffect() string {
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		for j := range step.Targets {
			target := &step.Targets[j]
			begun := target.State == v1alpha1.TargetActing || target.State == v1alpha1.TargetApplied || target.State == v1alpha1.TargetReverting
			made := target.State == v1alpha1.TargetSucceeded || target.State == v1alpha1.TargetReverted || target.Undo != ""
			if trait := TraitOf(step.Action); begun || made && !trait.Reads && !trait.Tells {
				return step.Name + " of " + objectName(target.Kind, target.Namespace, target.Name)
			}
		}
	}
	return ""
}
