package lifecycle

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// found has every lookup of a step find what a list says, the next of it each time.
func found(lookups ...Result) func(Work, *v1alpha1.IncidentStep, *v1alpha1.StepTarget) Result {
	at := 0
	return func(work Work, _ *v1alpha1.IncidentStep, _ *v1alpha1.StepTarget) Result {
		if work.Verb != VerbResolve {
			return Result{}
		}
		result := lookups[min(at, len(lookups)-1)]
		at++
		return result
	}
}

func nodes(names ...string) Result {
	targets := []v1alpha1.StepTarget{}
	for _, name := range names {
		targets = append(targets, nodeTarget(name))
	}
	return Result{State: v1alpha1.TargetSucceeded, Targets: targets}
}

func approveCordon() *v1alpha1.ResponsePlaybookSpec {
	return playbookOf(steps(approveStep("ok"), cordonStep("cordon")), nil, nil)
}

// TestApprovalShowsWhatIsLookedUp: who approves sees what the steps will act on, and an
// approval that was shown something else is refused.
func TestApprovalShowsWhatIsLookedUp(t *testing.T) {
	digestOf := func(lookup Result) string {
		s := newSim(t, approveCordon(), "a")
		s.script = found(lookup)
		s.run()
		s.wantAwaited("Approval ok")
		return s.step("ok").Digest
	}
	s := newSim(t, approveCordon(), "a")
	s.script = found(nodes("n1", "n2"))
	s.run()
	s.want(v1alpha1.PhaseContainment, "ok=AwaitingApproval", "cordon=Pending")
	s.wantSame("shown", []string{"n1 Shown", "n2 Shown"}, s.targetsOf("cordon"))
	if got := s.stored.Status.Awaiting[0].Message; !strings.Contains(got, "cordon (cordon of Node n1, Node n2)") {
		t.Errorf("asked %q, must name what the step acts on", got)
	}
	other := by(v1alpha1.DecisionApprove, "ok", "jane")
	if other.Digest = digestOf(nodes("n1")); other.Digest == s.step("ok").Digest {
		t.Fatal("the digest is the same for one node and for two")
	}
	if got := digestOf(nodes("n2", "n1")); got != s.step("ok").Digest {
		t.Error("the digest depends on the order in which they are found")
	}
	s.refused(other, v1alpha1.ReasonStale)
	s.wantNotDone("Plan cordon n1")
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview, "ok=Succeeded", "cordon=Succeeded")
	s.wantDone("Apply cordon n1", "Apply cordon n2")
	if s.logged("ApprovalAwaited") != 1 || s.count("Resolve cordon") != 2 {
		t.Errorf("asked %d times after %d lookups, want once, and a lookup before and after", s.logged("ApprovalAwaited"), s.count("Resolve cordon"))
	}
}

// TestMoreFoundThanShown: nothing is done before what was found since is approved too.
func TestMoreFoundThanShown(t *testing.T) {
	s := newSim(t, approveCordon(), "a")
	s.script = found(nodes("n1"), nodes("n1", "n2"))
	s.run()
	first := s.step("ok").Digest
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseContainment, "ok=AwaitingApproval")
	s.wantSame("targets", []string{"n1 Pending", "n2 Pending"}, s.targetsOf("cordon"))
	s.wantNotDone("Apply cordon n1", "Apply cordon n2")
	stale := by(v1alpha1.DecisionApprove, "ok", "jane")
	stale.Digest = first
	s.refused(stale, v1alpha1.ReasonStale)
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview, "cordon=Succeeded")
	s.wantDone("Apply cordon n1", "Apply cordon n2")
}

// TestFewerFoundThanShown: what is not found any more is left alone, and nobody is asked again.
func TestFewerFoundThanShown(t *testing.T) {
	s := newSim(t, approveCordon(), "a")
	s.script = found(nodes("n1", "n2"), nodes("n2"))
	s.run()
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview, "cordon=Succeeded")
	s.wantSame("targets", []string{"n1 Gone", "n2 Succeeded"}, s.targetsOf("cordon"))
	s.wantNotDone("Plan cordon n1")

	s = newSim(t, approveCordon(), "a")
	s.script = found(nodes("n1"), nodes())
	s.run()
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseContainment, "cordon=AwaitingTask")
}

// TestLookupForApprovalFails: what cannot be looked up keeps nobody from approving, and is
// asked about anew once it is known.
func TestLookupForApprovalFails(t *testing.T) {
	for name, failed := range map[string]Result{"for good": permanent("no such output"), "for now": failure("no answer")} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, approveCordon(), "a")
			s.script = found(failed)
			s.run()
			if !failed.Permanent {
				s.wantAwaited()
				s.pass(askWithin)
			}
			s.wantAwaited("Approval ok")
			if got := s.stored.Status.Awaiting[0].Message; !strings.Contains(got, "what it acts on is not known yet: "+failed.Message) {
				t.Errorf("asked %q, must say that the objects are not known", got)
			}
			s.script = nil
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.wantAwaited("Approval ok")
			s.wantNotDone("Apply cordon node-a")
			s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
			s.want(v1alpha1.PhaseReview, "cordon=Succeeded")
		})
	}
	s := newSim(t, approveCordon(), "a")
	s.script = found(failure("no answer"))
	s.run()
	s.pass(askWithin)
	before := s.step("ok").Digest
	s.script = found(nodes("n1"))
	s.pass(resolveAgainAfter)
	if s.step("ok").Digest == before {
		t.Error("what was found after the question is not shown")
	}
	s = newSim(t, approveCordon(), "a")
	s.script = found(failure("no answer"))
	s.run()
	s.pass(10 * time.Minute)
	if tries := s.count("Resolve cordon"); tries < 2 || tries > int(lookWithin/resolveAgainAfter)+1 {
		t.Errorf("looked up %d times within 10 minutes, must be given up after %s", tries, lookWithin)
	}
}

