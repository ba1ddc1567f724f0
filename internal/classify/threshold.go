package classify

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// sightings is how often something was seen, by minute.
type sightings map[int64]int64

func (s sightings) add(at time.Time, count int64) {
	minute := minuteOf(at)
	s[minute] += min(count, math.MaxInt64-s[minute])
}

func (s sightings) addEvent(event *v1alpha1.SecurityEvent) {
	s.add(event.Spec.ObservedTime.Time, 1)
	for i := range event.Status.Counters {
		for _, recent := range event.Status.Counters[i].Recent {
			s.add(recent.MinuteTime.Time, max(recent.Count, 0))
		}
	}
}

func minuteOf(at time.Time) int64 { return at.Truncate(time.Minute).Unix() / 60 }

// minutes is a duration in whole minutes, rounded up.
func minutes(within time.Duration) int64 { return int64((within + time.Minute - 1) / time.Minute) }

// most is how often it was seen within a time, wherever in it an own sighting lies.
func (s sightings) most(own sightings, within int64) int64 {
	order := make([]int64, 0, len(s))
	for minute := range s {
		order = append(order, minute)
	}
	slices.Sort(order)
	var most, sum int64
	owned, first := 0, 0
	for _, minute := range order {
		for ; minute-order[first] > within; first++ {
			sum -= s[order[first]]
			if own[order[first]] > 0 {
				owned--
			}
		}
		sum += min(s[minute], math.MaxInt64-sum)
		if own[minute] > 0 {
			owned++
		}
		if owned > 0 {
			most = max(most, sum)
		}
	}
	return most
}

// reaches says whether an event has reached the threshold of the rule that matches. If not,
// it takes down whether the event waits or is dismissed.
func (in Input) reaches(by decision, result *Assessment) bool {
	threshold := by.rule.threshold
	if threshold.Occurrences == 0 || threshold.Within == nil {
		return true
	}
	own, all := sightings{}, sightings{}
	own.addEvent(in.Event)
	all.addEvent(in.Event)
	for i := range in.Same {
		all.addEvent(&in.Same[i])
	}
	within := minutes(threshold.Within.Duration)
	seen := all.most(own, within)
	if seen >= int64(threshold.Occurrences) {
		result.Record.Message += fmt.Sprintf(", and was seen %d times within %s", seen, threshold.Within.Duration)
		return true
	}
	asked := fmt.Sprintf("rule %q of policy %q asks for %d occurrences within %s", by.rule.name, by.policy.name, threshold.Occurrences, threshold.Within.Duration)
	if until := in.waits(own, within); in.Now.Before(until) {
		result.Until, result.Seen, result.Asked = until, seen, int64(threshold.Occurrences)
		result.Record.Reason = v1alpha1.ReasonThresholdPending
		result.Record.Message = fmt.Sprintf("%s; it waits for them until %s", asked, until.UTC().Format(time.RFC3339))
		return false
	}
	result.Record.Outcome, result.Record.Reason = v1alpha1.OutcomeDismissed, v1alpha1.ReasonThresholdNotReached
	result.Record.Message = fmt.Sprintf("%s; there were at most %d", asked, seen)
	return false
}

// waits is how long an event waits: until what comes later is too late to count together
// with when it was last seen. A reporter whose clock is fast makes it wait no longer.
func (in Input) waits(own sightings, within int64) time.Time {
	var last int64
	for minute := range own {
		last = max(last, minute)
	}
	var fast int64
	if created := in.Event.CreationTimestamp; !created.IsZero() {
		fast = max(in.Event.Spec.ObservedTime.Unix()-created.Unix(), 0)
	}
	return time.Unix((last+within+1)*60-fast, 0)
}

// SameThing names what an event is about, as thresholds count it; empty when it repeats nothing.
func SameThing(event *v1alpha1.SecurityEvent) string {
	spec := &event.Spec
	if spec.Fingerprint == "" {
		return ""
	}
	sum := sha256.New()
	for _, part := range []string{string(spec.Mode.OrLive()), spec.SubmittedBy, spec.Source.Product, spec.Source.Rule, spec.Fingerprint} {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return base64.RawStdEncoding.EncodeToString(sum.Sum(nil)[:16])
}
