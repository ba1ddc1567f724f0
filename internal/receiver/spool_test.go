package receiver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// life is one life of a receiver with a spool: it ends as a crash does.
type life struct {
	t        *testing.T
	recorder *recorder
	drainer  *drainer
	stop     context.CancelFunc
	drained  chan struct{}
	// dead is when nothing it does counts any more.
	dead atomic.Bool
}

// mortalStore is the way of one life to the store.
type mortalStore struct {
	*memoryStore
	life *life
}

func (s mortalStore) create(ctx context.Context, event *v1alpha1.SecurityEvent) error {
	if s.life.dead.Load() {
		return errAway
	}
	err := s.memoryStore.create(ctx, event)
	s.life.recorder.availability.note(writing, err)
	return err
}

func (s mortalStore) raise(ctx context.Context, event *v1alpha1.SecurityEvent, counter v1alpha1.EventCounter) (int64, error) {
	if s.life.dead.Load() {
		return 0, errAway
	}
	sum, err := s.memoryStore.raise(ctx, event, counter)
	s.life.recorder.availability.note(writing, err)
	return sum, err
}

func newLife(t *testing.T, folder string, limit int64, store *memoryStore, clock *clocktesting.FakeClock) *life {
	t.Helper()
	spool, setAside, err := openSpool(folder, limit, clock)
	if err != nil || setAside != "" {
		t.Fatalf("opening the spool: %v %s", err, setAside)
	}
	l := &life{t: t, drained: make(chan struct{})}
	l.recorder = newRecorder(mortalStore{store, l}, "r0", clock, logr.Discard())
	l.recorder.spool = spool
	l.drainer = newDrainer(l.recorder)
	return l
}

// drain begins to drain.
func (l *life) drain() {
	ctx, stop := context.WithCancel(l.t.Context())
	l.stop = stop
	go func() {
		defer close(l.drained)
		l.drainer.run(ctx)
	}()
}

// crash ends a life without any farewell.
func (l *life) crash() {
	l.t.Helper()
	l.dead.Store(true)
	if l.stop != nil {
		l.stop()
		<-l.drained
	}
	if err := l.recorder.spool.close(); err != nil {
		l.t.Fatal(err)
	}
}

