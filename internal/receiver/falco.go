package receiver

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	falcoProduct = "falco"

	maxTitle       = 256
	maxDescription = 4096
	maxName        = 253

	// minNanoseconds since 1970 is before anything was seen, and more than any time in seconds.
	minNanoseconds = 1e17 // 1973
)

// falcoSeverities maps Falco's priorities, in lower case.
var falcoSeverities = map[string]v1alpha1.Severity{
	"emergency":     v1alpha1.SeverityCritical,
	"alert":         v1alpha1.SeverityCritical,
	"critical":      v1alpha1.SeverityCritical,
	"error":         v1alpha1.SeverityHigh,
	"warning":       v1alpha1.SeverityMedium,
	"notice":        v1alpha1.SeverityLow,
	"informational": v1alpha1.SeverityInformational,
	"info":          v1alpha1.SeverityInformational,
	"debug":         v1alpha1.SeverityInformational,
}

// falcoPrefix is what Falco puts before a rule's text in 'output': a time of day or
// an ISO 8601 time, and the priority.
var falcoPrefix = regexp.MustCompile(`^[0-9][0-9T:.+Z-]{4,39}: (?i:emergency|alert|critical|error|warning|notice|informational|info|debug) `)

// falcoOwnSources are the words for system calls, of which Falcosidekick has one of its own, and
// for what Falco says of itself. Other sources are plugins.
var falcoOwnSources = []string{"", "syscall", "syscalls", "internal"}

// falcoFormat is the JSON of Falco's http_output, and of Falcosidekick's webhook and
// CloudEvents outputs, which repeat it with a random 'uuid' per delivery.
type falcoFormat struct{}

// falcoEvent is an event of Falco; what was absent, null or '<NA>' is empty.
type falcoEvent struct {
	rule, priority, source, hostname string
	time, output, message, uuid      string
	tags                             []string
	fields                           object
}

func (falcoFormat) parse(r report) (parsed, error) {
	a, err := r.falco("")
	return parsed{alerts: []alert{a}}, err
}

// falco reads the body, which stands at a pointer of what was sent.
func (r report) falco(pointer string) (alert, error) {
	event, err := readFalco(r.body, pointer)
	if err != nil {
		return alert{}, err
	}
	severity, known := falcoSeverities[strings.ToLower(event.priority)]
	if !known {
		return alert{}, fieldProblem(pointer+"/priority", "must be one of Emergency, Alert, Critical, Error, Warning, Notice, Informational, Debug, is '%s'", clean(event.priority, 32))
	}
	if clean(event.rule, maxName) == "" {
		return alert{}, fieldProblem(pointer+"/rule", "must be the name of the rule that fired, is empty")
	}
	observed, known := event.observed(r.receivedTime)
	if !known {
		return alert{}, fieldProblem(pointer+"/time", "must be a time such as '2023-07-26T22:09:57.827858816Z', is '%s'", clean(event.time, 64))
	}
	title, description := event.texts()
	spec := v1alpha1.SecurityEventSpec{
		Source: v1alpha1.EventSource{
			Kind:     v1alpha1.SourceAutomatic,
			Product:  falcoProduct,
			Rule:     clean(event.rule, maxName),
			Instance: clean(event.hostname, maxName),
		},
		SubmittedBy:  r.sender,
		Title:        title,
		Description:  description,
		Severity:     severity,
		ObservedTime: metav1.Time{Time: observed},
		Resources:    event.resources(),
		Attacks:      event.attacks(),
		Attributes:   event.attributes(),
		RawDataHash:  hashOf(r.body),
	}
	spec.Fingerprint = event.fingerprint()
	return alert{spec: spec}, nil
}

func readFalco(body []byte, pointer string) (*falcoEvent, error) {
	if kind := kindOf(body); kind != "object" {
		return nil, fieldProblem(pointer, "must be a Falco event as a JSON object; Falco sends one with `json_output: true`.")
	}
	o, err := parseObject(body, pointer)
	if err != nil {
		return nil, err
	}
	event := &falcoEvent{}
	for key, into := range map[string]*string{
		"rule": &event.rule, "priority": &event.priority, "source": &event.source, "hostname": &event.hostname,
		"time": &event.time, "output": &event.output, "message": &event.message, "uuid": &event.uuid,
	} {
		if *into, err = o.text(key); err != nil {
			return nil, err
		}
	}
	if event.tags, err = o.texts("tags"); err != nil {
		return nil, err
	}
	event.fields, err = o.object("output_fields")
	return event, err
}

// field is an output field as text; what is absent, null or '<NA>' is empty.
func (e *falcoEvent) field(keys ...string) string {
	for _, key := range keys {
		if raw, there := e.fields.fields[key]; there {
			if text := textOf(raw); text != "" {
				return text
			}
		}
	}
	return ""
}

