package receiver

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	gometrics "runtime/metrics"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func FuzzAlertmanager(f *testing.F)   { fuzzFormat(f, "alertmanager") }
func FuzzAudit(f *testing.F)          { fuzzFormat(f, "audit") }
func FuzzCloudEvents(f *testing.F)    { fuzzFormat(f, "cloudevents") }
func FuzzFalco(f *testing.F)          { fuzzFormat(f, "falco") }
func FuzzJSON(f *testing.F)           { fuzzFormat(f, "json/guardduty") }
func FuzzNative(f *testing.F)         { fuzzFormat(f, "events") }
func FuzzOCSF(f *testing.F)           { fuzzFormat(f, "ocsf") }
func FuzzPolicyReporter(f *testing.F) { fuzzFormat(f, "policy-reporter") }
func FuzzTetragon(f *testing.F)       { fuzzFormat(f, "tetragon") }
func FuzzTrivyOperator(f *testing.F)  { fuzzFormat(f, "trivy-operator") }

// FuzzCloudEventsBinary gives the attributes as headers.
func FuzzCloudEventsBinary(f *testing.F) {
	for _, r := range bodiesOf(f, "cloudevents") {
		h := r.header
		f.Add(h.Get("Content-Type"), h.Get("Ce-Id"), h.Get("Ce-Source"), h.Get("Ce-Type"), "priority", h.Get("Ce-Priority"), r.body)
	}
	f.Fuzz(func(t *testing.T, media, id, source, kind, extension, value string, body []byte) {
		r := testReport(body)
		r.header = http.Header{}
		for key, text := range map[string]string{
			"Content-Type": media, "Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Source": source, "Ce-Type": kind, "Ce-" + extension: value,
		} {
			r.header.Set(key, text)
		}
		fuzzOnce(t, cloudEventsFormat{}, r)
	})
}

func fuzzFormat(f *testing.F, name string) {
	wire := testFormats(f)[name]
	for _, r := range bodiesOf(f, strings.ReplaceAll(name, "/", "-")) {
		f.Add(r.body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fuzzOnce(t, wire, testReport(body))
	})
}

// fuzzOnce checks what a parser makes of a body, and that the API server would take it.
func fuzzOnce(t *testing.T, wire format, r report) {
	t.Helper()
	_, native := wire.(nativeFormat)
	for i, a := range checkParse(t, wire, r) {
		if a.problem == nil && !native && i == 0 { // it costs more than all else
			checkSchema(t, &a)
		}
	}
}

// checkParse checks that a parser neither panics nor returns what it must not, and that
// it finds the same in the same body.
func checkParse(t *testing.T, wire format, r report) []alert {
	t.Helper()
	if checkShapeFor(wire, r.body) != nil {
		return nil
	}
	what, allocated, err := measured(wire, r)
	if err != nil {
		var problem *Problem
		if !errors.As(err, &problem) || problem.Status/100 != 4 || !utf8.ValidString(problem.Detail) || problem.Detail == "" {
			t.Fatalf("error %v, want a Problem of the sender's", err)
		}
		return nil
	}
	again, allocatedAgain, err := measured(wire, r)
	if err != nil || len(what.alerts) != len(again.alerts) {
		t.Fatalf("%d alerts, and then %d and error %v", len(what.alerts), len(again.alerts), err)
	}
	// Both, because others allocate as well.
	if most := allocatedBase + allocatedPerByte*len(r.body); min(allocated, allocatedAgain) > uint64(most) {
		t.Fatalf("a body of %d bytes made its parser allocate %d, want at most %d", len(r.body), min(allocated, allocatedAgain), most)
	}
	checkCount(t, wire, &what)
	_, native := wire.(nativeFormat)
	for i := range what.alerts {
		a := &what.alerts[i]
		if a.problem != nil {
			continue
		}
		if !native {
			checkBounds(t, &a.spec)
		}
		if a.spec.SubmittedBy != "sender" {
			t.Errorf("submittedBy is %q", a.spec.SubmittedBy)
		}
		if id := identify("security", a); id != identify("security", &again.alerts[i]) || !a.sameAs(&v1alpha1.SecurityEvent{Spec: again.alerts[i].spec}) {
			t.Error("the same body is two events")
		}
	}
	return what.alerts
}

