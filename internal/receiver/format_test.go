package receiver

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files")

var testTime = time.Date(2026, 11, 21, 16, 30, 0, 0, time.UTC)

func testReport(body []byte) report {
	return report{body: body, namespace: "security", sender: "sender", receivedTime: testTime}
}

// testFormats are all formats, configured by the sample that senders begin from.
func testFormats(tb testing.TB) map[string]format {
	tb.Helper()
	all, err := LoadFormats("../../config/samples/senders/formats.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return all.byName
}

// bodiesOf are the reports in testdata/FORMAT: bodies in .json, and headers, an empty
// line and the body in .http.
func bodiesOf(tb testing.TB, name string) map[string]report {
	tb.Helper()
	bodies := map[string]report{}
	for _, pattern := range []string{"*.json", "*.http"} {
		files, err := filepath.Glob(filepath.Join("testdata", name, pattern))
		if err != nil {
			tb.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				tb.Fatal(err)
			}
			r := testReport(text)
			if filepath.Ext(file) == ".http" {
				r = withHeader(tb, text)
			}
			bodies[file] = r
		}
	}
	if len(bodies) == 0 {
		tb.Fatalf("no bodies in testdata/%s", name)
	}
	return bodies
}

func withHeader(tb testing.TB, text []byte) report {
	tb.Helper()
	head, body, found := bytes.Cut(text, []byte("\n\n"))
	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(head, "\n\n"...)))).ReadMIMEHeader()
	if err != nil || !found {
		tb.Fatalf("%q has no headers: %v", text, err)
	}
	r := testReport(body)
	r.header = http.Header(header)
	return r
}

// TestGolden reads every body in testdata/FORMAT and compares what is made of it
// with the golden file beside it. Bodies whose names start with 'refused' must be.
func TestGolden(t *testing.T) {
	for name, wire := range testFormats(t) {
		for file, body := range bodiesOf(t, strings.ReplaceAll(name, "/", "-")) {
			t.Run(file, func(t *testing.T) {
				if problem := checkShapeFor(wire, body.body); problem != nil {
					t.Fatal(problem)
				}
				what, err := wire.parse(body)
				if wantRefused := strings.HasPrefix(filepath.Base(file), "refused"); (err != nil) != wantRefused {
					t.Fatalf("parse: error %v, want one: %t", err, wantRefused)
				}
				compareGolden(t, strings.TrimSuffix(file, filepath.Ext(file))+".yaml", goldenOf(t, what, err))
			})
		}
	}
}

// goldenOf shows a refusal, the specs alone, or these with what was no alert.
func goldenOf(t *testing.T, what parsed, err error) string {
	t.Helper()
	var shown any
	if err != nil {
		var problem *Problem
		if !errors.As(err, &problem) {
			t.Fatalf("parse: error %T, want a Problem", err)
		}
		shown = problem
	} else {
		var specs []v1alpha1.SecurityEventSpec
		problems := map[string]string{}
		for i := range what.alerts {
			if problem := what.alerts[i].problem; problem != nil {
				problems[what.pointerOf(i)] = problem.Detail
				continue
			}
			checkBounds(t, &what.alerts[i].spec)
			checkSchema(t, &what.alerts[i])
			specs = append(specs, what.alerts[i].spec)
		}
		shown = specs
		if len(problems) > 0 || len(what.skipped) > 0 {
			shown = map[string]any{"events": specs, "problems": problems, "skipped": what.skipped}
		}
	}
	text, err := yaml.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got), go test -update writes it:\n%s", file, diff)
	}
}

