package lifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func planWith(role string, subjects ...v1alpha1.RoleSubject) *v1alpha1.ResponsePlan {
	plan := &v1alpha1.ResponsePlan{}
	plan.Spec.Roles = []v1alpha1.PlanRole{{Name: role, Subjects: subjects}}
	return plan
}

func user(name string) v1alpha1.RoleSubject {
	return v1alpha1.RoleSubject{Kind: v1alpha1.RoleSubjectUser, Name: name}
}

func group(name string) v1alpha1.RoleSubject {
	return v1alpha1.RoleSubject{Kind: v1alpha1.RoleSubjectGroup, Name: name}
}

func ofGroup(decision v1alpha1.DecisionSpec, groups ...string) v1alpha1.DecisionSpec {
	decision.Groups = groups
	return decision
}

func TestRoles(t *testing.T) {
	for _, test := range []struct {
		name   string
		plan   *v1alpha1.ResponsePlan
		by     v1alpha1.DecisionSpec
		reason string
	}{
		{"no plan", nil, by(v1alpha1.DecisionApprove, "ok", "jane"), v1alpha1.ReasonNoSuchRole},
		{"no such role", planWith("Legal", user("jane")), by(v1alpha1.DecisionApprove, "ok", "jane"), v1alpha1.ReasonNoSuchRole},
		{"not in the role", planWith("IncidentManager", user("kim")), by(v1alpha1.DecisionApprove, "ok", "jane"), v1alpha1.ReasonNotInRole},
		{"a user is no group", planWith("IncidentManager", group("jane")), by(v1alpha1.DecisionApprove, "ok", "jane"), v1alpha1.ReasonNotInRole},
		{"a group is no user", planWith("IncidentManager", user("oncall")), ofGroup(by(v1alpha1.DecisionApprove, "ok", "jane"), "oncall"), v1alpha1.ReasonNotInRole},
		{"by name", planWith("IncidentManager", user("jane")), by(v1alpha1.DecisionApprove, "ok", "jane"), v1alpha1.ReasonAccepted},
		{"by group", planWith("IncidentManager", group("oncall")), ofGroup(by(v1alpha1.DecisionApprove, "ok", "jane"), "staff", "oncall"), v1alpha1.ReasonAccepted},
	} {
		for _, what := range []string{"approve", "reject", "task"} {
			t.Run(test.name+" "+what, func(t *testing.T) {
				step := approveStep("ok")
				step.Approve.Role = "IncidentManager"
				decision := test.by
				switch what {
				case "reject":
					decision.Type = v1alpha1.DecisionReject
				case "task":
					step = taskStep("ok")
					step.Task.Role = "IncidentManager"
					decision.Type = v1alpha1.DecisionCompleteTask
				}
				s := newSim(t, playbookOf(nil, steps(step, deleteStep("delete")), nil), "a")
				s.plan = test.plan
				s.run()
				if got := s.stored.Status.Awaiting[0].Role; got != "IncidentManager" {
					t.Errorf("the role that is asked for is %q", got)
				}
				if answer := s.decide(decision); answer.Reason != test.reason {
					t.Errorf("got %s (%s), want %s", answer.Reason, answer.Message, test.reason)
				}
				if deleted := len(s.effects) > 0; deleted != (test.reason == v1alpha1.ReasonAccepted && what != "reject") {
					t.Errorf("deleted: %v", deleted)
				}
			})
		}
	}
	t.Run("a role that the Decision claims", func(t *testing.T) {
		s := newSim(t, demo(), "a")
		s.run()
		claim := by(v1alpha1.DecisionAcknowledge, "", "jane")
		claim.Role = "IncidentManager"
		s.refused(claim, v1alpha1.ReasonNoSuchRole)
		s.plan = planWith("IncidentManager", user("jane"))
		s.must(claim)
	})
}

