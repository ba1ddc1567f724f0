package receiver

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// countEvery is how often the counter of one event is written, at most.
	countEvery = time.Second
	// maxIdle is how many events are remembered between their alerts; those not
	// remembered cost a failed create and a read.
	maxIdle = 8192
	// maxAttempts bounds starting again when others write or delete an event at the same time.
	maxAttempts = 10

	// defaultDirectPatience is how long somebody waits for the API server before the alert
	// goes into the spool, half of it for a turn, and onlyPatience where there is no spool.
	defaultDirectPatience = 800 * time.Millisecond
	onlyPatience          = 30 * time.Second
)

// recorder makes alerts durable: the first of an identity as an event, the others
// as the counter of it. All alerts of one identity pass through one thread, so the
// counter is exact.
type recorder struct {
	store store
	name  string
	clock clock.Clock
	log   logr.Logger
	// spool takes what the API server cannot take now; nil is none.
	spool *spool
	// availability says whether the API server is away; nil without a spool.
	availability *availability
	// patience is how long somebody waits who has a spool.
	patience time.Duration
	// foreign bounds how often the log is told of names that others have taken.
	foreign *rate.Limiter

	mutex   sync.Mutex
	numbers int64 // the last one given, where there is no spool
	threads map[identity]*thread
	idle    *list.List // of *thread, the one idle for longest at the back
}

// thread is the state of one identity. Its mutable fields belong to the goroutine
// that works on it, but for pending, working, element and wrote, which the mutex guards.
type thread struct {
	id      identity
	pending []*delivery
	working bool
	element *list.Element
	wrote   time.Time

	name string // the event's; empty while it is not known to be in the store
	// trouble is why the work on a delivery started again.
	trouble error
}

// delivery is an alert that somebody waits for.
type delivery struct {
	alert *alert
	done  chan outcome
	// sequence is its number (see spool).
	sequence int64
	// spooled says that it is from the spool, where it stays until it is recorded.
	spooled bool
	// probe says that it is tried to see whether the API server is back.
	probe bool
	// doubt says that it was tried before, and may be recorded.
	doubt bool
}

// outcome is what became of an alert.
type outcome struct {
	name    string
	created bool
	spooled bool
	// again says that it was delivered before, and so is not counted.
	again       bool
	occurrences int64 // 0 when not known
	err         error
}

func newRecorder(s store, name string, c clock.Clock, log logr.Logger) *recorder {
	return &recorder{
		store: s, name: name, clock: c, log: log, availability: &availability{}, patience: defaultDirectPatience,
		foreign: rate.NewLimiter(1, 20),
		numbers: c.Now().UnixMicro(), threads: map[identity]*thread{}, idle: list.New(),
	}
}

// record returns once the alert is durable or is known not to be. It does not end
// early when the sender hangs up: the alert counts all the same.
func (r *recorder) record(namespace string, a *alert) outcome {
	id := identify(namespace, a)
	d := &delivery{alert: a, done: make(chan outcome, 1)}
	direct, err := r.enqueue(id, d)
	switch {
	case err != nil:
		return outcome{err: err}
	case !direct:
		r.keep(id, []*delivery{d})
	}
	return <-d.done
}

// recordNumbered records an alert that has the same number for every receiver, and that others
// may have recorded. It must not be used beside record.
func (r *recorder) recordNumbered(namespace string, a *alert, number int64) outcome {
	d := &delivery{alert: a, done: make(chan outcome, 1), sequence: number, spooled: true, doubt: true}
	// It is numbered, so there is no error.
	_, _ = r.enqueue(identify(namespace, a), d)
	o := <-d.done
	if o.err == nil && o.occurrences == 0 {
		o.created, o.again = false, true // by an earlier try, or another receiver
	}
	return o
}

// enqueue numbers a delivery and gives it to its thread; false means that it must be kept
// in the spool, where it is marked already.
func (r *recorder) enqueue(id identity, d *delivery) (direct bool, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	t := r.threads[id]
	if !d.spooled {
		if d.sequence, err = r.number(); err != nil {
			return false, err
		}
		if r.detours(id, t) {
			r.spool.index.mark(id.key(), d.sequence)
			return false, nil
		}
	}
	if t == nil {
		t = &thread{id: id}
		r.threads[id] = t
	}
	t.pending = append(t.pending, d)
	if t.element != nil {
		r.idle.Remove(t.element)
		t.element = nil
	}
	if !t.working {
		t.working = true
		go r.work(t)
	}
	return true, nil
}

func (r *recorder) number() (int64, error) {
	if r.spool != nil {
		return r.spool.number()
	}
	r.numbers++
	return r.numbers, nil
}

// detours says whether a new alert must go through the spool: the API server is away,
// alerts of its identity are there already, or its counter rests.
func (r *recorder) detours(id identity, t *thread) bool {
	return r.spool != nil && (r.availability.away.Load() || r.spool.index.has(id.key()) || t != nil && r.rest(t) > 0)
}