// checkBounds checks what a format that maps must keep, so that the API server takes it.
func checkBounds(t *testing.T, spec *v1alpha1.SecurityEventSpec) {
	t.Helper()
	if n := utf8.RuneCountInString(spec.Title); n < 1 || n > maxTitle {
		t.Errorf("title has %d characters, want 1 to %d", n, maxTitle)
	}
	if n := utf8.RuneCountInString(spec.Description); n > maxDescription {
		t.Errorf("description has %d characters, want at most %d", n, maxDescription)
	}
	if len(spec.Attributes) > maxAttributes {
		t.Errorf("there are %d attributes, want at most %d", len(spec.Attributes), maxAttributes)
	}
	texts := []string{spec.Title, spec.Source.Rule, spec.Source.Product, spec.Source.Instance}
	for key, value := range spec.Attributes {
		texts = append(texts, key)
		if n := utf8.RuneCountInString(string(value)); n > maxAttributeValue || len(key) > maxAttributeKey {
			t.Errorf("attribute %q has %d characters", key, n)
		}
	}
	for _, text := range texts {
		if !utf8.ValidString(text) || clean(text, len(text)+1) != text {
			t.Errorf("%q is not clean", text)
		}
	}
	if len(spec.Resources) > 32 || len(spec.Attacks) > 16 || len(spec.Assets) > 16 {
		t.Errorf("there are %d resources, %d attacks and %d assets", len(spec.Resources), len(spec.Attacks), len(spec.Assets))
	}
	if len(spec.Fingerprint) > 128 || utf8.RuneCountInString(spec.Source.Rule) > maxName || utf8.RuneCountInString(spec.Source.Instance) > maxName ||
		utf8.RuneCountInString(spec.Source.Product) > maxProductName {
		t.Errorf("source %+v or fingerprint %q is out of bounds", spec.Source, spec.Fingerprint)
	}
	if spec.Severity.Rank() == 0 || !inCalendar(spec.ObservedTime.Time) || spec.ObservedTime.IsZero() {
		t.Errorf("severity %q or observedTime %s is not valid", spec.Severity, spec.ObservedTime)
	}
	for _, attack := range spec.Attacks {
		if attack.Tactic == "" && !technique.MatchString(attack.Technique) || utf8.RuneCountInString(attack.Tactic) > maxTactic {
			t.Errorf("attack %+v is not valid", attack)
		}
	}
	for _, resource := range spec.Resources {
		if !resourceName.MatchString(resource.Name) || resource.Kind == "Pod" && !isNamespace(resource.Namespace) ||
			!apiVersion.MatchString(resource.APIVersion) || !kindName.MatchString(resource.Kind) || len(resource.Name) > maxName ||
			resource.UID != "" && !objectUID.MatchString(string(resource.UID)) || len(resource.Image) > maxImage {
			t.Errorf("resource %+v is not valid", resource)
		}
	}
}

// checkSchema checks that the API server would take an alert.
func checkSchema(t *testing.T, a *alert) {
	t.Helper()
	if err := validate(a); err != nil {
		t.Errorf("the API server would not take it: %v", err)
	}
}

func TestFalcoSeverities(t *testing.T) {
	for priority, want := range map[string]v1alpha1.Severity{
		"Emergency": v1alpha1.SeverityCritical, "ALERT": v1alpha1.SeverityCritical, "critical": v1alpha1.SeverityCritical,
		"Error": v1alpha1.SeverityHigh, "Warning": v1alpha1.SeverityMedium, "Notice": v1alpha1.SeverityLow,
		"Informational": v1alpha1.SeverityInformational, "INFO": v1alpha1.SeverityInformational, "Debug": v1alpha1.SeverityInformational,
	} {
		what, err := falcoFormat{}.parse(testReport([]byte(`{"rule":"r","priority":"` + priority + `"}`)))
		if err != nil {
			t.Fatalf("%s: %v", priority, err)
		}
		if got := what.alerts[0].spec.Severity; got != want {
			t.Errorf("%s: severity %s, want %s", priority, got, want)
		}
	}
}

