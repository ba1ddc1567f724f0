package receiver

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"
)

const (
	// maxDelivered is how many deliveries are remembered, each in some 200 bytes, and
	// deliveredFor for how long: senders that repeat a batch give up much earlier.
	maxDelivered = 16384
	deliveredFor = time.Hour
)

// deliveries are those of late that say of themselves which they are, so that one that comes
// again, because its sender has not heard the answer, is not counted again.
type deliveries struct {
	mutex sync.Mutex
	known *cache.LRUExpireCache // of *delivered, by alert.deliveryKey
}

// delivered is what became of a delivery, once done is closed.
type delivered struct {
	done    chan struct{}
	outcome outcome
}

func newDeliveries(c clock.Clock) *deliveries {
	return &deliveries{known: cache.NewLRUExpireCacheWithClock(maxDelivered, c)}
}

// once records a delivery, unless it is recorded already: then it says what became of it. Of
// several at the same time one records, and the others wait for it.
func (d *deliveries) once(key string, record func() outcome) outcome {
	for {
		mine, before := d.claim(key)
		if mine != nil {
			mine.outcome = record()
			if mine.outcome.err != nil {
				d.known.Remove(key) // it may be tried again
			}
			close(mine.done)
			return mine.outcome
		}
		<-before.done
		if before.outcome.err == nil {
			return outcome{name: before.outcome.name, again: true}
		}
	}
}

// claim gives what is to be filled by who records, or what somebody else does.
func (d *deliveries) claim(key string) (mine, before *delivered) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if known, ok := d.known.Get(key); ok {
		return nil, known.(*delivered)
	}
	mine = &delivered{done: make(chan struct{})}
	d.known.Add(key, mine, deliveredFor)
	return mine, nil
}

// deliveryKey tells deliveries of a sender to a namespace apart.
func (a *alert) deliveryKey(namespace string) string {
	return digest(namespace, a.spec.SubmittedBy, a.spec.Source.Product, string(a.spec.Mode.OrLive()), a.delivery)
}
