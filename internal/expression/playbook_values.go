package expression

import (
	"fmt"
	"slices"

	"github.com/google/cel-go/common/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// valueChecker compiles what a playbook makes its values of.
type valueChecker struct {
	variables []string
	before    map[v1alpha1.StepName]*v1alpha1.PlaybookStep
	problems  []error
}

// checkVariables compiles a playbook's `variables`. Each sees those before it.
func checkVariables(variables []v1alpha1.NamedExpression) []error {
	checker := &valueChecker{}
	for i := range variables {
		variable := &variables[i]
		field := fmt.Sprintf("`variables[%s].expression`", variable.Name)
		program := checker.compile(Playbook, field, variable.Expression, types.DynType)
		if program != nil && program.uses.readsSteps {
			checker.add("%s must not read `steps`: variables are the same for all steps; use `steps` in the step itself", field)
		}
		checker.variables = append(checker.variables, variable.Name)
	}
	return checker.problems
}

// checkValues compiles what a step makes its values of.
func checkValues(step *v1alpha1.PlaybookStep, variables []v1alpha1.NamedExpression, before map[v1alpha1.StepName]*v1alpha1.PlaybookStep) []error {
	checker := &valueChecker{before: before}
	for i := range variables {
		checker.variables = append(checker.variables, variables[i].Name)
	}
	about := Playbook
	if step.Target != "" || step.Targets != "" {
		about = Target
	}
	checker.optional(Playbook, "`targets`", step.Targets)
	if step.RevokeAccess != nil {
		checker.optional(Playbook, "`revokeAccess.subject`", step.RevokeAccess.Subject)
	}
	if step.Patch != nil {
		checker.optional(Target, "`patch.expression`", step.Patch.Expression)
	}
	if step.Apply != nil {
		checker.optional(Playbook, "`apply.expression`", step.Apply.Expression)
	}
	if step.Job != nil {
		for _, one := range step.Job.Environment {
			checker.compile(about, fmt.Sprintf("`job.environment[%s].expression`", one.Name), one.Expression, types.StringType)
		}
	}
	if step.HTTP != nil {
		checker.optional(about, "`http.body`", step.HTTP.Body)
		for _, one := range step.HTTP.Outputs {
			checker.compile(Response, fmt.Sprintf("`http.outputs[%s].expression`", one.Name), one.Expression, types.DynType)
		}
	}
	if step.Notify != nil {
		for _, one := range []v1alpha1.NamedExpression{{Name: "title", Expression: step.Notify.Title}, {Name: "message", Expression: step.Notify.Message}} {
			if one.Expression != "" {
				checker.compile(Playbook, fmt.Sprintf("`notify.%s`", one.Name), one.Expression, types.StringType)
			}
		}
	}
	return checker.problems
}

func (c *valueChecker) add(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

func (c *valueChecker) optional(scope Scope, field string, source v1alpha1.Expression) {
	if source != "" {
		c.compile(scope, field, source, types.DynType)
	}
}

// compile checks one expression; nil when it does not compile.
func (c *valueChecker) compile(scope Scope, field string, source v1alpha1.Expression, want *types.Type) *Program {
	program, err := compile(scope, string(source), want)
	if err != nil {
		c.add("%s %w", field, err)
		return nil
	}
	for _, name := range program.uses.variables {
		if !slices.Contains(c.variables, name) {
			c.add("%s uses `variables.%s`: it must be one of the playbook's `variables`%s", field, name, c.known())
		}
	}
	for _, name := range program.uses.steps {
		if _, ok := c.before[v1alpha1.StepName(name)]; !ok && c.before != nil {
			c.problems = append(c.problems, &ReferenceError{fmt.Sprintf("%s uses `steps` of %q: it must be a step that comes before this one", field, name)})
		}
	}
	return program
}

func (c *valueChecker) known() string {
	if len(c.variables) == 0 {
		return ", and there is none before"
	}
	return fmt.Sprintf(", which are %q", c.variables)
}
