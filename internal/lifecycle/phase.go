package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func findCondition(conditions []metav1.Condition, kind string) *metav1.Condition {
	return meta.FindStatusCondition(conditions, kind)
}

func (m *machine) setCondition(kind string, status metav1.ConditionStatus, reason, message string) {
	condition := metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: Cut(message, 1024),
		ObservedGeneration: m.incident.Generation, LastTransitionTime: m.now,
	}
	if existing := findCondition(m.status.Conditions, kind); existing != nil && existing.Status == status {
		condition.LastTransitionTime = existing.LastTransitionTime
	}
	meta.SetStatusCondition(&m.status.Conditions, condition)
}

// goal is one of the three phases in which steps are done, and what says that it is over.
type goal struct {
	phase     v1alpha1.Phase
	condition string
	reached   string
	time      func(*v1alpha1.IncidentTimes) **metav1.Time
	// contains says that only actions which contain reach the goal; otherwise all but
	// collecting do.
	contains bool
	// shown are the actions that show that it was reached; empty means the effects.
	shown []string
}

var goals = []goal{
	{v1alpha1.PhaseContainment, v1alpha1.ConditionContained, "Contained",
		func(t *v1alpha1.IncidentTimes) **metav1.Time { return &t.ContainedTime }, true, nil},
	{v1alpha1.PhaseEradication, v1alpha1.ConditionEradicated, "Eradicated",
		func(t *v1alpha1.IncidentTimes) **metav1.Time { return &t.EradicatedTime }, false, nil},
	{v1alpha1.PhaseRecovery, v1alpha1.ConditionRecovered, "Recovered",
		func(t *v1alpha1.IncidentTimes) **metav1.Time { return &t.RecoveredTime }, false, []string{"verify", "task"}},
}

// conclude derives the conditions from the steps, and the phase from the conditions.
func (m *machine) conclude() {
	m.defaultConditions()
	if m.status.Phase != v1alpha1.PhaseAssessment && !m.undoesAll() && !m.waitsForOriginal() {
		over := true
		for _, goal := range goals {
			over = m.concludePhase(goal, over)
		}
		if over && m.status.Phase.Rank() < v1alpha1.PhaseReview.Rank() && !m.paused {
			m.enter(v1alpha1.PhaseReview)
		}
	}
	m.review()
	m.drift()
	m.finish()
	if !m.waitsForOriginal() {
		m.watchPhase()
	}
	m.stall()
}

func (m *machine) defaultConditions() {
	m.defaultConfirmed()
	for _, kind := range []string{v1alpha1.ConditionAcknowledged, v1alpha1.ConditionContained, v1alpha1.ConditionEradicated,
		v1alpha1.ConditionRecovered, v1alpha1.ConditionReviewed, v1alpha1.ConditionClosed} {
		if findCondition(m.status.Conditions, kind) == nil {
			m.setCondition(kind, metav1.ConditionFalse, v1alpha1.ReasonWaiting, "")
		}
	}
}

// condition is what a condition says now; empty when it is not set.
func (m *machine) condition(kind string) metav1.Condition {
	if found := findCondition(m.status.Conditions, kind); found != nil {
		return *found
	}
	return metav1.Condition{}
}

// enter goes on to a phase. A phase never goes back.
func (m *machine) enter(phase v1alpha1.Phase) {
	if phase.Rank() <= m.status.Phase.Rank() {
		return
	}
	m.status.Phase = phase
	m.setDeadline(phase)
	m.log(v1alpha1.TimelineEntry{Action: "PhaseEntered", Outcome: string(phase)})
}

// concludePhase sets one phase's condition and says whether all up to it is over.
func (m *machine) concludePhase(goal goal, before bool) bool {
	steps := m.stepsOf(goal.phase)
	var open, passed []string
	effects := 0
	for _, step := range steps {
		switch {
		case stepDone(step):
			effects += m.effects(goal, step)
			if m.missing(goal, step) {
				passed = append(passed, fmt.Sprintf("%s: %s", step.Name, strings.TrimSpace(string(step.State)+" "+step.Message)))
			}
		case continued(step, m.textOf(step)):
			if m.matters(goal, step) {
				passed = append(passed, fmt.Sprintf("%s: %s", step.Name, step.Message))
			}
		default:
			open = append(open, step.Name)
		}
	}
	for _, step := range steps {
		if text := m.textOf(step); text != nil && m.behind(step, text) && !slices.Contains(open, step.Name) {
			open = append(open, "look for further objects of "+step.Name)
		}
	}
	if goal.phase == v1alpha1.PhaseContainment && len(m.unlooked()) > 0 {
		open = append(open, "look at "+strings.Join(m.unlooked(), ", "))
	}
	if goal.phase == v1alpha1.PhaseEradication && m.unconfirmed() {
		open = append(open, "a person must confirm the incident")
	}
	if !before {
		if m.status.Phase.Rank() > goal.phase.Rank() || len(open) > 0 && *goal.time(&m.status.Times) != nil {
			m.setCondition(goal.condition, metav1.ConditionFalse, v1alpha1.ReasonNewTarget, "an object that joined is not contained yet")
		}
		return false
	}
	if len(open) > 0 {
		reason := v1alpha1.ReasonInProgress
		if *goal.time(&m.status.Times) != nil {
			reason = v1alpha1.ReasonNewTarget
		}
		m.setCondition(goal.condition, metav1.ConditionFalse, reason, "left to do: "+strings.Join(open, ", "))
		m.enter(goal.phase)
		return false
	}
	m.reach(goal, steps, passed, effects)
	return true
}

