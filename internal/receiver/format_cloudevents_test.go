package receiver

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// cloudEventOf is an event in structured mode with more than it needs.
func cloudEventOf(more string) string {
	return `{"specversion":"1.0","id":"1","source":"https://scanner.example","type":"t",` + more + `}`
}

// TestCloudEventDeliveredLater has an event delivered again in another hour.
func TestCloudEventDeliveredLater(t *testing.T) {
	for name, body := range map[string]string{
		"plain":       cloudEventOf(`"data":{"title":"a"}`),
		"fingerprint": cloudEventOf(`"data":{"title":"a","fingerprint":"f"}`),
		"falco":       cloudEventOf(`"data":{"rule":"r","priority":"Notice","output_fields":{}}`),
	} {
		at := func(received time.Time) *alert {
			r := testReport([]byte(body))
			r.receivedTime = received
			what, err := cloudEventsFormat{}.parse(r)
			if err != nil {
				t.Fatal(err)
			}
			return &what.alerts[0]
		}
		one, other := at(testTime), at(testTime.Add(40*time.Minute))
		sameEvent := one.single && identify("security", one) == identify("security", other) && one.sameAs(&v1alpha1.SecurityEvent{Spec: other.spec})
		if sameDelivery := one.delivery != "" && one.delivery == other.delivery; !sameEvent && !sameDelivery {
			t.Errorf("%s: what is delivered again counts as another", name)
		}
	}
}

// TestCloudEventPointers says where in an event something is wrong.
func TestCloudEventPointers(t *testing.T) {
	const falco, finding = `{"rule":"r","priority":5,"output_fields":{}}`, `{"class_uid":"2004"}`
	deep := strings.Repeat(`{"a":`, 29) + `{}` + strings.Repeat(`}`, 29) // with those of the data and the batch 31
	encoded := base64.StdEncoding.EncodeToString([]byte(falco))
	for body, want := range map[string]string{
		cloudEventOf(`"data":` + falco):                                "#/data/priority",
		cloudEventOf(`"data":` + finding):                              "#/data/class_uid",
		cloudEventOf(`"data_base64":"` + encoded + `"`):                "#/data_base64/priority",
		`[` + cloudEventOf(`"data":`+falco) + `]`:                      "#/0/data/priority",
		`[` + cloudEventOf(`"data":`+finding) + `]`:                    "#/0/data/class_uid",
		cloudEventOf(`"data":{"resources":[7],"x":` + deep + `}`):      "#/data/resources/0",
		cloudEventOf(`"data":{"title":"a","resource":{"kind":"pod"}}`): "",
	} {
		got := pointerOfProblem(t, cloudEventsFormat{}, testReport([]byte(body)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%.120s: the pointer differs (-want +got):\n%s", body, diff)
		}
	}
	r := testReport([]byte(falco))
	r.header = http.Header{"Content-Type": {"application/json"}, "Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"s"}, "Ce-Type": {cloudEventFalco}}
	if got := pointerOfProblem(t, cloudEventsFormat{}, r); got != "#/priority" {
		t.Errorf("in binary mode: pointer %q, want that into the body", got)
	}
}

// pointerOfProblem is where a format says that something is wrong; empty is nowhere.
func pointerOfProblem(t *testing.T, wire format, r report) string {
	t.Helper()
	_, err := wire.parse(r)
	if err == nil {
		return ""
	}
	problem := asProblem(err)
	if len(problem.Errors) != 1 {
		t.Fatalf("problem %+v, want one of a field", problem)
	}
	return problem.Errors[0].Pointer
}

// TestCloudEventHeaders has attributes in headers encoded as the HTTP binding says, or not at all.
func TestCloudEventHeaders(t *testing.T) {
	for header, want := range map[string]string{
		`Caf%C3%A9 %E2%82%AC, 100%`: "Café €, 100%",
		`Caf%C3%A9 %E2%82%AC`:       "Café €",
		`plain`:                     "plain",
		`100% sure`:                 "100% sure",
		`"quoted" word`:             `"quoted" word`,
		`"a \"word\" of %E2%82%AC"`: `a "word" of €`,
		`%2525`:                     "%25",
		`%0a%1b[31mred`:             "\uFFFD[31mred",
		`"`:                         `"`,
		`a+b`:                       "a+b",
	} {
		r := testReport([]byte("text"))
		r.header = http.Header{"Content-Type": {"text/plain"}, "Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"s"}, "Ce-Type": {"t"}, "Ce-Title": {header}}
		what, err := cloudEventsFormat{}.parse(r)
		if err != nil {
			t.Errorf("%s: %v", header, err)
			continue
		}
		if got := what.alerts[0].spec.Title; got != want {
			t.Errorf("%s: title %q, want %q", header, got, want)
		}
		if r.header.Get("Ce-Title") != header {
			t.Errorf("%s: the request's header was changed", header)
		}
	}
}

// TestCloudEventKinds names kinds as Kubernetes does not write them.
func TestCloudEventKinds(t *testing.T) {
	body := cloudEventOf(`"data":{"title":"a","resources":[{"kind":"pod","namespace":"shop","name":"cart"},{"kind":"Thing","apiVersion":"example.com/v1","name":"t"}]}`)
	var kinds []string
	for _, resource := range parseOne(t, cloudEventsFormat{}, body).spec.Resources {
		kinds = append(kinds, resource.APIVersion+" "+resource.Kind)
	}
	if diff := cmp.Diff([]string{"v1 Pod", "example.com/v1 Thing"}, kinds); diff != "" {
		t.Errorf("kinds differ (-want +got):\n%s", diff)
	}
}
