package receiver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/cache"
	clocktesting "k8s.io/utils/clock/testing"
)

// reportYard is a domain to which reports are brought.
type reportYard struct {
	*bench
	queue  *reportQueue
	target *reportTarget
	// files are the reports that can be read.
	mutex sync.Mutex
	files map[types.NamespacedName][]numbered
	fails error
	reads int
}

func newReportYard(t *testing.T) *reportYard {
	y := &reportYard{bench: &bench{t: t, store: newMemoryStore(reportsCounter), clock: clocktesting.NewFakeClock(testTime)}, files: map[types.NamespacedName][]numbered{}}
	r := &reports{
		recorder: newRecorder(y.store, reportsCounter, y.clock, logr.Discard()), clock: y.clock, log: logr.Discard(), metrics: newMetrics(&Handler{availability: &availability{}}),
		longest: longestReportPause, pages: make(chan struct{}, 1), recorded: cache.NewLRUExpireCacheWithClock(maxReported, y.clock),
	}
	y.target = &reportTarget{source: reportSource(t, nil)}
	y.queue = newReportQueue(r, "security")
	y.queue.fetch = func(_ context.Context, ref reportRef) ([]numbered, error) {
		y.mutex.Lock()
		defer y.mutex.Unlock()
		y.reads++
		return append([]numbered(nil), y.files[ref.NamespacedName]...), y.fails
	}
	return y
}

// results are those of a report, each about another policy.
func (y *reportYard) results(namespace, name, source string, count int) []numbered {
	y.t.Helper()
	var list []string
	for n := range count {
		list = append(list, fmt.Sprintf(`{"source":"%s","policy":"%s-%d","result":"fail","timestamp":{"seconds":%d}}`, source, name, n, testTime.Unix()-60))
	}
	body := fmt.Sprintf(`{"kind":"PolicyReport","metadata":{"name":"%s","namespace":"%s","uid":"u"},"results":[%s]}`, name, namespace, strings.Join(list, ","))
	alerts, _, err := parseReport(testReport([]byte(body)), y.target.source)
	if err != nil {
		y.t.Fatal(err)
	}
	return alerts
}

