package receiver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

const (
	jsonFormatPrefix = "json/"
	maxMappings      = 64
	// mappingPatience is how long the expressions of a mapping may take for one body.
	mappingPatience = 2 * time.Second
)

var mappingName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Mapping makes events of JSON of any shape. Its expressions are CEL, in Kubernetes'
// dialect, with `body`, what was posted, and `item`, the part of it that is one alert.
// A field that may be absent is read as `item.?field.orValue("")`.
type Mapping struct {
	// Name is the last part of the path, after 'json/': a DNS label. Required.
	Name string `json:"name"`
	// Product is the event's `source.product`. Default is the name.
	Product string `json:"product"`
	// Mode is the mode of its events: Live, or Drill for a mapping to which only exercises are
	// posted. It is no expression: what an alert says makes no drill of it. Default is Live.
	Mode v1alpha1.Mode `json:"mode"`
	// Items yields the list of the body's alerts. Default is the body's items, when it
	// is a list, and otherwise the body.
	Items v1alpha1.Expression `json:"items"`
	// When yields whether an item is an alert. Default is that each is one.
	When v1alpha1.Expression `json:"when"`
	// Title yields the event's title. Required.
	Title v1alpha1.Expression `json:"title"`
	// Severity yields a word for how bad it is, such as 'high' or 'warning'. Default, and
	// for a word that is not known, is Medium.
	Severity v1alpha1.Expression `json:"severity"`
	// Rule, Instance and Description yield text of the event. Default is none.
	Rule        v1alpha1.Expression `json:"rule"`
	Instance    v1alpha1.Expression `json:"instance"`
	Description v1alpha1.Expression `json:"description"`
	// ObservedTime yields when it was seen: text as RFC 3339 has it, or a number of
	// seconds since 1970. Default is the time of receipt.
	ObservedTime v1alpha1.Expression `json:"observedTime"`
	// Fingerprint yields what tells repeats: equal text is the same thing again. Default, also
	// for empty text, is that equal are rule, severity, instance, resources, and title and
	// description without times, process ids and the like; the same body delivered again within
	// the hour is then not counted.
	Fingerprint v1alpha1.Expression `json:"fingerprint"`
	// Resolved yields whether the item is the end of an alert. Default is that none is.
	Resolved v1alpha1.Expression `json:"resolved"`
	// Resources yields a list of objects with `apiVersion`, `kind`, `namespace`, `name`,
	// `uid`, `container`, `image` and `node`; the first three of these may be absent for
	// kinds that Kubernetes comes with, where they say nothing.
	Resources v1alpha1.Expression `json:"resources"`
	// Attacks yields a list of objects with `tactic` and `technique`.
	Attacks v1alpha1.Expression `json:"attacks"`
	// Attributes yields an object of further facts. Default is the fields of the item.
	Attributes v1alpha1.Expression `json:"attributes"`
}

// jsonFormat is a mapping that compiles.
type jsonFormat struct {
	product  string
	mode     v1alpha1.Mode
	programs map[string]*expression.Program
}

// fields are the expressions of a mapping by their names.
func (m *Mapping) fields() map[string]v1alpha1.Expression {
	return map[string]v1alpha1.Expression{
		"items": m.Items, "when": m.When, "title": m.Title, "severity": m.Severity, "rule": m.Rule, "instance": m.Instance,
		"description": m.Description, "observedTime": m.ObservedTime, "fingerprint": m.Fingerprint, "resolved": m.Resolved,
		"resources": m.Resources, "attacks": m.Attacks, "attributes": m.Attributes,
	}
}

