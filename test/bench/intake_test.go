package bench

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/receiver"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	// intakeFor is for how long alerts are sent as fast as they are taken.
	intakeFor = 15 * time.Second
	// intakeSenders is how many users send, each by so many connections.
	intakeSenders, intakeConnections = 4, 16
	// eventsKey says how many events there are at the end.
	manyEvents, eventsKey = 50_000, "FIREBREAK_BENCH_EVENTS"
	fewEvents             = 1_000
	// sampleRounds is how often so many raw writes and then so many alerts, by so many
	// connections, are measured for the cost of one.
	sampleRounds, sampleRaw, sampleAlerts, sampleConnections = 10, 300, 100, 8
)

// intake is a receiver as it ships, with those who send to it, and later a manager.
type intake struct {
	*harness.Domain
	receiver, manager *vitals
	process           *harness.ReceiverProcess
	managerProcess    *harness.Process
	senders           []harness.Sender
	// direct is the API server as the receiver is let in.
	direct client.Client
	etcd   *http.Client
	sent   atomic.Int64
}

// TestIntake measures how fast alerts become events, what many events take of memory, and
// whether an alert costs more when there are many. What misses its goal is printed as such.
func TestIntake(t *testing.T) {
	if os.Getenv(enabled) != "1" {
		t.Skip(disabled)
	}
	in := newIntake(t)
	report := &intakeReport{}
	loadBefore := load()
	report.before = in.measureRaw(t)
	report.alone = in.measureIntake(t)
	in.clear(t)
	report.after = in.measureRaw(t)
	t.Logf("so far:\n%s", report.text())

	in.startManager(t)
	in.post(t, in.senders[0])
	report.sizes = append(report.sizes, in.measureSize(t, fewEvents))
	report.beside = in.measureIntake(t)
	report.sizes = append(report.sizes, in.measureSize(t, count(t, eventsKey, manyEvents)))
	in.restartManager(t)
	report.restarted = in.measureMemory(t)
	t.Logf("%d CPUs (%s/%s, %s), etcd with fsync; load before: %s, after: %s\n\n%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(),
		loadBefore, load(), report.text())
}

func newIntake(t *testing.T) *intake {
	t.Helper()
	cluster := harness.Get(t)
	in := &intake{Domain: cluster.NewDomain(t), direct: clientOfReceiver(t, cluster)}
	in.etcd = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: etcdWriters}}
	t.Cleanup(in.etcd.CloseIdleConnections)
	metrics := harness.FreeAddress(t)
	cluster.Env = shippedEnv(t, cluster, "receiver")
	in.process = cluster.StartReceiver(t, "--spool-dir="+t.TempDir(), "--metrics-bind-address="+metrics)
	in.receiver = &vitals{name: "receiver", url: "http://" + metrics + "/metrics", client: http.DefaultClient}
	transport, ok := in.process.HTTP.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("the receiver's client has a %T", in.process.HTTP.Transport)
	}
	transport = transport.Clone()
	transport.MaxIdleConnsPerHost = intakeSenders * intakeConnections
	t.Cleanup(transport.CloseIdleConnections)
	in.process.HTTP.Transport = transport
	in.admit(t)
	return in
}