func TestTwoApprovers(t *testing.T) {
	step := approveStep("ok")
	step.Approve.Count = 2
	s := newSim(t, playbookOf(nil, steps(step, deleteStep("delete")), nil), "a")
	s.promoters = []string{"pat"}
	s.run()
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseEradication, "ok=AwaitingApproval")
	s.refused(by(v1alpha1.DecisionApprove, "ok", "jane"), v1alpha1.ReasonSamePerson)
	s.refused(by(v1alpha1.DecisionApprove, "ok", "pat"), v1alpha1.ReasonSamePerson)
	s.wantNotDone("Apply delete a")
	s.must(by(v1alpha1.DecisionApprove, "ok", "kim"))
	s.want(v1alpha1.PhaseReview, "ok=Succeeded", "delete=Succeeded")
	if got, want := s.step("ok").Message, "approved by jane, kim"; got != want {
		t.Errorf("message is %q, want %q", got, want)
	}
}

// TestRetriedByApprover checks that who has asked again does not count as one of two.
func TestRetriedByApprover(t *testing.T) {
	step := approveStep("ok")
	step.Approve.Count = 2
	s := newSim(t, playbookOf(nil, steps(step, deleteStep("delete")), nil), "a")
	s.run()
	s.must(by(v1alpha1.DecisionReject, "ok", "kim"))
	s.must(by(v1alpha1.DecisionRetryStep, "ok", "jane"))
	s.refused(by(v1alpha1.DecisionApprove, "ok", "jane"), v1alpha1.ReasonSamePerson)
	s.must(by(v1alpha1.DecisionApprove, "ok", "kim"))
	s.must(by(v1alpha1.DecisionApprove, "ok", "lee"))
	s.want(v1alpha1.PhaseReview, "delete=Succeeded")
}

func TestApprovalsAreVoided(t *testing.T) {
	step := approveStep("ok")
	step.Approve.Count = 2
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), steps(step, deleteStep("delete")), nil), "a")
	s.run()
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	stale := by(v1alpha1.DecisionApprove, "ok", "kim")
	stale.Digest = s.step("ok").Digest
	s.event("event-2", "b")
	s.run()
	s.refused(stale, v1alpha1.ReasonStale)
	if got := s.logged("ApprovalsVoided"); got != 1 {
		t.Errorf("ApprovalsVoided is on the timeline %d times, want once", got)
	}
	s.must(by(v1alpha1.DecisionApprove, "ok", "kim"))
	s.wantNotDone("Apply delete a", "Apply delete b")
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.wantDone("Apply delete a", "Apply delete b")
}

func TestApproveRefusals(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.refused(by(v1alpha1.DecisionApprove, "nope", "jane"), v1alpha1.ReasonNoSuchStep)
	s.refused(by(v1alpha1.DecisionApprove, "delete", "jane"), v1alpha1.ReasonNotAwaited)
	s.refused(by(v1alpha1.DecisionReject, "delete", "jane"), v1alpha1.ReasonNotAwaited)
	s.refused(by(v1alpha1.DecisionCompleteTask, "ok", "jane"), v1alpha1.ReasonNotAwaited)
	s.refused(by(v1alpha1.DecisionRetryStep, "ok", "jane"), v1alpha1.ReasonNotAwaited)
	s.refused(by(v1alpha1.DecisionPromote, "", "jane"), v1alpha1.ReasonNotAwaited)
	wrong := by(v1alpha1.DecisionApprove, "ok", "jane")
	wrong.Digest = "sha256:" + noHash
	s.refused(wrong, v1alpha1.ReasonStale)
	s.wantNotDone("Apply delete a")
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.refused(by(v1alpha1.DecisionApprove, "ok", "kim"), v1alpha1.ReasonNotAwaited)
}

