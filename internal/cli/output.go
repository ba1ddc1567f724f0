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

// Output formats.
const (
	outputTable = ""
	outputWide  = "wide"
	outputJSON  = "json"
	outputYAML  = "yaml"
	outputName  = "name"
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
		text, err := safeJSON(object)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, text)
		return err
	}
	for i, object := range objects {
		if i > 0 {
			fmt.Fprintln(w, "---")
		}
		text, err := yaml.Marshal(object)
		if err != nil {
			return err
		}
		if hasUnprintable(string(text)) {
			// JSON is YAML too, and it can say everything without saying it aloud.
			safe, err := safeJSON(object)
			if err != nil {
				return err
			}
			text = []byte(safe + "\n")
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

func safeJSON(object any) (string, error) {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil {
		return "", err
	}
	return escapeJSON(strings.TrimSuffix(b.String(), "\n")), nil
}

func hasUnprintable(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
}
