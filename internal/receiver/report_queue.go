package receiver

import (
	"cmp"
	"context"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// reportRate and reportBurst bound how many results a second become alerts of one domain.
	reportRate, reportBurst = 50, 500
	// reportWorkers is how many results are recorded at a time in one domain.
	reportWorkers = 8
	// reportBytes is how much of what was read is kept until it is recorded, and spaceBytes how much
	// of one namespace in one domain, if it is not one report. Reports beyond that are read again
	// when it is their turn.
	reportBytes, spaceBytes = 32 << 20, 256 << 10
	// maxUnread is how many reports of one domain wait to be read. What is beyond waits in front.
	maxUnread = 65536
	// maxMakers is how many makers of reports are told apart in one namespace. Those beyond share
	// so many queues, and reports that do not name their maker as many others.
	maxMakers, sharedQueues = 64, 8
	// alertBytes is what an alert takes beside its texts, roughly.
	alertBytes = 1 << 10
)

// reportRef says which report it is, and who makes it, where the report says so.
type reportRef struct {
	target *reportTarget
	types.NamespacedName
	maker string
}

// shared is the number of the queue that the report shares with those of other makers, where it has
// none of its maker's own.
func (r reportRef) shared() int {
	name, first := r.maker, 1
	if name == "" { // those who do not say who they are must not stand in front of those who do
		name, first = r.Name, 1+sharedQueues
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(name)) // there is no error
	return first + int(hash.Sum32()%sharedQueues)
}

// reportQueue has what is to be recorded in one domain. Namespaces take turns, result by result,
// and in each of them those that make reports: however many one brings, another's waits for a
// few of them only. Results of one maker in one namespace stay in their order.
type reportQueue struct {
	*reports
	domain string
	pace   *rate.Limiter
	// fetch reads a report.
	fetch func(ctx context.Context, ref reportRef) ([]numbered, error)
	// changed is told when there is something to do.
	changed chan struct{}

	mutex sync.Mutex
	// failed says that the API server was found away, and pause for how long nothing was tried
	// the last time.
	failed bool
	pause  time.Duration
	spaces []*reportSpace // the next in turn first
	unread map[reportRef]bool
	// writing are the identities that are being recorded: their next result waits.
	writing map[spoolKey]bool
	reading bool
}

// reportSpace has what is to be recorded of the reports of one namespace, or of none.
type reportSpace struct {
	name   string
	bytes  int64
	makers []*reportMaker // the next in turn first
}

type reportMaker struct {
	name string
	// shared is the number of a queue that makers share, from 1 on; 0 is that it is one maker's.
	shared  int
	reports []*queuedReport
	// reading says that what is in front of the reports is being read, and out how many jobs of the
	// maker are being done.
	reading bool
	out     int
	// pause is how long nothing of the maker is tried because something of it could not be done,
	// and until when. Others do not wait for that.
	pause time.Duration
	until time.Time
}

// queuedReport is what is left of a report, or one that is to be read.
type queuedReport struct {
	reportRef
	read   bool
	alerts []numbered
}

// reportJob is one result to be recorded, or one report to be read.
type reportJob struct {
	queuedReport
	space *reportSpace
	maker *reportMaker
	key   spoolKey
}

func newReportQueue(r *reports, domain string) *reportQueue {
	return &reportQueue{
		reports: r, domain: domain, pace: rate.NewLimiter(reportRate, reportBurst), fetch: r.fetch, changed: make(chan struct{}, 1),
		unread: map[reportRef]bool{}, writing: map[spoolKey]bool{},
	}
}

// put has a report recorded.
func (q *reportQueue) put(ctx context.Context, ref reportRef, alerts []numbered) error {
	if alerts = q.fresh(alerts); len(alerts) == 0 {
		return nil
	}
	return q.add(ctx, &queuedReport{reportRef: ref, read: true, alerts: alerts})
}

// putUnread has a report read and recorded.
func (q *reportQueue) putUnread(ctx context.Context, ref reportRef) error {
	return q.add(ctx, &queuedReport{reportRef: ref})
}

