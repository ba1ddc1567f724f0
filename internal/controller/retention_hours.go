package controller

import (
	"maps"
	"slices"
	"sync"
)

// knownHours are the hours in which the events of each namespace were dismissed, or its
// incidents closed: a few numbers, however many there are.
type knownHours struct {
	mu    sync.Mutex
	hours map[string]map[int64]struct{}
}

// note takes down an hour, and says whether it is new.
func (d *knownHours) note(namespace string, hour int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hours == nil {
		d.hours = map[string]map[int64]struct{}{}
	}
	if d.hours[namespace] == nil {
		d.hours[namespace] = map[int64]struct{}{}
	}
	_, known := d.hours[namespace][hour]
	d.hours[namespace][hour] = struct{}{}
	return !known
}

// of gives the hours of a namespace, the earliest first.
func (d *knownHours) of(namespace string) []int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.hours[namespace]))
}

func (d *knownHours) forget(namespace string, hour int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.hours[namespace], hour)
}
