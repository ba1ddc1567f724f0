package receiver

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
)

func TestFairTurns(t *testing.T) {
	f := newFair(4, 3, 10, 6)
	ctx := t.Context()
	for range 3 { // one key never has all turns
		if err := f.enter(ctx, "flood", 0); err != nil {
			t.Fatal(err)
		}
	}
	entered := make(chan string, 20)
	wait := func(key string) {
		before := f.waitingNow()
		go func() {
			if f.enter(ctx, key, 0) == nil {
				entered <- key
			}
		}()
		for f.waitingNow() == before {
			runtime.Gosched() // until it waits
		}
	}
	for range 6 {
		wait("flood")
	}
	if err := f.enter(ctx, "flood", 0); !errors.Is(err, errNoTurn) {
		t.Errorf("the flood's seventh: %v, want %v", err, errNoTurn)
	}
	if err := f.enter(ctx, "single", 0); err != nil {
		t.Errorf("another's first: %v, want a turn at once", err)
	}
	wait("other")
	f.leave("flood")
	if got := <-entered; got != "flood" {
		t.Errorf("first in the rotation is %s, want flood", got)
	}
	f.leave("flood")
	if got := <-entered; got != "other" {
		t.Errorf("second in the rotation is %s, want other", got)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := f.enter(ended, "late", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("who goes away: %v, want %v", err, context.Canceled)
	}
	if err := f.enter(ctx, "late", time.Millisecond); !errors.Is(err, errWaited) {
		t.Errorf("who waits too long: %v, want %v", err, errWaited)
	}
	for _, key := range []string{"flood", "single", "other", "flood", "flood", "flood", "flood", "flood", "flood"} {
		f.leave(key)
	}
	for range 5 {
		<-entered
	}
	if f.taken != 0 || f.waiting != 0 || len(f.queues) != 0 || len(f.rotation) != 0 || len(f.takenBy) != 0 {
		t.Errorf("left behind: %+v", f)
	}
}

func (f *fair) waitingNow() int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.waiting
}
