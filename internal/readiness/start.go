package readiness

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
)

const (
	// startAgain is how soon, or up to half as long again, the API server is asked once more.
	startAgain = time.Second
	// sayAgain is how often it is said that it is waited for.
	sayAgain = time.Minute
	// refusedFor is for how long a refusal may be that of an API server that has just started.
	refusedFor = time.Minute
)

// Start waits for the API server before a program begins. One that ended instead would be started
// again by a kubelet ever later, and be away for minutes when the API server is back.
type Start struct {
	// Clock tells the time.
	Clock clock.Clock
	// Log says what is waited for, once a minute.
	Log logr.Logger
}

// Wait asks until there is an answer. No answer, and one of a server that is not ready, it
// waits out for as long as ctx lasts; what is refused for a minute it gives back.
func (s Start) Wait(ctx context.Context, ask func(context.Context) error) error {
	var refused, said time.Time
	for {
		err := ask(ctx)
		now := s.Clock.Now()
		switch {
		case err == nil:
			if !said.IsZero() {
				s.Log.Info("the API server answers")
			}
			return nil
		case !isRefusal(err):
			refused = time.Time{}
		case refused.IsZero():
			refused = now
		case now.Sub(refused) >= refusedFor:
			return err
		}
		if said.IsZero() || now.Sub(said) >= sayAgain {
			s.Log.Error(err, "the API server is waited for")
			said = now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Clock.After(wait.Jitter(startAgain, 0.5)):
		}
	}
}

// isRefusal says that the API server has answered, and that it would not help to wait for long.
func isRefusal(err error) bool {
	if untrusted := (*tls.CertificateVerificationError)(nil); errors.As(err, &untrusted) {
		return true
	}
	answer := apierrors.APIStatus(nil)
	if !errors.As(err, &answer) {
		return false
	}
	code := answer.Status().Code
	return code >= http.StatusBadRequest && code < http.StatusInternalServerError && code != http.StatusTooManyRequests
}
