package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const maxAwaiting = 16

// await lists what a person must do now, each with the line to type.
func (m *machine) await() {
	before := m.status.Awaiting
	m.status.Awaiting = nil
	if m.closed() {
		return
	}
	if m.paused {
		m.awaitResume()
	}
	for _, step := range m.stuckSteps() {
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingFailure, Step: step.Name, Command: m.command("retry", step.Name),
			Message: stuckMessage(step) + " (undo it by hand or retry; skip the step to leave it in place)",
		})
	}
	if m.dryRun && m.undoesAll() && m.left() > 0 {
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingResume, Message: countOf(m.left(), "effect") + " made before the dry run began must be undone: set the plan's `response` to 'Enforce'",
			Command: m.editPlan(),
		})
	}
	for _, step := range m.driftedSteps() {
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingFailure, Step: step.Name, Command: m.command("retry", step.Name),
			Message: driftOf(step) + " (retry the step when that is done; skip it to hold it no longer)",
		})
	}
	if m.status.Resolution == "" {
		m.awaitUnwatched()
	}
	if m.waitsForOriginal() {
		m.awaitHolding()
	} else if m.status.Resolution == "" {
		for i := range m.status.Steps {
			m.awaitStep(&m.status.Steps[i])
		}
		m.awaitUnreadable()
		m.awaitConfirmation()
		m.awaitIncident(before)
	} else if m.out.DraftLesson {
		m.awaitLesson(before)
	}
	if len(m.status.Awaiting) > maxAwaiting {
		m.status.Awaiting = m.status.Awaiting[:maxAwaiting]
	}
	for i := range m.status.Awaiting {
		m.keepSince(&m.status.Awaiting[i], before)
		m.expect(&m.status.Awaiting[i])
	}
}

// keepSince keeps since when the same thing has been waited for.
func (m *machine) keepSince(awaiting *v1alpha1.Awaiting, before []v1alpha1.Awaiting) {
	awaiting.SinceTime = m.now
	awaiting.Message = Cut(awaiting.Message, 1024)
	awaiting.Command = Cut(awaiting.Command, 512)
	for i := range before {
		if before[i].Type == awaiting.Type && before[i].Step == awaiting.Step && before[i].Digest == awaiting.Digest {
			awaiting.SinceTime, awaiting.OverdueTime = before[i].SinceTime, before[i].OverdueTime
			return
		}
	}
}

func (m *machine) add(awaiting v1alpha1.Awaiting) {
	m.status.Awaiting = append(m.status.Awaiting, awaiting)
}

// command is the line to type.
func (m *machine) command(verb, rest string) string {
	line := fmt.Sprintf("kubectl firebreak -n %s %s %s", m.incident.Namespace, verb, m.incident.Name)
	if rest != "" {
		line += " " + rest
	}
	return line
}

func (m *machine) editPlan() string {
	return fmt.Sprintf("kubectl edit responseplan %s -n %s", v1alpha1.ResponsePlanName, m.incident.Namespace)
}

func (m *machine) awaitResume() {
	if m.Automation.Stopped {
		command := fmt.Sprintf("kubectl firebreak -n %s resume", m.incident.Namespace)
		if PausedByPlan(m.Plan) {
			command = m.editPlan()
		}
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingResume, Message: joinWords("the automation of this namespace was stopped by "+m.Automation.By, m.Automation.Why),
			Command: command,
		})
		return
	}
	m.add(v1alpha1.Awaiting{Type: v1alpha1.AwaitingResume, Message: "paused by " + m.status.PausedBy, Command: m.command("resume", "")})
}

