package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	floodKinds   = 100
	floodSenders = 64
	// afterFlood is how many single alerts are posted before a flood, and after it, so often.
	afterFlood, betweenSingles = 20, 100 * time.Millisecond
	// maxOvertaken is how many writes of a flood may go before the event of another's single alert:
	// clearly less than an API server does in a second where each costs it the 2.3 ms of the design.
	maxOvertaken = 256
)

// flooded is a receiver with a spool, whose calls of the API server are counted.
type flooded struct {
	*harness.Domain
	receiver *harness.ReceiverProcess
	proxy    *harness.Proxy
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

// singleAlert is what became of a single alert that was posted beside a flood.
type singleAlert struct {
	// overtaken is how many writes of the flood were begun between its POST and the write of its event.
	overtaken int64
	// answered and recorded is how long it took until it was answered, and until its event was there.
	answered, recorded time.Duration
}

// racetrack counts the writes of events by who submitted them.
type racetrack struct {
	harness.Sender // whose events are looked for

	mutex  sync.Mutex
	others int64 // writes that are begun, of all others
	// begun is, by the pod of an event of the user, what there was of others when it was written last.
	begun map[string]int64
	names map[string]string // of these events
}

// look takes down a write that is about to be done.
func (r *racetrack) look(request *http.Request) harness.Trouble {
	if !harness.IsWrite(request) || !strings.Contains(request.URL.Path, "/securityevents") {
		return harness.Trouble{}
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return harness.Trouble{Cut: true}
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	var event v1alpha1.SecurityEvent
	_ = json.Unmarshal(body, &event) // a patch of a counter is an event as well
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if event.Spec.SubmittedBy != r.User {
		r.others++
		return harness.Trouble{}
	}
	pod := event.Spec.Resources[0].Name
	r.begun[pod], r.names[pod] = r.others, event.Name
	return harness.Trouble{}
}

func (r *racetrack) passed() int64 {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.others
}

func (r *racetrack) of(pod string) (others int64, name string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.begun[pod], r.names[pod]
}

// single posts an alert about a pod and waits until it is an event.
func (f *flooded) single(t *testing.T, track *racetrack, pod string) singleAlert {
	t.Helper()
	before, start := track.passed(), time.Now()
	answer := f.receiver.Post(t, f.Namespace, "falco", track.Token, harness.FalcoAlert(f.Target, pod, floodTime))
	if answer.Code/100 != 2 {
		t.Fatalf("the single alert is answered %d: %s", answer.Code, answer.Body)
	}
	s := singleAlert{answered: time.Since(start)}
	harness.Eventually(t, harness.Patience, "the event of the single alert", func(ctx context.Context) error {
		_, name := track.of(pod)
		if name == "" {
			return errors.New("it is not written yet")
		}
		return f.Client.Get(ctx, types.NamespacedName{Namespace: f.Namespace, Name: name}, &v1alpha1.SecurityEvent{})
	})
	s.recorded = time.Since(start)
	written, _ := track.of(pod)
	s.overtaken = written - before
	return s
}

// TestFloodDelaysNobodyElse has one sender post 100,000 alerts (in `make test` 5,000), once all of
// few kinds, and once each about something else, while another posts a single one now and then,
// also when the flood was answered and is still in the spool.
func TestFloodDelaysNobodyElse(t *testing.T) {
	alerts := scaled(5000, 100000)
	for _, test := range []struct {
		name  string
		kinds int
	}{{"of few kinds", floodKinds}, {"each about something else", alerts}} {
		t.Run(test.name, func(t *testing.T) {
			f := newFlooded(t)
			flood := f.NewSender(t, "flood").Token
			track := &racetrack{Sender: f.NewSender(t, "single"), begun: map[string]int64{}, names: map[string]string{}}
			f.proxy.Make(track.look)
			alone := f.singles(t, track, "alone", afterFlood, nil)
			ended, start := make(chan struct{}), time.Now()
			var codes map[int]int
			go func() {
				defer close(ended)
				codes = f.pour(t, flood, alerts, test.kinds)
			}()
			beside := f.singles(t, track, "beside", math.MaxInt, ended)
			<-ended
			t.Logf("a flood of %d alerts of %d kinds was answered within %s: %v, with %d writes", alerts, test.kinds, time.Since(start).Round(time.Millisecond), codes, track.passed())
			after := f.singles(t, track, "after", afterFlood, nil)
			// How long it took is for people to read: a busy machine delays everything. How much of
			// the flood went first is the flood's own measure, and the same on every machine.
			for name, all := range map[string][]singleAlert{"alone": alone, "beside the flood": beside, "while the flood is in the spool": after} {
				most := report(t, name, all)
				if most > maxOvertaken {
					t.Errorf("%s: %d writes of the flood went before the event of a single alert, want at most %d", name, most, maxOvertaken)
				}
			}
		})
	}
}

// singles posts single alerts, one after the other, until there are so many or the channel is closed.
func (f *flooded) singles(t *testing.T, track *racetrack, name string, most int, ended <-chan struct{}) (all []singleAlert) {
	t.Helper()
	for n := 0; n < most; n++ {
		all = append(all, f.single(t, track, fmt.Sprintf("%s-%d", name, n)))
		select {
		case <-ended:
			return all
		case <-time.After(betweenSingles):
		}
	}
	return all
}

// report tells how single alerts fared, and gives by how many writes one was overtaken at worst.
func report(t *testing.T, name string, all []singleAlert) (most int64) {
	t.Helper()
	var answered, recorded []time.Duration
	var overtaken []int64
	for _, one := range all {
		answered, recorded, overtaken = append(answered, one.answered), append(recorded, one.recorded), append(overtaken, one.overtaken)
	}
	slices.Sort(answered)
	slices.Sort(recorded)
	slices.Sort(overtaken)
	at := func(share int) int { return (len(all) - 1) * share / 100 }
	t.Logf("%d single alerts %s: answered p50 %s, p99 %s, worst %s; an event p50 %s, p99 %s, worst %s; overtaken by %d writes, p99 %d, at worst %d", len(all), name,
		answered[at(50)].Round(time.Millisecond), answered[at(99)].Round(time.Millisecond), answered[at(100)].Round(time.Millisecond),
		recorded[at(50)].Round(time.Millisecond), recorded[at(99)].Round(time.Millisecond), recorded[at(100)].Round(time.Millisecond),
		overtaken[at(50)], overtaken[at(99)], overtaken[at(100)])
	return overtaken[at(100)]
}
