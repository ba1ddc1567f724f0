package lifecycle

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxAnswers is how many answers the status keeps. Further Decisions wait until some of
// these have told their Decisions.
const maxAnswers = 32

// answer is what becomes of a Decision.
type answer struct {
	accepted bool
	reason   string
	message  string
}

// accepted is the outcome of a Decision that took effect.
const accepted = "Accepted"

func accept(message string) answer {
	return answer{true, v1alpha1.ReasonAccepted, message}
}

func refuse(reason, format string, args ...any) answer {
	return answer{false, reason, fmt.Sprintf(format, args...)}
}

// deciders say what becomes of each type of Decision about an Incident.
var deciders map[v1alpha1.DecisionType]func(*machine, *v1alpha1.Decision) answer

func init() {
	deciders = map[v1alpha1.DecisionType]func(*machine, *v1alpha1.Decision) answer{
		v1alpha1.DecisionAcknowledge:   (*machine).acknowledge,
		v1alpha1.DecisionConfirm:       (*machine).confirmIncident,
		v1alpha1.DecisionApprove:       (*machine).approve,
		v1alpha1.DecisionReject:        (*machine).reject,
		v1alpha1.DecisionCompleteTask:  (*machine).completeTask,
		v1alpha1.DecisionSkipStep:      (*machine).skipStep,
		v1alpha1.DecisionRetryStep:     (*machine).retryStep,
		v1alpha1.DecisionPause:         (*machine).pauseIncident,
		v1alpha1.DecisionResume:        (*machine).resumeIncident,
		v1alpha1.DecisionSetSeverity:   (*machine).setSeverity,
		v1alpha1.DecisionDetermine:     (*machine).determine,
		v1alpha1.DecisionUsePlaybook:   (*machine).usePlaybook,
		v1alpha1.DecisionAddResource:   (*machine).addResourceBy,
		v1alpha1.DecisionDetachEvent:   (*machine).detachEvent,
		v1alpha1.DecisionMarkDuplicate: (*machine).markDuplicate,
		v1alpha1.DecisionRunAction:     (*machine).runAction,
		v1alpha1.DecisionNote:          (*machine).note,
		v1alpha1.DecisionClose:         (*machine).close,
	}
}

// decide takes in the people's Decisions. Each is answered once: what has an answer in
// the status is not looked at again.
func (m *machine) decide() {
	answered := map[string]bool{}
	for _, a := range m.status.Answers {
		answered[string(a.UID)] = true
	}
	for i := range m.Decisions {
		decision := &m.Decisions[i]
		uid := string(decision.UID)
		if answered[uid] || m.Answered[uid] {
			continue
		}
		if m.full() {
			return
		}
		if len(m.status.Answers) >= maxAnswers {
			m.wake(m.Now.Add(time.Second))
			return
		}
		m.answer(decision)
		answered[uid] = true
	}
}

func (m *machine) answer(decision *v1alpha1.Decision) {
	a := m.judge(decision)
	status, outcome := metav1.ConditionTrue, accepted
	if !a.accepted {
		status, outcome = metav1.ConditionFalse, "Refused"
	}
	m.status.Answers = append(m.status.Answers, v1alpha1.DecisionAnswer{
		Name: decision.Name, UID: v1alpha1.ObjectUID(decision.UID), Status: status, Reason: a.reason, Message: Cut(a.message, 1024),
	})
	message := a.message
	if decision.Spec.Reason != "" {
		message = joinWords(message, decision.Spec.Reason)
	}
	if !a.accepted {
		message = a.reason + ": " + message
	}
	m.log(v1alpha1.TimelineEntry{Actor: decision.Spec.By, Decision: decision.Name, Action: string(decision.Spec.Type), Outcome: outcome,
		Step: decision.Spec.Step, Message: message})
}

