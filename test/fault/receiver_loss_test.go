package fault

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	lossAlerts, lossAlertsLong = 500, 5000
	outage, outageLong         = 5 * time.Second, 60 * time.Second
	lossSenders                = 16
	resendAfter                = 50 * time.Millisecond
	lossPatience               = 10 * time.Minute
)

// fate is what became of one alert as its sender saw it.
type fate int32

const (
	notSent fate = iota
	created
	repeated
	spooled
	// unanswered means that the connection ended: it may be recorded, or not.
	unanswered
)

// loss is a receiver with senders that post distinct alerts as fast as they can.
type loss struct {
	*harness.Domain
	receiver *harness.ReceiverProcess
	spool    string
	metrics  string
	token    string
	fates    []fate
	accepted atomic.Int64
	refusals atomic.Int64
}

func newLoss(t *testing.T, alerts int) *loss {
	t.Helper()
	l := &loss{Domain: harness.Get(t).NewDomain(t), fates: make([]fate, alerts)}
	l.spool, l.metrics = t.TempDir(), harness.FreeAddress(t)
	l.receiver = l.StartReceiver(t, "--spool-dir="+l.spool, "--metrics-bind-address="+l.metrics)
	l.token = l.NewSender(t, "falco").Token
	transport, ok := l.receiver.HTTP.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("the receiver's client has a %T", l.receiver.HTTP.Transport)
	}
	transport = transport.Clone()
	transport.MaxIdleConnsPerHost = lossSenders
	t.Cleanup(transport.CloseIdleConnections)
	l.receiver.HTTP.Transport = transport
	return l
}

// post sends the alerts from one number up to another, and returns when each has its fate.
func (l *loss) post(t *testing.T, from, to int) *sync.WaitGroup {
	var senders sync.WaitGroup
	var next atomic.Int64
	next.Store(int64(from))
	for range lossSenders {
		senders.Go(func() {
			for n := int(next.Add(1)) - 1; n < to; n = int(next.Add(1)) - 1 {
				l.fates[n] = l.send(t, n)
				if l.fates[n] != unanswered {
					l.accepted.Add(1)
				}
			}
		})
	}
	return &senders
}

// send sends one alert until it is answered 2xx, or nobody knows what became of it. What was
// refused, or never reached the receiver, is sent again.
func (l *loss) send(t *testing.T, n int) fate {
	body := harness.FalcoAlert(l.Target, fmt.Sprintf("pod-%d", n), time.Now())
	for t.Context().Err() == nil {
		answer, err := l.receiver.Send(t, l.Namespace, "falco", l.token, body)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
		case err != nil:
			return unanswered
		case answer.Code == http.StatusCreated:
			return created
		case answer.Code == http.StatusOK:
			return repeated
		case answer.Code == http.StatusAccepted:
			return spooled
		default:
			l.refusals.Add(1)
		}
		time.Sleep(resendAfter) // a sender's own pause
	}
	return unanswered
}

func (l *loss) waitAccepted(t *testing.T, count int) {
	t.Helper()
	for deadline := time.Now().Add(lossPatience); l.accepted.Load() < int64(count); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d alerts accepted, want %d", l.accepted.Load(), count)
		}
	}
}

// recorded gives how often each alert's pod was seen, and how many events there are.
func (l *loss) recorded(t *testing.T) (seen map[string]int64, events int) {
	t.Helper()
	var list v1alpha1.SecurityEventList
	if err := l.Client.List(t.Context(), &list, client.InNamespace(l.Namespace)); err != nil {
		t.Fatal(err)
	}
	seen = map[string]int64{}
	for i := range list.Items {
		sum := int64(1)
		for _, counter := range list.Items[i].Status.Counters {
			sum += counter.Count
		}
		for _, resource := range list.Items[i].Spec.Resources {
			seen[resource.Name] += sum
		}
	}
	return seen, len(list.Items)
}

// TestNoAlertIsLost posts distinct alerts at full speed while the API server is down for a
// while and the receiver is killed twice: once while it can only spool, and once while it
// drains. Every alert that was answered 2xx is there afterwards, once.
// FIREBREAK_LOSS_ALERTS says how many.
func TestNoAlertIsLost(t *testing.T) {
	alerts, down := countOf(t, "FIREBREAK_LOSS_ALERTS", lossAlerts, lossAlertsLong), outage
	if os.Getenv("FIREBREAK_LONG") == "1" {
		down = outageLong
	}
	l := newLoss(t, alerts)
	api := l.APIServer(t)
	l.receiver.WaitReady(t)
	l.post(t, 0, alerts/5).Wait()

	away := time.Now()
	api.Kill(t)
	duringOutage := l.post(t, alerts/5, alerts*4/5)
	l.waitAccepted(t, alerts/2)
	l.receiver.Kill(t)
	l.receiver.Launch(t)
	duringOutage.Wait()
	spooling := time.Since(away)
	time.Sleep(time.Until(away.Add(down))) // the outage lasts that long
	api.Start(t)
	down = time.Since(away)

	back := time.Now()
	afterwards := l.post(t, alerts*4/5, alerts)
	harness.Eventually(t, lossPatience, "the spool to drain in part", harness.SpoolAtMost(l.metrics, alerts*2/5))
	l.receiver.Kill(t)
	l.receiver.Launch(t)
	afterwards.Wait()
	harness.Eventually(t, lossPatience, "the spool to drain", harness.SpoolAtMost(l.metrics, 0))
	drained := time.Since(back)
	l.receiver.Stop(t) // which lets the spool drain

	l.judge(t)
	file, err := os.Stat(filepath.Join(l.spool, "spool.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("API server down for %s; the %d alerts of the outage answered within %s; all recorded %s after it was back; spool file %d bytes",
		down.Round(time.Millisecond), alerts*4/5-alerts/5, spooling.Round(time.Millisecond), drained.Round(time.Millisecond), file.Size())
}

// judge counts what was lost and what is there twice, and prints the numbers.
func (l *loss) judge(t *testing.T) {
	t.Helper()
	seen, events := l.recorded(t)
	var lost, twice, unknownRecorded int
	fates := map[fate]int{}
	for n, became := range l.fates {
		fates[became]++
		count := seen[fmt.Sprintf("pod-%d", n)]
		switch {
		case count > 1:
			twice++
		case became == unanswered && count == 1:
			unknownRecorded++
		case became != unanswered && count == 0:
			lost++
		}
	}
	t.Logf("%d alerts: %d answered 201, %d 200, %d 202 (spooled), %d not answered (of which %d recorded); refused and sent again %d times; %d events; LOST %d, TWICE %d",
		len(l.fates), fates[created], fates[repeated], fates[spooled], fates[unanswered], unknownRecorded, l.refusals.Load(), events, lost, twice)
	if lost > 0 || twice > 0 || fates[notSent] > 0 {
		t.Errorf("%d alerts answered 2xx are lost, %d are there twice, %d were not sent", lost, twice, fates[notSent])
	}
	if fates[spooled] < len(l.fates)*2/5 {
		t.Errorf("%d alerts were answered 202, want more: the API server was down", fates[spooled])
	}
}
