package receiver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// gate stands between a receiver and the API server, and can be shut.
type gate struct {
	shut atomic.Bool
	// reviews counts the TokenReviews that went through.
	reviews, writes atomic.Int64
	// hold keeps TokenReviews until it is closed; nil does not.
	hold atomic.Pointer[chan struct{}]
}

// holdReviews keeps TokenReviews until they are released.
func (g *gate) holdReviews() (release func()) {
	hold := make(chan struct{})
	g.hold.Store(&hold)
	return sync.OnceFunc(func() {
		g.hold.Store(nil)
		close(hold)
	})
}

// gated gives the site a gate.
func (s *site) gated() *gate {
	s.t.Helper()
	transport, err := rest.TransportFor(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	target, err := url.Parse("https://" + strings.TrimPrefix(s.config.Host, "https://"))
	if err != nil {
		s.t.Fatal(err)
	}
	g := &gate{}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.shut.Load() {
			panic(http.ErrAbortHandler)
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/tokenreviews"):
			g.reviews.Add(1)
			if hold := g.hold.Load(); hold != nil {
				<-*hold
			}
		case strings.Contains(r.URL.Path, "/securityevents") && r.Method != http.MethodGet:
			g.writes.Add(1)
		}
		pass.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = nil
	s.t.Cleanup(server.Close)
	s.config = &rest.Config{Host: server.URL}
	return g
}

// TestOutage takes the API server away from a receiver with a spool.
func TestOutage(t *testing.T) {
	s := newSite(t)
	g := s.gated()
	passing := clocktesting.NewFakeClock(time.Now())
	folder := t.TempDir()
	options := Options{Name: "r0", SpoolFolder: folder, StaleAuth: time.Hour, Clock: passing}
	handler := s.handler(options)
	other := s.tokenOf(s.falcoAccount(), "firebreak-receiver")
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)

	g.shut.Store(true)
	passing.Step(allowedFor) // what is remembered has ended, what is in the spool has not
	r := s.post("falco", falcoBody(t, "cart-7f9", "cart-away")).want(t, http.StatusAccepted)
	if r.Name != "" || r.Detail == "" {
		t.Errorf("answer %s, want one that says where the alert is", r.body)
	}
	for n := range 5 {
		s.post("falco", falcoBody(t, "uptime", fmt.Sprint(n))).want(t, http.StatusAccepted)
	}
	// Another token of the same user was never allowed.
	known := s.token
	s.token = other
	s.post("falco", falcoBody(t)).wantProblem(t, http.StatusServiceUnavailable, "unavailable", "whether the sender may report")
	s.token = known
	s.wantMetrics(handler, "spool_items 6", "api_server_away 1", `alerts_total{format="falco",outcome="spooled"} 6`, `alerts_total{format="falco",outcome="created"} 1`)

	// It is killed, and starts again while the API server is away.
	if err := handler.Close(); err != nil {
		t.Fatal(err)
	}
	handler = s.handler(options)
	s.post("falco", falcoBody(t)).want(t, http.StatusAccepted)
	s.wantMetrics(handler, "spool_items 7")
	passing.Step(time.Hour)
	s.post("falco", falcoBody(t)).wantProblem(t, http.StatusServiceUnavailable, "unavailable", "whether the sender may report")

	g.shut.Store(false)
	ctx, stop := context.WithCancel(t.Context())
	drained := make(chan struct{})
	go func() { defer close(drained); handler.Run(ctx) }()
	s.eventually("the spool is drained", func() bool {
		passing.Step(countEvery) // counters rest by it
		return handler.spool.index.state().items == 0
	})
	s.wantMetrics(handler, "spool_items 0", "spool_bytes 0", "spool_drained_total 7", "spool_oldest_seconds 0", "api_server_away 0")
	if seen := s.seen(); seen["cart-7f9"] != 7 || seen["cart-away"] != 1 || len(seen) != 2 {
		t.Errorf("occurrences %v, want 7 of cart-7f9 and one of cart-away", seen)
	}
	stop()
	<-drained
	if err := handler.Close(); err != nil {
		t.Fatal(err)
	}
}

