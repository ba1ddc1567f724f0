package receiver

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var errAway = errors.New("connection refused")

// memoryStore keeps events in memory and fails when told. It stands in for the API
// server where a test must choose the moment; handler_test.go has the real one.
type memoryStore struct {
	mutex  sync.Mutex
	events map[types.NamespacedName]*v1alpha1.SecurityEvent
	spool  string
	uids   int
	raises []int64
	// failRaise fails the next raises, lostAnswer after having done them.
	failRaise, lostAnswer error
	failCreate            error
	conflicts             int
	// trouble, when there is one, chooses what becomes of each write.
	trouble func() trouble
	late    sync.WaitGroup
	// refuse is the error of creates by namespace.
	refuse map[string]error
	// hold, when there is one, keeps creates waiting until it is closed: those of holdOf, or of
	// everybody when that is empty. held counts them.
	hold   chan struct{}
	holdOf string
	held   atomic.Int64
}

// trouble is what becomes of a write.
type trouble int

const (
	noTrouble   trouble = iota
	isAway              // nothing is written
	losesAnswer         // it is written, and nobody is told
	comesLate           // nobody is told, and it is written later
)

var _ store = (*memoryStore)(nil)

// write does what a write does, or what its trouble makes of it.
func (s *memoryStore) write(do func() error) error {
	kind := noTrouble
	s.mutex.Lock()
	choose := s.trouble
	s.mutex.Unlock()
	if choose != nil {
		kind = choose()
	}
	switch kind {
	case isAway:
	case losesAnswer:
		_ = do()
	case comesLate:
		s.late.Go(func() { _ = do() })
	default:
		return do()
	}
	return errAway
}

func newMemoryStore(spool string) *memoryStore {
	return &memoryStore{events: map[types.NamespacedName]*v1alpha1.SecurityEvent{}, spool: spool}
}

func (s *memoryStore) create(_ context.Context, event *v1alpha1.SecurityEvent) error {
	made := event.DeepCopy() // what comes late must not touch the caller's
	err := s.write(func() error { return s.put(made) })
	if err == nil {
		event.UID, event.ResourceVersion = made.UID, made.ResourceVersion
	}
	return err
}

func (s *memoryStore) put(event *v1alpha1.SecurityEvent) error {
	if s.hold != nil && (s.holdOf == "" || s.holdOf == event.Spec.SubmittedBy) {
		s.held.Add(1)
		<-s.hold
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	key := types.NamespacedName{Namespace: event.Namespace, Name: event.Name}
	if err := cmp.Or(s.refuse[event.Namespace], s.failCreate); err != nil {
		return err
	}
	if _, there := s.events[key]; there {
		return apierrors.NewAlreadyExists(v1alpha1.SchemeGroupVersion.WithResource("securityevents").GroupResource(), event.Name)
	}
	s.uids++
	event.UID, event.ResourceVersion = types.UID("uid-"+itoa(s.uids)), "1"
	s.events[key] = event.DeepCopy()
	return nil
}

func (s *memoryStore) get(_ context.Context, key types.NamespacedName, _ string) (*v1alpha1.SecurityEvent, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if event, there := s.events[key]; there {
		return event.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(v1alpha1.SchemeGroupVersion.WithResource("securityevents").GroupResource(), key.Name)
}

func (s *memoryStore) raise(_ context.Context, event *v1alpha1.SecurityEvent, counter v1alpha1.EventCounter) (int64, error) {
	read := event.DeepCopy()
	var sum atomic.Int64 // what comes late writes it when nobody looks any more
	err := s.write(func() error {
		raised, err := s.raiseTo(read, counter)
		sum.Store(raised)
		return err
	})
	return sum.Load(), err
}

func (s *memoryStore) raiseTo(event *v1alpha1.SecurityEvent, counter v1alpha1.EventCounter) (int64, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.failRaise != nil {
		return 0, s.failRaise
	}
	there := s.events[types.NamespacedName{Namespace: event.Namespace, Name: event.Name}]
	if s.conflicts > 0 || there == nil || there.UID != event.UID || there.ResourceVersion != event.ResourceVersion {
		s.conflicts--
		return 0, apierrors.NewConflict(v1alpha1.SchemeGroupVersion.WithResource("securityevents").GroupResource(), event.Name, errAway)
	}
	s.raises = append(s.raises, counter.Count)
	version, _ := strconv.Atoi(there.ResourceVersion)
	there.ResourceVersion = itoa(version + 1)
	there.Status.Counters = []v1alpha1.EventCounter{counter}
	if s.lostAnswer != nil {
		return 0, s.lostAnswer
	}
	return 1 + counter.Count, nil
}

func (s *memoryStore) set(change func()) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	change()
}

func (s *memoryStore) counted() []int64 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.raises)
}

type bench struct {
	t        *testing.T
	store    *memoryStore
	clock    *clocktesting.FakeClock
	recorder *recorder
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, store: newMemoryStore("r0"), clock: clocktesting.NewFakeClock(testTime)}
	b.restart()
	return b
}