func (m *machine) awaitStep(step *v1alpha1.IncidentStep) {
	text := m.textOf(step)
	if text == nil {
		return
	}
	switch {
	case step.State == v1alpha1.StepAwaitingApproval && text.Approve != nil:
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingApproval, Step: step.Name, Message: m.approvalMessage(step, text), Role: text.Approve.Role,
			Digest: step.Digest, DueTime: step.DeadlineTime.DeepCopy(), Command: m.command("approve", step.Name+` --reason "WHY"`),
		})
	case step.State == v1alpha1.StepAwaitingApproval:
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingApproval, Step: step.Name, Message: orText(step.Message, "targets are held"), Digest: step.Digest,
			DueTime: step.DeadlineTime.DeepCopy(), Command: m.command("approve", step.Name+` --reason "WHY"`),
		})
	case step.State == v1alpha1.StepAwaitingTask && text.Task != nil:
		message := taskMessage(text)
		if step.Message != "" {
			message = step.Message + ": " + message
		}
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingTask, Step: step.Name, Message: message, Role: text.Task.Role,
			DueTime: step.DeadlineTime.DeepCopy(), Command: m.command("task", step.Name),
		})
	case step.State == v1alpha1.StepAwaitingTask:
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingFailure, Step: step.Name, Command: m.command("task", step.Name),
			Message: joinWords(step.Message, text.Instructions) + " (do it by hand and complete it as a task, retry it, or skip it)",
		})
	case step.State == v1alpha1.StepFailed && !continued(step, text):
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingFailure, Step: step.Name, Command: m.command("retry", step.Name),
			Message: joinWords(orText(step.Message, "it failed"), text.Instructions) + " (the playbook has stopped: retry the step, or skip it)",
		})
	}
}

// awaitUnwatched asks for what keeps effects from being looked at.
func (m *machine) awaitUnwatched() {
	for _, step := range m.unwatchedSteps() {
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingFailure, Step: step.Name, Command: m.command("retry", step.Name),
			Message: m.unwatchedOf(step) + " (see to it, and retry the step to have it looked at; skip it to hold it no longer)",
		})
	}
}

// awaitUnreadable asks for what the steps that are over could not act on.
func (m *machine) awaitUnreadable() {
	unreadable := m.unreadable()
	if len(unreadable) == 0 || m.status.Phase.Rank() >= v1alpha1.PhaseReview.Rank() {
		return
	}
	for _, step := range m.stepsOf(v1alpha1.PhaseContainment) {
		if m.passedOver(step) {
			m.add(v1alpha1.Awaiting{
				Type: v1alpha1.AwaitingFailure, Step: step.Name, Command: m.command("retry", step.Name),
				Message: "not acted on: " + strings.Join(unreadable, "; ") + " (make it readable and retry the step, or contain it by hand)",
			})
			return
		}
	}
}

// passedOver says that a step is over, but for objects that could not be read.
func (m *machine) passedOver(step *v1alpha1.IncidentStep) bool {
	text := m.textOf(step)
	return text != nil && TraitOf(step.Action).Contains && (stepDone(step) || continued(step, text)) &&
		slices.ContainsFunc(m.status.Resources, func(resource v1alpha1.IncidentResource) bool {
			return resource.State == v1alpha1.ResourceUnreadable && mayBe(text.Target, &resource)
		})
}

// awaitIncident lists what is to do about the incident itself.
func (m *machine) awaitIncident(before []v1alpha1.Awaiting) {
	switch {
	case m.status.Phase == v1alpha1.PhaseReview && m.out.DraftLesson:
		// Closing would be refused until the lesson is there, which is done next.
		m.awaitLesson(before)
	case m.status.Phase == v1alpha1.PhaseReview:
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingClose, Message: "everything is done: fill in LessonLearned " + LessonName(m.incident.Name) + ", then close",
			Command: m.command("close", `--resolution Resolved --reason "WHY"`),
		})
	case m.overduePhase() && m.Problem == nil:
		m.add(v1alpha1.Awaiting{Type: v1alpha1.AwaitingFailure, Message: phaseIsLate(m.deadline()) + ": see what holds it up", Command: m.command("show", "")})
	case m.Problem != nil:
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingPlaybook, Message: m.Problem.Message, Command: m.command("show", ""),
		})
	case m.status.Playbook.Revision == "" && m.incident.Spec.PlaybookRef.Name == "":
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingPlaybook, Message: "no playbook answers: contain, eradicate and recover by hand, then close; or use one, with 'use-playbook'",
			Command: m.command("close", `--resolution Resolved --reason "WHY"`),
		})
	}
}

// noLesson begins what is said of a lesson that cannot be created.
const noLesson = "the LessonLearned cannot be created, which closing needs; it is tried again: "

// awaitLesson says why the lesson could not be drafted, also while that is tried again.
func (m *machine) awaitLesson(before []v1alpha1.Awaiting) {
	if m.LessonProblem != "" {
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingFailure, Command: m.command("show", ""),
			Message: noLesson + m.LessonProblem,
		})
		return
	}
	for i := range before {
		if strings.HasPrefix(before[i].Message, noLesson) {
			m.add(before[i])
			return
		}
	}
}
