package receiver

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
)

var errVanished = errors.New("the event was deleted while it was written")

// recorder makes alerts durable: the first of an identity as an event, the others
// as the counter of it. All alerts of one identity pass through one thread, so the
// counter is exact.
type recorder struct {
	store store
	spool string
	clock clock.Clock
	log   logr.Logger

	mutex   sync.Mutex
	threads map[identity]*thread
	idle    *list.List // of *thread, the one idle for longest at the back
}

// thread is the state of one identity. Its mutable fields belong to the goroutine
// that works on it, but for pending, working and element, which the mutex guards.
type thread struct {
	id      identity
	pending []*delivery
	working bool
	element *list.Element

	name  string // the event's; empty while it is not known to be in the store
	wrote time.Time
	// trouble is why the work on a delivery started again.
	trouble error
}

// delivery is an alert that somebody waits for.
type delivery struct {
	alert *alert
	done  chan outcome
}

// outcome is what became of an alert.
type outcome struct {
	name        string
	created     bool
	occurrences int64 // 0 when not known
	err         error
}

func newRecorder(s store, spool string, c clock.Clock, log logr.Logger) *recorder {
	return &recorder{store: s, spool: spool, clock: c, log: log, threads: map[identity]*thread{}, idle: list.New()}
}

// record returns once the alert is durable or is known not to be. It does not end
// early when the sender hangs up: the alert counts all the same.
func (r *recorder) record(namespace string, a *alert) outcome {
	d := &delivery{alert: a, done: make(chan outcome, 1)}
	r.enqueue(identify(namespace, a), d)
	return <-d.done
}

func (r *recorder) enqueue(id identity, d *delivery) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	t := r.threads[id]
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
}

// next takes what is pending, or ends the work. It lets a counter rest first, so
// that what comes meanwhile goes into the same write.
func (r *recorder) next(t *thread) []*delivery {
	if !t.wrote.IsZero() {
		if rest := countEvery - r.clock.Since(t.wrote); rest > 0 && r.waiting(t) {
			<-r.clock.After(rest)
		}
	}
	r.mutex.Lock()
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

func (r *recorder) waiting(t *thread) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return len(t.pending) > 0
}

func (r *recorder) work(t *thread) {
	ctx := context.Background() // each call has a deadline of its own
	for batch := r.next(t); len(batch) > 0; batch = r.next(t) {
		for attempt := 0; len(batch) > 0; attempt++ {
			if attempt == maxAttempts {
				fail(batch, t.trouble)
				break
			}
			if t.name == "" {
				batch = r.find(ctx, t, batch)
			}
			if len(batch) > 0 {
				batch = r.count(ctx, t, batch)
			}
		}
	}
}

// find creates the event or finds the one there is. It returns the deliveries that
// repeat it.
func (r *recorder) find(ctx context.Context, t *thread, batch []*delivery) []*delivery {
	for len(batch) > 0 {
		event, created, err := r.createOrGet(ctx, t.id, batch[0].alert)
		switch {
		case err != nil && refusesObject(err):
			fail(batch[:1], err)
			batch = batch[1:]
		case err != nil:
			fail(batch, err)
			return nil
		case created:
			t.name = event.Name
			batch[0].done <- outcome{name: event.Name, created: true, occurrences: 1}
			return batch[1:]
		default:
			t.name = event.Name
			return batch
		}
	}
	return nil
}

func (r *recorder) createOrGet(ctx context.Context, id identity, a *alert) (*v1alpha1.SecurityEvent, bool, error) {
	for range maxAttempts {
		event, created, err := r.tryNames(ctx, id, a)
		var foreign *foreignError
		switch {
		case errors.As(err, &foreign):
			id = id.beside(foreign.uid)
		case errors.Is(err, errVanished):
		default:
			return event, created, err
		}
	}
	return nil, false, newProblem(http.StatusConflict, "name-taken", "The event's names are taken",
		"Every name the event could have in namespace '"+id.namespace+"' is taken by events of others: delete those.")
}

// foreignError says that events of others have all names of an identity.
type foreignError struct{ uid types.UID }

func (e *foreignError) Error() string { return "an event of somebody else has the name" }

// tryNames tries the names of an identity, from the shortest, until one is free or
// its event is the alert's.
func (r *recorder) tryNames(ctx context.Context, id identity, a *alert) (*v1alpha1.SecurityEvent, bool, error) {
	var foreign types.UID
	for n := range id.names() {
		key := types.NamespacedName{Namespace: id.namespace, Name: id.name(n)}
		event := &v1alpha1.SecurityEvent{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Spec: a.spec}
		err := r.store.create(ctx, event)
		if !apierrors.IsAlreadyExists(err) {
			return event, err == nil, err
		}
		event, err = r.store.get(ctx, key)
		switch {
		case apierrors.IsNotFound(err):
			return nil, false, errVanished
		case err != nil:
			return nil, false, err
		case a.sameAs(event):
			return event, false, nil
		}
		r.log.Info("a foreign event has the name of an alert's event", "namespace", key.Namespace, "name", key.Name,
			"submittedBy", clean(event.Spec.SubmittedBy, maxName))
		foreign = event.UID
	}
	return nil, false, &foreignError{uid: foreign}
}

// count adds the deliveries to the event's counter, as the store has it at the moment.
// It returns them when they must start again, because the event has changed or gone.
func (r *recorder) count(ctx context.Context, t *thread, batch []*delivery) []*delivery {
	event, err := r.store.get(ctx, types.NamespacedName{Namespace: t.id.namespace, Name: t.name})
	switch {
	case apierrors.IsNotFound(err), err == nil && !batch[0].alert.sameAs(event):
		t.name, t.trouble = "", errVanished
		return batch
	case err != nil:
		fail(batch, err)
		return nil
	case batch[0].alert.spec.Fingerprint == "":
		// Without a fingerprint it is the same report delivered again, not a repeat.
		answer(batch, outcome{name: t.name})
		return nil
	}
	count, last := r.counted(event)
	for _, d := range batch {
		if observed := d.alert.spec.ObservedTime; last.Before(&observed) {
			last = observed
		}
	}
	sum, err := r.store.raise(ctx, event, count+int64(len(batch)), last)
	t.wrote = r.clock.Now()
	switch {
	case err == nil:
		answer(batch, outcome{name: t.name, occurrences: sum})
		return nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsInvalid(err):
		t.trouble = unavailable("The repeat could not be counted: " + err.Error())
		return batch
	}
	fail(batch, fmt.Errorf("counting the repeat: %w", err))
	return nil
}

// counted is this receiver's own counter of an event.
func (r *recorder) counted(event *v1alpha1.SecurityEvent) (count int64, last metav1.Time) {
	for i := range event.Status.Counters {
		if counter := &event.Status.Counters[i]; counter.Spool == r.spool {
			count = counter.Count
			if counter.LastObservedTime != nil {
				last = *counter.LastObservedTime
			}
		}
	}
	return count, last
}

func fail(batch []*delivery, err error) {
	answer(batch, outcome{err: err})
}

func answer(batch []*delivery, o outcome) {
	for _, d := range batch {
		d.done <- o
	}
}