// reach takes down that a phase is over, and whether its goal was reached.
func (m *machine) reach(goal goal, steps []*v1alpha1.IncidentStep, passed []string, effects int) {
	was := m.condition(goal.condition)
	status := metav1.ConditionTrue
	reason, message := m.whyNotReached(goal, steps, passed, effects)
	if reason == "" {
		reason = v1alpha1.ReasonStepsDone
	} else {
		status = metav1.ConditionFalse
	}
	m.setCondition(goal.condition, status, reason, message)
	first := status == metav1.ConditionTrue && *goal.time(&m.status.Times) == nil
	if first {
		m.once(goal.time(&m.status.Times))
	}
	switch {
	case was.Status == status && was.Reason == reason:
		return
	case !first && (reason == v1alpha1.ReasonDrifted || was.Reason == v1alpha1.ReasonDrifted):
		return // the losses are on the timeline
	}
	if status == metav1.ConditionTrue {
		m.log(v1alpha1.TimelineEntry{Action: goal.reached, Outcome: "Succeeded"})
	} else if reason != v1alpha1.ReasonNoSteps {
		m.log(v1alpha1.TimelineEntry{Action: goal.reached, Outcome: "NotShown", Message: message})
	}
}

// whyNotReached says why a phase that is over has not reached its goal; empty when it has.
func (m *machine) whyNotReached(goal goal, steps []*v1alpha1.IncidentStep, passed []string, effects int) (reason, message string) {
	contains := goal.phase == v1alpha1.PhaseContainment
	switch lost := m.lostOf(steps); {
	case len(lost) > 0:
		return v1alpha1.ReasonDrifted, "taken away, and made again: " + strings.Join(lost, "; ")
	case len(steps) == 0:
		return v1alpha1.ReasonNoSteps, "the playbook has no steps for it"
	case IsDrill(m.incident):
		return v1alpha1.ReasonDryRun, drillMeans
	case slices.ContainsFunc(steps, dry):
		return v1alpha1.ReasonDryRun, "its steps were only tried"
	case len(passed) > 0:
		return v1alpha1.ReasonStepSkipped, strings.Join(passed, "; ")
	case contains && m.status.OmittedResources > 0:
		return v1alpha1.ReasonStepSkipped, fmt.Sprintf("%d objects beyond the %d that are kept were not acted on", m.status.OmittedResources, len(m.status.Resources))
	case contains && len(m.unreadable()) > 0:
		return v1alpha1.ReasonStepSkipped, "not acted on: " + strings.Join(m.unreadable(), "; ")
	case goal.contains && effects == 0:
		return v1alpha1.ReasonNoTargets, "no step had an effect on any object"
	case len(goal.shown) > 0 && effects == 0:
		return v1alpha1.ReasonNotVerified, "no verify step and no task has shown it"
	default:
		return "", ""
	}
}

func (m *machine) stepsOf(phase v1alpha1.Phase) []*v1alpha1.IncidentStep {
	var steps []*v1alpha1.IncidentStep
	for i := range m.status.Steps {
		if m.status.Steps[i].Phase == phase {
			steps = append(steps, &m.status.Steps[i])
		}
	}
	return steps
}

// matters says whether a step contributes to the goal: to contain, only what has an
// effect does; elsewhere all steps do, but for collecting.
func (m *machine) matters(goal goal, step *v1alpha1.IncidentStep) bool {
	if goal.contains {
		return TraitOf(step.Action).Contains
	}
	return step.Action != "collect"
}

// missing says whether a finished step leaves the goal unshown: a person skipped it, or
// rejected some of its targets. A step that its own `when` or a lack of targets skipped
// was not needed.
func (m *machine) missing(goal goal, step *v1alpha1.IncidentStep) bool {
	if !m.matters(goal, step) || strings.HasPrefix(step.Message, doneBy) {
		return false
	}
	if step.State == v1alpha1.StepSkipped && strings.HasPrefix(step.Message, skippedBy) {
		return true
	}
	return step.StartTime != nil && slices.ContainsFunc(step.Targets, func(target v1alpha1.StepTarget) bool { return target.State == v1alpha1.TargetSkipped })
}

