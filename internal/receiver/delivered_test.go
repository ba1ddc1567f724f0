package receiver

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/config/crd"
)

// TestDeliveredOnce has many deliver the same at once, of whom the first fails.
func TestDeliveredOnce(t *testing.T) {
	d := newDeliveries(clocktesting.NewFakeClock(time.Now()))
	var mutex sync.Mutex
	calls, recorded, again, failed := 0, 0, 0, 0
	var senders sync.WaitGroup
	for range 50 {
		senders.Go(func() {
			o := d.once("key", func() outcome {
				mutex.Lock()
				defer mutex.Unlock()
				if calls++; calls == 1 {
					return outcome{err: errors.New("not now")}
				}
				return outcome{name: "falco-1", created: true}
			})
			mutex.Lock()
			defer mutex.Unlock()
			switch {
			case o.err != nil:
				failed++
			case o.again && o.name == "falco-1":
				again++
			case o.created:
				recorded++
			}
		})
	}
	senders.Wait()
	if calls != 2 || failed != 1 || recorded != 1 || again != 48 {
		t.Errorf("recorded in %d calls: %d failed, %d recorded, %d again; want one failed, one recorded and the others again", calls, failed, recorded, again)
	}
	if d.once("other", func() outcome { return outcome{created: true} }).again {
		t.Error("another delivery is taken for the same")
	}
}

// TestRedeliveryIsNotCounted delivers to a receiver what it has, as senders do that have not
// heard an answer.
func TestRedeliveryIsNotCounted(t *testing.T) {
	s := newSite(t)
	all, err := parseFormats([]byte("audit: {rules: [{name: exec, severity: High, resources: [pods/exec]}]}"))
	if err != nil {
		t.Fatal(err)
	}
	// Counters rest by this clock, so that one that is raised at once is told by the answer.
	handler := s.handler(Options{Name: "r0", Formats: all, Clock: clocktesting.NewFakeClock(time.Now())})
	cloud := `{"specversion":"1.0","id":"1","source":"/scanner","type":"found","time":"2026-11-21T16:00:00Z"`
	audit := func(id, stage string) string {
		return `{"kind":"EventList","items":[{"auditID":"` + id + `","stage":"` + stage + `","verb":"create","user":{"username":"alice"},
			"objectRef":{"resource":"pods","subresource":"exec","namespace":"shop","name":"cart"},"requestReceivedTimestamp":"2026-11-21T16:00:00.0Z"}]}`
	}
	for name, bodies := range map[string][]string{
		"cloudevents id":          {cloud + `}`, cloud + `}`},
		"cloudevents fingerprint": {cloud + `,"data":{"fingerprint":"x"}}`, cloud + `,"data":{"fingerprint":"x"}}`},
		"audit stages":            {audit("a", auditStarted), audit("a", auditComplete), audit("a", auditStarted)},
	} {
		format, _, _ := strings.Cut(name, " ")
		for i, body := range bodies {
			want := http.StatusOK
			if i == 0 {
				want = http.StatusCreated
			}
			s.post(format, body).want(t, want)
		}
	}
	s.wantMetrics(handler, `alerts_total{format="cloudevents",outcome="redelivered"} 2`, `alerts_total{format="audit",outcome="redelivered"} 2`)
	for _, event := range s.events() {
		if len(event.Status.Counters) > 0 {
			t.Errorf("%s is counted: %+v", event.Name, event.Status.Counters)
		}
	}
	s.post("audit", audit("b", auditStarted)).want(t, http.StatusOK)
	counted := 0
	for _, event := range s.events() {
		for _, counter := range event.Status.Counters {
			counted += int(counter.Count)
		}
	}
	if counted != 1 {
		t.Errorf("%d repeats are counted, want the one of another request", counted)
	}
}

// TestRedeliveryByMapping: what a mapping without `fingerprint` is delivered again counts
// once, and another that says the same is a repeat.
func TestRedeliveryByMapping(t *testing.T) {
	s := newSite(t)
	all, err := parseFormats([]byte(`mappings: [{name: a, title: item.t, items: body.all}]`))
	if err != nil {
		t.Fatal(err)
	}
	handler := s.handler(Options{Name: "r0", Formats: all})
	for _, body := range []string{
		`{"id":1,"all":[{"t":"shell pid=5"}]}`, `{"id":1,"all":[{"t":"shell pid=5"}]}`, // again
		`{"id":2,"all":[{"t":"shell pid=5"}]}`, `{"id":3,"all":[{"t":"shell pid=6"}]}`,
		`{"id":3,"all":[{"t":"shell pid=6"}]}`, // again
	} {
		if got := s.post("json/a", body); got.status/100 != 2 {
			t.Fatalf("%s: %+v", body, got)
		}
	}
	s.wantMetrics(handler, `alerts_total{format="json",outcome="created"} 1`, `alerts_total{format="json",outcome="repeated"} 2`,
		`alerts_total{format="json",outcome="redelivered"} 2`)
	s.onlyEvent()
}

// TestRulesOfTheCRDAreKnown: what the CRD says in CEL is checked by complete, and by nobody
// else before an alert goes into the spool.
func TestRulesOfTheCRDAreKnown(t *testing.T) {
	content, err := crd.Read("securityevents")
	if err != nil {
		t.Fatal(err)
	}
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(content, &definition); err != nil {
		t.Fatal(err)
	}
	spec, err := yaml.Marshal(definition.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"])
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"self == oldSelf", "self.kind != 'Pod' || has(self.namespace)"}
	if got := strings.Count(string(spec), "x-kubernetes-validations:"); got != len(known) {
		t.Errorf("the spec has %d rules in CEL, want %q only: extend alert.complete", got, known)
	}
	for _, rule := range known {
		if !strings.Contains(string(spec), rule) {
			t.Errorf("the spec has not the rule %q any more", rule)
		}
	}
	_, err = nativeFormat{}.parse(testReport([]byte(`[{"title":"a","severity":"Low","resources":[{"apiVersion":"v1","kind":"Pod","name":"cart"}]}]`)))
	if p := asProblem(err); err == nil || p.Status != http.StatusBadRequest || len(p.Errors) != 1 || p.Errors[0].Pointer != "#/0/resources/0/namespace" {
		t.Errorf("a pod without a namespace is told %v, want 400 at its namespace", err)
	}
}