// add waits until there is room for a report.
func (q *reportQueue) add(ctx context.Context, one *queuedReport) error {
	for !q.tryPut(one) {
		q.wait(ctx, reportPause)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	q.tell()
	return nil
}

// fresh are the alerts that are not known to be recorded. Of one thing the earlier result comes
// first: its number must not be below the counter's.
func (q *reportQueue) fresh(alerts []numbered) []numbered {
	alerts = slices.DeleteFunc(alerts, func(one numbered) bool {
		return q.known(identify(q.domain, &one.alert).key(), one.number)
	})
	slices.SortStableFunc(alerts, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	return alerts
}

// known says whether a result is known to be recorded.
func (r *reports) known(key spoolKey, number int64) bool {
	known, ok := r.recorded.Get(key)
	return ok && known.(int64) >= number
}

// tryPut puts a report into the queue, if there is room, or else which it is, if there is room
// for that.
func (q *reportQueue) tryPut(one *queuedReport) bool {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	space := q.space(one.Namespace)
	size := bytesOf(one.alerts)
	if one.read && (space.bytes > 0 && space.bytes+size > spaceBytes || q.held.Load()+size > reportBytes) {
		one.read, one.alerts, size = false, nil, 0
	}
	if !one.read {
		switch {
		case q.unread[one.reportRef]:
			return true
		case len(q.unread) >= maxUnread:
			return false
		}
		q.unread[one.reportRef] = true
	}
	q.hold(space, size)
	maker := space.maker(one.reportRef)
	maker.reports = append(maker.reports, one)
	return true
}

func (q *reportQueue) hold(space *reportSpace, bytes int64) {
	space.bytes += bytes
	q.held.Add(bytes)
}

func bytesOf(alerts []numbered) (sum int64) {
	for i := range alerts {
		spec := &alerts[i].spec
		sum += int64(alertBytes + len(spec.Title) + len(spec.Description))
		for name, value := range spec.Attributes {
			sum += int64(len(name) + len(value))
		}
	}
	return sum
}

func (q *reportQueue) space(name string) *reportSpace {
	for _, space := range q.spaces {
		if space.name == name {
			return space
		}
	}
	space := &reportSpace{name: name}
	q.spaces = append(q.spaces, space)
	return space
}

// maker is the queue of a report's maker, or one that it shares. As long as something of a maker is
// there, it is the same one: in two, a later result might be recorded first.
func (s *reportSpace) maker(ref reportRef) *reportMaker {
	shared, named := ref.shared(), 0
	var beyond *reportMaker
	for _, maker := range s.makers {
		switch maker.shared {
		case 0:
			if named++; maker.name == ref.maker {
				return maker
			}
		case shared:
			beyond = maker
		}
	}
	if beyond != nil {
		return beyond
	}
	maker := &reportMaker{name: ref.maker}
	if ref.maker == "" || named >= maxMakers {
		maker = &reportMaker{shared: shared}
	}
	s.makers = append(s.makers, maker)
	return maker
}

func (q *reportQueue) tell() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// run records until the context ends.
func (q *reportQueue) run(ctx context.Context) {
	var working sync.WaitGroup
	defer working.Wait()
	slots := make(chan struct{}, reportWorkers)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		job := q.next(ctx)
		if job == nil {
			return
		}
		working.Go(func() {
			defer func() { <-slots }()
			q.do(ctx, job)
		})
	}
}

// next waits for the next job that may be done; nil means that the context has ended.
func (q *reportQueue) next(ctx context.Context) *reportJob {
	for ctx.Err() == nil {
		q.rest(ctx)
		job, later := q.pick()
		if job == nil {
			var again <-chan time.Time
			if later {
				again = q.clock.After(reportPause)
			}
			select {
			case <-q.changed:
			case <-again:
			case <-ctx.Done():
			}
			continue
		}
		if job.read && !q.known(job.key, job.alerts[0].number) {
			now := q.clock.Now()
			if wait := q.pace.ReserveN(now, 1).DelayFrom(now); wait > 0 {
				q.wait(ctx, wait)
			}
		}
		return job
	}
	return nil
}

// rest waits when the API server was found away: the longer, the longer that lasts.
func (q *reportQueue) rest(ctx context.Context) {
	q.mutex.Lock()
	failed := q.failed
	if q.failed = false; failed {
		q.pause = min(max(reportPause, 2*q.pause), q.longest)
	}
	pause := q.pause
	q.mutex.Unlock()
	if failed {
		q.wait(ctx, pause)
	}
}

// pick takes what is next in turn; nil is nothing. Later there may be something because of what
// happens in another domain, or because a maker has rested.
func (q *reportQueue) pick() (next *reportJob, later bool) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	now := q.clock.Now()
	later = len(q.unread) > 0
	for i, space := range q.spaces {
		for k, maker := range space.makers {
			if now.Before(maker.until) {
				later = true
				continue
			}
			job := q.pickOf(space, maker)
			if job == nil {
				continue
			}
			space.makers = append(slices.Delete(space.makers, k, k+1), maker)
			q.spaces = append(slices.Delete(q.spaces, i, i+1), space)
			return job, false
		}
	}
	return nil, later
}

