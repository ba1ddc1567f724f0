// Package crdschema holds objects to what the API server holds them to, without one: the
// schemas of the CustomResourceDefinitions with their CEL rules.
package crdschema

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/config/crd"
)

// Schema is the schema of a kind, or of a part of one. It is safe for concurrent use.
type Schema struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
	rules      *schemacel.Validator
	root       bool
}

var (
	mu    sync.Mutex
	known = map[string]*Schema{}
)

// Of gives the schema of the objects of a resource, such as 'securityevents'. With a path it
// is that of a field; '[]' stands for the items of a list.
func Of(resource string, path ...string) (*Schema, error) {
	mu.Lock()
	defer mu.Unlock()
	key := strings.Join(append([]string{resource}, path...), "/")
	if schema, ok := known[key]; ok {
		return schema, nil
	}
	schema, err := build(resource, path)
	if err != nil {
		return nil, fmt.Errorf("read schema of %s: %w", key, err)
	}
	known[key] = schema
	return schema, nil
}

func build(resource string, path []string) (*Schema, error) {
	content, err := crd.Read(resource)
	if err != nil {
		return nil, err
	}
	definition := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(content, definition); err != nil {
		return nil, err
	}
	if len(definition.Spec.Versions) != 1 || definition.Spec.Versions[0].Schema == nil {
		return nil, fmt.Errorf("it must have exactly one version, with a schema")
	}
	part := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(definition.Spec.Versions[0].Schema.OpenAPIV3Schema, part, nil); err != nil {
		return nil, err
	}
	for _, name := range path {
		if name == "[]" {
			if part.Items == nil || part.Items.Schema == nil {
				return nil, fmt.Errorf("%q must be a list", path)
			}
			part = part.Items.Schema
			continue
		}
		next, ok := part.Properties[name]
		if !ok {
			return nil, fmt.Errorf("it has no property %q of %q", name, path)
		}
		part = &next
	}
	schema := &Schema{root: len(path) == 0}
	if schema.structural, err = structuralschema.NewStructural(part); err != nil {
		return nil, err
	}
	if schema.validator, _, err = validation.NewSchemaValidator(part); err != nil {
		return nil, err
	}
	schema.rules = schemacel.NewValidator(schema.structural, schema.root, celconfig.PerCallLimit)
	return schema, nil
}

// Prune takes out the fields that there are not, and gives their paths, such as
// 'spec.rules[0].mach'.
func (s *Schema) Prune(object map[string]any) []string {
	unknown := pruning.PruneWithOptions(object, s.structural, s.root, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	slices.Sort(unknown)
	return unknown
}

// Complete fills in the defaults and finds what the API server would have against the
// object, whose fields are all known. at is where the object stands; nil is nowhere.
func (s *Schema) Complete(ctx context.Context, at *field.Path, object map[string]any) field.ErrorList {
	defaulting.Default(object, s.structural)
	problems := validation.ValidateCustomResource(at, object, s.validator)
	problems = append(problems, listtype.ValidateListSetsAndMaps(at, s.structural, object)...)
	if len(problems) > 0 {
		return problems
	}
	problems, _ = s.rules.Validate(ctx, at, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
	return problems
}

// Fields are the names of the fields an object has at a path of names; what is in brackets
// in the path that Prune gives is '[]' here. It is empty where any name is right.
func (s *Schema) Fields(path []string) []string {
	part := s.structural
	for _, name := range path {
		next, ok := part.Properties[name]
		switch {
		case name == "[]" && part.Items != nil:
			part = part.Items
		case ok:
			part = &next
		case part.AdditionalProperties != nil && part.AdditionalProperties.Structural != nil:
			part = part.AdditionalProperties.Structural
		default:
			return nil
		}
	}
	return slices.Sorted(maps.Keys(part.Properties))
}
