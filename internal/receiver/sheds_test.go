package receiver

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
)

// TestShedsAreTold counts what is told of, once a minute for each sender.
func TestShedsAreTold(t *testing.T) {
	clock := clocktesting.NewFakeClock(testTime)
	var told []*alert
	var fails error
	s := newSheds(&Options{Clock: clock, Name: "r0", Log: logr.Discard()}, func(namespace string, a *alert) outcome {
		if namespace != "security" {
			t.Errorf("namespace %s is told", namespace)
		}
		if fails != nil {
			return outcome{err: fails}
		}
		checkSchema(t, a)
		told = append(told, a)
		return outcome{name: "e"}
	})
	add := func(namespace, sender string, alerts int) {
		s.add(shedKey{namespace, sender}, "falco", "too-fast", alerts)
	}
	want := func(what string, alerts ...string) {
		t.Helper()
		var got []string
		for _, a := range told {
			got = append(got, string(a.spec.Attributes["shed.alerts"]))
		}
		if told = nil; fmt.Sprint(got) != fmt.Sprint(alerts) {
			t.Errorf("%s: told of %v alerts, want %v", what, got, alerts)
		}
	}
	s.admitted("security")
	add("security", "falco", 3)
	add("security", "falco", 4)
	add("nowhere", "", 1000)
	s.tell(t.Context())
	want("at first", "7")
	add("security", "falco", 1)
	s.tell(t.Context())
	want("within the minute")
	clock.Step(shedEvery)
	fails = unavailable("away")
	s.tell(t.Context())
	fails = nil
	add("security", "falco", 2)
	clock.Step(shedEvery)
	s.tell(t.Context())
	want("after it, and after it could not be told", "3")
	if len(s.pending) != 0 {
		t.Errorf("%d are pending, want none", len(s.pending))
	}
	for n := range 3 * maxShedSenders {
		add("security", fmt.Sprint("sender ", n), 1)
	}
	if len(s.pending) > maxShedSenders+1 {
		t.Errorf("%d senders are told apart, want at most %d", len(s.pending), maxShedSenders+1)
	}
	others := s.pending[shedKey{"security", ""}]
	if others == nil || others.alerts != 2*maxShedSenders {
		t.Errorf("of the others together there are %+v alerts, want %d", others, 2*maxShedSenders)
	}
}

// TestShedsAreToldAtTheEnd: what is pending when the receiver ends is told, also of whom it was just
// told; and what cannot be told is in the log, as is how many alerts a repeat is about.
func TestShedsAreToldAtTheEnd(t *testing.T) {
	clock, log := clocktesting.NewFakeClock(testTime), &logLines{}
	var mutex sync.Mutex
	told := map[string]string{}
	s := newSheds(&Options{Clock: clock, Name: "r0", Log: funcr.New(log.add, funcr.Options{})}, func(namespace string, a *alert) outcome {
		if namespace == "away" {
			return outcome{err: unavailable("away")}
		}
		mutex.Lock()
		defer mutex.Unlock()
		sender := string(a.spec.Attributes["shed.sender"])
		repeat := told[sender] != ""
		told[sender] += string(a.spec.Attributes["shed.alerts"]) + " "
		return outcome{name: "e", created: !repeat}
	})
	s.admitted("security")
	s.admitted("away")
	s.add(shedKey{"security", "falco"}, "falco", "too-fast", 3)
	s.tell(t.Context())
	s.add(shedKey{"security", "falco"}, "falco", "too-fast", 4)
	s.add(shedKey{"security", "trivy"}, "trivy-operator", "overloaded", 5)
	s.add(shedKey{"away", "falco"}, "falco", "too-fast", 6)
	ending, end := context.WithCancel(t.Context())
	end()
	s.run(ending)
	if told["falco"] != "3 4 " || told["trivy"] != "5 " || len(told) != 2 {
		t.Errorf("told of %v, want of 3 and then 4 of falco, and 5 of trivy", told)
	}
	before := log.String()
	if strings.Count(before, "\n") != 1 || !strings.Contains(before, `"namespace"="security" "sender"="falco" "alerts"=4 "formats"="falco" "reasons"="too-fast"`) {
		t.Errorf("the log says %s, want only how many alerts of falco the repeat is about", before)
	}
	s.giveUp()
	if said := strings.TrimPrefix(log.String(), before); strings.Count(said, "\n") != 1 || !strings.Contains(said, `"namespace"="away" "sender"="falco" "alerts"=6 "formats"="falco" "reasons"="too-fast"`) {
		t.Errorf("the log says %s, want what of falco could not be told", said)
	}
}

// TestShedIsAnEvent sends more than a sender may, and finds that in the domain.
func TestShedIsAnEvent(t *testing.T) {
	s := newSite(t)
	clock := clocktesting.NewFakeClock(time.Now())
	handler := s.handler(Options{Name: "r0", SenderRate: 0.001, SenderBurst: 1, Clock: clock})
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	for range 3 {
		s.post("falco", falcoBody(t)).wantProblem(t, http.StatusTooManyRequests, "too-fast")
	}
	// Nobody's credentials are counted, and told of to a domain that somebody reports to.
	for range strangerBurst + 2 {
		r, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/falco", "nonsense"+fmt.Sprint(time.Now().UnixNano()), strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if r.status != http.StatusUnauthorized && r.status != http.StatusTooManyRequests {
			t.Errorf("status %d, want 401 or 429", r.status)
		}
	}
	s.wantMetrics(handler, `alerts_total{format="falco",outcome="shed"} 3`, `alerts_total{format="falco",outcome="shed_unauthenticated"} 2`)
	handler.sheds.tell(t.Context())
	said := map[string]string{}
	for _, event := range s.events() {
		if event.Spec.Source.Rule == ruleShed {
			said[string(event.Spec.Attributes["shed.sender"])] = string(event.Spec.Attributes["shed.alerts"]) + " " + string(event.Spec.Attributes["shed.reasons"])
			if event.Spec.SubmittedBy != ownUserName {
				t.Errorf("submittedBy is %q, want %q", event.Spec.SubmittedBy, ownUserName)
			}
		}
	}
	if said[s.sender] != "3 too-fast" || said[""] != "2 too-many-unauthenticated" || len(said) != 2 {
		t.Errorf("the domain was told %v, want of 3 alerts of %s and 2 of nobody knows whom", said, s.sender)
	}
}
