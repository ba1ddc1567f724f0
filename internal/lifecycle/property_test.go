package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// genStep draws a step of a playbook. What it reverts are steps before it.
func genStep(t *rapid.T, name string, before []v1alpha1.StepName) v1alpha1.PlaybookStep {
	var step v1alpha1.PlaybookStep
	switch rapid.IntRange(0, 14).Draw(t, name) {
	case 0:
		step = collectStep(name)
	case 1, 2:
		step = isolateStep(name)
	case 3:
		step = deleteStep(name)
	case 4:
		step = approveStep(name)
		step.Approve.Count = rapid.Int32Range(0, 2).Draw(t, "count")
		step.Approve.Otherwise = rapid.SampledFrom([]v1alpha1.DeadlinePolicy{"", v1alpha1.OtherwiseAbort}).Draw(t, "otherwise")
	case 5:
		step = taskStep(name)
		step.Task.Otherwise = rapid.SampledFrom([]v1alpha1.DeadlinePolicy{"", v1alpha1.OtherwiseAbort}).Draw(t, "otherwise")
	case 6:
		step = verifyStep(name)
		step.Verify.For = duration(time.Duration(rapid.IntRange(0, 60).Draw(t, "for")) * time.Second)
	case 7:
		step = quietStep(name, time.Minute, time.Hour)
	case 8:
		step = waitStep(name, time.Duration(rapid.IntRange(1, 600).Draw(t, "wait"))*time.Second)
	case 10, 11:
		step = cordonStep(name)
	case 12:
		step = httpStep(name)
	case 13:
		step = applyStep(name)
	case 14:
		step = notifyStep(name, []v1alpha1.ChannelName{"chat", "mail"}, "IncidentManager", "Owner")
	default:
		step = revertStep(name, before...)
		if rapid.Bool().Draw(t, "all") {
			step.Revert.Steps = nil
		}
	}
	step.When = rapid.SampledFrom([]v1alpha1.Expression{"", "", "", "true", "false", "critical", "error"}).Draw(t, "when")
	step.Parallel = rapid.SampledFrom([]string{"", "", "g", "h"}).Draw(t, "parallel")
	step.OnFailure = rapid.SampledFrom([]v1alpha1.FailurePolicy{"", v1alpha1.OnFailureAbort, v1alpha1.OnFailureContinue}).Draw(t, "onFailure")
	step.OnNoTargets = rapid.SampledFrom([]v1alpha1.NoTargetsPolicy{"", v1alpha1.OnNoTargetsSkip}).Draw(t, "onNoTargets")
	step.Timeout = duration(time.Duration(rapid.IntRange(1, 300).Draw(t, "timeout")) * time.Second)
	step.Retry.Attempts = rapid.Int32Range(0, 4).Draw(t, "attempts")
	return step
}

func genPlaybook(t *rapid.T) *v1alpha1.ResponsePlaybookSpec {
	var before []v1alpha1.StepName
	phase := func(prefix string, least int) []v1alpha1.PlaybookStep {
		var all []v1alpha1.PlaybookStep
		for i := range rapid.IntRange(least, 4).Draw(t, prefix) {
			step := genStep(t, fmt.Sprintf("%s%d", prefix, i), slices.Clone(before))
			if TraitOf(ActionOf(&step)).Undoable {
				before = append(before, v1alpha1.StepName(step.Name))
			}
			all = append(all, step)
		}
		return all
	}
	playbook := playbookOf(phase("c", 1), phase("e", 0), phase("r", 0))
	playbook.Mode = rapid.SampledFrom([]v1alpha1.PlaybookMode{"", "", v1alpha1.PlaybookEnforce, v1alpha1.PlaybookConfirm, v1alpha1.PlaybookDryRun}).Draw(t, "mode")
	for _, phase := range []*v1alpha1.PlaybookPhase{&playbook.Containment, &playbook.Eradication, &playbook.Recovery} {
		phase.Within = duration(time.Duration(rapid.IntRange(0, 600).Draw(t, "within")) * time.Second)
	}
	playbook.AdHoc = rapid.SampledFrom([][]v1alpha1.ActionName{nil, {"collect", "isolate", "cordon", "http", "notify", "delete", "revert"}}).Draw(t, "adHoc")
	playbook.Limits.MaxTargets = rapid.Int32Range(0, 3).Draw(t, "maxTargets")
	return playbook
}

