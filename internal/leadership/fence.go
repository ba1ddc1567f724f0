// Package leadership keeps a manager that does not lead from writing.
//
// Leader election alone does not: a leader that was stopped for a while (its node slept,
// its container was frozen) believes that it leads until its next try to renew the Lease
// has failed, while another already does.
package leadership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// ErrNotLeading says that a write was not sent, because another manager may lead.
var ErrNotLeading = errors.New("not written: this manager may not lead any more")

// Fence lets writes through only while the Lease is known to be held. It learns that from
// the Lease's own writes, which pass through it too.
type Fence struct {
	// Lease is the name of the Lease.
	Lease string
	// Within is how long after it was last taken or renewed the Lease counts as held. Less
	// than the Lease's duration, so that a write on its way is over before another leads.
	Within time.Duration
	// Clock tells the time.
	Clock clock.PassiveClock

	mu   sync.Mutex
	held time.Time
}

// Wrap puts the fence before a transport, as rest.Config.Wrap wants it.
func (f *Fence) Wrap(next http.RoundTripper) http.RoundTripper {
	return fenced{fence: f, next: next}
}

type fenced struct {
	fence *Fence
	next  http.RoundTripper
}

// RoundTrip sends a request, when it may be sent.
func (t fenced) RoundTrip(request *http.Request) (*http.Response, error) {
	switch {
	case t.fence.isLease(request):
		begun := t.fence.Clock.Now()
		response, err := t.next.RoundTrip(request)
		if err == nil && response.StatusCode/100 == 2 {
			t.fence.hold(begun)
		}
		return response, err
	case !changes(request):
		return t.next.RoundTrip(request)
	}
	left := t.fence.left()
	if left <= 0 {
		if request.Body != nil {
			_ = request.Body.Close() // a RoundTripper must, whatever comes of it
		}
		return nil, fmt.Errorf("%s %s: %w", request.Method, request.URL.Path, ErrNotLeading)
	}
	// One that waits for a connection must not be sent when it is too late.
	ctx, cancel := context.WithTimeout(request.Context(), left)
	response, err := t.next.RoundTrip(request.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	response.Body = &endingBody{ReadCloser: response.Body, end: cancel}
	return response, nil
}

// isLease says whether a request takes or renews the Lease.
func (f *Fence) isLease(request *http.Request) bool {
	const leases = "/apis/coordination.k8s.io/"
	if !strings.HasPrefix(request.URL.Path, leases) {
		return false
	}
	return request.Method == http.MethodPost && strings.HasSuffix(request.URL.Path, "/leases") ||
		request.Method == http.MethodPut && strings.HasSuffix(request.URL.Path, "/leases/"+f.Lease)
}

// changes says whether a request changes something. What is only tried, or only asks, does not.
func changes(request *http.Request) bool {
	switch request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return request.URL.Query().Get("dryRun") == "" && !strings.HasSuffix(request.URL.Path, "reviews")
}

func (f *Fence) hold(since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if since.After(f.held) {
		f.held = since
	}
}

// left is for how long the Lease is known to be held.
func (f *Fence) left() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held.IsZero() {
		return 0
	}
	now := f.Clock.Now()
	// The monotonic clock stands still while a machine sleeps, the wall clock may be set back.
	passed := max(now.Sub(f.held), now.Round(0).Sub(f.held.Round(0)))
	return f.Within - passed
}

// endingBody ends a request's context when its answer was read.
type endingBody struct {
	io.ReadCloser
	end context.CancelFunc
}

// Close closes the body.
func (b *endingBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}
