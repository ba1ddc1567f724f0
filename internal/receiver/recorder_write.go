package receiver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// deliveryAnnotation on an event names the delivery that created it: the receiver and
// its number. By it a receiver tells after a crash, or a lost answer, that it did.
const deliveryAnnotation = "firebreak.dev/delivery"

var (
	errVanished = errors.New("the event was deleted while it was written")
	// errNotNow means that a delivery of the spool must be tried again in its turn.
	errNotNow = errors.New("others of its kind come first")
)

func (r *recorder) deliveryID(d *delivery) string {
	return r.name + "/" + strconv.FormatInt(d.sequence, 10)
}

// passing says whether an alert may be recorded later, after this error.
func passing(err error, a *alert) bool {
	return errors.Is(err, errNotNow) || refusal(err, a).Status == http.StatusServiceUnavailable
}

// find creates the event or finds the one there is. It returns the deliveries that
// repeat it.
func (r *recorder) find(ctx context.Context, t *thread, batch []*delivery) []*delivery {
	for len(batch) > 0 {
		event, created, err := r.createOrGet(ctx, t.id, batch[0])
		switch {
		case err != nil && refusesObject(err):
			batch[0].done <- outcome{err: err}
			batch = batch[1:]
		case err != nil:
			r.failed(t, batch, err)
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

// maxBeside is how many times all names of an identity may be foreign events' before a name
// is taken that nobody can have known. Until then repeats find their event by its name, also
// those of other receivers; after that each receiver makes an event of its own.
const maxBeside = 2

func (r *recorder) createOrGet(ctx context.Context, id identity, d *delivery) (*v1alpha1.SecurityEvent, bool, error) {
	names, taken := id, 0
	for range maxAttempts {
		event, created, err := r.tryNames(ctx, names, d)
		var foreign *foreignError
		switch {
		case errors.As(err, &foreign):
			switch taken++; {
			case taken < maxBeside:
				names = names.beside(foreign.uid)
			case taken == maxBeside:
				// The number of the delivery is the receiver's own. A later try, also after a
				// crash, finds the event by it.
				names = id.apart(r.deliveryID(d))
			default:
				names = id.apart(r.deliveryID(d), rand.Text())
			}
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
func (r *recorder) tryNames(ctx context.Context, id identity, d *delivery) (*v1alpha1.SecurityEvent, bool, error) {
	var foreign types.UID
	for n := range id.names() {
		key := types.NamespacedName{Namespace: id.namespace, Name: id.name(n)}
		event := &v1alpha1.SecurityEvent{ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name, Annotations: map[string]string{deliveryAnnotation: r.deliveryID(d)},
		}, Spec: d.alert.spec}
		err := r.store.create(ctx, event)
		if !apierrors.IsAlreadyExists(err) {
			return event, err == nil, err
		}
		event, err = r.store.get(ctx, key, d.alert.spec.SubmittedBy)
		switch {
		case apierrors.IsNotFound(err):
			return nil, false, errVanished
		case err != nil:
			return nil, false, err
		case d.alert.sameAs(event):
			return event, false, nil
		}
		if r.foreign.Allow() {
			r.log.Info("a foreign event has the name of an alert's event", "namespace", key.Namespace, "name", key.Name,
				"submittedBy", clean(event.Spec.SubmittedBy, maxName))
		}
		foreign = event.UID
	}
	return nil, false, &foreignError{uid: foreign}
}

// count adds the deliveries to the event's counter, as the store has it at the moment.
// It returns them when they must start again, because the event has changed or gone.
func (r *recorder) count(ctx context.Context, t *thread, batch []*delivery) []*delivery {
	key := types.NamespacedName{Namespace: t.id.namespace, Name: t.name}
	event, err := r.store.get(ctx, key, batch[0].alert.spec.SubmittedBy)
	switch {
	case apierrors.IsNotFound(err), err == nil && !batch[0].alert.sameAs(event):
		t.name, t.trouble = "", errVanished
		return batch
	case err != nil:
		r.failed(t, batch, err)
		return nil
	}
	counter := r.counted(event)
	if batch = r.uncounted(event, counter, batch); len(batch) == 0 {
		return nil
	}
	if batch[0].alert.spec.Fingerprint == "" || batch[0].alert.single {
		// Without a fingerprint it is the same report delivered again, not a repeat.
		answer(batch, outcome{name: t.name, again: true})
		return nil
	}
	for _, d := range batch {
		d.doubt = true
		counter.Count++
		counter.Sequence = max(counter.Sequence, d.sequence)
		counter.Recent = countMinute(counter.Recent, d.alert.spec.ObservedTime)
		if observed := d.alert.spec.ObservedTime; counter.LastObservedTime == nil || counter.LastObservedTime.Before(&observed) {
			counter.LastObservedTime = &observed
		}
	}
	sum, err := r.store.raise(ctx, event, counter)
	r.mutex.Lock()
	t.wrote = r.clock.Now()
	r.mutex.Unlock()
	switch {
	case err == nil:
		answer(batch, outcome{name: t.name, occurrences: sum})
		return nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsInvalid(err):
		t.trouble = unavailable("The repeat could not be counted: " + err.Error())
		return batch
	}
	r.failed(t, batch, fmt.Errorf("counting the repeat: %w", err))
	return nil
}

// maxMinutes is how many minutes a counter tells apart: those of a window.
const maxMinutes = int(window / time.Minute)

// countMinute counts one repeat in its minute.
func countMinute(recent []v1alpha1.EventMinute, observed metav1.Time) []v1alpha1.EventMinute {
	minute := metav1.NewTime(observed.UTC().Truncate(time.Minute))
	at, known := slices.BinarySearchFunc(recent, minute, func(one v1alpha1.EventMinute, minute metav1.Time) int {
		return one.MinuteTime.Compare(minute.Time)
	})
	if known {
		recent[at].Count++
		return recent
	}
	recent = slices.Insert(recent, at, v1alpha1.EventMinute{MinuteTime: minute, Count: 1})
	return recent[max(0, len(recent)-maxMinutes):]
}

// uncounted answers the deliveries that an earlier try has recorded, and returns the others.
func (r *recorder) uncounted(event *v1alpha1.SecurityEvent, counter v1alpha1.EventCounter, batch []*delivery) []*delivery {
	left := make([]*delivery, 0, len(batch))
	numbers := map[int64]bool{}
	for _, d := range batch {
		switch {
		case r.mine(event, d):
			d.done <- outcome{name: event.Name, created: true}
		case d.doubt && (d.sequence <= counter.Sequence || numbers[d.sequence]):
			d.done <- outcome{name: event.Name}
		default:
			left, numbers[d.sequence] = append(left, d), true
		}
	}
	return left
}

// counted is this receiver's own counter of an event.
func (r *recorder) counted(event *v1alpha1.SecurityEvent) v1alpha1.EventCounter {
	for i := range event.Status.Counters {
		if counter := &event.Status.Counters[i]; counter.Spool == r.name {
			return *counter.DeepCopy()
		}
	}
	return v1alpha1.EventCounter{Spool: r.name}
}
