package receiver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// inside is how many requests of strangers wait.
func (s *strangers) inside() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.anywhere.waiting + s.ofFriends.waiting
}

// from is the site as senders at another address of this machine see it, each request of whom has
// a connection of its own.
func (s *site) from(address string) *site {
	s.t.Helper()
	other := *s
	transport := s.http.Transport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext
	transport.DisableKeepAlives, transport.ForceAttemptHTTP2 = true, false
	transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
	s.t.Cleanup(transport.CloseIdleConnections)
	other.http = &http.Client{Transport: transport}
	return &other
}

// TestNewSendersBurst has a sender who was never seen before begin with 550 alerts at once, each by a
// connection of its own, while 1,000 requests by credentials of nobody wait too, and the API server
// takes its time. All of its alerts are taken, for one question to the API server, and a known
// sender waits for nobody.
func TestNewSendersBurst(t *testing.T) {
	const alerts, bogus = 550, 1000
	s := newSite(t)
	g := s.gated()
	passing := clocktesting.NewFakeClock(time.Now())
	handler := s.handler(Options{Name: "r0", SpoolFolder: t.TempDir(), Clock: passing, directPatience: defaultDirectPatience})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); handler.Run(ctx) }()
	handler.gate.timeout = time.Hour
	known := func() {
		t.Helper()
		if r := s.post("falco", falcoBody(t, "cart-7f9", "known")); r.status/100 != 2 {
			t.Errorf("the known sender: status %d, want 2xx: %s", r.status, r.body)
		}
	}
	known()
	_, token := s.newSender("newcomer")
	before := g.reviews.Load()
	release := g.holdReviews()
	defer release()

	nobodys, newcomer := s.from("127.0.0.2"), s.from("127.0.0.3")
	path := "/v1/namespaces/" + s.namespace + "/falco"
	var sending sync.WaitGroup
	var answered atomic.Int64
	for n := range bogus {
		sending.Go(func() {
			r, err := nobodys.send(http.MethodPost, path, fmt.Sprint("nonsense", n), strings.NewReader("{}"))
			if answered.Add(1); err != nil || r.status != http.StatusUnauthorized && r.status != http.StatusTooManyRequests {
				t.Errorf("nobody's request: status %d, error %v, want 401 or 429", r.status, err)
			}
		})
	}
	s.eventually("nobody's requests wait", func() bool { return handler.gate.strangers.inside() == bogus })
	for n := range alerts {
		sending.Go(func() {
			r, err := newcomer.send(http.MethodPost, path, token, strings.NewReader(falcoBody(t, "cart-7f9", fmt.Sprint("new-", n))))
			if answered.Add(1); err != nil || r.status/100 != 2 {
				t.Errorf("alert %d: status %d, error %v, want 2xx: %s", n, r.status, err, r.body)
			}
		})
	}
	s.eventually("the newcomer's requests wait", func() bool { return handler.gate.strangers.inside() == bogus+alerts })
	known()
	if got := answered.Load(); got > 0 {
		t.Errorf("%d were answered before anybody knew who they are", got)
	}
	release()
	sending.Wait()
	if got := g.reviews.Load() - before; got != strangerBurst+1 {
		t.Errorf("the API server was asked %d times, want %d times about nobody and once about the newcomer", got, strangerBurst)
	}
	s.eventually("the spool is drained", func() bool {
		passing.Step(countEvery) // counters rest by it
		return handler.spool.index.state().items == 0
	})
	seen := 0
	for _, event := range s.events() {
		if event.Spec.Source.Product == falcoProduct { // others tell of what nobody sent
			seen++
		}
	}
	if seen != alerts+1 {
		t.Errorf("there are %d events, want %d", seen, alerts+1)
	}
	stop()
	<-ended
	if err := handler.Close(); err != nil {
		t.Error(err)
	}
}

// TestStrangersShutNobodyOut has more strangers wait for an API server that takes its time than may.
func TestStrangersShutNobodyOut(t *testing.T) {
	const strangers = 40
	s := newSite(t)
	g := s.gated()
	handler := s.handler(Options{Name: "r0", MaxInFlight: 4, MaxWaiting: 12, Clock: clocktesting.NewFakeClock(time.Now())})
	handler.gate.timeout = time.Hour
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	release := g.holdReviews()
	defer release()
	answers := make(chan received, strangers)
	for range strangers {
		go func() {
			r, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", "nonsense", strings.NewReader("{}"))
			if err != nil {
				t.Error(err)
			}
			answers <- r
		}()
	}
	most := handler.gate.strangers.mostOfOne
	for range strangers - most {
		(<-answers).wantProblem(t, http.StatusTooManyRequests, slugStrangers)
	}
	if waiting, known := handler.gate.strangers.inside(), handler.arrivals.taken; waiting != most || known != 0 {
		t.Errorf("%d strangers wait, and take %d places of known senders; want %d and none", waiting, known, most)
	}
	s.post("falco", falcoBody(t)).want(t, http.StatusOK)
	release()
	for range most {
		(<-answers).wantProblem(t, http.StatusUnauthorized, "unauthenticated")
	}
}
