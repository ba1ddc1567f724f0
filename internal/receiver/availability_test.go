package receiver

import (
	"context"
	"fmt"
	"net/url"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TestAvailability: the API server is away when it cannot be reached, or when many calls in a row
// took too long or failed, and no longer once it answers. Its reads say nothing about its writes.
func TestAvailability(t *testing.T) {
	broken := apierrors.NewInternalError(errAway)
	late := &url.Error{Op: "Post", URL: "https://localhost", Err: context.DeadlineExceeded}
	a := &availability{back: make(chan struct{}, 1)}
	for _, step := range []struct {
		what  string
		kind  callKind
		err   error
		times int
		away  bool
	}{
		{"when it cannot be reached", writing, errAway, 1, true},
		{"when it answers", writing, nil, 1, false},
		{"when a call takes too long", writing, fmt.Errorf("creating: %w", late), 1, false},
		{"when few do", writing, late, mostLate - 2, false},
		{"when it answers between them", writing, apierrors.NewAlreadyExists(events, "e"), 1, false},
		{"when it was not even asked", writing, errWaited, mostLate, false},
		{"when nearly too many take too long", writing, late, mostLate - 1, false},
		{"when too many do", writing, late, 1, true},
		{"when nobody has waited for it", writing, context.Canceled, 1, true},
		{"when it refuses", writing, apierrors.NewForbidden(events, "e", errAway), 1, false},
		{"when a webhook fails", writing, broken, 1, false},
		{"when it fails for few", writing, broken, mostLate - 2, false},
		{"when it fails for too many", writing, broken, 1, true},
		{"when it answers again", writing, nil, 1, false},
		{"when it is overwhelmed", writing, apierrors.NewTooManyRequests("x", 1), 1, true},
		{"when it is overwhelmed, and reads", reading, nil, 1, true},
		{"when it writes again", writing, nil, 1, false},
		{"when nearly too many writes take too long", writing, late, mostLate - 1, false},
		{"when reads do not between them", reading, nil, 1, false},
		{"when too many writes do", writing, late, 1, true},
		{"when it answers reads only", reading, nil, mostLate, true},
		{"when it writes", writing, nil, 1, false},
		{"when it cannot be reached by reads", reading, errAway, 1, true},
		{"when it can", reading, nil, 1, false},
		{"when nearly too many reads take too long", reading, late, mostLate - 1, false},
		{"when it writes between them", writing, nil, 1, false},
		{"when one more does", reading, late, 1, false},
	} {
		for range step.times {
			a.note(step.kind, step.err)
		}
		if got := a.away.Load(); got != step.away {
			t.Errorf("%s: away is %t, want %t", step.what, got, step.away)
		}
	}
	if len(a.back) != 1 {
		t.Error("nobody was told that it was back")
	}
	(&availability{}).note(writing, nil) // who has no spool tells nobody
}
