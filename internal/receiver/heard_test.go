package receiver

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// expect creates a plan that expects sources, by their products; each must be heard from the
// user after it, if one is named.
func (s *site) expect(sources ...v1alpha1.ExpectedSource) *v1alpha1.ResponsePlan {
	s.t.Helper()
	plan := &v1alpha1.ResponsePlan{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.ResponsePlanName}}
	for _, source := range sources {
		source.SilentAfter = &metav1.Duration{Duration: time.Hour}
		plan.Spec.ExpectedSources = append(plan.Spec.ExpectedSources, source)
	}
	s.create(plan)
	return plan
}

// heard is when products were heard, as the plan says.
func (s *site) heard(plan *v1alpha1.ResponsePlan) map[string]time.Time {
	s.t.Helper()
	if err := s.admin.Get(s.t.Context(), client.ObjectKeyFromObject(plan), plan); err != nil {
		s.t.Fatal(err)
	}
	heard := map[string]time.Time{}
	for i := range plan.Status.Sources {
		heard[plan.Status.Sources[i].Product] = plan.Status.Sources[i].LastHeardTime.Time
	}
	return heard
}

// TestHeartbeatsAreHeard is that a source which reports nothing, but is there, is not silent.
func TestHeartbeatsAreHeard(t *testing.T) {
	s := newSite(t)
	plan := s.expect(v1alpha1.ExpectedSource{Product: "policy-reporter"}, v1alpha1.ExpectedSource{Product: "falco"},
		v1alpha1.ExpectedSource{Product: "tetragon", SubmittedBy: "somebody-else"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.last.Run(ctx) }()
	s.post("policy-reporter", `{"event": "heartbeat"}`).want(t, http.StatusOK)
	s.post("tetragon", `{"process_exit": {}, "time": "2026-11-21T16:00:00Z"}`)
	s.post("falco", `{"rule":"Terminal shell in container","priority":"Notice","output":"x","time":"2026-11-21T16:00:00Z","output_fields":{}}`).want(t, http.StatusCreated)
	s.eventually("both are heard", func() bool { return len(s.heard(plan)) >= 2 })
	cancel()
	<-ended
	heard := s.heard(plan)
	if heard["policy-reporter"].IsZero() || heard["falco"].IsZero() || len(heard) != 2 {
		t.Errorf("heard %v, want policy-reporter and falco, and not tetragon, which another must report", heard)
	}
}

// TestHearingIsWrittenSeldom holds what is written to once a minute, or a tenth of silentAfter.
func TestHearingIsWrittenSeldom(t *testing.T) {
	s := newSite(t)
	plan := s.expect(v1alpha1.ExpectedSource{Product: "falco", SubmittedBy: s.sender})
	c, err := NewClient(s.config)
	if err != nil {
		t.Fatal(err)
	}
	now := clocktesting.NewFakeClock(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC))
	l := newListener(c, &Options{Clock: now, Log: logr.Discard()}, &availability{})
	one := hearing{s.namespace, "falco", s.sender}
	for _, step := range []struct {
		name    string
		after   time.Duration
		hearing hearing
		due     bool
		heard   time.Duration // since the beginning
	}{
		{"the first", 0, one, true, 0},
		{"the same at once", 0, one, false, 0},
		{"within a minute", 59 * time.Second, one, false, 0},
		{"the plan is asked again", time.Second, one, true, 0},
		{"a tenth of silentAfter later", 5 * time.Minute, one, true, 6 * time.Minute},
		{"what nobody expects", time.Second, hearing{s.namespace, "trivy", s.sender}, false, 6 * time.Minute},
		{"from somebody else", 59 * time.Minute, hearing{s.namespace, "falco", "mallory"}, true, 6 * time.Minute},
	} {
		t.Run(step.name, func(t *testing.T) {
			now.SetTime(now.Now().Add(step.after))
			if due := l.due(step.hearing, now.Now()); due != step.due {
				t.Errorf("due is %t, want %t", due, step.due)
			}
			if err := l.write(t.Context(), step.hearing, now.Now()); err != nil {
				t.Fatal(err)
			}
			want := time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC).Add(step.heard)
			if got := s.heard(plan)["falco"]; !got.Equal(want) {
				t.Errorf("heard at %s, want %s", got, want)
			}
		})
	}
	// Another replica knows what this one has written.
	other := newListener(c, &Options{Clock: now, Log: logr.Discard()}, &availability{})
	if err := other.write(t.Context(), one, now.Now()); err != nil || !s.heard(plan)["falco"].Equal(now.Now()) {
		t.Errorf("%v: heard %v", err, s.heard(plan))
	}
	if err := l.write(t.Context(), one, now.Now()); err != nil {
		t.Fatal(err)
	}
	// Where there is no plan nothing is written, and nothing is wrong.
	if err := l.write(t.Context(), hearing{"nowhere", "falco", s.sender}, now.Now()); err != nil {
		t.Error(err)
	}
}

