package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// keptIncidents keeps closed incidents for two days.
var keptIncidents = v1alpha1.PlanRetention{ClosedIncidents: &metav1.Duration{Duration: 48 * time.Hour}}

// closed creates an incident that was closed some time ago.
func (k *keeping) closed(t *testing.T, name string, ago time.Duration, edit ...func(*v1alpha1.Incident)) *v1alpha1.Incident {
	t.Helper()
	incident := &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: k.namespace},
		Spec:       v1alpha1.IncidentSpec{Title: "A shell", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion},
	}
	at := metav1.NewTime(k.clock.Now().Add(-ago).Truncate(time.Second))
	incident.Status = v1alpha1.IncidentStatus{
		Phase: v1alpha1.PhaseClosed, Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion,
		Resolution: v1alpha1.ResolutionResolved, Times: v1alpha1.IncidentTimes{ClosedTime: &at}, EventCount: 7,
	}
	for _, change := range edit {
		change(incident)
	}
	status := incident.Status.DeepCopy()
	mustCreate(t, incident)
	incident.Status = *status
	if err := audit.Append(&incident.Status, v1alpha1.TimelineEntry{Time: at, Actor: "manager", Action: "IncidentClosed"}); err != nil {
		t.Fatal(err)
	}
	incident.Status.Audit.ProjectedSequence = 1
	if err := testClient.Status().Update(t.Context(), incident); err != nil {
		t.Fatal(err)
	}
	return incident
}

// joined creates an event that belongs to an incident.
func (k *keeping) joined(t *testing.T, name, incident string) {
	t.Helper()
	k.event(t, name, 60*time.Hour, v1alpha1.OutcomeJoined)
	k.changeStatus(t, name, func(status *v1alpha1.SecurityEventStatus) { status.IncidentRef.Name = incident })
}

// about creates a Decision about an incident, which is answered.
func (k *keeping) about(t *testing.T, name, incident string, decision v1alpha1.DecisionType, edit ...func(*v1alpha1.DecisionSpec)) {
	t.Helper()
	one := &v1alpha1.Decision{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: k.namespace},
		Spec: v1alpha1.DecisionSpec{
			Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: incident}, Type: decision, By: "jane", Reason: "all is well",
		},
	}
	for _, change := range edit {
		change(&one.Spec)
	}
	mustCreate(t, one)
	k.answer(t, one)
}

// there are the incidents, events and Decisions that are there.
func (k *keeping) there(ctx context.Context) ([]string, error) {
	names, err := k.left(ctx)
	if err != nil {
		return nil, err
	}
	incidents := &v1alpha1.IncidentList{}
	if err := testClient.List(ctx, incidents, client.InNamespace(k.namespace)); err != nil {
		return nil, err
	}
	for i := range incidents.Items {
		names = append(names, incidents.Items[i].Name)
	}
	slices.Sort(names)
	return names, nil
}

// awaitThere has retention look until just these are left.
func (k *keeping) awaitThere(t *testing.T, want ...string) {
	t.Helper()
	k.until(t, func(got []string) string { return cmp.Diff(want, got) })
}

func (k *keeping) until(t *testing.T, check func(there []string) string) {
	t.Helper()
	eventually(t, func(ctx context.Context) string {
		if problem := k.look(ctx); problem != "" {
			return problem
		}
		got, err := k.there(ctx)
		if err != nil {
			return err.Error()
		}
		return check(got)
	})
}

// look has the retention look once.
func (k *keeping) look(ctx context.Context) string {
	_, err := k.retention.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKey{Namespace: k.namespace, Name: v1alpha1.ResponsePlanName}})
	return errText(err)
}

