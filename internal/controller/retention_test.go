package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
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
	"github.com/firebreak-dev/firebreak/internal/evidence"
)

// keeping is a domain that keeps dismissed events for two days, and who deletes them.
type keeping struct {
	namespace string
	clock     *clocktesting.FakePassiveClock
	recorder  *evidence.Recorder
	retention *RetentionReconciler
	stop      func()
	// mode is that of the events and incidents that are created; empty is live.
	mode v1alpha1.Mode
	// dies is how many deletions are made before none is any more.
	dies atomic.Int64
	// refuses is the name of what the API server refuses to delete; of all but this no Events
	// can be made meanwhile.
	refuses atomic.Pointer[string]
	// keepsBytes says that no bytes of evidence are removed any more.
	keepsBytes atomic.Bool
	// witness says that the API server has a clock of its own, and not that of the test.
	witness atomic.Bool
	// sealed is called when a journal is sealed, just before the first deletion.
	sealed atomic.Pointer[func()]
	// unnoted is how many times the end of the journals cannot be noted.
	unnoted atomic.Int64
	// late says that journals are created by an API server whose clock is behind.
	late atomic.Bool
	// blind says that the API server's time cannot be learned.
	blind atomic.Bool
}

func newKeeping(t *testing.T) *keeping {
	t.Helper()
	k := &keeping{namespace: newDomain(t), clock: clocktesting.NewFakePassiveClock(time.Now())}
	k.dies.Store(1 << 40)
	store, err := evidence.OpenStore(t.Context(), "mem://", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	k.recorder = &evidence.Recorder{Client: testClient, Namespaces: testClient, Store: store, Clock: k.clock, Manager: "manager", Version: "test"}
	k.start(t)
	return k
}

// start starts a manager; its reconciler is asked by the test, too.
func (k *keeping) start(t *testing.T) {
	t.Helper()
	mgr := newManager(t, k.namespace)
	if err := AddIndexes(t.Context(), mgr.GetFieldIndexer()); err != nil {
		t.Fatal(err)
	}
	k.retention = &RetentionReconciler{Client: mortal{mgr.GetClient(), &k.dies, &k.refuses, &k.sealed, &k.unnoted}, Journals: mortalJournals{k.recorder, &k.keepsBytes, &k.witness, &k.late, &k.blind}, Clock: k.clock}
	if err := k.retention.SetupWithManager(t.Context(), mgr); err != nil {
		t.Fatal(err)
	}
	k.stop = start(t, mgr)
}

func (k *keeping) plan(t *testing.T) {
	t.Helper()
	k.planFor(t, v1alpha1.PlanRetention{DismissedEvents: &metav1.Duration{Duration: 48 * time.Hour}})
}

func (k *keeping) planFor(t *testing.T, retention v1alpha1.PlanRetention) {
	t.Helper()
	mustCreate(t, &v1alpha1.ResponsePlan{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: k.namespace},
		Spec:       v1alpha1.ResponsePlanSpec{Retention: retention},
	})
}

// event creates an event that was assessed some time ago.
func (k *keeping) event(t *testing.T, name string, ago time.Duration, outcome v1alpha1.AssessmentOutcome, earlier ...v1alpha1.AssessmentOutcome) *v1alpha1.SecurityEvent {
	t.Helper()
	event := shellEvent(k.namespace, name, "cart-1")
	event.Spec.Mode = k.mode
	mustCreate(t, event)
	assessment := func(outcome v1alpha1.AssessmentOutcome) v1alpha1.Assessment {
		return v1alpha1.Assessment{Outcome: outcome, Reason: v1alpha1.ReasonRuleMatched, Rule: "noise", By: "manager", Time: metav1.NewTime(k.clock.Now().Add(-ago))}
	}
	event.Status.Assessment, event.Status.Occurrences = assessment(outcome), 3
	event.Status.Counters = []v1alpha1.EventCounter{{Spool: "receiver-0", Count: 2}}
	for _, one := range earlier {
		event.Status.EarlierAssessments = append(event.Status.EarlierAssessments, assessment(one))
	}
	if err := testClient.Status().Update(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	return event
}

func (k *keeping) decision(t *testing.T, name, event string, answered bool) *v1alpha1.Decision {
	t.Helper()
	decision := &v1alpha1.Decision{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: k.namespace},
		Spec: v1alpha1.DecisionSpec{
			Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectSecurityEvent, Name: event}, Type: v1alpha1.DecisionDismiss, By: "jane", Reason: "noise",
		},
	}
	mustCreate(t, decision)
	if answered {
		k.answer(t, decision)
	}
	return decision
}