// TestHeardWhileTheAPIServerIsAway: it is written when that is back, with the time of then, whether
// the plan was known before or not.
func TestHeardWhileTheAPIServerIsAway(t *testing.T) {
	s := newSite(t)
	g := s.gated()
	plan := s.expect(v1alpha1.ExpectedSource{Product: "falco"}, v1alpha1.ExpectedSource{Product: "trivy"}, v1alpha1.ExpectedSource{Product: "tetragon"})
	c, err := NewClient(s.config)
	if err != nil {
		t.Fatal(err)
	}
	now := clocktesting.NewFakeClock(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC))
	// How long it is until the API server is away: the plan was not read yet, is to be read again, is known.
	for name, until := range map[string]time.Duration{"trivy": 0, "falco": 10 * time.Minute, "tetragon": 30 * time.Second} {
		l := newListener(c, &Options{Clock: now, Log: logr.Discard()}, &availability{})
		one := hearing{s.namespace, name, s.sender}
		if until > 0 {
			l.take(t.Context(), hearing{s.namespace, "falco", s.sender}, now.Now())
			now.Step(until)
		}
		g.shut.Store(true)
		l.take(t.Context(), one, now.Now()) // before anybody knows that it is away
		l.availability.away.Store(true)
		now.Step(10 * time.Minute)
		l.take(t.Context(), one, now.Now())
		heard := now.Now()
		now.Step(time.Second)
		l.takeMissed(t.Context())
		g.shut.Store(false)
		l.availability.away.Store(false)
		if !l.due(one, heard) {
			t.Errorf("%s: it is not due", name)
		}
		l.takeMissed(t.Context())
		now.Step(2 * hearAgain)
		l.takeMissed(t.Context())
		if got := s.heard(plan)[name]; !got.Equal(heard) || len(l.missed) > 0 {
			t.Errorf("%s: heard at %s, want %s; %d are not written yet", name, got, heard, len(l.missed))
		}
	}
}

// TestHearingDoesNotGoBack: what was missed does not take the place of what was heard later, by this
// receiver from another sender, or by another receiver since this one has read the plan.
func TestHearingDoesNotGoBack(t *testing.T) {
	s := newSite(t)
	plan := s.expect(v1alpha1.ExpectedSource{Product: "falco"})
	c, err := NewClient(s.config)
	if err != nil {
		t.Fatal(err)
	}
	now := clocktesting.NewFakeClock(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC))
	receiver := func() *listener {
		return newListener(c, &Options{Clock: now, Log: logr.Discard()}, &availability{})
	}
	one, other := receiver(), receiver()
	for name, later := range map[string]*listener{"by itself": one, "by another": other} {
		one.availability.away.Store(true)
		one.take(t.Context(), hearing{s.namespace, "falco", "early"}, now.Now())
		now.Step(2 * time.Hour)
		heard := now.Now()
		now.Step(10 * time.Minute)
		one.availability.away.Store(false)
		one.take(t.Context(), hearing{s.namespace, "trivy", s.sender}, now.Now()) // reads the plan
		later.take(t.Context(), hearing{s.namespace, "falco", "late"}, heard)
		one.takeMissed(t.Context())
		if got := s.heard(plan)["falco"]; !got.Equal(heard) || len(one.missed) > 0 {
			t.Errorf("%s: heard at %s, want %s; %d are not written yet", name, got, heard, len(one.missed))
		}
	}
}

// TestHearingNeverWaits is that an alert never waits for it.
func TestHearingNeverWaits(t *testing.T) {
	l := newListener(nil, &Options{Clock: clocktesting.NewFakeClock(time.Now()), Log: logr.Discard()}, &availability{})
	for range hearings + 10 {
		l.heard("security", "falco", &parsed{skipped: []Skipped{{Count: 1}}, product: "falco"})
	}
	if len(l.queue) != hearings {
		t.Errorf("%d wait, want %d: nobody takes them, and more have no room", len(l.queue), hearings)
	}
}
