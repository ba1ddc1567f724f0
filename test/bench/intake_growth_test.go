package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	spoolMetric   = "firebreak_receiver_spool_items"
	drainedMetric = "firebreak_receiver_spool_drained_total"
	liveMetric    = "go_gc_heap_live_bytes"
	heapMetric    = "go_memstats_heap_inuse_bytes"

	leaderMetric = `leader_election_master_status{name="manager.firebreak.dev"}`

	listPage = 500
	// settleFor is how long a process gets to give memory back before it is measured: the
	// manager does so 10 s after it leads.
	settleFor = 20 * time.Second
)

// vitals asks a process how it is.
type vitals struct {
	name, url, token string
	client           *http.Client
}

// read gives its metrics without labels.
func (v *vitals) read(t *testing.T) map[string]float64 {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if v.token != "" {
		request.Header.Set("Authorization", "Bearer "+v.token)
	}
	response, err := v.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("the metrics of the %s: %s", v.name, response.Status)
	}
	return metricsOf(t, response.Body)
}

// metricsOf gives the metrics without labels.
func metricsOf(t *testing.T, text io.Reader) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			values[name] = value
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatalf("the metrics: %v", err)
	}
	return values
}

// memory is what a process takes: resident, at its worst so far, and of that what Go's heap
// holds that is alive, and all of the heap.
type memory struct{ resident, worst, live, heap float64 }

func (v *vitals) memory(t *testing.T) memory {
	t.Helper()
	values := v.read(t)
	m := memory{live: values[liveMetric], heap: values[heapMetric]}
	m.resident, m.worst = residentOf(v.name)
	return m
}

// residentOf reads in /proc what a process that this one has started takes of memory; zero
// where there is no /proc.
func residentOf(name string) (now, worst float64) {
	paths, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return 0, 0
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := map[string]string{}
		for line := range strings.SplitSeq(string(content), "\n") {
			key, value, _ := strings.Cut(line, ":")
			fields[key] = strings.TrimSpace(value)
		}
		if fields["Name"] == name && fields["PPid"] == strconv.Itoa(os.Getpid()) {
			return kilobytes(fields["VmRSS"]), kilobytes(fields["VmHWM"])
		}
	}
	return 0, 0
}

func kilobytes(text string) float64 {
	value, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		return 0
	}
	return value * 1024
}

// startManager starts the manager as it ships, and lets this benchmark read its metrics.
func (in *intake) startManager(t *testing.T) {
	t.Helper()
	reader := harness.Account(in.Namespace, "prometheus")
	for _, object := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: in.Namespace, Name: reader.Name}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: in.Namespace}, Subjects: []rbacv1.Subject{reader},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "firebreak-metrics-reader"}},
	} {
		if err := in.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	metrics := harness.FreeAddress(t)
	in.Env = shippedEnv(t, in.Cluster, "manager")
	in.managerProcess = in.StartManager(t, "--leader-elect=true", "--metrics-bind-address="+metrics)
	in.manager = &vitals{
		name: "manager", url: "https://" + metrics + "/metrics", token: in.Token(t, in.Namespace, reader.Name),
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}}, // it signs its own
	}
}

func (in *intake) restartManager(t *testing.T) {
	t.Helper()
	in.managerProcess.Stop(t)
	in.managerProcess.Start(t)
	harness.Eventually(t, patience, "the manager to lead", func(context.Context) error {
		if in.manager.read(t)[leaderMetric] != 1 {
			return errors.New("it does not yet")
		}
		return nil
	})
	(&scene{}).waitQuiet(t)
}

// events counts those of the domain, and those that nobody has assessed.
func (in *intake) events(ctx context.Context) (all, undecided int, err error) {
	options := &client.ListOptions{Namespace: in.Namespace, Limit: listPage}
	for {
		var page v1alpha1.SecurityEventList
		if err := in.Client.List(ctx, &page, options); err != nil {
			return 0, 0, err
		}
		all += len(page.Items)
		for i := range page.Items {
			if page.Items[i].Status.Assessment.Outcome == "" {
				undecided++
			}
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return all, undecided, nil
		}
	}
}