func TestClosedIncidentsAreJournaledAndGo(t *testing.T) {
	k := newKeeping(t)
	over := k.closed(t, "over", 50*time.Hour, func(i *v1alpha1.Incident) {
		i.Status.Playbook = v1alpha1.PinnedPlaybook{Name: "contain", Generation: 3, Revision: "over-1234", ServiceAccountName: "responder"}
	})
	k.joined(t, "first", "over")
	k.joined(t, "second", "over")
	k.decision(t, "join-second", "second", true)
	k.about(t, "refused", "over", v1alpha1.DecisionNote)
	k.about(t, "the-end", "over", v1alpha1.DecisionClose, func(spec *v1alpha1.DecisionSpec) { spec.Resolution = v1alpha1.ResolutionResolved })
	sealed, err := k.recorder.SealJournal(t.Context(), over, over.Status.Timeline)
	if err != nil {
		t.Fatal(err)
	}
	k.closed(t, "young", 47*time.Hour)
	k.joined(t, "of-young", "young")
	k.event(t, "dismissed", 500*time.Hour, v1alpha1.OutcomeDismissed)
	k.planFor(t, keptIncidents)
	k.awaitThere(t, "dismissed", "of-young", "young")

	names, removals := k.journaled(t)
	if diff := cmp.Diff([]string{"first", "second", "join-second", "refused", "the-end", "over"}, names); diff != "" {
		t.Errorf("journaled (-want +got):\n%s", diff)
	}
	for _, name := range names[:5] {
		if removals[name].With != "over" {
			t.Errorf("%s was journaled with %q", name, removals[name].With)
		}
	}
	if got := removals["second"]; got.Event == nil || got.Event.Assessment.Outcome != v1alpha1.OutcomeJoined || got.Event.Occurrences != 3 {
		t.Errorf("got the removal %+v of an event", got)
	}
	got := removals["over"]
	want := &audit.RemovedIncident{
		Title: "A shell", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion, Resolution: v1alpha1.ResolutionResolved,
		Times: over.Status.Times, Playbook: over.Status.Playbook, Occurrences: 7, Audit: over.Status.Audit, Timeline: over.Status.Timeline,
		Closed: audit.RemovedClosure{Time: *over.Status.Times.ClosedTime, By: "jane", Reason: "all is well", Decision: "the-end"},
		Evidence: []audit.EvidenceDigest{{
			Name: sealed.Name, UID: sealed.UID, Type: v1alpha1.EvidenceJournal, CollectedTime: metav1.NewTime(sealed.Spec.CollectedTime.Truncate(time.Second)),
			Digest: sealed.Spec.Digest, Journal: sealed.Spec.Journal,
		}},
	}
	if diff := cmp.Diff(want, got.Incident); diff != "" || got.UID != over.UID || got.Because != "retention.closedIncidents: 48h0m0s" {
		t.Errorf("the removal %+v of the incident (-want +got):\n%s", got, diff)
	}
	if err := testClient.Get(t.Context(), client.ObjectKeyFromObject(sealed), sealed); err != nil {
		t.Errorf("its sealed journal must be there: %v", err)
	}
	if told := k.told(t, v1alpha1.ReasonRetentionRemoved); len(told) != 1 || !strings.HasPrefix(told[0], "over: deleted by the plan's") || !strings.Contains(told[0], "number 6 of") {
		t.Errorf("told %q", told)
	}
	// The next goes when its hour is over.
	k.clock.SetTime(k.clock.Now().Add(3 * time.Hour))
	k.awaitThere(t, "dismissed")
}

// told are the Kubernetes Events of a reason, as 'NAME: NOTE'.
func (k *keeping) told(t *testing.T, reason string) []string {
	t.Helper()
	list := &eventsv1.EventList{}
	if err := testClient.List(t.Context(), list, client.InNamespace(k.namespace)); err != nil {
		t.Fatal(err)
	}
	var notes []string
	for i := range list.Items {
		if event := &list.Items[i]; event.Reason == reason {
			notes = append(notes, event.Regarding.Name+": "+event.Note)
		}
	}
	slices.Sort(notes)
	return notes
}