func (k *keeping) answer(t *testing.T, decision *v1alpha1.Decision) {
	t.Helper()
	meta.SetStatusCondition(&decision.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted})
	if err := testClient.Status().Update(t.Context(), decision); err != nil {
		t.Fatal(err)
	}
}

// left are the events and Decisions that are there.
func (k *keeping) left(ctx context.Context) ([]string, error) {
	var names []string
	events, decisions := &v1alpha1.SecurityEventList{}, &v1alpha1.DecisionList{}
	if err := errors.Join(testClient.List(ctx, events, client.InNamespace(k.namespace)), testClient.List(ctx, decisions, client.InNamespace(k.namespace))); err != nil {
		return nil, err
	}
	for i := range events.Items {
		names = append(names, events.Items[i].Name)
	}
	for i := range decisions.Items {
		names = append(names, decisions.Items[i].Name)
	}
	slices.Sort(names)
	return names, nil
}

func (k *keeping) await(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, func(ctx context.Context) string {
		left, err := k.left(ctx)
		if err != nil {
			return err.Error()
		}
		return cmp.Diff(want, left)
	})
}

// journaled is what the journals hold, one chain, by the names of the objects.
func (k *keeping) journaled(t *testing.T) (names []string, removals map[string]audit.Removal) {
	t.Helper()
	list := &v1alpha1.EvidenceList{}
	if err := testClient.List(t.Context(), list, client.InNamespace(k.namespace)); err != nil {
		t.Fatal(err)
	}
	list.Items = slices.DeleteFunc(list.Items, func(one v1alpha1.Evidence) bool { return one.Spec.Type != v1alpha1.EvidenceRetentionJournal })
	slices.SortFunc(list.Items, func(a, b v1alpha1.Evidence) int {
		return int(a.Spec.Journal.FirstSequence - b.Spec.Journal.FirstSequence)
	})
	removals = map[string]audit.Removal{}
	sequence, hash := int64(0), audit.Origin
	for i := range list.Items {
		journal := &list.Items[i]
		if journal.Spec.Journal.FirstSequence != sequence+1 || journal.Spec.Journal.Previous != hash {
			t.Errorf("journal %s does not follow removal %d: %+v", journal.Name, sequence, journal.Spec.Journal)
		}
		sequence, hash = journal.Spec.Journal.LastSequence, journal.Spec.Journal.LastHash
		read, err := k.recorder.ReadRemovals(t.Context(), journal)
		if err != nil {
			t.Fatal(err)
		}
		for _, removal := range read {
			names, removals[removal.Name] = append(names, removal.Name), removal
		}
	}
	return names, removals
}

