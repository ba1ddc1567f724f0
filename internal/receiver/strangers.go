package receiver

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"
)

const (
	// strangerRate and strangerBurst bound the tokens of nobody from one address, each of
	// which costs the API server a review; allStrangersRate and allStrangersBurst those of all.
	strangerRate, strangerBurst         = 1, 10
	allStrangersRate, allStrangersBurst = 50, 200

	maxAddresses   = 4096
	addressMemory  = 10 * time.Minute
	retryStrangers = time.Second
)

// strangers bounds how often the API server is asked about senders that turn out to be
// nobody. Who is somebody uses nothing up.
type strangers struct {
	clock clock.Clock
	all   *rate.Limiter

	mutex     sync.Mutex
	addresses *cache.LRUExpireCache // of *rate.Limiter
}

func newStrangers(c clock.Clock) *strangers {
	return &strangers{
		clock: c, all: rate.NewLimiter(allStrangersRate, allStrangersBurst),
		addresses: cache.NewLRUExpireCacheWithClock(maxAddresses, c),
	}
}

func (s *strangers) of(address string) *rate.Limiter {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if known, ok := s.addresses.Get(address); ok {
		return known.(*rate.Limiter)
	}
	limiter := rate.NewLimiter(strangerRate, strangerBurst)
	s.addresses.Add(address, limiter, addressMemory)
	return limiter
}

// mustWait is how long an unknown sender from an address must wait; 0 is not at all.
func (s *strangers) mustWait(address string) time.Duration {
	now := s.clock.Now()
	for _, limiter := range []*rate.Limiter{s.of(address), s.all} {
		if limiter.TokensAt(now) < 1 {
			return retryStrangers
		}
	}
	return 0
}

// failed takes down that an address came with the token of nobody.
func (s *strangers) failed(address string) {
	now := s.clock.Now()
	s.of(address).AllowN(now, 1)
	s.all.AllowN(now, 1)
}
