package cli

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// watching is one object that is followed until its viewer has seen enough.
type watching struct {
	// object names what is followed, and takes its state; list is its kind's list.
	object client.Object
	list   client.ObjectList
	// see is called with each state and says when it was enough. The object is nil when it is gone.
	see func(client.Object) (done bool, err error)
	// trouble is called when the connection is lost; it is tried again.
	trouble func(error)
}

// watch follows an object until see is done, the context ends or it is not permitted.
// Watches end now and then, and their resource versions expire; neither shows.
func (s *session) watch(ctx context.Context, w watching) error {
	api, err := s.client()
	if err != nil {
		return err
	}
	fresh := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 8, Cap: 10 * time.Second}
	backoff := fresh
	for {
		done, err := w.once(ctx, api)
		switch {
		case done || isFinal(err):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err):
			backoff = fresh
		case w.trouble != nil:
			w.trouble(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoff.Step()):
		}
	}
}

func isFinal(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || isMissingKind(err)
}

// once reads the object and watches it from there until the watch ends.
func (w watching) once(ctx context.Context, api client.WithWatch) (bool, error) {
	err := api.Get(ctx, client.ObjectKeyFromObject(w.object), w.object)
	if err != nil && (!apierrors.IsNotFound(err) || isMissingKind(err)) {
		return false, err
	}
	state := w.object
	if err != nil {
		state = nil
	}
	if done, err := w.see(state); done || err != nil {
		return true, err
	}
	events, err := api.Watch(ctx, w.list, client.InNamespace(w.object.GetNamespace()),
		client.MatchingFields{"metadata.name": w.object.GetName()},
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: w.object.GetResourceVersion()}})
	if err != nil {
		return false, err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		if event.Type == watch.Error {
			return false, apierrors.FromObject(event.Object)
		}
		object, ok := event.Object.(client.Object)
		if !ok || event.Type == watch.Bookmark {
			continue
		}
		if event.Type == watch.Deleted {
			object = nil
		}
		if done, err := w.see(object); done || err != nil {
			return true, err
		}
	}
	return false, nil
}
