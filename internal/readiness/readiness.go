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
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// askTimeout is how long the question may take whether the API server is ready.
	askTimeout = 3 * time.Second
	// retryAfter is when to ask again, in seconds: client-go does so by itself, ten times.
	retryAfter = "1"
)

// Wrap makes "503 Service Unavailable" of a "403 Forbidden" of an API server that says itself
// that it is not ready, as rest.Config.Wrap wants it.
func Wrap(next http.RoundTripper) http.RoundTripper { return patient{next} }

type patient struct{ next http.RoundTripper }

// RoundTrip sends a request.
func (p patient) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := p.next.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusForbidden || !p.starting(request) {
		return response, err
	}
	_ = response.Body.Close()
	return notReady(request)
}

// starting says whether the API server says that it is not ready. Whoever may not ask, or gets no
// answer, takes it for ready.
func (p patient) starting(refused *http.Request) bool {
	ctx, cancel := context.WithTimeout(refused.Context(), askTimeout)
	defer cancel()
	question, err := http.NewRequestWithContext(ctx, http.MethodGet, refused.URL.Scheme+"://"+refused.URL.Host+"/readyz", nil)
	if err != nil {
		return false
	}
	question.Host = refused.Host
	// As itself, not as whom it acts as: everybody who is known may ask.
	for _, name := range []string{"Authorization", "User-Agent"} {
		question.Header[name] = refused.Header[name]
	}
	answer, err := p.next.RoundTrip(question)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode >= http.StatusInternalServerError
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
