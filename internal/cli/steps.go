package cli

import (
	"fmt"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func (v *view) printSteps() {
	steps := v.incident.Status.Steps
	if len(steps) == 0 {
		return
	}
	v.section("STEPS")
	widths := stepTable(v, steps).widths()
	var phase v1alpha1.Phase
	for i := range steps {
		if steps[i].Phase != phase {
			phase = steps[i].Phase
			fmt.Fprintln(v.Out, "  "+string(phase))
		}
		v.printStep(&steps[i], widths)
	}
}

// stepTable aligns all steps, also across phases.
func stepTable(v *view, steps []v1alpha1.IncidentStep) *table {
	t := &table{}
	for i := range steps {
		t.add(v.stepRow(&steps[i])...)
	}
	return t
}

func (v *view) stepRow(step *v1alpha1.IncidentStep) []cell {
	mark, color := v.stepMark(step.State)
	took, due, attempt := v.took(step.StartTime, step.EndTime), "", ""
	if took != "" && step.EndTime == nil {
		took = "for " + took
		due = v.dueText(step.DeadlineTime)
	}
	if step.Attempts > 1 {
		attempt = fmt.Sprintf("attempt %d", step.Attempts)
	}
	return []cell{{mark + " " + clean(step.Name), color}, plain(clean(step.Action)), {string(step.State), color}, plain(joined(", ", took, due, attempt))}
}

func (v *view) stepMark(state v1alpha1.StepState) (string, paint) {
	switch state {
	case v1alpha1.StepSucceeded:
		return "[x]", v.style.green
	case v1alpha1.StepRunning:
		return "[>]", v.style.bold
	case v1alpha1.StepAwaitingApproval, v1alpha1.StepAwaitingTask:
		return "[?]", v.style.yellow
	case v1alpha1.StepFailed:
		return "[!]", v.style.red
	case v1alpha1.StepSkipped:
		return "[-]", v.style.dim
	case v1alpha1.StepReverted:
		return "[<]", v.style.dim
	default:
		return "[ ]", v.style.dim
	}
}

const stepIndent = "        "

func (v *view) printStep(step *v1alpha1.IncidentStep, widths []int) {
	t := &table{indent: "    "}
	t.writeRow(v.Out, v.stepRow(step), widths, 0)
	// A step that waits says so below, under what waits for a person.
	if step.Message != "" && step.State != v1alpha1.StepAwaitingApproval && step.State != v1alpha1.StepAwaitingTask {
		v.indented(step.Message)
	}
	for _, approver := range step.Approvers {
		v.indented(fmt.Sprintf("approved by %s (%s)", approver.By, approver.DecisionRef.Name))
	}
	for _, target := range step.Targets {
		line := targetName(target) + ": " + string(target.State)
		if target.Attempts > 1 {
			line += fmt.Sprintf(" (attempt %d)", target.Attempts)
		}
		if target.Proof != "" {
			line += ", proof " + string(target.Proof)
		}
		if target.Message != "" {
			line += ", " + target.Message
		}
		v.indented(line)
	}
}

func (v *view) indented(text string) {
	for _, line := range wrap(text, max(v.terminal.width-len(stepIndent), 0)) {
		fmt.Fprintln(v.Out, stepIndent+line)
	}
}
