// Package readiness tells an API server that refuses something from one that does not know
// yet who may do what.
//
// An API server that has just started takes requests before it has read all roles and
// bindings, and refuses what they allow. Taken at its word, a step of a playbook would fail
// for good, and a person would be asked to grant what is granted.
package readiness

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
)

const (
	// askTimeout is how long the question may take whether the API server is ready.
	askTimeout = 3 * time.Second
	// startTimeout is for how long an API server that is not ready is taken for one that has just
	// started, and after how long without a refusal it may have started once more.
	startTimeout = 2 * time.Minute
	noAnswer     = 0
	// retryAfter is when to ask again, in seconds: client-go does so by itself, ten times.
	retryAfter = "1"
)

// Patience makes "503 Service Unavailable" of a "403 Forbidden" of an API server that is not ready.
type Patience struct {
	// Clock tells the time.
	Clock clock.PassiveClock

	mu sync.Mutex
	// since is when it was first not ready, and last when that was last seen.
	since, last time.Time
}

// Wrap puts the patience before a transport, as rest.Config.Wrap wants it.
func (p *Patience) Wrap(next http.RoundTripper) http.RoundTripper { return patient{p, next} }

type patient struct {
	*Patience
	next http.RoundTripper
}

// RoundTrip sends a request.
func (p patient) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := p.next.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusForbidden || !p.starting(request) {
		return response, err
	}
	_ = response.Body.Close()
	return notReady(request)
}

// starting says whether the API server is not ready. Everybody who is known may ask that: so one that
// refuses even this has not read the roles either, and one that does not answer may not have. But not
// for longer than a start takes: then a refusal is one.
func (p patient) starting(refused *http.Request) bool {
	code := p.ask(refused)
	p.mu.Lock()
	defer p.mu.Unlock()
	if code != noAnswer && code != http.StatusForbidden && code < http.StatusInternalServerError {
		p.since, p.last = time.Time{}, time.Time{}
		return false
	}
	now := p.Clock.Now()
	if p.since.IsZero() || now.Sub(p.last) > startTimeout {
		p.since = now // another start: nobody asks when all is well again
	}
	p.last = now
	return now.Sub(p.since) < startTimeout
}

// ask gives the API server's answer to whether it is ready.
func (p patient) ask(refused *http.Request) int {
	ctx, cancel := context.WithTimeout(refused.Context(), askTimeout)
	defer cancel()
	//nolint:gosec // it goes to the server that has just answered
	question, err := http.NewRequestWithContext(ctx, http.MethodGet, refused.URL.Scheme+"://"+refused.URL.Host+"/readyz", nil)
	if err != nil {
		return noAnswer
	}
	question.Host = refused.Host
	// As itself, not as whom it acts as.
	for _, name := range []string{"Authorization", "User-Agent"} {
		question.Header[name] = refused.Header[name]
	}
	answer, err := p.next.RoundTrip(question)
	if err != nil {
		return noAnswer
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// notReady is the answer that the API server would have given, had it known.
func notReady(request *http.Request) (*http.Response, error) {
	content, err := json.Marshal(&metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable,
		Message: "the API server is starting, and does not know yet who may do what",
	})
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status: "503 Service Unavailable", StatusCode: http.StatusServiceUnavailable,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  http.Header{"Content-Type": {"application/json"}, "Retry-After": {retryAfter}},
		Body:    io.NopCloser(bytes.NewReader(content)),
		Request: request, ContentLength: int64(len(content)),
	}, nil
}
