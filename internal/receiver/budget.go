package receiver

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// budget bounds the bytes of all bodies that are held at a time. One sender has three quarters
// of it at most, and waits for its own share before it waits beside others: who waits in front
// of the whole is always among few.
type budget struct {
	all   *semaphore.Weighted
	share int64

	mutex   sync.Mutex
	senders map[string]*senderShare
}

type senderShare struct {
	*semaphore.Weighted
	users int
}

// newBudget makes a budget that has room for at least two bodies of full size.
func newBudget(size, body int64) *budget {
	size = max(size, 2*body)
	return &budget{all: semaphore.NewWeighted(size), share: max(size/4*3, body), senders: map[string]*senderShare{}}
}

// take waits for the room for a body. It can be given back in parts, and the last part with
// done.
func (b *budget) take(ctx context.Context, sender string, weight int64) (release func(part int64, done bool), err error) {
	own := b.enter(sender)
	if err := own.Acquire(ctx, weight); err != nil {
		b.leave(sender)
		return nil, err
	}
	if err := b.all.Acquire(ctx, weight); err != nil {
		own.Release(weight)
		b.leave(sender)
		return nil, err
	}
	return func(part int64, done bool) {
		b.all.Release(part)
		own.Release(part)
		if done {
			b.leave(sender)
		}
	}, nil
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

func (b *budget) leave(sender string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if own := b.senders[sender]; own != nil {
		if own.users--; own.users == 0 {
			delete(b.senders, sender)
		}
	}
}
