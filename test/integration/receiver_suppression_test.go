package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// duel is a receiver, an honest sender, and a reporter who means to have the sender's alerts
// not be seen. The reporter has the role that ships.
type duel struct {
	*harness.Domain
	receiver        *harness.ReceiverProcess
	metrics         string // the address at which the receiver serves them
	honest, mallory harness.Sender
	as              client.Client // mallory's own
}

func newDuel(t *testing.T) *duel {
	t.Helper()
	d := &duel{Domain: harness.Get(t).NewDomain(t)}
	d.metrics = harness.FreeAddress(t)
	d.receiver = d.StartReceiver(t, "--spool-dir="+t.TempDir(), "--metrics-bind-address="+d.metrics)
	d.honest, d.mallory = d.NewSender(t, "falco"), d.NewSender(t, "mallory")
	d.as = d.As(t, d.mallory.User, "system:serviceaccounts", "system:serviceaccounts:"+d.Namespace, "system:authenticated")
	return d
}

// expected is the event that the receiver makes of an alert of the honest sender, as anybody
// can work it out who sends the same to a domain of their own.
func (d *duel) expected(t *testing.T, pod string) *v1alpha1.SecurityEvent {
	t.Helper()
	answer := d.send(t, d.honest, pod)
	if answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s", answer.Code, answer.Body)
	}
	d.settle(t)
	event := d.about(t, pod)[0]
	noTrace := event.DeepCopy()
	done(t, d.Client.Delete(t.Context(), noTrace))
	return &event
}

func (d *duel) send(t *testing.T, sender harness.Sender, pod string) harness.Answer {
	t.Helper()
	return d.receiver.Post(t, d.Namespace, "falco", sender.Token, harness.FalcoAlert(d.Target, pod, floodTime))
}

// settle waits until what was sent is recorded: a receiver that waits too long for the API
// server puts an alert into its spool.
func (d *duel) settle(t *testing.T) {
	t.Helper()
	harness.Eventually(t, harness.Patience, "the spool to drain", harness.SpoolAtMost(d.metrics, 0))
}

// about are the events about a pod.
func (d *duel) about(t *testing.T, pod string) (events []v1alpha1.SecurityEvent) {
	t.Helper()
	var list v1alpha1.SecurityEventList
	done(t, d.Client.List(t.Context(), &list, client.InNamespace(d.Namespace)))
	for _, event := range list.Items {
		if len(event.Spec.Resources) > 0 && event.Spec.Resources[0].Name == pod {
			events = append(events, event)
		}
	}
	return events
}

// wantHeard holds that the honest sender's alerts about a pod were recorded, so often, in
// events of the honest sender alone.
func (d *duel) wantHeard(t *testing.T, pod string, times int64) {
	t.Helper()
	harness.Eventually(t, harness.Patience, "the honest sender's alerts to be recorded", func(context.Context) error {
		var seen int64
		for _, event := range d.about(t, pod) {
			counted := int64(0)
			for _, counter := range event.Status.Counters {
				counted += counter.Count
			}
			if event.Spec.SubmittedBy == d.honest.User {
				seen += 1 + counted
			} else if counted > 0 {
				t.Fatalf("%s, by %s, counts %d alerts", event.Name, event.Spec.SubmittedBy, counted)
			}
		}
		if seen != times {
			return fmt.Errorf("%d alerts were recorded, want %d", seen, times)
		}
		return nil
	})
}

// forge creates an event as mallory: the honest sender's, but for who submits it, which
// admission holds to the truth.
func (d *duel) forge(t *testing.T, name string, like *v1alpha1.SecurityEvent, change func(*v1alpha1.SecurityEvent)) (*v1alpha1.SecurityEvent, error) {
	t.Helper()
	forged := &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: name, Annotations: like.Annotations}, Spec: *like.Spec.DeepCopy(),
	}
	forged.Spec.SubmittedBy = d.mallory.User
	if change != nil {
		change(forged)
	}
	return forged, d.as.Create(t.Context(), forged)
}

