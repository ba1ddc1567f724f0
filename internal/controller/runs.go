package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// runWindow is the time over which runs are counted.
const runWindow = time.Hour

// runLedger gives incidents their turns, one after the other. The objects count, so
// that a restart keeps the limits: an incident whose playbook is pinned has had its turn.
// But the cache lags behind, and names and times of incidents can be chosen by whoever
// sends alerts; so turns given by this process are counted here as well.
type runLedger struct {
	mu    sync.Mutex
	turns map[string]map[types.UID]turn
}

type turn struct {
	opened time.Time
	before int32
}

// turn says how many incidents of the same key had their turn before this one, within
// the hour. Asked again it says the same.
func (l *runLedger) turn(key string, incident *v1alpha1.Incident, known []v1alpha1.Incident) int32 {
	key = incident.Namespace + "\x00" + key
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turns == nil {
		l.turns = map[string]map[types.UID]turn{}
	}
	given := l.turns[key]
	if given == nil {
		given = map[types.UID]turn{}
		l.turns[key] = given
	}
	if mine, ok := given[incident.UID]; ok {
		return mine.before
	}
	opened := incident.CreationTimestamp.Time
	counted := map[types.UID]bool{}
	for uid, other := range given {
		switch age := opened.Sub(other.opened); {
		case age >= 2*runWindow:
			delete(given, uid)
		case age < runWindow:
			counted[uid] = true
		}
	}
	pinned := incident.Status.Playbook.Revision != ""
	for i := range known {
		other := &known[i]
		if other.UID == incident.UID || other.Status.Playbook.Revision == "" || opened.Sub(other.CreationTimestamp.Time) >= runWindow {
			continue
		}
		// An incident that was pinned before a restart keeps its place among the others.
		if pinned && !other.CreationTimestamp.Time.Before(opened) {
			continue
		}
		counted[other.UID] = true
	}
	before := int32(len(counted)) //nolint:gosec // as many as there are incidents
	given[incident.UID] = turn{opened, before}
	return before
}