func TestReject(t *testing.T) {
	for _, test := range []struct {
		name     string
		decision v1alpha1.DecisionSpec
		phase    v1alpha1.Phase
		states   []string
		deleted  bool
	}{
		{"skip the approval", by(v1alpha1.DecisionSkipStep, "ok", "kim"), v1alpha1.PhaseReview, []string{"ok=Skipped", "delete=Skipped"}, false},
		{"ask again", by(v1alpha1.DecisionRetryStep, "ok", "kim"), v1alpha1.PhaseEradication, []string{"ok=AwaitingApproval", "delete=Pending"}, false},
		{"skip what it guards", by(v1alpha1.DecisionSkipStep, "delete", "kim"), v1alpha1.PhaseEradication, []string{"ok=Failed", "delete=Skipped"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, demo(), "a")
			s.run()
			digest := s.step("ok").Digest
			s.must(by(v1alpha1.DecisionReject, "ok", "jane"))
			s.want(v1alpha1.PhaseEradication, "ok=Failed", "delete=Pending")
			s.pass(24 * time.Hour)
			s.wantNotDone("Apply delete a", "Undo isolate a")
			s.wantAwaited("Failure ok")
			s.wantCondition(v1alpha1.ConditionStalled, "True StepFailed")
			s.must(test.decision)
			s.want(test.phase, test.states...)
			if got := s.count("Apply delete a") > 0; got != test.deleted {
				t.Errorf("deleted: %v, want %v", got, test.deleted)
			}
			if test.decision.Type == v1alpha1.DecisionRetryStep && s.step("ok").Digest == digest {
				t.Error("the digest is the old one: an old approval would count")
			}
		})
	}
}

func TestSkipRetryComplete(t *testing.T) {
	for _, test := range []struct {
		name       string
		decision   v1alpha1.DecisionSpec
		heal       bool
		state      string
		contained  string
		left       bool // the effect that may have been made is undone in recovery
		wantPlans  int
		wantReview bool
	}{
		{"skip", by(v1alpha1.DecisionSkipStep, "isolate", "jane"), false, "isolate=Skipped", "False StepSkipped", false, 1, true},
		{"complete", by(v1alpha1.DecisionCompleteTask, "isolate", "jane"), false, "isolate=Reverted", "True StepsDone", false, 1, true},
		{"retry", by(v1alpha1.DecisionRetryStep, "isolate", "jane"), true, "isolate=Reverted", "True StepsDone", false, 1, true},
		{"retry in vain", by(v1alpha1.DecisionRetryStep, "isolate", "jane"), false, "isolate=AwaitingTask", "False InProgress", true, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, playbookOf(steps(isolateStep("isolate")), nil, steps(revertStep("release"))), "a")
			s.script = failing(VerbApply, "isolate", permanent("no rights"))
			s.run()
			s.want(v1alpha1.PhaseContainment, "isolate=AwaitingTask")
			if test.heal {
				s.script = nil
			}
			s.must(test.decision)
			if test.wantReview {
				s.want(v1alpha1.PhaseReview, test.state, "release=Succeeded")
			} else {
				s.want(v1alpha1.PhaseContainment, test.state)
			}
			s.wantCondition(v1alpha1.ConditionContained, test.contained)
			if s.effects["isolate a"] != test.left {
				t.Errorf("the effect stands: %v, want %v", s.effects["isolate a"], test.left)
			}
			if got := s.count("Plan isolate a"); got != test.wantPlans {
				t.Errorf("planned %d times, want %d", got, test.wantPlans)
			}
		})
	}
}

// TestRetryForEver retries a step more often than attempts are counted.
func TestRetryForEver(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), nil, nil), "a")
	s.boundsEvery = 50
	s.script = failing(VerbApply, "isolate", permanent("no rights"))
	s.run()
	for range 110 {
		s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	}
	if got := s.step("isolate").Attempts; got != maxAttempts {
		t.Errorf("attempts are %d, want %d", got, maxAttempts)
	}
	s.script = nil
	s.must(by(v1alpha1.DecisionRetryStep, "isolate", "jane"))
	s.want(v1alpha1.PhaseReview, "isolate=Succeeded")
}

