package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	floodKinds   = 100
	floodSenders = 64
)

// flooded is a receiver with a spool, whose calls of the API server are counted.
type flooded struct {
	*harness.Domain
	receiver *harness.ReceiverProcess
	proxy    *harness.Proxy
	// answered counts the alerts of floods that were answered.
	answered atomic.Int64
}

func newFlooded(t *testing.T) *flooded {
	t.Helper()
	f := &flooded{Domain: harness.Get(t).NewDomain(t)}
	f.proxy = f.NewProxy(t)
	f.receiver = f.StartReceiver(t, "--spool-dir="+t.TempDir(),
		"--kubeconfig="+f.proxy.Kubeconfig(t, v1alpha1.SystemNamespace, v1alpha1.ReceiverServiceAccount))
	transport, ok := f.receiver.HTTP.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("the receiver's client has a %T", f.receiver.HTTP.Transport)
	}
	transport = transport.Clone()
	transport.MaxIdleConnsPerHost = floodSenders
	t.Cleanup(transport.CloseIdleConnections)
	f.receiver.HTTP.Transport = transport
	return f
}

// scaled is the number of the contract in `make test-long`, and a smaller one otherwise.
func scaled(short, long int) int {
	if os.Getenv("FIREBREAK_LONG") == "1" {
		return long
	}
	return short
}

// pour posts alerts of so many kinds as fast as one sender can, and counts the answers.
func (f *flooded) pour(t *testing.T, token string, alerts, kinds int) (codes map[int]int) {
	t.Helper()
	codes = map[int]int{}
	var mutex sync.Mutex
	var senders sync.WaitGroup
	var next atomic.Int64
	for range floodSenders {
		senders.Go(func() {
			for n := int(next.Add(1)) - 1; n < alerts; n = int(next.Add(1)) - 1 {
				body := harness.FalcoAlert(f.Target, fmt.Sprintf("pod-%d", n%kinds), floodTime.Add(time.Duration(n)*time.Millisecond))
				answer, err := f.receiver.Send(t, f.Namespace, "falco", token, body)
				if err != nil {
					t.Error(err)
					return
				}
				f.answered.Add(1)
				mutex.Lock()
				codes[answer.Code]++
				mutex.Unlock()
			}
		})
	}
	senders.Wait()
	return codes
}

// floodTime begins a window, so that all of a flood is within one.
var floodTime = time.Now().UTC().Truncate(time.Hour)

// occurrences gives the events of the domain and how often things were seen in all.
func (f *flooded) occurrences(t *testing.T) (events, sum int64) {
	t.Helper()
	var list v1alpha1.SecurityEventList
	done(t, f.Client.List(t.Context(), &list, client.InNamespace(f.Namespace)))
	for i := range list.Items {
		events, sum = events+1, sum+1
		for _, counter := range list.Items[i].Status.Counters {
			sum += counter.Count
		}
	}
	return events, sum
}

// TestFloodIsCounted posts 10,000 alerts (in `make test` 2,000) of 100 kinds, whose times and
// texts differ: there are 100 events then, that count them all.
func TestFloodIsCounted(t *testing.T) {
	alerts := scaled(2000, 10000)
	f := newFlooded(t)
	token := f.NewSender(t, "falco").Token
	start := time.Now()
	codes := f.pour(t, token, alerts, floodKinds)
	answered := time.Since(start)
	harness.Eventually(t, 2*harness.Patience, "the spool to drain", func(context.Context) error {
		if _, sum := f.occurrences(t); sum < int64(alerts) {
			return fmt.Errorf("%d of %d are recorded", sum, alerts)
		}
		return nil
	})
	took := time.Since(start)
	f.receiver.Stop(t) // what is still to come would be counted twice
	events, sum := f.occurrences(t)
	writes := len(f.proxy.Writes())
	// One to create each, and one a second to count.
	budget := floodKinds * (2 + int(took.Seconds()+1))
	t.Logf("%d alerts of %d kinds answered within %s (%v), recorded within %s: %d events, %d occurrences, %d API writes (budget %d)",
		alerts, floodKinds, answered.Round(time.Millisecond), codes, took.Round(time.Millisecond), events, sum, writes, budget)
	if codes[http.StatusCreated]+codes[http.StatusOK]+codes[http.StatusAccepted] != alerts {
		t.Errorf("answers %v, want 2xx for all", codes)
	}
	if events != floodKinds || sum != int64(alerts) {
		t.Errorf("%d events count %d, want %d that count %d", events, sum, floodKinds, alerts)
	}
	if writes > budget {
		t.Errorf("%d writes, want at most %d", writes, budget)
	}
}

// TestFloodDelaysNobodyElse has one sender post 100,000 alerts (in `make test` 5,000), each
// about something else, while another posts a single one now and then.
func TestFloodDelaysNobodyElse(t *testing.T) {
	alerts := scaled(5000, 100000)
	f := newFlooded(t)
	flood, single := f.NewSender(t, "flood").Token, f.NewSender(t, "single").Token
	posted := 0
	post := func() time.Duration {
		posted++
		start := time.Now()
		answer := f.receiver.Post(t, f.Namespace, "falco", single, harness.FalcoAlert(f.Target, fmt.Sprintf("quiet-%d", posted), floodTime))
		if answer.Code/100 != 2 {
			t.Errorf("the single alert is answered %d: %s", answer.Code, answer.Body)
		}
		return time.Since(start)
	}
	post() // which asks who the sender is
	var alone, beside []time.Duration
	for range 20 {
		alone = append(alone, post())
	}
	flooding := make(chan map[int]int, 1)
	go func() { flooding <- f.pour(t, flood, alerts, alerts) }()
	var codes map[int]int
	var overtaken []int64 // by how many alerts of the flood each single one was
	for codes == nil {
		before := f.answered.Load()
		beside = append(beside, post())
		overtaken = append(overtaken, f.answered.Load()-before)
		select {
		case codes = <-flooding:
		case <-time.After(100 * time.Millisecond):
		}
	}
	slices.Sort(alone)
	slices.Sort(beside)
	slices.Sort(overtaken)
	t.Logf("flood of %d: %v; single alerts alone: median %s, worst %s of %d; beside the flood: median %s, worst %s of %d, overtaken by %d, at worst by %d", alerts, codes,
		alone[len(alone)/2].Round(time.Millisecond), alone[len(alone)-1].Round(time.Millisecond), len(alone),
		beside[len(beside)/2].Round(time.Millisecond), beside[len(beside)-1].Round(time.Millisecond), len(beside),
		overtaken[len(overtaken)/2], overtaken[len(overtaken)-1])
	// How long it took is for people to read: a busy machine delays everything. How much of
	// the flood went first is the flood's own measure, and the same on every machine.
	if worst, most := overtaken[len(overtaken)-1], int64(alerts/20); os.Getenv("FIREBREAK_LONG") == "1" && worst > most {
		t.Errorf("%d alerts of the flood were answered while a single one waited, want at most %d: that many are answered in a second where it goes fast", worst, most)
	}
	if half := overtaken[len(overtaken)/2]; half > int64(alerts/2) {
		t.Errorf("%d of %d alerts of the flood were answered while a single one waited: it waited for the flood's end", half, alerts)
	}
}
