package receiver

import (
	"fmt"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// TestPagesEndByBytes: what is drained at a time fits in memory, however large alerts are.
func TestPagesEndByBytes(t *testing.T) {
	x := newSpoolIndex(1 << 40)
	for n := range int64(20) {
		x.load(item{sequence: n + 1, key: spoolKey{byte(n)}, bytes: pageBytes / 4, sender: "sender"})
	}
	most := pageRoom{items: pageItems, kinds: pageKinds, bytes: pageBytes}
	page, passed := x.page("sender", 0, most, nil)
	if len(page) != 4 || passed != 4 {
		t.Errorf("the first page has %d alerts up to %d, want 4", len(page), passed)
	}
	skip := map[spoolKey]bool{{4}: true}
	if page, passed = x.page("sender", passed, most, skip); len(page) != 4 || page[0].sequence != 6 || passed != 9 {
		t.Errorf("the second page is %v up to %d, want 4 from the sixth on", page, passed)
	}
	if page, _ = x.page("sender", 0, pageRoom{items: 1, kinds: 1, bytes: 1}, nil); len(page) != 1 {
		t.Errorf("the smallest page is %v, want one alert", page)
	}
}

// TestSpoolWaitsForNobodyElse: who comes to the spool while a page of another's is being written,
// which does not end, is recorded.
func TestSpoolWaitsForNobodyElse(t *testing.T) {
	store, clock := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime)
	store.trouble = func() trouble { return isAway }
	l := newLife(t, t.TempDir(), DefaultSpoolMaxBytes, store, clock)
	l.spoolAll(2*pageKinds, func(int) string { return "flood" })
	release := make(chan struct{})
	store.set(func() { store.trouble, store.hold, store.holdOf = nil, release, "flood" })
	l.drain()
	b := &bench{t: t}
	b.wait("the flood to be written", func() bool { return store.held.Load() > 0 })
	l.recorder.availability.away.Store(true)
	l.spoolAll(1, func(int) string { return "single" })
	l.recorder.availability.away.Store(false)
	b.wait("the single alert to be recorded", func() bool { return len(store.occurrences()) > 0 })
	close(release)
	b.wait("the spool to drain", func() bool { return l.recorder.spool.index.state().items == 0 })
	if got := len(store.occurrences()); got != 2*pageKinds+1 {
		t.Errorf("%d events, want %d", got, 2*pageKinds+1)
	}
	l.crash()
}

// TestFewHaveLanesLeft: while more senders than there are lanes flood, and their pages do not end, who
// has a single alert is recorded, and none of the floods loses its turn by that.
func TestFewHaveLanesLeft(t *testing.T) {
	const floods = maxLanes + 4
	store, clock := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime)
	store.trouble = func() trouble { return isAway }
	l := newLife(t, t.TempDir(), DefaultSpoolMaxBytes, store, clock)
	defer l.crash()
	l.spoolAll(floods*2*fewItems, func(n int) string { return fmt.Sprint("flood ", n%floods) })
	l.spoolAll(1, func(int) string { return "single" })
	store.set(func() { store.trouble = nil })
	l.recorder.availability.away.Store(false)
	d := l.drainer
	d.begin()
	if d.out != manyLanes+1 || d.manyOut != manyLanes || d.lanes["single"] == nil || !d.lanes["single"].out {
		t.Fatalf("%d pages are being written, %d of floods; want %d, and the single alert's", d.out, d.manyOut, manyLanes)
	}
	first := map[string]bool{}
	for d.out > 0 { // the next are begun when all of these have ended
		ended := <-d.done
		first[ended.lane.sender] = true
		d.end(ended)
	}
	d.begin()
	for sender, l := range d.lanes {
		if !l.out && !first[sender] {
			t.Errorf("%s has lost its turn", sender)
		}
	}
	for ; d.out > 0; d.begin() {
		d.end(<-d.done)
	}
	if state := l.recorder.spool.index.state(); state.items != 0 || d.manyOut != 0 || d.outBytes != 0 {
		t.Errorf("%d alerts are left, %d pages of floods, %d bytes", state.items, d.manyOut, d.outBytes)
	}
}

// TestPagesOutAreBounded: pages that are being written fit in memory together, in whatever order their
// senders come, and who comes last still has one.
func TestPagesOutAreBounded(t *testing.T) {
	const size, each = 16 << 10, 600
	store, clock := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime)
	l := newLife(t, t.TempDir(), DefaultSpoolMaxBytes, store, clock)
	defer l.crash()
	d := l.drainer
	for n := range manyLanes {
		for i := range int64(each) {
			l.recorder.spool.index.load(item{sequence: int64(n)*each + i + 1, key: spoolKey{byte(n)}, bytes: size, sender: fmt.Sprint("sender ", n)})
		}
		d.begin() // one more each time; nothing ends, because nobody is told
		if d.out != n+1 || d.outBytes > pageBytes+maxLanes*size {
			t.Fatalf("%d pages of %d bytes are being written, want %d of at most %d", d.out, d.outBytes, n+1, pageBytes)
		}
	}
	for d.out > 0 {
		d.end(<-d.done)
	}
	if d.outBytes != 0 {
		t.Errorf("%d bytes are left of pages that have ended", d.outBytes)
	}
}

