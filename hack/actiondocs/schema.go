package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	sigsyaml "sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/config/crd"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// maxNesting is how deep the fields of an action are listed.
const maxNesting = 3

// schema is what is read of an OpenAPI schema.
type schema struct {
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Default     json.RawMessage   `json:"default"`
	Enum        []string          `json:"enum"`
	Required    []string          `json:"required"`
	Properties  map[string]schema `json:"properties"`
	Items       *schema           `json:"items"`
	Minimum     *float64          `json:"minimum"`
	Maximum     *float64          `json:"maximum"`
}

// stepSchema reads the schema of one step out of the CustomResourceDefinition.
func stepSchema() (*schema, error) {
	content, err := crd.Read("responseplaybooks")
	if err != nil {
		return nil, err
	}
	definition := struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPI schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}{}
	if err := sigsyaml.Unmarshal(content, &definition); err != nil {
		return nil, err
	}
	if len(definition.Spec.Versions) == 0 {
		return nil, fmt.Errorf("the CustomResourceDefinition has no version")
	}
	steps := definition.Spec.Versions[0].Schema.OpenAPI.Properties["spec"].Properties["containment"].Properties["steps"]
	if steps.Items == nil {
		return nil, fmt.Errorf("the CustomResourceDefinition has no `spec.containment.steps`")
	}
	return steps.Items, nil
}

// field is one line of a table.
type field struct{ name, kind, about string }

// commonFields are those of a step that are not an action.
func (s *schema) commonFields() []field {
	var fields []field
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if slices.ContainsFunc(lifecycle.Actions, func(trait lifecycle.Trait) bool { return trait.Name == name }) {
			continue
		}
		one := s.Properties[name]
		fields = append(fields, one.field(name))
		fields = append(fields, one.fields(name+".", 1)...)
	}
	return fields
}

// fields lists the fields of an object, and of objects in it.
func (s schema) fields(prefix string, depth int) []field {
	var fields []field
	if depth >= maxNesting {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		one := s.Properties[name]
		line := one.field(prefix + name)
		if slices.Contains(s.Required, name) {
			line.kind += ", required"
		}
		fields = append(fields, line)
		nested, inner := one, prefix+name+"."
		if one.Items != nil {
			nested, inner = *one.Items, prefix+name+"[]."
		}
		fields = append(fields, nested.fields(inner, depth+1)...)
	}
	return fields
}

func (s schema) field(name string) field {
	kind := s.Type
	switch {
	case len(s.Enum) > 0:
		kind = "`" + strings.Join(s.Enum, "`, `") + "`"
	case s.Items != nil:
		kind = "list of " + s.Items.Type
	case s.Minimum != nil && s.Maximum != nil:
		kind += fmt.Sprintf(" %d–%d", int64(*s.Minimum), int64(*s.Maximum))
	}
	return field{name: name, kind: kind, about: strings.ReplaceAll(oneLine(s.Description), "|", "\\|")}
}

func writeFields(b *strings.Builder, heading string, fields []field) {
	if len(fields) == 0 {
		return
	}
	b.WriteString(heading + "| field | type | |\n| --- | --- | --- |\n")
	for _, one := range fields {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", one.name, one.kind, one.about)
	}
	b.WriteString("\n")
}
