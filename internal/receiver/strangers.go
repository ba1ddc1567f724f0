package receiver

import (
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
// is asked about them, and how many requests wait for its answer. Who turns out to be
// somebody has used nothing up.
type strangers struct {
	clock clock.Clock
	// most is how many requests may wait, and mostOfOne those from one address.
	most, mostOfOne int

	mutex     sync.Mutex
	waiting   int
	waitingAt map[string]int
	all       *bucket
	addresses *cache.LRUExpireCache // of *bucket
}

func newStrangers(c clock.Clock, most int) *strangers {
	return &strangers{
		clock: c, most: max(1, most), mostOfOne: max(1, most/4*3), waitingAt: map[string]int{},
		all:       &bucket{rate: allStrangersRate, burst: allStrangersBurst, tokens: allStrangersBurst, at: c.Now()},
		addresses: cache.NewLRUExpireCacheWithClock(maxAddresses, c),
	}
}

// enter says whether a request from an address may wait for an answer; leave must follow then.
func (s *strangers) enter(address string) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.waiting >= s.most || s.waitingAt[address] >= s.mostOfOne {
		return false
	}
	s.waiting++
	s.waitingAt[address]++
	return true
}

func (s *strangers) leave(address string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.waiting--
	if s.waitingAt[address]--; s.waitingAt[address] == 0 {
		delete(s.waitingAt, address)
	}
}

// take says whether the API server may be asked about a credential from an address. It is
// taken before the answer is known, or any number could ask at the same time.
func (s *strangers) take(address string) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	now, of := s.clock.Now(), s.of(address)
	if of.has(now) < 1 || s.all.has(now) < 1 {
		return false
	}
	of.tokens--
	s.all.tokens--
	return true
}

// giveBack undoes take, for somebody.
func (s *strangers) giveBack(address string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.of(address).tokens++
	s.all.tokens++
}

func (s *strangers) of(address string) *bucket {
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
