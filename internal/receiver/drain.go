package receiver

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
)

const (
	// pageItems is how many alerts of the spool are written at a time, and pageKinds of how
	// many events. Senders share both.
	pageItems, pageKinds = 4096, 256
	// pageBytes ends pages earlier: all that is being written is in memory, several times over.
	pageBytes = 8 << 20
	// maxLanes is of how many senders something is written at a time, and manyLanes of how many who
	// have more than fewItems in the spool: who has few does not wait for the pages of many floods.
	maxLanes, manyLanes, fewItems = 16, 14, 16
	// passPages bounds a pass, so that what was left is tried again though more keeps coming.
	passPages = 64
	// firstPause and longestPause are between tries while the API server is away.
	firstPause, longestPause = 200 * time.Millisecond, 2 * time.Second
)

// drainer takes alerts from the spool to the API server: of each sender the oldest first. Nobody
// waits for what another has there: a page takes long when many alerts are in it, and where
// counters rest. Its fields belong to the goroutine that runs it.
type drainer struct {
	recorder *recorder
	lanes    map[string]*lane
	// last is the sender whose page was begun last.
	last string
	// out is how many pages are being written, each of another lane, and done has those that were.
	out  int
	done chan pageEnd
	// manyOut is how many of these pages are of senders with more than few items.
	manyOut int
	// outBytes is how many bytes are in the pages that are being written.
	outBytes int64
	// pause is how long is waited between tries while the API server is away, and until when.
	pause time.Duration
	until time.Time

	drained atomic.Int64
	refused atomic.Int64
	// blocked is how many alerts wait because the API server answered that it does not take
	// them, which lasts until somebody does something about it.
	blocked atomic.Int64
	// said are the reasons for that of which the log was told of late.
	said *cache.LRUExpireCache
}

// lane is the way of one sender's alerts out of the spool. A pass tries all of them once.
type lane struct {
	sender string
	out    bool
	// many says that there were more than few items when its page was begun.
	many bool
	// bytes is how many are in the page that is being written.
	bytes int64
	// passed is the last number that this pass has come to, in so many pages.
	passed int64
	pages  int
	// left could not be written in this pass, blocked of them is what the API server does not take.
	left, blocked map[spoolKey]bool
	// waiting is how many alerts were blocked in the last pass.
	waiting int64
	// pause is how long this pass waits before what it has left is tried again, and until when.
	// Those that come meanwhile do not wait.
	pause time.Duration
	until time.Time
}

// pageEnd is what became of a page.
type pageEnd struct {
	lane    *lane
	left    []item
	blocked map[spoolKey]bool
}

// blockedEvery is how often the log is told why alerts of a namespace wait, and maxReasons how
// many reasons are told apart.
const blockedEvery, maxReasons = time.Minute, 256

func newDrainer(r *recorder) *drainer {
	r.availability.back = make(chan struct{}, 1)
	return &drainer{
		recorder: r, lanes: map[string]*lane{}, done: make(chan pageEnd, maxLanes),
		said: cache.NewLRUExpireCacheWithClock(maxReasons, r.clock),
	}
}

// run drains until the context ends, and returns when it has let go of the spool.
func (d *drainer) run(ctx context.Context) {
	for ctx.Err() == nil {
		d.wait(ctx, d.begin()) //nolint:contextcheck // what is begun is finished
	}
	for d.out > 0 {
		d.end(<-d.done)
	}
}

// wait waits until there may be something to begin: at the latest after that long, when it is not 0.
func (d *drainer) wait(ctx context.Context, atMost time.Duration) {
	var timeout <-chan time.Time
	if atMost > 0 {
		timer := time.NewTimer(atMost)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case ended := <-d.done:
		d.end(ended)
	case <-d.recorder.spool.index.filled:
	case <-d.recorder.availability.back:
	case <-timeout:
	case <-ctx.Done():
	}
}

