package receiver

import (
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// spoolKey stands for an identity in little memory.
type spoolKey [16]byte

func (id identity) key() (key spoolKey) {
	sum := sha256.Sum256([]byte(id.namespace + "/" + id.prefix + "/" + id.hash))
	copy(key[:], sum[:])
	return key
}

// item is what is known of an alert in the spool without reading it.
type item struct {
	sequence int64
	key      spoolKey
	at       int64 // when it was received, in Unix seconds
	bytes    int64
	sender   string
}

// spoolIndex says what is in the spool. It is made from the spool at start.
type spoolIndex struct {
	limit int64

	mutex sync.Mutex
	// marked are the numbers of each identity that are in the spool or on their way
	// into it, rising.
	marked map[spoolKey][]int64
	// queues hold what is on disk by sender, rising.
	queues  map[string]*senderQueue
	senders []string
	items   int64
	bytes   int64
	// buried are those that were refused for good.
	buried, buriedBytes int64
	full                bool
	// filled is told when something was put on disk.
	filled chan struct{}
}

type senderQueue struct {
	items []item
	bytes int64
}

func newSpoolIndex(limit int64) *spoolIndex {
	return &spoolIndex{limit: limit, marked: map[spoolKey][]int64{}, queues: map[string]*senderQueue{}, filled: make(chan struct{}, 1)}
}

// perSender is how much of the spool one sender may fill: the rest is for the others.
func (x *spoolIndex) perSender() int64 { return x.limit / 4 * 3 }

// mark says that a number of an identity goes into the spool.
func (x *spoolIndex) mark(key spoolKey, sequence int64) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	numbers := x.marked[key]
	at, _ := slices.BinarySearch(numbers, sequence)
	x.marked[key] = slices.Insert(numbers, at, sequence)
}

func (x *spoolIndex) unmark(i item) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.drop(i)
}

func (x *spoolIndex) drop(i item) {
	numbers := x.marked[i.key]
	if at, there := slices.BinarySearch(numbers, i.sequence); there {
		numbers = without(numbers, at)
	}
	if len(numbers) == 0 {
		delete(x.marked, i.key)
		return
	}
	x.marked[i.key] = numbers
}

// has says whether alerts of an identity are in the spool.
func (x *spoolIndex) has(key spoolKey) bool {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	return len(x.marked[key]) > 0
}

// front says whether numbers, rising, are the first of their identity, and whether they are all.
func (x *spoolIndex) front(key spoolKey, numbers []int64) (first, all bool) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	marked := x.marked[key]
	first = len(numbers) <= len(marked) && slices.Equal(marked[:len(numbers)], numbers)
	return first, first && len(numbers) == len(marked)
}

// reserve takes the room for an item, or says that there is none.
func (x *spoolIndex) reserve(i item) error {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if x.bytes+i.bytes > x.limit {
		x.full = true
		return spoolFull(x.limit)
	}
	if queue := x.queues[i.sender]; queue != nil && queue.bytes+i.bytes > x.perSender() {
		return senderShareFull(x.perSender())
	}
	x.bytes += i.bytes
	x.queue(i.sender).bytes += i.bytes
	return nil
}

func (x *spoolIndex) queue(sender string) *senderQueue {
	queue := x.queues[sender]
	if queue == nil {
		queue = &senderQueue{}
		x.queues[sender] = queue
		x.senders = append(x.senders, sender)
	}
	return queue
}

func (x *spoolIndex) release(i item) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.free(i)
}

func (x *spoolIndex) free(i item) {
	x.bytes -= i.bytes
	if x.bytes < x.limit/10*9 {
		x.full = false
	}
	queue := x.queue(i.sender)
	if queue.bytes -= i.bytes; len(queue.items) == 0 && queue.bytes <= 0 {
		delete(x.queues, i.sender)
		x.senders = slices.DeleteFunc(x.senders, func(sender string) bool { return sender == i.sender })
	}
}

// kept says that an item for which there is room is on disk.
func (x *spoolIndex) kept(i item) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.insert(i)
	select {
	case x.filled <- struct{}{}:
	default:
	}
}

