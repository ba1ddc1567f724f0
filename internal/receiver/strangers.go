package receiver

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"
)

const (
	// strangerRate and strangerBurst bound the credentials of nobody from one address, each of
	// which costs the API server a review; allStrangersRate and allStrangersBurst those of all.
	strangerRate, strangerBurst         = 1, 10
	allStrangersRate, allStrangersBurst = 50, 200

	maxAddresses   = 4096
	addressMemory  = 10 * time.Minute
	retryStrangers = time.Second
)

// strangers bounds what credentials cost that were never allowed: how often the API server
// is asked about them, and how many requests wait for its answer, apart from those of known
// senders. Who turns out to be somebody has used nothing up. Where somebody has come from of
// late, as a sender does whose token was just renewed, requests wait apart once more: however
// many come from elsewhere, they do not stand in front of it.
type strangers struct {
	clock clock.Clock
	// most is how many requests may wait in one crowd, and mostOfOne those from one address.
	most, mostOfOne int

	mutex     sync.Mutex
	waitingAt map[string]int
	// anywhere is the crowd of all addresses but those of friends.
	anywhere, ofFriends *crowd
	addresses           *cache.LRUExpireCache // of *bucket
	friends             *cache.LRUExpireCache // addresses
	// answered is closed, and made anew, when the API server has answered about one of them.
	answered chan struct{}
}

// crowd are strangers that share what they may use up.
type crowd struct {
	waiting int
	bucket
}

// stranger is one request by a credential that was never allowed.
type stranger struct {
	of      *strangers
	crowd   *crowd
	address string
	// own is what its address may use up, once the API server is asked.
	own *bucket
}

func newStrangers(c clock.Clock, most int) *strangers {
	newCrowd := func() *crowd {
		return &crowd{bucket: bucket{rate: allStrangersRate, burst: allStrangersBurst, tokens: allStrangersBurst, at: c.Now()}}
	}
	return &strangers{
		clock: c, most: max(1, most), mostOfOne: max(1, most/3*2), waitingAt: map[string]int{},
		anywhere: newCrowd(), ofFriends: newCrowd(), answered: make(chan struct{}),
		addresses: cache.NewLRUExpireCacheWithClock(maxAddresses, c), friends: cache.NewLRUExpireCacheWithClock(maxAddresses, c),
	}
}

// befriend says that somebody has come from an address.
func (s *strangers) befriend(address string) {
	s.friends.Add(address, nil, knownFor)
}

// enter gives the place of a request from an address that may wait for an answer, or nil; leave
// must follow.
func (s *strangers) enter(address string) *stranger {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	one := &stranger{of: s, crowd: s.anywhere, address: address}
	if _, is := s.friends.Get(address); is {
		one.crowd = s.ofFriends
	}
	if one.crowd.waiting >= s.most || s.waitingAt[address] >= s.mostOfOne {
		return nil
	}
	one.crowd.waiting++
	s.waitingAt[address]++
	return one
}

func (o *stranger) leave() {
	s := o.of
	s.mutex.Lock()
	defer s.mutex.Unlock()
	o.crowd.waiting--
	if s.waitingAt[o.address]--; s.waitingAt[o.address] == 0 {
		delete(s.waitingAt, o.address)
	}
}

// ask says whether the API server may be asked about the credential; told must follow when it may.
// What there is to use up is taken before the answer is known, or any number could ask at the same
// time. Where it is all taken by others of whom nobody knows yet whether they are somebody, it
// waits until that is known, or the context ends.
func (o *stranger) ask(ctx context.Context) bool {
	for {
		may, answered := o.take()
		if may || answered == nil {
			return may
		}
		select {
		case <-answered:
		case <-ctx.Done():
			return false
		}
	}
}

// take is ask without waiting: there is a reason to wait where it gives a channel.
func (o *stranger) take() (may bool, answered <-chan struct{}) {
	s := o.of
	s.mutex.Lock()
	defer s.mutex.Unlock()
	now, own := s.clock.Now(), s.bucketOf(o.address)
	for _, b := range []*bucket{own, &o.crowd.bucket} {
		switch {
		case b.has(now) >= 1:
		case b.lent == 0:
			return false, nil
		default:
			answered = s.answered
		}
	}
	if answered != nil {
		return false, answered
	}
	o.own = own
	own.lend()
	o.crowd.lend()
	return true, nil
}

// told says what the API server has answered: somebody has used nothing up.
func (o *stranger) told(somebody bool) {
	s := o.of
	s.mutex.Lock()
	defer s.mutex.Unlock()
	o.own.giveBack(somebody)
	o.crowd.giveBack(somebody)
	close(s.answered)
	s.answered = make(chan struct{})
}

func (s *strangers) bucketOf(address string) *bucket {
	if known, ok := s.addresses.Get(address); ok {
		return known.(*bucket)
	}
	b := &bucket{rate: strangerRate, burst: strangerBurst, tokens: strangerBurst, at: s.clock.Now()}
	s.addresses.Add(address, b, addressMemory)
	return b
}

// bucket is a rate.Limiter to which tokens can be given back.
type bucket struct {
	rate, burst, tokens float64
	at                  time.Time
	// lent is how many tokens were taken that may be given back.
	lent int
}

// has is how many tokens there are now.
func (b *bucket) has(now time.Time) float64 {
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.tokens += passed * b.rate
		b.at = now
	}
	b.tokens = min(b.tokens, b.burst)
	return b.tokens
}

func (b *bucket) lend() {
	b.tokens--
	b.lent++
}

// giveBack ends a loan, with the token or without.
func (b *bucket) giveBack(token bool) {
	b.lent--
	if token {
		b.tokens++
	}
}