// begin begins to write a page of each sender of which none is being written, and says when
// to look again though nothing has happened; 0 is never. While the API server is away it tries
// one alert at a time, and each time another: that it fails for one may be due to that one.
func (d *drainer) begin() (again time.Duration) {
	now, away := time.Now(), d.recorder.availability.away.Load()
	if wait := d.until.Sub(now); away && wait > 0 {
		return wait
	}
	senders := d.recorder.spool.index.waitingSenders()
	d.forget(senders)
	at := slices.Index(senders, d.last) + 1
	share := max(1, min(len(senders), maxLanes))
	most := pageRoom{items: pageItems / share, kinds: pageKinds / share}
	if away {
		most.items = 1
	}
	passedOver := false
	for _, sender := range slices.Concat(senders[at:], senders[:at]) {
		if away && d.out > 0 {
			return firstPause
		}
		if d.out == maxLanes {
			return again // it goes on when a page has ended
		}
		l := d.laneOf(sender)
		if l.out {
			continue
		}
		if l.many = d.recorder.spool.index.itemsOf(sender) > fewItems; l.many && d.manyOut == manyLanes {
			passedOver = true
			continue
		}
		// Whoever comes while pages are being written finds some room left.
		most.bytes = max(1, min(pageBytes/int64(share), (pageBytes-d.outBytes)/2))
		page, wait := d.page(l, most, now)
		if again == 0 || wait > 0 && wait < again {
			again = wait
		}
		if len(page) == 0 {
			continue
		}
		if !passedOver { // or it would lose its turn
			d.last = sender
		}
		d.start(l, page, away)
	}
	return again
}

// start begins to write a page of a lane.
func (d *drainer) start(l *lane, page []item, away bool) {
	l.out, l.bytes = true, 0
	for i := range page {
		l.bytes += page[i].bytes
	}
	d.out++
	if l.many {
		d.manyOut++
	}
	d.outBytes += l.bytes
	go func() {
		left, blocked := d.write(page, away)
		d.done <- pageEnd{lane: l, left: left, blocked: blocked}
	}()
}

// laneOf is the lane of a sender.
func (d *drainer) laneOf(sender string) *lane {
	l := d.lanes[sender]
	if l == nil {
		l = &lane{sender: sender}
		l.rewind()
		d.lanes[sender] = l
	}
	return l
}

// forget forgets the lanes of senders of whom nothing is in the spool.
func (d *drainer) forget(senders []string) {
	there := map[string]bool{}
	for _, sender := range senders {
		there[sender] = true
	}
	for sender, l := range d.lanes {
		if !l.out && !there[sender] {
			d.blocked.Add(-l.waiting)
			delete(d.lanes, sender)
		}
	}
}

// rewind begins the next pass at the front.
func (l *lane) rewind() {
	l.passed, l.pages, l.until = 0, 0, time.Time{}
	l.left, l.blocked = map[spoolKey]bool{}, map[spoolKey]bool{}
}

// page gives the next page of a lane, or how long it waits when it has come to the end of its pass
// and has left something.
func (d *drainer) page(l *lane, most pageRoom, now time.Time) (page []item, wait time.Duration) {
	index := d.recorder.spool.index
	for {
		if l.pages < passPages {
			if page, l.passed = index.page(l.sender, l.passed, most, l.left); len(page) > 0 {
				l.pages++
				return page, 0
			}
		}
		if l.until.IsZero() && !d.endPass(l, now) {
			if l.passed == 0 {
				return nil, 0
			}
			l.until = now // numbers are given before alerts are on disk: a lower one may have come since
		}
		if wait = l.until.Sub(now); wait > 0 {
			return nil, wait
		}
		l.rewind()
	}
}

// endPass ends a pass, and says whether there must be another.
func (d *drainer) endPass(l *lane, now time.Time) (again bool) {
	before := l.waiting
	l.waiting = d.recorder.spool.index.waiting(l.blocked)
	d.blocked.Add(l.waiting - before)
	if l.waiting == 0 {
		l.pause = 0 // it is others of their kind that they wait for
	}
	if len(l.left) == 0 && l.pages < passPages {
		return false
	}
	if len(l.left) > 0 {
		l.pause = min(max(firstPause, 2*l.pause), longestPause)
	}
	l.until = now.Add(l.pause)
	return true
}