func (q *reportQueue) pickOf(space *reportSpace, maker *reportMaker) *reportJob {
	if maker.reading || len(maker.reports) == 0 {
		return nil
	}
	front := maker.reports[0]
	job := &reportJob{queuedReport: *front, space: space, maker: maker}
	if !front.read {
		if q.reading || q.held.Load() > reportBytes {
			return nil
		}
		q.reading, maker.reading = true, true
		delete(q.unread, front.reportRef)
		maker.reports = maker.reports[1:]
		maker.out++
		return job
	}
	job.alerts = front.alerts[:1]
	if job.key = identify(q.domain, &job.alerts[0].alert).key(); q.writing[job.key] {
		return nil // its next result waits, or the counter would be above its number
	}
	q.writing[job.key] = true
	if front.alerts = front.alerts[1:]; len(front.alerts) == 0 {
		maker.reports = maker.reports[1:]
	}
	maker.out++
	return job
}

// do does a job. What could not be done now goes back to the front of its maker's.
func (q *reportQueue) do(ctx context.Context, job *reportJob) {
	var back *queuedReport
	var err error
	switch {
	case !job.read:
		back, err = q.readOne(ctx, job)
	case q.known(job.key, job.alerts[0].number): // it was there twice
	default:
		if err = q.recordOne(job.target, &job.alerts[0], job.key); err != nil { //nolint:contextcheck // what was begun is recorded, whoever has left
			back = &job.queuedReport
		}
	}
	q.mutex.Lock()
	defer q.mutex.Unlock()
	defer q.tell()
	maker := job.maker
	maker.out--
	if job.read {
		delete(q.writing, job.key)
		q.hold(job.space, -bytesOf(job.alerts))
	} else {
		q.reading, maker.reading = false, false
	}
	q.note(maker, err)
	if back == nil {
		q.forget(job.space, maker)
		return
	}
	q.hold(job.space, bytesOf(back.alerts))
	if !back.read {
		q.unread[back.reportRef] = true
	}
	maker.reports = slices.Insert(maker.reports, 0, back)
}

// note takes down how a job of a maker ended. When the API server is away all wait; what may be
// due to this report, or its namespace, is no reason for others to wait.
func (q *reportQueue) note(maker *reportMaker, err error) {
	switch now := q.clock.Now(); {
	case err == nil:
		maker.pause = 0
		if !q.failed {
			q.pause = 0
		}
	case unreachable(err) && !doubtful(err):
		q.failed = true
	case !now.Before(maker.until): // it is the first since the last rest
		maker.pause = min(max(reportPause, 2*maker.pause), q.longest)
		maker.until = now.Add(maker.pause)
	}
}

// readOne reads a report that is to be read. It gives what is to be recorded of it, or with an error
// what was to be read when that could not be done now; nil is nothing.
func (q *reportQueue) readOne(ctx context.Context, job *reportJob) (*queuedReport, error) {
	alerts, err := q.fetch(ctx, job.reportRef)
	switch {
	case err == nil:
		if alerts = q.fresh(alerts); len(alerts) == 0 {
			return nil, nil
		}
		return &queuedReport{reportRef: job.reportRef, read: true, alerts: alerts}, nil
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return nil, nil // its watch says so too, and all is read anew when that has passed
	}
	return &job.queuedReport, err
}

// forget lets go of a namespace, and of a maker, of whom nothing is left.
func (q *reportQueue) forget(space *reportSpace, maker *reportMaker) {
	if len(maker.reports) == 0 && maker.out == 0 {
		space.makers = slices.DeleteFunc(space.makers, func(other *reportMaker) bool { return other == maker })
	}
	if len(space.makers) == 0 && space.bytes <= 0 {
		q.spaces = slices.DeleteFunc(q.spaces, func(other *reportSpace) bool { return other == space })
	}
}
