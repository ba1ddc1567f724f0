package lifecycle

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// maxDeterminations is how many questions an incident may have.
const maxDeterminations = 16

// unconfirmed says that eradication and recovery wait until a person has confirmed that
// it is an incident.
func (m *machine) unconfirmed() bool {
	return m.incident.Spec.Confirm == v1alpha1.ConfirmRequired && m.status.Resolution == "" &&
		m.condition(v1alpha1.ConditionConfirmed).Status != metav1.ConditionTrue
}

func (m *machine) defaultConfirmed() {
	switch {
	case findCondition(m.status.Conditions, v1alpha1.ConditionConfirmed) != nil:
	case m.incident.Spec.Confirm == v1alpha1.ConfirmRequired:
		m.setCondition(v1alpha1.ConditionConfirmed, metav1.ConditionFalse, v1alpha1.ReasonConfirmationAwaited, "a person must confirm it before it is eradicated")
	default:
		m.setCondition(v1alpha1.ConditionConfirmed, metav1.ConditionTrue, v1alpha1.ReasonNotRequired, "")
	}
}

func (m *machine) setConfirmed(by string) {
	m.setCondition(v1alpha1.ConditionConfirmed, metav1.ConditionTrue, v1alpha1.ReasonByPerson, "confirmed by "+by)
}

// confirmIncident lets eradication begin.
func (m *machine) confirmIncident(decision *v1alpha1.Decision) answer {
	switch {
	case m.status.Resolution != "":
		return refuse(v1alpha1.ReasonAlreadyDecided, "the incident is being closed as %s", m.status.Resolution)
	case m.incident.Spec.Confirm != v1alpha1.ConfirmRequired:
		return refuse(v1alpha1.ReasonNotAwaited, "nobody needs to confirm the incident: its `confirm` is not 'Required'")
	case !m.unconfirmed():
		return refuse(v1alpha1.ReasonAlreadyDecided, "%s", orText(m.condition(v1alpha1.ConditionConfirmed).Message, "it is confirmed already"))
	}
	m.setConfirmed(decision.Spec.By)
	return accept("confirmed: eradication may begin")
}

func (m *machine) awaitConfirmation() {
	if m.unconfirmed() {
		m.add(v1alpha1.Awaiting{
			Type: v1alpha1.AwaitingConfirmation, Message: "confirm that it is an incident, or close it as 'FalsePositive': nothing is eradicated before that",
			Command: m.command("confirm", ""),
		})
	}
}

// lateConfirmation says that nobody has confirmed the incident in time.
func (m *machine) lateConfirmation() bool {
	return m.unconfirmed() && slices.ContainsFunc(m.status.Awaiting, func(awaiting v1alpha1.Awaiting) bool {
		return awaiting.Type == v1alpha1.AwaitingConfirmation && m.now.Sub(awaiting.SinceTime.Time) >= answerWithin[awaiting.Type]
	})
}

// determine takes down what was found about a question.
func (m *machine) determine(decision *v1alpha1.Decision) answer {
	found := v1alpha1.IncidentDetermination{
		Determination: decision.Spec.Determination, By: decision.Spec.By,
		DecisionRef: v1alpha1.DecisionReference{Name: decision.Name}, Time: m.now,
	}
	for i := range m.status.Determinations {
		known := &m.status.Determinations[i]
		switch {
		case known.Name != found.Name:
		case known.Outcome == found.Outcome && known.By != "":
			return refuse(v1alpha1.ReasonAlreadyDecided, "%s is %s already, by %s", known.Name, known.Outcome, known.By)
		default:
			before := known.Outcome
			*known = found
			return accept(fmt.Sprintf("%s is %s, was %s", found.Name, found.Outcome, before))
		}
	}
	if len(m.status.Determinations) >= maxDeterminations {
		return refuse(v1alpha1.ReasonNotAllowed, "the incident has %d determinations already: that is the most", maxDeterminations)
	}
	m.status.Determinations = append(m.status.Determinations, found)
	return accept(fmt.Sprintf("%s is %s", found.Name, found.Outcome))
}
