package receiver

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	apply "github.com/firebreak-dev/firebreak/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

const (
	fieldManagerPrefix = "firebreak-receiver-"

	callTimeout = 10 * time.Second
	// maxCalls is how many events are written at a time, and callsPerSender those of one
	// sender: more make none faster, but each slower.
	maxCalls, callsPerSender = 32, 16
)

// inHaste in a context is for how long the API server is better waited for than the spool is
// written.
type inHaste struct{}

// unlessAway in a context says that there is no use in asking while the API server is away.
type unlessAway struct{}

var errStillAway = errors.New("the Kubernetes API server is away")

// store keeps the events.
type store interface {
	create(ctx context.Context, event *v1alpha1.SecurityEvent) error
	// get reads an event for a sender.
	get(ctx context.Context, key types.NamespacedName, sender string) (*v1alpha1.SecurityEvent, error)
	// raise sets this receiver's counter of an event and returns the sum of all
	// occurrences. It is a conflict when the event has changed since it was read.
	raise(ctx context.Context, event *v1alpha1.SecurityEvent, counter v1alpha1.EventCounter) (int64, error)
}

// clusterStore keeps the events in the API server. Senders take turns at it.
type clusterStore struct {
	client client.Client
	// name is this receiver's own, under which it counts.
	name         string
	turns        *fair
	availability *availability
	writes       *writes
}

var _ store = (*clusterStore)(nil)

func newClusterStore(c client.Client, o *Options, a *availability) *clusterStore {
	return &clusterStore{client: c, name: o.Name, turns: newFair(maxCalls, callsPerSender, 0, 0), availability: a, writes: &writes{clock: o.Clock}}
}

func (s *clusterStore) call(ctx context.Context, kind callKind, sender string, do func(ctx context.Context) error) error {
	atMost := time.Duration(0)
	if patience, is := ctx.Value(inHaste{}).(time.Duration); is {
		atMost = patience / 2 // a call that is begun must have a chance
	}
	if err := s.turns.enter(ctx, sender, atMost); err != nil {
		return err
	}
	defer s.turns.leave(sender)
	if s.availability.away.Load() && ctx.Value(unlessAway{}) != nil {
		return errStillAway
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := do(ctx)
	s.availability.note(kind, err)
	return err
}

func (s *clusterStore) create(ctx context.Context, event *v1alpha1.SecurityEvent) error {
	return s.call(ctx, writing, event.Spec.SubmittedBy, func(ctx context.Context) error {
		options := []client.CreateOption{client.FieldOwner(fieldManagerPrefix + s.name)}
		if event.Spec.Mode == v1alpha1.ModeDrill {
			// By an older CRD it must not become the real thing.
			options = append(options, client.FieldValidation(metav1.FieldValidationStrict))
		}
		err := s.client.Create(ctx, event, options...)
		s.writes.note(err)
		return err
	})
}

func (s *clusterStore) get(ctx context.Context, key types.NamespacedName, sender string) (*v1alpha1.SecurityEvent, error) {
	event := &v1alpha1.SecurityEvent{}
	err := s.call(ctx, reading, sender, func(ctx context.Context) error { return s.client.Get(ctx, key, event) })
	return event, err
}

func (s *clusterStore) raise(ctx context.Context, event *v1alpha1.SecurityEvent, raised v1alpha1.EventCounter) (int64, error) {
	counter := apply.EventCounter().WithSpool(s.name).WithCount(raised.Count).WithSequence(raised.Sequence)
	if raised.LastObservedTime != nil {
		counter.WithLastObservedTime(*raised.LastObservedTime)
	}
	for _, recent := range raised.Recent {
		counter.WithRecent(apply.EventMinute().WithMinuteTime(recent.MinuteTime).WithCount(recent.Count))
	}
	// The resourceVersion keeps the count exact. A UID would not even tell a namesake:
	// the API server does not look at it in a patch of the status.
	ours := apply.SecurityEvent(event.Name, event.Namespace).WithResourceVersion(event.ResourceVersion).
		WithStatus(apply.SecurityEventStatus().WithCounters(counter))
	err := s.call(ctx, writing, event.Spec.SubmittedBy, func(ctx context.Context) error {
		err := s.client.Status().Apply(ctx, ours, client.FieldOwner(fieldManagerPrefix+s.name), client.ForceOwnership)
		s.writes.note(err)
		return err
	})
	if err != nil {
		return 0, err
	}
	sum := int64(1)
	for _, counter := range ours.Status.Counters {
		if counter.Count != nil {
			sum += *counter.Count
		}
	}
	return sum, nil
}