// observed is when Falco saw it, to the second, as the API keeps it. Without a time there may be
// the field `evt.time`, in nanoseconds. Without both, and with Go's zero time, which the API cannot
// keep, that is the time of receipt.
func (e *falcoEvent) observed(received time.Time) (at time.Time, known bool) {
	if e.time == "" {
		nanoseconds, err := strconv.ParseFloat(e.field("evt.time", "evt.rawtime"), 64)
		if err == nil && nanoseconds > minNanoseconds && nanoseconds < math.MaxInt64 {
			received = time.Unix(0, int64(nanoseconds))
		}
		return received.UTC().Truncate(time.Second), true
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999-0700"} {
		if observed, err := time.Parse(layout, e.time); err == nil {
			observed = observed.UTC().Truncate(time.Second)
			if observed.IsZero() {
				return received.UTC().Truncate(time.Second), true
			}
			if inCalendar(observed) {
				return observed, true
			}
		}
	}
	return time.Time{}, false
}

// texts are the rule's text as title and, where that does not hold it all, as description.
func (e *falcoEvent) texts() (title, description string) {
	text := e.message
	if strings.TrimSpace(text) == "" {
		text = falcoPrefix.ReplaceAllString(strings.TrimSpace(e.output), "")
	}
	if title = clean(text, maxTitle); title == "" {
		return clean(e.rule, maxTitle), ""
	}
	if description = cleanLines(text, maxDescription); description == title {
		description = ""
	}
	return title, description
}

// fingerprint tells repeats by the rule, what it fired about and, where a plugin saw somebody's
// request, who made it. Text is left out: it differs by times, process ids and the like.
func (e *falcoEvent) fingerprint() string {
	// With the UID, where Falco knows it, a pod that came back under its name is another.
	pod := e.field("k8s.pod.name", "k8smeta.pod.name") + e.field("k8s.pod.uid", "k8smeta.pod.uid")
	parts := []string{
		falcoProduct, e.rule,
		e.field("k8s.ns.name", "k8smeta.ns.name"), pod, e.field("container.name", "container.id"),
		e.field("ka.target.resource"), e.field("ka.target.namespace"), e.targetName(),
	}
	unnamed := pod == "" && e.targetName() == ""
	if unnamed {
		// Nothing but the host tells one machine's alert from another's.
		parts = append(parts, e.hostname)
	}
	user, verb := e.field("ka.user.name"), e.field("ka.verb")
	switch {
	case slices.Contains(falcoOwnSources, e.source):
	case user != "" || verb != "":
		parts = append(parts, "request", user, e.field("ka.impuser.name"), verb)
	case unnamed:
		// Each plugin has fields of its own; the text of its rules says what matters of them.
		title, description := e.texts()
		parts = append(parts, "text", normalized(first(description, title)))
	}
	return digest(parts...)
}

// attacks are the tactics and techniques of MITRE ATT&CK among the tags. A single
// tactic is taken for that of every technique; of several, nothing says which is whose.
func (e *falcoEvent) attacks() []v1alpha1.Attack {
	var tactics, techniques []string
	for _, tag := range e.tags {
		if name, is := strings.CutPrefix(strings.ToLower(tag), "mitre_"); is {
			tactics = appendNew(tactics, tacticName(name))
		} else if technique.MatchString(strings.ToUpper(tag)) {
			techniques = appendNew(techniques, strings.ToUpper(tag))
		}
	}
	var attacks []v1alpha1.Attack
	shared := ""
	if len(tactics) == 1 && len(techniques) > 0 {
		shared, tactics = tactics[0], nil
	}
	for _, tactic := range tactics {
		attacks = append(attacks, v1alpha1.Attack{Tactic: tactic})
	}
	for _, technique := range techniques {
		attacks = append(attacks, v1alpha1.Attack{Tactic: shared, Technique: technique})
	}
	return attacks[:min(len(attacks), 16)]
}

var (
	technique  = regexp.MustCompile(`^T[0-9]{4}(\.[0-9]{3})?$`)
	tacticSlug = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}[a-z0-9]$`)
)

// tacticName turns 'privilege_escalation' into 'Privilege Escalation', as ATT&CK writes it.
func tacticName(slug string) string {
	if !tacticSlug.MatchString(slug) {
		return ""
	}
	words := strings.FieldsFunc(slug, func(r rune) bool { return r == '_' })
	for i, word := range words {
		if word != "and" {
			words[i] = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return strings.Join(words, " ")
}

func appendNew(list []string, item string) []string {
	if item == "" || len(list) == 16 {
		return list
	}
	for _, there := range list {
		if there == item {
			return list
		}
	}
	return append(list, item)
}
