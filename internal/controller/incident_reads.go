package controller

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/firebreak-dev/firebreak/internal/impersonation"
)

// readFor is how long a read of the same decision is believed.
const readFor = time.Second

// decisionReads are what one decision has read of the cluster. What its looks have seen its
// plans do not read again, and what plans will list is listed beside the looks: they follow
// each other within milliseconds, and an effect is made and judged by reads of its own.
type decisionReads struct {
	clock clock.PassiveClock

	mu   sync.Mutex
	seen map[readKey]*decisionRead
}

// readKey is one read: of an object, or of a list from its beginning.
type readKey struct {
	user  string
	kind  schema.GroupVersionKind
	name  client.ObjectKey
	limit int64
	form  reflect.Type
}

// decisionRead is what a read has given, once it is done.
type decisionRead struct {
	at    time.Time
	done  chan struct{}
	found runtime.Object
	err   error
}

func newDecisionReads(clock clock.PassiveClock) *decisionReads {
	return &decisionReads{clock: clock, seen: map[readKey]*decisionRead{}}
}

// of gives a client that acts as an identity, and remembers what it gets.
func (r *decisionReads) of(identity *impersonation.Identity) client.Client {
	if r == nil {
		return identity.Client
	}
	return &readingClient{Client: identity.Client, user: identity.User, reads: r}
}

// ahead begins to read a list, so that who asks for it as that identity finds it. Whether it
// can be read shows to who asks: he reads it himself when it could not be read here.
func (r *decisionReads) ahead(ctx context.Context, identity *impersonation.Identity, list client.ObjectList, options []client.ListOption) {
	key, ok := listKey(identity.User, identity.Client.Scheme(), list, options)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[key] != nil {
		return
	}
	read := &decisionRead{at: r.clock.Now(), done: make(chan struct{}), found: list}
	r.seen[key] = read
	go func() {
		defer close(read.done)
		defer func() {
			if recovered := recover(); recovered != nil {
				read.err = fmt.Errorf("an error within Firebreak ended the reading: %v", recovered) // beyond the reach of who recovers the caller
			}
		}()
		ctx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		read.err = identity.Client.List(ctx, list, options...)
	}()
}

// get gives what was read a moment ago, or nil.
func (r *decisionReads) get(ctx context.Context, key readKey) runtime.Object {
	r.mu.Lock()
	read := r.seen[key]
	r.mu.Unlock()
	if read == nil || r.clock.Since(read.at) > readFor {
		return nil
	}
	select {
	case <-read.done:
	case <-ctx.Done():
		return nil
	}
	if read.err != nil {
		return nil
	}
	return read.found.DeepCopyObject()
}

func (r *decisionReads) put(key readKey, object client.Object) {
	read := &decisionRead{at: r.clock.Now(), done: make(chan struct{}), found: object}
	close(read.done)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[key] = read
}

// readingClient reads through what a decision has read.
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
	key := readKey{user: c.user, kind: kind, name: name, form: reflect.TypeOf(object)}
	if found := c.reads.get(ctx, key); found != nil {
		reflect.ValueOf(object).Elem().Set(reflect.ValueOf(found).Elem())
		return nil
	}
	if err := c.Client.Get(ctx, name, object); err != nil {
		return err
	}
	c.reads.put(key, object.DeepCopyObject().(client.Object))
	return nil
}

// List gives what was read ahead, or reads it.
func (c *readingClient) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if key, ok := listKey(c.user, c.Scheme(), list, options); ok {
		if found := c.reads.get(ctx, key); found != nil {
			reflect.ValueOf(list).Elem().Set(reflect.ValueOf(found).Elem())
			return nil
		}
	}
	return c.Client.List(ctx, list, options...)
}

// listKey names a list; false when it is no whole namespace's, from its beginning.
func listKey(user string, scheme *runtime.Scheme, list client.ObjectList, options []client.ListOption) (readKey, bool) {
	asked := (&client.ListOptions{}).ApplyOptions(options)
	plain := client.ListOptions{Namespace: asked.Namespace, Limit: asked.Limit}
	kind, err := apiutil.GVKForObject(list, scheme)
	return readKey{
		user: user, kind: kind, name: client.ObjectKey{Namespace: asked.Namespace}, limit: asked.Limit, form: reflect.TypeOf(list),
	}, err == nil && reflect.DeepEqual(*asked, plain)
}
