package expression

import (
	"github.com/google/cel-go/common/ast"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Reads says whether an expression looks at the value of a field of a variable, such as
// `event.submittedBy`. One that takes the variable as a whole may: that counts. Whether the
// field is there (`has`) is not its value.
func Reads(source v1alpha1.Expression, variable, field string) (bool, error) {
	parsed, err := Parse(source)
	if err != nil {
		return false, err
	}
	reads := false
	selected := map[int64]bool{} // the places of the variable of which a field is taken
	taken := func(operand ast.Expr, name string, counts bool) {
		if operand.Kind() != ast.IdentKind || operand.AsIdent() != variable {
			return
		}
		if name != "" {
			selected[operand.ID()] = true
			reads = reads || counts && name == field
		}
	}
	ast.PreOrderVisit(parsed, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			taken(e.AsSelect().Operand(), e.AsSelect().FieldName(), !e.AsSelect().IsTestOnly())
		case ast.CallKind:
			if operand, name, ok := optionalField(e.AsCall()); ok {
				taken(operand, name, true)
			}
		case ast.IdentKind:
			reads = reads || e.AsIdent() == variable && !selected[e.ID()]
		}
	}))
	return reads, nil
}

// optionalField is a field taken by its name in other ways than `a.b`: `a.?b` and `a["b"]`.
func optionalField(call ast.CallExpr) (operand ast.Expr, name string, ok bool) {
	switch call.FunctionName() {
	case "_[_]", "_[?_]", "_?._":
		if args := call.Args(); len(args) == 2 {
			return args[0], literal(args[1]), true
		}
	}
	return nil, "", false
}
