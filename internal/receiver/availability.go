package receiver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
)

// mostLate is how many calls of a kind in a row the API server does not answer in time, or fails
// at, before it counts as away. A call now and then that does is no reason to let all alerts wait
// on the disk.
const mostLate = 8

// callKind is what is asked of the API server. It may answer one kind and not another.
type callKind int

const (
	// reading are reviews and reads, which it answers also when it can write nothing.
	reading callKind = iota
	writing
	callKinds
)

// availability is whether the API server answers.
type availability struct {
	away atomic.Bool
	// toWrites says that it was away when it was last asked to write something: that it answers
	// something else says nothing about that.
	toWrites atomic.Bool
	// late counts the calls in a row, of each kind, that it has not answered in time or failed at.
	late [callKinds]atomic.Int64
	// back is told when it answers again; nil is nobody.
	back chan struct{}
}

// note takes down how a call ended.
func (a *availability) note(kind callKind, err error) {
	switch {
	case errors.Is(err, errWaited), errors.Is(err, errNoTurn), errors.Is(err, context.Canceled): // it was not asked
	case unreachable(err):
		if doubtful(err) && a.late[kind].Add(1) < mostLate {
			return
		}
		if kind == writing {
			a.toWrites.Store(true)
		}
		a.away.Store(true)
	case kind == writing:
		a.toWrites.Store(false)
		a.late[reading].Store(0)
		a.answered(kind)
	default:
		a.answered(kind)
	}
}

func (a *availability) answered(kind callKind) {
	a.late[kind].Store(0)
	if !a.toWrites.Load() && a.away.Swap(false) {
		select {
		case a.back <- struct{}{}:
		default:
		}
	}
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

// doubtful says whether an error, for which the API server is unreachable, may be due to the one
// call: it took too long, or something in its way is broken, such as the webhook of a namespace.
func doubtful(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		code := status.Status().Code
		return code == http.StatusInternalServerError || code == http.StatusGatewayTimeout
	}
	return errors.Is(err, context.DeadlineExceeded)
}

const (
	// refusedOfLate is how old a refusal may be to say something about now, and writtenOfLate
	// how old a write that the API server took.
	refusedOfLate, writtenOfLate = 30 * time.Second, time.Minute
)

// writes is when the API server last took an event or a count, and when it last refused one for
// a lasting reason. One namespace's quota is not everybody's: as long as others' are taken, all
// is well.
type writes struct {
	clock          clock.PassiveClock
	taken, refused atomic.Int64
}

func (w *writes) note(err error) {
	switch {
	case err == nil:
		w.taken.Store(w.clock.Now().UnixNano())
	case lasting(err) && !refusesObject(err):
		w.refused.Store(w.clock.Now().UnixNano())
	}
}

// refusesAll says whether the API server has taken nothing of late, and refused something.
func (w *writes) refusesAll() bool {
	taken, refused := time.Unix(0, w.taken.Load()), time.Unix(0, w.refused.Load())
	return refused.After(taken) && w.clock.Since(refused) < refusedOfLate && w.clock.Since(taken) >= writtenOfLate
}

// lasting says whether an error is an answer of the API server that it does not take something
// for a reason that only somebody can take away: a right, a quota, an admission policy.
func lasting(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && !unreachable(err) && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err)
}

func isProblem(err error) bool {
	var problem *Problem
	return errors.As(err, &problem)
}