func (m *Mapping) compile() (*jsonFormat, error) {
	switch {
	case !mappingName.MatchString(m.Name):
		return nil, fmt.Errorf("name must be 1 to 63 lower-case letters, digits and '-', is %q", m.Name)
	case m.Title == "":
		return nil, fmt.Errorf("title of %s must be set", m.Name)
	case m.Mode.OrLive() != v1alpha1.ModeLive && m.Mode != v1alpha1.ModeDrill:
		return nil, fmt.Errorf("mode of %s must be Live or Drill, is %q", m.Name, m.Mode)
	}
	f := &jsonFormat{product: first(m.Product, m.Name), mode: saidMode(m.Mode), programs: map[string]*expression.Program{}}
	var problems []error
	for field, source := range m.fields() {
		if source == "" {
			continue
		}
		program, err := expression.CompileValue(expression.Report, source)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s of %s: %w", field, m.Name, err))
			continue
		}
		f.programs[field] = program
	}
	return f, errors.Join(problems...)
}

func (f *jsonFormat) parse(r report) (parsed, error) {
	body, err := decodeAny(r.body)
	if err != nil {
		return parsed{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), mappingPatience)
	defer cancel()
	items, pointers, err := f.items(ctx, body)
	if err != nil {
		return parsed{}, err
	}
	if len(items) > maxItems {
		return parsed{}, fieldProblem("", "must have at most %d items, has %d", maxItems, len(items))
	}
	all := batch{}
	if f.mode != v1alpha1.ModeDrill {
		all.product = clean(strings.ToLower(f.product), maxProductName)
	}
	delivery := hashOf(r.body)
	for i, item := range items {
		m := &mapped{format: f, ctx: ctx, variables: expression.ReportVariables(body, item), pointer: pointers[i], delivery: delivery}
		a, skipped, err := m.alert(r, item)
		if ctx.Err() != nil {
			return parsed{}, newProblem(http.StatusRequestEntityTooLarge, "too-large", "The body takes too long",
				"The mapping's expressions must be done within "+mappingPatience.String()+": send less at a time, or make them simpler.")
		}
		if skipped {
			all.skip(1, "an item for which the mapping's `when` is not true")
			continue
		}
		if err := all.take(a, pointers[i], err); err != nil {
			return parsed{}, err
		}
	}
	return all.finish(len(items) != 1 || pointers[0] != "")
}

// items are the alerts of a body, and where they stand.
func (f *jsonFormat) items(ctx context.Context, body any) (items []any, pointers []string, err error) {
	list, isList := body.([]any)
	if program := f.programs["items"]; program != nil {
		value, err := program.Value(ctx, expression.ReportVariables(body, nil))
		if err != nil {
			return nil, nil, fieldProblem("", "does not fit the mapping: `items` %s", err)
		}
		if list, isList = value.([]any); !isList {
			return nil, nil, fieldProblem("", "does not fit the mapping: `items` must yield a list")
		}
	}
	if !isList {
		return []any{body}, []string{""}, nil
	}
	for i := range list {
		pointers = append(pointers, "/"+strconv.Itoa(i))
	}
	return list, pointers, nil
}

// mapped is one item on its way to an event. The first thing that fails is kept.
type mapped struct {
	format    *jsonFormat
	ctx       context.Context
	variables expression.Variables
	pointer   string
	delivery  string // of the body
	err       error
}

func (m *mapped) alert(r report, item any) (a alert, skipped bool, err error) {
	if m.there("when") && !m.truth("when") {
		return alert{}, m.err == nil, m.err
	}
	raw := r.body
	if m.pointer != "" {
		if raw, err = json.Marshal(item); err != nil {
			return alert{}, false, fieldProblem(m.pointer, "must be JSON: %s", err)
		}
	}
	d := r.draft(m.format.product, m.text("rule"), raw)
	d.spec.Mode = m.format.mode
	d.spec.Source.Instance = clean(m.text("instance"), maxName)
	d.texts(m.text("title"), m.text("description"))
	d.severity(m.text("severity"))
	d.observed(m.time("observedTime"))
	for _, o := range m.objects("resources") {
		d.resource(v1alpha1.ResourceReference{
			APIVersion: o["apiVersion"], Kind: first(kubernetesKind(o["kind"]), o["kind"]), Namespace: o["namespace"], Name: o["name"],
			UID: v1alpha1.ObjectUID(o["uid"]), Container: o["container"], Image: o["image"], Node: o["node"],
		})
	}
	for _, o := range m.objects("attacks") {
		d.attack(o["tactic"], o["technique"])
	}
	facts := item
	if m.there("attributes") {
		facts = m.value("attributes")
	}
	if texts, is := textFields(facts); is {
		d.attributes.addTexts("", texts)
	} else if m.there("attributes") {
		m.fail("attributes", "must yield an object")
	}
	fingerprint := m.text("fingerprint")
	if m.truth("resolved") {
		d.resolve()
	}
	if m.err != nil {
		return alert{}, false, m.err
	}
	if fingerprint != "" {
		return d.finish(fingerprint), false, nil
	}
	a = d.finish()
	a.spec.Fingerprint = fingerprintOf(&a.spec)
	a.delivery = digest(a.spec.Fingerprint, m.pointer, m.delivery)
	return a, false, nil
}

