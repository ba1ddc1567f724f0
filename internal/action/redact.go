package action

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// redactedText stands in evidence where a value was left out.
	redactedText = "[redacted by firebreak]"
	// lastApplied repeats the whole object, with its secrets.
	lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

	maxRedacted     = 64
	maxRedactedPath = 256
)

var secretName = regexp.MustCompile(`(?i)pass|secret|token|key|credential`)

// redaction replaces secret values in objects and remembers where.
type redaction struct{ paths []string }

// redact replaces, at any depth: the values of environment variables whose names say
// that they are secret, the annotation in which kubectl repeats the whole object, and
// the data of Secrets. It changes the object.
func (r *redaction) redact(object map[string]any, path string) {
	if object["kind"] == "Secret" && object["apiVersion"] == "v1" {
		for _, field := range []string{"data", "stringData"} {
			if values, ok := object[field].(map[string]any); ok {
				for _, key := range slices.Sorted(maps.Keys(values)) {
					r.replace(values, key, path+"."+field+"["+key+"]")
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		at := path + "." + key
		switch value := object[key].(type) {
		case map[string]any:
			if _, ok := value[lastApplied]; ok && key == "annotations" {
				r.replace(value, lastApplied, at+"["+lastApplied+"]")
			}
			r.redact(value, at)
		case []any:
			r.walkList(value, at, key == "env")
		}
	}
}

func (r *redaction) walkList(list []any, path string, env bool) {
	for i, item := range list {
		object, ok := item.(map[string]any)
		if !ok {
			continue
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		name, _ := object["name"].(string)
		if value, ok := object["value"].(string); env && ok && value != "" && secretName.MatchString(name) {
			r.replace(object, "value", at+".value")
		}
		r.redact(object, at)
	}
}

func (r *redaction) replace(object map[string]any, key, path string) {
	object[key] = redactedText
	r.paths = append(r.paths, lifecycle.Cut(printable(strings.TrimPrefix(path, ".")), maxRedactedPath))
}

// list gives the paths as Evidence takes them. What does not fit is counted.
func (r *redaction) list() []string {
	if len(r.paths) <= maxRedacted {
		return r.paths
	}
	kept := slices.Clone(r.paths[:maxRedacted-1])
	return append(kept, fmt.Sprintf("and %d more", len(r.paths)-len(kept)))
}
