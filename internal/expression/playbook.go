package expression

import (
	"errors"
	"fmt"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// CheckPlaybook finds everything in a playbook that the API server cannot: expressions
// that do not compile, step names used twice, and reverts of steps that do not come
// before them. It names every problem, by phase and step; nil means that there is none.
// A problem of names alone is a *ReferenceError.
func CheckPlaybook(playbook *v1alpha1.ResponsePlaybookSpec) error {
	problems := checkVariables(playbook.Variables)
	seen := map[v1alpha1.StepName]*v1alpha1.PlaybookStep{}
	for _, phase := range []struct {
		name  string
		steps []v1alpha1.PlaybookStep
	}{
		{"containment", playbook.Containment.Steps},
		{"eradication", playbook.Eradication.Steps},
		{"recovery", playbook.Recovery.Steps},
	} {
		for i := range phase.steps {
			step := &phase.steps[i]
			for _, problem := range append(checkStep(step, seen), checkValues(step, playbook.Variables, seen)...) {
				problems = append(problems, fmt.Errorf("%s step %q: %w", phase.name, step.Name, problem))
			}
			seen[v1alpha1.StepName(step.Name)] = step
		}
	}
	return errors.Join(problems...)
}

// ReferenceError says that a playbook names a step that it must not.
type ReferenceError struct{ message string }

// Error says what is wrong and what would be right.
func (e *ReferenceError) Error() string { return e.message }

func checkStep(step *v1alpha1.PlaybookStep, before map[v1alpha1.StepName]*v1alpha1.PlaybookStep) []error {
	var problems []error
	if _, taken := before[v1alpha1.StepName(step.Name)]; taken {
		problems = append(problems, &ReferenceError{"`name` must be unique in the playbook, over all phases"})
	}
	if lifecycle.IsAdHoc(step.Name) {
		problems = append(problems, &ReferenceError{"`name` must not be 'adhoc-' and a number: what people run beside the playbook is named so"})
	}
	if step.Approve != nil && step.Parallel != "" {
		problems = append(problems, errors.New("`parallel` must not be set for 'approve': the steps beside it would not wait for it; put the approval before the group, as a step of its own"))
	}
	if step.When != "" {
		if _, err := CompileBool(Incident, step.When); err != nil {
			problems = append(problems, fmt.Errorf("`when` %w", err))
		}
	}
	if step.Verify != nil && step.Verify.Expression != "" {
		if _, err := CompileBool(Verify, step.Verify.Expression); err != nil {
			problems = append(problems, fmt.Errorf("`verify.expression` %w", err))
		}
	}
	if step.Revert == nil {
		return problems
	}
	for _, name := range step.Revert.Steps {
		target, ok := before[name]
		switch {
		case !ok:
			problems = append(problems, &ReferenceError{fmt.Sprintf("`revert.steps` names %q: it must be a step that comes before this one", name)})
		case !lifecycle.TraitOf(lifecycle.ActionOf(target)).Undoable:
			problems = append(problems, &ReferenceError{fmt.Sprintf("`revert.steps` names %q: it must be a step that can be undone, such as 'isolate'", name)})
		}
	}
	return problems
}