func (m *mapped) there(field string) bool { return m.format.programs[field] != nil }

func (m *mapped) fail(field, why string) {
	if m.err == nil {
		m.err = fieldProblem(m.pointer, "does not fit the mapping: `%s` %s", field, why)
	}
}

// value is what the expression of a field yields; nil without one.
func (m *mapped) value(field string) any {
	program := m.format.programs[field]
	if program == nil || m.err != nil {
		return nil
	}
	value, err := program.Value(m.ctx, m.variables)
	if err != nil {
		m.fail(field, err.Error())
	}
	return value
}

func (m *mapped) text(field string) string { return textOfAny(m.value(field)) }

func (m *mapped) truth(field string) bool {
	switch value := m.value(field).(type) {
	case nil:
		return false
	case bool:
		return value
	}
	m.fail(field, "must yield true or false")
	return false
}

// time is the time a field yields, as text or in seconds since 1970.
func (m *mapped) time(field string) time.Time {
	var at time.Time
	switch value := m.value(field).(type) {
	case nil:
		return at
	case int64:
		at = time.Unix(value, 0)
	case float64:
		at = time.Unix(int64(max(min(value, 1<<40), -1<<40)), 0)
	case string:
		if value == "" {
			return at
		}
		var err error
		if at, err = time.Parse(time.RFC3339Nano, value); err != nil {
			m.fail(field, "must yield a time such as '"+exampleTime+"', has yielded '"+clean(value, 64)+"'")
		}
	default:
		m.fail(field, "must yield text or a number")
	}
	if !inCalendar(at) {
		m.fail(field, "must yield a time of the years 1 to 9999")
		return time.Time{}
	}
	return at
}

// objects are the objects a field yields a list of, with their fields as text.
func (m *mapped) objects(field string) []map[string]string {
	value := m.value(field)
	if value == nil {
		return nil
	}
	list, is := value.([]any)
	if !is || len(list) > maxItems {
		m.fail(field, "must yield a list")
		return nil
	}
	var all []map[string]string
	for _, item := range list {
		texts, is := textFields(item)
		if !is {
			m.fail(field, "must yield a list of objects")
			return nil
		}
		all = append(all, texts)
	}
	return all
}

// textFields are the fields of a plain object as text.
func textFields(value any) (map[string]string, bool) {
	fields, is := value.(map[string]any)
	if !is {
		return nil, false
	}
	texts := make(map[string]string, len(fields))
	for key, field := range fields {
		texts[key] = textOfAny(field)
	}
	return texts, true
}

func textOfAny(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(text)
}

// decodeAny reads JSON as expressions see it: whole numbers exactly as far as 64 bits
// go, and numbers that are no such as their text.
func decodeAny(raw []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, syntaxProblem(err)
	}
	if decoder.More() {
		return nil, fieldProblem("", "must be one JSON value, goes on after byte %d", decoder.InputOffset())
	}
	return plain(value), nil
}

func plain(value any) any {
	switch v := value.(type) {
	case json.Number:
		if whole, err := v.Int64(); err == nil {
			return whole
		}
		if number, err := v.Float64(); err == nil && !math.IsInf(number, 0) && strings.ContainsAny(v.String(), ".eE") {
			return number
		}
		return v.String()
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = plain(v[key])
		}
	}
	return value
}
