package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

// maxPrograms is how many compiled expressions are kept; beyond it all are compiled anew.
const maxPrograms = 1024

// Expressions evaluates the expressions of playbooks, each compiled once.
type Expressions struct {
	mu       sync.Mutex
	programs map[string]*expression.Program
}

var _ Evaluator = (*Expressions)(nil)

// When evaluates a step's `when`.
func (e *Expressions) When(source string, incident *v1alpha1.Incident) (bool, error) {
	program, err := e.program(expression.Incident, source)
	if err != nil {
		return false, err
	}
	variables, err := expression.IncidentVariables(incident)
	if err != nil {
		return false, err
	}
	return program.Bool(context.Background(), variables)
}

// Verify evaluates a verify step's expression over objects as they are now.
func (e *Expressions) Verify(ctx context.Context, source string, objects []any, incident *v1alpha1.Incident) (bool, error) {
	program, err := e.program(expression.Verify, source)
	if err != nil {
		return false, err
	}
	contents := make([]map[string]any, 0, len(objects))
	for _, object := range objects {
		content, ok := object.(map[string]any)
		if !ok {
			return false, errors.New("an object has no fields")
		}
		contents = append(contents, content)
	}
	variables, err := expression.VerifyVariables(incident, contents)
	if err != nil {
		return false, err
	}
	return program.Bool(ctx, variables)
}

func (e *Expressions) program(scope expression.Scope, source string) (*expression.Program, error) {
	key := fmt.Sprint(scope) + "\x00" + source
	e.mu.Lock()
	defer e.mu.Unlock()
	if known, ok := e.programs[key]; ok {
		return known, nil
	}
	program, err := expression.CompileBool(scope, v1alpha1.Expression(source))
	if err != nil {
		return nil, err
	}
	if e.programs == nil || len(e.programs) >= maxPrograms {
		e.programs = map[string]*expression.Program{}
	}
	e.programs[key] = program
	return program, nil
}
