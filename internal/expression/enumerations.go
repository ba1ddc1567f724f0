package expression

import (
	"fmt"
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// NoSuchValue is a text with which a field is compared that can only be others.
type NoSuchValue struct {
	// Field is the field, such as 'event.severity'.
	Field string
	// Text is what it never is, and Values are what it may be.
	Text   string
	Values []string
}

// NoSuchValues finds the comparisons of an expression that never come out otherwise: a field is
// compared by `==`, `!=` or `in` with a text that is none of its values.
func NoSuchValues(scope Scope, source v1alpha1.Expression) ([]NoSuchValue, error) {
	environment, err := environmentOf(scope)
	if err != nil {
		return nil, err
	}
	parsed, err := Parse(source)
	if err != nil {
		return nil, err
	}
	var found []NoSuchValue
	compare := func(field, with ast.Expr) {
		name, schema := schemaAt(environment.schema, field)
		if schema == nil || len(schema.Enum) == 0 {
			return
		}
		texts := []ast.Expr{with}
		if with.Kind() == ast.ListKind {
			texts = with.AsList().Elements()
		}
		for _, element := range texts {
			if text := literal(element); text != "" && !slices.Contains(schema.Enum, any(text)) {
				found = append(found, NoSuchValue{Field: name, Text: text, Values: textsOf(schema.Enum)})
			}
		}
	}
	ast.PreOrderVisit(parsed, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		switch args := e.AsCall().Args(); e.AsCall().FunctionName() {
		case operators.Equals, operators.NotEquals:
			compare(args[0], args[1])
			compare(args[1], args[0])
		case operators.In:
			compare(args[0], args[1])
		}
	}))
	return found, nil
}

// schemaAt gives the name and the schema of a field that is taken from a variable by its
// names; nil when it is none.
func schemaAt(variables map[string]*spec.Schema, e ast.Expr) (string, *spec.Schema) {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent(), variables[e.AsIdent()]
	case ast.SelectKind:
		name, schema := schemaAt(variables, e.AsSelect().Operand())
		if schema == nil || e.AsSelect().IsTestOnly() {
			return "", nil
		}
		if next, ok := schema.Properties[e.AsSelect().FieldName()]; ok {
			return name + "." + e.AsSelect().FieldName(), &next
		}
	}
	return "", nil
}

func textsOf(values []any) []string {
	texts := make([]string, 0, len(values))
	for _, value := range values {
		texts = append(texts, fmt.Sprint(value))
	}
	return texts
}

// Yields gives the texts that are written out and that an expression may yield as they are.
func Yields(source v1alpha1.Expression) ([]string, error) {
	parsed, err := Parse(source)
	if err != nil {
		return nil, err
	}
	var texts []string
	var follow func(e ast.Expr)
	follow = func(e ast.Expr) {
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Conditional {
			follow(e.AsCall().Args()[1])
			follow(e.AsCall().Args()[2])
		} else if text := literal(e); text != "" {
			texts = append(texts, text)
		}
	}
	follow(parsed)
	return texts, nil
}
