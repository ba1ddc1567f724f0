package receiver

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"
)

const (
	maxSenders   = 4096
	senderMemory = time.Hour
)

// senders bound how many alerts each sender sends.
type senders struct {
	clock clock.Clock
	rate  rate.Limit
	burst int

	mutex  sync.Mutex
	limits *cache.LRUExpireCache // of *rate.Limiter
}

func newSenders(o *Options) *senders {
	return &senders{
		clock: o.Clock, rate: rate.Limit(o.SenderRate), burst: o.SenderBurst,
		limits: cache.NewLRUExpireCacheWithClock(maxSenders, o.Clock),
	}
}

// charge takes a number of alerts from what a sender may send, and says how long it must
// wait when that is not to be had.
func (s *senders) charge(sender string, alerts int) time.Duration {
	if alerts <= 0 {
		return 0
	}
	s.mutex.Lock()
	limiter := rate.NewLimiter(s.rate, s.burst)
	if known, ok := s.limits.Get(sender); ok {
		limiter = known.(*rate.Limiter)
	}
	s.limits.Add(sender, limiter, senderMemory)
	s.mutex.Unlock()
	now := s.clock.Now()
	alerts = min(alerts, s.burst)
	if limiter.AllowN(now, alerts) {
		return 0
	}
	missing := (float64(alerts) - limiter.TokensAt(now)) / float64(s.rate)
	return time.Duration(math.Ceil(missing)) * time.Second
}