// genResult draws what becomes of work, with failures and nonsense.
func genResult(t *rapid.T, verb Verb) Result {
	states := map[Verb][]v1alpha1.TargetState{
		VerbResolve: {"", "", "", v1alpha1.TargetFailed, v1alpha1.TargetGone},
		VerbPlan:    {"", "", "", v1alpha1.TargetHeld, v1alpha1.TargetFailed, v1alpha1.TargetGone, v1alpha1.TargetSucceeded},
		VerbApply:   {"", "", "", v1alpha1.TargetApplied, v1alpha1.TargetFailed, v1alpha1.TargetGone, v1alpha1.TargetPending, v1alpha1.TargetReverted},
		VerbObserve: {"", "", v1alpha1.TargetApplied, v1alpha1.TargetFailed, v1alpha1.TargetGone, v1alpha1.TargetPending},
		VerbVerify:  {"", v1alpha1.TargetApplied, v1alpha1.TargetFailed},
		VerbUndo:    {"", "", v1alpha1.TargetFailed},
	}
	return Result{
		State:     rapid.SampledFrom(states[verb]).Draw(t, string(verb)),
		Permanent: rapid.IntRange(0, 3).Draw(t, "permanent") == 0,
		Unknown:   rapid.IntRange(0, 3).Draw(t, "unknown") == 0,
		Warning:   rapid.SampledFrom([]string{"", "", "Flux may take it back"}).Draw(t, "warning"),
		After:     time.Duration(rapid.IntRange(0, 90).Draw(t, "after")) * time.Second,
		Message:   rapid.StringN(0, 20, -1).Draw(t, "message"),
	}
}

