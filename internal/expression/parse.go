package expression

import (
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// parsing is held while an expression is parsed: all parsers of cel-go share what ANTLR has
// learnt of the grammar (v4.13.1), and read and write it without a lock. That is why no other
// package parses expressions.
var parsing sync.Mutex

// untyped knows no variable.
var untyped = sync.OnceValues(func() (*cel.Env, error) { return cel.NewEnv(cel.OptionalTypes()) })

// Parse gives the syntax of an expression, macros expanded, without asking whether its
// variables exist and its types fit.
func Parse(source v1alpha1.Expression) (ast.Expr, error) {
	env, err := untyped()
	if err != nil {
		return nil, err
	}
	parsing.Lock()
	defer parsing.Unlock()
	parsed, issues := env.Parse(string(source))
	if issues.Err() != nil {
		return nil, describe(issues, 0)
	}
	return parsed.NativeRep().Expr(), nil
}
