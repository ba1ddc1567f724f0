package receiver

import (
	"regexp"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// tellingText looks like what passes and is not: addresses, the numbers of vulnerabilities,
// and accounts, whose long numbers would be ids elsewhere.
var tellingText = []string{
	`\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b`,
	`\b(session|trace|span|transaction|request|req)[=: ]+["']?\d{1,3}(\.\d{1,3}){3}(:\d+)?\b`,
	`\b(session|trace|span|transaction|request|req)[=: ]+["']?[0-9a-f]{1,4}(:[0-9a-f]{0,4}){2,}`,
	`\b[0-9a-f]{1,4}(:[0-9a-f]{1,4}){5,}\b`,
	`(\b[0-9a-f]{1,4}(:[0-9a-f]{1,4})*)?::([0-9a-f]{1,4}(:[0-9a-f]{1,4})*\b)?`,
	`\bcve-\d{4}-\d+\b`,
	`\baccount[ _-]?(id|number|no)?["']?[=: #/(]+["']?\d+\b`,
	`\barn:[a-z-]+:[a-z0-9-]*:[a-z0-9-]*:\d+\b`,
}

// hourAndMinute is a time, or two ports: what is around it decides.
const hourAndMinute = `([01]?\d|2[0-3]):[0-5]\d`

// passingText is what differs between two texts about the same thing: UUIDs and ULIDs, times,
// process ids and the like, hashes and other long hexadecimal words, and long numbers.
// Addresses, ports, versions and short numbers, such as those that say which event or status
// it is, tell things apart, and stay. In doubt text stays, too: two events of one thing are
// better than one of two attacks.
var passingText = []string{
	`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`,
	`\b0[0-9a-hjkmnp-tv-z]{25}\b`,
	`\b\d{4}-\d{2}-\d{2}([t ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?)?( ?z\b| ?[+-]\d{2}:?\d{2}\b)?`,
	`\b(19|20)\d{6}t\d{4}(\d{2}([.,]\d+)?)?(z|[+-]\d{2}:?\d{2})?\b`,
	`\b\d{1,2}:\d{2}:\d{2}([.,]\d+)?\b`,
	`\b(at|since|until|time)[=: ]+["']?` + hourAndMinute + `(["',;)\]]|\.?(\s|$))`,
	`(^|[\s("'\[])` + hourAndMinute + `(z| ?(am|pm|utc|gmt))\b`,
	`^\[?` + hourAndMinute + `\]?\s`,
	`\baudit\(\d+\.\d+:\d+\)`,
	`\b[12]\d{9}\.\d+\b`,
	`\[ *\d+\.\d{6}\]`,
	`\b(pid|ppid|tid|tgid|sid|vpid|session|trace|span|transaction)([ _-]?(id|num|number))?["']?[=: #]+["']?[0-9a-f]*\d[0-9a-f]*\b["']?`,
	`\b(request|req)([ _-]?(id|num|number)["']?[=: #]+["']?| ?[=#])[0-9a-f]*\d[0-9a-f]*\b["']?`,
	`\bprocess([ _-]?id)?["']?[=: #]+["']?\d+\b["']?`,
	`\b\[\d{3,7}\]:`, // of a program's name: the index of a list is shorter
	`\b(sha(1|256|512)|md5):[0-9a-f]+\b`,
	`\b0x[0-9a-f]+\b`,
	`\b[0-9a-f]{12,}\b`,
	`\b\d{6,}\b`,
}

var (
	telling          = regexp.MustCompile(`(?i)^(` + strings.Join(tellingText, "|") + `)$`)
	tellingOrPassing = regexp.MustCompile(`(?i)` + strings.Join(slices.Concat(tellingText, passingText), "|"))
)

// normalized is a text without what differs each time, so that two that speak of the same
// thing are equal. A word of twelve letters from a to f, should there be one, goes as well.
func normalized(text string) string {
	text = tellingOrPassing.ReplaceAllStringFunc(text, func(found string) string {
		if telling.MatchString(found) {
			return found
		}
		return "*"
	})
	return strings.Join(strings.Fields(text), " ")
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