// genDecision draws a Decision: often one that is awaited, sometimes any.
func (s *sim) genDecision(t *rapid.T) v1alpha1.DecisionSpec {
	kinds := []v1alpha1.DecisionType{
		v1alpha1.DecisionApprove, v1alpha1.DecisionApprove, v1alpha1.DecisionReject, v1alpha1.DecisionCompleteTask, v1alpha1.DecisionSkipStep,
		v1alpha1.DecisionRetryStep, v1alpha1.DecisionRetryStep, v1alpha1.DecisionPause, v1alpha1.DecisionResume, v1alpha1.DecisionResume,
		v1alpha1.DecisionAcknowledge, v1alpha1.DecisionNote, v1alpha1.DecisionSetSeverity, v1alpha1.DecisionClose,
		v1alpha1.DecisionRunAction, v1alpha1.DecisionRunAction, v1alpha1.DecisionAddResource, v1alpha1.DecisionUsePlaybook,
		v1alpha1.DecisionDetachEvent, v1alpha1.DecisionDetachEvent, v1alpha1.DecisionConfirm, v1alpha1.DecisionDetermine,
		v1alpha1.DecisionMarkDuplicate,
	}
	decision := by(rapid.SampledFrom(kinds).Draw(t, "type"), "", rapid.SampledFrom([]string{"jane", "kim", "lee"}).Draw(t, "by"))
	switch decision.Type {
	case v1alpha1.DecisionApprove, v1alpha1.DecisionReject, v1alpha1.DecisionCompleteTask, v1alpha1.DecisionSkipStep, v1alpha1.DecisionRetryStep:
		decision.Step = "nope"
		if count := len(s.stored.Status.Steps); count > 0 {
			decision.Step = s.stored.Status.Steps[rapid.IntRange(0, count-1).Draw(t, "step")].Name
		}
		if decision.Type == v1alpha1.DecisionApprove && rapid.IntRange(0, 4).Draw(t, "stale") == 0 {
			decision.Digest = "sha256:" + noHash
		}
	case v1alpha1.DecisionRunAction:
		return runAction(decision.By, genStep(t, "mine", nil))
	case v1alpha1.DecisionAddResource:
		return addResource(decision.By, fmt.Sprintf("pod-%d", rapid.IntRange(0, 5).Draw(t, "pod")))
	case v1alpha1.DecisionMarkDuplicate:
		return markDuplicate(decision.By, rapid.SampledFrom([]string{originalName, originalName, "other", "nope"}).Draw(t, "original"))
	case v1alpha1.DecisionDetermine:
		decision.Determination = v1alpha1.Determination{Name: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "question"), Outcome: v1alpha1.DeterminationConfirmed}
	case v1alpha1.DecisionDetachEvent:
		return detach(decision.By, s.events[rapid.IntRange(0, len(s.events)-1).Draw(t, "event")].Name)
	case v1alpha1.DecisionUsePlaybook:
		return usePlaybook(decision.By, rapid.SampledFrom([]string{"other", "nope"}).Draw(t, "playbook"))
	case v1alpha1.DecisionSetSeverity:
		decision.Severity = rapid.SampledFrom([]v1alpha1.Severity{v1alpha1.SeverityLow, v1alpha1.SeverityCritical}).Draw(t, "severity")
	case v1alpha1.DecisionClose:
		decision.Resolution = rapid.SampledFrom([]v1alpha1.Resolution{v1alpha1.ResolutionResolved, v1alpha1.ResolutionAcceptedRisk, v1alpha1.ResolutionFalsePositive}).Draw(t, "resolution")
	}
	return decision
}

// disturb does one thing that can happen to an incident.
func (s *sim) disturb(t *rapid.T, turn int) {
	switch rapid.IntRange(0, 15).Draw(t, "what happens") {
	case 0, 1, 2:
		s.now = s.now.Add(time.Duration(rapid.IntRange(1, 600_000).Draw(t, "milliseconds")) * time.Millisecond)
	case 3, 4, 5:
		s.submit(s.genDecision(t))
	case 6:
		name := fmt.Sprintf("pod-%d", rapid.IntRange(0, 5).Draw(t, "pod"))
		s.sightings[name] = rapid.SampledFrom([]Sighting{{}, {}, protected(name), gone(v1alpha1.ResourceGone, ""), gone(v1alpha1.ResourceUnreadable, "no rights")}).Draw(t, "sighting")
		s.event(fmt.Sprintf("event-%d", turn), name)
	case 7:
		s.automation = rapid.SampledFrom([]Automation{{}, {}, {Stopped: true, By: "kim", Why: "flood"}}).Draw(t, "automation")
	case 8:
		s.problem = rapid.SampledFrom([]*PlaybookProblem{nil, nil, {Reason: v1alpha1.ReasonCannotImpersonate, Message: "not bound"}}).Draw(t, "problem")
	case 9:
		s.unseen = map[string]bool{fmt.Sprintf("pod-%d", rapid.IntRange(0, 5).Draw(t, "unseen")): true}
	case 10:
		s.plan = rapid.SampledFrom([]*v1alpha1.ResponsePlan{nil, nil, planOf(v1alpha1.ResponseEnforce), planOf(v1alpha1.ResponseDryRun), tellingPlan()}).Draw(t, "plan")
	case 11:
		s.follow()
		if event := &s.events[rapid.IntRange(0, len(s.events)-1).Draw(t, "event")]; event.Status.Assessment.Reason == v1alpha1.ReasonDetached {
			s.joinAgain(event)
		}
	case 12, 13:
		if s.stored.Status.DuplicateOf.Name == "" && rapid.Bool().Draw(t, "mark") {
			s.submit(markDuplicate("jane", rapid.SampledFrom([]string{originalName, "other"}).Draw(t, "original")))
			break
		}
		s.moveOriginals(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "original") })
	case 14:
		s.nodes = rapid.SampledFrom([][]string{nil, nil, {"n1"}, {"n2"}, {"n1", "n2"}}).Draw(t, "nodes")
	default:
		s.answers = rapid.Bool().Draw(t, "decisions are told")
	}
	s.run()
}

