package lifecycle

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// overIncident is a closed incident with nothing left to do.
func overIncident() *v1alpha1.Incident {
	closed := metav1.NewTime(time.Date(2024, 11, 21, 16, 0, 0, 0, time.UTC))
	return &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Name: "inc"},
		Status: v1alpha1.IncidentStatus{
			Phase: v1alpha1.PhaseClosed, Severity: v1alpha1.SeverityHigh, Resolution: v1alpha1.ResolutionResolved,
			Times:      v1alpha1.IncidentTimes{ClosedTime: &closed},
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionClosed, Status: metav1.ConditionTrue, LastTransitionTime: closed}},
			Audit:      v1alpha1.IncidentAudit{Sequence: 7, ProjectedSequence: 7},
		},
	}
}

// isolated has an incident isolate a pod, in a state.
func isolated(in *Retained, state v1alpha1.TargetState, change func(*v1alpha1.StepTarget)) {
	target := v1alpha1.StepTarget{Kind: "Pod", Namespace: "shop", Name: "cart", UID: "1", State: state, Undo: "{}"}
	if change != nil {
		change(&target)
	}
	in.Incident.Status.Steps = []v1alpha1.IncidentStep{{Name: "isolate", Action: "isolate", Targets: []v1alpha1.StepTarget{target}}}
}

func other(name string, phase v1alpha1.Phase) v1alpha1.Incident {
	return v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.IncidentStatus{Phase: phase}}
}

func lessonOf(generation int64, cause string, names ...string) v1alpha1.LessonLearned {
	lesson := v1alpha1.LessonLearned{ObjectMeta: metav1.ObjectMeta{Name: LessonName(names[0]), Generation: generation}}
	for _, name := range names {
		lesson.Spec.IncidentRefs = append(lesson.Spec.IncidentRefs, v1alpha1.IncidentReference{Name: name})
	}
	lesson.Spec.RootCause.Category = cause
	return lesson
}

