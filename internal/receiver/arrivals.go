package receiver

import (
	"context"
	"sync"
)

// arrivals has a place for each request of a known sender that is being served, or waits for its
// turn; one sender has three quarters of them at most. Strangers wait elsewhere until it is known
// who they are: none of them stands in front of a known sender.
type arrivals struct {
	most, mostOfOne int

	mutex   sync.Mutex
	taken   int
	takenBy map[string]int
}

func newArrivals(most int) *arrivals {
	return &arrivals{most: most, mostOfOne: max(1, most/4*3), takenBy: map[string]int{}}
}

// enter takes a place for a sender's request; leave must follow.
func (a *arrivals) enter(sender string) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.taken >= a.most || a.takenBy[sender] >= a.mostOfOne {
		return false
	}
	a.taken++
	a.takenBy[sender]++
	return true
}

// leave gives a place back.
func (a *arrivals) leave(sender string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.taken--
	if a.takenBy[sender]--; a.takenBy[sender] == 0 {
		delete(a.takenBy, sender)
	}
}

// arrive says whose request it is, and takes a place for it; leave must follow when there is no
// error. A known sender has its place before the API server is asked anew: while that takes long,
// its requests must not take the places of others.
func (h *Handler) arrive(ctx context.Context, shown *credential, namespace string) (sender string, err error) {
	before, known := h.gate.knows(shown, namespace)
	if known && !h.arrivals.enter(before) {
		return before, overloaded()
	}
	sender, err = h.gate.admit(ctx, shown, namespace, known)
	if known && (err != nil || sender != before) {
		h.arrivals.leave(before)
		known = false
	}
	if err == nil && !known && !h.arrivals.enter(sender) {
		err = overloaded()
	}
	return sender, err
}
