package receiver

import (
	"regexp"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// passingText is what differs between two texts about the same thing: UUIDs, times,
// process ids and the like, hashes and other long hexadecimal words, and long numbers.
// Addresses, ports, versions and short numbers tell things apart, and stay.
var passingText = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`,
	`\b\d{4}-\d{2}-\d{2}([t ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?)?( ?z\b| ?[+-]\d{2}:?\d{2}\b)?`,
	`\b\d{1,2}:\d{2}:\d{2}([.,]\d+)?\b`,
	`\b(pid|ppid|tid|tgid|sid|vpid|session|request|req|trace|span|transaction|event|evt)([ _-]?(id|num|number))?[=: #]+[0-9a-f]*\d[0-9a-f]*\b`,
	`\b(sha(1|256|512)|md5):[0-9a-f]+\b`,
	`\b0x[0-9a-f]+\b`,
	`\b[0-9a-f]{12,}\b`,
	`\b\d{6,}\b`,
}, "|"))

// normalized is a text without what differs each time, so that two that speak of the same
// thing are equal. A word of twelve letters from a to f, should there be one, goes as well.
func normalized(text string) string {
	return strings.Join(strings.Fields(passingText.ReplaceAllString(text, "*")), " ")
}

// fingerprintOf tells repeats of a machine's report that has no fingerprint, by what it says
// and is about. A report that names neither product nor rule repeats nothing.
func fingerprintOf(spec *v1alpha1.SecurityEventSpec) string {
	if spec.Source.Kind != v1alpha1.SourceAutomatic || spec.Source.Product == "" && spec.Source.Rule == "" {
		return ""
	}
	parts := []string{"normalized", string(spec.Severity), spec.Source.Instance, normalized(spec.Title), normalized(spec.Description)}
	for i := range spec.Resources {
		resource := &spec.Resources[i]
		parts = append(parts, resource.APIVersion, resource.Kind, resource.Namespace, resource.Name, string(resource.UID), resource.Container)
	}
	parts = append(parts, "assets")
	for _, asset := range spec.Assets {
		parts = append(parts, string(asset.Type), asset.Identifier)
	}
	return digest(parts...)
}
