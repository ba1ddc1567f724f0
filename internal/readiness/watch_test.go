package readiness

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// unreachable refuses connections so often, and counts the requests.
type unreachable struct {
	times, asked int
	with         error
}

func (r *unreachable) RoundTrip(request *http.Request) (*http.Response, error) {
	if r.asked++; r.asked <= r.times {
		return nil, r.with
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("")), Request: request}, nil
}

// TestWatchesAreOpenedAgain: a watch alone is asked for until there is a connection, whatever
// comes of it then.
func TestWatchesAreOpenedAgain(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	read := &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
	for name, test := range map[string]struct {
		method, query string
		with          error
		asked         int
		fails         bool
		said          int
	}{
		"a watch":                    {http.MethodGet, "watch=true", dial, 40, false, 2},
		"a watch that is cut":        {http.MethodGet, "watch=true", read, 1, true, 0},
		"a list":                     {http.MethodGet, "limit=500", dial, 1, true, 0},
		"an object":                  {http.MethodGet, "", dial, 1, true, 0},
		"something that is created":  {http.MethodPost, "", dial, 1, true, 0},
		"a watch that is there":      {http.MethodGet, "watch=true", nil, 1, false, 0},
		"an object while it is away": {http.MethodGet, "watch=false", dial, 1, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			next := &unreachable{with: test.with}
			if test.with != nil {
				next.times = 39
			}
			now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
			passing := clocktesting.NewFakeClock(now)
			said := 0
			log := funcr.New(func(string, string) { said++ }, funcr.Options{})
			request := httptest.NewRequest(test.method, "https://api/apis/firebreak.dev/v1alpha1/incidents?"+test.query, nil)
			response, err := (&Watches{Clock: stepping{passing}, Log: log}).Wrap(next).RoundTrip(request)
			if err == nil {
				_ = response.Body.Close()
			}
			if (err != nil) != test.fails || next.asked != test.asked || said != test.said {
				t.Errorf("error %v after %d requests and %d lines of the log", err, next.asked, said)
			}
			if passed := passing.Since(now); passed > 39*3*time.Second/2 {
				t.Errorf("it took %s", passed)
			}
		})
	}
}

// stepping is a clock that is there as soon as somebody waits for it.
type stepping struct{ *clocktesting.FakeClock }

func (s stepping) After(d time.Duration) <-chan time.Time {
	after := s.FakeClock.After(d)
	s.Step(d)
	return after
}

// TestNobodyWatchesAnyMore: who stops is not kept waiting.
func TestNobodyWatchesAnyMore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gone := httptest.NewServer(http.NotFoundHandler())
	address := gone.URL
	gone.Close()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/api/v1/pods?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&Watches{Clock: clock.RealClock{}, Log: logr.Discard()}).Wrap(http.DefaultTransport).RoundTrip(request)
	if err == nil {
		_ = response.Body.Close()
		t.Error("somebody answers")
	}
}
