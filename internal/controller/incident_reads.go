package controller

import (
	"context"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/firebreak-dev/firebreak/internal/impersonation"
)

// readFor is how long a read of the same decision is believed.
const readFor = time.Second

// decisionReads are what one decision has read of the cluster. What its looks have seen its
// plans do not read again: they follow each other within milliseconds, and an effect is
// made and judged by reads of its own.
type decisionReads struct {
	clock clock.PassiveClock

	mu   sync.Mutex
	seen map[readKey]readObject
}

type readKey struct {
	user string
	kind schema.GroupVersionKind
	name client.ObjectKey
	form reflect.Type
}

type readObject struct {
	object client.Object
	at     time.Time
}

func newDecisionReads(clock clock.PassiveClock) *decisionReads {
	return &decisionReads{clock: clock, seen: map[readKey]readObject{}}
}

// of gives a client that acts as an identity, and remembers what it gets.
func (r *decisionReads) of(identity *impersonation.Identity) client.Client {
	if r == nil {
		return identity.Client
	}
	return &readingClient{Client: identity.Client, user: identity.User, reads: r}
}

type readingClient struct {
	client.Client
	user  string
	reads *decisionReads
}

// Get gives what was read a moment ago as the same user and in the same form, or reads it.
func (c *readingClient) Get(ctx context.Context, name client.ObjectKey, object client.Object, options ...client.GetOption) error {
	kind, err := apiutil.GVKForObject(object, c.Scheme())
	if err != nil || len(options) > 0 {
		return c.Client.Get(ctx, name, object, options...)
	}
	key := readKey{c.user, kind, name, reflect.TypeOf(object)}
	if found := c.reads.get(key); found != nil {
		reflect.ValueOf(object).Elem().Set(reflect.ValueOf(found.DeepCopyObject()).Elem())
		return nil
	}
	if err := c.Client.Get(ctx, name, object); err != nil {
		return err
	}
	c.reads.put(key, object.DeepCopyObject().(client.Object))
	return nil
}

func (r *decisionReads) get(key readKey) client.Object {
	r.mu.Lock()
	defer r.mu.Unlock()
	read, ok := r.seen[key]
	if !ok || r.clock.Since(read.at) > readFor {
		return nil
	}
	return read.object
}

func (r *decisionReads) put(key readKey, object client.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[key] = readObject{object, r.clock.Now()}
}
