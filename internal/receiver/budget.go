package receiver

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/semaphore"
)

// littleBudget is how many bytes of bodies are held, beside all others, of those who hold
// littleOfOne at most.
const littleBudget, littleOfOne = 1 << 20, 64 << 10

var errNoRoom = errors.New("there is no room")

// budget bounds the bytes of all bodies that are held at a time. One sender has three quarters
// of it at most, and waits for its own share before it waits beside others: who waits in front
// of the whole is always among few. Two senders can fill that together: so there is room apart,
// for one body of who holds nothing else, and for who holds little, which need not wait.
type budget struct {
	all, apart, little *semaphore.Weighted
	share              int64

	mutex   sync.Mutex
	senders map[string]*senderShare
}

type senderShare struct {
	*semaphore.Weighted
	users int
	// held is how many bytes it holds.
	held int64
}

// newBudget makes a budget that has room for at least two bodies of full size: an eighth of it, or
// one such body, is apart. The room for who holds little is beside it.
func newBudget(size, body int64) *budget {
	size = max(size, 2*body)
	apart := max(size/8, body)
	return &budget{
		all: semaphore.NewWeighted(size - apart), apart: semaphore.NewWeighted(apart), little: semaphore.NewWeighted(littleBudget),
		share: min(size/4*3, size-apart), senders: map[string]*senderShare{},
	}
}

// take gets the room for a body, for which it waits if it may. It can be given back in parts, and the
// last part with done.
func (b *budget) take(ctx context.Context, sender string, weight int64, wait bool) (release func(part int64, done bool), err error) {
	own := b.enter(sender)
	if !own.TryAcquire(weight) {
		if err = errNoRoom; wait {
			err = own.Acquire(ctx, weight)
		}
		if err != nil {
			b.leave(own, sender)
			return nil, err
		}
	}
	room := b.tryRooms(own, weight)
	if room == nil {
		if err = errNoRoom; wait {
			err = b.all.Acquire(ctx, weight)
		}
		if err != nil {
			own.Release(weight)
			b.leave(own, sender)
			return nil, err
		}
		room = b.all
		b.hold(own, weight)
	}
	return func(part int64, done bool) {
		room.Release(part)
		own.Release(part)
		b.hold(own, -part)
		if done {
			b.leave(own, sender)
		}
	}, nil
}

// tryRooms takes a body into the first room that has the place for it now; nil is none.
func (b *budget) tryRooms(own *senderShare, weight int64) *semaphore.Weighted {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	var room *semaphore.Weighted
	switch {
	case b.all.TryAcquire(weight):
		room = b.all
	case own.held+weight <= littleOfOne && b.little.TryAcquire(weight):
		room = b.little
	case own.held == 0 && b.apart.TryAcquire(weight):
		room = b.apart
	default:
		return nil
	}
	own.held += weight
	return room
}

func (b *budget) hold(own *senderShare, bytes int64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	own.held += bytes
}

func (b *budget) enter(sender string) *senderShare {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	own := b.senders[sender]
	if own == nil {
		own = &senderShare{Weighted: semaphore.NewWeighted(b.share)}
		b.senders[sender] = own
	}
	own.users++
	return own
}

func (b *budget) leave(own *senderShare, sender string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if own.users--; own.users == 0 {
		delete(b.senders, sender)
	}
}
