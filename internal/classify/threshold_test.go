package classify

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func atLeast(occurrences int32, within time.Duration) func(*v1alpha1.ClassificationRule) {
	return func(rule *v1alpha1.ClassificationRule) {
		rule.Threshold = v1alpha1.Threshold{Occurrences: occurrences, Within: &metav1.Duration{Duration: within}}
	}
}

// seen is an event observed now and, in each of these minutes after that, once more.
func seen(minutes ...int) *v1alpha1.SecurityEvent {
	subject := event()
	subject.Spec.ObservedTime = metav1.NewTime(now.Add(20 * time.Second))
	subject.CreationTimestamp = metav1.NewTime(now.Add(30 * time.Second))
	counter := v1alpha1.EventCounter{Spool: "receiver-0", Count: int64(len(minutes))}
	for _, minute := range minutes {
		counter.Recent = append(counter.Recent, v1alpha1.EventMinute{MinuteTime: metav1.NewTime(now.Add(time.Duration(minute) * time.Minute)), Count: 1})
	}
	subject.Status.Counters = []v1alpha1.EventCounter{counter}
	return subject
}

func TestThreshold(t *testing.T) {
	ahead := seen()
	ahead.Spec.ObservedTime = metav1.NewTime(now.AddDate(8000, 0, 0).Add(30 * time.Second))
	unplaced := seen()
	unplaced.Status.Counters[0].Count = 100
	two := seen(3)
	two.Status.Counters = append(two.Status.Counters, v1alpha1.EventCounter{Spool: "receiver-1", Count: 1, Recent: []v1alpha1.EventMinute{{MinuteTime: metav1.NewTime(now), Count: 1}}})
	flood := seen(1, 2)
	flood.Status.Counters[0].Recent[0].Count, flood.Status.Counters[0].Recent[1].Count = math.MaxInt64, math.MaxInt64
	for name, test := range map[string]struct {
		event   *v1alpha1.SecurityEvent
		same    []v1alpha1.SecurityEvent
		after   time.Duration
		want    v1alpha1.AssessmentOutcome
		until   time.Duration
		message string
	}{
		"once":                          {event: seen(), until: 11 * time.Minute, message: "asks for 3 occurrences within 10m0s; it waits for them until 2026-11-22T03:11:00Z"},
		"once, at the end":              {event: seen(), after: 11*time.Minute - 1, until: 11 * time.Minute},
		"once, and it is over":          {event: seen(), after: 11 * time.Minute, want: v1alpha1.OutcomeDismissed, message: "there were at most 1"},
		"each time it waits anew":       {event: seen(9), after: 11 * time.Minute, until: 20 * time.Minute},
		"reached":                       {event: seen(4, 10), want: v1alpha1.OutcomePromoted, message: "was seen 3 times within 10m0s"},
		"a minute too far apart":        {event: seen(4, 11), after: 30 * time.Minute, want: v1alpha1.OutcomeDismissed, message: "there were at most 2"},
		"reached later":                 {event: seen(40, 41, 50), after: 51 * time.Minute, want: v1alpha1.OutcomePromoted},
		"reached, and long ago":         {event: seen(1, 2), after: 50 * time.Hour, want: v1alpha1.OutcomePromoted},
		"by two receivers":              {event: two, want: v1alpha1.OutcomePromoted},
		"more than can be counted":      {event: flood, want: v1alpha1.OutcomePromoted},
		"counted before there was when": {event: unplaced, after: time.Hour, want: v1alpha1.OutcomeDismissed},
		"a reporter ahead of time":      {event: ahead, until: 11 * time.Minute},
		"with another event":            {event: seen(), same: []v1alpha1.SecurityEvent{*seen(5)}, want: v1alpha1.OutcomePromoted},
		"another one alone":             {event: seen(), same: []v1alpha1.SecurityEvent{*seen(40, 41, 42)}, after: time.Hour, want: v1alpha1.OutcomeDismissed, message: "there were at most 2"},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Event: test.event, Same: test.same, By: by, Now: now.Add(test.after),
				Policies: compiled(t, source("a", 0, rulePromote("r", "true", atLeast(3, 10*time.Minute)), ruleOf("later", v1alpha1.RuleDefer, "true")))}
			got, err := Assess(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if got.Record.Outcome != test.want || got.Record.Rule != "r" || (got.Incident != nil) != (test.want == v1alpha1.OutcomePromoted) {
				t.Errorf("got %+v, want %q by rule r", got.Record, test.want)
			}
			var until time.Time
			if test.until > 0 {
				until = now.Add(test.until)
			}
			if !got.Until.Equal(until) {
				t.Errorf("waits until %s, want %s", got.Until, until)
			}
			if !strings.Contains(got.Record.Message, test.message) {
				t.Errorf("got the message %q, want it to hold %q", got.Record.Message, test.message)
			}
		})
	}
}

// TestThresholdBehindAPolicyThatCannotBeAsked: what is below it waits, but is not dismissed.
func TestThresholdBehindAPolicyThatCannotBeAsked(t *testing.T) {
	policies := append(compiled(t, source("a", 0, rulePromote("r", "true", atLeast(3, 10*time.Minute)))), Unusable(source("broken", 10), errors.New("a typo")))
	for name, test := range map[string]struct {
		after time.Duration
		want  v1alpha1.AssessmentOutcome
	}{"waits": {0, ""}, "over": {time.Hour, v1alpha1.OutcomeDeferred}} {
		got, err := Assess(t.Context(), Input{Event: seen(), Policies: policies, By: by, Now: now.Add(test.after)})
		if err != nil || got.Record.Outcome != test.want {
			t.Errorf("%s: got %q (%v), want %q", name, got.Record.Outcome, err, test.want)
		}
	}
}

// TestThresholdCounts compares with counting around each minute, and checks that more
// sightings never make a threshold unreached.
func TestThresholdCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own := seen(rapid.SliceOfN(rapid.IntRange(0, 59), 0, 8).Draw(t, "own")...)
		other := seen(rapid.SliceOfN(rapid.IntRange(-60, 59), 0, 8).Draw(t, "other")...)
		within := rapid.Int64Range(1, 30).Draw(t, "within")
		mine, all := sightings{}, sightings{}
		mine.addEvent(own)
		all.addEvent(own)
		all.addEvent(other)
		var want int64
		for start := range all {
			var sum, owned int64
			for minute, count := range all {
				if minute >= start && minute <= start+within {
					sum += count
					owned += mine[minute]
				}
			}
			if owned > 0 {
				want = max(want, sum)
			}
		}
		got := all.most(mine, within)
		if got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
		all.add(now.Add(time.Duration(rapid.IntRange(-60, 59).Draw(t, "more"))*time.Minute), 1)
		if more := all.most(mine, within); more < got {
			t.Fatalf("one more makes %d of %d", more, got)
		}
	})
}
