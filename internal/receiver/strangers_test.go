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
)

func TestStrangers(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	s := newStrangers(clock, 8)
	takes := func(address string) (taken int) {
		one := s.enter(address)
		defer one.leave()
		for taken < 1000 && one.ask(t.Context()) {
			taken++
			one.told(false)
		}
		return taken
	}
	if got := takes("10.0.0.1"); got != strangerBurst {
		t.Errorf("an address has %d reviews, want %d", got, strangerBurst)
	}
	clock.Step(3 * time.Second)
	if got := takes("10.0.0.1"); got != 3*strangerRate {
		t.Errorf("after 3 s there are %d, want %d", got, 3*strangerRate)
	}
	all := 0
	for n := range 100 {
		all += takes("10.1.0." + itoa(n))
	}
	if all > allStrangersBurst || all < allStrangersBurst-3*strangerBurst {
		t.Errorf("all addresses have %d, want at most %d", all, allStrangersBurst)
	}

	var inside []*stranger
	enters := func(address string) bool {
		one := s.enter(address)
		if one != nil {
			inside = append(inside, one)
		}
		return one != nil
	}
	for n := range 4 {
		if !enters("10.0.0.1") {
			t.Errorf("request %d of an address may not wait", n)
		}
	}
	if enters("10.0.0.1") {
		t.Error("one address takes more than two thirds of the places")
	}
	for n := range 4 {
		if got := enters("10.0.0." + itoa(n+2)); !got {
			t.Errorf("there is no place for request %d of others", n)
		}
	}
	if enters("10.0.0.9") {
		t.Error("more wait than may")
	}
	inside[0].leave()
	inside = inside[1:]
	if !enters("10.0.0.9") {
		t.Error("a place that was left must be free")
	}
	for _, one := range inside {
		one.leave()
	}
	if s.anywhere.waiting != 0 || s.ofFriends.waiting != 0 || len(s.waitingAt) != 0 {
		t.Errorf("left behind: %d, %d, %v", s.anywhere.waiting, s.ofFriends.waiting, s.waitingAt)
	}
}

// TestRenewedTokenIsNotHeldUp has strangers from everywhere use up what strangers may: one from
// where a sender has been of late is asked about all the same.
func TestRenewedTokenIsNotHeldUp(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	s := newStrangers(clock, 8)
	s.befriend("10.0.0.1")
	for n := range 8 {
		if s.enter("10.1.0."+itoa(n)) == nil {
			t.Fatalf("stranger %d may not wait", n)
		}
	}
	if s.enter("10.1.1.1") != nil {
		t.Error("the places are taken, and one more has one")
	}
	for n := range allStrangersBurst {
		one := &stranger{of: s, crowd: s.anywhere, address: "10.2.0." + itoa(n)}
		if !one.ask(t.Context()) {
			t.Fatalf("stranger %d may not be asked about", n)
		}
		one.told(false)
	}
	if (&stranger{of: s, crowd: s.anywhere, address: "10.3.0.1"}).ask(t.Context()) {
		t.Error("more reviews are had by strangers than they may")
	}
	known := s.enter("10.0.0.1")
	if known == nil || !known.ask(t.Context()) {
		t.Fatal("one from the address of a sender waits behind strangers")
	}
	known.told(false)
	// Its address bounds it nevertheless.
	for asked := 1; known.ask(t.Context()); asked++ {
		if known.told(false); asked > strangerBurst {
			t.Fatal("an address of a sender may use up more than others")
		}
	}
	clock.Step(knownFor + time.Second)
	if s.enter("10.0.0.1") != nil {
		t.Error("an address is a friend's for ever")
	}
}

// TestManySendersAreNew has far more senders than an address has reviews come from it for the first
// time, all at once: each waits for those before it, and somebody uses nothing up.
func TestManySendersAreNew(t *testing.T) {
	const senders = 50
	s := newStrangers(clocktesting.NewFakeClock(time.Now()), 2*senders)
	asked := make(chan *stranger, senders)
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			one := s.enter("10.0.0.1")
			defer one.leave()
			if !one.ask(t.Context()) {
				one = nil
			}
			asked <- one
		})
	}
	for n := range senders {
		one := <-asked
		if one == nil {
			t.Fatal("a sender was refused that is somebody")
		}
		if len(asked) > strangerBurst {
			t.Errorf("the API server is asked about %d at a time, want at most %d", len(asked)+1, strangerBurst)
		}
		one.told(n < senders-1)
	}
	all.Wait()
	if got := s.bucketOf("10.0.0.1"); got.lent != 0 || got.has(s.clock.Now()) != strangerBurst-1 || s.anywhere.lent != 0 || s.anywhere.tokens != allStrangersBurst-1 {
		t.Errorf("the address has %+v, all have %+v; want one token less than full, and none lent", got, s.anywhere.bucket)
	}
}

// TestNobodyIsWaitedFor: who waits for others that turn out to be nobody is refused with them, and
// nobody waits for ever.
func TestNobodyIsWaitedFor(t *testing.T) {
	s := newStrangers(clocktesting.NewFakeClock(time.Now()), 100)
	var asked []*stranger
	for range strangerBurst {
		one := s.enter("10.0.0.1")
		if !one.ask(t.Context()) {
			t.Fatal("nobody was asked about, and there is nothing left")
		}
		asked = append(asked, one)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if s.enter("10.0.0.1").ask(ended) {
		t.Error("more are asked about at a time than may be")
	}
	waits := s.enter("10.0.0.1")
	may := make(chan bool)
	go func() { may <- waits.ask(t.Context()) }()
	for _, one := range asked {
		select {
		case <-may:
			t.Fatal("it was refused before all are known to be nobody")
		default:
		}
		one.told(false)
	}
	if <-may {
		t.Error("it is asked about though all before it have used up what there was")
	}
}

// TestFailedReviewsAreNobodys: a review that fails says nothing of who is asked about, and uses nothing up.
func TestFailedReviewsAreNobodys(t *testing.T) {
	s := newSite(t)
	g := s.gated()
	s.handler(Options{Name: "r0", Clock: clocktesting.NewFakeClock(time.Now())})
	path := "/v1/namespaces/" + s.namespace + "/falco"
	g.shut.Store(true)
	for n := range strangerBurst + 2 {
		r, err := s.send(http.MethodPost, path, fmt.Sprint("new", n), strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.wantProblem(t, http.StatusServiceUnavailable, "unavailable")
	}
	g.shut.Store(false)
	s.post("falco", falcoBody(t)).want(t, http.StatusCreated)
	for n := range strangerBurst {
		if r, err := s.send(http.MethodPost, path, fmt.Sprint("bad", n), strings.NewReader("{}")); err != nil || r.status != http.StatusUnauthorized {
			t.Fatalf("nobody's request %d: status %d, error %v, want 401", n, r.status, err)
		}
	}
	r, err := s.send(http.MethodPost, path, "one more", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.wantProblem(t, http.StatusTooManyRequests, slugStrangers, "could not be looked up in time", "after the time in Retry-After")
}
