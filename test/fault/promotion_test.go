package fault

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	// correlated is how many events there are of one thing, and correlatedEach how many of
	// them come while the managers are disturbed once.
	correlated, correlatedLong, correlatedEach = 60, 1000, 30
	// openings is how many incidents are opened, each of a few events, with the managers
	// disturbed just then.
	openings, openingsLong, openingsEach = 1, 20, 20
	reporters                            = 4
)

// TestPromotedOnce has many events of one thing reported while two managers are killed and
// paused: one of them opens one incident, and all others join it.
func TestPromotedOnce(t *testing.T) {
	s := newScenario(t)
	all := s.candidates(t)
	s.promote(t, all, countOf(t, "FIREBREAK_CORRELATED", correlated, correlatedLong), correlatedEach)
	for range countOf(t, "FIREBREAK_OPENINGS", openings, openingsLong) {
		s.promote(t, all, openingsEach, openingsEach)
	}
}

// promote reports so many events, and disturbs the managers once in each of so many.
func (s *scenario) promote(t *testing.T, all []*candidate, count, each int) {
	t.Helper()
	relaunch(t, all)
	w := newWorld(t, s.cluster)
	start := time.Now()
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("event-%d", i))
	}
	done := map[string]int{}
	for batch := range slices.Chunk(names, each) {
		reported := w.report(t, batch)
		// Some time between the first event and the last word about them.
		<-time.After(time.Duration(s.random.Int64N(int64(300 * time.Millisecond))))
		done[s.disturbLeader(t, all)]++
		if err := reported(); err != nil {
			t.Fatal(err)
		}
	}
	w.checkPromoted(t, s, all, names)
	t.Logf("%d events, one incident; %v, in %s", count, done, time.Since(start).Round(time.Millisecond))
}

// report has several reporters create events at the same time, of two days. What it gives
// waits until all are created.
func (w *world) report(t *testing.T, names []string) (wait func() error) {
	t.Helper()
	var group errgroup.Group
	for reporter := range reporters {
		as := w.As(t, w.sender.User)
		group.Go(func() error {
			for i := reporter; i < len(names); i += reporters {
				if err := as.Create(t.Context(), w.suspicion(names[i], i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait
}

// suspicion is an event about the suspect. An incident's name begins with the day of its
// first event: which one that is must not matter.
func (w *world) suspicion(name string, number int) *v1alpha1.SecurityEvent {
	return harness.MakeEvent(w.Namespace, name, w.sender.User, func(e *v1alpha1.SecurityEvent) {
		e.Spec.Source = v1alpha1.EventSource{Kind: v1alpha1.SourceAutomatic, Product: "falco", Rule: "Terminal shell in container"}
		e.Spec.ObservedTime = metav1.NewTime(time.Now().AddDate(0, 0, -number%2).Truncate(time.Second))
		e.Spec.Resources = []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: w.Target, Name: w.suspect.Name}}
	})
}

// disturbLeader kills or pauses the leader, or kills both managers, and says which.
func (s *scenario) disturbLeader(t *testing.T, all []*candidate) string {
	t.Helper()
	switch s.random.IntN(4) {
	case 0:
		paused := &pause{all: all}
		paused.toggle(t)
		paused.resume(t)
		return "paused"
	case 1:
		for _, one := range all {
			one.Kill(t)
		}
		relaunch(t, all)
		return "both killed"
	default:
		leads := leader(t, all, time.Now().Add(-time.Second))
		leads.Kill(t)
		leads.Launch(t)
		return "killed"
	}
}

// checkPromoted waits until all events are assessed, and holds them to be of one incident.
func (w *world) checkPromoted(t *testing.T, s *scenario, all []*candidate, names []string) {
	t.Helper()
	var events v1alpha1.SecurityEventList
	harness.Eventually(t, incidentTimeout, "all events to be assessed", func(ctx context.Context) error {
		relaunch(t, all)
		if err := w.Client.List(ctx, &events, client.InNamespace(w.Namespace)); err != nil {
			return err
		}
		for i := range events.Items {
			if event := &events.Items[i]; event.Status.Assessment.Outcome == "" || event.Status.IncidentRef.Name == "" {
				return fmt.Errorf("the event %s is not: %+v", event.Name, event.Status)
			}
		}
		return nil
	})
	incident := w.theIncident(t, all, len(names))
	if len(events.Items) != len(names) {
		t.Fatalf("there are %d events, want %d", len(events.Items), len(names))
	}
	var promoted []v1alpha1.EventReference
	for i := range events.Items {
		event := &events.Items[i]
		outcome := event.Status.Assessment.Outcome
		if event.Status.IncidentRef.Name != incident.Name || len(event.Status.EarlierAssessments) > 0 {
			t.Errorf("the event %s must belong to %s from the beginning, but: %+v", event.Name, incident.Name, event.Status)
		}
		switch outcome {
		case v1alpha1.OutcomePromoted:
			promoted = append(promoted, v1alpha1.EventReference{Name: event.Name})
		case v1alpha1.OutcomeJoined:
		default:
			t.Errorf("the event %s is %s, want it promoted or joined", event.Name, outcome)
		}
	}
	if len(promoted) != 1 || !slices.Equal(promoted, incident.Spec.EventRefs) {
		t.Errorf("the events %v were promoted, want one: that which has opened the incident, %v", promoted, incident.Spec.EventRefs)
	}
	w.checkRecord(t, incident, w.entriesOf(t, s.store, incident))
	if t.Failed() {
		t.FailNow()
	}
}

// theIncident waits until the one incident has counted so many events, and everything of
// its record is an Event.
func (w *world) theIncident(t *testing.T, all []*candidate, count int) *v1alpha1.Incident {
	t.Helper()
	var incidents v1alpha1.IncidentList
	harness.Eventually(t, harness.Patience, "one incident that counts all events", func(ctx context.Context) error {
		relaunch(t, all)
		if err := w.Client.List(ctx, &incidents, client.InNamespace(w.Namespace)); err != nil {
			return err
		}
		if len(incidents.Items) != 1 {
			t.Fatalf("there are %d incidents, want 1", len(incidents.Items))
		}
		status := &incidents.Items[0].Status
		switch {
		case status.EventCount > int64(count):
			t.Fatalf("the incident counts %d events, want %d", status.EventCount, count)
		case status.EventCount < int64(count):
			return fmt.Errorf("it counts %d events, want %d", status.EventCount, count)
		case len(status.Awaiting) == 0 || status.Audit.ProjectedSequence != status.Audit.Sequence:
			return fmt.Errorf("it has not come to rest: %+v", status.Audit)
		}
		return nil
	})
	return &incidents.Items[0]
}