func (y *reportYard) ref(namespace, name string) reportRef {
	return reportRef{target: y.target, NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

func (y *reportYard) put(namespace, name, source string, count int) {
	y.t.Helper()
	alerts := y.results(namespace, name, source, count)
	y.mutex.Lock()
	y.files[types.NamespacedName{Namespace: namespace, Name: name}] = append([]numbered(nil), alerts...)
	y.mutex.Unlock()
	ref := y.ref(namespace, name)
	ref.maker = source
	if err := y.queue.put(y.t.Context(), ref, alerts); err != nil {
		y.t.Fatal(err)
	}
}

// start records until the test ends.
func (y *reportYard) start() {
	ctx, stop := context.WithCancel(y.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); y.queue.run(ctx) }()
	y.t.Cleanup(func() { stop(); <-done })
	passTime(y.t, y.clock)
}

func (y *reportYard) made() int {
	y.store.mutex.Lock()
	defer y.store.mutex.Unlock()
	return len(y.store.events)
}

func (y *reportYard) left() (spaces, unread int, held int64) {
	y.queue.mutex.Lock()
	defer y.queue.mutex.Unlock()
	return len(y.queue.spaces), len(y.queue.unread), y.queue.held.Load()
}

// TestReportsTakeTurns has one namespace report 5,000 results, in more reports than are kept, and
// then another one, and another maker in the same namespace one more.
func TestReportsTakeTurns(t *testing.T) {
	const many, results = 100, 50
	y := newReportYard(t)
	for n := range many {
		y.put("shop", fmt.Sprint("flood-", n), "trivy", results)
	}
	y.files[types.NamespacedName{Namespace: "bank", Name: "unread"}] = y.results("bank", "unread", "trivy", 1)
	if _, unread, held := y.left(); unread == 0 || unread == many || held > 2*spaceBytes {
		t.Fatalf("%d of %d reports are to be read again, %d bytes are held: want some, and few bytes", unread, many, held)
	}
	// turns are how many others have theirs until a policy has its own.
	turns := func(policy string) (others int) {
		for ; others <= many*results; others++ {
			job, _ := y.queue.pick()
			y.queue.do(t.Context(), job)
			if job.read && job.alerts[0].spec.Source.Rule == policy {
				return others
			}
		}
		t.Fatalf("%s has no turn", policy)
		return 0
	}
	turns("flood-2-0")
	y.put("bank", "single", "trivy", 1)
	if got := turns("single-0"); got > 1 {
		t.Errorf("%d of the flood had their turn before one of another namespace, want at most one", got)
	}
	y.put("shop", "other", "kyverno", 1)
	if got := turns("other-0"); got > 1 {
		t.Errorf("%d of the flood had their turn before one of another maker, want at most one", got)
	}
	if err := y.queue.putUnread(t.Context(), y.ref("bank", "unread")); err != nil {
		t.Fatal(err)
	}
	if got := turns("unread-0"); got > 3 { // it has one to be read, and one to be recorded
		t.Errorf("%d of the flood had their turn before a report of another namespace was read and recorded, want at most three", got)
	}
	y.start()
	y.wait("all of the flood", func() bool { return y.made() == many*results+3 })
	y.wait("nothing to be left", func() bool { spaces, unread, held := y.left(); return spaces == 0 && unread == 0 && held == 0 })
	if got := y.store.occurrences(); len(got) != many*results+3 {
		t.Errorf("%d results are recorded, want %d", len(got), many*results+3)
	}
	for what, count := range y.store.occurrences() {
		if count != 1 {
			t.Errorf("%s is counted %d times, want once", what, count)
		}
	}
}

// TestReportsAreTriedAgain has the API server away while results are recorded, and while reports
// are read.
func TestReportsAreTriedAgain(t *testing.T) {
	y := newReportYard(t)
	y.store.set(func() { y.store.trouble = func() trouble { return isAway } })
	y.put("shop", "first", "trivy", 20)
	y.mutex.Lock()
	y.fails = errors.New("away")
	y.files[types.NamespacedName{Namespace: "shop", Name: "second"}] = y.results("shop", "second", "trivy", 20)
	y.mutex.Unlock()
	for range 2 { // which is once
		if err := y.queue.putUnread(t.Context(), y.ref("shop", "second")); err != nil {
			t.Fatal(err)
		}
	}
	y.start()
	y.wait("it to be tried", func() bool {
		y.mutex.Lock()
		defer y.mutex.Unlock()
		return y.reads > 2
	})
	y.mutex.Lock()
	y.fails = nil
	y.mutex.Unlock()
	y.store.set(func() { y.store.trouble = nil })
	y.wait("all to be recorded", func() bool { spaces, _, _ := y.left(); return y.made() == 40 && spaces == 0 })
	if _, unread, held := y.left(); unread != 0 || held != 0 {
		t.Errorf("%d reports and %d bytes are left behind", unread, held)
	}
	// A report that has gone, and one that must not be read, keep nobody waiting.
	y.mutex.Lock()
	y.fails = apierrors.NewForbidden(events, "e", errAway)
	y.mutex.Unlock()
	if err := y.queue.putUnread(t.Context(), y.ref("shop", "third")); err != nil {
		t.Fatal(err)
	}
	y.wait("it to be let go", func() bool { spaces, unread, _ := y.left(); return spaces == 0 && unread == 0 })
}

// TestReportsWaitForNobodyElse: what cannot be read, or is not taken, of one namespace does not have
// others wait, and is tried again when it has rested.
func TestReportsWaitForNobodyElse(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		all  bool
		read bool
	}{
		"a read that is refused":   {err: apierrors.NewConflict(events, "e", errAway), read: true},
		"a read that takes long":   {err: fmt.Errorf("listing: %w", context.DeadlineExceeded), read: true},
		"a result that is refused": {err: apierrors.NewForbidden(events, "e", errAway)},
		"a webhook that is broken": {err: apierrors.NewInternalError(errAway)},
		"a server that is away":    {err: errAway, all: true},
	} {
		t.Run(name, func(t *testing.T) {
			y := newReportYard(t)
			ref := y.ref("shop", "broken")
			y.files[ref.NamespacedName] = y.results("shop", "broken", "trivy", 1)
			if test.read {
				y.fails = test.err
				if err := y.queue.putUnread(t.Context(), ref); err != nil {
					t.Fatal(err)
				}
			} else {
				y.store.refuse = map[string]error{"security": test.err}
				y.put("shop", "broken", "trivy", 1)
			}
			next := func() string {
				job, _ := y.queue.pick()
				if job == nil {
					return "nobody"
				}
				y.queue.do(t.Context(), job)
				return job.Namespace
			}
			if got := next(); got != "shop" || y.queue.failed != test.all {
				t.Fatalf("it was the turn of %s, all wait: %t; want shop, %t", got, y.queue.failed, test.all)
			}
			if test.all {
				return
			}
			y.store.refuse, y.fails = nil, nil
			y.put("bank", "other", "trivy", 2)
			for turn, want := range []string{"bank", "bank", "nobody", "shop"} {
				if turn == 3 {
					y.clock.Step(reportPause)
				}
				if got := next(); got != want {
					t.Errorf("turn %d was that of %s, want %s", turn, got, want)
				}
			}
		})
	}
}

