package harness

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// briefLines and briefBytes are how much of a text a failing test says.
	briefLines, briefBytes = 40, 6000
	// shownEntries is how many of the last entries of a timeline are shown.
	shownEntries = 6
)

// Brief leaves out the middle of a long text, so that it drives nothing else out of a log of
// which only the end is kept.
func Brief(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if left := len(lines) - briefLines; left > 0 {
		note := fmt.Sprintf("… %d lines left out …", left)
		lines = append(append(lines[:briefLines/2:briefLines/2], note), lines[len(lines)-briefLines/2:]...)
	}
	text = strings.Join(lines, "\n")
	if len(text) <= briefBytes {
		return text
	}
	head, tail := briefBytes/2, len(text)-briefBytes/2
	for head > 0 && !utf8.RuneStart(text[head]) {
		head--
	}
	for tail < len(text) && !utf8.RuneStart(text[tail]) {
		tail++
	}
	return fmt.Sprintf("%s … %d bytes left out … %s", text[:head], tail-head, text[tail:])
}

// Describe shows an object without what only the API server needs, and of a timeline the end.
func Describe(object client.Object) string {
	shown, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		return "unknown"
	}
	shown.SetManagedFields(nil)
	if incident, ok := shown.(*v1alpha1.Incident); ok {
		timeline := &incident.Status.Timeline
		*timeline = (*timeline)[max(0, len(*timeline)-shownEntries):]
	}
	text, err := json.Marshal(shown)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func splitResource(full string) (resource, subresource string) {
	resource, subresource, _ = strings.Cut(full, "/")
	return resource, subresource
}

func hostOf(config *rest.Config) string {
	host := strings.TrimPrefix(config.Host, "https://")
	return strings.TrimSuffix(host, "/")
}
