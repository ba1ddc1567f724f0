package expression

import (
	"context"
	"encoding/json"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/parser"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// maxValues is how many values of one part are shown.
	maxValues = 8
	// maxValueText is how many characters of a value are shown.
	maxValueText = 160
)

// Part is one of the conditions that an expression joins by '&&'.
type Part struct {
	// Source is its text, as the parser writes it.
	Source string
	// Result is what it yields.
	Result bool
	// Error is why it yields nothing; empty when it yields something.
	Error string
	// Values are the fields it looks at.
	Values []Value
}

// Value is a field that an expression looks at.
type Value struct {
	// Source is the field, such as 'event.source.rule'.
	Source string
	// Text is its value as JSON, cut to 160 characters; empty when it is absent.
	Text string
}

// tracking is untyped, and remembers macros as they were written.
var tracking = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(cel.OptionalTypes(), cel.EnableMacroCallTracking())
})

// Why takes an expression that must yield true or false apart at its '&&', evaluates every
// part by itself and gives the fields of a variable that it looks at: so that a person sees
// why it is not true.
func Why(ctx context.Context, scope Scope, source v1alpha1.Expression, variable string, variables Variables) ([]Part, error) {
	texts, err := takeApart(source, variable)
	if err != nil {
		return nil, err
	}
	parts := make([]Part, 0, len(texts))
	for _, text := range texts {
		part := Part{Source: text.source}
		program, err := CompileBool(scope, v1alpha1.Expression(text.source))
		if err == nil {
			part.Result, err = program.Bool(ctx, variables)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			part.Error = err.Error()
		}
		for _, field := range text.fields {
			part.Values = append(part.Values, Value{Source: field, Text: valueOf(ctx, scope, field, variables)})
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// partText is the text of a part and of the fields in it.
type partText struct {
	source string
	fields []string
}

func takeApart(source v1alpha1.Expression, variable string) ([]partText, error) {
	env, err := tracking()
	if err != nil {
		return nil, err
	}
	parsed, issues := env.Parse(string(source))
	if issues.Err() != nil {
		return nil, describe(issues, 0)
	}
	native := parsed.NativeRep()
	var texts []partText
	for _, part := range conjuncts(native.Expr()) {
		text, err := parser.Unparse(part, native.SourceInfo())
		if err != nil {
			return nil, err
		}
		one := partText{source: text}
		for _, field := range fieldsOf(part, variable) {
			if text, err := parser.Unparse(field, native.SourceInfo()); err == nil && len(one.fields) < maxValues {
				one.fields = appendNew(one.fields, text)
			}
		}
		texts = append(texts, one)
	}
	return texts, nil
}

func conjuncts(e ast.Expr) []ast.Expr {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.LogicalAnd {
		return []ast.Expr{e}
	}
	var all []ast.Expr
	for _, one := range e.AsCall().Args() {
		all = append(all, conjuncts(one)...)
	}
	return all
}

// fieldsOf are the longest chains of fields that begin with the variable.
func fieldsOf(e ast.Expr, variable string) []ast.Expr {
	var found []ast.Expr
	within := map[int64]bool{}
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		next, ok := fieldOf(e)
		if !ok {
			return
		}
		if !within[e.ID()] && rootOf(next) == variable {
			found = append(found, e)
		}
		within[next.ID()] = true
	}))
	return found
}

// fieldOf gives what a field is taken of.
func fieldOf(e ast.Expr) (ast.Expr, bool) {
	switch e.Kind() {
	case ast.SelectKind:
		return e.AsSelect().Operand(), !e.AsSelect().IsTestOnly()
	case ast.CallKind:
		switch call := e.AsCall(); call.FunctionName() {
		case "_[_]", "_[?_]", "_?._":
			if args := call.Args(); len(args) == 2 && args[1].Kind() == ast.LiteralKind {
				return args[0], true
			}
		}
	}
	return nil, false
}

func rootOf(e ast.Expr) string {
	for {
		next, ok := fieldOf(e)
		if !ok {
			break
		}
		e = next
	}
	if e.Kind() != ast.IdentKind {
		return ""
	}
	return e.AsIdent()
}

// valueOf is a value as JSON; empty when it is absent.
func valueOf(ctx context.Context, scope Scope, source string, variables Variables) string {
	program, err := compile(scope, source, types.DynType)
	if err != nil {
		return ""
	}
	value, err := program.eval(ctx, variables)
	if err != nil {
		return ""
	}
	if optional, is := value.(*types.Optional); is {
		if !optional.HasValue() {
			return ""
		}
		value = optional.GetValue()
	}
	plain, err := native(value)
	if err != nil {
		return ""
	}
	text := &strings.Builder{}
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(plain); err != nil {
		return ""
	}
	runes := []rune(strings.TrimSpace(text.String()))
	if len(runes) > maxValueText {
		return string(runes[:maxValueText]) + "…"
	}
	return string(runes)
}
