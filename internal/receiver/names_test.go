package receiver

import (
	"context"
	"net/http"
	"testing"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// takenStore has somebody create an event under each name, before the receiver does.
type takenStore struct {
	*memoryStore
	left int
}

func (s *takenStore) create(ctx context.Context, event *v1alpha1.SecurityEvent) error {
	key := types.NamespacedName{Namespace: event.Namespace, Name: event.Name}
	if _, known := s.events[key]; s.left > 0 && !known {
		s.left--
		foreign := event.DeepCopy()
		foreign.Spec.SubmittedBy, foreign.UID = "mallory", types.UID("foreign-"+itoa(s.left))
		s.events[key] = foreign
	}
	if _, taken := s.events[key]; taken {
		return apierrors.NewAlreadyExists(events, event.Name)
	}
	return s.memoryStore.create(ctx, event)
}

// TestNamesThatOthersTake: as many names as others can know they can take, and the alert is
// recorded all the same.
func TestNamesThatOthersTake(t *testing.T) {
	all := identify("security", shellAlert(testTime)).names()
	for name, test := range map[string]struct {
		taken  int
		status int // of the refusal; 0 is none
	}{
		"none":                       {0, 0},
		"one":                        {1, 0},
		"all of an identity":         {all, 0},
		"all that can be known":      {maxBeside * all, 0},
		"one that cannot be known":   {maxBeside*all + 1, 0},
		"all, by who could guess it": {1000, http.StatusConflict},
	} {
		store := &takenStore{memoryStore: newMemoryStore("r0"), left: test.taken}
		r := newRecorder(store, "r0", clocktesting.NewFakeClock(testTime), logr.Discard())
		o := r.record("security", shellAlert(testTime))
		if test.status != 0 {
			if o.err == nil || refusal(o.err, nil).Status != test.status {
				t.Errorf("%s: %+v, want a refusal with %d", name, o, test.status)
			}
			continue
		}
		if o.err != nil || !o.created {
			t.Errorf("%s: %+v, want it recorded", name, o)
			continue
		}
		if again := r.record("security", shellAlert(testTime)); again.err != nil || again.name != o.name || again.occurrences != 2 {
			t.Errorf("%s: the repeat is %+v, want it counted by %s", name, again, o.name)
		}
	}
}

// TestTakenNamesAfterACrash: a delivery of the spool that was recorded under a name nobody could
// know is found again by a receiver that only knows its number.
func TestTakenNamesAfterACrash(t *testing.T) {
	store := &takenStore{memoryStore: newMemoryStore("r0"), left: maxBeside * identify("security", shellAlert(testTime)).names()}
	var names []string
	for range 2 {
		r := newRecorder(store, "r0", clocktesting.NewFakeClock(testTime), logr.Discard())
		d := &delivery{alert: shellAlert(testTime), done: make(chan outcome, 1), sequence: 77, spooled: true, doubt: true}
		if _, err := r.enqueue(identify("security", d.alert), d); err != nil {
			t.Fatal(err)
		}
		o := <-d.done
		if o.err != nil {
			t.Fatal(o.err)
		}
		names = append(names, o.name)
	}
	if names[0] != names[1] {
		t.Errorf("one delivery is recorded as %s and as %s", names[0], names[1])
	}
}

// guessingStore has somebody take every name that can be worked out beforehand: those of an
// identity, those that follow from the event that has the last of them, and so on.
type guessingStore struct {
	*memoryStore
	guess identity
	taken int
}

func (s *guessingStore) create(ctx context.Context, event *v1alpha1.SecurityEvent) error {
	for n := range s.guess.names() {
		if s.guess.name(n) != event.Name {
			continue
		}
		foreign := event.DeepCopy()
		s.taken++
		foreign.Spec.SubmittedBy, foreign.UID = "mallory", types.UID("foreign-"+itoa(s.taken))
		s.events[types.NamespacedName{Namespace: event.Namespace, Name: event.Name}] = foreign
		if n == s.guess.names()-1 {
			s.guess = s.guess.beside(foreign.UID)
		}
		return apierrors.NewAlreadyExists(events, event.Name)
	}
	return s.memoryStore.create(ctx, event)
}

// TestNamesCannotAllBeGuessed has somebody take names for ever.
func TestNamesCannotAllBeGuessed(t *testing.T) {
	store := &guessingStore{memoryStore: newMemoryStore("r0"), guess: identify("security", shellAlert(testTime))}
	r := newRecorder(store, "r0", clocktesting.NewFakeClock(testTime), logr.Discard())
	if o := r.record("security", shellAlert(testTime)); o.err != nil || !o.created {
		t.Errorf("after %d names were taken: %+v, want it recorded", store.taken, o)
	}
}
