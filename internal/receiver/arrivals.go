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

// enter takes a place; leave must follow.
func (a *arrivals) enter() bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.taken >= a.most {
		return false
	}
	a.taken++
	return true
}

// claim says whose place it is, unless that sender has too many.
func (a *arrivals) claim(sender string) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.takenBy[sender] >= a.mostOfOne {
		return false
	}
	a.takenBy[sender]++
	return true
}

// leave gives a place back. The sender is empty when nobody has claimed it.
func (a *arrivals) leave(sender string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.taken--
	if sender == "" {
		return
	}
	if a.takenBy[sender]--; a.takenBy[sender] == 0 {
		delete(a.takenBy, sender)
	}
}

// arrive says whose request it is, and takes a place for it; leave must follow when there is no
// error.
func (h *Handler) arrive(ctx context.Context, shown *credential, namespace string) (sender string, err error) {
	known := h.gate.knows(shown, namespace)
	if known && !h.arrivals.enter() {
		return "", overloaded()
	}
	sender, err = h.gate.admit(ctx, shown, namespace, known)
	switch {
	case err != nil && !known:
		return sender, err
	case err == nil && !known && !h.arrivals.enter():
		return sender, overloaded()
	case err == nil && h.arrivals.claim(sender):
		return sender, nil
	case err == nil:
		err = overloaded()
	}
	h.arrivals.leave("")
	return sender, err
}
