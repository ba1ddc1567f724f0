package lifecycle

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// heldWithin is how long targets are held before people are told that it is late.
const heldWithin = time.Hour

// shown is what a person sees when they approve, and what their approval is bound to.
type shown struct {
	Incident string         `json:"incident"`
	Revision string         `json:"revision"`
	Step     string         `json:"step"`
	Attempt  int32          `json:"attempt"`
	Targets  []string       `json:"targets"`
	Guarded  []guardedShown `json:"guarded"`
}

type guardedShown struct {
	Step   string `json:"step"`
	Action string `json:"action"`
	// Targets are what it was found to act on beyond the incident's own objects.
	Targets []string `json:"targets,omitempty"`
}

func (s shown) digest() string {
	// A struct of strings and numbers always marshals, and in one way only.
	raw, _ := json.Marshal(s)
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// shownFor gathers what an approval of a step is about.
func (m *machine) shownFor(step *v1alpha1.IncidentStep) shown {
	s := shown{Incident: string(m.incident.UID), Revision: m.status.Playbook.Revision, Step: step.Name, Attempt: step.Attempts}
	for _, guarded := range m.guardedBy(step) {
		one := guardedShown{Step: guarded.Name, Action: guarded.Action}
		if step.Action == "approve" {
			one.Targets = m.shownTargets(guarded)
		}
		s.Guarded = append(s.Guarded, one)
	}
	switch {
	case step.Action == "revert":
		s.Targets = m.undoable(step)
	case len(step.Targets) > 0:
		for i := range step.Targets {
			if step.Targets[i].State == v1alpha1.TargetHeld {
				s.Targets = append(s.Targets, string(step.Targets[i].UID))
			}
		}
	default:
		for i := range m.status.Resources {
			if m.status.Resources[i].State == v1alpha1.ResourcePresent {
				s.Targets = append(s.Targets, string(m.status.Resources[i].UID))
			}
		}
	}
	sort.Strings(s.Targets)
	return s
}

// guardedBy lists the steps that an approval lets go on: for an approve step those
// after it in its phase, up to the next approve step; for any other step itself.
func (m *machine) guardedBy(step *v1alpha1.IncidentStep) []*v1alpha1.IncidentStep {
	if step.Action != "approve" {
		return []*v1alpha1.IncidentStep{step}
	}
	var guarded []*v1alpha1.IncidentStep
	after := false
	for i := range m.status.Steps {
		other := &m.status.Steps[i]
		switch {
		case other.Name == step.Name:
			after = true
		case !after || other.Phase != step.Phase || other.Definition != "":
		case other.Action == "approve":
			return guarded
		default:
			guarded = append(guarded, other)
		}
	}
	return guarded
}

// runApprove waits for as many people as the step asks for.
func (m *machine) runApprove(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep) {
	if m.lookUp(step) || m.holdsBack(step) {
		return
	}
	m.bind(step)
	if step.State != v1alpha1.StepAwaitingApproval {
		step.State = v1alpha1.StepAwaitingApproval
		m.log(v1alpha1.TimelineEntry{Action: "ApprovalAwaited", Outcome: "AwaitingApproval", Step: step.Name, Message: m.approvalMessage(step, text)})
	}
	if len(step.Approvers) >= int(max(text.Approve.Count, 1)) {
		var names []string
		for i := range step.Approvers {
			names = append(names, step.Approvers[i].By)
		}
		digest := step.Digest
		m.end(step, v1alpha1.StepSucceeded, "approved by "+strings.Join(names, ", "))
		step.Digest = digest // what was approved; askAgain compares
		return
	}
	m.lookUpAgain(step)
	if m.late(step) {
		m.overdue(step, text, text.Approve.Otherwise, "nobody has approved within "+limitOf(text).String())
	}
}

// bind binds a step's approval to what would be done now. Approvals of anything else
// do not count.
func (m *machine) bind(step *v1alpha1.IncidentStep) {
	digest := m.shownFor(step).digest()
	if step.Digest == digest {
		return
	}
	if len(step.Approvers) > 0 {
		m.log(v1alpha1.TimelineEntry{Action: "ApprovalsVoided", Outcome: "Stale", Step: step.Name,
			Message: "what would be done has changed since: it must be approved anew"})
	}
	step.Digest, step.Approvers = digest, nil
}

// askAgain asks anew for approvals that were given for something else than what the
// steps they guard would do now.
func (m *machine) askAgain() {
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		text := m.textOf(step)
		switch {
		case text == nil:
		case step.State == v1alpha1.StepAwaitingApproval && text.Approve == nil:
			m.showHeld(step)
		case step.State == v1alpha1.StepAwaitingApproval:
			m.bind(step)
		case text.Approve != nil && stepDone(step) && step.Digest != "" && step.Digest != m.shownFor(step).digest() && m.guardsOpen(step):
			m.putBack(step)
		}
	}
}

