package bench

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/test/harness"
)

// How many alerts are sent one after the other, and how many at once. Less than these
// is for a quick look, and no measurement.
const (
	alertsInTurn, inTurnKey = 100, "FIREBREAK_BENCH_IN_TURN"
	alertsAtOnce, atOnceKey = 500, "FIREBREAK_BENCH_AT_ONCE"
)

// TestBudgets measures all of it in one run and prints it beside the budgets. A budget
// that is missed is no failure of the test: a busy machine misses them too.
func TestBudgets(t *testing.T) {
	if os.Getenv(enabled) != "1" {
		t.Skip(disabled)
	}
	cluster := harness.Get(t)
	cluster.StartManager(t, "--leader-elect=true", "--metrics-bind-address="+harness.FreeAddress(t))
	receiver := cluster.StartReceiver(t)
	s := newScene(t, cluster, receiver)
	inTurn := s.workloads(t, "turn", count(t, inTurnKey, alertsInTurn)+1)
	atOnce := s.workloads(t, "burst", count(t, atOnceKey, alertsAtOnce))
	s.waitQuiet(t)

	loadBefore := load()
	before := measureRaw(t, cluster)
	long := measureLong(t, cluster)
	latencies := s.measureLatency(t, inTurn)
	profiled := profile(t, cluster, "burst", 15*time.Second)
	rate := s.measureRate(t, atOnce)
	profiled()
	after := measureRaw(t, cluster)

	report := &report{base: before, after: after}
	report.latency(latencies)
	report.burst(rate)
	report.long(long)
	t.Logf("%d CPUs (%s/%s, %s), etcd with fsync; load before: %s, after: %s\n\n%s\n%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(),
		loadBefore, load(), report.text(), trace(latencies))
}

// count is a number that the environment may change.
func count(t *testing.T, key string, usual int) int {
	t.Helper()
	given := os.Getenv(key)
	if given == "" {
		return usual
	}
	number, err := strconv.Atoi(given)
	if err != nil || number < 1 {
		t.Fatalf("%s must be a number above 0, but is '%s'", key, given)
	}
	return number
}

// load is how busy the machine is, where that can be known.
func load() string {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(content))[:3], " ")
}

// alertLatency is what one alert took from the POST to the isolated pod.
type alertLatency struct {
	from, to time.Time
	requests []request
	// raw is what a raw write took that was made, as the alert was, when the machine was at rest.
	raw time.Duration
	// cpu is what it has cost until the pod was isolated.
	cpu cpu
}

// measureLatency sends alerts one after the other, each when all is done for the one
// before. The first warms up.
func (s *scene) measureLatency(t *testing.T, pods []string) []alertLatency {
	t.Helper()
	var all []alertLatency
	for _, pod := range pods {
		earlier, from := cpuNow(), time.Now()
		if err := s.post(t, pod); err != nil {
			t.Fatal(err)
		}
		one := alertLatency{from: from, to: s.seen.wait(t, pod)[pod], cpu: cpuNow().since(earlier)}
		s.waitQuiet(t)
		one.raw = s.writeRaw(t)
		all = append(all, one)
		s.waitQuiet(t)
	}
	all = all[1:]
	asked := requests(t)
	for i := range all {
		all[i].requests = between(asked, all[i].from, all[i].to)
	}
	return all
}

// writeRaw makes one raw write and gives what it took.
func (s *scene) writeRaw(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	if err := s.Client.Create(t.Context(), rawObject(metav1.NamespaceDefault)); err != nil {
		t.Fatalf("a raw write: %v", err)
	}
	return time.Since(start)
}

// burst is what many alerts at once took.
type burst struct {
	pods     int
	took     time.Duration
	received time.Duration
	requests []request
	// isolated and settled are what it has cost until the last pod was isolated, and until
	// all was done.
	isolated, settled cpu
}

func (s *scene) measureRate(t *testing.T, pods []string) burst {
	t.Helper()
	failures := make([]error, len(pods))
	start, earlier := time.Now(), cpuNow()
	var group sync.WaitGroup
	for i, pod := range pods {
		group.Go(func() { failures[i] = s.post(t, pod) })
	}
	group.Wait()
	received := time.Since(start)
	for i, err := range failures {
		if err != nil {
			t.Fatalf("the alert for %s: %v", pods[i], err)
		}
	}
	isolated := s.seen.wait(t, pods...)
	last := start
	for _, at := range isolated {
		if at.After(last) {
			last = at
		}
	}
	result := burst{pods: len(isolated), took: last.Sub(start), received: received, isolated: cpuNow().since(earlier)}
	result.requests = between(requests(t), start, last)
	s.waitQuiet(t)
	result.settled = cpuNow().since(earlier)
	return result
}

// report is the table.
type report struct {
	base, after raw
	rows, notes []string
}

func (r *report) row(columns ...string) {
	r.rows = append(r.rows, strings.Join(columns, "\t"))
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "NOT MET"
}