// allocatedBase and allocatedPerByte bound what a parser may allocate for a body.
const allocatedBase, allocatedPerByte = 4 << 20, 512

// measured parses a body and says how many bytes were allocated meanwhile, to within the few
// kilobytes that the runtime counts late.
func measured(wire format, r report) (what parsed, bytes uint64, err error) {
	sample := []gometrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	gometrics.Read(sample)
	before := sample[0].Value.Uint64()
	what, err = wire.parse(r)
	gometrics.Read(sample)
	return what, sample[0].Value.Uint64() - before, err
}

// checkCount checks that a body makes no more alerts and answers than the limits allow.
func checkCount(t *testing.T, wire format, what *parsed) {
	t.Helper()
	most := maxBatch
	if _, native := wire.(nativeFormat); native {
		most = maxListItems
	}
	if len(what.alerts) > most || len(what.alerts) != 1 && !what.list {
		t.Fatalf("there are %d alerts, as a list: %t", len(what.alerts), what.list)
	}
	if len(what.skipped) > maxSkippedReasons {
		t.Fatalf("there are %d reasons for leaving items out, want at most %d", len(what.skipped), maxSkippedReasons)
	}
}

// maxSkippedReasons is more than any format has words for what is no alert.
const maxSkippedReasons = 16

// hostileValues are what a field may hold that its sender's documentation does not say.
var hostileValues = []string{
	`null`, `true`, `-1`, `9007199254740993123`, `1e400`, `0.5`, `""`, `"<NA>"`, `"` + strings.Repeat("€", 5000) + `"`,
	`"\u0000\u001b[31m\u202e\ud800"`, `[]`, `[null,1,"a",{}]`, `{}`, `{"a":{"b":[1]},"":null}`,
}

// TestEveryValueReplaced puts hostile values in the place of each value of each body:
// all of them when there is time, otherwise every fourth.
func TestEveryValueReplaced(t *testing.T) {
	long, turn := os.Getenv("FIREBREAK_LONG") != "", 0
	formats := testFormats(t)
	for _, name := range slices.Sorted(maps.Keys(formats)) { // in order, or it would be others each time
		wire, bodies := formats[name], bodiesOf(t, strings.ReplaceAll(name, "/", "-"))
		for _, file := range slices.Sorted(maps.Keys(bodies)) {
			r := bodies[file]
			var body any
			decoder := json.NewDecoder(bytes.NewReader(r.body))
			decoder.UseNumber()
			if strings.Contains(file, "refused") || decoder.Decode(&body) != nil {
				continue
			}
			replaceEach(&body, func(at string) {
				if turn++; !long && turn%4 != 0 {
					return
				}
				changed, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				one := r
				one.body = changed
				if checkParse(t, wire, one); t.Failed() {
					t.Fatalf("%s: with a hostile value at %s", file, at)
				}
			}, "")
		}
	}
}

// replaceEach calls with each hostile value in the place of each value below.
func replaceEach(value *any, do func(at string), at string) {
	kept := *value
	for _, hostile := range hostileValues {
		*value = json.RawMessage(hostile)
		do(at + " " + hostile[:min(len(hostile), 40)])
	}
	*value = kept
	switch v := kept.(type) {
	case []any:
		for i := range v {
			replaceEach(&v[i], do, at+"/"+itoa(i))
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			inner := v[key]
			whole := inner
			replaceEach(&inner, func(at string) { v[key] = inner; do(at) }, at+"/"+key)
			v[key] = whole
		}
	}
}
