package receiver

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

func TestStrangers(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	s := newStrangers(clock, 8)
	takes := func(address string) (taken int) {
		for taken < 1000 && s.take(address) {
			taken++
		}
		return taken
	}
	if got := takes("10.0.0.1"); got != strangerBurst {
		t.Errorf("an address has %d reviews, want %d", got, strangerBurst)
	}
	s.giveBack("10.0.0.1")
	if got := takes("10.0.0.1"); got != 1 {
		t.Errorf("after one was given back there are %d, want 1", got)
	}
	for range 3 {
		s.giveBack("10.0.0.2")
	}
	if got := takes("10.0.0.2"); got != strangerBurst {
		t.Errorf("with what is too much given back there are %d, want %d", got, strangerBurst)
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

	for n := range 6 {
		if !s.enter("10.0.0.1") {
			t.Errorf("request %d of an address may not wait", n)
		}
	}
	if s.enter("10.0.0.1") {
		t.Error("one address takes more than three quarters of the places")
	}
	if !s.enter("10.0.0.2") || !s.enter("10.0.0.3") || s.enter("10.0.0.4") {
		t.Error("there must be places for two more, and no third")
	}
	s.leave("10.0.0.1")
	if !s.enter("10.0.0.4") {
		t.Error("a place that was left must be free")
	}
	for _, address := range []string{"10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"} {
		s.leave(address)
	}
	if s.waiting != 0 || len(s.waitingAt) != 0 {
		t.Errorf("left behind: %d, %v", s.waiting, s.waitingAt)
	}
}
