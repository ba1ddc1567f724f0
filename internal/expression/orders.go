package expression

import (
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// OrdersSeverities gives the severity that an expression compares by `<`, `<=`, `>` or `>=`; empty
// when there is none. Severities are text, so that this goes by the alphabet: Critical is less than High.
func OrdersSeverities(source v1alpha1.Expression) (v1alpha1.Severity, error) {
	parsed, err := Parse(source)
	if err != nil {
		return "", err
	}
	orders := []string{operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals}
	var found v1alpha1.Severity
	ast.PreOrderVisit(parsed, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || !slices.Contains(orders, e.AsCall().FunctionName()) {
			return
		}
		for _, side := range e.AsCall().Args() {
			if severity := v1alpha1.Severity(literal(side)); severity.Rank() > 0 && found == "" {
				found = severity
			}
		}
	}))
	return found, nil
}
