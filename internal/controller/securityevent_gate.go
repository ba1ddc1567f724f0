package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// countEvery is how often the count of one event is written at most.
	countEvery = time.Second
	// gateSize is from how many events on those not written lately are forgotten.
	gateSize = 4096
)

// writeGate knows when the status of each event was last written, and what its incident
// has taken up since.
type writeGate struct {
	mu   sync.Mutex
	last map[types.UID]gated
}

type gated struct {
	written  time.Time
	absorbed int64
}

// wait says how long to wait until a count may be written.
func (g *writeGate) wait(uid types.UID, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	last, ok := g.last[uid]
	if !ok {
		return 0
	}
	return countEvery - now.Sub(last.written)
}

func (g *writeGate) wrote(uid types.UID, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil || len(g.last) >= gateSize {
		kept := map[types.UID]gated{}
		for other, last := range g.last {
			if now.Sub(last.written) < countEvery {
				kept[other] = last
			}
		}
		g.last = kept
	}
	g.last[uid] = gated{written: now}
}

// absorb notes up to which count the event's incident was seen to be in progress, until
// the count is written. What is not noted here is written at once.
func (g *writeGate) absorb(uid types.UID, count int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last, ok := g.last[uid]; ok {
		last.absorbed = max(last.absorbed, count)
		g.last[uid] = last
	}
}

func (g *writeGate) absorbed(uid types.UID) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last[uid].absorbed
}
