package controller

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestDoubt asks, after some proofs of which the last stands, about a Decision created a
// number of seconds after the first of them.
func TestDoubt(t *testing.T) {
	type proven struct {
		at    int
		trust Trust
	}
	tests := map[string]struct {
		proofs  []proven
		created int
		refused bool
	}{
		"always guarded":                        {[]proven{{0, TrustProven}, {60, TrustProven}}, 30, false},
		"could not be told for a while":         {[]proven{{0, TrustProven}, {30, TrustUnknown}, {60, TrustProven}}, 40, false},
		"before it was found out":               {[]proven{{0, TrustRefuted}, {2, TrustProven}}, -10, true},
		"between the two":                       {[]proven{{0, TrustRefuted}, {2, TrustProven}}, 1, true},
		"just after, by the clock of another":   {[]proven{{0, TrustRefuted}, {2, TrustProven}}, 6, true},
		"after it":                              {[]proven{{0, TrustRefuted}, {2, TrustProven}}, 7, false},
		"another's policy between":              {[]proven{{0, TrustRefuted}, {2, TrustUnknown}, {4, TrustProven}}, 1, true},
		"another's policy for long":             {[]proven{{0, TrustRefuted}, {2, TrustUnknown}, {600, TrustUnknown}, {620, TrustProven}}, 590, true},
		"nobody asked for an hour":              {[]proven{{0, TrustRefuted}, {3600, TrustProven}}, 3599, true},
		"between, and proven again since":       {[]proven{{0, TrustRefuted}, {2, TrustProven}, {62, TrustProven}}, 1, true},
		"after it, and proven again since":      {[]proven{{0, TrustRefuted}, {2, TrustProven}, {62, TrustProven}}, 8, false},
		"after it, and could not be told since": {[]proven{{0, TrustRefuted}, {2, TrustProven}, {62, TrustUnknown}, {64, TrustProven}}, 8, false},
		"between the second time":               {[]proven{{0, TrustRefuted}, {2, TrustProven}, {10, TrustRefuted}, {12, TrustProven}}, 11, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
			clock := clocktesting.NewFakePassiveClock(start)
			guard := NewAdmissionGuard(testClient, clock)
			for _, p := range test.proofs {
				clock.SetTime(start.Add(time.Duration(p.at) * time.Second))
				guard.keep("security", proof{time: clock.Now(), trust: p.trust})
			}
			decision := v1alpha1.Decision{}
			decision.CreationTimestamp = metav1.NewTime(start.Add(time.Duration(test.created) * time.Second))
			clock.SetTime(clock.Now().Add(10 * time.Second))
			guard.keep("security", proof{time: clock.Now(), trust: TrustProven})
			verdict := guard.Trust(t.Context(), "security", []v1alpha1.Decision{decision})
			if verdict.Trust != TrustProven {
				t.Fatalf("the trust is %d (%s), want it proven", verdict.Trust, verdict.Why)
			}
			if why := verdict.Refused(&decision); (why != "") != test.refused {
				t.Errorf("refused because %q, want refused %t", why, test.refused)
			}
			if why := guard.Trust(t.Context(), "security", nil).Refused(&v1alpha1.Decision{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(clock.Now())}}); why != "" {
				t.Errorf("a Decision created now is refused: %s", why)
			}
			if other := guard.keep("another", proof{time: clock.Now(), trust: TrustProven}); !other.doubted.IsZero() {
				t.Errorf("another namespace is in doubt until %s", other.doubted)
			}
		})
	}
}
