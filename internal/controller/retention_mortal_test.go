package controller

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/evidence"
)

// mortal makes no deletion once it is dead, and notes nothing on a plan so many times.
type mortal struct {
	client.Client
	left    *atomic.Int64
	refuses *atomic.Pointer[string]
	sealed  *atomic.Pointer[func()]
	unnoted *atomic.Int64
}

func (m mortal) Status() client.SubResourceWriter {
	return forgetful{m.Client.Status(), m.unnoted}
}

type forgetful struct {
	client.SubResourceWriter
	unnoted *atomic.Int64
}

func (f forgetful) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
	if f.unnoted.Add(-1) >= 0 {
		return errors.New("the test lets nothing be noted")
	}
	return f.SubResourceWriter.Patch(ctx, object, patch, options...)
}

func (m mortal) Create(ctx context.Context, object client.Object, options ...client.CreateOption) error {
	if event, ok := object.(*eventsv1.Event); ok && m.refuses.Load() != nil && event.Regarding.Name != *m.refuses.Load() {
		return apierrors.NewForbidden(eventsv1.Resource("events"), event.Name, errors.New("exceeded quota"))
	}
	return m.Client.Create(ctx, object, options...)
}

func (m mortal) Delete(ctx context.Context, object client.Object, options ...client.DeleteOption) error {
	if call := m.sealed.Swap(nil); call != nil {
		(*call)()
	}
	if m.left.Add(-1) < 0 {
		return errors.New("the test kills the manager here")
	}
	if name := m.refuses.Load(); name != nil && *name == object.GetName() {
		return apierrors.NewForbidden(v1alpha1.SchemeGroupVersion.WithResource("incidents").GroupResource(), *name, errors.New("a policy says so"))
	}
	return m.Client.Delete(ctx, object, options...)
}

// mortalJournals removes no bytes once it is dead. The API server's clock is that of the test, too,
// until it is to be a witness.
type mortalJournals struct {
	*evidence.Recorder
	dead    *atomic.Bool
	witness *atomic.Bool
	late    *atomic.Bool
	blind   *atomic.Bool
}

func (m mortalJournals) ServerTime(ctx context.Context, namespace string) (time.Time, error) {
	if m.blind.Load() {
		return time.Time{}, apierrors.NewBadRequest(`admission webhook "all.example.com" does not support dry run`)
	}
	at, err := m.Recorder.ServerTime(ctx, namespace)
	if !m.witness.Load() {
		at = m.Clock.Now()
	}
	return at, err
}

func (m mortalJournals) SealRemovals(ctx context.Context, namespace string, after *v1alpha1.JournalRange, removals []audit.Removal) (*v1alpha1.Evidence, error) {
	journal, err := m.Recorder.SealRemovals(ctx, namespace, after, removals)
	return m.created(journal), err
}

func (m mortalJournals) LastRemovals(ctx context.Context, namespace string) (*v1alpha1.Evidence, error) {
	journal, err := m.Recorder.LastRemovals(ctx, namespace)
	return m.created(journal), err
}

func (m mortalJournals) created(journal *v1alpha1.Evidence) *v1alpha1.Evidence {
	if journal != nil && !m.witness.Load() {
		journal.CreationTimestamp = journal.Spec.CollectedTime
	}
	if journal != nil && m.late.Load() {
		journal.CreationTimestamp.Time = journal.CreationTimestamp.Add(-2 * clockTolerance)
	}
	return journal
}

func (m mortalJournals) RemoveBytes(ctx context.Context, namespace string, locations []string) error {
	if m.dead.Load() {
		return errors.New("the test kills the manager here")
	}
	return m.Recorder.RemoveBytes(ctx, namespace, locations)
}

// detachedFrom creates an incident from which an event was detached, and waits for the cache.
func (k *keeping) detachedFrom(t *testing.T, name, event string) *v1alpha1.Incident {
	t.Helper()
	incident := k.closed(t, name, 0, func(i *v1alpha1.Incident) {
		i.Status.DetachedEvents = []v1alpha1.DetachedEvent{{Name: event, By: "jane", DecisionRef: v1alpha1.DecisionReference{Name: "d"}, Time: metav1.Now()}}
	})
	eventually(t, func(ctx context.Context) string {
		list := &v1alpha1.IncidentList{}
		if err := k.retention.Client.List(ctx, list, client.InNamespace(k.namespace), client.MatchingFields{indexIncidentEvents: eventKey(k.mode, event)}); err != nil || len(list.Items) != 1 {
			return fmt.Sprintf("the cache knows %d incidents, %v", len(list.Items), err)
		}
		return ""
	})
	return incident
}
