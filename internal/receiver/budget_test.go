package receiver

import (
	"context"
	"testing"
)

// TestBudgetIsShared has one sender take what it can, and wait for more.
func TestBudgetIsShared(t *testing.T) {
	const body = 100
	b := newBudget(4*body, body)
	ctx := t.Context()
	var releases []func(int64, bool)
	for range 3 {
		release, err := b.take(ctx, "flood", body)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	waited := make(chan error, 1)
	waiting, giveUp := context.WithCancel(ctx)
	go func() {
		_, err := b.take(waiting, "flood", body)
		waited <- err
	}()
	for b.users("flood") != 4 { // until it waits, or has gone on
		select {
		case <-ctx.Done():
			t.Fatal("the flood's fourth never came")
		default:
		}
	}
	release, err := b.take(ctx, "single", body)
	if err != nil {
		t.Fatal(err)
	}
	release(body-10, false)
	release(10, true)
	giveUp()
	if err := <-waited; err == nil {
		t.Error("the flood's fourth body has room, want it to wait for the flood's own others")
	}
	for _, release := range releases {
		release(body, true)
	}
	if !b.all.TryAcquire(4*body) || len(b.senders) != 0 {
		t.Errorf("left behind: %v", b.senders)
	}
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
	release, err := b.take(t.Context(), "sender", bodyBudget)
	if err != nil {
		t.Fatal(err)
	}
	release(bodyBudget, true)
}
