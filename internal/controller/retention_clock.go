package controller

import (
	"context"
	"errors"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
)

const (
	// clockTolerance is how far the manager's clock may be ahead of the API server's, so that what
	// it says is over is deleted.
	clockTolerance = 5 * time.Minute
	// clockRetry is how long nothing is tried when it is further ahead.
	clockRetry = 10 * time.Minute
)

// errClockAhead says that nothing is deleted, because by the API server's clock it may not be over. It
// waits for clockRetry: each try that one API server's clock lets pass and another's does not
// leaves a journal.
var errClockAhead = errors.New("the manager's clock is ahead of the API server's")

// aheadOf is how far the clock by which removals were made was ahead of the API server's: zero is
// not further than it may be.
func aheadOf(removals []audit.Removal, server time.Time) time.Duration {
	for i := range removals {
		if ahead := removals[i].Time.Sub(server); ahead > clockTolerance {
			return ahead
		}
	}
	return 0
}

// witness asks the API server's clock whether it is as late as removals say. A clock that has
// jumped ahead would have all go at once that is kept for years. Nothing is journaled then, so
// that tries leave nothing behind.
func (r *RetentionReconciler) witness(ctx context.Context, namespace string, head *journalHead, removals []audit.Removal) error {
	server, err := r.Journals.ServerTime(ctx, namespace)
	if err != nil {
		if now := r.Clock.Now(); ctx.Err() == nil && (head.unwitnessed.IsZero() || now.Sub(head.unwitnessed) >= keptRetry) {
			head.unwitnessed = now
			r.tellUnwitnessed(ctx, namespace, head, err)
		}
		return err
	}
	ahead := aheadOf(removals, server)
	if ahead == 0 {
		head.ahead = time.Time{}
		return nil
	}
	if now := r.Clock.Now(); head.ahead.IsZero() || now.Sub(head.ahead) >= keptRetry {
		head.ahead = now
		r.tellAhead(ctx, namespace, head, ahead)
	}
	return errClockAhead
}

// trusted says whether a journal may be executed: the API server has created it at the time that
// its removals say. One that was made by a clock that was ahead is never, also after a restart;
// what it names is journaled once more when it is over.
func (r *RetentionReconciler) trusted(ctx context.Context, journal *v1alpha1.Evidence, removals []audit.Removal) bool {
	ahead := aheadOf(removals, journal.CreationTimestamp.Time)
	if ahead > 0 {
		r.tellVoid(ctx, journal, ahead)
	}
	return ahead == 0
}