// TestTroubleAsksOnce: that the API server gave no answer for a moment has nobody asked twice.
func TestTroubleAsksOnce(t *testing.T) {
	s := newSim(t, approveCordon(), "a")
	s.script = found(failure("no answer"), failure("no answer"), nodes("n1"))
	s.run()
	s.want(v1alpha1.PhaseContainment, "ok=Running", "cordon=Pending")
	s.wantAwaited()
	s.pass(2 * resolveAgainAfter)
	s.wantAwaited("Approval ok")
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview, "ok=Succeeded", "cordon=Succeeded")
	s.wantDone("Apply cordon n1")
	if asked, attempts := s.logged("ApprovalAwaited"), s.step("ok").Attempts; asked != 1 || attempts != 1 {
		t.Errorf("asked %d times in %d attempts, want once", asked, attempts)
	}

	hurried := approveCordon()
	hurried.Containment.Steps[0].Approve.Within = &metav1.Duration{Duration: time.Second}
	s = newSim(t, hurried, "a")
	s.script = found(failure("no answer"))
	s.run()
	s.pass(2 * time.Second)
	s.wantAwaited("Approval ok")
}

// TestShownAndNotNeeded: what was shown holds up nothing when its step is not done.
func TestShownAndNotNeeded(t *testing.T) {
	unneeded := cordonStep("cordon")
	unneeded.When = "false"
	s := newSim(t, playbookOf(steps(isolateStep("isolate")), steps(approveStep("ok"), unneeded, deleteStep("delete")), nil), "a")
	s.run()
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview, "cordon=Skipped", "delete=Succeeded")
	s.wantCondition(v1alpha1.ConditionEradicated, "True StepsDone")

	for _, kind := range []v1alpha1.DecisionType{v1alpha1.DecisionSkipStep, v1alpha1.DecisionReject} {
		s = newSim(t, approveCordon(), "a")
		s.run()
		s.must(by(kind, "ok", "jane"))
		s.wantNotDone("Plan cordon node-a")
		if kind == v1alpha1.DecisionReject {
			s.script = found(nodes("n1"))
			s.must(by(v1alpha1.DecisionRetryStep, "ok", "jane"))
			s.wantSame("shown at the next try", []string{"n1 Shown"}, s.targetsOf("cordon"))
			s.must(by(v1alpha1.DecisionApprove, "ok", "kim"))
			s.wantDone("Apply cordon n1")
		}
	}
}

// TestShownIsHeldByLimits: the limits count when the step begins.
func TestShownIsHeldByLimits(t *testing.T) {
	playbook := approveCordon()
	playbook.Limits.MaxTargets = 1
	s := newSim(t, playbook, "a")
	s.script = found(nodes("n1", "n2"))
	s.run()
	s.wantSame("shown", []string{"n1 Shown", "n2 Shown"}, s.targetsOf("cordon"))
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.wantSame("targets", []string{"n1 Succeeded", "n2 Held"}, s.targetsOf("cordon"))
	s.wantAwaited("Approval cordon")
	s.must(by(v1alpha1.DecisionApprove, "cordon", "jane"))
	s.wantSame("targets", []string{"n1 Succeeded", "n2 Succeeded"}, s.targetsOf("cordon"))
}

// TestShownWhenAnObjectJoins: an object that joins while people are asked shows what it leads to.
func TestShownWhenAnObjectJoins(t *testing.T) {
	s := newSim(t, approveCordon(), "a")
	s.event("event-1", "a")
	s.run()
	before := by(v1alpha1.DecisionApprove, "ok", "jane")
	before.Digest = s.step("ok").Digest
	s.event("event-2", "b")
	s.run()
	s.wantSame("shown", []string{"node-a Shown", "node-b Shown"}, s.targetsOf("cordon"))
	s.refused(before, v1alpha1.ReasonStale)
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview, "cordon=Succeeded")
}

// nodesOf are the nodes that the incident's pods run on: each on its own.
func nodesOf(incident *v1alpha1.Incident) []v1alpha1.StepTarget {
	targets := []v1alpha1.StepTarget{}
	for _, resource := range incident.Status.Resources {
		if resource.State == v1alpha1.ResourcePresent {
			targets = append(targets, nodeTarget("node-"+Cut(resource.Name, 20)))
		}
	}
	return targets
}

func nodeTarget(name string) v1alpha1.StepTarget {
	return v1alpha1.StepTarget{APIVersion: "v1", Kind: "Node", Name: name, UID: v1alpha1.ObjectUID("uid-" + name)}
}

// TestReadIsNotShown: nobody is asked anew because what is only looked at came back as another.
func TestReadIsNotShown(t *testing.T) {
	looks := verifyStep("healthy")
	looks.Target, looks.Targets = "", "resources"
	s := newSim(t, playbookOf(steps(approveStep("ok"), deleteStep("delete"), looks), nil, nil), "a")
	s.script = found(nodes("n2"))
	s.run()
	if s.count("Resolve healthy") > 0 || strings.Contains(s.stored.Status.Awaiting[0].Message, "nothing to act on") {
		t.Errorf("what is only looked at was looked up for an approval: %q", s.stored.Status.Awaiting[0].Message)
	}
	s.must(by(v1alpha1.DecisionApprove, "ok", "jane"))
	s.want(v1alpha1.PhaseReview, "ok=Succeeded", "delete=Succeeded", "healthy=Succeeded")
	if s.logged("ApprovalAwaited") != 1 {
		t.Errorf("asked %d times, want once", s.logged("ApprovalAwaited"))
	}
}
