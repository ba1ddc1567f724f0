package receiver

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestAlertBecomesEvent(t *testing.T) {
	s := newSite(t)
	r := s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	event := s.onlyEvent()
	if r.Name != event.Name || r.Namespace != s.namespace || r.Occurrences != 1 || !strings.HasPrefix(event.Name, "falco-") || len(event.Name) != len("falco-")+nameStep {
		t.Errorf("answer %s for event %s, want its name and namespace", r.body, event.Name)
	}
	if event.Spec.SubmittedBy != s.sender {
		t.Errorf("submittedBy %q, want the sender %q", event.Spec.SubmittedBy, s.sender)
	}
	want := []v1alpha1.ResourceReference{{
		APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-7f9",
		Container: "cart", Image: "docker.io/library/alpine:3.20", Node: "node-1",
	}}
	if diff := cmp.Diff(want, event.Spec.Resources); diff != "" {
		t.Errorf("resources differ (-want +got):\n%s", diff)
	}
}

// TestEveryGoldenBodyIsAccepted checks that what the formats make of odd bodies
// passes the API server's validation.
func TestEveryGoldenBodyIsAccepted(t *testing.T) {
	s := newSite(t)
	long := `{"rule":"` + strings.Repeat("r", 400) + `","priority":"Notice","hostname":"` + strings.Repeat("h", 400) + `","message":"` + strings.Repeat("€", 5000) +
		`","output_fields":{"k8s.ns.name":"` + strings.Repeat("n", 64) + `","k8s.pod.name":"p","a":"` + strings.Repeat("€", 2000) + `"}}`
	bodies := map[string]string{"long": long, "byte order mark": byteOrderMark + readBody(t, "falco", "shell")}
	for _, name := range []string{"sidekick", "message", "traps", "audit", "audit-cluster", "dockershim", "host"} {
		bodies[name] = readBody(t, "falco", name)
	}
	for name, body := range bodies {
		if r := s.post("falco", body); r.status != http.StatusCreated {
			t.Errorf("%s: status %d, want 201: %s", name, r.status, r.body)
		}
	}
}