// guardsOpen says whether a step that an approval guards is not over.
func (m *machine) guardsOpen(step *v1alpha1.IncidentStep) bool {
	return slices.ContainsFunc(m.guardedBy(step), func(guarded *v1alpha1.IncidentStep) bool {
		return !stepDone(guarded) && !continued(guarded, m.textOf(guarded))
	})
}

// overdue says that people are late: the step fails or goes on waiting, as it asks for.
func (m *machine) overdue(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, policy v1alpha1.DeadlinePolicy, message string) {
	if policy == v1alpha1.OtherwiseAbort {
		m.end(step, v1alpha1.StepFailed, message)
		return
	}
	if step.Message == message {
		return
	}
	step.Message = message
	m.log(v1alpha1.TimelineEntry{Action: "Overdue", Outcome: "Escalated", Step: step.Name, Message: joinWords(message, text.Instructions)})
}

// approvalMessage says what a person is asked to approve.
func (m *machine) approvalMessage(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep) string {
	var parts []string
	if text.Approve != nil && text.Approve.Message != "" {
		parts = append(parts, text.Approve.Message)
	}
	var next []string
	for _, guarded := range m.guardedBy(step) {
		next = append(next, m.whatFollows(guarded))
	}
	if len(next) > 0 {
		parts = append(parts, "what follows: "+strings.Join(next, ", "))
	}
	var about []string
	present := 0
	for i := range m.status.Resources {
		resource := &m.status.Resources[i]
		if resource.State != v1alpha1.ResourcePresent {
			continue
		}
		if present++; len(about) < 8 {
			about = append(about, resourceName(&resource.ResourceReference))
		}
	}
	if len(about) > 0 {
		parts = append(parts, "on: "+strings.Join(about, ", ")+andMore(present-len(about)))
	}
	if step.Message != "" {
		parts = append(parts, step.Message)
	}
	return orText(strings.Join(parts, "; "), "the playbook goes on only when this is approved")
}

// awaitRelease waits for an approval of targets that a limit or protection holds.
func (m *machine) awaitRelease(step *v1alpha1.IncidentStep) {
	if step.State == v1alpha1.StepAwaitingApproval {
		m.showHeld(step)
		if m.late(step) && !strings.HasPrefix(step.Message, "overdue") {
			step.Message = Cut("overdue: "+step.Message, 1024)
			m.log(v1alpha1.TimelineEntry{Action: "Overdue", Outcome: "Escalated", Step: step.Name, Message: "nobody has decided about the targets that are held"})
		}
		return
	}
	step.State = v1alpha1.StepAwaitingApproval
	deadline := m.now.DeepCopy()
	deadline.Time = deadline.Add(heldWithin)
	step.DeadlineTime = deadline
	step.Digest = ""
	m.showHeld(step)
}

// showHeld says which targets wait for an approval, and binds it to them.
func (m *machine) showHeld(step *v1alpha1.IncidentStep) {
	digest := m.shownFor(step).digest()
	if step.Digest == digest {
		return
	}
	step.Digest = digest
	step.Message = Cut(m.heldMessage(step), 1024)
	m.log(v1alpha1.TimelineEntry{Action: "ApprovalAwaited", Outcome: "AwaitingApproval", Step: step.Name, Message: step.Message})
}

func (m *machine) heldMessage(step *v1alpha1.IncidentStep) string {
	if step.Action == "revert" {
		return fmt.Sprintf("revert of %s waits for an approval: %s", countOf(len(m.undoable(step)), "effect"), confirmSays)
	}
	var names, why []string
	held, failed := 0, 0
	for i := range step.Targets {
		target := &step.Targets[i]
		if target.State == v1alpha1.TargetFailed {
			failed++
		}
		if target.State != v1alpha1.TargetHeld {
			continue
		}
		if held++; len(names) < 12 {
			names = append(names, objectName(target.Kind, target.Namespace, target.Name))
		}
		if !slices.Contains(why, target.Message) && len(why) < 3 {
			why = append(why, target.Message)
		}
	}
	message := ""
	if failed > 0 {
		message = fmt.Sprintf("%d others failed already; ", failed)
	}
	for _, reason := range why {
		if reason != confirmSays {
			// A hold is about the object: whether it may be acted on at all.
			why = append(why, "an approval counts for every step that acts on them")
			break
		}
	}
	return message + fmt.Sprintf("%s of %s waits for an approval: %s", step.Action,
		strings.Join(names, ", ")+andMore(held-len(names)), strings.Join(why, "; "))
}

func andMore(count int) string {
	if count <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", count)
}
