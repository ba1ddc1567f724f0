package lifecycle

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func determining(by, name string, outcome v1alpha1.DeterminationOutcome) v1alpha1.DecisionSpec {
	return v1alpha1.DecisionSpec{Type: v1alpha1.DecisionDetermine, By: by, Reason: "found", Determination: v1alpha1.Determination{Name: name, Outcome: outcome}}
}

func TestConfirmBeforeEradication(t *testing.T) {
	for name, playbook := range map[string]*v1alpha1.ResponsePlaybookSpec{
		"eradicate": playbookOf(steps(isolateStep("isolate")), steps(deleteStep("then")), nil),
		"recover":   playbookOf(steps(isolateStep("isolate")), nil, steps(revertStep("then", "isolate"))),
	} {
		t.Run(name, func(t *testing.T) {
			playbook.AdHoc = []v1alpha1.ActionName{"collect"}
			s := newSim(t, playbook, "a")
			s.stored.Spec.Confirm = v1alpha1.ConfirmRequired
			s.run()
			s.want(v1alpha1.PhaseEradication, "isolate=Succeeded", "then=Pending")
			s.wantCondition(v1alpha1.ConditionContained, "True StepsDone")
			s.wantCondition(v1alpha1.ConditionConfirmed, "False ConfirmationAwaited")
			s.wantAwaited("Confirmation")
			s.must(runAction("jane", collectStep("mine")))
			s.wantDone("Apply adhoc-1 a")
			s.pass(time.Hour)
			s.want(v1alpha1.PhaseEradication, "then=Pending")
			s.refused(closing(v1alpha1.ResolutionResolved), v1alpha1.ReasonGateOpen)
			s.must(by(v1alpha1.DecisionConfirm, "", "jane"))
			s.wantCondition(v1alpha1.ConditionConfirmed, "True ByPerson")
			s.refused(by(v1alpha1.DecisionConfirm, "", "kim"), v1alpha1.ReasonAlreadyDecided)
			s.pass(time.Hour)
			s.want(v1alpha1.PhaseReview, "then=Succeeded")
		})
	}
}

// TestNobodyConfirms: an incident that nobody confirms does not wait unseen, also one that has
// waited since before there was a time for it.
func TestNobodyConfirms(t *testing.T) {
	for name, before := range map[string]func(*v1alpha1.Awaiting){
		"in time":     func(*v1alpha1.Awaiting) {},
		"without one": func(awaiting *v1alpha1.Awaiting) { awaiting.DueTime = nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(isolateStep("isolate")), steps(deleteStep("delete")), nil), "a")
			s.stored.Spec.Confirm = v1alpha1.ConfirmRequired
			s.run()
			s.pass(time.Hour - time.Second)
			s.wantCondition(v1alpha1.ConditionStalled, "False NotStalled")
			before(&s.stored.Status.Awaiting[0])
			s.pass(time.Second)
			s.wantAwaited("Confirmation")
			s.wantCondition(v1alpha1.ConditionStalled, "True Overdue")
			s.pass(time.Hour)
			if got := s.logged("Overdue"); got != 1 {
				t.Errorf("Overdue is on the timeline %d times", got)
			}
			s.must(by(v1alpha1.DecisionConfirm, "", "jane"))
			s.run()
			s.wantCondition(v1alpha1.ConditionStalled, "False NotStalled")
			s.want(v1alpha1.PhaseReview, "isolate=Succeeded", "delete=Succeeded")
		})
	}
}

func TestConfirmIsNotNeeded(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.wantCondition(v1alpha1.ConditionConfirmed, "True NotRequired")
	s.wantAwaited("Approval ok")
	s.refused(by(v1alpha1.DecisionConfirm, "", "jane"), v1alpha1.ReasonNotAwaited)
}

// TestConfirmedByClosing: who closes by hand what no playbook has answered says that it was one.
func TestConfirmedByClosing(t *testing.T) {
	for resolution, want := range map[v1alpha1.Resolution]string{v1alpha1.ResolutionResolved: "True ByPerson", v1alpha1.ResolutionFalsePositive: "False ConfirmationAwaited"} {
		s := newSim(t, nil)
		s.stored.Spec.Confirm = v1alpha1.ConfirmRequired
		s.run()
		s.wantAwaited("Confirmation", "Playbook")
		s.must(closing(resolution))
		s.run()
		s.want(v1alpha1.PhaseClosed)
		s.wantCondition(v1alpha1.ConditionConfirmed, want)
	}
}

func TestDetermine(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.stored.Spec.Determinations = []v1alpha1.Determination{{Name: "personal-data-breach", Outcome: v1alpha1.DeterminationSuspected}}
	s.run()
	writes := s.writes
	s.must(determining("jane", "personal-data-breach", v1alpha1.DeterminationSuspected)) // now a person says so
	s.refused(determining("kim", "personal-data-breach", v1alpha1.DeterminationSuspected), v1alpha1.ReasonAlreadyDecided)
	s.now = s.now.Add(time.Minute)
	s.must(determining("kim", "personal-data-breach", v1alpha1.DeterminationExcluded))
	s.must(determining("kim", "supplier-affected", v1alpha1.DeterminationConfirmed))
	var got []string
	for _, one := range s.stored.Status.Determinations {
		got = append(got, fmt.Sprintf("%s %s %s %s", one.Name, one.Outcome, one.By, one.Time.Sub(began)))
	}
	if diff := cmp.Diff([]string{"personal-data-breach Excluded kim 1m0s", "supplier-affected Confirmed kim 1m0s"}, got); diff != "" {
		t.Errorf("determinations (-want +got):\n%s", diff)
	}
	if s.logged("Determine") != 4 || s.writes-writes < 4 {
		t.Errorf("%d Determine on the timeline, want 4", s.logged("Determine"))
	}
	for i := range maxDeterminations {
		decision := determining("kim", fmt.Sprintf("question-%d", i), v1alpha1.DeterminationConfirmed)
		if i < maxDeterminations-2 {
			s.must(decision)
		} else {
			s.refused(decision, v1alpha1.ReasonNotAllowed)
		}
	}
}
