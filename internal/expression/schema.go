package expression

import (
	"encoding/json"
	"fmt"

	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/config/crd"
)

// schemaOf gives the schema of a resource from its CustomResourceDefinition, so that
// expressions see just what the API server lets through.
func schemaOf(resource string) (*spec.Schema, error) {
	content, err := crd.Read(resource)
	if err != nil {
		return nil, err
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Name   string `json:"name"`
				Schema struct {
					OpenAPIV3Schema json.RawMessage `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(content, &definition); err != nil {
		return nil, fmt.Errorf("read CustomResourceDefinition of %s: %w", resource, err)
	}
	if len(definition.Spec.Versions) != 1 {
		return nil, fmt.Errorf("read CustomResourceDefinition of %s: it must have exactly one version, has %d",
			resource, len(definition.Spec.Versions))
	}
	var schema spec.Schema
	if err := json.Unmarshal(definition.Spec.Versions[0].Schema.OpenAPIV3Schema, &schema); err != nil {
		return nil, fmt.Errorf("read schema of %s: %w", resource, err)
	}
	return &schema, nil
}

// property gives a property of a schema by its path.
func property(schema *spec.Schema, path ...string) (spec.Schema, error) {
	current := *schema
	for _, name := range path {
		next, ok := current.Properties[name]
		if !ok {
			return spec.Schema{}, fmt.Errorf("the schema has no property %q of %v", name, path)
		}
		current = next
	}
	return current, nil
}

// eventSchema is the schema of the variable `event`: the spec of a SecurityEvent, and
// what Firebreak adds.
func eventSchema() (*spec.Schema, error) {
	root, err := schemaOf("securityevents")
	if err != nil {
		return nil, err
	}
	result, err := property(root, "spec")
	if err != nil {
		return nil, err
	}
	for name, maxLength := range map[string]int64{"name": 253, "namespace": 63, "workload": 253} {
		if _, taken := result.Properties[name]; taken {
			return nil, fmt.Errorf("the spec of SecurityEvent must not have a property %q: expressions use it", name)
		}
		result.Properties[name] = *spec.StringProperty().WithMaxLength(maxLength)
	}
	return &result, nil
}

// incidentSchema is the schema of the variable `incident`: what is in force now.
func incidentSchema() (*spec.Schema, error) {
	root, err := schemaOf("incidents")
	if err != nil {
		return nil, err
	}
	result := spec.Schema{SchemaProps: spec.SchemaProps{
		Type:       []string{"object"},
		Properties: map[string]spec.Schema{},
	}}
	for name, section := range map[string]string{
		"title": "spec", "mode": "spec", "severity": "status", "priority": "status",
		"category": "status", "phase": "status", "eventCount": "status",
	} {
		field, err := property(root, section, name)
		if err != nil {
			return nil, err
		}
		result.Properties[name] = field
	}
	for name, maxLength := range map[string]int64{"name": 253, "namespace": 63} {
		result.Properties[name] = *spec.StringProperty().WithMaxLength(maxLength)
	}
	return &result, nil
}