func (r *report) latency(all []alertLatency) {
	var took, raws []time.Duration
	var writes, alongside []int
	used := cpu{}
	for i := range all {
		took, raws = append(took, all[i].to.Sub(all[i].from)), append(raws, all[i].raw)
		for name, more := range all[i].cpu {
			used[name] += more
		}
		path, others := all[i].writes()
		writes, alongside = append(writes, path), append(alongside, others)
	}
	single := percentile(raws, 50)
	for _, wanted := range []struct {
		share int
		most  float64
	}{{50, 10}, {99, 40}} {
		value := percentile(took, wanted.share)
		ratio := float64(value) / float64(single)
		r.row(fmt.Sprintf("alert to isolated pod, p%d", wanted.share), milliseconds(value), fmt.Sprintf("%.1f writes", ratio),
			fmt.Sprintf("≤ %.0f writes", wanted.most), verdict(ratio <= wanted.most))
	}
	r.row("  a raw write between two alerts", "p50 "+milliseconds(single), "p99 "+milliseconds(percentile(raws, 99)), "", "")
	r.row("  in raw writes of the loop before", "", fmt.Sprintf("%.1f and %.1f", float64(percentile(took, 50))/float64(r.base.p50), float64(percentile(took, 99))/float64(r.base.p50)), "", "")
	r.notes = append(r.notes, "processor time of an alert alone, until its pod was isolated: "+used.each(len(all)))
	slices.Sort(writes)
	slices.Sort(alongside)
	median := writes[len(writes)/2]
	r.row("writes on the way, median", fmt.Sprint(median), fmt.Sprintf("(%d more alongside)", alongside[len(alongside)/2]), "≤ 8", verdict(median <= 8))
}

// writes counts the writes on the way to the isolation, and those beside it.
func (l *alertLatency) writes() (path, alongside int) {
	for i := range l.requests {
		switch r := &l.requests[i]; {
		case !r.writes():
		case r.alongside():
			alongside++
		default:
			path++
		}
	}
	return path, alongside
}

func (r *report) burst(b burst) {
	rate := float64(b.pods) / b.took.Seconds()
	ratio := rate / r.base.rate
	r.row(fmt.Sprintf("%d alerts at once", b.pods), fmt.Sprintf("%.1f isolated/s", rate), fmt.Sprintf("1/%.1f of raw", 1/ratio), "≥ 1/10 of raw", verdict(ratio >= 0.1))
	r.row("  all isolated", fmt.Sprintf("%d in %.1f s", b.pods, b.took.Seconds()), fmt.Sprintf("received in %.1f s", b.received.Seconds()), "all", verdict(true))
	r.notes = append(r.notes, "processor time of each raw write: "+r.base.cpu,
		"processor time of each alert until the last pod was isolated: "+b.isolated.each(b.pods),
		"processor time of each alert until all was done: "+b.settled.each(b.pods))
	writes, others := b.perAlert()
	r.row("  requests each", fmt.Sprintf("%.1f writes", writes.sum()), fmt.Sprintf("%.1f reads, reviews", others.sum()), "", "")
	r.notes = append(r.notes, "writes of each alert until the last pod was isolated: "+writes.text(), "reads and reviews: "+others.text())
}

func (r *report) long(l longWrite) {
	ratio := float64(l.p50) / float64(r.base.p50)
	r.row(fmt.Sprintf("status of %d entries, %d targets", longTimeline, longTargets), milliseconds(l.p50), fmt.Sprintf("%.1f writes", ratio), "≤ 4 writes", verdict(ratio <= 4))
	r.row("  its size", fmt.Sprintf("%d KiB", l.bytes>>10), fmt.Sprintf("p99 %s", milliseconds(l.p99)), "", "")
}

// perAlert counts the requests of each alert, by what they are.
func (b *burst) perAlert() (writes, others tally) {
	writes, others = tally{}, tally{}
	for i := range b.requests {
		request, into := &b.requests[i], others
		if request.writes() {
			into = writes
		}
		into[request.verb+" "+request.what] += 1 / float64(b.pods)
	}
	return writes, others
}

// tally is how many of what.
type tally map[string]float64

func (t tally) sum() (all float64) {
	for _, count := range t {
		all += count
	}
	return all
}

// text lists it, the most first.
func (t tally) text() string {
	names := slices.SortedFunc(maps.Keys(t), func(a, b string) int { return cmp.Or(cmp.Compare(t[b], t[a]), cmp.Compare(a, b)) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%.1f %s", t[name], name)
	}
	return strings.Join(names, ", ")
}

func (r *report) text() string {
	var text strings.Builder
	for _, one := range []struct {
		name string
		raw  raw
	}{{"before", r.base}, {"after", r.after}} {
		_, _ = fmt.Fprintf(&text, "raw writes of 1 KiB, %s: p50 %s, p99 %s, %.0f/s with 1 writer, %.0f/s with %d\n", one.name,
			milliseconds(one.raw.p50), milliseconds(one.raw.p99), one.raw.alone, one.raw.rate, rawWriters)
	}
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\npath\tmeasured\tratio\tbudget\t")
	for _, row := range r.rows {
		_, _ = fmt.Fprintln(table, row)
	}
	_ = table.Flush() // it writes to memory
	text.WriteString("\n" + strings.Join(r.notes, "\n") + "\n")
	return text.String()
}

// trace shows what the alert of median latency has asked for.
func trace(all []alertLatency) string {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b alertLatency) int { return int(a.to.Sub(a.from) - b.to.Sub(b.from)) })
	median := sorted[len(sorted)/2]
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "the alert of median latency, %s from POST to isolated:\n", milliseconds(median.to.Sub(median.from)))
	for i := range median.requests {
		_, _ = fmt.Fprintf(&text, "  %7s  %s\n", milliseconds(median.requests[i].start.Sub(median.from)), &median.requests[i])
	}
	return text.String()
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
