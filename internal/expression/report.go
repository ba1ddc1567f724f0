package expression

import (
	"context"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Report has what the receiver's mappings make events of: `body`, what a sender has
// posted, and `item`, the part of it that is one alert. Both are JSON of any shape.
const Report Scope = "Report"

// reportScope is the environment of Report.
func reportScope() (*scopeEnvironment, error) {
	env, err := declare(nil, cel.Variable("body", cel.DynType), cel.Variable("item", cel.DynType))
	if err != nil {
		return nil, err
	}
	return &scopeEnvironment{env: env}, nil
}

// CompileValue compiles an expression that may yield anything that JSON has.
func CompileValue(scope Scope, source v1alpha1.Expression) (*Program, error) {
	return compile(scope, string(source), types.DynType)
}

// Value evaluates an expression compiled by CompileValue. optional.none() is nil.
func (p *Program) Value(ctx context.Context, variables Variables) (any, error) {
	value, err := p.eval(ctx, variables)
	if err != nil {
		return nil, err
	}
	if optional, is := value.(*types.Optional); is && !optional.HasValue() {
		return nil, nil
	}
	return native(value)
}

// ReportVariables are the variables of scope Report: plain JSON values, which must not
// be changed while they are in use.
func ReportVariables(body, item any) Variables {
	return Variables{values: map[string]any{"body": body, "item": item}}
}