func TestDismissedEventsAreJournaledAndGo(t *testing.T) {
	k := newKeeping(t)
	old := k.event(t, "old", 50*time.Hour, v1alpha1.OutcomeDismissed, v1alpha1.OutcomeDeferred)
	k.decision(t, "old-because", "old", true)
	k.event(t, "young", 47*time.Hour, v1alpha1.OutcomeDismissed)
	k.event(t, "deferred", 500*time.Hour, v1alpha1.OutcomeDeferred)
	k.event(t, "joined", 500*time.Hour, v1alpha1.OutcomeJoined)
	k.event(t, "detached", 500*time.Hour, v1alpha1.OutcomeDismissed, v1alpha1.OutcomePromoted, v1alpha1.OutcomeDeferred)
	detached := k.detachedFrom(t, "left", "detached")
	k.event(t, "undecided", 500*time.Hour, v1alpha1.OutcomeDismissed)
	pending := k.decision(t, "undecided-yet", "undecided", false)

	// Without a plan nothing is deleted.
	key := ctrl.Request{NamespacedName: client.ObjectKey{Namespace: k.namespace, Name: v1alpha1.ResponsePlanName}}
	if result, err := k.retention.Reconcile(t.Context(), key); err != nil || result.RequeueAfter != 0 {
		t.Errorf("without a plan: %+v, %v", result, err)
	}
	k.await(t, "deferred", "detached", "joined", "old", "old-because", "undecided", "undecided-yet", "young")
	k.plan(t)
	k.answer(t, pending)
	k.await(t, "deferred", "detached", "joined", "young")

	names, removals := k.journaled(t)
	slices.Sort(names)
	if diff := cmp.Diff([]string{"old", "old-because", "undecided", "undecided-yet"}, names); diff != "" {
		t.Errorf("journaled (-want +got):\n%s", diff)
	}
	got := removals["old"]
	if got.UID != old.UID || got.Kind != "SecurityEvent" || got.Because != "retention.dismissedEvents: 48h0m0s" || got.Event.Occurrences != 3 ||
		got.Event.SubmittedBy != old.Spec.SubmittedBy || got.Event.Assessment.Rule != "noise" || len(got.Event.EarlierAssessments) != 1 {
		t.Errorf("got the removal %+v of %+v", got, got.Event)
	}
	if got := removals["old-because"]; got.Decision.By != "jane" || got.Answer.Status != metav1.ConditionTrue {
		t.Errorf("got the removal %+v", got)
	}

	// The next goes when its hour is over, and its journal follows the one before.
	k.clock.SetTime(k.clock.Now().Add(3 * time.Hour))
	eventually(t, func(ctx context.Context) string {
		if _, err := k.retention.Reconcile(ctx, key); err != nil {
			return err.Error()
		}
		left, err := k.left(ctx)
		return fmt.Sprint(cmp.Diff([]string{"deferred", "detached", "joined"}, left), errText(err))
	})
	if names, _ := k.journaled(t); len(names) != 5 || names[4] != "young" {
		t.Errorf("journaled %q", names)
	}

	// Once no incident names it, what was detached goes too.
	if err := testClient.Delete(t.Context(), detached); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) string {
		if _, err := k.retention.Reconcile(ctx, key); err != nil {
			return err.Error()
		}
		left, err := k.left(ctx)
		return cmp.Diff([]string{"deferred", "joined"}, left) + errText(err)
	})
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRetentionWaitsUntilTheHourIsOver(t *testing.T) {
	at := time.Date(2026, 11, 21, 16, 20, 0, 0, time.UTC)
	hour := at.Unix() / 3600
	if got, want := expiryOf(hour, 48*time.Hour), time.Date(2026, 11, 23, 17, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("got %s, want %s: all that was dismissed in the hour must be over", got, want)
	}
	hours := knownHours{}
	if !hours.note("a", 7) || hours.note("a", 7) || !hours.note("a", 5) || !hours.note("b", 1) {
		t.Error("an hour is new once in each namespace")
	}
	if got := hours.of("a"); !slices.Equal(got, []int64{5, 7}) {
		t.Errorf("got %d", got)
	}
	hours.forget("a", 5)
	hours.forget("a", 7)
	if len(hours.of("a")) != 0 {
		t.Error("there must be none")
	}
}

// crash kills the manager between a journal of five events and the last three deletions. It
// gives the names of the three.
func (k *keeping) crash(t *testing.T) (left []string) {
	t.Helper()
	for i := range 5 {
		k.event(t, fmt.Sprintf("old-%d", i), 50*time.Hour, v1alpha1.OutcomeDismissed)
	}
	// All of them are in the cache before there is a plan, or the journal would have fewer.
	eventually(t, func(ctx context.Context) string {
		list := &v1alpha1.SecurityEventList{}
		if err := k.retention.Client.List(ctx, list, client.InNamespace(k.namespace), client.MatchingFields{indexDismissedHour: fmt.Sprint(k.clock.Now().Add(-50*time.Hour).Unix() / 3600)}); err != nil {
			return err.Error()
		}
		if len(list.Items) != 5 {
			return fmt.Sprintf("the cache knows %d", len(list.Items))
		}
		return ""
	})
	k.dies.Store(2)
	k.plan(t)
	eventually(t, func(ctx context.Context) (problem string) {
		var err error
		if left, err = k.left(ctx); err != nil || len(left) != 3 || k.dies.Load() >= 0 {
			return fmt.Sprintf("left are %q, %v", left, err)
		}
		return ""
	})
	k.stop()
	k.dies.Store(1 << 40)
	return left
}

// changeStatus changes the status of an event.
func (k *keeping) changeStatus(t *testing.T, name string, change func(*v1alpha1.SecurityEventStatus)) {
	t.Helper()
	event := &v1alpha1.SecurityEvent{}
	if err := testClient.Get(t.Context(), client.ObjectKey{Namespace: k.namespace, Name: name}, event); err != nil {
		t.Fatal(err)
	}
	change(&event.Status)
	if err := testClient.Status().Update(t.Context(), event); err != nil {
		t.Fatal(err)
	}
}

