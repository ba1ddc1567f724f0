// Package crd holds the CustomResourceDefinitions of Firebreak, so that code can read
// the schemas that the API server enforces.
package crd

import (
	"embed"
	"fmt"
)

//go:embed bases/*.yaml
var bases embed.FS

// Read gives the CustomResourceDefinition of a resource, such as 'securityevents', as YAML.
func Read(resource string) ([]byte, error) {
	content, err := bases.ReadFile("bases/firebreak.dev_" + resource + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("no CustomResourceDefinition for %q: it must be a resource of the group firebreak.dev: %w", resource, err)
	}
	return content, nil
}
