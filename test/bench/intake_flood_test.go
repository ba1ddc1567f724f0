package bench

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	// floodKey says how many alerts a flood has.
	manyFlood, floodKey = 100_000, "FIREBREAK_BENCH_FLOOD"
	// floodKinds is of how many kinds a flood is that repeats.
	floodKinds       = 100
	floodConnections = intakeSenders * intakeConnections
	// singleEvery is how often somebody else has a single alert, and singlesAround how many are
	// measured before a flood, and how many after it, while it is in the spool.
	singleEvery, singlesAround = 200 * time.Millisecond, 50
	goalSingle                 = time.Second
)

// flood is what a flood of one sender did, and how single alerts of another fared.
type flood struct {
	kinds, alerts        int
	codes                map[int]int
	took                 time.Duration
	left                 float64
	alone, beside, after []time.Duration
}

// TestFlood measures how long a single alert takes until it is an event while another sender
// sends 100,000, of few kinds, or each about something else.
func TestFlood(t *testing.T) {
	if os.Getenv(enabled) != "1" {
		t.Skip(disabled)
	}
	alerts := count(t, floodKey, manyFlood)
	loadBefore := load()
	before := measureRaw(t, harness.Get(t))
	var floods []flood
	for _, kinds := range []int{floodKinds, alerts} {
		t.Run(fmt.Sprintf("%d kinds", kinds), func(t *testing.T) {
			one := measureFlood(t, alerts, kinds)
			shown := &report{base: before, after: before}
			one.rows(shown)
			t.Logf("\n%s", shown.text())
			floods = append(floods, one)
		})
	}
	table := &report{base: before, after: measureRaw(t, harness.Get(t))}
	for i := range floods {
		floods[i].rows(table)
	}
	t.Logf("%d CPUs (%s/%s, %s), etcd with fsync; load before: %s, after: %s\n\n%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(),
		loadBefore, load(), table.text())
}

// measureFlood has a receiver, whose spool is empty, flooded.
func measureFlood(t *testing.T, alerts, kinds int) flood {
	t.Helper()
	in := newIntake(t)
	defer in.empty(t)
	quiet := watchSingles(t, in.NewDomain(t))
	f := flood{kinds: kinds, alerts: alerts, codes: map[int]int{}}
	quiet.post(t, in) // which asks who the sender is
	f.alone = quiet.measure(t, in, singlesAround, nil)
	ended, start := make(chan struct{}), time.Now()
	go func() {
		defer close(ended)
		in.flood(t, &f)
		f.took = time.Since(start)
	}()
	f.beside = quiet.measure(t, in, alerts, ended)
	<-ended
	f.left = in.receiver.read(t)[spoolMetric]
	f.after = quiet.measure(t, in, singlesAround, nil)
	in.process.Kill(t)
	return f
}

// flood sends the alerts of a flood as fast as they are answered.
func (in *intake) flood(t *testing.T, f *flood) {
	var mutex sync.Mutex
	var next atomic.Int64
	var connections sync.WaitGroup
	for range floodConnections {
		connections.Go(func() {
			for n := int(next.Add(1)) - 1; n < f.alerts; n = int(next.Add(1)) - 1 {
				answer, err := in.process.Send(t, in.Namespace, "falco", in.senders[0].Token, harness.FalcoAlert(in.Target, podName(int64(n%f.kinds)), time.Now()))
				if err != nil {
					t.Errorf("an alert of the flood: %v", err)
					return
				}
				mutex.Lock()
				f.codes[answer.Code]++
				mutex.Unlock()
			}
		})
	}
	connections.Wait()
}

// singles are alerts of a sender that has few, in a domain of its own, in which a watch shows
// when they are events.
type singles struct {
	*harness.Domain
	sender harness.Sender
	events watch.Interface
	sent   int
}

func watchSingles(t *testing.T, d *harness.Domain) *singles {
	t.Helper()
	events, err := d.Client.Watch(t.Context(), &v1alpha1.SecurityEventList{}, client.InNamespace(d.Namespace))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Stop)
	return &singles{Domain: d, sender: d.NewSender(t, "quiet"), events: events}
}

// post sends an alert and gives how long it took until it was an event.
func (s *singles) post(t *testing.T, in *intake) time.Duration {
	t.Helper()
	s.sent++
	start := time.Now()
	answer := in.process.Post(t, s.Namespace, "falco", s.sender.Token, harness.FalcoAlert(s.Target, podName(int64(s.sent)), start))
	if answer.Code/100 != http.StatusOK/100 {
		t.Fatalf("the single alert is answered %d: %s", answer.Code, answer.Body)
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case change, open := <-s.events.ResultChan():
		if !open || change.Type != watch.Added {
			t.Fatalf("the watch of single alerts brought %v", change)
		}
	case <-deadline.C:
		t.Fatalf("a single alert was no event within %s", patience)
	}
	return time.Since(start)
}

// measure posts alerts now and then, until there are so many or the channel is closed.
func (s *singles) measure(t *testing.T, in *intake, most int, ended <-chan struct{}) (took []time.Duration) {
	t.Helper()
	tick := time.NewTicker(singleEvery)
	defer tick.Stop()
	for range most {
		took = append(took, s.post(t, in))
		select {
		case <-ended:
			return took
		case <-tick.C:
		}
	}
	return took
}

func (f *flood) rows(table *report) {
	what := fmt.Sprintf("a flood of %d of %d kinds", f.alerts, f.kinds)
	if f.kinds == f.alerts {
		what = fmt.Sprintf("a flood of %d different alerts", f.alerts)
	}
	table.row(what, fmt.Sprintf("%.0f/s answered", float64(f.alerts)/f.took.Seconds()), fmt.Sprintf("%v, %.0f in the spool then", f.codes, f.left), "", "")
	for _, one := range []struct {
		name string
		took []time.Duration
	}{{"alone", f.alone}, {"beside it", f.beside}, {"while it is in the spool", f.after}} {
		worst := percentile(one.took, 100)
		table.row("  another's single alert "+one.name, "p50 "+milliseconds(percentile(one.took, 50)),
			fmt.Sprintf("p99 %s, worst %s of %d", milliseconds(percentile(one.took, 99)), milliseconds(worst), len(one.took)), "≤ 1 s", verdict(worst <= goalSingle))
	}
}
