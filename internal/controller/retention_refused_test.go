package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestWhatCannotBeDeletedHoldsUpNothing has the API server refuse to delete an incident and an
// event, each before others, and to take Events.
func TestWhatCannotBeDeletedHoldsUpNothing(t *testing.T) {
	for _, refused := range []string{"a-first", "dismissed-first"} {
		t.Run(refused, func(t *testing.T) {
			k := newKeeping(t)
			k.closed(t, "a-first", 52*time.Hour)
			k.joined(t, "sev-first", "a-first")
			k.closed(t, "second", 50*time.Hour)
			k.event(t, "dismissed-first", 52*time.Hour, v1alpha1.OutcomeDismissed)
			k.event(t, "dismissed-second", 50*time.Hour, v1alpha1.OutcomeDismissed)
			k.refuses.Store(&refused)
			k.planFor(t, v1alpha1.PlanRetention{ClosedIncidents: hoursOf(48), DismissedEvents: hoursOf(48)})
			want := []string{refused}
			if refused == "a-first" {
				want = append(want, "sev-first")
			}
			k.awaitThere(t, want...)
			k.settle(t)
			if told := k.told(t, v1alpha1.ReasonRetentionKept); len(told) != 1 || !strings.Contains(told[0], "a policy says so") {
				t.Errorf("told %q", told)
			}
			names, _ := k.journaled(t)
			k.settle(t)
			if again, _ := k.journaled(t); len(again) != len(names) {
				t.Errorf("journaled %q, and then %q: the next try is a day later", names, again)
			}
			k.refuses.Store(nil)
			k.clock.SetTime(k.clock.Now().Add(25 * time.Hour))
			k.awaitThere(t)
		})
	}
}
