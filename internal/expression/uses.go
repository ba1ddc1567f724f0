package expression

import (
	"slices"

	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
)

// uses are the names that an expression takes from `variables` and `steps`, and whether
// it reads these at all.
type uses struct {
	variables []string
	steps     []string
	// readsSteps says that `steps` occurs, by whatever name.
	readsSteps bool
}

// usesOf finds what an expression refers to by a name that is written out.
func usesOf(ast *cel.Ast) uses {
	var found uses
	note := func(operand celast.Expr, name string) {
		if operand.Kind() != celast.IdentKind || name == "" {
			return
		}
		switch operand.AsIdent() {
		case "variables":
			found.variables = appendNew(found.variables, name)
		case "steps":
			found.steps = appendNew(found.steps, name)
		}
	}
	celast.PreOrderVisit(ast.NativeRep().Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		switch e.Kind() {
		case celast.IdentKind:
			found.readsSteps = found.readsSteps || e.AsIdent() == "steps"
		case celast.SelectKind:
			note(e.AsSelect().Operand(), e.AsSelect().FieldName())
		case celast.CallKind:
			call := e.AsCall()
			switch call.FunctionName() {
			case "_[_]", "_[?_]", "_?._":
				if args := call.Args(); len(args) == 2 {
					note(args[0], literal(args[1]))
				}
			}
		}
	}))
	return found
}

func literal(e celast.Expr) string {
	if e.Kind() != celast.LiteralKind {
		return ""
	}
	text, _ := e.AsLiteral().(types.String)
	return string(text)
}

func appendNew(list []string, one string) []string {
	if slices.Contains(list, one) {
		return list
	}
	return append(list, one)
}