// effects counts what a finished step has really done.
func (m *machine) effects(goal goal, step *v1alpha1.IncidentStep) int {
	if !m.matters(goal, step) || step.State == v1alpha1.StepSkipped || len(goal.shown) > 0 && !slices.Contains(goal.shown, step.Action) {
		return 0
	}
	if len(step.Targets) == 0 {
		return 1
	}
	if strings.HasPrefix(step.Message, doneBy) {
		return 1
	}
	count := 0
	for i := range step.Targets {
		target := &step.Targets[i]
		if target.Mode == v1alpha1.ResponseDryRun {
			continue
		}
		if goal.contains && IsIncident(target, m.incident) && m.hasObjects(goal) {
			continue // a ticket is no containment where there are objects to contain
		}
		switch target.State {
		case v1alpha1.TargetSucceeded, v1alpha1.TargetReverting, v1alpha1.TargetReverted:
			count++
		case v1alpha1.TargetFailed:
			if strings.HasPrefix(target.Message, undoFailed) {
				count++
			}
		}
	}
	return count
}

// review drafts the lesson, and asks for it to be there before the review counts.
func (m *machine) review() {
	if m.status.Phase != v1alpha1.PhaseReview && m.status.Resolution == "" {
		return
	}
	if m.undoesAll() || m.waitsForOriginal() {
		return
	}
	reviewed := findCondition(m.status.Conditions, v1alpha1.ConditionReviewed)
	if !m.LessonDrafted {
		m.out.DraftLesson = true
		return
	}
	if reviewed.Status != metav1.ConditionTrue {
		m.setCondition(v1alpha1.ConditionReviewed, metav1.ConditionTrue, v1alpha1.ReasonLessonDrafted, "")
		m.log(v1alpha1.TimelineEntry{Action: "LessonDrafted", Outcome: "Succeeded", Message: "LessonLearned " + LessonName(m.incident.Name)})
	}
}

// stall says whether the incident waits for what does not come by itself.
func (m *machine) stall() {
	reason, message := m.whyStalled()
	if reason == "" {
		m.setCondition(v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNotStalled, "")
		return
	}
	was := findCondition(m.status.Conditions, v1alpha1.ConditionStalled)
	if was == nil || was.Status != metav1.ConditionTrue || was.Reason != reason {
		if reason != v1alpha1.ReasonPaused {
			m.log(v1alpha1.TimelineEntry{Action: "Stalled", Outcome: reason, Message: message})
		}
	}
	m.setCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, reason, message)
}

func (m *machine) whyStalled() (reason, message string) {
	if m.closed() {
		return "", ""
	}
	if m.paused {
		by := m.status.PausedBy
		if m.Automation.Stopped {
			by = m.Automation.By
		}
		return v1alpha1.ReasonPaused, "stopped by " + by
	}
	if m.waitsForOriginal() && m.Problem == nil {
		return "", ""
	}
	if m.status.Playbook.Revision == "" && m.status.Resolution == "" {
		if m.Problem != nil {
			return m.Problem.Reason, m.Problem.Message
		}
		if m.incident.Spec.PlaybookRef.Name == "" {
			return v1alpha1.ReasonNoPlaybook, "the incident names no playbook: people answer by hand"
		}
	}
	if m.Problem != nil {
		return m.Problem.Reason, m.Problem.Message
	}
	if steps := m.stuckSteps(); len(steps) > 0 {
		return v1alpha1.ReasonStepFailed, joinWords("step "+steps[0].Name+" cannot be undone", stuckMessage(steps[0]))
	}
	if reason, message := m.whyStepsStall(); reason != "" {
		return reason, message
	}
	if m.lateConfirmation() {
		return v1alpha1.ReasonOverdue, "nobody has confirmed that it is an incident: nothing is eradicated before that"
	}
	if m.overduePhase() && m.status.Resolution == "" {
		return v1alpha1.ReasonOverdue, phaseIsLate(m.deadline())
	}
	return "", ""
}

// whyStepsStall says which step waits for a person who does not come by itself.
func (m *machine) whyStepsStall() (reason, message string) {
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		text := m.textOf(step)
		if text == nil {
			continue
		}
		if step.State == v1alpha1.StepFailed && !continued(step, text) || step.State == v1alpha1.StepAwaitingTask && text.Task == nil {
			return v1alpha1.ReasonStepFailed, joinWords("step "+step.Name, step.Message)
		}
		waits := step.State == v1alpha1.StepAwaitingApproval || step.State == v1alpha1.StepAwaitingTask
		if waits && step.DeadlineTime != nil && !m.now.Before(step.DeadlineTime) {
			return v1alpha1.ReasonOverdue, joinWords("step "+step.Name, step.Message)
		}
	}
	return "", ""
}
