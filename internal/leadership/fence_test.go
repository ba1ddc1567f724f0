package leadership

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

const (
	leases = "/apis/coordination.k8s.io/v1/namespaces/firebreak-system/leases"
	lease  = leases + "/manager.firebreak.dev"
	pod    = "/api/v1/namespaces/shop/pods/cart"
)

// server answers every request alike, and takes a time for it.
type server struct {
	clock  *clocktesting.FakeClock
	takes  time.Duration
	code   int
	served int
}

func (s *server) RoundTrip(*http.Request) (*http.Response, error) {
	s.clock.Step(s.takes)
	s.served++
	return &http.Response{StatusCode: s.code, Body: http.NoBody}, nil
}

func send(t *testing.T, through http.RoundTripper, method, url string) error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "https://example.com"+url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := through.RoundTrip(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func TestFence(t *testing.T) {
	type step struct {
		after       time.Duration
		method, url string
		code        int
		takes       time.Duration
		refused     bool
	}
	renew := func(after time.Duration) step { return step{after: after, method: http.MethodPut, url: lease} }
	for name, steps := range map[string][]step{
		"before the first election": {
			{method: http.MethodPatch, url: pod, refused: true},
			{method: http.MethodGet, url: pod},
			{method: http.MethodPost, url: "/apis/authorization.k8s.io/v1/subjectaccessreviews"},
			{method: http.MethodPost, url: "/apis/firebreak.dev/v1alpha1/namespaces/a/decisions?dryRun=All"},
		},
		"the leader writes": {
			{method: http.MethodPost, url: leases, code: http.StatusCreated},
			{method: http.MethodPatch, url: pod}, {after: 9 * time.Second, method: http.MethodDelete, url: pod},
			renew(0), {after: 9 * time.Second, method: http.MethodPut, url: pod},
		},
		"a leader that was stopped does not": {
			renew(0), {after: 11 * time.Second, method: http.MethodPatch, url: pod, refused: true},
			{method: http.MethodDelete, url: pod, refused: true}, {method: http.MethodPost, url: pod, refused: true},
			{method: http.MethodGet, url: pod},
		},
		"and does again when it has renewed": {
			renew(0), {after: 11 * time.Second, method: http.MethodPatch, url: pod, refused: true}, renew(0), {method: http.MethodPatch, url: pod},
		},
		"not when another has taken the Lease": {
			renew(0), {after: 11 * time.Second, method: http.MethodPut, url: lease, code: http.StatusConflict}, {method: http.MethodPatch, url: pod, refused: true},
		},
		"not because of another Lease": {
			{method: http.MethodPut, url: leases + "/another", refused: true}, {method: http.MethodPatch, url: pod, refused: true},
		},
		"the time counts from when the renewal was asked for": {
			{method: http.MethodPut, url: lease, takes: 11 * time.Second}, {method: http.MethodPatch, url: pod, refused: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := clocktesting.NewFakeClock(time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC))
			behind := &server{clock: now}
			through := (&Fence{Lease: "manager.firebreak.dev", Within: 10 * time.Second, Clock: now}).Wrap(behind)
			for i, step := range steps {
				now.Step(step.after)
				behind.takes, behind.served = step.takes, 0
				if behind.code = step.code; step.code == 0 {
					behind.code = http.StatusOK
				}
				err := send(t, through, step.method, step.url)
				if refused := errors.Is(err, ErrNotLeading); refused != step.refused || (err != nil && !refused) {
					t.Errorf("step %d, %s %s: got the error %v, want refused %t", i+1, step.method, step.url, err, step.refused)
				}
				if sent := behind.served == 1; sent == step.refused {
					t.Errorf("step %d, %s %s: sent is %t", i+1, step.method, step.url, sent)
				}
			}
		})
	}
}
