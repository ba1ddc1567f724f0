package expression

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/common/types"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/cel/openapi"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// MaxTargets is how many objects an expression for `targets` may yield.
	MaxTargets = 128
	// MaxText is how many bytes an expression for one text may yield.
	MaxText = 32 * 1024
)

// Values evaluates the expressions of one playbook. It reads nothing but the incident,
// the playbook and what it is given; it is safe for concurrent use.
type Values struct {
	cache    *Cache
	playbook *v1alpha1.ResponsePlaybookSpec

	mu   sync.Mutex
	seen map[*v1alpha1.Incident]*scene
}

// scene is what the expressions see of one incident.
type scene struct {
	variables Variables
	// missing says of the playbook's variables that could not be evaluated why.
	missing map[string]string
}

// Values gives what evaluates the expressions of a playbook. It takes an incident for
// unchanged: make it anew when the incident, or the playbook, has changed.
func (c *Cache) Values(playbook *v1alpha1.ResponsePlaybookSpec) *Values {
	return &Values{cache: c, playbook: playbook, seen: map[*v1alpha1.Incident]*scene{}}
}

// Targets evaluates an expression for `targets`: a list of objects with `apiVersion`,
// `kind`, `name` and, but for cluster-scoped kinds, `namespace`; `uid` pins the object.
// The same object twice counts once.
func (v *Values) Targets(ctx context.Context, incident *v1alpha1.Incident, source v1alpha1.Expression) ([]v1alpha1.ResourceReference, error) {
	yielded, err := v.any(ctx, incident, source, nil)
	if err != nil {
		return nil, err
	}
	list, ok := yielded.([]any)
	if !ok {
		return nil, fmt.Errorf("must yield a list of objects with `apiVersion`, `kind`, `name` and `namespace`, but has yielded %s", kindOf(yielded))
	}
	return references(list)
}

// Object evaluates an expression that must yield an object. target is the object the
// step acts on; nil makes `object` absent.
func (v *Values) Object(ctx context.Context, incident *v1alpha1.Incident, source v1alpha1.Expression, target map[string]any) (map[string]any, error) {
	yielded, err := v.any(ctx, incident, source, target)
	if err != nil {
		return nil, err
	}
	object, ok := yielded.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("must yield an object, but has yielded %s", kindOf(yielded))
	}
	return object, nil
}

// Value evaluates an expression that may yield whatever JSON has.
func (v *Values) Value(ctx context.Context, incident *v1alpha1.Incident, source v1alpha1.Expression, target map[string]any) (any, error) {
	return v.any(ctx, incident, source, target)
}

// Text evaluates an expression that must yield text of at most MaxText bytes without NUL.
func (v *Values) Text(ctx context.Context, incident *v1alpha1.Incident, source v1alpha1.Expression, target map[string]any) (string, error) {
	yielded, err := v.any(ctx, incident, source, target)
	if err != nil {
		return "", err
	}
	text, ok := yielded.(string)
	switch {
	case !ok:
		return "", fmt.Errorf("must yield a string, but has yielded %s", kindOf(yielded))
	case len(text) > MaxText:
		return "", fmt.Errorf("must yield at most %d bytes, but has yielded %d", MaxText, len(text))
	case strings.ContainsRune(text, 0):
		return "", fmt.Errorf("must yield text without NUL characters")
	}
	return text, nil
}

// FromResponse evaluates an expression over `response`. It yields whatever JSON has.
func (v *Values) FromResponse(ctx context.Context, source v1alpha1.Expression, response map[string]any) (any, error) {
	program, err := v.cache.compile(Response, source, types.DynType)
	if err != nil {
		return nil, err
	}
	value, err := program.eval(ctx, Variables{values: map[string]any{"response": response}})
	if err != nil {
		return nil, err
	}
	return native(value)
}

// scopeOf gives the scope of an expression: `object` is there only with a target.
func scopeOf(target map[string]any) Scope {
	if target == nil {
		return Playbook
	}
	return Target
}

