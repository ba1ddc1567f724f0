package receiver

import "testing"

// TestArrivals: places are bounded, and those of one sender; what is left is free again.
func TestArrivals(t *testing.T) {
	a := newArrivals(8)
	for n := range 6 {
		if !a.enter() || !a.claim("flood") {
			t.Fatalf("there is no place for request %d of a sender", n)
		}
	}
	if !a.enter() {
		t.Fatal("there is no place for one more")
	}
	if a.claim("flood") {
		t.Error("one sender has more than three quarters of the places")
	}
	a.leave("")
	for range 2 {
		if !a.enter() || !a.claim("other") {
			t.Error("there is no place for another sender")
		}
	}
	if a.enter() {
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
