package receiver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

var (
	errNoTurn = errors.New("too many are waiting")
	errWaited = errors.New("it was not their turn in time")
)

// fair hands out a number of turns. Who waits for one is asked by key in rotation, and
// one key never has all turns: however many come under one key, another's first waits
// for nobody, or for the next turn only.
type fair struct {
	turns, perKey int
	// maxWaiting and maxPerKey bound who may wait, together and under one key; 0 means no bound.
	maxWaiting, maxPerKey int

	mutex    sync.Mutex
	taken    int
	takenBy  map[string]int
	waiting  int
	queues   map[string]*fairQueue
	rotation []*fairQueue // those with somebody waiting
}

type fairQueue struct {
	key     string
	waiters []*fairWaiter
}

type fairWaiter struct {
	called chan struct{}
}

func newFair(turns, perKey, maxWaiting, maxPerKey int) *fair {
	return &fair{
		turns: turns, perKey: max(1, perKey), maxWaiting: maxWaiting, maxPerKey: maxPerKey,
		takenBy: map[string]int{}, queues: map[string]*fairQueue{},
	}
}

// enter waits for a turn, at most that long when it is not 0. leave must follow when
// there is no error.
func (f *fair) enter(ctx context.Context, key string, atMost time.Duration) error {
	w, err := f.join(key)
	if w == nil {
		return err
	}
	var timeout <-chan time.Time
	if atMost > 0 {
		timer := time.NewTimer(atMost)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-w.called:
		return nil
	case <-timeout:
		err = errWaited
	case <-ctx.Done():
		err = ctx.Err()
	}
	if !f.giveUp(key, w) {
		f.leave(key) // called at the same moment
	}
	return err
}

// join takes a turn, and gives nil, or the place of who waits for one.
func (f *fair) join(key string) (*fairWaiter, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	queue := f.queues[key]
	if f.taken < f.turns && f.takenBy[key] < f.perKey && queue == nil {
		f.taken++
		f.takenBy[key]++
		return nil, nil
	}
	if f.maxWaiting > 0 && f.waiting >= f.maxWaiting || queue != nil && f.maxPerKey > 0 && len(queue.waiters) >= f.maxPerKey {
		return nil, errNoTurn
	}
	if queue == nil {
		queue = &fairQueue{key: key}
		f.queues[key] = queue
		f.rotation = append(f.rotation, queue)
	}
	w := &fairWaiter{called: make(chan struct{})}
	queue.waiters = append(queue.waiters, w)
	f.waiting++
	return w, nil
}

// giveUp takes a waiter away; false means that it has been called.
func (f *fair) giveUp(key string, w *fairWaiter) bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	queue := f.queues[key]
	if queue == nil {
		return false
	}
	at := slices.Index(queue.waiters, w)
	if at < 0 {
		return false
	}
	queue.waiters = slices.Delete(queue.waiters, at, at+1)
	f.waiting--
	if len(queue.waiters) == 0 {
		f.forget(queue)
	}
	return true
}

func (f *fair) forget(queue *fairQueue) {
	delete(f.queues, queue.key)
	f.rotation = slices.DeleteFunc(f.rotation, func(other *fairQueue) bool { return other == queue })
}

// leave gives a turn back, to who is next.
func (f *fair) leave(key string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.taken--
	if f.takenBy[key]--; f.takenBy[key] == 0 {
		delete(f.takenBy, key)
	}
	for f.taken < f.turns {
		next := slices.IndexFunc(f.rotation, func(queue *fairQueue) bool { return f.takenBy[queue.key] < f.perKey })
		if next < 0 {
			return
		}
		queue := f.rotation[next]
		f.rotation = append(slices.Delete(f.rotation, next, next+1), queue)
		w := queue.waiters[0]
		if queue.waiters = queue.waiters[1:]; len(queue.waiters) == 0 {
			f.forget(queue)
		}
		f.waiting--
		f.taken++
		f.takenBy[queue.key]++
		close(w.called)
	}
}
