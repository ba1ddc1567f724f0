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
		"always guarded":                                {[]proven{{0, TrustProven}, {60, TrustProven}}, 30, false},
		"before it was found out":                       {[]proven{{0, TrustRefuted}, {2, TrustProven}}, -10, true},
		"between the two":                               {[]proven{{0, TrustRefuted}, {2, TrustProven}}, 1, true},
		"at the proof":                                  {[]proven{{0, TrustRefuted}, {2, TrustProven}}, 2, false},
		"another's policy between":                      {[]proven{{0, TrustRefuted}, {2, TrustUnknown}, {4, TrustProven}}, 1, true},
		"between, and proven again since":               {[]proven{{0, TrustRefuted}, {2, TrustProven}, {62, TrustProven}}, 1, true},
		"after it, and proven again since":              {[]proven{{0, TrustRefuted}, {2, TrustProven}, {62, TrustProven}}, 3, false},
		"between the second time":                       {[]proven{{0, TrustRefuted}, {2, TrustProven}, {10, TrustRefuted}, {12, TrustProven}}, 11, true},
		"nobody asked for an hour":                      {[]proven{{0, TrustRefuted}, {3600, TrustProven}}, 3599, false},
		"nobody asked for an hour, within the minute":   {[]proven{{0, TrustRefuted}, {3600, TrustProven}}, 59, true},
		"refuted again and again, within the last time": {[]proven{{0, TrustRefuted}, {50, TrustRefuted}, {3600, TrustProven}}, 100, true},
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
			clock.SetTime(clock.Now().Add(2 * time.Second))
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
			if verdict := guard.Trust(t.Context(), "another", nil); !verdict.Doubted.IsZero() {
				t.Errorf("another namespace is in doubt until %s", verdict.Doubted)
			}
		})
	}
}