func TestRepeatsAreCountedExactly(t *testing.T) {
	const alerts = 200
	s := newSite(t)
	s.connect()
	statuses := make([]int, alerts)
	var senders sync.WaitGroup
	for i := range alerts {
		senders.Go(func() {
			body := falcoBody(t, "22:09:57", fmt.Sprintf("22:%02d:57", i%60), "sh -c uptime", fmt.Sprint("sh ", i))
			r, err := s.send(http.MethodPut, "/v1/namespaces/"+s.namespace+"/falco", s.token, strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			statuses[i] = r.status
		})
	}
	senders.Wait()
	answered := map[int]int{}
	for _, status := range statuses {
		answered[status]++
	}
	if diff := cmp.Diff(map[int]int{http.StatusCreated: 1, http.StatusOK: alerts - 1}, answered); diff != "" {
		t.Errorf("answers differ (-want +got):\n%s", diff)
	}
	event := s.onlyEvent()
	last := metav1.Date(2023, 7, 26, 22, 59, 57, 0, time.UTC)
	sequence := event.Status.Counters[0].Sequence
	recent := event.Status.Counters[0].Recent
	want := []v1alpha1.EventCounter{{Spool: "r0", Count: alerts - 1, LastObservedTime: &last, Sequence: sequence, Recent: recent}}
	var placed int64
	for _, minute := range recent {
		placed += minute.Count
	}
	if placed != alerts-1 || len(recent) != 60 {
		t.Errorf("%d repeats are placed in %d minutes, want %d in 60", placed, len(recent), alerts-1)
	}
	if sequence == 0 {
		t.Error("the counter has no sequence")
	}
	if diff := cmp.Diff(want, event.Status.Counters); diff != "" {
		t.Errorf("counters differ (-want +got):\n%s", diff)
	}
	for _, entry := range event.ManagedFields {
		if entry.Subresource == "status" && (entry.Manager != "firebreak-receiver-r0" || strings.Contains(entry.FieldsV1.GetRawString(), "f:conditions")) {
			t.Errorf("%s manages %s of status", entry.Manager, entry.FieldsV1.GetRawString())
		}
	}
}

func TestCounterGoesOnAfterRestartAndBesideOthers(t *testing.T) {
	s := newSite(t)
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	s.post("falco", falcoBody(t)).want(t, http.StatusOK)
	s.url, s.http = s.receiver(Options{Name: "r0"})
	s.post("falco", falcoBody(t)).want(t, http.StatusOK)
	s.url, s.http = s.receiver(Options{Name: "r1"})
	if r := s.post("falco", falcoBody(t)).want(t, http.StatusOK); r.Occurrences != 4 {
		t.Errorf("occurrences %d, want 4", r.Occurrences)
	}
	counts := map[string]int64{}
	for _, counter := range s.onlyEvent().Status.Counters {
		counts[counter.Spool] = counter.Count
	}
	if diff := cmp.Diff(map[string]int64{"r0": 2, "r1": 1}, counts); diff != "" {
		t.Errorf("counters differ (-want +got):\n%s", diff)
	}
}

func TestDeletedEventIsMadeAgain(t *testing.T) {
	s := newSite(t)
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	first := s.onlyEvent()
	if err := s.admin.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	// Deleted and made by another receiver: the counter must not go by the name alone.
	if err := s.admin.Delete(t.Context(), s.onlyEvent()); err != nil {
		t.Fatal(err)
	}
	url, c := s.url, s.http
	s.url, s.http = s.receiver(Options{Name: "r1"})
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	s.url, s.http = url, c
	if r := s.post("falco", falcoBody(t)).want(t, http.StatusOK); r.Occurrences != 2 {
		t.Errorf("occurrences %d, want 2", r.Occurrences)
	}
	if event := s.onlyEvent(); event.UID == first.UID || len(event.Status.Counters) != 1 || event.Status.Counters[0].Count != 1 {
		t.Errorf("counters %+v, want a new event with one repeat", event.Status.Counters)
	}
}

func TestForeignEventIsNeverJoined(t *testing.T) {
	s := newSite(t)
	name := s.post("falco", falcoBody(t)).want(t, http.StatusCreated).Name
	event := s.onlyEvent()
	if err := s.admin.Delete(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	foreign := &v1alpha1.SecurityEvent{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: event.Spec}
	foreign.Spec.SubmittedBy = "mallory"
	s.create(foreign)
	longer := s.post("falco", falcoBody(t)).want(t, http.StatusCreated).Name
	if !strings.HasPrefix(longer, name) || len(longer) != len(name)+nameStep {
		t.Errorf("name %s, want %s and %d more characters", longer, name, nameStep)
	}
	if again := s.post("falco", falcoBody(t)).want(t, http.StatusOK).Name; again != longer {
		t.Errorf("repeat went to %s, want %s", again, longer)
	}
	if err := s.admin.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign); err != nil || len(foreign.Status.Counters) > 0 {
		t.Errorf("the foreign event has counters %+v (error %v), want none", foreign.Status.Counters, err)
	}
}

func TestNativeEvents(t *testing.T) {
	s := newSite(t)
	manifest := strings.NewReplacer(`"security"`, `"`+s.namespace+`"`, `"sender"`, `"`+s.sender+`"`).Replace(readBody(t, "events", "manifest"))
	if r := s.post("events", manifest).want(t, http.StatusCreated); !strings.HasPrefix(r.Name, "vault-guard-") {
		t.Errorf("name %s, want one of the product", r.Name)
	}
	if r := s.post("events", manifest).want(t, http.StatusOK); r.Occurrences != 2 {
		t.Errorf("occurrences %d, want 2", r.Occurrences)
	}
	// Without a fingerprint the same body is the same report, however often it comes.
	report := readBody(t, "events", "spec")
	name := s.post("events", report).want(t, http.StatusCreated).Name
	s.post("events", report).want(t, http.StatusOK)
	s.url, s.http = s.receiver(Options{Name: "r0"})
	if r := s.post("events", report).want(t, http.StatusOK); r.Name != name {
		t.Errorf("name %s, want %s", r.Name, name)
	}
	event := &v1alpha1.SecurityEvent{}
	if err := s.admin.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: name}, event); err != nil {
		t.Fatal(err)
	}
	if event.Spec.Source.Kind != v1alpha1.SourceHuman || event.Spec.SubmittedBy != s.sender || len(event.Status.Counters) > 0 {
		t.Errorf("event %+v counters %+v, want a person's by %s and none", event.Spec, event.Status.Counters, s.sender)
	}
}

