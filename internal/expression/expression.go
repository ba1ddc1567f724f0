// Package expression is the one CEL environment of Firebreak: Kubernetes' own dialect,
// with typed variables, so that a typo does not compile, and with bounds, so that no
// expression and no hostile value can hold up the manager.
//
// A field that is absent cannot be read plainly: that is an evaluation error, never
// an empty value, so that a rule cannot decide by a fact that was not reported.
// `has(event.source.rule)` asks for it, and `event.source.?rule.orValue("")` gives a
// value in its place.
package expression

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// CostLimit is what one evaluation may cost, in the units of CEL: about a tenth of a second.
	CostLimit = 1_000_000

	// checkEvery is after how many steps of a loop a cancelled context is noticed.
	checkEvery = 100

	// shownProblems is how many problems of one expression are named.
	shownProblems = 3
)

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	source  string
	program cel.Program
	uses    uses
}

// CompileBool compiles an expression that must yield true or false.
func CompileBool(scope Scope, source v1alpha1.Expression) (*Program, error) {
	return compile(scope, string(source), types.BoolType)
}

// CompileString compiles an expression that must yield text.
func CompileString(scope Scope, source v1alpha1.Expression) (*Program, error) {
	return compile(scope, string(source), types.StringType)
}

func compile(scope Scope, source string, want *types.Type) (*Program, error) {
	environment, err := environmentOf(scope)
	if err != nil {
		return nil, err
	}
	if want == types.DynType {
		ast, err := compileMixed(environment.env, source)
		if err != nil {
			return nil, err
		}
		return programOf(environment.env, ast, source)
	}
	ast, issues := environment.env.Compile(source)
	if issues.Err() != nil {
		return nil, describe(issues, 0)
	}
	if got := ast.OutputType(); !got.IsExactType(want) && !got.IsExactType(types.DynType) {
		return nil, fmt.Errorf("1:1: must yield a %s, but yields a %s", want, got)
	}
	return programOf(environment.env, ast, source)
}

func programOf(env *cel.Env, ast *cel.Ast, source string) (*Program, error) {
	program, err := env.Program(ast, cel.CostLimit(CostLimit), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		return nil, fmt.Errorf("1:1: %w", err)
	}
	return &Program{source: source, program: program, uses: usesOf(ast)}, nil
}

// describe says where and why an expression does not compile, as 'line:column: cause'.
// shift is by how many columns the first line was moved.
func describe(issues *cel.Issues, shift int) error {
	problems := make([]string, 0, shownProblems)
	for _, problem := range issues.Errors() {
		if len(problems) == shownProblems {
			problems = append(problems, fmt.Sprintf("and %d more", len(issues.Errors())-shownProblems))
			break
		}
		message := strings.TrimSuffix(problem.Message, " (in container '')")
		line, column := problem.Location.Line(), problem.Location.Column()+1
		if line == 1 {
			column = max(column-shift, 1)
		}
		problems = append(problems, fmt.Sprintf("%d:%d: %s", line, column, message))
	}
	return fmt.Errorf("%s", strings.Join(problems, "; "))
}

// Source is the text of the expression.
func (p *Program) Source() string { return p.source }

// Bool evaluates an expression compiled by CompileBool.
func (p *Program) Bool(ctx context.Context, variables Variables) (bool, error) {
	value, err := p.eval(ctx, variables)
	if err != nil {
		return false, err
	}
	result, ok := value.(types.Bool)
	if !ok {
		return false, fmt.Errorf("must yield a bool, but has yielded a %s", value.Type().TypeName())
	}
	return bool(result), nil
}

// String evaluates an expression compiled by CompileString.
func (p *Program) String(ctx context.Context, variables Variables) (string, error) {
	value, err := p.eval(ctx, variables)
	if err != nil {
		return "", err
	}
	result, ok := value.(types.String)
	if !ok {
		return "", fmt.Errorf("must yield a string, but has yielded a %s", value.Type().TypeName())
	}
	return string(result), nil
}

func (p *Program) eval(ctx context.Context, variables Variables) (ref.Val, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	value, _, err := p.program.ContextEval(ctx, variables.values)
	if cancelled := ctx.Err(); cancelled != nil {
		return nil, cancelled
	}
	if err != nil {
		return nil, fmt.Errorf("%s", strings.ReplaceAll(err.Error(), "operation cancelled: actual cost limit exceeded",
			fmt.Sprintf("it costs more than the %d units allowed", CostLimit)))
	}
	return value, nil
}