// seen is how often each pod was seen. What tells that an alert was not taken is about none.
func (s *site) seen() map[string]int64 {
	s.t.Helper()
	seen := map[string]int64{}
	for _, event := range s.events() {
		if event.Spec.Source.Rule == ruleShed {
			continue
		}
		pod := event.Spec.Resources[0].Name
		seen[pod]++
		for _, counter := range event.Status.Counters {
			seen[pod] += counter.Count
		}
	}
	return seen
}

// TestSlowReviewDelaysNobodyKnown: an API server that takes its time to say whether a sender may
// report is not waited for where it has said so before, and heeded when it says no.
func TestSlowReviewDelaysNobodyKnown(t *testing.T) {
	s := newSite(t)
	g := s.gated()
	passing := clocktesting.NewFakeClock(time.Now())
	handler := s.handler(Options{Name: "r0", SpoolFolder: t.TempDir(), StaleAuth: time.Hour, Clock: passing})
	handler.gate.timeout = time.Hour
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	passing.Step(allowedFor + time.Second)
	release, before := g.holdReviews(), g.reviews.Load()
	defer release()
	s.post("falco", falcoBody(t, "cart-7f9", "cart-slow")).want(t, http.StatusCreated)
	if asked := g.reviews.Load() - before; asked != 1 {
		t.Errorf("the API server was asked %d times, want once", asked)
	}
	if err := s.admin.DeleteAllOf(t.Context(), &rbacv1.RoleBinding{}, client.InNamespace(s.namespace)); err != nil {
		t.Fatal(err)
	}
	release()
	s.eventually("the sender is refused", func() bool {
		passing.Step(allowedFor + time.Second)
		return s.post("falco", falcoBody(t)).status == http.StatusForbidden
	})
	s.post("falco", falcoBody(t)).wantProblem(t, http.StatusForbidden, "forbidden")
	if err := handler.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestStaleAuthEndsWithTheToken: a token that has ended by its own claim is not let in.
func TestStaleAuthEndsWithTheToken(t *testing.T) {
	s := newSite(t)
	g := s.gated()
	passing := clocktesting.NewFakeClock(time.Now())
	handler := s.handler(Options{Name: "r0", SpoolFolder: t.TempDir(), StaleAuth: 100 * time.Hour, Clock: passing})
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	g.shut.Store(true)
	passing.Step(30 * time.Minute)
	s.post("falco", falcoBody(t)).want(t, http.StatusAccepted)
	passing.Step(time.Hour) // a token made without a time lasts one hour
	s.post("falco", falcoBody(t)).wantProblem(t, http.StatusServiceUnavailable, "unavailable")
	if err := handler.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFullSpoolIsTold has a receiver whose spool is full, and a probe of it.
func TestFullSpoolIsTold(t *testing.T) {
	s := newSite(t)
	g := s.gated()
	handler := s.handler(Options{Name: "r0", SpoolFolder: t.TempDir(), SpoolMaxBytes: minSpoolBytes, StaleAuth: time.Hour})
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	g.shut.Store(true)
	options := ServerOptions{}
	ready := func() int {
		answer := httptest.NewRecorder()
		options.health(nil, handler, &probe{client: http.DefaultClient, url: "http://127.0.0.1:1"}).
			ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return answer.Code
	}
	if got := ready(); got != http.StatusOK {
		t.Errorf("readyz answers %d while there is room, want 200", got)
	}
	handler.spool.index.limit = 4000
	var last received
	for n := 0; n < 100; n++ {
		if last = s.post("falco", falcoBody(t, "cart-7f9", fmt.Sprint("cart-", n))); last.status != http.StatusAccepted {
			break
		}
	}
	last.wantProblem(t, http.StatusServiceUnavailable, "spool-full", "three quarters")
	if last.header.Get("Retry-After") != "15" {
		t.Errorf("Retry-After is %q, want 15", last.header.Get("Retry-After"))
	}
	handler.spool.index.limit = 3000
	s.post("falco", falcoBody(t, "cart-7f9", "another")).wantProblem(t, http.StatusServiceUnavailable, "spool-full", "--spool-max-bytes")
	if got := ready(); got != http.StatusServiceUnavailable {
		t.Errorf("readyz answers %d while there is none, want 503", got)
	}
	if err := handler.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestStrangersCostLittle sends tokens of nobody, all at once.
func TestStrangersCostLittle(t *testing.T) {
	const strangers = 100
	s := newSite(t)
	g := s.gated()
	handler := s.handler(Options{Name: "r0", Clock: clocktesting.NewFakeClock(time.Now())})
	handler.gate.timeout = time.Hour
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	before := g.reviews.Load()
	release := g.holdReviews()
	defer release()
	answers := make(chan received, strangers)
	for n := range strangers {
		go func() {
			r, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", fmt.Sprint("nonsense", n), strings.NewReader("{}"))
			if err != nil {
				t.Error(err)
			}
			answers <- r
		}()
	}
	s.eventually("all wait until it is known of the first that they are nobody", func() bool { return handler.gate.strangers.inside() == strangers })
	release()
	codes := map[int]int{}
	for range strangers {
		r := <-answers
		if codes[r.status]++; r.status == http.StatusTooManyRequests && r.header.Get("Retry-After") == "" {
			t.Error("there is no Retry-After")
		}
	}
	if reviews := g.reviews.Load() - before; reviews != strangerBurst || codes[401] != strangerBurst || codes[429] != strangers-strangerBurst {
		t.Errorf("answers %v with %d reviews, want %d reviews and 429 for the rest", codes, reviews, strangerBurst)
	}
	s.post("falco", falcoBody(t)).want(t, http.StatusOK)
}

// TestSenderRate sends faster than a sender may.
func TestSenderRate(t *testing.T) {
	s := newSite(t)
	handler := s.handler(Options{Name: "r0", SenderRate: 0.5, SenderBurst: 3, Clock: clocktesting.NewFakeClock(time.Now())})
	list := `[{"title":"a","severity":"Low"},{"title":"b","severity":"Low"}]`
	s.post("events", list).want(t, http.StatusCreated)
	r := s.post("events", list).wantProblem(t, http.StatusTooManyRequests, "too-fast", "0.5 alerts a second")
	if r.header.Get("Retry-After") != "2" {
		t.Errorf("Retry-After is %q, want 2", r.header.Get("Retry-After"))
	}
	s.post("alertmanager", "{}").wantProblem(t, http.StatusServiceUnavailable, "too-fast") // it retries no 429
	s.wantMetrics(handler, `alerts_total{format="events",outcome="shed"} 2`, `alerts_total{format="alertmanager",outcome="shed"} 1`)
}

// handler starts a receiver with these options, and gives what serves it.
func (s *site) handler(o Options) *Handler {
	s.t.Helper()
	s.url, s.http = s.receiver(o)
	return s.last
}

func (s *site) wantMetrics(h *Handler, lines ...string) {
	s.t.Helper()
	answer := httptest.NewRecorder()
	metricsMux(h).ServeHTTP(answer, httptest.NewRequestWithContext(s.t.Context(), http.MethodGet, "/metrics", nil))
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, line := range lines {
		if !strings.Contains(string(text), metricsPrefix+line+"\n") {
			s.t.Errorf("the metrics do not say %s:\n%s", line, text)
		}
	}
}

// TestAwayWithoutTraffic: the metric tells whether the API server is there also while nobody reports anything.
func TestAwayWithoutTraffic(t *testing.T) {
	s := newSite(t)
	var ready atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	for name, folder := range map[string]string{"with a spool": t.TempDir(), "without one": ""} {
		h := s.handler(Options{Name: "r0", SpoolFolder: folder})
		h.probe = &probe{client: server.Client(), url: server.URL}
		for _, step := range []struct {
			ready, away bool
			says        string
		}{{true, false, "0"}, {false, false, "1"}, {true, false, "0"}, {true, true, map[bool]string{true: "1", false: "0"}[folder != ""]}} {
			t.Logf("%s: ready %t, away %t", name, step.ready, step.away)
			ready.Store(step.ready)
			h.availability.away.Store(step.away)
			h.probe.asked.Store(nil) // a second has passed
			s.wantMetrics(h, "api_server_away "+step.says)
		}
	}
}