func TestSkipAhead(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.must(by(v1alpha1.DecisionSkipStep, "delete", "jane"))
	s.refused(by(v1alpha1.DecisionSkipStep, "delete", "jane"), v1alpha1.ReasonAlreadyDecided)
	s.refused(by(v1alpha1.DecisionSkipStep, "isolate", "jane"), v1alpha1.ReasonAlreadyDecided)
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview, "delete=Skipped")
	s.wantNotDone("Apply delete a")
	s.wantCondition(v1alpha1.ConditionEradicated, "False StepSkipped")
}

// TestWaivedBeforeAnyLook waives steps while nobody may look at the objects: what cannot
// be undone stays waived.
func TestWaivedBeforeAnyLook(t *testing.T) {
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), steps(deleteStep("delete")), nil), "a")
	s.automation = Automation{Stopped: true, By: "kim"}
	s.run()
	s.must(by(v1alpha1.DecisionSkipStep, "delete", "jane"))
	s.automation = Automation{}
	s.run()
	s.event("event-2", "b")
	s.run()
	s.want(v1alpha1.PhaseReview, "isolate=Succeeded", "delete=Skipped")
	s.wantNotDone("Apply delete a", "Apply delete b")
	s.wantCondition(v1alpha1.ConditionEradicated, "False StepSkipped")
}

// TestJoinAfterSkip waives an isolation: it stays waived for what was known, and not
// for what joins.
func TestJoinAfterSkip(t *testing.T) {
	s := newSim(t, playbookOf(steps(taskStep("task"), isolateStep("isolate")), steps(approveStep("ok")), nil), "a")
	s.run()
	s.must(by(v1alpha1.DecisionSkipStep, "isolate", "jane"))
	s.must(by(v1alpha1.DecisionCompleteTask, "task", "jane"))
	s.want(v1alpha1.PhaseEradication, "isolate=Skipped")
	s.event("event-2", "b")
	s.run()
	s.wantDone("Apply isolate b")
	s.wantNotDone("Apply isolate a")
	s.wantCondition(v1alpha1.ConditionContained, "False StepSkipped")
}

// TestDecisionsOnce gives more Decisions at once than one write takes in: each is
// answered exactly once.
func TestDecisionsOnce(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprintf("told %v", told), func(t *testing.T) {
			s := newSim(t, demo(), "a")
			s.answers = told
			s.run()
			want := 70
			for i := range want {
				s.submit(by(v1alpha1.DecisionNote, "", fmt.Sprintf("person-%d", i)))
			}
			if !told {
				want = 32 // as many as the status keeps; the others wait until these are told
			}
			s.run()
			if got := s.logged("Note"); got != want {
				t.Errorf("%d notes are on the timeline, want %d", got, want)
			}
			if told {
				if got := len(s.stored.Status.Answers); got != 0 {
					s.run()
					t.Logf("%d answers are kept until the next decision", got)
				}
				if got := len(s.stored.Status.Answers); got != 0 {
					t.Errorf("%d answers are kept although the Decisions say them themselves", got)
				}
				return
			}
			s.answers = true
			s.pass(10 * time.Second)
			if got := s.logged("Note"); got != 70 {
				t.Errorf("%d notes are on the timeline once answers can be told, want 70", got)
			}
		})
	}
}

// TestAnsweredIsNotJudgedAgain hands in a Decision that is both answered and, by a
// cache that lags, not.
func TestAnsweredIsNotJudgedAgain(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.must(by(v1alpha1.DecisionNote, "", "jane"))
	in := s.input(s.stored)
	in.Decisions = append(in.Decisions, s.decisions[0], s.decisions[0])
	if out := Advance(in); len(out.Entries) > 0 || len(out.Status.Answers) > 0 {
		t.Errorf("judged again: %+v", out.Entries)
	}
	in.Answered = nil
	if out := Advance(in); len(out.Status.Answers) != 1 {
		t.Errorf("%d answers to one Decision that was handed in twice", len(out.Status.Answers))
	}
}

