package receiver

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
)

const (
	// pageItems is how many alerts of the spool are written at a time, and pageKinds of how
	// many events.
	pageItems, pageKinds = 4096, 256
	// pageBytes ends a page earlier: all of it is in memory, several times over.
	pageBytes = 8 << 20
	// passPages bounds a pass, so that what was left is tried again though more keeps coming.
	passPages = 64
	// firstPause and longestPause are between tries while the API server is away.
	firstPause, longestPause = 200 * time.Millisecond, 2 * time.Second
)

// drainer takes alerts from the spool to the API server: of each sender the oldest first,
// the senders in turns.
type drainer struct {
	recorder *recorder
	pause    time.Duration
	drained  atomic.Int64
	refused  atomic.Int64
	// blocked is how many alerts wait because the API server answered that it does not take
	// them, which lasts until somebody does something about it.
	blocked atomic.Int64
	// said are the reasons for that of which the log was told of late.
	said *cache.LRUExpireCache
}

// blockedEvery is how often the log is told why alerts of a namespace wait, and maxReasons how
// many reasons are told apart.
const blockedEvery, maxReasons = time.Minute, 256

func newDrainer(r *recorder) *drainer {
	return &drainer{recorder: r, said: cache.NewLRUExpireCacheWithClock(maxReasons, r.clock)}
}

// run drains until the context ends, and returns when it has let go of the spool.
func (d *drainer) run(ctx context.Context) {
	for ctx.Err() == nil {
		if !d.pass(ctx) {
			d.rest(ctx)
			continue
		}
		select {
		case <-d.recorder.spool.index.filled:
		case <-ctx.Done():
		}
	}
}

// rest waits before what failed is tried again: the longer, the longer the API server is away
// or does not take it.
func (d *drainer) rest(ctx context.Context) {
	if !d.recorder.availability.away.Load() && d.blocked.Load() == 0 {
		d.pause = 0
	}
	d.pause = min(max(firstPause, 2*d.pause), longestPause)
	timer := time.NewTimer(d.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pass tries everything in the spool once. False means that something is left. While the API
// server is away it tries one alert at a time, and each time another: that it fails for one
// may be due to that one.
func (d *drainer) pass(ctx context.Context) bool {
	r := d.recorder
	left, blocked := map[spoolKey]bool{}, map[spoolKey]bool{}
	defer r.spool.index.rewind()
	defer func() { d.blocked.Store(r.spool.index.waiting(blocked)) }()
	for n := 0; n < passPages && ctx.Err() == nil; n++ {
		most := pageItems
		if r.availability.away.Load() {
			most = 1
		}
		page := r.spool.index.page(most, left)
		if len(page) == 0 {
			return len(left) == 0
		}
		for _, i := range d.write(page, most == 1, blocked) { //nolint:contextcheck // what is begun is finished
			left[i.key] = true
		}
		if r.availability.away.Load() {
			d.rest(ctx)
		}
	}
	return false
}

// write writes a page, forgets what is in the API server, and returns what is left. Of that it
// takes down what the API server does not take.
func (d *drainer) write(page []item, probe bool, blocked map[spoolKey]bool) (left []item) {
	r := d.recorder
	kept, err := r.spool.read(page)
	if err != nil {
		r.log.Error(err, "the spool cannot be read")
		return page
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
		return left
	}
	if err := r.spool.remove(gone, reasons); err != nil {
		// They are recorded, and will be seen to be when they are tried again.
		r.log.Error(err, "the spool cannot be written")
		return page
	}
	d.drained.Add(int64(len(gone) - len(reasons)))
	d.refused.Add(int64(len(reasons)))
	return left
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