func TestKeptBecause(t *testing.T) {
	low := func(in *Retained) { in.Incident.Status.Severity = v1alpha1.SeverityLow }
	seen := func(counted, assessed int64) v1alpha1.SecurityEvent {
		return v1alpha1.SecurityEvent{ObjectMeta: metav1.ObjectMeta{Name: "sev"}, Status: v1alpha1.SecurityEventStatus{
			Occurrences: assessed, Counters: []v1alpha1.EventCounter{{Spool: "receiver-0", Count: counted}},
		}}
	}
	decision := func(answered ...metav1.Condition) v1alpha1.Decision {
		return v1alpha1.Decision{ObjectMeta: metav1.ObjectMeta{Name: "note"}, Status: v1alpha1.DecisionStatus{Conditions: answered}}
	}
	for name, test := range map[string]struct {
		change func(*Retained)
		want   string // empty is that it may go
	}{
		"nothing needs it":        {func(*Retained) {}, ""},
		"it is open":              {func(in *Retained) { in.Incident.Status.Phase = v1alpha1.PhaseReview }, "it is open"},
		"it is being deleted":     {func(in *Retained) { in.Incident.DeletionTimestamp = &metav1.Time{} }, "it is being deleted"},
		"its containment stands":  {func(in *Retained) { isolated(in, v1alpha1.TargetSucceeded, nil) }, "still in place (isolate of Pod shop/cart)"},
		"its containment failed":  {func(in *Retained) { isolated(in, v1alpha1.TargetFailed, nil) }, "still in place"},
		"its containment is gone": {func(in *Retained) { isolated(in, v1alpha1.TargetReverted, nil) }, ""},
		"it had no effect":        {func(in *Retained) { isolated(in, v1alpha1.TargetFailed, func(t *v1alpha1.StepTarget) { t.Undo = "" }) }, ""},
		"it was only tried": {func(in *Retained) {
			isolated(in, v1alpha1.TargetSucceeded, func(t *v1alpha1.StepTarget) { t.Mode = "DryRun" })
		}, ""},
		"what it held is gone": {func(in *Retained) {
			isolated(in, v1alpha1.TargetSucceeded, func(t *v1alpha1.StepTarget) { t.Message = goneSince + "no such pod" })
		}, ""},
		"what it isolated is gone": {func(in *Retained) {
			isolated(in, v1alpha1.TargetSucceeded, nil)
			in.Incident.Status.Resources = []v1alpha1.IncidentResource{{ResourceReference: v1alpha1.ResourceReference{UID: "1"}, GoneTime: &metav1.Time{}}}
		}, ""},
		"nobody knows which it isolated": {func(in *Retained) {
			isolated(in, v1alpha1.TargetSucceeded, func(t *v1alpha1.StepTarget) { t.UID = "" })
			in.Incident.Status.Resources = []v1alpha1.IncidentResource{{GoneTime: &metav1.Time{}}}
		}, "still in place"},
		"an open one refers to it": {func(in *Retained) {
			in.Others = []v1alpha1.Incident{other("a", v1alpha1.PhaseClosed), other("b", v1alpha1.PhaseReview)}
		}, "incident b, which is open"},
		"one of no phase yet does":    {func(in *Retained) { in.Others = []v1alpha1.Incident{other("new", "")} }, "incident new, which is open"},
		"a closed one refers to it":   {func(in *Retained) { in.Others = []v1alpha1.Incident{other("a", v1alpha1.PhaseClosed)} }, ""},
		"its own events":              {func(in *Retained) { in.Others = []v1alpha1.Incident{other("inc", v1alpha1.PhaseReview)} }, ""},
		"its lesson is not done":      {func(in *Retained) { in.Lessons = []v1alpha1.LessonLearned{lessonOf(1, "", "inc")} }, "lesson lesson-inc is not done"},
		"its lesson is done":          {func(in *Retained) { in.Lessons = []v1alpha1.LessonLearned{lessonOf(2, "Misconfiguration", "inc")} }, ""},
		"a draft that nobody needs":   {func(in *Retained) { low(in); in.Lessons = []v1alpha1.LessonLearned{lessonOf(1, "", "inc")} }, ""},
		"a lesson somebody has begun": {func(in *Retained) { low(in); in.Lessons = []v1alpha1.LessonLearned{lessonOf(2, "", "inc")} }, "lesson lesson-inc is not done"},
		"another's lesson of it too":  {func(in *Retained) { low(in); in.Lessons = []v1alpha1.LessonLearned{lessonOf(1, "", "b", "inc")} }, "lesson lesson-b is not done"},
		"a plan that needs no lesson": {func(in *Retained) {
			in.Plan = &v1alpha1.ResponsePlan{Spec: v1alpha1.ResponsePlanSpec{Lessons: v1alpha1.PlanLessons{RequiredFrom: v1alpha1.SeverityCritical}}}
			in.Lessons = []v1alpha1.LessonLearned{lessonOf(1, "", "inc")}
		}, ""},
		"a Decision waits": {func(in *Retained) { in.Decisions = []v1alpha1.Decision{decision()} }, "Decision note has yet to be answered"},
		"an answer waits":  {func(in *Retained) { in.Incident.Status.Answers = []v1alpha1.DecisionAnswer{{Name: "note"}} }, "Decision note has yet to be answered"},
		"Decisions are answered": {func(in *Retained) {
			in.Decisions = []v1alpha1.Decision{decision(metav1.Condition{Type: v1alpha1.ConditionAccepted})}
		}, ""},
		"an event was seen again":     {func(in *Retained) { in.Events = []v1alpha1.SecurityEvent{seen(3, 3)} }, "event sev was seen again"},
		"an event is assessed":        {func(in *Retained) { in.Events = []v1alpha1.SecurityEvent{seen(3, 4)} }, ""},
		"its timeline is unpublished": {func(in *Retained) { in.Incident.Status.Audit.ProjectedSequence = 5 }, "entries 6 to 7"},
		"something holds it":          {func(in *Retained) { in.Holds = []string{"a legal hold"} }, "a legal hold"},
	} {
		t.Run(name, func(t *testing.T) {
			in := Retained{Incident: overIncident()}
			test.change(&in)
			if got := KeptBecause(in); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("kept because %q, want %q", got, test.want)
			}
		})
	}
}

func TestClosedAt(t *testing.T) {
	incident := overIncident()
	first := incident.Status.Times.ClosedTime.Time
	if at, closed := ClosedAt(&incident.Status); !closed || !at.Equal(first) {
		t.Errorf("closed %t at %s, want %s", closed, at, first)
	}
	again := metav1.NewTime(first.Add(time.Hour))
	incident.Status.Conditions[0].LastTransitionTime = again
	if at, _ := ClosedAt(&incident.Status); !at.Equal(again.Time) {
		t.Errorf("closed again at %s, want %s", at, again)
	}
	incident.Status.Phase = v1alpha1.PhaseRecovery
	if _, closed := ClosedAt(&incident.Status); closed {
		t.Error("it was opened again: it must not count as closed")
	}
}