// incident creates an incident that an event has opened.
func (k *keeping) incident(t *testing.T, event string) {
	t.Helper()
	mustCreate(t, &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Name: "of-" + event, Namespace: k.namespace},
		Spec: v1alpha1.IncidentSpec{
			Title: "A shell", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion, SubmittedBy: "jane",
			Mode: k.mode, EventRefs: []v1alpha1.EventReference{{Name: event}},
		},
	})
}

// TestRetentionSurvivesACrash kills the manager between a journal and the last of its
// deletions: the next one ends what was begun, and nothing is journaled twice.
func TestRetentionSurvivesACrash(t *testing.T) {
	k := newKeeping(t)
	kept := k.crash(t)[0]
	// One of them changes before the next manager comes: what is on record of it is not true any more.
	k.changeStatus(t, kept, func(status *v1alpha1.SecurityEventStatus) { status.Occurrences, status.Counters[0].Count = 9, 8 })
	k.start(t)
	k.await(t)
	names, removals := k.journaled(t)
	if len(names) != 6 || names[5] != kept || removals[kept].Event.Occurrences != 9 {
		t.Errorf("journaled %q: each must be once, but %s, which has changed, again", names, kept)
	}
}

// TestRetentionLooksAgainBeforeItDeletes has a person and an incident ask for events that a
// journal names already.
func TestRetentionLooksAgainBeforeItDeletes(t *testing.T) {
	k := newKeeping(t)
	left := k.crash(t)
	decision := k.decision(t, "wait", left[0], false)
	k.incident(t, left[1])
	k.start(t)
	k.await(t, left[0], left[1], "wait")
	k.answer(t, decision)
	k.await(t, left[1])
	names, _ := k.journaled(t)
	if diff := cmp.Diff([]string{left[0], "wait"}, names[min(5, len(names)):]); diff != "" {
		t.Errorf("journaled %q; after the crash (-want +got):\n%s", names, diff)
	}
}

func TestRetentionKeepsWhatIsNotAtRest(t *testing.T) {
	k := newKeeping(t)
	k.event(t, "named", 50*time.Hour, v1alpha1.OutcomeDismissed)
	k.incident(t, "named")
	k.event(t, "old", 49*time.Hour, v1alpha1.OutcomeDismissed)
	k.event(t, "repeats", 50*time.Hour, v1alpha1.OutcomeDismissed)
	k.changeStatus(t, "repeats", func(status *v1alpha1.SecurityEventStatus) { status.Counters[0].Count = 5 })
	k.clock.SetTime(k.clock.Now().Add(time.Hour))
	eventually(t, func(ctx context.Context) string {
		list := &v1alpha1.IncidentList{}
		if err := k.retention.Client.List(ctx, list, client.InNamespace(k.namespace), client.MatchingFields{indexIncidentEvents: "Live/named"}); err != nil || len(list.Items) != 1 {
			return fmt.Sprintf("the cache knows %d incidents, %v", len(list.Items), err)
		}
		one := &v1alpha1.SecurityEvent{}
		if err := k.retention.Client.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: "repeats"}, one); err != nil || occurrences(one.Status.Counters) != 6 {
			return fmt.Sprintf("the cache is behind: %v", err)
		}
		return ""
	})
	k.plan(t)
	// What must stay does not hold up what was dismissed later.
	k.await(t, "named", "repeats")
	k.changeStatus(t, "repeats", func(status *v1alpha1.SecurityEventStatus) { status.Occurrences = 6 })
	k.await(t, "named")
	if names, _ := k.journaled(t); !slices.Equal(names, []string{"old", "repeats"}) {
		t.Errorf("journaled %q", names)
	}
}

