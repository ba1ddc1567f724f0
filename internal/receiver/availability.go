package receiver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// availability is whether the API server answered the last call.
type availability struct{ away atomic.Bool }

// note takes down how a call ended.
func (a *availability) note(err error) {
	if errors.Is(err, errWaited) || errors.Is(err, errNoTurn) || errors.Is(err, context.Canceled) {
		return // it was not asked
	}
	a.away.Store(unreachable(err))
}

// unreachable says whether an error means that the API server is away or overwhelmed, and
// not that it answered.
func unreachable(err error) bool {
	if err == nil {
		return false
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		var network net.Error
		return errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) || !isProblem(err)
	}
	code := status.Status().Code
	return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests || apierrors.IsTimeout(err)
}

func isProblem(err error) bool {
	var problem *Problem
	return errors.As(err, &problem)
}