// passTime steps a clock whenever somebody waits for it.
func passTime(t *testing.T, clock *clocktesting.FakeClock) {
	ctx, stop := context.WithCancel(t.Context())
	var passing sync.WaitGroup
	passing.Go(func() {
		for ctx.Err() == nil {
			if clock.HasWaiters() {
				clock.Step(countEvery)
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() { stop(); passing.Wait() })
}

func kindAlert(kind, n int) *alert {
	a := shellAlert(testTime.Add(time.Duration(n%3000) * time.Second))
	a.spec.Fingerprint = fmt.Sprint("kind ", kind)
	return a
}

// TestSpoolKeepsAndDrains has the store away for a while.
func TestSpoolKeepsAndDrains(t *testing.T) {
	store, clock, folder := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime), t.TempDir()
	passTime(t, clock)
	store.trouble = func() trouble { return isAway }
	l := newLife(t, folder, DefaultSpoolMaxBytes, store, clock)
	for n := range 30 {
		if o := l.recorder.record("security", kindAlert(n%3, n)); o.err != nil || !o.spooled {
			t.Fatalf("alert %d: %+v, want it spooled", n, o)
		}
	}
	l.crash()
	l = newLife(t, folder, DefaultSpoolMaxBytes, store, clock)
	defer l.crash()
	if state := l.recorder.spool.index.state(); state.items != 30 || state.bytes == 0 || state.oldest.IsZero() {
		t.Fatalf("after the restart the spool is %+v, want 30 items", state)
	}
	store.set(func() { store.trouble = nil })
	l.drain()
	b := &bench{t: t}
	b.wait("the spool to drain", func() bool { return l.recorder.spool.index.state().items == 0 })
	if got := store.occurrences(); len(got) != 3 || got["kind 0"] != 10 || got["kind 1"] != 10 || got["kind 2"] != 10 {
		t.Errorf("occurrences %v, want 10 of each kind", got)
	}
	state := l.recorder.spool.index.state()
	if state.bytes != 0 || l.drainer.drained.Load() != 30 || len(l.recorder.spool.index.marked) != 0 || len(l.recorder.spool.index.queues) != 0 {
		t.Errorf("drained %d, left behind %+v, marks %v, queues %v", l.drainer.drained.Load(), state, l.recorder.spool.index.marked, l.recorder.spool.index.queues)
	}
	// With nothing in the spool the way is direct again.
	if o := l.recorder.record("security", kindAlert(9, 9)); o.err != nil || !o.created {
		t.Errorf("afterwards: %+v, want a new event", o)
	}
}

// occurrences are how often each fingerprint is counted, however many events it has.
func (s *memoryStore) occurrences() map[string]int64 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	sums := map[string]int64{}
	for _, event := range s.events {
		sum := int64(1)
		for _, counter := range event.Status.Counters {
			sum += counter.Count
		}
		sums[event.Spec.Fingerprint] += sum
	}
	return sums
}

// TestExactlyOnceWhateverHappens sends alerts of few kinds through lives that end in crashes,
// to a store that loses answers, is away, and does things late. What was answered well is
// there exactly once.
func TestExactlyOnceWhateverHappens(t *testing.T) {
	const lives, alerts, kinds = 4, 60, 5
	for seed := range uint64(12) {
		for _, crashes := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed %d crashes %t", seed, crashes), func(t *testing.T) {
				store, clock, folder := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime), t.TempDir()
				passTime(t, clock)
				dice := rand.New(rand.NewPCG(seed, 4))
				var diceMutex sync.Mutex
				roll := func() trouble {
					diceMutex.Lock()
					defer diceMutex.Unlock()
					return []trouble{noTrouble, noTrouble, isAway, losesAnswer, comesLate}[dice.IntN(5)]
				}
				store.trouble = roll
				accepted, unknown := make([]int64, kinds), make([]int64, kinds)
				for range lives {
					l := newLife(t, folder, DefaultSpoolMaxBytes, store, clock)
					l.drain()
					var senders sync.WaitGroup
					for n := range alerts {
						kind := n % kinds
						senders.Go(func() {
							o := l.recorder.record("security", kindAlert(kind, n))
							if o.err != nil || l.dead.Load() {
								atomic.AddInt64(&unknown[kind], 1)
								return
							}
							atomic.AddInt64(&accepted[kind], 1)
						})
						if crashes && n == alerts/2 {
							l.crash()
						}
					}
					senders.Wait()
					if !crashes {
						l.crash()
					}
				}
				store.late.Wait()
				store.set(func() { store.trouble = nil })
				l := newLife(t, folder, DefaultSpoolMaxBytes, store, clock)
				l.drain()
				b := &bench{t: t}
				b.wait("the spool to drain", func() bool { return l.recorder.spool.index.state().items == 0 })
				l.crash()
				got := store.occurrences()
				for kind := range kinds {
					least, most := accepted[kind], accepted[kind]+unknown[kind]
					if n := got[fmt.Sprint("kind ", kind)]; n < least || n > most || !crashes && unknown[kind] > 0 {
						t.Errorf("kind %d: %d occurrences of %d accepted and %d unknown", kind, n, least, unknown[kind])
					}
				}
			})
		}
	}
}