// clientOfReceiver is a client as the receiver has one.
func clientOfReceiver(t *testing.T, c *harness.Cluster) client.Client {
	t.Helper()
	config := rest.AnonymousClientConfig(c.Config)
	config.BearerToken = c.Token(t, v1alpha1.SystemNamespace, v1alpha1.ReceiverServiceAccount)
	made, err := receiver.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// shippedEnv is the environment with which a process ships, such as 'GOMEMLIMIT=400MiB'.
func shippedEnv(t *testing.T, c *harness.Cluster, name string) []string {
	t.Helper()
	objects, err := harness.Load(filepath.Join(c.Root, "config", name, name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var env []string
	for _, object := range objects {
		containers, _, err := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
		if err != nil {
			t.Fatal(err)
		}
		for _, container := range containers {
			variables, _, _ := unstructured.NestedSlice(container.(map[string]any), "env")
			for _, variable := range variables {
				if value, ok := variable.(map[string]any)["value"].(string); ok {
					env = append(env, variable.(map[string]any)["name"].(string)+"="+value)
				}
			}
		}
	}
	return env
}

// admit makes senders in the domain, and a policy that knows what to do about all they send.
func (in *intake) admit(t *testing.T) {
	t.Helper()
	in.senders = nil
	for i := range intakeSenders {
		in.senders = append(in.senders, in.NewSender(t, fmt.Sprintf("falco-%d", i)))
	}
	policy := harness.MakePolicy(in.Namespace, `event.source.rule == "Terminal shell in container" && event.attributes["proc.name"] == "sh"`, "")
	rule := &policy.Spec.Rules[0]
	rule.Outcome, rule.Correlate, rule.Incident = v1alpha1.RuleDismiss, v1alpha1.Correlation{}, v1alpha1.IncidentTemplate{}
	if err := in.Client.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
}

// rates are what the API server takes a second, without Firebreak, of ConfigMaps and of events.
type rates struct {
	raw
	events float64
	cpu    string
}

// measureRaw creates ConfigMaps, and then events as the receiver does, with nothing in between.
func (in *intake) measureRaw(t *testing.T) rates {
	t.Helper()
	result := rates{raw: measureRaw(t, in.Cluster)}
	in.post(t, in.senders[0])
	like := in.example(t)
	earlier := cpuNow()
	took := createFor(t, rawWriters, func() error { return in.direct.Create(t.Context(), in.copyOf(like)) })
	result.cpu = cpuNow().since(earlier).each(len(took))
	result.events = float64(len(took)) / rawFor.Seconds()
	in.clear(t)
	return result
}

// example is one event of the domain.
func (in *intake) example(t *testing.T) *v1alpha1.SecurityEvent {
	t.Helper()
	var list v1alpha1.SecurityEventList
	if err := in.Client.List(t.Context(), &list, client.InNamespace(in.Namespace), client.Limit(1)); err != nil || len(list.Items) == 0 {
		t.Fatalf("an event of the domain: %d, %v", len(list.Items), err)
	}
	list.Items[0].SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("SecurityEvent"))
	return &list.Items[0]
}

// clear takes all events away, so that a manager finds none.
func (in *intake) clear(t *testing.T) {
	t.Helper()
	if err := in.Client.DeleteAllOf(t.Context(), &v1alpha1.SecurityEvent{}, client.InNamespace(in.Namespace)); err != nil {
		t.Fatal(err)
	}
}

// copyOf is an event like another that is about something else.
func (in *intake) copyOf(like *v1alpha1.SecurityEvent) *v1alpha1.SecurityEvent {
	number := in.sent.Add(1)
	event := &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Namespace: in.Namespace, Name: fmt.Sprintf("falco-%010d", number), Annotations: like.Annotations},
		Spec:       *like.Spec.DeepCopy(),
	}
	event.Spec.Fingerprint = fmt.Sprintf("%064x", number)
	event.Spec.RawDataHash = fmt.Sprintf("sha256:%064x", number)
	for i := range event.Spec.Resources {
		event.Spec.Resources[i].Name = podName(number)
	}
	return event
}

func podName(number int64) string { return fmt.Sprintf("cart-7f9d5c6b8-%06d", number) }

// post sends an alert about another pod than all before.
func (in *intake) post(t *testing.T, sender harness.Sender) {
	answer, err := in.process.Send(t, in.Namespace, "falco", sender.Token, harness.FalcoAlert(in.Target, podName(in.sent.Add(1)), time.Now()))
	if err == nil && answer.Code/100 != 2 {
		err = fmt.Errorf("the receiver answers %d: %s", answer.Code, answer.Body)
	}
	if err != nil {
		t.Errorf("an alert: %v", err)
	}
}

// taken is how many alerts became events, in which time, and what each has cost.
type taken struct {
	alerts, spooled int
	answered, took  time.Duration
	cpu             string
}

func (k taken) rate() float64 { return float64(k.alerts) / k.took.Seconds() }

// measureIntake sends alerts for a while and waits until the last is an event.
func (in *intake) measureIntake(t *testing.T) taken {
	t.Helper()
	before, drained := in.count(t), in.receiver.read(t)[drainedMetric]
	profiled := profile(t, in.Cluster, fmt.Sprintf("intake-%d", before), intakeFor)
	start, used, sent := time.Now(), cpuNow(), in.sent.Load()
	var connections sync.WaitGroup
	for i := range intakeSenders * intakeConnections {
		connections.Go(func() {
			for time.Since(start) < intakeFor && !t.Failed() {
				in.post(t, in.senders[i%intakeSenders])
			}
		})
	}
	connections.Wait()
	answered := time.Since(start)
	harness.Eventually(t, patience, "the spool to drain", func(context.Context) error {
		if left := in.receiver.read(t)[spoolMetric]; left > 0 {
			return fmt.Errorf("%g alerts are in the spool", left)
		}
		return nil
	})
	k := taken{alerts: int(in.sent.Load() - sent), answered: answered, took: time.Since(start)}
	k.cpu = cpuNow().since(used).each(k.alerts)
	profiled()
	k.spooled = int(in.receiver.read(t)[drainedMetric] - drained)
	if events := in.count(t) - before; events != k.alerts {
		t.Errorf("%d alerts became %d events", k.alerts, events)
	}
	return k
}

// count is how many events there are.
func (in *intake) count(t *testing.T) int {
	t.Helper()
	all, _, err := in.events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}
