package receiver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var events = v1alpha1.SchemeGroupVersion.WithResource("securityevents").GroupResource()

// TestBlockedSpoolIsTold has one namespace whose alerts the API server does not take, for as
// long as it takes: they stay, are tried again, and the log is told now and then.
func TestBlockedSpoolIsTold(t *testing.T) {
	store, clock := newMemoryStore("r0"), clocktesting.NewFakeClock(testTime)
	store.trouble = func() trouble { return isAway }
	l := newLife(t, t.TempDir(), DefaultSpoolMaxBytes, store, clock)
	defer l.crash()
	log := &logLines{}
	l.recorder.log = funcr.New(log.add, funcr.Options{})
	for n := range 6 {
		l.recorder.record("full", kindAlert(n%2, n))
		l.recorder.record("free", kindAlert(n, n))
	}
	store.set(func() {
		store.trouble = nil
		store.refuse = map[string]error{"full": apierrors.NewForbidden(events, "e", errAway)}
	})
	l.recorder.availability.away.Store(false)
	said := func() int { return strings.Count(log.String(), "stay in the spool") }
	for range 5 {
		clock.Step(countEvery)
		if l.pass() {
			t.Fatal("all was taken, and must not")
		}
	}
	if state := l.recorder.spool.index.state(); state.items != 6 || l.drainer.blocked.Load() != 6 || state.buried != 0 {
		t.Errorf("%d alerts are in the spool, %d of them blocked, %d buried; want 6, all blocked", state.items, l.drainer.blocked.Load(), state.buried)
	}
	if got := said(); got != 1 {
		t.Errorf("the log was told %d times, want once:\n%s", got, log)
	}
	clock.Step(blockedEvery)
	l.pass()
	if got := said(); got != 2 {
		t.Errorf("after a while the log was told %d times, want twice", got)
	}
	store.set(func() { store.refuse = nil })
	passTime(t, clock)
	for !l.pass() {
	}
	if state := l.recorder.spool.index.state(); state.items != 0 || l.drainer.blocked.Load() != 0 {
		t.Errorf("%d alerts are left, %d blocked, want none", state.items, l.drainer.blocked.Load())
	}
	if got := store.occurrences(); got["kind 0"] != 4 || got["kind 1"] != 4 || got["kind 5"] != 1 {
		t.Errorf("occurrences %v, want four of kinds 0 and 1 and one of the others", got)
	}
}

// pass tries everything in the spool once, and says whether it is empty then.
func (l *life) pass() bool {
	d := l.drainer
	d.until = time.Time{}
	for _, one := range d.lanes {
		one.rewind()
	}
	for d.begin(); d.out > 0; d.begin() {
		d.end(<-d.done)
	}
	return l.recorder.spool.index.state().items == 0
}

// TestReadinessWhenWritesAreRefused has an API server that answers, and takes nothing.
func TestReadinessWhenWritesAreRefused(t *testing.T) {
	clock := clocktesting.NewFakeClock(testTime)
	answering := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer answering.Close()
	h := &Handler{availability: &availability{}, writes: &writes{clock: clock}}
	trouble := func() string {
		return h.trouble(t.Context(), &probe{client: answering.Client(), url: answering.URL})
	}
	forbidden := apierrors.NewForbidden(events, "e", errAway)
	for _, step := range []struct {
		what  string
		do    func()
		ready bool
	}{
		{"at first", func() {}, true},
		{"after a write", func() { h.writes.note(nil) }, true},
		{"after a refusal just after it", func() { clock.Step(time.Second); h.writes.note(forbidden) }, true},
		{"after refusals only", func() { clock.Step(writtenOfLate); h.writes.note(forbidden) }, false},
		{"when one is taken", func() { h.writes.note(nil) }, true},
		{"when others are refused", func() { clock.Step(time.Second); h.writes.note(forbidden) }, true},
		{"when only what is wrong is refused", func() {
			clock.Step(writtenOfLate)
			h.writes.note(apierrors.NewInvalid(v1alpha1.SchemeGroupVersion.WithKind("SecurityEvent").GroupKind(), "e", nil))
		}, true},
		{"when it is away", func() { h.writes.note(errAway) }, true},
		{"when an expired token is refused", func() { h.writes.note(apierrors.NewUnauthorized("expired")) }, false},
		{"when nobody has asked for a while", func() { clock.Step(refusedOfLate) }, true},
	} {
		step.do()
		if got := trouble(); (got == "") != step.ready {
			t.Errorf("%s: trouble %q, want ready: %t", step.what, got, step.ready)
		}
	}
}

func TestLastingRefusals(t *testing.T) {
	kind := v1alpha1.SchemeGroupVersion.WithKind("SecurityEvent").GroupKind()
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"forbidden":    {apierrors.NewForbidden(events, "e", errAway), true},
		"unauthorized": {apierrors.NewUnauthorized("x"), true},
		"invalid":      {apierrors.NewInvalid(kind, "e", nil), true},
		"conflict":     {apierrors.NewConflict(events, "e", errAway), false},
		"exists":       {apierrors.NewAlreadyExists(events, "e"), false},
		"overload":     {apierrors.NewTooManyRequests("x", 1), false},
		"internal":     {apierrors.NewInternalError(errAway), false},
		"gateway":      {&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusGatewayTimeout}}, false},
		"away":         {errAway, false},
		"not now":      {errNotNow, false},
		"nothing":      {nil, false},
	} {
		if got := lasting(test.err); got != test.want {
			t.Errorf("%s: lasting %t, want %t", name, got, test.want)
		}
	}
}