// TestFalcoBounds sends more than there is room for.
func TestFalcoBounds(t *testing.T) {
	var fields, tags strings.Builder
	for i := range 200 {
		fields.WriteString(`"z` + itoa(i) + strings.Repeat("k", i) + `":"` + strings.Repeat("ä", 2000) + `",`)
		tags.WriteString(`"T` + itoa(1000+i) + `","mitre_t` + itoa(i) + `",`)
	}
	body := `{"rule":"` + strings.Repeat("r", 300) + `","priority":"Notice","message":"` + strings.Repeat("€", 5000) +
		`","tags":[` + tags.String() + `"x"],"output_fields":{` + fields.String() + `"proc.name":"kept"}}`
	what, err := falcoFormat{}.parse(testReport([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	spec := &what.alerts[0].spec
	checkBounds(t, spec)
	if spec.Attributes["proc.name"] != "kept" {
		t.Error("proc.name is gone, want it kept before fields of less interest")
	}
	if got, want := spec.Attributes[attributeDropped], v1alpha1.AttributeValue("140"); got != want {
		t.Errorf("%s is %q, want %q", attributeDropped, got, want)
	}
	if !strings.HasSuffix(spec.Title, ellipsis) {
		t.Errorf("title %q does not say that it was cut", spec.Title)
	}
}

// TestFalcoWithoutTime has the time of receipt where Falco's says nothing.
func TestFalcoWithoutTime(t *testing.T) {
	for _, said := range []string{`null`, `""`, `"0001-01-01T00:00:00Z"`, `"0001-01-01T00:00:00.000000001Z"`, `"0001-01-01T01:00:00+01:00"`} {
		r := testReport([]byte(`{"rule":"r","priority":"Notice","time":` + said + `}`))
		what, err := falcoFormat{}.parse(r)
		if err != nil {
			t.Errorf("%s: %v", said, err)
			continue
		}
		if got, want := what.alerts[0].spec.ObservedTime.Time, r.receivedTime.UTC().Truncate(time.Second); !got.Equal(want) {
			t.Errorf("%s: observed at %s, want %s", said, got, want)
		}
	}
}

// TestFalcoFingerprint says which differences make another alert.
func TestFalcoFingerprint(t *testing.T) {
	const fields = `"k8s.ns.name":"shop","k8s.pod.name":"cart","container.name":"c"`
	base := `{"rule":"r","priority":"Notice","hostname":"n1","output":"a","time":"2026-11-21T16:00:00Z","output_fields":{` + fields + `}}`
	tests := map[string]struct {
		old, new string
		same     bool
	}{
		"text":      {`"output":"a"`, `"output":"b"`, true},
		"time":      {"16:00:00Z", "16:59:59Z", true},
		"priority":  {"Notice", "Critical", true},
		"host":      {"n1", "n2", true},
		"uuid":      {`"rule"`, `"uuid":"u","rule"`, true},
		"pid":       {`"c"`, `"c","proc.pid":7`, true},
		"rule":      {`"r"`, `"r2"`, false},
		"pod":       {`"cart"`, `"cart2"`, false},
		"namespace": {`"shop"`, `"shop2"`, false},
		"container": {`"c"`, `"c2"`, false},
		"no pod":    {fields, "", false},
	}
	fingerprint := func(body string) string {
		what, err := falcoFormat{}.parse(testReport([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		return what.alerts[0].spec.Fingerprint
	}
	for name, test := range tests {
		changed := strings.Replace(base, test.old, test.new, 1)
		if changed == base {
			t.Fatalf("%s: nothing changed", name)
		}
		if got := fingerprint(changed) == fingerprint(base); got != test.same {
			t.Errorf("%s: same fingerprint %t, want %t", name, got, test.same)
		}
	}
	host := `{"rule":"r","priority":"Notice","hostname":"n1"}`
	if fingerprint(host) == fingerprint(strings.Replace(host, "n1", "n2", 1)) {
		t.Error("alerts about two hosts have one fingerprint")
	}
}

func TestIdentity(t *testing.T) {
	base := func() *alert {
		what, err := nativeFormat{}.parse(testReport([]byte(`{"source":{"product":"My  Scanner!","rule":"r"},"title":"a","severity":"Low","fingerprint":"f","observedTime":"2026-11-21T16:10:00Z"}`)))
		if err != nil {
			t.Fatal(err)
		}
		return &what.alerts[0]
	}
	tests := map[string]struct {
		change func(*alert)
		same   bool
	}{
		"title":        {func(a *alert) { a.spec.Title = "b" }, true},
		"in window":    {func(a *alert) { a.spec.ObservedTime.Time = a.spec.ObservedTime.Add(49 * time.Minute) }, true},
		"next window":  {func(a *alert) { a.spec.ObservedTime.Time = a.spec.ObservedTime.Add(50 * time.Minute) }, false},
		"submitter":    {func(a *alert) { a.spec.SubmittedBy = "other" }, false},
		"product":      {func(a *alert) { a.spec.Source.Product = "my-scanner" }, false},
		"rule":         {func(a *alert) { a.spec.Source.Rule = "s" }, false},
		"fingerprint":  {func(a *alert) { a.spec.Fingerprint = "g" }, false},
		"no-f":         {func(a *alert) { a.spec.Fingerprint = "" }, false},
		"drill":        {func(a *alert) { a.spec.Mode = v1alpha1.ModeDrill }, false},
		"live":         {func(a *alert) { a.spec.Mode = v1alpha1.ModeLive }, true},
		"boundary r/f": {func(a *alert) { a.spec.Source.Rule, a.spec.Fingerprint = "", "rf" }, false},
	}
	id := identify("security", base())
	if got, want := id.name(0)[:len(id.name(0))-nameStep], "my-scanner-"; got != want {
		t.Errorf("name starts with %q, want %q", got, want)
	}
	for name, test := range tests {
		changed := base()
		test.change(changed)
		event := &v1alpha1.SecurityEvent{Spec: changed.spec}
		if got := identify("security", changed).hash == id.hash; got != test.same {
			t.Errorf("%s: same identity %t, want %t", name, got, test.same)
		}
		if got := base().sameAs(event); got != test.same {
			t.Errorf("%s: same event %t, want %t", name, got, test.same)
		}
	}
}

// TestIdentityWithoutFingerprint says when a report is one delivered again.
func TestIdentityWithoutFingerprint(t *testing.T) {
	at := func(body string, now time.Time) string {
		r := testReport([]byte(body))
		r.receivedTime = now
		what, err := nativeFormat{}.parse(r)
		if err != nil {
			t.Fatal(err)
		}
		return identify("security", &what.alerts[0]).hash
	}
	const undated, dated = `{"title":"a","severity":"Low"}`, `{"title":"a","severity":"Low","observedTime":"2026-11-21T16:00:00Z"}`
	for name, test := range map[string]struct {
		other string
		later time.Duration
		body  string
		same  bool
	}{
		"undated, soon":   {undated, 20 * time.Minute, undated, true},
		"undated, later":  {undated, 2 * time.Hour, undated, false},
		"dated, later":    {dated, 50 * time.Hour, dated, true},
		"other title":     {`{"title":"b","severity":"Low"}`, 0, undated, false},
		"other spacing":   {`{"severity":"Low", "title":"a"}`, 0, undated, true},
		"dated, undated":  {dated, 0, undated, false},
		"hash of its own": {`{"title":"a","severity":"Low","rawDataHash":"sha256:` + strings.Repeat("0", 64) + `"}`, 0, undated, false},
	} {
		if got := at(test.body, testTime) == at(test.other, testTime.Add(test.later)); got != test.same {
			t.Errorf("%s: same identity %t, want %t", name, got, test.same)
		}
	}
}

func TestNamesGrow(t *testing.T) {
	id := identity{prefix: "falco", hash: digest("x")}
	for n := range id.names() {
		want := min(len("falco-")+nameStep*(n+1), len("falco-")+64)
		if got := id.name(n); len(got) != want || !strings.HasPrefix(id.hash, strings.TrimPrefix(got, "falco-")) {
			t.Errorf("name %d is %q, want the first %d characters", n, got, want)
		}
	}
	if other := id.beside("uid-1"); other.hash == id.hash || other.hash == id.beside("uid-2").hash {
		t.Error("names beside foreign events are not distinct")
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":              "plain",
		" a\nb\tc\r\n ":      "a b c",
		"\x1b[31mred\x00":    "\uFFFD[31mred\uFFFD",
		"\xff\xfe":           "\uFFFD",
		"a\u202eb\u2066c":    "a\uFFFDb\uFFFDc",
		"héllo wörld":        "héllo wörld",
		"0123456789abcdefgh": "0123456789abcde" + ellipsis,
		"äääääääääääääääää":  "äääääääääääääää" + ellipsis,
	} {
		if got := clean(in, 16); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCheckDepth(t *testing.T) {
	for body, want := range map[string]bool{
		strings.Repeat("[", maxDepth):            true,
		strings.Repeat("[", maxDepth+1):          false,
		strings.Repeat(`{"a":`, 100000):          false,
		strings.Repeat("[]", 1000):               true,
		`"` + strings.Repeat("[", 100) + `"`:     true,
		`"\"` + strings.Repeat("[", 100) + `"`:   true,
		`"\\"` + strings.Repeat("[", maxDepth+1): false,
		`"` + strings.Repeat("[", 5) + `\`:       true,
	} {
		if got := checkShape([]byte(body)) == nil; got != want {
			t.Errorf("checkShape(%.40q) passes: %t, want %t", body, got, want)
		}
	}
}

func TestGrant(t *testing.T) {
	for user, want := range map[string]string{
		"system:serviceaccount:falco:sidekick": "--serviceaccount=falco:sidekick",
		"jane@example.com":                     "--user=jane@example.com",
		"o'brien; rm -rf /":                    `--user='o'\''brien; rm -rf /'`,
	} {
		if got := grant(user, "security"); !strings.HasSuffix(got, want) {
			t.Errorf("grant(%q) = %q, want it to end with %q", user, got, want)
		}
	}
}