// end takes down what became of a page. The longer the API server is away, the longer it is
// left alone.
func (d *drainer) end(ended pageEnd) {
	l := ended.lane
	l.out = false
	d.out--
	if l.many {
		d.manyOut--
	}
	d.outBytes -= l.bytes
	for _, i := range ended.left {
		l.left[i.key] = true
	}
	maps.Copy(l.blocked, ended.blocked)
	now := time.Now()
	switch {
	case !d.recorder.availability.away.Load():
		d.pause = 0
	case !now.Before(d.until):
		d.pause = min(max(firstPause, 2*d.pause), longestPause)
		d.until = now.Add(d.pause)
	}
}

// write writes a page, forgets what is in the API server, and returns what is left, and of that what
// the API server does not take.
func (d *drainer) write(page []item, probe bool) (left []item, blocked map[spoolKey]bool) {
	r := d.recorder
	blocked = map[spoolKey]bool{}
	page, kept, err := d.read(page)
	if err != nil {
		r.log.Error(err, "the spool cannot be read")
		return page, blocked
	}
	deliveries := make([]*delivery, len(page))
	for i := range page {
		deliveries[i] = &delivery{
			alert: kept[i].alert(), done: make(chan outcome, 1), sequence: page[i].sequence, spooled: true, doubt: true, probe: probe,
		}
		// It is numbered, so there is no error.
		_, _ = r.enqueue(identify(kept[i].Namespace, deliveries[i].alert), deliveries[i])
	}
	var gone []item
	reasons := map[int64]string{}
	for i, delivery := range deliveries {
		o := <-delivery.done
		switch {
		case o.err == nil:
			gone = append(gone, page[i])
		case passing(o.err, delivery.alert):
			left = append(left, page[i])
			if lasting(o.err) {
				blocked[page[i].key] = true
				d.tell(kept[i].Namespace, o.err)
			}
		default:
			gone = append(gone, page[i])
			reasons[page[i].sequence] = clean(o.err.Error(), maxDetail)
			r.log.Error(o.err, "an alert that was taken into the spool is refused by the API server; it stays in the spool's file, bucket 'refused'",
				"namespace", kept[i].Namespace, "title", kept[i].Spec.Title, "submittedBy", clean(kept[i].Spec.SubmittedBy, maxName), "sequence", page[i].sequence)
		}
	}
	if len(gone) == 0 {
		return left, blocked
	}
	if err := r.spool.remove(gone, reasons); err != nil {
		// They are recorded, and will be seen to be when they are tried again.
		r.log.Error(err, "the spool cannot be written")
		return page, blocked
	}
	d.drained.Add(int64(len(gone) - len(reasons)))
	d.refused.Add(int64(len(reasons)))
	return left, blocked
}

// read reads a page, and buries what of it is not readable: the rest is returned.
func (d *drainer) read(page []item) (readable []item, kept []spooledAlert, err error) {
	spool := d.recorder.spool
	all, unreadable, err := spool.read(page)
	if err != nil || len(unreadable) == 0 {
		return page, all, err
	}
	var gone []item
	for i, one := range page {
		reason, is := unreadable[one.sequence]
		if !is {
			readable, kept = append(readable, one), append(kept, all[i])
			continue
		}
		gone = append(gone, one)
		d.recorder.log.Info("an alert in the spool is not readable; it stays in the spool's file, bucket 'refused'",
			"reason", clean(reason, maxDetail), "submittedBy", clean(one.sender, maxName), "sequence", one.sequence)
	}
	if err := spool.remove(gone, unreadable); err != nil {
		return page, nil, err
	}
	d.refused.Add(int64(len(gone)))
	return readable, kept, nil
}

// tell tells the log, now and then, why alerts of a namespace stay in the spool.
func (d *drainer) tell(namespace string, err error) {
	key := namespace + " " + clean(err.Error(), maxDetail)
	if _, said := d.said.Get(key); said {
		return
	}
	d.said.Add(key, nil, blockedEvery)
	d.recorder.log.Error(err, "alerts stay in the spool, because the API server does not take them: they are tried again until it does", "namespace", namespace)
}