func (v *Values) any(ctx context.Context, incident *v1alpha1.Incident, source v1alpha1.Expression, target map[string]any) (any, error) {
	program, err := v.cache.compile(scopeOf(target), source, types.DynType)
	if err != nil {
		return nil, err
	}
	scene, err := v.scene(ctx, incident)
	if err != nil {
		return nil, err
	}
	variables := scene.variables
	if target != nil {
		variables = variables.with("object", target)
	}
	value, err := program.eval(ctx, variables)
	if err != nil {
		return nil, scene.explain(program, err)
	}
	return native(value)
}

// explain adds why a variable is not there.
func (s *scene) explain(program *Program, err error) error {
	if !strings.Contains(err.Error(), "no such key") {
		return err
	}
	for _, name := range program.uses.variables {
		if why, ok := s.missing[name]; ok {
			return fmt.Errorf("%w: variable `%s` %s", err, name, why)
		}
	}
	return err
}

// scene evaluates the playbook's variables, each with those before it. One that cannot
// be evaluated is absent, so that only the expressions that use it fail.
func (v *Values) scene(ctx context.Context, incident *v1alpha1.Incident) (*scene, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if known, ok := v.seen[incident]; ok {
		return known, nil
	}
	base, err := playbookVariables(incident)
	if err != nil {
		return nil, err
	}
	evaluated := map[string]any{}
	made := &scene{variables: base.with("variables", evaluated), missing: map[string]string{}}
	for i := range v.playbook.Variables {
		variable := &v.playbook.Variables[i]
		value, err := v.variable(ctx, variable.Expression, made.variables)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			made.missing[variable.Name] = made.explain(v.known(variable.Expression), err).Error()
			continue
		}
		evaluated[variable.Name] = value
	}
	v.seen[incident] = made
	return made, nil
}

// known is the compiled program of a variable; one that refers to nothing when it does
// not compile.
func (v *Values) known(source v1alpha1.Expression) *Program {
	program, err := v.cache.compile(Playbook, source, types.DynType)
	if err != nil {
		return &Program{}
	}
	return program
}

func (v *Values) variable(ctx context.Context, source v1alpha1.Expression, variables Variables) (any, error) {
	program, err := v.cache.compile(Playbook, source, types.DynType)
	if err != nil {
		return nil, err
	}
	value, err := program.eval(ctx, variables)
	if err != nil {
		return nil, err
	}
	return native(value)
}

// playbookVariables are the variables of scope Playbook but for `variables`.
func playbookVariables(incident *v1alpha1.Incident) (Variables, error) {
	variables, err := IncidentVariables(incident)
	if err != nil {
		return Variables{}, err
	}
	environment, err := environmentOf(Playbook)
	if err != nil {
		return Variables{}, err
	}
	resources := make([]any, 0, len(incident.Status.Resources))
	for i := range incident.Status.Resources {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&incident.Status.Resources[i].ResourceReference)
		if err != nil {
			return Variables{}, fmt.Errorf("read resources of incident %q: %w", incident.Name, err)
		}
		resources = append(resources, content)
	}
	steps := map[string]any{}
	for i := range incident.Status.Steps {
		step := &incident.Status.Steps[i]
		outputs := map[string]any{}
		for _, output := range step.Outputs {
			if output.Value == nil {
				outputs[output.Name] = ""
				continue
			}
			outputs[output.Name] = *output.Value
		}
		steps[step.Name] = map[string]any{"state": string(step.State), "outputs": outputs}
	}
	return variables.
		with("resources", openapi.UnstructuredToVal(resources, environment.schema["resources"])).
		with("steps", openapi.UnstructuredToVal(steps, environment.schema["steps"])), nil
}

// with gives the variables and one more.
func (v Variables) with(name string, value any) Variables {
	values := make(map[string]any, len(v.values)+1)
	for known, value := range v.values {
		values[known] = value
	}
	values[name] = value
	return Variables{values: values}
}

func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a bool"
	case int64, float64:
		return "a number"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}