func (b *bench) restart() {
	b.clock.Step(countEvery) // numbers go by the time
	b.recorder = newRecorder(b.store, "r0", b.clock, logr.Discard())
}

func shellAlert(observed time.Time) *alert {
	return &alert{spec: v1alpha1.SecurityEventSpec{
		Source:      v1alpha1.EventSource{Kind: v1alpha1.SourceAutomatic, Product: "falco", Rule: "shell"},
		SubmittedBy: "sender", Title: "shell", Severity: v1alpha1.SeverityLow, Fingerprint: "f",
		ObservedTime: metav1.Time{Time: observed},
	}}
}

// post records alerts at the same time, and says when all are answered.
func (b *bench) post(n int) <-chan []outcome {
	deliveries := make([]*delivery, n)
	for i := range n {
		deliveries[i] = &delivery{alert: shellAlert(testTime.Add(time.Duration(i) * time.Second)), done: make(chan outcome, 1)}
		b.recorder.enqueue(identify("security", deliveries[i].alert), deliveries[i])
	}
	answered := make(chan []outcome, 1)
	go func() {
		outcomes := make([]outcome, n)
		for i, d := range deliveries {
			outcomes[i] = <-d.done
		}
		answered <- outcomes
	}()
	return answered
}

// settle lets time pass until all are answered.
func (b *bench) settle(answered <-chan []outcome) (outcomes []outcome) {
	b.t.Helper()
	b.wait("the answers", func() bool {
		select {
		case outcomes = <-answered:
			return true
		default:
			if b.clock.HasWaiters() {
				b.clock.Step(countEvery)
			}
			return false
		}
	})
	return outcomes
}

func (b *bench) wait(what string, condition func() bool) {
	b.t.Helper()
	if err := wait.PollUntilContextTimeout(b.t.Context(), time.Millisecond, patience, true,
		func(context.Context) (bool, error) { return condition(), nil }); err != nil {
		b.t.Fatalf("waiting for %s: %v", what, err)
	}
}

func (b *bench) counter() int64 {
	b.store.mutex.Lock()
	defer b.store.mutex.Unlock()
	if len(b.store.events) != 1 {
		b.t.Fatalf("there are %d events, want 1", len(b.store.events))
	}
	for _, event := range b.store.events {
		for _, counter := range event.Status.Counters {
			return counter.Count
		}
	}
	return 0
}

func (b *bench) mustAll(outcomes []outcome) {
	b.t.Helper()
	for i, o := range outcomes {
		if o.err != nil {
			b.t.Fatalf("alert %d: %v", i, o.err)
		}
	}
}

func TestRecorderCoalesces(t *testing.T) {
	b := newBench(t)
	b.mustAll(b.settle(b.post(1))) // creates
	b.mustAll(b.settle(b.post(1))) // the first repeat is written at once
	later := b.post(40)
	b.wait("the counter to rest", b.clock.HasWaiters)
	more := b.post(7)
	select {
	case <-later:
		t.Fatal("repeats were answered before they were durable")
	default:
	}
	b.clock.Step(countEvery)
	b.mustAll(<-later)
	b.mustAll(<-more)
	if got, want := b.store.counted(), []int64{1, 48}; !slices.Equal(got, want) {
		t.Errorf("counter was written %v, want %v", got, want)
	}
}

func TestMinutesAreCountedInOrder(t *testing.T) {
	start := time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)
	var recent []v1alpha1.EventMinute
	for i := range 3 * maxMinutes {
		minute := i * 7 % maxMinutes // each three times, and in no order
		recent = countMinute(recent, metav1.NewTime(start.Add(time.Duration(minute)*time.Minute+59*time.Second)))
	}
	if len(recent) != maxMinutes {
		t.Fatalf("got %d minutes, want %d", len(recent), maxMinutes)
	}
	for i, one := range recent {
		if want := start.Add(time.Duration(i) * time.Minute); !one.MinuteTime.Equal(&metav1.Time{Time: want}) || one.Count != 3 {
			t.Errorf("minute %d is %v, want 3 at %s", i, one, want)
		}
	}
	recent = countMinute(recent, metav1.NewTime(start.Add(time.Hour)))
	if len(recent) != maxMinutes || !recent[0].MinuteTime.Equal(&metav1.Time{Time: start.Add(time.Minute)}) {
		t.Errorf("got %d minutes from %s, want the last %d", len(recent), recent[0].MinuteTime, maxMinutes)
	}
}

func TestRecorderCountsOnAfterRestart(t *testing.T) {
	b := newBench(t)
	b.mustAll(b.settle(b.post(1)))
	b.mustAll(b.settle(b.post(3)))
	b.restart()
	outcomes := b.settle(b.post(2))
	b.mustAll(outcomes)
	if got := b.counter(); got != 5 || outcomes[0].created || outcomes[1].occurrences != 6 {
		t.Errorf("counter is %d and the outcome %+v, want 5 of 6 occurrences", got, outcomes[1])
	}
}