func TestEvidenceKeptBecause(t *testing.T) {
	const keep = 100 * 24 * time.Hour
	incident := overIncident()
	closed := incident.Status.Times.ClosedTime.Time
	for name, test := range map[string]struct {
		change func(*RetainedEvidence)
		want   string
		until  time.Time
	}{
		"it is over":                       {func(*RetainedEvidence) {}, "", time.Time{}},
		"its incident is gone":             {func(in *RetainedEvidence) { in.Incident = nil }, "", time.Time{}},
		"its incident was closed just now": {func(in *RetainedEvidence) { in.Now = closed.Add(keep - time.Second) }, "its time is not over", closed.Add(keep)},
		"just over":                        {func(in *RetainedEvidence) { in.Now = closed.Add(keep) }, "", time.Time{}},
		"it was collected after that": {func(in *RetainedEvidence) {
			in.Evidence.Spec.CollectedTime = metav1.NewTime(in.Now.Add(-time.Hour))
		}, "its time is not over", closed.Add(2*keep - time.Hour + keep)},
		"young, and its incident is gone": {func(in *RetainedEvidence) {
			in.Incident, in.Now = nil, closed.Add(-time.Hour+keep-time.Second)
		}, "its time is not over", closed.Add(-time.Hour + keep)},
		"its incident is open":   {func(in *RetainedEvidence) { in.Incident.Incident.Status.Phase = v1alpha1.PhaseReview }, "its incident is open", time.Time{}},
		"its incident is needed": {func(in *RetainedEvidence) { in.Incident.Holds = []string{"a hold"} }, "its incident is kept: a hold", time.Time{}},
		"it is under legal hold": {func(in *RetainedEvidence) {
			in.Evidence.Status.Conditions = []metav1.Condition{{Type: "LegalHold", Status: metav1.ConditionTrue}}
		}, "is under legal hold", time.Time{}},
		"its legal hold is over": {func(in *RetainedEvidence) {
			in.Evidence.Status.Conditions = []metav1.Condition{{Type: "LegalHold", Status: metav1.ConditionFalse}}
		}, "", time.Time{}},
		"it is held itself":     {func(in *RetainedEvidence) { in.Holds = []string{"a legal hold"} }, "a legal hold", time.Time{}},
		"people keep its bytes": {func(in *RetainedEvidence) { in.Evidence.Status.Location = "" }, "does not keep its bytes", time.Time{}},
		"it is being deleted":   {func(in *RetainedEvidence) { in.Evidence.DeletionTimestamp = &metav1.Time{} }, "it is being deleted", time.Time{}},
		"a retention journal": {func(in *RetainedEvidence) {
			in.Incident, in.Evidence.Spec.Type = nil, v1alpha1.EvidenceRetentionJournal
		}, "what is left", time.Time{}},
		"a part of the record":      {func(in *RetainedEvidence) { in.Evidence.Spec.Type = v1alpha1.EvidenceJournal }, "goes with that", time.Time{}},
		"it goes with the incident": {func(in *RetainedEvidence) { in.Evidence.Spec.Type, in.Goes = v1alpha1.EvidenceJournal, true }, "", time.Time{}},
		"it goes after it":          {func(in *RetainedEvidence) { in.Evidence.Spec.Type, in.Incident = v1alpha1.EvidenceJournal, nil }, "", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			in := RetainedEvidence{
				Evidence: &v1alpha1.Evidence{
					Spec:   v1alpha1.EvidenceSpec{Type: v1alpha1.EvidenceLog, CollectedTime: metav1.NewTime(closed.Add(-time.Hour))},
					Status: v1alpha1.EvidenceStatus{Location: "domain/digest"},
				},
				Keep: keep, Incident: &Retained{Incident: overIncident()}, Now: closed.Add(2 * keep),
			}
			test.change(&in)
			why, until := EvidenceKeptBecause(in)
			if (why == "") != (test.want == "") || !strings.Contains(why, test.want) || !until.Equal(test.until) {
				t.Errorf("kept because %q until %s, want %q until %s", why, until, test.want, test.until)
			}
		})
	}
}

func TestEvidenceOfAnIncidentThatIsGoneIsNeeded(t *testing.T) {
	for name, test := range map[string]struct {
		related []v1alpha1.Incident
		lessons []v1alpha1.LessonLearned
		want    string
	}{
		"by none":                   {nil, nil, ""},
		"by an open incident":       {[]v1alpha1.Incident{other("a", v1alpha1.PhaseClosed), other("b", v1alpha1.PhaseReview)}, nil, "incident b"},
		"by a closed one":           {[]v1alpha1.Incident{other("a", v1alpha1.PhaseClosed)}, nil, ""},
		"by a lesson that is begun": {nil, []v1alpha1.LessonLearned{lessonOf(2, "", "inc")}, "lesson lesson-inc is not done"},
		"by another's lesson":       {nil, []v1alpha1.LessonLearned{lessonOf(1, "", "b", "inc")}, "lesson lesson-b is not done"},
		"by one that is done":       {nil, []v1alpha1.LessonLearned{lessonOf(2, "Misconfiguration", "inc")}, ""},
		"by a draft":                {nil, []v1alpha1.LessonLearned{lessonOf(1, "", "inc")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(OrphanHolds("inc", test.related, test.lessons), "; ")
			if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
