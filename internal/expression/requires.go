package expression

import (
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Demand is what an expression demands of the text of a field.
type Demand struct {
	// Operator is '==', '!=', 'in' or 'startsWith'.
	Operator string
	// Texts are what the field is compared with, as they are written out.
	Texts []string
}

// Requires says whether an expression can only be true where a field of a variable, such as
// `event.submittedBy`, meets a demand that is enough.
func Requires(source v1alpha1.Expression, variable, field string, enough func(Demand) bool) (bool, error) {
	parsed, err := Parse(source)
	if err != nil {
		return false, err
	}
	r := &requirement{variable: variable, field: field, enough: enough}
	return r.by(parsed), nil
}

type requirement struct {
	variable, field string
	enough          func(Demand) bool
}

// by says whether the demand is met wherever an expression is true.
func (r *requirement) by(e ast.Expr) bool {
	if e.Kind() == ast.LiteralKind {
		return e.AsLiteral() == types.False // it is never true
	}
	if e.Kind() != ast.CallKind {
		return false
	}
	call := e.AsCall()
	args := call.Args()
	switch call.FunctionName() {
	case operators.LogicalAnd:
		return slices.ContainsFunc(args, r.by)
	case operators.LogicalOr:
		return !slices.ContainsFunc(args, func(arg ast.Expr) bool { return !r.by(arg) })
	case operators.Conditional:
		return (r.by(args[0]) || r.by(args[1])) && r.by(args[2])
	case operators.Equals:
		return r.compares("==", args[0], args[1]) || r.compares("==", args[1], args[0])
	case operators.NotEquals:
		return r.compares("!=", args[0], args[1]) || r.compares("!=", args[1], args[0])
	case operators.In:
		return r.compares("in", args[0], args[1])
	case overloads.StartsWith:
		return call.IsMemberFunction() && len(args) == 1 && r.compares("startsWith", call.Target(), args[0])
	}
	return false
}

// compares says whether the field is compared with texts that are enough.
func (r *requirement) compares(operator string, field, with ast.Expr) bool {
	if !r.is(field) {
		return false
	}
	list := []ast.Expr{with}
	if operator == "in" {
		if with.Kind() != ast.ListKind {
			return false
		}
		list = with.AsList().Elements()
	}
	demand := Demand{Operator: operator}
	for _, element := range list {
		if element.Kind() != ast.LiteralKind || element.AsLiteral().Type() != types.StringType {
			return false
		}
		demand.Texts = append(demand.Texts, literal(element))
	}
	return r.enough(demand)
}

// is says whether an expression is the field.
func (r *requirement) is(e ast.Expr) bool {
	if e.Kind() != ast.SelectKind || e.AsSelect().IsTestOnly() || e.AsSelect().FieldName() != r.field {
		return false
	}
	operand := e.AsSelect().Operand()
	return operand.Kind() == ast.IdentKind && operand.AsIdent() == r.variable
}