func (x *spoolIndex) insert(i item) {
	queue := x.queue(i.sender)
	at, _ := slices.BinarySearchFunc(queue.items, i.sequence, compareItem)
	queue.items = slices.Insert(queue.items, at, i)
	x.items++
}

// without takes one out of a list, which costs little at the front, where nearly all are taken out.
func without[T any](list []T, at int) []T {
	if at < len(list)/2 {
		copy(list[1:at+1], list[:at])
		return list[1:]
	}
	return slices.Delete(list, at, at+1)
}

func compareItem(i item, sequence int64) int {
	switch {
	case i.sequence < sequence:
		return -1
	case i.sequence > sequence:
		return 1
	}
	return 0
}

// load is mark, reserve and kept for what is on disk already, whatever the limit.
func (x *spoolIndex) load(i item) {
	x.mark(i.key, i.sequence)
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.insert(i)
	x.bytes += i.bytes
	x.queue(i.sender).bytes += i.bytes
}

func (x *spoolIndex) removed(i item) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	queue := x.queue(i.sender)
	if at, there := slices.BinarySearchFunc(queue.items, i.sequence, compareItem); there {
		queue.items = without(queue.items, at)
		x.items--
	}
	x.drop(i)
	x.free(i)
}

// bury takes the room of alerts that were refused for good, or gives it back.
func (x *spoolIndex) bury(alerts, bytes int64) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.buried += alerts
	x.buriedBytes += bytes
	x.bytes += bytes
}

// tooMuchBuried is by how many bytes those that were refused exceed their part of the spool.
func (x *spoolIndex) tooMuchBuried(more int64) int64 {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	return x.buriedBytes + more - x.limit/8
}

// pageRoom is how much a page may hold.
type pageRoom struct {
	items, kinds int
	bytes        int64
}

// page gives the next items of a sender that come after a number, without those of identities to
// skip, as many as there is room for, and how far it has come. It is empty when there are none.
func (x *spoolIndex) page(sender string, after int64, most pageRoom, skip map[spoolKey]bool) (page []item, passed int64) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	queue := x.queues[sender]
	if queue == nil {
		return nil, after
	}
	bytes := int64(0)
	kinds := map[spoolKey]bool{}
	passed = after
	at, _ := slices.BinarySearchFunc(queue.items, after+1, compareItem)
	for ; at < len(queue.items); at++ {
		next := queue.items[at]
		if !skip[next.key] {
			if len(page) >= most.items || bytes >= most.bytes || len(kinds) >= most.kinds && !kinds[next.key] {
				break
			}
			kinds[next.key] = true
			page = append(page, next)
			bytes += next.bytes
		}
		passed = next.sequence
	}
	return page, passed
}

// waitingSenders are those of whom something is in the spool.
func (x *spoolIndex) waitingSenders() []string {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	return slices.Clone(x.senders)
}

// itemsOf is how many alerts of a sender are on disk.
func (x *spoolIndex) itemsOf(sender string) int {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if queue := x.queues[sender]; queue != nil {
		return len(queue.items)
	}
	return 0
}

// waiting is how many alerts of some identities there are.
func (x *spoolIndex) waiting(keys map[spoolKey]bool) (alerts int64) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	for key := range keys {
		alerts += int64(len(x.marked[key]))
	}
	return alerts
}

// spoolState is what metrics and probes tell of a spool.
type spoolState struct {
	items, bytes, buried, limit int64
	oldest                      time.Time // zero when the spool is empty
	full                        bool
}

func (x *spoolIndex) state() spoolState {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	state := spoolState{items: x.items, bytes: x.bytes, buried: x.buried, limit: x.limit, full: x.full}
	for _, queue := range x.queues {
		if len(queue.items) == 0 {
			continue
		}
		if at := time.Unix(queue.items[0].at, 0); state.oldest.IsZero() || at.Before(state.oldest) {
			state.oldest = at
		}
	}
	return state
}
