package receiver

import (
	"context"
	"sync/atomic"
	"time"
)

// turns bounds how many requests are worked on and how many wait for that.
type turns struct {
	taken      chan struct{}
	waiting    atomic.Int64
	maxWaiting int64
}

func newTurns(inFlight, waiting int) *turns {
	return &turns{taken: make(chan struct{}, inFlight), maxWaiting: int64(waiting)}
}

// enter waits for a turn, which leave gives back; false means that there is none to be had.
func (t *turns) enter(ctx context.Context) (leave func(), ok bool) {
	leave = func() { <-t.taken }
	select {
	case t.taken <- struct{}{}:
		return leave, true
	default:
	}
	if t.waiting.Add(1) > t.maxWaiting {
		t.waiting.Add(-1)
		return nil, false
	}
	defer t.waiting.Add(-1)
	timeout := time.NewTimer(turnTimeout)
	defer timeout.Stop()
	select {
	case t.taken <- struct{}{}:
		return leave, true
	case <-timeout.C:
	case <-ctx.Done():
	}
	return nil, false
}
