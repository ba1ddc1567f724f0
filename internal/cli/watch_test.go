package cli

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestWatchOutlivesItsConnections breaks the watch in every way it breaks in real life.
func TestWatchOutlivesItsConnections(t *testing.T) {
	namespace := domain(t, viewer)
	incident := incidentIn(t, namespace)
	expired := watch.NewFakeWithChanSize(1, false)
	expired.Error(&metav1.Status{Status: metav1.StatusFailure, Code: 410, Reason: metav1.StatusReasonExpired, Message: "too old resource version"})
	ended := watch.NewFake()
	ended.Stop()
	breaks := []func() (watch.Interface, error){
		func() (watch.Interface, error) { return nil, apierrors.NewResourceExpired("too old") },
		func() (watch.Interface, error) { return expired, nil },
		func() (watch.Interface, error) { return ended, nil },
		func() (watch.Interface, error) { return nil, errors.New("connection refused \x1b[2J") },
	}
	s, out, errOut := testSession(terminal{})
	s.api = interceptor.NewClient(admin, interceptor.Funcs{
		Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) (watch.Interface, error) {
			if len(breaks) == 0 {
				return c.Watch(ctx, list, options...)
			}
			next := breaks[0]
			breaks = breaks[1:]
			if len(breaks) == 0 {
				// What happens while nobody is connected is seen all the same.
				chain(incident, v1alpha1.TimelineEntry{Time: at(90), Actor: jane, Action: "Note", Message: "nobody was looking"})
				incident.Status.Phase, incident.Status.Awaiting = v1alpha1.PhaseClosed, nil
				mustDo(t, admin.Status().Update(ctx, incident))
			}
			return next()
		},
	})
	if err := s.newView(incident.DeepCopy()).follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(breaks) > 0 || strings.Count(out.String(), "nobody was looking") != 1 {
		t.Errorf("%d breaks are left; want the entry once in:\n%s", len(breaks), out)
	}
	if want := `Connection lost, trying again: connection refused \x1b[2J`; strings.Count(errOut.String(), want) != 1 {
		t.Errorf("want %q once in:\n%s", want, errOut)
	}
}
