package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
)

// TestRetentionWaitsWhileTheClockIsAhead has the manager's clock jump ahead, by which all is over:
// nothing goes, nothing is journaled, and it goes on when the clock is right again.
func TestRetentionWaitsWhileTheClockIsAhead(t *testing.T) {
	k := newKeeping(t)
	k.witness.Store(true)
	now := k.clock.Now()
	k.closed(t, "young", 2*time.Hour)
	k.joined(t, "first", "young")
	k.event(t, "dismissed", 2*time.Hour, v1alpha1.OutcomeDismissed)
	k.kept(t, "log", "young", "a log", 3*time.Hour)
	k.event(t, "old", 50*time.Hour, v1alpha1.OutcomeDismissed)
	k.clock.SetTime(now.Add(1000 * time.Hour))
	k.planFor(t, v1alpha1.PlanRetention{DismissedEvents: hoursOf(48), ClosedIncidents: hoursOf(48), Evidence: hoursOf(48)})
	waits := func() {
		t.Helper()
		key := ctrl.Request{NamespacedName: client.ObjectKey{Namespace: k.namespace, Name: v1alpha1.ResponsePlanName}}
		eventually(t, func(ctx context.Context) string {
			result, err := k.retention.Reconcile(ctx, key)
			if err != nil || result.RequeueAfter != clockRetry {
				return fmt.Sprintf("got %+v, %v", result, err)
			}
			return ""
		})
		for range 3 {
			k.awaitThere(t, "dismissed", "first", "old", "young")
		}
		k.awaitPieces(t, "log")
		if names, _ := k.journaled(t); len(names) > 0 {
			t.Errorf("journaled %q", names)
		}
		if told := k.told(t, v1alpha1.ReasonRetentionClockAhead); len(told) != 1 || !strings.HasPrefix(told[0], "default: nothing is deleted") || !strings.Contains(told[0], "clock is 1000h") && !strings.Contains(told[0], "clock is 999h") {
			t.Errorf("told %q", told)
		}
	}
	waits()
	k.stop()
	k.start(t)
	waits()
	k.clock.SetTime(now)
	k.awaitThere(t, "dismissed", "first", "young")
	k.awaitPieces(t, "log")
	if names, _ := k.journaled(t); !slices.Equal(names, []string{"old"}) {
		t.Errorf("journaled %q", names)
	}
}

// TestAJournalOfAClockThatWasAheadDoesNotCount kills the manager when it has made one.
func TestAJournalOfAClockThatWasAheadDoesNotCount(t *testing.T) {
	k := newKeeping(t)
	now := k.clock.Now()
	k.closed(t, "young", 2*time.Hour)
	k.joined(t, "first", "young")
	k.clock.SetTime(now.Add(1000 * time.Hour))
	k.dies.Store(0)
	k.planFor(t, keptIncidents)
	eventually(t, func(context.Context) string {
		if names, _ := k.journaled(t); !slices.Equal(names, []string{"first", "young"}) {
			return fmt.Sprintf("journaled %q", names)
		}
		return ""
	})
	k.stop()
	k.dies.Store(1 << 40)
	k.clock.SetTime(now)
	k.witness.Store(true)
	k.start(t)
	for range 3 {
		k.awaitThere(t, "first", "young")
	}
	if told := k.told(t, v1alpha1.ReasonRetentionClockAhead); len(told) != 1 || !strings.HasPrefix(told[0], "retention-1: nothing that this journal names is deleted") {
		t.Errorf("told %q", told)
	}
	k.witness.Store(false)
	k.clock.SetTime(now.Add(60 * time.Hour))
	k.awaitThere(t)
	if names, _ := k.journaled(t); !slices.Equal(names, []string{"first", "young", "first", "young"}) {
		t.Errorf("journaled %q", names)
	}
}

// TestAJournalThatDoesNotCountIsNotMadeAgainAtOnce has journals be created by an API server whose
// clock is behind that of the one that was asked.
func TestAJournalThatDoesNotCountIsNotMadeAgainAtOnce(t *testing.T) {
	k := newKeeping(t)
	k.late.Store(true)
	k.event(t, "old", 50*time.Hour, v1alpha1.OutcomeDismissed)
	k.plan(t)
	key := ctrl.Request{NamespacedName: client.ObjectKey{Namespace: k.namespace, Name: v1alpha1.ResponsePlanName}}
	eventually(t, func(ctx context.Context) string {
		before, _ := k.journaled(t)
		result, err := k.retention.Reconcile(ctx, key)
		after, _ := k.journaled(t)
		if made := len(after) - len(before); err != nil || made != 1 || result.RequeueAfter != clockRetry {
			return fmt.Sprintf("got %+v, %v, and journaled it %d times; want once, and the next try after %s", result, err, made, clockRetry)
		}
		return ""
	})
	k.await(t, "old")
	k.late.Store(false)
	k.awaitThere(t)
}

// TestRetentionTellsThatItCannotLearnTheTime has a webhook refuse dry runs.
func TestRetentionTellsThatItCannotLearnTheTime(t *testing.T) {
	k := newKeeping(t)
	k.blind.Store(true)
	k.event(t, "old", 50*time.Hour, v1alpha1.OutcomeDismissed)
	k.plan(t)
	tells := func(want int) {
		t.Helper()
		var told []string
		eventually(t, func(ctx context.Context) string {
			told = nil
			for range 3 {
				if problem := k.look(ctx); !strings.Contains(problem, "does not support dry run") {
					return "the reconciliation said " + problem
				}
			}
			if told = k.told(t, v1alpha1.ReasonRetentionClockUnknown); len(told) < want {
				return fmt.Sprintf("told %q", told)
			}
			return ""
		})
		if len(told) != want || !strings.HasPrefix(told[0], "default: nothing is deleted") || !strings.Contains(told[0], "does not support dry run") {
			t.Errorf("told %q; want it %d times", told, want)
		}
	}
	tells(1)
	k.clock.SetTime(k.clock.Now().Add(keptRetry))
	tells(2)
	k.await(t, "old")
	k.blind.Store(false)
	k.awaitThere(t)
}

func TestAheadOf(t *testing.T) {
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	got := map[string]time.Duration{}
	for name, ahead := range map[string]time.Duration{"behind": -time.Hour, "together": 0, "a little": clockTolerance, "too far": clockTolerance + time.Second} {
		removals := []audit.Removal{{}, {}}
		removals[1].Time.Time = at.Add(ahead)
		got[name] = aheadOf(removals, at)
	}
	want := map[string]time.Duration{"behind": 0, "together": 0, "a little": 0, "too far": clockTolerance + time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