// TestNobodyIsSilenced has a reporter try to have another sender's alerts swallowed.
func TestNobodyIsSilenced(t *testing.T) {
	d := newDuel(t)
	for name, attack := range map[string]func(t *testing.T, pod string){
		"the name, with all that the event would say": func(t *testing.T, pod string) {
			like := d.expected(t, pod)
			_, err := d.forge(t, like.Name, like, nil)
			done(t, err)
		},
		"the name, in the sender's name": func(t *testing.T, pod string) {
			like := d.expected(t, pod)
			_, err := d.forge(t, like.Name, like, func(e *v1alpha1.SecurityEvent) { e.Spec.SubmittedBy = d.honest.User })
			refused(t, err, "must be '"+d.mallory.User+"'")
		},
		"the name, of a report of a person": func(t *testing.T, pod string) {
			like := d.expected(t, pod)
			_, err := d.forge(t, like.Name, like, func(e *v1alpha1.SecurityEvent) {
				e.Spec.Source, e.Spec.Fingerprint, e.Spec.RawDataHash = v1alpha1.EventSource{Kind: v1alpha1.SourceHuman}, "", ""
			})
			done(t, err)
		},
		"the name, with a count": func(t *testing.T, pod string) {
			like := d.expected(t, pod)
			counters := []v1alpha1.EventCounter{{Spool: "receiver-0", Count: 1000, Sequence: 1 << 62}}
			forged, err := d.forge(t, like.Name, like, func(e *v1alpha1.SecurityEvent) { e.Status.Counters = counters })
			done(t, err)
			if len(forged.Status.Counters) > 0 {
				t.Errorf("a reporter has created an event with counters %+v", forged.Status.Counters)
			}
			forged.Status.Counters = counters
			if err := d.as.Status().Update(t.Context(), forged); err == nil {
				t.Error("a reporter has forged a counter")
			}
		},
		"the same fingerprint, by way of the receiver": func(t *testing.T, pod string) {
			if answer := d.send(t, d.mallory, pod); answer.Code/100 != 2 {
				t.Fatalf("the receiver answers %d: %s", answer.Code, answer.Body)
			}
			d.settle(t)
		},
		"the same fingerprint, as an event of its own": func(t *testing.T, pod string) {
			like := d.expected(t, pod)
			body := fmt.Sprintf(`{"title":"nothing","severity":"Informational","source":{"product":"falco","rule":%q},"fingerprint":%q,"observedTime":%q,"resources":[{"apiVersion":"v1","kind":"Pod","namespace":%q,"name":%q}]}`,
				like.Spec.Source.Rule, like.Spec.Fingerprint, like.Spec.ObservedTime.Format(time.RFC3339), d.Target, pod)
			if answer := d.receiver.Post(t, d.Namespace, "events", d.mallory.Token, []byte(body)); answer.Code/100 != 2 {
				t.Fatalf("the receiver answers %d: %s", answer.Code, answer.Body)
			}
			d.settle(t)
		},
		"all names there can be": func(t *testing.T, pod string) {
			like := d.expected(t, pod)
			d.takeNames(t, like, 30)
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := strings.NewReplacer(",", "", "'", "", " ", "-").Replace(name)
			attack(t, pod)
			before := len(d.about(t, pod))
			for n := range int64(3) {
				answer := d.send(t, d.honest, pod)
				if answer.Code/100 != 2 {
					t.Fatalf("alert %d is answered %d: %s", n, answer.Code, answer.Body)
				}
			}
			d.wantHeard(t, pod, 3)
			if after := len(d.about(t, pod)); after != before+1 {
				t.Errorf("%d events are about it after the alerts, want one more than %d", after, before)
			}
		})
	}
}

// takeNames has mallory see which name each alert gets, and take that one and its successors.
func (d *duel) takeNames(t *testing.T, like *v1alpha1.SecurityEvent, most int) {
	t.Helper()
	pod := like.Spec.Resources[0].Name
	for range most {
		if answer := d.send(t, d.honest, pod); answer.Code/100 != 2 {
			t.Fatalf("the receiver answers %d: %s", answer.Code, answer.Body)
		}
		d.settle(t) // or it would be recorded, and counted, after its name was taken
		for _, event := range d.about(t, pod) {
			if event.Spec.SubmittedBy != d.honest.User {
				continue
			}
			done(t, d.Client.Delete(t.Context(), &event))
			_, err := d.forge(t, event.Name, like, nil)
			done(t, err)
		}
	}
}

