package receiver

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// TestArrivals: places are bounded, and those of one sender; what is left is free again.
func TestArrivals(t *testing.T) {
	a := newArrivals(8)
	for n := range 6 {
		if !a.enter("flood") {
			t.Fatalf("there is no place for request %d of a sender", n)
		}
	}
	if a.enter("flood") {
		t.Error("one sender has more than three quarters of the places")
	}
	for range 2 {
		if !a.enter("other") {
			t.Error("there is no place for another sender")
		}
	}
	if a.enter("third") {
		t.Error("more requests have places than there are")
	}
	for range 6 {
		a.leave("flood")
	}
	a.leave("other")
	a.leave("other")
	if a.taken != 0 || len(a.takenBy) != 0 {
		t.Errorf("left behind: %d, %v", a.taken, a.takenBy)
	}
}

// TestPlacesAreTakenByWhoIsKnown has a known sender come with as many requests as there are places
// while the API server, asked anew about it, takes its time: another has a place.
func TestPlacesAreTakenByWhoIsKnown(t *testing.T) {
	s := newSite(t)
	g, passing := s.gated(), clocktesting.NewFakeClock(time.Now())
	handler := s.handler(Options{Name: "r0", MaxInFlight: 4, MaxWaiting: 12, Clock: passing})
	handler.gate.timeout = time.Hour
	_, other := s.newSender("other")
	path := "/v1/namespaces/" + s.namespace + "/falco"
	var sent atomic.Int64
	post := func(token string) received { // each makes an event: repeats would rest by the clock
		body := falcoBody(t, "cart-7f9", fmt.Sprint("cart-", sent.Add(1)))
		r, err := s.send(http.MethodPost, path, token, strings.NewReader(body))
		if err != nil {
			t.Error(err)
		}
		return r
	}
	post(s.token).want(t, http.StatusCreated)
	passing.Step(allowedFor + time.Second)
	post(other).want(t, http.StatusCreated)
	release := g.holdReviews()
	defer release()
	most := handler.arrivals.most
	answers := make(chan received, most)
	for range most {
		go func() { answers <- post(s.token) }()
	}
	s.eventually("its requests wait, or are refused", func() bool {
		handler.arrivals.mutex.Lock()
		defer handler.arrivals.mutex.Unlock()
		return handler.arrivals.taken+len(answers) == most
	})
	post(other).want(t, http.StatusCreated)
	release()
	statuses := map[int]int{}
	for range most {
		statuses[(<-answers).status]++
	}
	if statuses[http.StatusCreated] != handler.arrivals.mostOfOne || statuses[http.StatusTooManyRequests] != most-handler.arrivals.mostOfOne {
		t.Errorf("the sender's requests were answered %v, want %d taken and the others 429", statuses, handler.arrivals.mostOfOne)
	}
}
