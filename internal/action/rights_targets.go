package action

import (
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

// namedKinds are the kinds of the objects that an expression yields, where it writes them
// out: [{"apiVersion": "v1", "kind": "Secret", …}], also as what `map` makes of each
// element of a list. It gives none when one of them is computed, or taken from elsewhere.
func namedKinds(targets v1alpha1.Expression) []schema.GroupVersionKind {
	parsed, err := expression.Parse(targets)
	if err != nil {
		return nil
	}
	yields := &yielding{results: map[string]bool{}}
	if !yields.follow(parsed) {
		return nil
	}
	return yields.kinds
}

// yielding follows what an expression yields.
type yielding struct {
	kinds []schema.GroupVersionKind
	// results are the variables in which macros gather what they yield.
	results map[string]bool
}

// follow says whether it is known what the expression yields.
func (y *yielding) follow(e ast.Expr) bool {
	switch e.Kind() {
	case ast.MapKind:
		literals := literalsOf(e.AsMap())
		kind := schema.FromAPIVersionAndKind(literals["apiVersion"], literals["kind"])
		if kind.Kind == "" || kind.Version == "" {
			return false
		}
		if !slices.Contains(y.kinds, kind) {
			y.kinds = append(y.kinds, kind)
		}
		return true
	case ast.ListKind:
		return y.followAll(e.AsList().Elements())
	case ast.ComprehensionKind:
		y.results[e.AsComprehension().AccuVar()] = true
		return y.follow(e.AsComprehension().LoopStep())
	case ast.IdentKind:
		return y.results[e.AsIdent()]
	case ast.CallKind:
		switch call := e.AsCall(); call.FunctionName() {
		case operators.Add:
			return y.followAll(call.Args())
		case operators.Conditional:
			return y.followAll(call.Args()[1:])
		}
	}
	return false
}

func (y *yielding) followAll(all []ast.Expr) bool {
	for _, one := range all {
		if !y.follow(one) {
			return false
		}
	}
	return true
}

// literalsOf are the texts of a map that are written out.
func literalsOf(e ast.MapExpr) map[string]string {
	literals := map[string]string{}
	for _, entry := range e.Entries() {
		pair := entry.AsMapEntry()
		key, ok := textOf(pair.Key())
		if !ok {
			continue
		}
		if value, ok := textOf(pair.Value()); ok {
			literals[key] = value
		}
	}
	return literals
}

func textOf(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().Value().(string)
	return text, ok
}