// TestCountersAreTheReceiversOwn: a person who may change events may not count.
func TestCountersAreTheReceiversOwn(t *testing.T) {
	d := newDuel(t)
	const pod = "counted"
	d.send(t, d.honest, pod)
	d.settle(t)
	event := d.about(t, pod)[0]
	admin := d.As(t, "root-of-the-domain", harness.Masters)
	forged := client.RawPatch(types.MergePatchType, []byte(`{"status":{"counters":[{"spool":"receiver-0","count":5,"sequence":9000000000000000000}]}}`))
	refused(t, admin.Status().Patch(t.Context(), event.DeepCopy(), forged), "only Firebreak writes it")
	d.send(t, d.honest, pod)
	d.wantHeard(t, pod, 2)
}

// TestDrillsAreNotTakenForTheRealThing: the same report, as a drill and live, is two events that
// are counted apart, whichever comes first; and no alert becomes a drill by what it says.
func TestDrillsAreNotTakenForTheRealThing(t *testing.T) {
	d := newDuel(t)
	const report = `{"title":"a shell","severity":"High","source":{"product":"falco","rule":"r"},"fingerprint":%q,"mode":%q,"observedTime":"2026-11-21T16:00:00Z","resources":[{"apiVersion":"v1","kind":"Pod","namespace":"shop","name":%q}]}`
	for pod, modes := range map[string][]v1alpha1.Mode{
		"drill-first": {v1alpha1.ModeDrill, v1alpha1.ModeLive, v1alpha1.ModeLive, v1alpha1.ModeDrill, v1alpha1.ModeLive},
		"live-first":  {v1alpha1.ModeLive, v1alpha1.ModeDrill, v1alpha1.ModeDrill, v1alpha1.ModeLive, v1alpha1.ModeLive},
	} {
		want := map[v1alpha1.Mode]int64{}
		for i, mode := range modes {
			want[mode]++
			answer := d.receiver.Post(t, d.Namespace, "events", d.honest.Token, fmt.Appendf(nil, report, pod, mode, pod))
			if answer.Code/100 != 2 { // 202 where the API server is busy
				t.Errorf("%s: report %d, %s, is answered %d: %s", pod, i, mode, answer.Code, answer.Body)
			}
		}
		d.settle(t)
		d.wantHeard(t, pod, int64(len(modes)))
		events := d.about(t, pod)
		for _, event := range events {
			got := int64(1)
			for _, counter := range event.Status.Counters {
				got += counter.Count
			}
			if got != want[event.Spec.Mode] {
				t.Errorf("%s: %s, %s, was seen %d times, want %d", pod, event.Name, event.Spec.Mode, got, want[event.Spec.Mode])
			}
		}
		if len(events) != len(want) {
			t.Errorf("%s: there are %d events, want one of each mode", pod, len(events))
		}
	}
	if answer := d.receiver.Post(t, d.Namespace, "events", d.honest.Token, fmt.Appendf(nil, report, "f", "Exercise", "x")); answer.Code != http.StatusBadRequest || !strings.Contains(answer.Body, "`mode` must be Live or Drill") {
		t.Errorf("a mode that there is not is answered %d: %s", answer.Code, answer.Body)
	}
	const pod = "says-so"
	said := strings.Replace(string(harness.FalcoAlert(d.Target, pod, floodTime)), "{", `{"mode":"Drill",`, 1)
	if answer := d.receiver.Post(t, d.Namespace, "falco", d.honest.Token, []byte(said)); answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s", answer.Code, answer.Body)
	}
	d.wantHeard(t, pod, 1)
	if events := d.about(t, pod); events[0].Spec.Mode != v1alpha1.ModeLive {
		t.Errorf("an alert of Falco that says so is of mode %s", events[0].Spec.Mode)
	}
}
