package receiver

import (
	"context"
	"fmt"
	"net/url"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TestAvailability: the API server is away when it cannot be reached, or when many calls in a row
// took too long, and no longer once it answers.
func TestAvailability(t *testing.T) {
	late := &url.Error{Op: "Post", URL: "https://localhost", Err: context.DeadlineExceeded}
	a := &availability{back: make(chan struct{}, 1)}
	for _, step := range []struct {
		what  string
		err   error
		times int
		away  bool
	}{
		{"when it cannot be reached", errAway, 1, true},
		{"when it answers", nil, 1, false},
		{"when a call takes too long", fmt.Errorf("creating: %w", late), 1, false},
		{"when few do", late, mostLate - 2, false},
		{"when it answers between them", apierrors.NewAlreadyExists(events, "e"), 1, false},
		{"when it was not even asked", errWaited, mostLate, false},
		{"when nearly too many take too long", late, mostLate - 1, false},
		{"when too many do", late, 1, true},
		{"when nobody has waited for it", context.Canceled, 1, true},
		{"when it refuses", apierrors.NewForbidden(events, "e", errAway), 1, false},
		{"when it is overwhelmed", apierrors.NewTooManyRequests("x", 1), 1, true},
	} {
		for range step.times {
			a.note(step.err)
		}
		if got := a.away.Load(); got != step.away {
			t.Errorf("%s: away is %t, want %t", step.what, got, step.away)
		}
	}
	if len(a.back) != 1 {
		t.Error("nobody was told that it was back")
	}
	(&availability{}).note(nil) // who has no spool tells nobody
}
