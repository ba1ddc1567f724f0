package receiver

import (
	"context"
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
	// maxCalls is how many events are written at a time: more make none faster.
	maxCalls = 64
)

// store keeps the events.
type store interface {
	create(ctx context.Context, event *v1alpha1.SecurityEvent) error
	get(ctx context.Context, key types.NamespacedName) (*v1alpha1.SecurityEvent, error)
	// raise sets this receiver's counter of an event and returns the sum of all
	// occurrences. It is a conflict when the event has changed since it was read.
	raise(ctx context.Context, event *v1alpha1.SecurityEvent, count int64, last metav1.Time) (int64, error)
}

// clusterStore keeps the events in the API server.
type clusterStore struct {
	client client.Client
	// spool is this receiver's own name, under which it counts.
	spool string
	calls chan struct{}
}

var _ store = (*clusterStore)(nil)

func newClusterStore(c client.Client, spool string) *clusterStore {
	return &clusterStore{client: c, spool: spool, calls: make(chan struct{}, maxCalls)}
}

func (s *clusterStore) call(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	select {
	case s.calls <- struct{}{}:
		defer func() { <-s.calls }()
		return do(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *clusterStore) create(ctx context.Context, event *v1alpha1.SecurityEvent) error {
	return s.call(ctx, func(ctx context.Context) error {
		return s.client.Create(ctx, event, client.FieldOwner(fieldManagerPrefix+s.spool))
	})
}

func (s *clusterStore) get(ctx context.Context, key types.NamespacedName) (*v1alpha1.SecurityEvent, error) {
	event := &v1alpha1.SecurityEvent{}
	err := s.call(ctx, func(ctx context.Context) error { return s.client.Get(ctx, key, event) })
	return event, err
}

func (s *clusterStore) raise(ctx context.Context, event *v1alpha1.SecurityEvent, count int64, last metav1.Time) (int64, error) {
	counter := apply.EventCounter().WithSpool(s.spool).WithCount(count).WithLastObservedTime(last)
	// The resourceVersion keeps the count exact. A UID would not even tell a namesake:
	// the API server does not look at it in a patch of the status.
	ours := apply.SecurityEvent(event.Name, event.Namespace).WithResourceVersion(event.ResourceVersion).
		WithStatus(apply.SecurityEventStatus().WithCounters(counter))
	err := s.call(ctx, func(ctx context.Context) error {
		return s.client.Status().Apply(ctx, ours, client.FieldOwner(fieldManagerPrefix+s.spool), client.ForceOwnership)
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
