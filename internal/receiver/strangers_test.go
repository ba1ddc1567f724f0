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
		one := s.enter(address)
		defer one.leave()
		for taken < 1000 && one.take() {
			taken++
		}
		return taken
	}
	if got := takes("10.0.0.1"); got != strangerBurst {
		t.Errorf("an address has %d reviews, want %d", got, strangerBurst)
	}
	giveBack := func(address string) {
		one := s.enter(address)
		defer one.leave()
		one.giveBack()
	}
	giveBack("10.0.0.1")
	if got := takes("10.0.0.1"); got != 1 {
		t.Errorf("after one was given back there are %d, want 1", got)
	}
	for range 3 {
		giveBack("10.0.0.2")
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

	var inside []*stranger
	enters := func(address string) bool {
		one := s.enter(address)
		if one != nil {
			inside = append(inside, one)
		}
		return one != nil
	}
	for n := range 6 {
		if !enters("10.0.0.1") {
			t.Errorf("request %d of an address may not wait", n)
		}
	}
	if enters("10.0.0.1") {
		t.Error("one address takes more than three quarters of the places")
	}
	if !enters("10.0.0.2") || !enters("10.0.0.3") || enters("10.0.0.4") {
		t.Error("there must be places for two more, and no third")
	}
	inside[0].leave()
	inside = inside[1:]
	if !enters("10.0.0.4") {
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
		one.take()
	}
	if (&stranger{of: s, crowd: s.anywhere, address: "10.3.0.1"}).take() {
		t.Error("more reviews are had by strangers than they may")
	}
	known := s.enter("10.0.0.1")
	if known == nil || !known.take() {
		t.Error("one from the address of a sender waits behind strangers")
	}
	// Its address bounds it nevertheless.
	for known.take() {
	}
	clock.Step(knownFor + time.Second)
	if s.enter("10.0.0.1") != nil {
		t.Error("an address is a friend's for ever")
	}
}