// spoolAll has so many alerts, each about something else, come into the spool.
func (l *life) spoolAll(alerts int, sender func(n int) string) {
	l.t.Helper()
	var sending sync.WaitGroup
	for n := range alerts {
		sending.Go(func() {
			a := kindAlert(n, n)
			a.spec.SubmittedBy = sender(n)
			a.spec.Fingerprint += " of " + a.spec.SubmittedBy
			if o := l.recorder.record("security", a); !o.spooled {
				l.t.Errorf("alert %d: %+v, want it spooled", n, o)
			}
		})
	}
	sending.Wait()
}

// TestLanesTakeTurns: of many senders with alerts in the spool each has a page in turn.
func TestLanesTakeTurns(t *testing.T) {
	const senders, pages = 2 * maxLanes, 6
	store, clock := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime)
	store.trouble = func() trouble { return isAway }
	l := newLife(t, t.TempDir(), DefaultSpoolMaxBytes, store, clock)
	defer l.crash()
	l.spoolAll(senders*pages*pageKinds/maxLanes, func(n int) string { return fmt.Sprint("sender ", n%senders) })
	store.set(func() { store.trouble = nil })
	l.recorder.availability.away.Store(false)
	d, written := l.drainer, map[string]int{}
	for d.begin(); d.out > 0; d.begin() {
		if d.out > maxLanes {
			t.Fatalf("%d pages are written at a time, want at most %d", d.out, maxLanes)
		}
		ended := <-d.done
		d.end(ended)
		if written[ended.lane.sender]++; len(written) < senders && written[ended.lane.sender] > 1+senders/maxLanes {
			t.Fatalf("%s had %d pages, and %d senders none", ended.lane.sender, written[ended.lane.sender], senders-len(written))
		}
	}
	if state := l.recorder.spool.index.state(); state.items != 0 || len(d.lanes) != 0 || len(written) != senders {
		t.Errorf("%d alerts and %d lanes are left, %d senders had a page", state.items, len(d.lanes), len(written))
	}
}

// TestLanesAreForgotten: who has nothing in the spool any more counts nowhere, whoever has come meanwhile.
func TestLanesAreForgotten(t *testing.T) {
	store, clock := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime)
	store.trouble = func() trouble { return isAway }
	l := newLife(t, t.TempDir(), DefaultSpoolMaxBytes, store, clock)
	defer l.crash()
	d := l.drainer
	d.laneOf("gone").waiting = 3
	d.blocked.Store(3)
	l.spoolAll(2, func(n int) string { return fmt.Sprint("sender ", n) })
	d.until = time.Time{}
	for d.begin(); d.out > 0; {
		d.end(<-d.done)
	}
	if d.lanes["gone"] != nil || d.blocked.Load() != 0 {
		t.Errorf("%d lanes, %d alerts blocked; want none of who has gone", len(d.lanes), d.blocked.Load())
	}
}

// TestUnreadableAlertStandsInNobodysWay: one that becomes unreadable while the receiver runs is set
// aside, and those after it, also of its own identity, are recorded.
func TestUnreadableAlertStandsInNobodysWay(t *testing.T) {
	store, clock, folder := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime), t.TempDir()
	store.trouble = func() trouble { return isAway }
	l := newLife(t, folder, DefaultSpoolMaxBytes, store, clock)
	for n := range 4 {
		if o := l.recorder.record("security", kindAlert(n%2, n)); !o.spooled {
			t.Fatalf("alert %d: %+v, want it spooled", n, o)
		}
	}
	l.spoil()
	store.set(func() { store.trouble = nil })
	l.recorder.availability.away.Store(false)
	l.pass()
	clock.Step(countEvery)
	l.pass()
	if state := l.recorder.spool.index.state(); state.items != 0 || state.buried != 1 || l.drainer.refused.Load() != 1 {
		t.Errorf("%d alerts are in the spool, %d buried, %d refused; want none, one and one", state.items, state.buried, l.drainer.refused.Load())
	}
	if got := store.occurrences(); got["kind 0"] != 1 || got["kind 1"] != 2 {
		t.Errorf("occurrences %v, want one of kind 0, whose first was not readable, and two of kind 1", got)
	}
	l.crash()
	l = newLife(t, folder, DefaultSpoolMaxBytes, store, clock)
	if state := l.recorder.spool.index.state(); state.items != 0 || state.buried != 1 {
		t.Errorf("after a start the spool is %+v, want one buried", state)
	}
	l.crash()
}