func TestNativeList(t *testing.T) {
	s := newSite(t)
	r := s.post("events", readBody(t, "events", "list")).want(t, http.StatusCreated)
	if len(r.Results) != 2 || r.Results[0].Status != http.StatusCreated || r.Results[1].Name == "" {
		t.Errorf("results %+v, want two events", r.Results)
	}
	s.post("events", readBody(t, "events", "list")).want(t, http.StatusOK)
	r = s.post("events", `[{"title":"fine","severity":"Low"},{"spec":{"title":"not","severity":"Low","assets":[{"type":"Ship","identifier":"x"}]}}]`).
		wantProblem(t, http.StatusBadRequest, "invalid-input", "assets[0].type", "Device")
	if len(r.Results) != 2 || r.Results[0].Status != http.StatusCreated || r.Results[1].Status != http.StatusBadRequest || r.Results[1].Detail == "" {
		t.Errorf("results %+v, want one recorded and one not", r.Results)
	}
	if want := "#/1/spec/assets/0/type"; len(r.Problem.Errors) != 1 || r.Problem.Errors[0].Pointer != want {
		t.Errorf("errors %+v, want one at %s", r.Problem.Errors, want)
	}
	if got := len(s.events()); got != 3 {
		t.Errorf("there are %d events, want 3", got)
	}
}

func TestRefusals(t *testing.T) {
	s := newSite(t)
	path := "/v1/namespaces/" + s.namespace + "/"
	unscoped := s.tokenOf(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "falco"}}, "")
	stranger := s.account("stranger", v1alpha1.ReceiverAudience)
	tests := map[string]struct {
		method, path, token, body string
		status                    int
		slug                      string
		says                      []string
	}{
		"no token":         {path: path + "falco", status: 401, slug: "unauthenticated", says: []string{"Authorization: Bearer"}},
		"bad token":        {path: path + "falco", token: "nonsense", status: 401, slug: "unauthenticated", says: []string{"audience 'firebreak-receiver'"}},
		"other audience":   {path: path + "falco", token: unscoped, status: 401, slug: "unauthenticated", says: []string{"audience 'firebreak-receiver'"}},
		"no right":         {path: path + "falco", token: stranger, status: 403, slug: "forbidden", says: []string{"`create` `securityevents.firebreak.dev`", "kubectl create role", "--serviceaccount=" + s.namespace + ":stranger"}},
		"other namespace":  {path: "/v1/namespaces/default/falco", token: s.token, status: 403, slug: "forbidden", says: []string{"'default'"}},
		"bad namespace":    {path: "/v1/namespaces/No_Label/falco", token: s.token, status: 400, slug: "invalid-namespace", says: []string{"DNS label"}},
		"unknown format":   {path: path + "syslog", token: s.token, status: 404, slug: "no-such-format", says: []string{"events, falco"}},
		"unknown path":     {path: "/v2", token: s.token, status: 404, slug: "no-such-path"},
		"method":           {method: http.MethodGet, path: path + "falco", token: s.token, status: 405, slug: "method-not-allowed", says: []string{"POST"}},
		"too large":        {path: path + "falco", token: s.token, body: `{"rule":"` + strings.Repeat("x", DefaultMaxBodyBytes) + `"}`, status: 413, slug: "too-large", says: []string{"4194304"}},
		"depth bomb":       {path: path + "falco", token: s.token, body: strings.Repeat(`{"a":`, 100000), status: 400, slug: "invalid-input", says: []string{"32 levels"}},
		"empty":            {path: path + "falco", token: s.token, status: 400, slug: "invalid-input", says: []string{"must be JSON, is empty"}},
		"gzip":             {path: path + "falco", token: s.token, body: "\x1f\x8b\x08\x00", status: 400, slug: "invalid-input", says: []string{"gzip"}},
		"wrong type":       {path: path + "falco", token: s.token, body: `{"rule":5}`, status: 400, slug: "invalid-input", says: []string{"`rule` must be a string"}},
		"refused by CRD":   {path: path + "events", token: s.token, body: `{"title":"` + strings.Repeat("x", 300) + `","severity":"Low"}`, status: 400, slug: "invalid-input", says: []string{"spec.title"}},
		"other submitter":  {path: path + "events", token: s.token, body: `{"title":"x","severity":"Low","submittedBy":"root"}`, status: 400, slug: "invalid-input", says: []string{s.sender}},
		"namespace of old": {path: path + "events", token: s.token, body: `{"metadata":{"namespace":"x"},"spec":{"title":"x","severity":"Low"}}`, status: 400, slug: "invalid-input", says: []string{"metadata.namespace"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.method == "" {
				test.method = http.MethodPost
			}
			r, err := s.send(test.method, test.path, test.token, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			r.wantProblem(t, test.status, test.slug, test.says...)
		})
	}
	if events := s.events(); len(events) > 0 {
		t.Errorf("there are %d events, want none", len(events))
	}
	for _, secret := range []string{s.token, unscoped, stranger, "nonsense", strings.Repeat("x", 100)} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log has a token or a body: %.40s…", secret)
		}
	}
	if !strings.Contains(s.log.String(), "refused a request") {
		t.Error("the log does not tell of refusals")
	}
}