// TestRetentionOfWhatTheOtherModeNames: a drill that names what is live does not keep it, nor the
// other way round.
func TestRetentionOfWhatTheOtherModeNames(t *testing.T) {
	k := newKeeping(t)
	for _, mode := range []v1alpha1.Mode{v1alpha1.ModeLive, v1alpha1.ModeDrill} {
		name := strings.ToLower(string(mode))
		k.mode = mode
		k.event(t, name, 50*time.Hour, v1alpha1.OutcomeDismissed)
		k.event(t, name+"-kept", 50*time.Hour, v1alpha1.OutcomeDismissed)
		k.incident(t, name+"-kept")
		k.mode = map[v1alpha1.Mode]v1alpha1.Mode{v1alpha1.ModeLive: v1alpha1.ModeDrill, v1alpha1.ModeDrill: v1alpha1.ModeLive}[mode]
		k.incident(t, name)
	}
	eventually(t, func(ctx context.Context) string {
		list := &v1alpha1.IncidentList{}
		if err := k.retention.Client.List(ctx, list, client.InNamespace(k.namespace)); err != nil || len(list.Items) != 4 {
			return fmt.Sprintf("the cache knows %d incidents, %v", len(list.Items), err)
		}
		return ""
	})
	k.plan(t)
	k.await(t, "drill-kept", "live-kept")
}

// TestRetentionLeavesWhatTheCacheShowsWrong has the cache lag behind an event that has changed.
func TestRetentionLeavesWhatTheCacheShowsWrong(t *testing.T) {
	k := newKeeping(t)
	stale := k.event(t, "old", 50*time.Hour, v1alpha1.OutcomeDismissed)
	k.changeStatus(t, "old", func(status *v1alpha1.SecurityEventStatus) { status.Occurrences, status.Counters[0].Count = 4, 3 })
	head := &journalHead{journaled: map[types.UID]string{}}
	take := func(event *v1alpha1.SecurityEvent) taken {
		took, err := k.retention.takeDown(t.Context(), []v1alpha1.SecurityEvent{*event}, head, "a test")
		if err != nil {
			t.Fatal(err)
		}
		return took
	}
	took := take(stale)
	if len(took.removals) != 1 {
		t.Fatalf("took down %+v", took)
	}
	if err := k.retention.removeGroup(t.Context(), k.namespace, head, took.removals); err != nil {
		t.Fatal(err)
	}
	if took := take(stale); len(took.removals) != 0 || took.wait != conflictRetry {
		t.Errorf("after a conflict it took down %+v, must wait until the cache shows the change", took)
	}
	if err := testClient.Get(t.Context(), client.ObjectKeyFromObject(stale), stale); err != nil {
		t.Fatal(err)
	}
	if took := take(stale); len(took.removals) != 1 || took.removals[0].Event.Occurrences != 4 {
		t.Errorf("once the cache shows the change it took down %+v", took)
	}
}

// TestRetentionGoesOnAfterALostJournal loses the bytes of all journals in a crash.
func TestRetentionGoesOnAfterALostJournal(t *testing.T) {
	k := newKeeping(t)
	k.crash(t)
	store, err := evidence.OpenStore(t.Context(), "mem://", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	k.recorder.Store = store
	k.start(t)
	k.await(t)
	list, told := &v1alpha1.EvidenceList{}, &eventsv1.EventList{}
	if err := errors.Join(testClient.List(t.Context(), list, client.InNamespace(k.namespace)), testClient.List(t.Context(), told, client.InNamespace(k.namespace))); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.Evidence) int {
		return int(a.Spec.Journal.FirstSequence - b.Spec.Journal.FirstSequence)
	})
	if len(list.Items) != 2 || list.Items[1].Spec.Journal.FirstSequence != 6 || list.Items[1].Spec.Journal.Previous != list.Items[0].Spec.Journal.LastHash {
		t.Errorf("the journals are %+v: the second must follow the lost one", list.Items)
	}
	if len(told.Items) != 1 || told.Items[0].Reason != v1alpha1.ReasonRetentionJournalLost || told.Items[0].Regarding.UID != list.Items[0].UID {
		t.Errorf("told %+v", told.Items)
	}
}

// TestANewDomainHasANewChain has a domain of the same name leave the end of its chain.
func TestANewDomainHasANewChain(t *testing.T) {
	k := newKeeping(t)
	k.retention.heads = map[string]*journalHead{k.namespace: {domain: "another", known: true, last: &v1alpha1.JournalRange{LastSequence: 7, LastHash: audit.Origin}}}
	k.event(t, "old", 50*time.Hour, v1alpha1.OutcomeDismissed)
	k.plan(t)
	k.await(t)
	if names, _ := k.journaled(t); !slices.Equal(names, []string{"old"}) {
		t.Errorf("journaled %q", names)
	}
}
