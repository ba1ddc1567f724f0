package receiver

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// repeated is a body with an item many times, '%d' being its number.
func repeated(head, item, tail string, count int) []byte {
	items := make([]string, count)
	for i := range items {
		items[i] = strings.ReplaceAll(item, "%d", fmt.Sprint(i))
	}
	return []byte(head + strings.Join(items, ",") + tail)
}

// TestTooMany sends more items than one body may bring.
func TestTooMany(t *testing.T) {
	all := testFormats(t)
	for name, test := range map[string]struct {
		format, head, item, tail string
		alerts, leftOut          int
	}{
		"alertmanager": {"alertmanager", `{"truncatedAlerts":5,"alerts":[`, `{"labels":{"alertname":"a%d"}}`, `]}`, maxBatch, 600 + 5 - (maxBatch - 1)},
		"trivy": {"trivy-operator", `{"report":{"vulnerabilities":[{"vulnerabilityID":"worst","severity":"LOW"},`, `{"vulnerabilityID":"CVE-%d","severity":"CRITICAL"}`, `]}}`,
			0, -1},
		"trivy controls": {"trivy-operator", `{"status":{"summaryReport":{"controlCheck":[{"id":"worst","severity":"LOW","totalFail":1},`, `{"id":"%d","severity":"HIGH","totalFail":1}`, `]}}}`,
			0, -1},
		"tetragon":    {"tetragon", `[`, `{"process_lsm":{"policy_name":"p%d"}}`, `]`, -1, 0},
		"ocsf":        {"ocsf", `[`, `{"class_uid":2004,"finding_info":{"uid":"%d"}}`, `]`, -1, 0},
		"cloudevents": {"cloudevents", `[`, `{"specversion":"1.0","id":"%d","source":"s","type":"t"}`, `]`, -1, 0},
		"audit":       {"audit", `{"items":[`, `{"verb":"create","stage":"Panic","auditID":"%d","objectRef":{"resource":"pods","subresource":"exec"}}`, `]}`, 345, -1},
		"wrong":       {"tetragon", `[`, `%d`, `]`, -1, 0},
	} {
		what, err := all[test.format].parse(testReport(repeated(test.head, test.item, test.tail, 600)))
		if test.alerts < 0 {
			if err == nil || !strings.Contains(err.Error(), "at most 512") {
				t.Errorf("%s: error %v, want one that names the limit", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if test.alerts > 0 && len(what.alerts) != test.alerts || len(what.alerts) > maxBatch {
			t.Errorf("%s: %d alerts, want %d", name, len(what.alerts), test.alerts)
		}
		last := &what.alerts[len(what.alerts)-1].spec
		if last.Source.Rule != ruleTruncated {
			t.Errorf("%s: the last event is of rule %q, want one that says that alerts were left out", name, last.Source.Rule)
		}
		if test.leftOut > 0 && !strings.HasPrefix(last.Title, fmt.Sprintf("%d alerts", test.leftOut)) {
			t.Errorf("%s: title %q, want %d left out", name, last.Title, test.leftOut)
		}
		for i := range what.alerts {
			if strings.HasSuffix(what.alerts[i].spec.Source.Rule, "worst") {
				t.Errorf("%s: the finding that is least bad is kept", name)
			}
		}
	}
}

// TestTrivyKeepsWhatThereIsRoomFor: as many as there is room for are not too many.
func TestTrivyKeepsWhatThereIsRoomFor(t *testing.T) {
	what, err := trivyFormat{}.parse(testReport(repeated(`{"report":{"vulnerabilities":[`, `{"vulnerabilityID":"CVE-%d"}`, `]}}`, maxBatch)))
	if err != nil {
		t.Fatal(err)
	}
	if last := what.alerts[len(what.alerts)-1]; len(what.alerts) != maxBatch || last.spec.Source.Rule == ruleTruncated {
		t.Errorf("%d alerts, the last of rule %s; want all %d", len(what.alerts), last.spec.Source.Rule, maxBatch)
	}
}

// TestTrivyLeavesOutTheRest checks that the sum of what is kept and left out is all there was.
func TestTrivyLeavesOutTheRest(t *testing.T) {
	what, err := trivyFormat{}.parse(testReport(repeated(`{"report":{"vulnerabilities":[`, `{"vulnerabilityID":"CVE-%d"}`, `]}}`, 4000)))
	if err != nil {
		t.Fatal(err)
	}
	last := what.alerts[len(what.alerts)-1].spec
	if got, want := last.Attributes["trivy.leftOut"], v1alpha1.AttributeValue(fmt.Sprint(4000-len(what.alerts)+1)); got != want {
		t.Errorf("left out %s of 4000, with %d alerts, want %s", got, len(what.alerts), want)
	}
}

// TestHostileBodiesStaySmall feeds bodies of full size that are cheap to write, and
// bounds what is allocated for them, in all and to keep.
func TestHostileBodiesStaySmall(t *testing.T) {
	const size = DefaultMaxBodyBytes
	fill := func(head, item, tail string) []byte {
		count := (size - len(head) - len(tail)) / (len(item) + 1)
		return []byte(head + strings.TrimSuffix(strings.Repeat(item+",", count), ",") + tail)
	}
	all := testFormats(t)
	for name, test := range map[string]struct {
		format string
		body   []byte
	}{
		"alerts":          {"alertmanager", fill(`{"alerts":[`, `{}`, `]}`)},
		"labels":          {"alertmanager", fill(`{"alerts":[{"labels":{"alertname":"a"},"annotations":{`, `"a":"b"`, `}}]}`)},
		"vulnerabilities": {"trivy-operator", fill(`{"report":{"vulnerabilities":[`, `{"vulnerabilityID":"a"}`, `]}}`)},
		"numbers":         {"trivy-operator", fill(`{"report":{"vulnerabilities":[`, `1`, `]}}`)},
		"items":           {"audit", fill(`{"items":[`, `{}`, `]}`)},
		"lines":           {"tetragon", []byte(strings.Repeat("{\"process_exec\":{}}\n", size/20))},
		"events":          {"cloudevents", fill(`[`, `{}`, `]`)},
		"resources":       {"ocsf", fill(`{"class_uid":2004,"finding_info":{"uid":"u"},"resources":[`, `{"name":"a"}`, `]}`)},
		"tags":            {"tetragon", fill(`{"process_lsm":{"policy_name":"p","tags":[`, `"T1059"`, `]}}`)},
		"properties":      {"policy-reporter", []byte(`{"policy":"p","properties":{"a":"` + strings.Repeat("\u202e", size/3-100) + `"}}`)},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		what, err := all[test.format].parse(testReport(test.body))
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 96*size {
			t.Errorf("%s: %d bytes were allocated for a body of %d", name, allocated, len(test.body))
		}
		kept, marshalErr := json.Marshal(what.alerts)
		if marshalErr != nil || len(what.alerts) > maxBatch || len(kept) > size {
			t.Errorf("%s: %d alerts of %d bytes are kept, and error %v", name, len(what.alerts), len(kept), err)
		}
	}
}

// TestMixedBatch checks that an item that is wrong does not keep others from being recorded,
// and that a sender is asked to send again what may succeed then.
func TestMixedBatch(t *testing.T) {
	what, err := alertmanagerFormat{}.parse(testReport([]byte(`{"alerts":[{"labels":7},{"labels":{"alertname":"a"}},{"labels":{"alertname":"b"}}]}`)))
	if err != nil {
		t.Fatal(err)
	}
	answer := reply{namespace: "security", what: what, outcomes: []outcome{
		{err: what.alerts[0].problem}, {name: "alertmanager-1", created: true}, {err: unavailable("the API server is away")},
	}}
	p := answer.problem()
	if p == nil || p.Status != http.StatusServiceUnavailable || len(p.Results) != 3 {
		t.Fatalf("problem %+v, want 503 with three results", p)
	}
	want := []Result{
		{Pointer: "#/alerts/0", Status: 400, Namespace: "security", Detail: "`alerts[0].labels` must be an object, is a number"},
		{Pointer: "#/alerts/1", Status: 201, Namespace: "security", Name: "alertmanager-1"},
		{Pointer: "#/alerts/2", Status: 503, Namespace: "security", Detail: "the API server is away"},
	}
	for i := range want {
		if p.Results[i] != want[i] {
			t.Errorf("result %d is %+v, want %+v", i, p.Results[i], want[i])
		}
	}
}

// TestCloudEventSpaces writes an event with spaces between all of it, as many libraries do.
func TestCloudEventSpaces(t *testing.T) {
	const plain = `{"data_base64":"eyJydWxlIjoiUiIsInByaW9yaXR5IjoiTm90aWNlIn0=","specversion":"1.0","id":"1","source":"s","type":"` + cloudEventFalco + `"}`
	for name, event := range map[string]string{
		"none":       plain,
		"spaces":     strings.NewReplacer(`":"`, `" : "`, `,"`, ` , "`).Replace(plain),
		"lines":      strings.NewReplacer(`":"`, "\":\n\t\"", `,"`, ",\r\n\"").Replace(plain),
		"batch":      "[ " + strings.ReplaceAll(plain, `":"`, `": "`) + " ]",
		"last of it": strings.Replace(strings.Replace(plain, `"data_base64":"eyJydWxlIjoiUiIsInByaW9yaXR5IjoiTm90aWNlIn0=",`, "", 1), "}", `, "data_base64": "eyJydWxlIjoiUiIsInByaW9yaXR5IjoiTm90aWNlIn0=" }`, 1),
	} {
		what, err := (cloudEventsFormat{}).parse(testReport([]byte(event)))
		if err != nil || len(what.alerts) != 1 || what.alerts[0].problem != nil || what.alerts[0].spec.Source.Rule != "R" {
			t.Errorf("%s: %+v and error %v, want an alert of the rule 'R'", name, what.alerts, err)
		}
	}
}

// TestLinesThatAreCut: however many lines are cut, and wherever, the sound ones among them are
// recorded; what one has of its own does not count against the others.
func TestLinesThatAreCut(t *testing.T) {
	const line = `{"process_lsm":{"policy_name":"p","process":{"binary":"/bin/sh","arguments":"` + `%s` + `"}},"node_name":"n1"}`
	sound := fmt.Sprintf(line, "-c")
	deep := strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1)
	for name, test := range map[string]struct {
		body          string
		alerts, wrong int
	}{
		"in the midst of objects":   {strings.Repeat(sound[:60]+"\n"+sound+"\n", 40), 40, 40},
		"in the midst of a text":    {strings.Repeat(sound[:20]+"\n"+fmt.Sprintf(line, strings.Repeat("{[", 20))+"\n", 9), 9, 9},
		"with returns":              {strings.Repeat(sound[:60]+"\r\n"+sound+"\r\n", 3), 3, 3},
		"one of them alone":         {sound[:60] + "\n" + sound, 1, 1},
		"and of several lines":      {sound[:60] + "\n" + strings.ReplaceAll(sound, ",", ",\n  ") + "\n" + sound, 2, 1},
		"glued to the next":         {sound + sound[:60] + sound + "\n" + sound + sound, 3, 1},
		"beside what is too deep":   {sound + "\n" + deep + "\n" + sound, 2, 1},
		"beside what is no object":  {sound + "\n7\n" + sound, 2, 1},
		"beside the rest of a file": {"ess\":1}}\n" + sound + "\n\n" + sound + "\n" + sound[:60], 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if problem := checkShapeFor(tetragonFormat{}, []byte(test.body)); problem != nil {
				t.Fatal(problem)
			}
			what, err := tetragonFormat{}.parse(testReport([]byte(test.body)))
			alerts, wrong := 0, 0
			for i := range what.alerts {
				if what.alerts[i].problem == nil {
					alerts++
				} else {
					wrong++
				}
			}
			if err != nil || alerts != test.alerts || wrong != test.wrong {
				t.Errorf("%d alerts and %d problems (%v), want %d and %d: %+v", alerts, wrong, err, test.alerts, test.wrong, what.alerts)
			}
		})
	}
}

// TestNestedWithinText hides what is nested too deeply from the check of the body.
func TestNestedWithinText(t *testing.T) {
	deep := `{"class_uid":2004,"rule":"r","priority":"Notice","x":` + strings.Repeat(`{"a":`, 5000) + `1` + strings.Repeat(`}`, 5001)
	encoded := base64.StdEncoding.EncodeToString([]byte(deep))
	event := `{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"` + encoded + `"}`
	if _, err := (cloudEventsFormat{}).parse(testReport([]byte(event))); err == nil || !strings.Contains(err.Error(), "nested") {
		t.Errorf("data of a CloudEvent: error %v, want one about nesting", err)
	}
	raw, err := json.Marshal(deep)
	if err != nil {
		t.Fatal(err)
	}
	finding := `{"class_uid":2001,"metadata":{"product":{"vendor_name":"Falcosecurity"}},"finding":{"uid":"u","title":"t"},"raw_data":` + string(raw) + `}`
	what, err := ocsfFormat{}.parse(testReport([]byte(finding)))
	if err != nil || what.alerts[0].spec.Source.Product != ocsfProduct {
		t.Errorf("raw data of a finding: %+v and error %v, want the finding itself", what.alerts, err)
	}
}

// TestBoundsOfLists names more objects, assets and attacks than an event may.
func TestBoundsOfLists(t *testing.T) {
	list := func(item string) string { return string(repeated("[", item, "]", 100)) }
	body := `{"class_uid":2004,"finding_info":{"uid":"u","title":"t","attacks":` + list(`{"tactic":{"name":"Tactic %d"}}`) + `},"resources":` +
		list(`{"type":"pod","namespace":"shop","name":"cart-%d"},{"type":"Laptop","name":"LT-%d"}`) + `}`
	what, err := ocsfFormat{}.parse(testReport([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	spec := &what.alerts[0].spec
	checkSchema(t, &what.alerts[0])
	if len(spec.Resources) != maxResources || len(spec.Assets) != maxAssets || len(spec.Attacks) != maxAttacks {
		t.Errorf("%d resources, %d assets and %d attacks, want as many as an event may have", len(spec.Resources), len(spec.Assets), len(spec.Attacks))
	}
}