func TestRecorderCreatesOnceUnderConcurrency(t *testing.T) {
	b := newBench(t)
	b.store.hold = make(chan struct{})
	answered := b.post(100)
	close(b.store.hold)
	outcomes := b.settle(answered)
	b.mustAll(outcomes)
	created := 0
	for _, o := range outcomes {
		if o.created {
			created++
		}
	}
	if got := b.counter(); got != 99 || created != 1 {
		t.Errorf("counter is %d after %d creates, want 99 after 1", got, created)
	}
}

func TestRecorderWhenTheStoreIsAway(t *testing.T) {
	b := newBench(t)
	b.store.set(func() { b.store.failCreate = errAway })
	if outcomes := b.settle(b.post(1)); !errors.Is(outcomes[0].err, errAway) {
		t.Fatalf("error %v, want %v", outcomes[0].err, errAway)
	}
	b.store.set(func() { b.store.failCreate = nil })
	b.mustAll(b.settle(b.post(1)))
	// The answer is lost: nobody knows whether it was counted, so it is looked up.
	b.store.set(func() { b.store.lostAnswer = errAway })
	if outcomes := b.settle(b.post(1)); !errors.Is(outcomes[0].err, errAway) {
		t.Fatalf("error %v, want %v", outcomes[0].err, errAway)
	}
	b.store.set(func() { b.store.lostAnswer = nil })
	answered := b.post(1)
	b.wait("the counter to rest", b.clock.HasWaiters)
	b.clock.Step(countEvery)
	b.mustAll(<-answered)
	if got, want := b.store.counted(), []int64{1, 2}; !slices.Equal(got, want) {
		t.Errorf("counter was written %v, want %v: it never falls", got, want)
	}
}

func TestRecorderStartsAgainWhenTheEventIsDeleted(t *testing.T) {
	b := newBench(t)
	b.mustAll(b.settle(b.post(1)))
	b.store.set(func() { clear(b.store.events) })
	outcomes := b.settle(b.post(3))
	b.mustAll(outcomes)
	if !outcomes[0].created || b.counter() != 2 {
		t.Errorf("outcome %+v and counter %d, want a new event with 2 repeats", outcomes[0], b.counter())
	}
}

func TestRecorderCountsAgainAfterConflicts(t *testing.T) {
	b := newBench(t)
	b.mustAll(b.settle(b.post(1)))
	b.store.set(func() { b.store.conflicts = maxAttempts - 1 })
	b.mustAll(b.settle(b.post(2)))
	if got := b.counter(); got != 2 {
		t.Errorf("counter is %d, want 2", got)
	}
}

func TestRecorderRefusesOneAlertOnly(t *testing.T) {
	b := newBench(t)
	invalid := apierrors.NewInvalid(v1alpha1.SchemeGroupVersion.WithKind("SecurityEvent").GroupKind(), "x", nil)
	b.store.set(func() { b.store.failCreate = invalid })
	for i, o := range b.settle(b.post(3)) {
		if !apierrors.IsInvalid(o.err) {
			t.Errorf("alert %d: error %v, want the store's", i, o.err)
		}
	}
	b.store.set(func() { b.store.failCreate = nil; b.store.failRaise = invalid })
	outcomes := b.settle(b.post(2))
	if outcomes[0].err != nil || outcomes[1].err == nil || asProblem(outcomes[1].err).Status != http.StatusServiceUnavailable {
		t.Errorf("outcomes %+v, want a create and a repeat to be sent later", outcomes)
	}
}

func TestRecorderNeverJoinsForeignEvents(t *testing.T) {
	b := newBench(t)
	id := identify("security", shellAlert(testTime))
	take := func(id identity, n int) *v1alpha1.SecurityEvent {
		foreign := &v1alpha1.SecurityEvent{Spec: v1alpha1.SecurityEventSpec{SubmittedBy: "somebody", Fingerprint: "f"}}
		foreign.Namespace, foreign.Name = id.namespace, id.name(n)
		if err := b.store.create(t.Context(), foreign); err != nil {
			t.Fatal(err)
		}
		return foreign
	}
	for taken := range id.names() {
		foreign := take(id, taken)
		want := id.name(taken + 1)
		if taken+1 == id.names() {
			want = id.beside(foreign.UID).name(0)
		}
		for _, created := range []bool{true, false} {
			outcomes := b.settle(b.post(1))
			if o := outcomes[0]; o.err != nil || o.name != want || o.created != created {
				t.Errorf("%d names taken: outcome %+v, want name %s, created %t", taken+1, o, want, created)
			}
			b.clock.Step(countEvery)
		}
		b.store.set(func() { delete(b.store.events, types.NamespacedName{Namespace: "security", Name: want}) })
		b.restart()
	}
}

func TestRecorderForgetsIdleEvents(t *testing.T) {
	b := newBench(t)
	for i := range maxIdle + 10 {
		a := shellAlert(testTime)
		a.spec.Fingerprint = itoa(i)
		if o := b.recorder.record("security", a); o.err != nil {
			t.Fatal(o.err)
		}
	}
	b.wait("the oldest to be forgotten and the others to be idle", func() bool {
		b.recorder.mutex.Lock()
		defer b.recorder.mutex.Unlock()
		return len(b.recorder.threads) == maxIdle && b.recorder.idle.Len() == maxIdle
	})
}
