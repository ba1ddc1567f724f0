package receiver

import (
	"context"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sync/semaphore"
)

// taker takes from a budget, and remembers it.
type taker struct {
	*testing.T
	*budget
	size     int64
	releases []func()
}

func (b *taker) takes(sender string, weight int64) bool {
	b.Helper()
	release, err := b.take(b.Context(), sender, weight, false)
	if err == nil {
		b.releases = append(b.releases, func() { release(weight/2, false); release(weight-weight/2, true) })
	}
	return err == nil
}

func (b *taker) empty() {
	b.Helper()
	for _, release := range b.releases {
		release()
	}
	rooms := []int64{}
	for _, room := range []*semaphore.Weighted{b.all, b.apart, b.little} {
		free := int64(0)
		for step := int64(1) << 40; step > 0; step /= 2 {
			if room.TryAcquire(step) {
				free += step
			}
		}
		rooms = append(rooms, free)
	}
	if sum := rooms[0] + rooms[1] + rooms[2]; sum != b.size || len(b.senders) != 0 {
		b.Errorf("%v of %d bytes are free, and left behind: %v", rooms, b.size, b.senders)
	}
}

// TestBudgetIsShared has one sender take what it can, and wait for more.
func TestBudgetIsShared(t *testing.T) {
	const body = 100
	b := &taker{T: t, budget: newBudget(8*body, body), size: 8*body + littleBudget}
	for n := range 6 {
		if !b.takes("flood", body) {
			t.Fatalf("there is no room for body %d of a sender", n)
		}
	}
	waited := make(chan error, 1)
	waiting, giveUp := context.WithCancel(t.Context())
	go func() {
		_, err := b.take(waiting, "flood", body, true)
		waited <- err
	}()
	for b.users("flood") != 7 { // until it waits, or has gone on
		select {
		case <-t.Context().Done():
			t.Fatal("the flood's seventh never came")
		default:
		}
	}
	if !b.takes("single", body) {
		t.Error("there is no room for the body of another")
	}
	giveUp()
	if err := <-waited; err == nil {
		t.Error("the flood's seventh body has room, want it to wait for the flood's own others")
	}
	b.empty()
}

// TestTwoFloodsLeaveRoom has senders of large bodies take all there is, and wait for more: a small
// body of another has its room at once, as have more of it, and one large one.
func TestTwoFloodsLeaveRoom(t *testing.T) {
	b := &taker{T: t, budget: newBudget(bodyBudget, DefaultMaxBodyBytes), size: bodyBudget + littleBudget}
	for _, flood := range []string{"a", "b"} {
		for b.takes(flood, DefaultMaxBodyBytes) {
		}
	}
	var waiting sync.WaitGroup
	ended, end := context.WithCancel(t.Context())
	for _, flood := range []string{"a", "b"} {
		before := b.users(flood)
		waiting.Go(func() { _, _ = b.take(ended, flood, DefaultMaxBodyBytes, true) })
		for b.users(flood) == before { // until it waits
			runtime.Gosched()
		}
	}
	for n := range littleOfOne / (2 << 10) {
		if !b.takes("single", 2<<10) {
			t.Fatalf("there is no room for small body %d while two others flood", n)
		}
	}
	if !b.takes("scanner", DefaultMaxBodyBytes) {
		t.Error("there is no room for one large body while two others flood")
	}
	if b.takes("scanner", DefaultMaxBodyBytes) {
		t.Error("who has a large body apart has room for a second")
	}
	if !b.takes("last", 2<<10) {
		t.Error("there is no room for a small body when that for a large one is taken")
	}
	end()
	waiting.Wait()
	b.empty()
}

func (b *budget) users(sender string) int {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if own := b.senders[sender]; own != nil {
		return own.users
	}
	return 0
}

// TestBudgetHasRoomForLargeBodies: a limit set high must not make every body wait for ever.
func TestBudgetHasRoomForLargeBodies(t *testing.T) {
	b := newBudget(bodyBudget, bodyBudget)
	release, err := b.take(t.Context(), "sender", bodyBudget, true)
	if err != nil {
		t.Fatal(err)
	}
	release(bodyBudget, true)
}
