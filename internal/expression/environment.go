package expression

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/util/version"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/openapi"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Scope says which variables an expression may use.
type Scope string

// The scopes.
const (
	// Event has `event`: the spec of the SecurityEvent, its name and namespace, and
	// `event.workload`, the name of the top owner of its first resource.
	Event Scope = "Event"
	// Incident has `incident`: title, mode, severity, priority, category, phase and eventCount
	// as they are in force.
	Incident Scope = "Incident"
	// Verify has `incident` and `objects`, a list of objects of any kind.
	Verify Scope = "Verify"
)

// dialect is the Kubernetes version whose CEL is spoken: the oldest Firebreak runs on.
// It is fixed, so that a new release never changes what a policy means.
var dialect = version.MajorMinor(1, 33)

// scopeEnvironment is what expressions of a scope are compiled in.
type scopeEnvironment struct {
	env    *cel.Env
	schema map[string]*spec.Schema
}

// environments are built once: they are large, and depend on nothing but the CRDs
// compiled in.
var environments = sync.OnceValues(buildEnvironments)

func buildEnvironments() (map[Scope]*scopeEnvironment, error) {
	event, err := eventSchema()
	if err != nil {
		return nil, err
	}
	incident, err := incidentSchema()
	if err != nil {
		return nil, err
	}
	objects := cel.Variable("objects", cel.ListType(cel.DynType))
	result := map[Scope]*scopeEnvironment{}
	for scope, parts := range map[Scope]struct {
		variable string
		schema   *spec.Schema
		options  []cel.EnvOption
	}{
		Event:    {variable: "event", schema: event},
		Incident: {variable: "incident", schema: incident},
		Verify:   {variable: "incident", schema: incident, options: []cel.EnvOption{objects}},
	} {
		env, err := buildEnvironment(parts.variable, parts.schema, parts.options)
		if err != nil {
			return nil, fmt.Errorf("CEL environment %s: %w", scope, err)
		}
		result[scope] = &scopeEnvironment{env: env, schema: map[string]*spec.Schema{parts.variable: parts.schema}}
	}
	more, err := playbookScopes(incident)
	if err != nil {
		return nil, err
	}
	maps.Copy(result, more)
	if result[Report], err = reportScope(); err != nil {
		return nil, fmt.Errorf("CEL environment %s: %w", Report, err)
	}
	return result, nil
}

func buildEnvironment(variable string, schema *spec.Schema, options []cel.EnvOption) (*cel.Env, error) {
	declared := openapi.SchemaDeclType(schema, false)
	if declared == nil {
		return nil, fmt.Errorf("the schema of `%s` has no CEL type", variable)
	}
	declared = declared.MaybeAssignTypeName("firebreak." + variable)
	set, err := environment.MustBaseEnvSet(dialect).Extend(environment.VersionedOptions{
		IntroducedVersion: dialect,
		EnvOptions:        append([]cel.EnvOption{cel.Variable(variable, declared.CelType())}, options...),
		DeclTypes:         []*apiservercel.DeclType{declared},
	})
	if err != nil {
		return nil, err
	}
	return set.NewExpressionsEnv(), nil
}

// environmentOf gives the environment of a scope.
func environmentOf(scope Scope) (*scopeEnvironment, error) {
	all, err := environments()
	if err != nil {
		return nil, err
	}
	found, ok := all[scope]
	if !ok {
		return nil, fmt.Errorf("no scope %q: it must be one of %q", scope, slices.Sorted(maps.Keys(all)))
	}
	return found, nil
}