func TestSpoolIsBounded(t *testing.T) {
	store, clock := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime)
	store.trouble = func() trouble { return isAway }
	l := newLife(t, t.TempDir(), 20_000, store, clock)
	defer l.crash()
	record := func(n int, sender string) error {
		a := kindAlert(n, 0)
		a.spec.SubmittedBy = sender
		return l.recorder.record("security", a).err
	}
	kept := 0
	var err error
	for ; err == nil && kept < 1000; kept++ {
		err = record(kept, "flood")
	}
	problem := asProblem(err)
	if problem.Status != http.StatusServiceUnavailable || problem.retryAfter == 0 || !strings.Contains(problem.Detail, "three quarters") {
		t.Errorf("the flood is told %+v, want 503 that says why", problem)
	}
	for err = nil; err == nil && kept < 1000; kept++ {
		err = record(kept, "other")
	}
	problem = asProblem(err)
	if problem.Status != http.StatusServiceUnavailable || problem.retryAfter == 0 || !strings.Contains(problem.Detail, "--spool-max-bytes") {
		t.Errorf("the other is told %+v, want 503 that says why", problem)
	}
	if state := l.recorder.spool.index.state(); !state.full || state.bytes > 20_000 || state.bytes < 18_000 {
		t.Errorf("the spool is %+v, want it full", state)
	}
}

// TestSpoolRefusesWhatTheServerWould: a native alert that is not valid must be told so now.
func TestSpoolRefusesWhatTheServerWould(t *testing.T) {
	store, clock := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime)
	store.trouble = func() trouble { return isAway }
	l := newLife(t, t.TempDir(), DefaultSpoolMaxBytes, store, clock)
	defer l.crash()
	a := shellAlert(testTime)
	a.native, a.spec.Title = true, strings.Repeat("x", 300)
	o := l.recorder.record("security", a)
	if p := refusal(o.err, a); p.Status != http.StatusBadRequest || !strings.Contains(p.Detail, "spec.title") {
		t.Errorf("told %+v, want 400 about spec.title", p)
	}
	if state := l.recorder.spool.index.state(); state.items != 0 || state.bytes != 0 || len(l.recorder.spool.index.marked) != 0 {
		t.Errorf("the spool is %+v, want it empty", state)
	}
}

// TestDamagedSpoolIsSetAside keeps the file for people, and goes on.
func TestDamagedSpoolIsSetAside(t *testing.T) {
	folder := t.TempDir()
	writeFile(t, filepath.Join(folder, spoolFile), strings.Repeat("no database ", 5000))
	s, aside, err := openSpool(folder, DefaultSpoolMaxBytes, clocktesting.NewFakeClock(testTime))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.close() }()
	if !strings.HasPrefix(aside, filepath.Join(folder, spoolFile+damagedSuffix)) || setAside(folder) != 1 {
		t.Errorf("set aside as %q, %d files", aside, setAside(folder))
	}
}

// TestSpoolThatCannotBeReadNowStays: what may pass does not throw alerts away.
func TestSpoolThatCannotBeReadNowStays(t *testing.T) {
	clock, folder := clocktesting.NewFakeClock(testTime), t.TempDir()
	path := filepath.Join(folder, spoolFile)
	if err := os.Mkdir(path, 0o700); err != nil { // reading and writing it are I/O errors
		t.Fatal(err)
	}
	if _, aside, err := openSpool(folder, DefaultSpoolMaxBytes, clock); err == nil || aside != "" || !strings.Contains(err.Error(), path) {
		t.Errorf("set aside as %q with error %v, want an error that names the file", aside, err)
	}
	if _, err := os.Stat(path); err != nil || setAside(folder) != 0 {
		t.Errorf("the file must stay: %v, %d set aside", err, setAside(folder))
	}
	for name, test := range map[string]struct {
		err     error
		content string
		want    bool
	}{
		"an I/O error":            {syscall.EIO, strings.Repeat("x", 3*os.Getpagesize()), false},
		"a full disk":             {syscall.ENOSPC, strings.Repeat("x", 3*os.Getpagesize()), false},
		"no database":             {bolterrors.ErrInvalid, strings.Repeat("x", 3*os.Getpagesize()), true},
		"a wrong sum":             {bolterrors.ErrChecksum, strings.Repeat("x", 3*os.Getpagesize()), true},
		"a file that was cut off": {errors.New("file size too small"), "x", true},
	} {
		file := filepath.Join(t.TempDir(), spoolFile)
		writeFile(t, file, test.content)
		if got := damaged(file, fmt.Errorf("opening: %w", test.err)); got != test.want {
			t.Errorf("%s: damaged is %t, want %t", name, got, test.want)
		}
	}
	if damaged(path, bolterrors.ErrInvalid) {
		t.Error("what cannot be read is damaged, want it to pass")
	}
}

