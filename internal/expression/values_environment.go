package expression

import (
	"fmt"
	"maps"

	"github.com/google/cel-go/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/openapi"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const (
	// Playbook has what the values of a playbook are made of: `incident`; `resources`, the
	// objects the incident is about; `variables`, by name; and `steps`, each by name with
	// `state` and `outputs`.
	Playbook Scope = "Playbook"
	// Target has what Playbook has, and `object`, the object a step acts on.
	Target Scope = "Target"
	// Response has `response`, the answer to a request: `status`, `headers` and `body`.
	Response Scope = "Response"
)

// playbookScopes are the environments of Playbook, Target and Response.
func playbookScopes(incident *spec.Schema) (map[Scope]*scopeEnvironment, error) {
	resources, err := resourcesSchema()
	if err != nil {
		return nil, err
	}
	schemas := map[string]*spec.Schema{"incident": incident, "resources": resources, "steps": stepsSchema()}
	named := cel.Variable("variables", cel.MapType(cel.StringType, cel.DynType))
	playbook, err := declare(schemas, named)
	if err != nil {
		return nil, fmt.Errorf("CEL environment %s: %w", Playbook, err)
	}
	target, err := playbook.Extend(cel.Variable("object", cel.DynType))
	if err != nil {
		return nil, fmt.Errorf("CEL environment %s: %w", Target, err)
	}
	response, err := declare(nil, cel.Variable("response", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		return nil, fmt.Errorf("CEL environment %s: %w", Response, err)
	}
	return map[Scope]*scopeEnvironment{
		Playbook: {env: playbook, schema: schemas},
		Target:   {env: target, schema: maps.Clone(schemas)},
		Response: {env: response},
	}, nil
}

// declare builds an environment of typed variables, and others.
func declare(schemas map[string]*spec.Schema, others ...cel.EnvOption) (*cel.Env, error) {
	options := environment.VersionedOptions{IntroducedVersion: dialect, EnvOptions: append(others, cel.ASTValidators(mixedLiterals{}))}
	for variable, schema := range schemas {
		declared := openapi.SchemaDeclType(schema, false)
		if declared == nil {
			return nil, fmt.Errorf("the schema of `%s` has no CEL type", variable)
		}
		declared = declared.MaybeAssignTypeName("firebreak." + variable)
		options.EnvOptions = append(options.EnvOptions, cel.Variable(variable, declared.CelType()))
		options.DeclTypes = append(options.DeclTypes, []*apiservercel.DeclType{declared}...)
	}
	set, err := environment.MustBaseEnvSet(dialect).Extend(options)
	if err != nil {
		return nil, err
	}
	return set.NewExpressionsEnv(), nil
}

// resourcesSchema is the schema of the variable `resources`.
func resourcesSchema() (*spec.Schema, error) {
	root, err := schemaOf("incidents")
	if err != nil {
		return nil, err
	}
	result, err := property(root, "spec", "resources")
	return &result, err
}

// stepsSchema is the schema of the variable `steps`.
func stepsSchema() *spec.Schema {
	step := spec.Schema{SchemaProps: spec.SchemaProps{
		Type: []string{"object"},
		Properties: map[string]spec.Schema{
			"state":   *spec.StringProperty(),
			"outputs": *spec.MapProperty(spec.StringProperty()),
		},
	}}
	return spec.MapProperty(&step)
}
