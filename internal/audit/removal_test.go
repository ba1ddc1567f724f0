package audit

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func removedEvent(name string) Removal {
	at := metav1.NewTime(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC))
	event := &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-" + "1", ResourceVersion: "7", CreationTimestamp: at},
		Spec: v1alpha1.SecurityEventSpec{
			Title: "<noise> & \"more\"", Severity: v1alpha1.SeverityLow, SubmittedBy: "falco", ObservedTime: at,
			RawDataHash: "sha256:" + strings.Repeat("0", 64),
		},
		Status: v1alpha1.SecurityEventStatus{
			Occurrences: math.MaxInt64,
			Assessment:  v1alpha1.Assessment{Outcome: v1alpha1.OutcomeDismissed, Reason: "RuleMatched", Rule: "noise", By: "manager", Time: at},
		},
	}
	removal := RemovalOfEvent(event)
	removal.Time, removal.Because = at, "a test"
	return removal
}

func TestRemovalsAreOneChain(t *testing.T) {
	first := []Removal{removedEvent("a"), removedEvent("b")}
	one, err := ChainRemovals(first, 0, Origin)
	if err != nil {
		t.Fatal(err)
	}
	second := []Removal{removedEvent("c")}
	two, err := ChainRemovals(second, 2, first[1].Hash)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadRemovals(bytes.NewReader(one), 0, Origin)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, read); diff != "" {
		t.Errorf("what is read back (-want +got):\n%s", diff)
	}
	if read[0].Event.Occurrences != math.MaxInt64 {
		t.Errorf("occurrences are %d: they must be exact", read[0].Event.Occurrences)
	}
	if read, err = ReadRemovals(bytes.NewReader(two), 2, first[1].Hash); err != nil || len(read) != 1 || read[0].Sequence != 3 {
		t.Errorf("the second journal: %v, %v", read, err)
	}
	lines := strings.SplitAfter(string(one), "\n")
	for name, test := range map[string]struct {
		text     string
		sequence int64
		previous string
		want     string
	}{
		"edited":           {strings.Replace(string(one), "falco", "other", 1), 0, Origin, "removal 1 was changed"},
		"one taken out":    {lines[1], 0, Origin, "comes removal 2"},
		"another before":   {string(two), 0, Origin, "comes removal 3"},
		"another's end":    {string(two), 2, first[0].Hash, "one is missing or was moved"},
		"reordered":        {lines[1] + lines[0], 0, Origin, "comes removal 2"},
		"cut":              {string(one[:len(one)-10]), 0, Origin, "after removal 1"},
		"the assessment":   {strings.Replace(string(one), "Dismissed", "Promoted", 1), 0, Origin, "removal 1 was changed"},
		"how often seen":   {strings.Replace(string(one), "9223372036854775807", "1", 1), 0, Origin, "removal 1 was changed"},
		"who submitted it": {strings.Replace(lines[0], `"submittedBy":"falco"`, `"submittedBy":"x"`, 1), 0, Origin, "removal 1 was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadRemovals(strings.NewReader(test.text), test.sequence, test.previous); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}
}

// TestRemovalOfEvent: what it was about is taken down, in the cluster and outside it.
func TestRemovalOfEvent(t *testing.T) {
	event := &v1alpha1.SecurityEvent{Spec: v1alpha1.SecurityEventSpec{
		Resources: []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart"}},
		Assets:    []v1alpha1.Asset{{Type: "Device", Identifier: "LT-1", Owner: "finance"}},
	}}
	lines, err := ChainRemovals([]Removal{RemovalOfEvent(event)}, 0, Origin)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"name":"cart"`, `"assets":[{"identifier":"LT-1","owner":"finance","type":"Device"}]`} {
		if !strings.Contains(string(lines), part) {
			t.Errorf("it does not say %s: %s", part, lines)
		}
	}
}

func TestRemovalOfDecision(t *testing.T) {
	decision := &v1alpha1.Decision{Spec: v1alpha1.DecisionSpec{Type: v1alpha1.DecisionDismiss, By: "jane", Reason: "a test"}}
	if removal := RemovalOfDecision(decision); removal.Decision.By != "jane" || removal.Answer != nil {
		t.Errorf("got %+v", removal)
	}
	decision.Status.Conditions = []metav1.Condition{{Type: "Other"}, {Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue}}
	if removal := RemovalOfDecision(decision); removal.Answer == nil || removal.Answer.Status != metav1.ConditionTrue {
		t.Errorf("got %+v", removal)
	}
}

// TestRemovalOfDrill: a removal says of a drill that it is one, and of what is live nothing, so
// that what reads older journals reads newer ones as well.
func TestRemovalOfDrill(t *testing.T) {
	for mode, want := range map[v1alpha1.Mode]bool{"": false, v1alpha1.ModeLive: false, v1alpha1.ModeDrill: true} {
		for _, removal := range []Removal{
			RemovalOfEvent(&v1alpha1.SecurityEvent{Spec: v1alpha1.SecurityEventSpec{Mode: mode}}),
			RemovalOfIncident(&v1alpha1.Incident{Spec: v1alpha1.IncidentSpec{Mode: mode}}, metav1.Time{}, nil, nil),
		} {
			lines, err := ChainRemovals([]Removal{removal}, 0, Origin)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(string(lines), `"mode":"Drill"`); got != want || !want && strings.Contains(string(lines), `"mode"`) {
				t.Errorf("mode %q is taken down as %s", mode, lines)
			}
		}
	}
}

func TestEventsOfDrills(t *testing.T) {
	incident, entry := &v1alpha1.Incident{}, v1alpha1.TimelineEntry{Sequence: 7, Action: "Note", Actor: "jane", Message: "x", Hash: strings.Repeat("0", 64)}
	incident.Name = "inc"
	live := EventOf(incident, entry)
	incident.Spec.Mode = v1alpha1.ModeDrill
	drill := EventOf(incident, entry)
	if live.Note != "#7: x (by jane)" || drill.Note != "DRILL #7: x (by jane)" || live.Name != drill.Name {
		t.Errorf("got %q and %q", live.Note, drill.Note)
	}
}

// TestRemovalOfIncident takes down by whom and why it was closed, and what is to be checked by.
func TestRemovalOfIncident(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC))
	decision := func(name string, kind v1alpha1.DecisionType, answer metav1.ConditionStatus, after time.Duration) v1alpha1.Decision {
		return v1alpha1.Decision{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(at.Add(after))},
			Spec:       v1alpha1.DecisionSpec{Type: kind, By: "by-" + name, Reason: "because of " + name},
			Status:     v1alpha1.DecisionStatus{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: answer}}},
		}
	}
	decisions := []v1alpha1.Decision{
		decision("last", v1alpha1.DecisionClose, metav1.ConditionTrue, 3*time.Hour),
		decision("first", v1alpha1.DecisionClose, metav1.ConditionTrue, time.Hour),
		decision("refused", v1alpha1.DecisionClose, metav1.ConditionFalse, 4*time.Hour),
		decision("mark", v1alpha1.DecisionMarkDuplicate, metav1.ConditionTrue, 2*time.Hour),
	}
	incident := &v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Name: "inc", UID: "1", ResourceVersion: "9"}}
	incident.Status.Audit = v1alpha1.IncidentAudit{Sequence: 70, HeadHash: strings.Repeat("a", 64), SealedSequence: 32, SealedHash: strings.Repeat("b", 64)}
	evidence := []v1alpha1.Evidence{{
		ObjectMeta: metav1.ObjectMeta{Name: "inc-journal-1", UID: "2"},
		Spec: v1alpha1.EvidenceSpec{
			Type: v1alpha1.EvidenceJournal, Digest: "sha256:" + strings.Repeat("0", 64), CollectedTime: at,
			Journal: &v1alpha1.JournalRange{FirstSequence: 1, LastSequence: 32, Previous: Origin, LastHash: strings.Repeat("b", 64)},
		},
	}}
	removal := RemovalOfIncident(incident, at, decisions, evidence)
	if want := (RemovedClosure{Time: at, By: "by-last", Reason: "because of last", Decision: "last"}); removal.Incident.Closed != want {
		t.Errorf("closed %+v, want %+v", removal.Incident.Closed, want)
	}
	incident.Status.Resolution = v1alpha1.ResolutionDuplicate
	incident.Status.DuplicateOf = v1alpha1.IncidentOriginal{Name: "original", By: "by-mark", DecisionRef: v1alpha1.DecisionReference{Name: "mark"}, Time: at}
	duplicate := RemovalOfIncident(incident, at, decisions, nil)
	if want := (RemovedClosure{Time: at, By: "by-mark", Reason: "because of mark", Decision: "mark"}); duplicate.Incident.Closed != want {
		t.Errorf("closed %+v, want %+v", duplicate.Incident.Closed, want)
	}

	all := []Removal{removal, duplicate}
	lines, err := ChainRemovals(all, 0, Origin)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadRemovals(bytes.NewReader(lines), 0, Origin)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, read); diff != "" {
		t.Errorf("what is read back (-want +got):\n%s", diff)
	}
	for what, edit := range map[string][2]string{
		"who closed it":     {`"by":"by-last"`, `"by":"by-none"`},
		"why":               {"because of last", "because of lust"},
		"its head":          {`"sequence":70`, `"sequence":71`},
		"a sealed journal":  {strings.Repeat("b", 64), strings.Repeat("c", 64)},
		"a digest":          {strings.Repeat("0", 64) + `",`, strings.Repeat("1", 64) + `",`},
		"what it was named": {`"name":"inc"`, `"name":"ink"`},
	} {
		edited := strings.Replace(string(lines), edit[0], edit[1], 1)
		if _, err := ReadRemovals(strings.NewReader(edited), 0, Origin); edited == string(lines) || err == nil || !strings.Contains(err.Error(), "removal 1 was changed") {
			t.Errorf("edited: %s: got %v", what, err)
		}
	}
}

// TestTheRecordOfAnIncidentHoldsItsTail has entries that were not sealed be on record: they must
// lead from what was sealed to the head.
func TestTheRecordOfAnIncidentHoldsItsTail(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC))
	incident := &v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Name: "inc", UID: "1", ResourceVersion: "9"}}
	for range 262 {
		entry := v1alpha1.TimelineEntry{Time: at, Actor: "manager", Action: "StepSucceeded", Message: "<done> & \u2028"}
		if err := Append(&incident.Status, entry); err != nil {
			t.Fatal(err)
		}
	}
	sealed := incident.Status.Timeline[5]
	incident.Status.Timeline = incident.Status.Timeline[6:]
	incident.Status.Audit.SealedSequence, incident.Status.Audit.SealedHash = sealed.Sequence, sealed.Hash
	lines, err := ChainRemovals([]Removal{RemovalOfIncident(incident, at, nil, nil)}, 0, Origin)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadRemovals(bytes.NewReader(lines), 0, Origin)
	if err != nil {
		t.Fatal(err)
	}
	got := read[0].Incident
	status := &v1alpha1.IncidentStatus{Audit: got.Audit, Timeline: got.Timeline}
	if err := Verify(status); err != nil || len(got.Timeline) != 256 {
		t.Errorf("%d entries are on record: %v", len(got.Timeline), err)
	}
	status.Timeline[3].Message = "nothing"
	if Verify(status) == nil {
		t.Error("an entry was changed, and nobody saw it")
	}
}
