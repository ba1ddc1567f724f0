package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"sigs.k8s.io/yaml"
)

// Output formats beside the table.
const (
	outputWide = "wide"
	outputJSON = "json"
	outputYAML = "yaml"
	outputName = "name"
)

// checkOutput says what an -o must be.
func checkOutput(given string, known ...string) error {
	if given == "" || slices.Contains(known, given) {
		return nil
	}
	return failed(fmt.Sprintf("-o %s is not known: it must be one of %s", clean(given), strings.Join(known, ", ")))
}

// printObjects writes objects as JSON or YAML that is safe to look at in a terminal.
// Several objects become documents of YAML, or a List.
func printObjects(w io.Writer, format string, objects ...any) error {
	if format == outputJSON {
		var object any = map[string]any{"apiVersion": "v1", "kind": "List", "items": objects}
		if len(objects) == 1 {
			object = objects[0]
		}
		text, err := plainJSON(object)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, escapeJSON(text))
		return err
	}
	for i, object := range objects {
		if i > 0 {
			fmt.Fprintln(w, "---")
		}
		text, err := safeYAML(object)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

// safeYAML gives an object as YAML. With characters in it that a terminal may obey it
// becomes JSON, which is YAML too and can say everything without saying it aloud.
func safeYAML(object any) (string, error) {
	text, err := plainJSON(object)
	if err != nil {
		return "", err
	}
	if hasUnprintable(text) {
		return escapeYAML(text) + "\n", nil
	}
	readable, err := yaml.JSONToYAML([]byte(text))
	if err != nil {
		return "", err
	}
	if hasUnprintable(string(readable)) {
		return text + "\n", nil
	}
	return string(readable), nil
}

func plainJSON(object any) (string, error) {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func hasUnprintable(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
}
