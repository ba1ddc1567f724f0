package main

import (
	"context"
	"runtime/debug"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// startTakes is for how long, after all is read, and after it leads, a manager is taken to be
// busy with all of it. What takes longer is left to Go.
const startTakes = 10 * time.Second

// startMemory gives back to the system what it took to read everything at the start, and
// then, when this manager leads, what it took to look at each object once. Go keeps what it
// has freed, up to the size it lets its heap grow to: with 50,000 events that were 100 MiB.
type startMemory struct {
	// stages each wait for one of the two; false means that the context has ended before.
	stages []func(ctx context.Context) bool
	clock  clock.Clock
	free   func()
}

var (
	_ manager.Runnable               = (*startMemory)(nil)
	_ manager.LeaderElectionRunnable = (*startMemory)(nil)
)

func newStartMemory(mgr ctrl.Manager) *startMemory {
	elected := func(ctx context.Context) bool {
		select {
		case <-ctx.Done():
			return false
		case <-mgr.Elected():
			return true
		}
	}
	return &startMemory{
		stages: []func(context.Context) bool{mgr.GetCache().WaitForCacheSync, elected},
		clock:  clock.RealClock{}, free: debug.FreeOSMemory,
	}
}

// NeedLeaderElection says that who does not lead reads as much.
func (*startMemory) NeedLeaderElection() bool { return false }

// Start waits for each of them to be over, and gives its memory back.
func (m *startMemory) Start(ctx context.Context) error {
	for _, reached := range m.stages {
		if !reached(ctx) {
			return nil
		}
		timer := m.clock.NewTimer(startTakes)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
			m.free()
		}
	}
	return nil
}