func TestOrderOfDecisions(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	approve := s.submit(by(v1alpha1.DecisionApprove, "ok", "jane"))
	reject := s.submit(by(v1alpha1.DecisionReject, "ok", "kim"))
	s.decisions[reject].CreationTimestamp = metav1.NewTime(s.now.Add(-time.Second))
	s.run()
	if got := []string{s.answerOf(approve).Reason, s.answerOf(reject).Reason}; got[0] != v1alpha1.ReasonNotAwaited || got[1] != v1alpha1.ReasonAccepted {
		t.Errorf("approve, reject: %v; the earlier one counts", got)
	}
	s.wantNotDone("Apply delete a")
}

func TestAcknowledgeSeverityNote(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.now = s.now.Add(time.Minute)
	s.must(by(v1alpha1.DecisionAcknowledge, "", "jane"))
	first := s.stored.Status.Times.AcknowledgedTime
	s.now = s.now.Add(time.Minute)
	s.must(by(v1alpha1.DecisionAcknowledge, "", "kim"))
	if got := s.stored.Status; got.Assignee != "kim" || !got.Times.AcknowledgedTime.Equal(first) {
		t.Errorf("assignee %q, acknowledged %v; want kim, %v", got.Assignee, got.Times.AcknowledgedTime, first)
	}
	s.wantCondition(v1alpha1.ConditionAcknowledged, "True ByPerson")
	severity := by(v1alpha1.DecisionSetSeverity, "", "jane")
	severity.Severity = v1alpha1.SeverityCritical
	s.must(severity)
	s.must(by(v1alpha1.DecisionNote, "", "jane"))
	got := s.entries[len(s.entries)-2:]
	want := []string{"SetSeverity jane: severity Critical, was High: because", "Note jane: noted: because"}
	if diff := cmp.Diff(want, []string{describe(got[0]), describe(got[1])}); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	if s.stored.Status.Severity != v1alpha1.SeverityCritical || s.stored.Status.Priority != v1alpha1.PriorityP1 {
		t.Errorf("severity %s, priority %s", s.stored.Status.Severity, s.stored.Status.Priority)
	}
}

func describe(entry v1alpha1.TimelineEntry) string {
	return entry.Action + " " + entry.Actor + ": " + entry.Message
}

func TestApprovalsWhilePaused(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.must(by(v1alpha1.DecisionPause, "", "jane"))
	s.must(by(v1alpha1.DecisionApprove, "ok", "person-0"))
	for i := range 20 {
		s.refused(by(v1alpha1.DecisionApprove, "ok", fmt.Sprintf("person-%d", i+1)), v1alpha1.ReasonAlreadyDecided)
	}
	s.wantNotDone("Apply delete a")
	s.must(by(v1alpha1.DecisionResume, "", "jane"))
	s.want(v1alpha1.PhaseReview, "delete=Succeeded")
}

// TestUnguarded: of two Decisions one cannot be trusted.
func TestUnguarded(t *testing.T) {
	s := newSim(t, demo(), "a")
	s.run()
	s.submit(by(v1alpha1.DecisionAcknowledge, "", "mallory"))
	s.submit(by(v1alpha1.DecisionAcknowledge, "", "jane"))
	in := s.input(s.stored)
	in.Unguarded = map[string]string{string(s.decisions[0].UID): "it may be forged"}
	out := Advance(in)
	got := map[string]string{}
	for _, answer := range out.Status.Answers {
		got[answer.Name] = fmt.Sprint(answer.Status, " ", answer.Reason, ": ", answer.Message)
	}
	forged, honest := s.decisions[0].Name, s.decisions[1].Name
	if len(got) != 2 || got[forged] != "False NotGuarded: it may be forged" || !strings.HasPrefix(got[honest], "True Accepted") {
		t.Errorf("answered with %v", got)
	}
}
