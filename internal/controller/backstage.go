package controller

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// collectingRoom is how many incidents collect evidence or verify at the same time: that
	// mostly waits for nodes.
	collectingRoom = 8
	// publishingRoom is how many incidents publish their timelines at the same time.
	publishingRoom = 2
)

// backstage bounds how many incidents do at the same time what can wait, so that in a
// burst of alerts the workers and the API server stay free for what contains. Who finds
// no room queues up, and is woken when it is their turn. It is in memory only: after a
// restart every incident is looked at anew.
type backstage struct {
	room int
	wake chan<- event.GenericEvent

	mu      sync.Mutex
	inside  map[types.NamespacedName]bool
	queue   []types.NamespacedName
	waiting map[types.NamespacedName]bool
}

func newBackstage(room int, wake chan<- event.GenericEvent) *backstage {
	return &backstage{room: room, wake: wake, inside: map[types.NamespacedName]bool{}, waiting: map[types.NamespacedName]bool{}}
}

// enter says whether there is room. If not, the incident is woken when there is.
func (b *backstage) enter(key types.NamespacedName) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.inside[key]:
		return true
	case len(b.inside) < b.room:
		b.inside[key] = true
		return true
	case !b.waiting[key]:
		b.waiting[key] = true
		b.queue = append(b.queue, key)
	}
	return false
}

// leave makes room for the next. It does nothing for an incident that is not inside.
func (b *backstage) leave(key types.NamespacedName) {
	if next, ok := b.handOver(key); ok {
		incident := &v1alpha1.Incident{}
		incident.Namespace, incident.Name = next.Namespace, next.Name
		b.wake <- event.GenericEvent{Object: incident}
	}
}

// handOver gives the room of one to the next in the queue.
func (b *backstage) handOver(key types.NamespacedName) (next types.NamespacedName, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.inside[key] {
		return next, false
	}
	delete(b.inside, key)
	if len(b.queue) == 0 {
		return next, false
	}
	next, b.queue = b.queue[0], b.queue[1:]
	delete(b.waiting, next)
	b.inside[next] = true
	return next, true
}