// TestStreamedBodyIsBounded sends a body of no declared length.
func TestStreamedBodyIsBounded(t *testing.T) {
	s := newSite(t)
	body := struct{ *strings.Reader }{strings.NewReader(`{"rule":"` + strings.Repeat("x", 2*DefaultMaxBodyBytes) + `"}`)}
	r, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", s.token, body)
	if err != nil {
		t.Fatal(err)
	}
	r.wantProblem(t, http.StatusRequestEntityTooLarge, "too-large")
}

// TestPathsPutTogetherWrongly: a redirect would be an alert lost, as Falco follows none.
func TestPathsPutTogetherWrongly(t *testing.T) {
	s := newSite(t)
	good := "/v1/namespaces/" + s.namespace + "/falco"
	s.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	for _, path := range []string{"/" + good, good + "/", "/." + good, "/v1//namespaces/" + s.namespace + "/falco"} {
		r, err := s.send(http.MethodPost, path, s.token, strings.NewReader(falcoBody(t)))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		r.want(t, http.StatusOK)
	}
	for _, path := range []string{"//", "/v1/namespaces/" + s.namespace + "/..", "//v2/"} {
		if r, err := s.send(http.MethodPost, path, s.token, nil); err != nil {
			t.Errorf("%s: %v", path, err)
		} else {
			r.wantProblem(t, http.StatusNotFound, "no-such-path")
		}
	}
}

func TestUnscopedTokenWhenAllowed(t *testing.T) {
	s := newSite(t)
	s.token = s.tokenOf(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "falco"}}, "")
	s.post("falco", falcoBody(t)).wantProblem(t, http.StatusUnauthorized, "unauthenticated")
	s.url, s.http = s.receiver(Options{Name: "r0", AllowUnscopedToken: true})
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	s.token = "nonsense"
	s.post("falco", falcoBody(t)).wantProblem(t, http.StatusUnauthorized, "unauthenticated")
}

