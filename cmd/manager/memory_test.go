package main

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestStartMemory(t *testing.T) {
	tests := map[string]struct {
		// stages are reached, and each is given so much time; then it ends.
		stages []time.Duration
		want   int
	}{
		"it ends before all is read":                   {nil, 0},
		"it ends while all is read":                    {[]time.Duration{startTakes - time.Second}, 0},
		"it never leads":                               {[]time.Duration{startTakes}, 1},
		"it ends while it looks at all for the leader": {[]time.Duration{startTakes, startTakes - time.Second}, 1},
		"it leads": {[]time.Duration{startTakes, startTakes}, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fake := clocktesting.NewFakeClock(time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC))
			freed, m := make(chan struct{}, 3), &startMemory{clock: fake}
			m.free = func() { freed <- struct{}{} }
			for i := range 2 {
				m.stages = append(m.stages, func(ctx context.Context) bool {
					if i < len(test.stages) {
						return true
					}
					<-ctx.Done()
					return false
				})
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- m.Start(ctx) }()
			for _, passes := range test.stages {
				if err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
					return fake.HasWaiters(), nil
				}); err != nil {
					t.Fatal(err)
				}
				fake.Step(passes)
			}
			for range test.want {
				select {
				case <-freed:
				case <-time.After(time.Minute):
					t.Fatal("it gives no memory back")
				}
			}
			if test.want < len(m.stages) {
				cancel()
			}
			if err := <-ended; err != nil || len(freed) > 0 {
				t.Errorf("it gave memory back %d times more than %d, and ended with error %v", len(freed), test.want, err)
			}
		})
	}
}