// rest is how long the counter of an event is not to be written yet.
func (r *recorder) rest(t *thread) time.Duration {
	if t.wrote.IsZero() {
		return 0
	}
	return countEvery - r.clock.Since(t.wrote)
}

// next takes what is pending, or ends the work. It lets a counter rest first, so
// that what comes meanwhile goes into the same write.
func (r *recorder) next(t *thread) []*delivery {
	for {
		r.mutex.Lock()
		rest := r.rest(t)
		if rest <= 0 || len(t.pending) == 0 || r.spool != nil && slices.ContainsFunc(t.pending, (*delivery).fresh) {
			break
		}
		r.mutex.Unlock()
		<-r.clock.After(rest)
	}
	defer r.mutex.Unlock()
	batch := t.pending
	t.pending = nil
	if len(batch) > 0 {
		return batch
	}
	t.working = false
	t.element = r.idle.PushFront(t)
	if r.idle.Len() > maxIdle {
		oldest := r.idle.Remove(r.idle.Back()).(*thread)
		delete(r.threads, oldest.id)
	}
	return nil
}

func (d *delivery) fresh() bool { return !d.spooled }

func (r *recorder) work(t *thread) {
	for batch := r.next(t); len(batch) > 0; batch = r.next(t) {
		now, later := r.split(t, batch)
		r.keepMarked(t.id, later)
		if len(now) > 0 {
			r.write(t, now)
		}
	}
}

// split says which deliveries are written now, and which go into the spool. What the
// spool holds of an identity is written from the front, or not now.
func (r *recorder) split(t *thread, batch []*delivery) (now, later []*delivery) {
	if r.spool == nil {
		return batch, nil
	}
	slices.SortFunc(batch, func(a, b *delivery) int { return cmp.Compare(a.sequence, b.sequence) })
	var fresh, drained []*delivery
	var numbers []int64
	for _, d := range batch {
		if d.spooled {
			drained, numbers = append(drained, d), append(numbers, d.sequence)
		} else {
			fresh = append(fresh, d)
		}
	}
	r.mutex.Lock()
	resting := r.rest(t) > 0
	r.mutex.Unlock()
	first, all := r.spool.index.front(t.id.key(), numbers)
	switch {
	case resting, !first:
		answer(drained, outcome{err: errNotNow})
		return nil, fresh
	case !all, len(drained) == 0 && r.availability.away.Load():
		return drained, fresh
	}
	return batch, nil
}

// write records a batch, with all that may be in the way of that.
func (r *recorder) write(t *thread, batch []*delivery) {
	ctx, cancel := r.deadline(batch)
	defer cancel()
	for attempt := 0; len(batch) > 0; attempt++ {
		if attempt == maxAttempts {
			r.failed(t, batch, t.trouble)
			return
		}
		if t.name == "" {
			batch = r.find(ctx, t, batch)
		}
		if len(batch) > 0 {
			batch = r.count(ctx, t, batch)
		}
	}
}

// deadline is the context of a batch. Nobody's hanging up ends it: an alert counts all the same.
func (r *recorder) deadline(batch []*delivery) (context.Context, context.CancelFunc) {
	ctx := context.Background()
	switch {
	case r.spool == nil:
		return context.WithTimeout(ctx, onlyPatience)
	case slices.ContainsFunc(batch, (*delivery).fresh):
		return context.WithTimeout(context.WithValue(ctx, inHaste{}, r.patience), r.patience)
	case !batch[0].probe:
		ctx = context.WithValue(ctx, unlessAway{}, true)
	}
	return ctx, func() {} // each call has a deadline of its own
}

// failed answers deliveries that could not be recorded now. The spool keeps them, unless
// it would never help.
func (r *recorder) failed(t *thread, batch []*delivery, err error) {
	var later []*delivery
	for _, d := range batch {
		if d.doubt = true; d.spooled || r.spool == nil || !passing(err, d.alert) {
			d.done <- outcome{err: err}
			continue
		}
		later = append(later, d)
	}
	r.keepMarked(t.id, later)
}

func (r *recorder) keepMarked(id identity, batch []*delivery) {
	if len(batch) == 0 {
		return
	}
	for _, d := range batch {
		r.spool.index.mark(id.key(), d.sequence)
	}
	r.keep(id, batch)
}

// keep puts deliveries that are marked into the spool, and answers them.
func (r *recorder) keep(id identity, batch []*delivery) {
	errs := r.spool.put(id, batch)
	for i, d := range batch {
		if errs[i] != nil {
			d.done <- outcome{err: errs[i]}
			continue
		}
		d.done <- outcome{spooled: true}
	}
}

// mine says whether an event was created by one of the deliveries.
func (r *recorder) mine(event *v1alpha1.SecurityEvent, d *delivery) bool {
	return event.Annotations[deliveryAnnotation] == r.deliveryID(d)
}

func answer(batch []*delivery, o outcome) {
	for _, d := range batch {
		d.done <- o
	}
}