func (m *machine) judge(decision *v1alpha1.Decision) answer {
	if why := m.Unguarded[string(decision.UID)]; why != "" {
		return refuse(v1alpha1.ReasonNotGuarded, "%s", why)
	}
	decider, ok := deciders[decision.Spec.Type]
	if !ok {
		return refuse(v1alpha1.ReasonNotAwaited, "an Incident takes no Decision of type '%s'", decision.Spec.Type)
	}
	if m.closed() && decision.Spec.Type != v1alpha1.DecisionNote {
		return refuse(v1alpha1.ReasonClosed, "the incident is closed")
	}
	if m.status.Resolution != "" && decision.Spec.Step != "" && !m.aboutUndoing(decision) {
		return refuse(v1alpha1.ReasonAlreadyDecided, "the incident is being closed as %s", m.status.Resolution)
	}
	if m.waitsForOriginal() && !m.takesAsDuplicate(decision) {
		return refuse(v1alpha1.ReasonDuplicate, "the incident is a duplicate of '%s', by %s, and does nothing new: decide about that one", m.status.DuplicateOf.Name, m.status.DuplicateOf.By)
	}
	if role := decision.Spec.Role; role != "" {
		if reason, message, ok := HoldsRole(m.Plan, role, decision.Spec.By, decision.Spec.Groups); !ok {
			return refuse(reason, "%s", message)
		}
	}
	return decider(m, decision)
}

// aboutUndoing says that a Decision is about effects that could not be undone, where all are.
func (m *machine) aboutUndoing(decision *v1alpha1.Decision) bool {
	return m.undoesAll() &&
		(decision.Spec.Type == v1alpha1.DecisionRetryStep || decision.Spec.Type == v1alpha1.DecisionSkipStep)
}

// stepOf finds the step a Decision is about.
func (m *machine) stepOf(decision *v1alpha1.Decision) (*v1alpha1.IncidentStep, *v1alpha1.PlaybookStep, *answer) {
	step := m.stepNamed(decision.Spec.Step)
	if step == nil {
		refused := refuse(v1alpha1.ReasonNoSuchStep, "the incident has no step '%s'", decision.Spec.Step)
		return nil, nil, &refused
	}
	text := m.textOf(step)
	if text == nil {
		refused := refuse(v1alpha1.ReasonNotAwaited, "the text of the pinned playbook is gone: step '%s' can only be waived, with SkipStep", step.Name)
		return nil, nil, &refused
	}
	return step, text, nil
}

func (m *machine) stepNamed(name string) *v1alpha1.IncidentStep {
	for i := range m.status.Steps {
		if m.status.Steps[i].Name == name {
			return &m.status.Steps[i]
		}
	}
	return nil
}

// inRole checks that who decides holds the role that a step asks for.
func (m *machine) inRole(decision *v1alpha1.Decision, role string) *answer {
	if role == "" {
		return nil
	}
	if reason, message, ok := HoldsRole(m.Plan, role, decision.Spec.By, decision.Spec.Groups); !ok {
		refused := refuse(reason, "%s", message)
		return &refused
	}
	return nil
}

func (m *machine) acknowledge(decision *v1alpha1.Decision) answer {
	m.status.Assignee = decision.Spec.By
	m.once(&m.status.Times.AcknowledgedTime)
	m.setCondition(v1alpha1.ConditionAcknowledged, metav1.ConditionTrue, v1alpha1.ReasonByPerson, decision.Spec.By+" has taken it on")
	return accept(decision.Spec.By + " has taken it on")
}

func (m *machine) pauseIncident(decision *v1alpha1.Decision) answer {
	if m.status.PausedBy != "" {
		return refuse(v1alpha1.ReasonAlreadyDecided, "%s has paused it already", m.status.PausedBy)
	}
	m.status.PausedBy = decision.Spec.By
	return accept("the automation of this incident stops; what is isolated stays isolated")
}

func (m *machine) resumeIncident(*v1alpha1.Decision) answer {
	if m.status.PausedBy == "" {
		if m.Automation.Stopped {
			return refuse(v1alpha1.ReasonNotAwaited, "not this incident but the whole domain is stopped, by %s: decide ResumeAutomation on the ResponsePlan 'default'", m.Automation.By)
		}
		return refuse(v1alpha1.ReasonNotAwaited, "the incident is not paused")
	}
	m.status.PausedBy = ""
	return accept("the automation of this incident goes on")
}

func (m *machine) setSeverity(decision *v1alpha1.Decision) answer {
	before := m.status.Severity
	m.status.Severity = decision.Spec.Severity
	m.status.Priority = PriorityOf(decision.Spec.Severity, m.incident.Spec.Impact)
	return accept(fmt.Sprintf("severity %s, was %s", decision.Spec.Severity, before))
}

func (m *machine) note(*v1alpha1.Decision) answer { return accept("noted") }