// TestRetentionKeepsIncidentsThatSomethingNeeds has each reason end in its turn.
func TestRetentionKeepsIncidentsThatSomethingNeeds(t *testing.T) {
	k := newKeeping(t)
	open := func(name string, edit func(*v1alpha1.Incident)) *v1alpha1.Incident {
		return k.closed(t, name, 0, edit, func(i *v1alpha1.Incident) { i.Status.Phase = v1alpha1.PhaseRecovery })
	}
	const over = 50 * time.Hour
	k.closed(t, "related", over)
	k.closed(t, "original", over, func(i *v1alpha1.Incident) {
		i.Status.Duplicates = []v1alpha1.IncidentDuplicate{{Name: "open-duplicate", By: "jane", DecisionRef: v1alpha1.DecisionReference{Name: "d"}, Time: metav1.Now()}}
	})
	k.closed(t, "duplicate", over, func(i *v1alpha1.Incident) {
		i.Status.DuplicateOf = v1alpha1.IncidentOriginal{Name: "open-original", By: "jane", DecisionRef: v1alpha1.DecisionReference{Name: "d"}, Time: metav1.Now()}
	})
	k.closed(t, "shares", over)
	k.joined(t, "shared", "shares")
	standing := k.closed(t, "standing", over, func(i *v1alpha1.Incident) {
		i.Status.Steps = []v1alpha1.IncidentStep{{Name: "isolate", Phase: v1alpha1.PhaseContainment, Action: "isolate", State: v1alpha1.StepSucceeded,
			Targets: []v1alpha1.StepTarget{{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart", UID: "1", State: v1alpha1.TargetSucceeded, Undo: "{}"}}}}
	})
	k.closed(t, "taught", over)
	lesson := &v1alpha1.LessonLearned{
		ObjectMeta: metav1.ObjectMeta{Name: "lesson-taught", Namespace: k.namespace},
		Spec:       v1alpha1.LessonLearnedSpec{IncidentRefs: []v1alpha1.IncidentReference{{Name: "taught"}}},
	}
	mustCreate(t, lesson)
	opened := []*v1alpha1.Incident{
		open("open-related", func(i *v1alpha1.Incident) { i.Spec.RelatedTo.Name = "related" }),
		open("open-duplicate", func(*v1alpha1.Incident) {}),
		open("open-original", func(*v1alpha1.Incident) {}),
		open("open-shares", func(i *v1alpha1.Incident) { i.Spec.EventRefs = []v1alpha1.EventReference{{Name: "shared"}} }),
	}
	eventually(t, func(ctx context.Context) string {
		list := &v1alpha1.IncidentList{}
		if err := k.retention.Client.List(ctx, list, client.InNamespace(k.namespace), client.MatchingFields{indexIncidentOpen: "true"}); err != nil || len(list.Items) != len(opened) {
			return fmt.Sprintf("the cache knows %d open incidents, %v", len(list.Items), err)
		}
		lessons := &v1alpha1.LessonLearnedList{}
		if err := k.retention.Client.List(ctx, lessons, client.InNamespace(k.namespace), client.MatchingFields{indexLessonIncidents: "taught"}); err != nil || len(lessons.Items) != 1 {
			return fmt.Sprintf("the cache knows %d lessons, %v", len(lessons.Items), err)
		}
		return ""
	})
	k.closed(t, "over", over)
	k.planFor(t, keptIncidents)
	all := []string{"duplicate", "open-duplicate", "open-original", "open-related", "open-shares", "original", "related", "shared", "shares", "standing", "taught"}
	k.awaitThere(t, all...)
	notes := k.told(t, v1alpha1.ReasonRetentionKept)
	for i, want := range []string{
		"duplicate: its time is over by the plan's `retention`, but it is kept: incident open-original, which is open",
		"original: its time is over by the plan's `retention`, but it is kept: incident open-duplicate",
		"related: its time is over by the plan's `retention`, but it is kept: incident open-related",
		"shares: its time is over by the plan's `retention`, but it is kept: incident open-shares",
		"standing: its time is over by the plan's `retention`, but it is kept: what it did is still in place (isolate of Pod shop/cart)",
		"taught: its time is over by the plan's `retention`, but it is kept: lesson lesson-taught is not done",
	} {
		if i >= len(notes) || !strings.HasPrefix(notes[i], want) {
			t.Fatalf("told %q\nwant %q", notes, want)
		}
	}

	for _, incident := range opened {
		incident.Status.Phase = v1alpha1.PhaseClosed
		if err := testClient.Status().Update(t.Context(), incident); err != nil {
			t.Fatal(err)
		}
	}
	k.awaitThere(t, "open-duplicate", "open-original", "open-related", "open-shares", "standing", "taught")
	lesson.Spec.RootCause.Category = "Misconfiguration"
	if err := testClient.Update(t.Context(), lesson); err != nil {
		t.Fatal(err)
	}
	standing.Status.Steps[0].Targets[0].State = v1alpha1.TargetReverted
	if err := testClient.Status().Update(t.Context(), standing); err != nil {
		t.Fatal(err)
	}
	k.awaitThere(t, "open-duplicate", "open-original", "open-related", "open-shares")
	if names, _ := k.journaled(t); names[0] != "over" || len(names) != 8 {
		t.Errorf("journaled %q", names)
	}
}

// manyEvents is an incident with more parts than one journal is about, and the plan that has
// it go. The manager is killed when it has deleted some.
func (k *keeping) manyEvents(t *testing.T, kill int64) {
	t.Helper()
	k.closed(t, "large", 50*time.Hour)
	const events = removalBatch + 4
	for i := range events {
		k.joined(t, fmt.Sprintf("sev-%03d", i), "large")
	}
	eventually(t, func(ctx context.Context) string {
		list := &v1alpha1.SecurityEventList{}
		if err := k.retention.Client.List(ctx, list, client.InNamespace(k.namespace), client.MatchingFields{indexEventIncident: "large"}); err != nil || len(list.Items) != events {
			return fmt.Sprintf("the cache knows %d events, %v", len(list.Items), err)
		}
		return ""
	})
	k.dies.Store(kill)
	k.planFor(t, keptIncidents)
	eventually(t, func(ctx context.Context) string {
		there, err := k.there(ctx)
		if err != nil || k.dies.Load() >= 0 || len(there) != events+1-int(kill) {
			return fmt.Sprintf("left are %d, %v", len(there), err)
		}
		return ""
	})
	k.stop()
	k.dies.Store(1 << 40)
}

// TestALargeIncidentGoesInParts kills the manager between the parts of an incident, which do
// not fit into one journal: the next one goes on, and nothing is journaled twice.
func TestALargeIncidentGoesInParts(t *testing.T) {
	k := newKeeping(t)
	k.manyEvents(t, removalBatch+2)
	k.start(t)
	k.awaitThere(t)
	names, removals := k.journaled(t)
	if len(names) != removalBatch+5 || len(removals) != len(names) || names[len(names)-1] != "large" {
		t.Errorf("journaled %d removals of %d objects, the last %s: each must be once, and the incident last", len(names), len(removals), names[len(names)-1])
	}
}

// TestRetentionLooksAgainBeforeAnIncidentGoes has an incident refer to one that a journal
// names already.
func TestRetentionLooksAgainBeforeAnIncidentGoes(t *testing.T) {
	k := newKeeping(t)
	k.closed(t, "over", 50*time.Hour)
	k.joined(t, "first", "over")
	k.joined(t, "second", "over")
	k.decision(t, "join-second", "second", true)
	k.dies.Store(0)
	k.planFor(t, keptIncidents)
	eventually(t, func(context.Context) string {
		if k.dies.Load() >= 0 {
			return "nothing was to be deleted yet"
		}
		return ""
	})
	k.stop()
	k.dies.Store(1 << 40)
	again := k.closed(t, "again", 0, func(i *v1alpha1.Incident) {
		i.Spec.RelatedTo.Name, i.Status.Phase = "over", v1alpha1.PhaseContainment
	})
	k.start(t)
	for range 3 {
		k.awaitThere(t, "again", "first", "join-second", "over", "second")
	}
	again.Status.Phase = v1alpha1.PhaseClosed
	if err := testClient.Status().Update(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	k.awaitThere(t, "again")
}

// TestAnIncidentGoesBeforeItsParts kills the manager right after the incident: the next one
// finds what is left by the journal. An event that has changed since stays, with its Decisions.
func TestAnIncidentGoesBeforeItsParts(t *testing.T) {
	k := newKeeping(t)
	over := k.closed(t, "over", 50*time.Hour)
	k.joined(t, "first", "over")
	k.joined(t, "second", "over")
	k.decision(t, "join-first", "first", true)
	k.decision(t, "join-second", "second", true)
	sealed, err := k.recorder.SealJournal(t.Context(), over, over.Status.Timeline)
	if err != nil {
		t.Fatal(err)
	}
	k.dies.Store(1)
	k.clock.SetTime(k.clock.Now().Add(50 * time.Hour))
	k.planFor(t, v1alpha1.PlanRetention{ClosedIncidents: hoursOf(48), Evidence: hoursOf(48)})
	eventually(t, func(ctx context.Context) string {
		there, err := k.there(ctx)
		return cmp.Diff([]string{"first", "join-first", "join-second", "second"}, there) + errText(err)
	})
	k.stop()
	k.dies.Store(1 << 40)
	k.changeStatus(t, "first", func(status *v1alpha1.SecurityEventStatus) { status.Occurrences, status.Counters[0].Count = 9, 8 })
	k.start(t)
	k.awaitThere(t, "first", "join-first")
	k.awaitPieces(t)
	k.settle(t)
	k.bytes(t, sealed, false)
	if names, removals := k.journaled(t); len(names) != 6 || len(removals) != 6 {
		t.Errorf("journaled %q: each must be once", names)
	}
}

// TestAnIncidentThatChangesStaysWhole has somebody change an incident when its journal is
// sealed: all of it must be there, and its bytes.
func TestAnIncidentThatChangesStaysWhole(t *testing.T) {
	k := newKeeping(t)
	over := k.closed(t, "over", 50*time.Hour)
	k.joined(t, "first", "over")
	k.decision(t, "join-first", "first", true)
	k.about(t, "the-end", "over", v1alpha1.DecisionClose, func(spec *v1alpha1.DecisionSpec) { spec.Resolution = v1alpha1.ResolutionResolved })
	sealed, err := k.recorder.SealJournal(t.Context(), over, over.Status.Timeline)
	if err != nil {
		t.Fatal(err)
	}
	log := k.kept(t, "log", "over", "a log", 60*time.Hour)
	k.clock.SetTime(k.clock.Now().Add(50 * time.Hour))
	lesson := &v1alpha1.LessonLearned{
		ObjectMeta: metav1.ObjectMeta{Name: "lesson-over", Namespace: k.namespace},
		Spec:       v1alpha1.LessonLearnedSpec{IncidentRefs: []v1alpha1.IncidentReference{{Name: "over"}}},
	}
	touch := func() {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"case":"seven"}}}`))
		if err := errors.Join(testClient.Create(t.Context(), lesson), testClient.Patch(t.Context(), over, patch)); err != nil {
			t.Error(err)
		}
	}
	k.sealed.Store(&touch)
	k.planFor(t, v1alpha1.PlanRetention{ClosedIncidents: hoursOf(48), Evidence: hoursOf(48)})
	eventually(t, func(context.Context) string {
		if k.sealed.Load() != nil || len(k.told(t, v1alpha1.ReasonRetentionKept)) == 0 {
			return "nothing was journaled yet, or nobody was told that it stays"
		}
		return ""
	})
	k.awaitThere(t, "first", "join-first", "over", "the-end")
	k.awaitPieces(t, "log", sealed.Name)
	k.bytes(t, log, true)
	k.bytes(t, sealed, true)
	lesson.Spec.RootCause.Category = "Misconfiguration"
	if err := testClient.Update(t.Context(), lesson); err != nil {
		t.Fatal(err)
	}
	k.awaitThere(t)
	k.awaitPieces(t)
}

// TestALessonOutlivesItsIncident keeps what was measured.
func TestALessonOutlivesItsIncident(t *testing.T) {
	namespace := newDomain(t)
	mgr := newManager(t, namespace)
	if err := (&LessonLearnedReconciler{Client: mgr.GetClient(), Clock: clocktesting.NewFakePassiveClock(time.Now())}).SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	start(t, mgr)
	k := &keeping{namespace: namespace, clock: clocktesting.NewFakePassiveClock(time.Now())}
	aware := metav1.NewTime(k.clock.Now().Add(-60 * time.Hour).Truncate(time.Second))
	contained := metav1.NewTime(aware.Add(time.Hour))
	incident := k.closed(t, "over", 50*time.Hour, func(i *v1alpha1.Incident) {
		i.Status.Times.AwareTime, i.Status.Times.ContainedTime = &aware, &contained
	})
	lesson := &v1alpha1.LessonLearned{
		ObjectMeta: metav1.ObjectMeta{Name: lifecycle.LessonName("over"), Namespace: namespace},
		Spec:       v1alpha1.LessonLearnedSpec{IncidentRefs: []v1alpha1.IncidentReference{{Name: "over"}}},
	}
	mustCreate(t, lesson)
	measured := func(status metav1.ConditionStatus) {
		t.Helper()
		eventually(t, func(ctx context.Context) string {
			if err := testClient.Get(ctx, client.ObjectKeyFromObject(lesson), lesson); err != nil {
				return err.Error()
			}
			if !meta.IsStatusConditionPresentAndEqual(lesson.Status.Conditions, v1alpha1.ConditionMeasured, status) {
				return fmt.Sprintf("its conditions are %+v", lesson.Status.Conditions)
			}
			return ""
		})
		if took := lesson.Status.Measures.TimeToContain; took == nil || took.Duration != time.Hour {
			t.Errorf("while Measured is %s the measures are %+v", status, lesson.Status.Measures)
		}
	}
	measured(metav1.ConditionTrue)
	if err := testClient.Delete(t.Context(), incident); err != nil {
		t.Fatal(err)
	}
	measured(metav1.ConditionFalse)
}

// TestPartsAreJournaledOnce has the cache lag behind a part that a journal names already.
func TestPartsAreJournaledOnce(t *testing.T) {
	k := newKeeping(t)
	incident := k.closed(t, "over", 50*time.Hour)
	k.joined(t, "first", "over")
	event := &v1alpha1.SecurityEvent{}
	if err := testClient.Get(t.Context(), client.ObjectKey{Namespace: k.namespace, Name: "first"}, event); err != nil {
		t.Fatal(err)
	}
	head := &journalHead{journaled: map[types.UID]string{}, kept: map[types.UID]toldKept{}}
	eventually(t, func(ctx context.Context) string {
		took, err := k.retention.takeIncident(ctx, incident, head, removalBatch)
		if err != nil || len(took.removals) != 2 {
			return fmt.Sprintf("took down %+v, %v", took, err)
		}
		return ""
	})
	head.journaled[event.UID] = event.ResourceVersion
	if took, err := k.retention.takeIncident(t.Context(), incident, head, removalBatch); err != nil || len(took.removals) != 0 || took.wait != conflictRetry {
		t.Errorf("took down %+v, %v: it must wait until the cache shows what became of the event", took, err)
	}
}
