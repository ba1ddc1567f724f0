package lifecycle

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestPriorityOf(t *testing.T) {
	none, low, high := v1alpha1.ImpactNone, v1alpha1.ImpactLow, v1alpha1.ImpactHigh
	for _, test := range []struct {
		severity v1alpha1.Severity
		impact   v1alpha1.Impact
		want     v1alpha1.Priority
	}{
		{v1alpha1.SeverityCritical, v1alpha1.Impact{}, v1alpha1.PriorityP1},
		{v1alpha1.SeverityHigh, v1alpha1.Impact{}, v1alpha1.PriorityP2},
		{v1alpha1.SeverityMedium, v1alpha1.Impact{}, v1alpha1.PriorityP3},
		{v1alpha1.SeverityLow, v1alpha1.Impact{}, v1alpha1.PriorityP4},
		{v1alpha1.SeverityInformational, v1alpha1.Impact{}, v1alpha1.PriorityP4},
		{"", v1alpha1.Impact{}, v1alpha1.PriorityP4},
		{v1alpha1.SeverityHigh, v1alpha1.Impact{Integrity: high, Availability: none}, v1alpha1.PriorityP1},
		{v1alpha1.SeverityHigh, v1alpha1.Impact{Integrity: low}, v1alpha1.PriorityP3},
		{v1alpha1.SeverityCritical, v1alpha1.Impact{Confidentiality: high}, v1alpha1.PriorityP1},
		{v1alpha1.SeverityLow, v1alpha1.Impact{Confidentiality: none}, v1alpha1.PriorityP4},
		{v1alpha1.SeverityInformational, v1alpha1.Impact{Availability: high}, v1alpha1.PriorityP3},
	} {
		if got := PriorityOf(test.severity, test.impact); got != test.want {
			t.Errorf("PriorityOf(%s, %+v) = %s, want %s", test.severity, test.impact, got, test.want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		text string
		at   int
		want string
	}{
		{"", 4, ""}, {"four", 4, "four"}, {"fives", 4, "fiv…"}, {"über", 4, "über"}, {"übers", 4, "übe…"}, {"日本語です", 3, "日本…"},
	} {
		got := Cut(test.text, test.at)
		if got != test.want || utf8.RuneCountInString(got) > test.at {
			t.Errorf("Cut(%q, %d) = %q, want %q", test.text, test.at, got, test.want)
		}
	}
}

func TestLessonName(t *testing.T) {
	if got := LessonName("inc-20261121-k7f2a"); got != "lesson-inc-20261121-k7f2a" {
		t.Errorf("got %q", got)
	}
	long, longer := LessonName(strings.Repeat("a", 253)), LessonName(strings.Repeat("a", 252)+"b")
	if len(long) > 253 || len(longer) > 253 || long == longer {
		t.Errorf("names of lessons must differ and have at most 253 characters: %q, %q", long, longer)
	}
}

func TestDraftLessonAndMeasure(t *testing.T) {
	s := newSim(t, demo(), "a", "b")
	s.event("event-1", "a")
	s.run()
	s.now = began.Add(10 * time.Minute)
	s.must(by(v1alpha1.DecisionAcknowledge, "", "jane"))
	s.must(by(v1alpha1.DecisionSkipStep, "delete", "jane"))
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview)
	lesson := DraftLesson(s.stored)
	want := v1alpha1.LessonLearnedSpec{
		IncidentRefs: []v1alpha1.IncidentReference{{Name: "inc-20261121-k7f2a"}}, TLP: v1alpha1.TLPAmber,
		Summary:   "High incident of category Intrusion: Shell in shop/cart. Contained 0s after it was opened. Playbook contain, generation 3, answered.",
		WentWrong: []v1alpha1.LessonText{"delete (delete): skipped by jane"},
	}
	if diff := cmp.Diff(want, lesson); diff != "" {
		t.Errorf("lesson (-want +got):\n%s", diff)
	}
	other := s.stored.DeepCopy()
	contained := metav1.NewTime(began.Add(3 * time.Minute))
	other.Status.Times.ContainedTime, other.Status.Times.AcknowledgedTime = &contained, nil
	measures := v1alpha1.LessonMeasures{
		TimeToAcknowledge: duration(10 * time.Minute), TimeToContain: duration(3 * time.Minute), TimeToRecover: duration(10 * time.Minute), Events: 2, Targets: 4,
	}
	if diff := cmp.Diff(measures, Measure([]v1alpha1.Incident{*s.stored, *other})); diff != "" {
		t.Errorf("measures (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(v1alpha1.LessonMeasures{}, Measure(nil)); diff != "" {
		t.Errorf("measures of nothing:\n%s", diff)
	}
}

// TestLongNames opens an incident all of whose texts are as long as the API allows: the
// simulator holds what is written to the API's bounds.
func TestLongNames(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	playbook := demo()
	playbook.Containment.Steps[1].Name = long(63)
	playbook.Recovery.Steps[0].Revert.Steps[0] = v1alpha1.StepName(long(63))
	playbook.Eradication.Steps[0].Approve.Message = strings.Repeat("ü", 512)
	s := newSim(t, playbook)
	s.stored.Name, s.stored.Namespace = long(253), long(63)
	s.stored.Spec.Title, s.stored.Spec.SubmittedBy, s.stored.Spec.Rule = strings.Repeat("日", 256), long(253), long(317)
	for i := range 12 {
		pod := podReference(strings.Repeat(string(rune('a'+i)), 253))
		pod.Namespace = long(63)
		s.stored.Spec.Resources = append(s.stored.Spec.Resources, pod)
	}
	s.script = func(work Work, _ *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
		if work.Verb == VerbApply {
			return permanent(long(5000))
		}
		return Result{}
	}
	s.run()
	s.want(v1alpha1.PhaseContainment, long(63)+"=AwaitingApproval") // two are beyond the limit
	if got, want := s.step(long(63)).Message, "10 others failed already; isolate of Pod "; !strings.HasPrefix(got, want) {
		t.Errorf("message is %q, want it to begin with %q", got, want)
	}
	s.must(by(v1alpha1.DecisionApprove, long(63), long(253)))
	s.want(v1alpha1.PhaseContainment, long(63)+"=AwaitingTask")
	s.script = nil
	decision := by(v1alpha1.DecisionRetryStep, long(63), long(253))
	decision.Reason = long(1024)
	s.must(decision)
	s.must(by(v1alpha1.DecisionApprove, "ok", long(253)))
	s.want(v1alpha1.PhaseReview)
}
