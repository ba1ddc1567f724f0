package lifecycle

import (
	"slices"
	"sort"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// An approve step is asked for with what the steps after it will act on. What these must look
// up is looked up for that before they begin, and again when they do: what is found then and
// was not shown has the approval asked for anew.

// isShown says that what a step must look up is shown to those who approve. What only reads or
// tells does nothing to it: an approval is for neither.
func isShown(text *v1alpha1.PlaybookStep) bool {
	trait := TraitOf(ActionOf(text))
	return Resolves(text) && !trait.Reads && !trait.Tells
}

// neverBegan says that the turn of a step has not come yet, not once.
func neverBegan(step *v1alpha1.IncidentStep) bool {
	return step.State == v1alpha1.StepPending && step.StartTime == nil
}

// toLookUp lists the indexes of the steps that an approve step guards, have not begun and
// must look up what they act on. Those of its own parallel group begin with it.
func (m *machine) toLookUp(approve *v1alpha1.IncidentStep) []int {
	var indexes []int
	group := ""
	if text := m.textOf(approve); text != nil {
		group = text.Parallel
	}
	for _, guarded := range m.guardedBy(approve) {
		if text := m.textOf(guarded); text != nil && isShown(text) && neverBegan(guarded) && (group == "" || text.Parallel != group) {
			indexes = append(indexes, slices.IndexFunc(m.status.Steps, func(step v1alpha1.IncidentStep) bool { return step.Name == guarded.Name }))
		}
	}
	return indexes
}

// lookUpAnew has what the guarded steps act on looked up again: an approve step begins.
func (m *machine) lookUpAnew(approve *v1alpha1.IncidentStep) {
	for _, index := range m.toLookUp(approve) {
		m.status.Steps[index].ResolvedResources, m.status.Steps[index].NextTime = nil, nil
	}
}

// lookUp asks for what the guarded steps act on, before anybody is asked to approve. It says
// whether there is any.
func (m *machine) lookUp(approve *v1alpha1.IncidentStep) bool {
	asks := false
	for _, index := range m.toLookUp(approve) {
		if guarded := &m.status.Steps[index]; guarded.NextTime == nil && !m.lookedUp(guarded) {
			asks = true
			m.out.Plans = append(m.out.Plans, Work{VerbResolve, index, WholeStep})
		}
	}
	return asks
}

func (m *machine) lookedUp(guarded *v1alpha1.IncidentStep) bool {
	return guarded.ResolvedResources != nil && *guarded.ResolvedResources == m.present()
}

// askWithin is for how long the API server's trouble in passing keeps a question back: who is
// asked at once would be asked anew as soon as the objects are known.
const askWithin = 30 * time.Second

// holdsBack says that nobody is asked yet, for what would be shown is being looked up again.
func (m *machine) holdsBack(approve *v1alpha1.IncidentStep) bool {
	if approve.State != v1alpha1.StepRunning || approve.StartTime == nil || m.late(approve) {
		return false
	}
	until := approve.StartTime.Add(askWithin)
	open := slices.ContainsFunc(m.toLookUp(approve), func(index int) bool { return !m.lookedUp(&m.status.Steps[index]) })
	if !open || !m.Now.Before(until) {
		return false
	}
	m.wake(until)
	m.lookUpAgain(approve)
	return true
}

// lookUpAgain asks for what could not be looked up at once. Where people are asked already it
// keeps nobody from approving.
func (m *machine) lookUpAgain(approve *v1alpha1.IncidentStep) {
	for _, index := range m.toLookUp(approve) {
		guarded := &m.status.Steps[index]
		switch {
		case m.lookedUp(guarded) || guarded.NextTime == nil:
		case m.Now.Before(guarded.NextTime.Time):
			m.wake(guarded.NextTime.Time)
		default:
			m.out.Plans = append(m.out.Plans, Work{VerbResolve, index, WholeStep})
		}
	}
}

// recordShown takes down what a step would act on that has not begun.
func (m *machine) recordShown(step *v1alpha1.IncidentStep, result Result) {
	problem := result.Message
	if result.State == v1alpha1.TargetSucceeded {
		problem = unusable(result.Targets)
	}
	guardian := m.guardianOf(step)
	soon := guardian != nil && guardian.StartTime != nil && m.Now.Sub(guardian.StartTime.Time) < lookWithin
	if result.State != v1alpha1.TargetSucceeded && !result.Permanent && soon {
		next := metav1.NewTime(m.Now.Add(orDefault(result.After, resolveAgainAfter)))
		step.NextTime, step.Message = &next, Cut(joinWords(notLookedUp, problem), 1024)
		return
	}
	count := m.present()
	step.ResolvedResources, step.NextTime, step.Message = &count, nil, ""
	if problem != "" {
		step.Message = Cut(joinWords(notLookedUp, problem), 1024)
		return
	}
	if more := unknown(step, result.Targets); more > 0 && !m.roomFor(more) {
		step.Message = Cut(joinWords(notLookedUp, m.noRoom(more)), 1024)
		return
	}
	step.Targets = nil
	for i := range result.Targets {
		if found := &result.Targets[i]; findTarget(step.Targets, found.UID) == nil {
			step.Targets = append(step.Targets, v1alpha1.StepTarget{
				APIVersion: found.APIVersion, Kind: found.Kind, Namespace: found.Namespace, Name: found.Name, UID: found.UID,
				State: v1alpha1.TargetShown, Message: "shown to those who approve; looked up again when the step begins",
			})
		}
	}
}

// notLookedUp begins the message of a step whose objects could not be shown.
const notLookedUp = "what it acts on is not known yet"

// guardianOf finds the approve step that guards a step; nil when there is none.
func (m *machine) guardianOf(step *v1alpha1.IncidentStep) *v1alpha1.IncidentStep {
	var last *v1alpha1.IncidentStep
	for i := range m.status.Steps {
		other := &m.status.Steps[i]
		if other.Name == step.Name {
			return last
		}
		if other.Phase == step.Phase && other.Action == "approve" && other.Definition == "" {
			last = other
		}
	}
	return nil
}

// leaveShown takes down that a step did not need what was shown for it. The UIDs stay: the
// approval was for them too.
func leaveShown(step *v1alpha1.IncidentStep) {
	for i := range step.Targets {
		if target := &step.Targets[i]; target.State == v1alpha1.TargetShown {
			target.State, target.Message = v1alpha1.TargetSkipped, "the step was not needed"
		}
	}
}

// shownTargets are the UIDs of what a guarded step was found to act on.
func (m *machine) shownTargets(step *v1alpha1.IncidentStep) []string {
	text := m.textOf(step)
	if text == nil || !isShown(text) {
		return nil
	}
	var uids []string
	for i := range step.Targets {
		uids = append(uids, string(step.Targets[i].UID))
	}
	sort.Strings(uids)
	return uids
}

// whatFollows says what a guarded step does, and to what as far as that is known.
func (m *machine) whatFollows(step *v1alpha1.IncidentStep) string {
	text := m.textOf(step)
	what := step.Name + " (" + step.Action
	switch {
	case text == nil || !isShown(text):
	case len(step.Targets) == 0:
		what += ": " + orText(step.Message, "it finds nothing to act on")
	default:
		var names []string
		for i := range step.Targets {
			names = append(names, objectName(step.Targets[i].Kind, step.Targets[i].Namespace, step.Targets[i].Name))
		}
		what += " of " + listed(names)
	}
	return what + ")"
}
