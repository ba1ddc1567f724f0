package lifecycle

import (
	"fmt"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// etcd takes no object of more than 1.5 MiB, and an incident that cannot be written hangs. So
// the targets of all steps together have a share of it, which is more than a thousand of them
// take; a step that would need more fails in words.
const (
	// maxTargetBytes is how many bytes the targets of all steps may take, as JSON.
	maxTargetBytes = 1_000_000
	// targetReserve is how many bytes one more target is taken to need in the end.
	targetReserve = 1100
	// targetOverhead is what the names of a target's fields, its times and numbers take.
	targetOverhead = 280
	// crowded is from how many targets on their messages are kept short.
	crowded = 256
	// shortMessage is how many characters they have then.
	shortMessage = 120
)

// JSONLen is how many bytes a text takes as JSON.
func JSONLen(text string) int {
	size := len(text)
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			size++
		case c < 0x20 || c == '<' || c == '>' || c == '&':
			size += 5
		}
	}
	return size
}

func targetBytes(target *v1alpha1.StepTarget) int {
	return targetOverhead + len(target.APIVersion) + len(target.Kind) + len(target.Namespace) + len(target.Name) + len(target.UID) +
		JSONLen(target.ApprovedBy) + JSONLen(target.ConfirmedBy) + JSONLen(target.Message) + JSONLen(target.Undo)
}

// neededBytes is how many bytes a target takes, or will: before it is acted on it has no undo
// record, and nobody has approved it. What is verified gets neither.
func neededBytes(step *v1alpha1.IncidentStep, target *v1alpha1.StepTarget) int {
	size := targetBytes(target)
	switch {
	case step.Action == "verify":
	case target.State == v1alpha1.TargetShown, target.State == v1alpha1.TargetPending, target.State == v1alpha1.TargetHeld, target.State == v1alpha1.TargetActing && target.Undo == "":
		return max(size, targetReserve)
	}
	return size
}

// roomFor says whether so many more targets fit into the incident.
func (m *machine) roomFor(more int) bool {
	used := more * targetReserve
	for i := range m.status.Steps {
		step := &m.status.Steps[i]
		for j := range step.Targets {
			used += neededBytes(step, &step.Targets[j])
		}
	}
	return used <= maxTargetBytes
}

// noRoom says that a step's targets do not fit.
func (m *machine) noRoom(more int) string {
	count := 0
	for i := range m.status.Steps {
		count += len(m.status.Steps[i].Targets)
	}
	return fmt.Sprintf("there is no room on the incident for %d more objects beside the %d its steps act on: act on fewer in one incident, or do it by hand", more, count)
}

// fit ends a step whose targets the incident has no room for, before anything is done to them.
func (m *machine) fit(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, want []v1alpha1.StepTarget) bool {
	more := unknown(step, want)
	if more == 0 || m.roomFor(more) {
		return true
	}
	m.fail(step, text, m.noRoom(more))
	return false
}

// fitLater ends a step that was done, when the incident has no room for what has joined since.
// One that has failed or that a person has decided about stays as it is.
func (m *machine) fitLater(step *v1alpha1.IncidentStep, text *v1alpha1.PlaybookStep, want []v1alpha1.StepTarget) bool {
	more := unknown(step, want)
	if more == 0 || m.roomFor(more) {
		return true
	}
	if (step.State == v1alpha1.StepSucceeded || step.State == v1alpha1.StepReverted) && !strings.HasPrefix(step.Message, doneBy) {
		m.fail(step, text, m.noRoom(more))
	}
	return false
}

// unknown counts the targets that a step does not have.
func unknown(step *v1alpha1.IncidentStep, want []v1alpha1.StepTarget) int {
	more := 0
	for i := range want {
		if findTarget(step.Targets, want[i].UID) == nil {
			more++
		}
	}
	return more
}

// roomToJoin says whether one more object fits into all steps that have begun.
func (m *machine) roomToJoin() bool {
	begun := 0
	for i := range m.status.Steps {
		if m.status.Steps[i].StartTime != nil && len(m.status.Steps[i].Targets) > 0 {
			begun++
		}
	}
	return begun == 0 || m.roomFor(begun)
}

// shorten keeps the messages of many targets short. What they begin with stays: much goes by it.
func (m *machine) shorten() {
	count := 0
	for i := range m.status.Steps {
		count += len(m.status.Steps[i].Targets)
	}
	if count < crowded {
		return
	}
	for i := range m.status.Steps {
		targets := m.status.Steps[i].Targets
		for j := range targets {
			targets[j].Message = Cut(targets[j].Message, shortMessage)
		}
	}
}