// TestRightsTakeEffect grants a right as the refusal says, and takes it away.
func TestRightsTakeEffect(t *testing.T) {
	s := newSite(t)
	s.token = s.account("late", v1alpha1.ReceiverAudience)
	// What is remembered of a sender expires by this clock.
	passing := clocktesting.NewFakeClock(time.Now())
	s.url, s.http = s.receiver(Options{Name: "r0", Clock: passing})
	s.post("falco", falcoBody(t)).wantProblem(t, http.StatusForbidden, "forbidden")
	binding := rbacBinding(s.namespace, "late", "falco")
	s.create(binding)
	s.eventually("the right is granted", func() bool {
		passing.Step(refusedFor)
		return s.post("falco", falcoBody(t)).status == http.StatusCreated
	})
	if err := s.admin.Delete(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	s.post("falco", falcoBody(t)).want(t, http.StatusOK)
	s.eventually("the right is gone", func() bool {
		passing.Step(allowedFor)
		return s.post("falco", falcoBody(t)).status == http.StatusForbidden
	})
}

func TestNamespaceThatIsNotThere(t *testing.T) {
	s := newSite(t)
	clusterwide := clusterBinding(s.namespace, "falco")
	s.create(clusterwide)
	path := "/v1/namespaces/nowhere/falco"
	s.eventually("the right is granted", func() bool {
		r, err := s.send(http.MethodPost, path, s.token, strings.NewReader(falcoBody(t)))
		if err != nil {
			t.Fatal(err)
		}
		if r.status == http.StatusForbidden {
			return false
		}
		r.wantProblem(t, http.StatusNotFound, "no-such-namespace", "nowhere")
		return true
	})
}

func TestAPIServerAway(t *testing.T) {
	s := newSite(t)
	s.config = &rest.Config{Host: "https://127.0.0.1:1"}
	s.url, s.http = s.receiver(Options{Name: "r0"})
	r := s.post("falco", falcoBody(t)).wantProblem(t, http.StatusServiceUnavailable, "unavailable", "API server")
	if r.header.Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
}

func TestShedding(t *testing.T) {
	s := newSite(t)
	s.url, s.http = s.receiver(Options{Name: "r0", MaxInFlight: 1, MaxWaiting: 1})
	s.connect()
	const alerts = 30
	replies := make([]received, alerts)
	var senders sync.WaitGroup
	for i := range alerts {
		senders.Go(func() {
			var err error
			if replies[i], err = s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", s.token, strings.NewReader(falcoBody(t, "cart-7f9", fmt.Sprint("cart-", i)))); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	recorded, shed := 0, 0
	for _, r := range replies {
		switch {
		case r.status == http.StatusCreated:
			recorded++
		case r.status == http.StatusTooManyRequests && r.header.Get("Retry-After") == "1":
			shed++
		default:
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
	if got := len(s.events()); got != recorded || recorded == 0 || shed == 0 {
		t.Errorf("%d recorded, %d shed, %d events; want some of both, and as many events as recorded", recorded, shed, got)
	}
}

// TestBurst posts 500 alerts on 500 pods at once, but for the first: of somebody who was
// never seen before fewer may wait until it is known who that is.
func TestBurst(t *testing.T) {
	const alerts = 500
	s := newSite(t)
	r, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", s.token, strings.NewReader(falcoBody(t, "cart-7f9", "cart-0")))
	if err != nil || r.status != http.StatusCreated {
		t.Fatalf("the first alert: status %d, error %v: %s", r.status, err, r.body)
	}
	var senders sync.WaitGroup
	start := time.Now()
	for i := 1; i < alerts; i++ {
		senders.Go(func() {
			r, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", s.token, strings.NewReader(falcoBody(t, "cart-7f9", fmt.Sprint("cart-", i))))
			if err != nil || r.status != http.StatusCreated {
				t.Errorf("alert %d: status %d, error %v: %s", i, r.status, err, r.body)
			}
		})
	}
	senders.Wait()
	t.Logf("%d alerts in %s", alerts, time.Since(start))
	if got := len(s.events()); got != alerts {
		t.Errorf("there are %d events, want %d", got, alerts)
	}
}

func (s *site) eventually(what string, condition func() bool) {
	s.t.Helper()
	if err := wait.PollUntilContextTimeout(s.t.Context(), 100*time.Millisecond, patience, true,
		func(context.Context) (bool, error) { return condition(), nil }); err != nil {
		s.t.Fatalf("waiting until %s: %v", what, err)
	}
}
