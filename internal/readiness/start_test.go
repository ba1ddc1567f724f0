package readiness

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
)

// TestStartWaits: no answer is waited out, a refusal for a minute, and either is said once a minute.
func TestStartWaits(t *testing.T) {
	away := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	starting := apierrors.NewServiceUnavailable("starting")
	missing := apierrors.NewNotFound(schema.GroupResource{}, "firebreak.dev/v1alpha1")
	unknown := apierrors.NewUnauthorized("who is it?")
	untrusted := &tls.CertificateVerificationError{Err: errors.New("signed by unknown authority")}
	for name, test := range map[string]struct {
		// answers come one after the other, each for so long.
		answers []error
		each    time.Duration
		want    error
		within  time.Duration
	}{
		"at once":                       {[]error{nil}, time.Second, nil, 0},
		"away for long":                 {[]error{away}, 20 * time.Minute, nil, 20*time.Minute + 2*time.Second},
		"away, then starting":           {[]error{away, starting, unknown}, 40 * time.Second, nil, 2*time.Minute + 2*time.Second},
		"too many ask":                  {[]error{apierrors.NewTooManyRequests("wait", 1)}, 5 * time.Minute, nil, 5*time.Minute + 2*time.Second},
		"the kinds are installed later": {[]error{missing}, 30 * time.Second, nil, 32 * time.Second},
		"the kinds are not there":       {[]error{missing}, time.Hour, missing, time.Minute + 2*time.Second},
		"a token nobody knows":          {[]error{unknown}, time.Hour, unknown, time.Minute + 2*time.Second},
		"another's certificate":         {[]error{untrusted}, time.Hour, untrusted, time.Minute + 2*time.Second},
		"refused, away, and refused":    {[]error{missing, away, missing}, 50 * time.Second, nil, 152 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
			passing := clocktesting.NewFakeClock(begun)
			said := 0
			log := funcr.New(func(string, string) { said++ }, funcr.Options{})
			ask := func(context.Context) error {
				if n := int(passing.Since(begun) / test.each); n < len(test.answers) {
					return test.answers[n]
				}
				return nil
			}
			err := Start{Clock: stepping{passing}, Log: log}.Wait(t.Context(), ask)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			waited := passing.Since(begun)
			if waited > test.within {
				t.Errorf("it took %s, want at most %s", waited, test.within)
			}
			if most := int(waited/sayAgain) + 2; waited > 0 && (said == 0 || said > most) || waited == 0 && said > 0 {
				t.Errorf("said %d times in %s", said, waited)
			}
		})
	}
}

// TestStartEnds: who waits can be told to end.
func TestStartEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	err := Start{Clock: stepping{clocktesting.NewFakeClock(time.Now())}, Log: funcr.New(func(string, string) {}, funcr.Options{})}.Wait(ctx, func(context.Context) error {
		if asked++; asked == 3 {
			cancel()
		}
		return errors.New("no answer")
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after %d questions, want that it was canceled", err, asked)
	}
}