// TestUnreadableAlertIsBuried: one alert on disk that cannot be read does not cost the others.
func TestUnreadableAlertIsBuried(t *testing.T) {
	store, clock, folder := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime), t.TempDir()
	store.trouble = func() trouble { return isAway }
	l := newLife(t, folder, DefaultSpoolMaxBytes, store, clock)
	for n := range 3 {
		if o := l.recorder.record("security", kindAlert(n, n)); !o.spooled {
			t.Fatalf("alert %d: %+v, want it spooled", n, o)
		}
	}
	l.spoil()
	l.crash()
	for range 2 {
		l = newLife(t, folder, DefaultSpoolMaxBytes, store, clock)
		if state := l.recorder.spool.index.state(); state.items != 2 || state.buried != 1 {
			t.Errorf("the spool is %+v, want two alerts and one buried", state)
		}
		l.crash()
	}
}

// spoil makes the first alert of the spool unreadable.
func (l *life) spoil() {
	l.t.Helper()
	if err := l.recorder.spool.write(func(tx *bolt.Tx) error {
		first, _ := tx.Bucket(bucketAlerts).Cursor().First()
		return tx.Bucket(bucketAlerts).Put(slices.Clone(first), []byte("{"))
	}); err != nil {
		l.t.Fatal(err)
	}
}

// TestSpoolKeepsAllOfAnAlert holds the spool to the fields there are.
func TestSpoolKeepsAllOfAnAlert(t *testing.T) {
	// Not kept: what has a problem never goes there, and a delivery is remembered in front of it.
	if got, want := fieldsOf(alert{}), []string{"spec", "native", "pointer", "problem", "undated", "unhashed", "delivery", "single", "window"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("an alert has the fields %v, the spool keeps %v: extend spooledAlert", got, want)
	}
}

func fieldsOf(value any) (names []string) {
	for field := range reflect.TypeOf(value).Fields() {
		names = append(names, field.Name)
	}
	return names
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRefusedForGoodStandsInNobodysWay: an alert whose namespace has gone is kept aside, and
// one that fails each time does not keep the others from being recorded.
func TestRefusedForGoodStandsInNobodysWay(t *testing.T) {
	store, clock, folder := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime), t.TempDir()
	passTime(t, clock)
	store.trouble = func() trouble { return isAway }
	l := newLife(t, folder, DefaultSpoolMaxBytes, store, clock)
	for n, namespace := range []string{"gone", "broken", "security", "security"} {
		if o := l.recorder.record(namespace, kindAlert(n, n)); !o.spooled {
			t.Fatalf("alert %d: %+v, want it spooled", n, o)
		}
	}
	store.set(func() {
		store.trouble = nil
		store.refuse = map[string]error{
			"gone":   problemf(http.StatusNotFound, "no-such-namespace", "", "namespaces \"gone\" not found"),
			"broken": errAway,
		}
	})
	l.drain()
	b := &bench{t: t}
	b.wait("the others to be recorded", func() bool { return len(store.occurrences()) == 2 && l.drainer.refused.Load() == 1 })
	l.crash()
	l = newLife(t, folder, DefaultSpoolMaxBytes, store, clock)
	defer l.crash()
	if state := l.recorder.spool.index.state(); state.items != 1 || state.buried != 1 {
		t.Errorf("the spool is %+v, want one left and one aside", state)
	}
}