// waitAssessed waits until every event is assessed, and gives how many there are.
func (in *intake) waitAssessed(t *testing.T) (all int) {
	t.Helper()
	harness.Eventually(t, patience, "the events to be assessed", func(ctx context.Context) error {
		(&scene{}).waitQuiet(t)
		var undecided int
		var err error
		if all, undecided, err = in.events(ctx); err == nil && undecided > 0 {
			err = fmt.Errorf("%d of %d are not", undecided, all)
		}
		return err
	})
	return all
}

// sized is what so many events take, and what an alert and a raw write cost beside them.
type sized struct {
	events, bytes     int
	manager, receiver memory
	alert, raw        spent
}

// growth is how many raw writes an alert costs.
func (s sized) growth() float64 { return s.alert.cost() / s.raw.cost() }

// spent is what a number of equal things took, by sampleConnections.
type spent struct {
	took time.Duration
	each []time.Duration
	cpu  cpu
	// collected is what of kube-apiserver's processor time went into collecting garbage.
	collected time.Duration
}

// measureSize measures beside so many events: alerts, and raw writes in between. The same work
// takes the processors up to 1.6 times as long from one minute to the next.
func (in *intake) measureSize(t *testing.T, events int) sized {
	t.Helper()
	in.grow(t, events)
	s := in.measureMemory(t)
	if events > fewEvents {
		waitCompared(t, in.Cluster)
	}
	for range sampleRounds {
		in.spend(t, &s.raw, sampleRaw, func(int) {
			if err := in.Client.Create(t.Context(), rawObject(metav1.NamespaceDefault)); err != nil {
				t.Errorf("a raw write: %v", err)
			}
		})
		in.spend(t, &s.alert, sampleAlerts, func(n int) { in.post(t, in.senders[n%intakeSenders]) })
	}
	in.waitAssessed(t)
	if err := in.Client.DeleteAllOf(t.Context(), &corev1.ConfigMap{}, inBench(metav1.NamespaceDefault)...); err != nil {
		t.Fatal(err)
	}
	return s
}

// spend does a thing so often, and adds what it took until Firebreak was done with it.
func (in *intake) spend(t *testing.T, s *spent, count int, do func(n int)) {
	t.Helper()
	each := make([]time.Duration, count)
	collected, used, start := collecting(t, in.Cluster), cpuNow(), time.Now()
	var next atomic.Int64
	var connections sync.WaitGroup
	for range sampleConnections {
		connections.Go(func() {
			for n := int(next.Add(1)) - 1; n < count && !t.Failed(); n = int(next.Add(1)) - 1 {
				begun := time.Now()
				do(n)
				each[n] = time.Since(begun)
			}
		})
	}
	connections.Wait()
	(&scene{}).waitQuiet(t)
	s.took += time.Since(start) - quiet
	s.cpu = s.cpu.plus(cpuNow().since(used))
	s.collected += collecting(t, in.Cluster) - collected
	s.each = append(s.each, each...)
}

// cost is the processor time of one, of all processes but this.
func (s spent) cost() float64 {
	total := time.Duration(0)
	for name, used := range s.cpu {
		if !strings.HasPrefix(name, "bench") {
			total += used
		}
	}
	return float64(total) / float64(len(s.each))
}

// measureMemory waits until both processes have given back what they do not need.
func (in *intake) measureMemory(t *testing.T) sized {
	t.Helper()
	var s sized
	s.events = in.waitAssessed(t)
	event := in.example(t)
	event.ManagedFields = nil
	if text, err := json.Marshal(event); err == nil {
		s.bytes = len(text)
	}
	timer := time.NewTimer(settleFor)
	defer timer.Stop()
	<-timer.C
	s.manager, s.receiver = in.manager.memory(t), in.receiver.memory(t)
	return s
}
