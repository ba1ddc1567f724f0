package expression

import (
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// untyped knows no variable.
var untyped = sync.OnceValues(func() (*cel.Env, error) { return cel.NewEnv(cel.OptionalTypes()) })

// Parse gives the syntax of an expression, macros expanded, without asking whether its
// variables exist and its types fit.
func Parse(source v1alpha1.Expression) (ast.Expr, error) {
	env, err := untyped()
	if err != nil {
		return nil, err
	}
	parsed, issues := env.Parse(string(source))
	if issues.Err() != nil {
		return nil, describe(issues, 0)
	}
	return parsed.NativeRep().Expr(), nil
}