// heal lets everything succeed and people answer what they are asked, until it is closed.
func (s *sim) heal(t *rapid.T) {
	s.script, s.automation, s.problem, s.plan, s.answers, s.unseen = nil, Automation{}, nil, nil, true, nil
	for name := range s.sightings {
		s.sightings[name] = Sighting{}
	}
	for _, original := range s.originals {
		original.Status.Phase, original.Status.Resolution = v1alpha1.PhaseClosed, v1alpha1.ResolutionResolved
	}
	people := []string{"ann", "bob", "cem", "dee"}
	for turn := range 200 {
		s.run()
		if s.stored.Status.Phase == v1alpha1.PhaseClosed {
			return
		}
		if len(s.stored.Status.Awaiting) == 0 || s.last.Next.After(s.now) && turn%2 == 1 {
			s.pass(10 * time.Minute)
			continue
		}
		awaiting := s.stored.Status.Awaiting[turn%len(s.stored.Status.Awaiting)]
		person := people[turn/2%len(people)]
		switch awaiting.Type {
		case v1alpha1.AwaitingApproval:
			s.submit(by(v1alpha1.DecisionApprove, awaiting.Step, person))
		case v1alpha1.AwaitingTask:
			s.submit(by(v1alpha1.DecisionCompleteTask, awaiting.Step, person))
		case v1alpha1.AwaitingFailure:
			kind := v1alpha1.DecisionSkipStep
			if rapid.Bool().Draw(t, "retry") {
				kind = v1alpha1.DecisionRetryStep
			}
			s.submit(by(kind, awaiting.Step, person))
		case v1alpha1.AwaitingConfirmation:
			s.submit(by(v1alpha1.DecisionConfirm, "", person))
		case v1alpha1.AwaitingResume:
			s.submit(by(v1alpha1.DecisionResume, "", person))
		case v1alpha1.AwaitingClose:
			s.submit(closing(v1alpha1.ResolutionResolved))
		default:
			t.Fatalf("nothing is wrong, but %s is awaited\n%s", awaiting.Type, s)
		}
	}
	t.Fatalf("it does not end although everything succeeds and people answer\n%s", s)
}

