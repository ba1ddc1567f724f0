package receiver

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestNamesOfWhatIsLive holds the names of events to what they were before there were drills:
// a repeat must find its event after an upgrade.
func TestNamesOfWhatIsLive(t *testing.T) {
	for _, mode := range []v1alpha1.Mode{"", v1alpha1.ModeLive} {
		a := shellAlert(testTime)
		a.spec.Mode = mode
		if got, want := identify("security", a).hash, "e8f6c38da58b211c1487a4a05fd4d94bf277ba5fbd7a20f421ade568f0281003"; got != want {
			t.Errorf("mode %q: the name is of %s, want %s", mode, got, want)
		}
	}
	for _, body := range []string{
		`{"title":"a","severity":"Low","observedTime":"2026-11-21T16:00:00Z"}`,
		`{"title":"a","severity":"Low","observedTime":"2026-11-21T16:00:00Z","mode":"Live"}`,
	} {
		what, err := nativeFormat{}.parse(testReport([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		a := &what.alerts[0]
		if got, want := identify("security", a).hash, "4a4bcc15c8a4d555e38afda6f20ecbe566b0ed179e177ed293b2d4ae754d4bcc"; got != want {
			t.Errorf("%s: the name is of %s, want %s", body, got, want)
		}
		recorded := &v1alpha1.SecurityEvent{Spec: *a.spec.DeepCopy()}
		recorded.Spec.Mode = v1alpha1.ModeLive // as the API server fills it in
		if !a.sameAs(recorded) {
			t.Errorf("%s: it is not the event that was recorded", body)
		}
	}
}

// TestWhoMakesADrill: a report that is a SecurityEvent may say that it is a drill, and of a
// mapping the configuration. Whatever an alert in another format says, it is none.
func TestWhoMakesADrill(t *testing.T) {
	native := func(mode string) (parsed, error) {
		return nativeFormat{}.parse(testReport([]byte(`{"title":"a","severity":"Low","mode":"` + mode + `"}`)))
	}
	what, err := native("Drill")
	if err != nil || what.alerts[0].spec.Mode != v1alpha1.ModeDrill {
		t.Errorf("a native drill is %+v, %v", what.alerts, err)
	}
	if _, err = native("drill"); err == nil || asProblem(err).Errors[0].Pointer != "#/mode" || !strings.Contains(err.Error(), "must be Live or Drill") {
		t.Errorf("a mode that there is not: %v", err)
	}
	seen := 0
	for name, wire := range testFormats(t) {
		if name == "events" {
			continue
		}
		for file, body := range bodiesOf(t, strings.ReplaceAll(name, "/", "-")) {
			body.body = saysDrill(body.body)
			what, err := wire.parse(body)
			if err != nil {
				continue
			}
			for i := range what.alerts {
				seen++
				if mode := what.alerts[i].spec.Mode; mode != "" {
					t.Errorf("%s: an alert that says so is of mode %s", file, mode)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d alerts were looked at, want those of all formats", seen)
	}
	all, err := parseFormats([]byte(`{mappings: [{name: exercise, mode: Drill, title: item.title, when: "!has(item.skip)"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	what, err = all.byName["json/exercise"].parse(testReport([]byte(`[{"title": "x", "mode": "Live"}, {"skip": true}]`)))
	if err != nil || len(what.alerts) != 1 || what.alerts[0].spec.Mode != v1alpha1.ModeDrill || what.product != "" {
		t.Errorf("what a mapping of drills makes is %+v, %v", what, err)
	}
}

// saysDrill has every object of a body say that it is a drill. What is no JSON stays.
func saysDrill(body []byte) []byte {
	var value any
	if json.Unmarshal(body, &value) != nil {
		return body
	}
	var say func(any)
	say = func(value any) {
		switch v := value.(type) {
		case []any:
			for _, item := range v {
				say(item)
			}
		case map[string]any:
			for _, field := range v {
				say(field)
			}
			for _, key := range []string{"mode", "firebreak.mode"} {
				v[key] = "Drill"
			}
		}
	}
	say(value)
	said, _ := json.Marshal(value) // it was JSON
	return said
}

// TestDrillsSwallowNothing: the same, as a drill and live, is two events, whichever comes first.
func TestDrillsSwallowNothing(t *testing.T) {
	modes := []v1alpha1.Mode{v1alpha1.ModeDrill, ""}
	for range modes {
		slices.Reverse(modes)
		store := newMemoryStore("r0")
		r := newRecorder(store, "r0", clocktesting.NewFakeClock(testTime), logr.Discard())
		names := map[string]v1alpha1.Mode{}
		for _, mode := range modes {
			a := shellAlert(testTime)
			a.spec.Mode = mode
			o := r.record("security", a)
			if o.err != nil || !o.created {
				t.Fatalf("%v: the alert of mode %q is not an event of its own: %+v", modes, mode, o)
			}
			names[o.name] = mode
		}
		for key, event := range store.events {
			if mode, known := names[key.Name]; !known || event.Spec.Mode != mode || len(event.Status.Counters) > 0 {
				t.Errorf("%v: event %s of mode %q counts %v", modes, key.Name, event.Spec.Mode, event.Status.Counters)
			}
		}
		if len(names) != len(modes) {
			t.Errorf("%v: %d events", modes, len(names))
		}
	}
	live, drill := shellAlert(testTime), shellAlert(testTime)
	live.delivery, drill.delivery, drill.spec.Mode = "1", "1", v1alpha1.ModeDrill
	if live.deliveryKey("security") == drill.deliveryKey("security") {
		t.Error("one is taken for the other, delivered again")
	}
}

// TestDrillsAreNotHeard: a drill does not show that its source has not fallen silent.
func TestDrillsAreNotHeard(t *testing.T) {
	for mode, want := range map[v1alpha1.Mode]int{v1alpha1.ModeDrill: 0, "": 1} {
		l := newListener(nil, &Options{Clock: clocktesting.NewFakeClock(testTime), Log: logr.Discard()}, &availability{})
		a := shellAlert(testTime)
		a.spec.Mode = mode
		l.heard("security", "sender", &parsed{alerts: []alert{*a}})
		if got := len(l.queue); got != want {
			t.Errorf("mode %q: %d hearings, want %d", mode, got, want)
		}
	}
}