// TestReportMakersBeyond: however many makers a namespace has, the reports of each are in one queue
// while any of them are left.
func TestReportMakersBeyond(t *testing.T) {
	y := newReportYard(t)
	const makers = 3 * maxMakers
	for round := range 2 {
		for n := range makers {
			y.put("shop", fmt.Sprint("report-", n, "-", round), fmt.Sprint("maker-", n), 2)
		}
		if job, _ := y.queue.pick(); job == nil {
			t.Fatal("nothing is next")
		} else {
			y.queue.do(t.Context(), job)
		}
	}
	places := map[string]map[*reportMaker]bool{}
	space := y.queue.space("shop")
	for _, queue := range space.makers {
		for _, one := range queue.reports {
			if places[one.maker] == nil {
				places[one.maker] = map[*reportMaker]bool{}
			}
			places[one.maker][queue] = true
		}
	}
	for maker, queues := range places {
		if len(queues) != 1 {
			t.Errorf("the reports of %s are in %d queues, want one", maker, len(queues))
		}
	}
	if len(places) != makers || len(space.makers) > maxMakers+sharedQueues {
		t.Errorf("%d makers are in %d queues, want %d in at most %d", len(places), len(space.makers), makers, maxMakers+sharedQueues)
	}
}

// TestReportKeepsItsOrder: of one thing the earlier result is recorded first, or it would be taken for recorded.
func TestReportKeepsItsOrder(t *testing.T) {
	y := newReportYard(t)
	var alerts []numbered
	for n := range 5 {
		one := y.results("shop", "same", "trivy", 1)[0]
		one.number -= int64(time.Duration(n)*time.Second) / 1000
		alerts = append(alerts, one)
	}
	if err := y.queue.put(t.Context(), y.ref("shop", "same"), alerts); err != nil {
		t.Fatal(err)
	}
	y.start()
	y.wait("all to be recorded", func() bool { spaces, _, _ := y.left(); return spaces == 0 })
	for what, count := range y.store.occurrences() {
		if count != 5 {
			t.Errorf("%s is counted %d times, want 5", what, count)
		}
	}
}

// TestReportsWithoutMaker: reports that do not say what makes them share queues, each of them in one,
// whether it is to be read or was brought; and however many there are, one that does say it is by itself.
func TestReportsWithoutMaker(t *testing.T) {
	const reports = 10 * maxMakers
	y := newReportYard(t)
	for n := range reports {
		ref := y.ref("shop", fmt.Sprint("report-", n))
		if err := y.queue.putUnread(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		if err := y.queue.put(t.Context(), ref, y.results("shop", ref.Name, "trivy", 3)); err != nil {
			t.Fatal(err)
		}
	}
	makers := y.queue.space("shop").makers
	if len(makers) > sharedQueues {
		t.Errorf("the reports are in %d queues, want at most %d", len(makers), sharedQueues)
	}
	places := map[string]*reportMaker{}
	for _, maker := range makers {
		for _, one := range maker.reports {
			if other := places[one.Name]; other != nil && other != maker {
				t.Fatalf("%s is in two queues", one.Name)
			}
			places[one.Name] = maker
		}
	}
	if len(places) != reports {
		t.Errorf("%d reports are there, want %d", len(places), reports)
	}
	for n := range maxMakers {
		y.put("shop", fmt.Sprint("named-", n), fmt.Sprint("maker-", n), 1)
	}
	for _, maker := range y.queue.space("shop").makers {
		for _, one := range maker.reports {
			if one.maker != "" && len(maker.reports) != 1 {
				t.Errorf("%s shares its queue with %d others, want it by itself", one.Name, len(maker.reports)-1)
			}
		}
	}
}