// TestProperties checks, for any playbook, results, Decisions and times, what the
// simulator checks after every decision (see invariants_test.go), and that everything
// ends once effects succeed and people answer.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSim(t, genPlaybook(t), "pod-0", "pod-1")
		s.boundsEvery, s.lookEvery = 7, 10*time.Minute
		s.stored.Spec.Mode = rapid.SampledFrom([]v1alpha1.Mode{"", "", v1alpha1.ModeLive, v1alpha1.ModeDrill}).Draw(t, "mode of the incident")
		s.stored.Spec.Confirm = rapid.SampledFrom([]v1alpha1.Confirmation{"", "", v1alpha1.ConfirmAutomatic, v1alpha1.ConfirmRequired}).Draw(t, "confirm")
		s.offered = map[string]*v1alpha1.ResponsePlaybookSpec{"other": genPlaybook(t)}
		s.event("event", "pod-0")
		s.another(originalName, -time.Minute, v1alpha1.PhaseContainment).Spec.Mode = s.stored.Spec.Mode
		s.another("other", time.Minute, v1alpha1.PhaseContainment).Spec.Mode = rapid.SampledFrom([]v1alpha1.Mode{"", v1alpha1.ModeDrill}).Draw(t, "mode of another")
		s.script = func(work Work, _ *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
			return genResult(t, work.Verb)
		}
		s.run()
		for turn := range rapid.IntRange(0, 25).Draw(t, "turns") {
			s.disturb(t, turn)
		}
		closed := s.stored.Status.Phase == v1alpha1.PhaseClosed
		s.heal(t)
		if (s.stored.Status.Resolution == v1alpha1.ResolutionFalsePositive || s.stored.Status.Resolution == v1alpha1.ResolutionDuplicate) && !closed {
			for effect := range s.effects {
				if step, _, _ := strings.Cut(effect, " "); TraitOf(s.step(step).Action).Undoable && s.logged("ContainmentLeft") == 0 {
					t.Fatalf("a false positive has left %s\n%s", effect, s)
				}
			}
		}
		times := &s.stored.Status.Times
		if times.ClosedTime == nil || times.AwareTime == nil || times.DetectedTime == nil {
			t.Fatalf("closed, but its times are %+v", times)
		}
		answered := map[string]int{}
		for _, entry := range s.entries {
			if entry.Decision != "" && entry.Action != "DuplicateTakenUp" {
				answered[entry.Decision]++
			}
		}
		for i := range s.decisions {
			if name := s.decisions[i].Name; answered[name] != 1 || s.answerOf(i).Status == "" {
				t.Fatalf("Decision %s was taken down %d times, and told %q\n%s", name, answered[name], s.answerOf(i).Status, s)
			}
		}
	})
}

// TestAnything hands in statuses and results that make no sense at all: no panic.
func TestAnything(t *testing.T) {
	states := []v1alpha1.TargetState{"", "Pending", "Held", "Acting", "Applied", "Succeeded", "Failed", "Gone", "Skipped", "Reverting", "Reverted"}
	stepStates := []v1alpha1.StepState{"Pending", "Running", "AwaitingApproval", "AwaitingTask", "Succeeded", "Failed", "Skipped", "Reverted", "Nonsense"}
	phases := []v1alpha1.Phase{"", "Assessment", "Containment", "Eradication", "Recovery", "Review", "Closed", "Nonsense"}
	rapid.Check(t, func(t *rapid.T) {
		s := newSim(t, genPlaybook(t), "pod-0", "pod-1")
		s.run()
		in := s.input(s.stored.DeepCopy())
		status := &in.Incident.Status
		status.Phase = rapid.SampledFrom(phases).Draw(t, "phase")
		status.Resolution = rapid.SampledFrom([]v1alpha1.Resolution{"", v1alpha1.ResolutionFalsePositive, v1alpha1.ResolutionResolved}).Draw(t, "resolution")
		if rapid.Bool().Draw(t, "no conditions") {
			status.Conditions = nil
		}
		for i := range status.Steps {
			status.Steps[i].State = rapid.SampledFrom(stepStates).Draw(t, "step")
			for j := range status.Steps[i].Targets {
				status.Steps[i].Targets[j].State = rapid.SampledFrom(states).Draw(t, "target")
			}
		}
		if rapid.Bool().Draw(t, "text is gone") {
			in.Playbook = nil
		}
		out := Advance(in)
		if len(out.Entries) > maxEntries {
			t.Fatalf("%d entries", len(out.Entries))
		}
		in.Incident.Status = out.Status
		verbs := []Verb{VerbResolve, VerbPlan, VerbApply, VerbObserve, VerbVerify, VerbUndo, "Nonsense"}
		result := Result{Work: Work{rapid.SampledFrom(verbs).Draw(t, "verb"), rapid.IntRange(-2, 12).Draw(t, "at"), rapid.IntRange(-2, 3).Draw(t, "of")},
			State: rapid.SampledFrom(states).Draw(t, "state")}
		Record(in, []Result{result})
		Sight(in, []Sighting{{Index: rapid.IntRange(-2, 3).Draw(t, "index"), State: v1alpha1.ResourcePresent}})
	})
}
