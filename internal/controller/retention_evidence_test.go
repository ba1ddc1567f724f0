package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/evidence"
)

func hoursOf(hours int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(hours) * time.Hour}
}

// kept creates evidence of an incident that was collected some time ago, and stores its bytes.
func (k *keeping) kept(t *testing.T, name, incident, text string, ago time.Duration) *v1alpha1.Evidence {
	t.Helper()
	namespace := &corev1.Namespace{}
	if err := testClient.Get(t.Context(), client.ObjectKey{Name: k.namespace}, namespace); err != nil {
		t.Fatal(err)
	}
	stored, err := k.recorder.Store.Put(t.Context(), namespace.UID, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	piece := &v1alpha1.Evidence{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: k.namespace},
		Spec: v1alpha1.EvidenceSpec{
			IncidentRef: v1alpha1.IncidentReference{Name: incident}, Type: v1alpha1.EvidenceLog, Method: "logs",
			Tool: v1alpha1.EvidenceTool{Name: evidence.ToolName, Version: "test"}, CollectedTime: metav1.NewTime(k.clock.Now().Add(-ago)),
			CollectedBy: "system:serviceaccount:x:responder", Digest: stored.Digest, SizeBytes: &stored.SizeBytes, MediaType: "text/plain",
		},
	}
	mustCreate(t, piece)
	piece.Status.Location = stored.Location
	if err := testClient.Status().Update(t.Context(), piece); err != nil {
		t.Fatal(err)
	}
	return piece
}

// pieces are the names of the evidence that is there, but retention journals.
func (k *keeping) pieces(ctx context.Context) ([]string, error) {
	list := &v1alpha1.EvidenceList{}
	if err := testClient.List(ctx, list, client.InNamespace(k.namespace)); err != nil {
		return nil, err
	}
	var names []string
	for i := range list.Items {
		if list.Items[i].Spec.Type != v1alpha1.EvidenceRetentionJournal {
			names = append(names, list.Items[i].Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// awaitPieces has retention look until just this evidence is left.
func (k *keeping) awaitPieces(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, func(ctx context.Context) string {
		if problem := k.look(ctx); problem != "" {
			return problem
		}
		got, err := k.pieces(ctx)
		return cmp.Diff(want, got) + errText(err)
	})
}

// bytes says whether the bytes of evidence are in the store.
func (k *keeping) bytes(t *testing.T, piece *v1alpha1.Evidence, want bool) {
	t.Helper()
	err := k.recorder.Store.Check(t.Context(), piece.Status.Location, piece.Spec.Digest)
	if (err == nil) != want || err != nil && !errors.Is(err, evidence.ErrNotStored) {
		t.Errorf("the bytes of %s: are there must be %t, but: %v", piece.Name, want, err)
	}
}

// TestEvidenceGoesWithItsBytes has evidence go before its incident, with it, and after it.
func TestEvidenceGoesWithItsBytes(t *testing.T) {
	k := newKeeping(t)
	over := k.closed(t, "over", 50*time.Hour)
	k.closed(t, "young", 20*time.Hour)
	k.closed(t, "open", 0, func(i *v1alpha1.Incident) { i.Status.Phase = v1alpha1.PhaseReview })
	log := k.kept(t, "over-log", "over", "a log", 60*time.Hour)
	shared := k.kept(t, "over-shared", "over", "the same", 60*time.Hour)
	k.kept(t, "young-shared", "young", "the same", 30*time.Hour)
	ofOpen := k.kept(t, "open-log", "open", "another log", 500*time.Hour)
	orphan := k.kept(t, "orphan", "purged", "a third log", 60*time.Hour)
	k.kept(t, "young-orphan", "purged", "a fourth log", 20*time.Hour)
	now := k.clock.Now()
	k.clock.SetTime(now.Add(-50 * time.Hour))
	sealed, err := k.recorder.SealJournal(t.Context(), over, over.Status.Timeline)
	if err != nil {
		t.Fatal(err)
	}
	k.clock.SetTime(now)
	byHand := k.kept(t, "by-hand", "over", "a photograph", 500*time.Hour)
	byHand.Status.Location = ""
	if err := testClient.Status().Update(t.Context(), byHand); err != nil {
		t.Fatal(err)
	}
	k.planFor(t, v1alpha1.PlanRetention{Evidence: hoursOf(48)})
	k.awaitPieces(t, "by-hand", "open-log", sealed.Name, "young-orphan", "young-shared")
	k.awaitThere(t, "open", "over", "young")
	k.settle(t)
	for piece, want := range map[*v1alpha1.Evidence]bool{log: false, orphan: false, shared: true, ofOpen: true, sealed: true} {
		k.bytes(t, piece, want)
	}
	names, removals := k.journaled(t)
	slices.Sort(names)
	if diff := cmp.Diff([]string{"orphan", "over-log", "over-shared"}, names); diff != "" {
		t.Errorf("journaled (-want +got):\n%s", diff)
	}
	if got := removals["over-log"]; got.Evidence == nil || got.Evidence.Digest != log.Spec.Digest || got.Location != log.Status.Location || got.With != "" {
		t.Errorf("got the removal %+v", got)
	}

	// The incident goes, and what seals its timeline with it, just before it.
	k.changePlan(t, v1alpha1.PlanRetention{ClosedIncidents: hoursOf(48), Evidence: hoursOf(48)})
	k.awaitThere(t, "open", "young")
	k.settle(t)
	k.bytes(t, sealed, false)
	names, removals = k.journaled(t)
	if got := removals["over"]; !slices.Equal(names[3:], []string{sealed.Name, "over"}) || removals[sealed.Name].With != "over" ||
		len(got.Incident.Evidence) != 2 || got.Incident.Audit.HeadHash != removals[sealed.Name].Evidence.Journal.LastHash {
		t.Errorf("journaled %q, and %+v", names, got.Incident)
	}
	k.awaitPieces(t, "by-hand", "open-log", "young-orphan", "young-shared")

	// The last that has the same bytes takes them along.
	k.clock.SetTime(k.clock.Now().Add(40 * time.Hour))
	k.awaitPieces(t, "by-hand", "open-log")
	k.awaitThere(t, "open")
	k.settle(t)
	k.bytes(t, shared, false)
	k.bytes(t, ofOpen, true)
}

// settle waits until the manager is done with what it was doing.
func (k *keeping) settle(t *testing.T) {
	t.Helper()
	eventually(t, k.look)
}

func (k *keeping) changePlan(t *testing.T, retention v1alpha1.PlanRetention) {
	t.Helper()
	plan := &v1alpha1.ResponsePlan{}
	if err := testClient.Get(t.Context(), client.ObjectKey{Namespace: k.namespace, Name: v1alpha1.ResponsePlanName}, plan); err != nil {
		t.Fatal(err)
	}
	plan.Spec.Retention = retention
	if err := testClient.Update(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
}

// TestEvidenceOutlivesItsIncident has evidence go later than its incident, by what one manager
// remembers and what the next finds.
func TestEvidenceOutlivesItsIncident(t *testing.T) {
	k := newKeeping(t)
	over := k.closed(t, "over", 50*time.Hour)
	k.kept(t, "first", "over", "a log", 95*time.Hour)
	k.kept(t, "second", "over", "another log", 90*time.Hour)
	sealed, err := k.recorder.SealJournal(t.Context(), over, over.Status.Timeline)
	if err != nil {
		t.Fatal(err)
	}
	k.planFor(t, v1alpha1.PlanRetention{ClosedIncidents: hoursOf(48), Evidence: hoursOf(100)})
	k.awaitThere(t)
	k.awaitPieces(t, "first", sealed.Name, "second")
	k.clock.SetTime(k.clock.Now().Add(7 * time.Hour))
	k.awaitPieces(t, sealed.Name, "second")
	k.stop()
	k.clock.SetTime(k.clock.Now().Add(5 * time.Hour))
	k.start(t)
	k.awaitPieces(t, sealed.Name)
	k.clock.SetTime(k.clock.Now().Add(100 * time.Hour))
	k.awaitPieces(t)
	if names, _ := k.journaled(t); !slices.Equal(names, []string{"over", "first", "second", sealed.Name}) {
		t.Errorf("journaled %q", names)
	}
}

// TestRetentionRemovesBytesAfterACrash kills the manager between Evidence and its bytes.
func TestRetentionRemovesBytesAfterACrash(t *testing.T) {
	k := newKeeping(t)
	k.closed(t, "over", 50*time.Hour)
	log := k.kept(t, "log", "over", "a log", 60*time.Hour)
	k.keepsBytes.Store(true)
	k.planFor(t, v1alpha1.PlanRetention{ClosedIncidents: hoursOf(48), Evidence: hoursOf(48)})
	eventually(t, func(ctx context.Context) string {
		pieces, err := k.pieces(ctx)
		there, failed := k.there(ctx)
		return cmp.Diff([]string(nil), append(pieces, there...)) + errText(err) + errText(failed)
	})
	k.stop()
	k.bytes(t, log, true)
	k.keepsBytes.Store(false)
	k.start(t)
	eventually(t, func(ctx context.Context) string {
		k.look(ctx)
		if err := k.recorder.Store.Check(ctx, log.Status.Location, log.Spec.Digest); !errors.Is(err, evidence.ErrNotStored) {
			return "the bytes are there: " + errText(err)
		}
		return ""
	})
	if names, _ := k.journaled(t); !slices.Equal(names, []string{"log", "over"}) {
		t.Errorf("journaled %q: each must be once", names)
	}
}

// TestRetentionKeepsEvidenceOfWhatIsNeeded has an incident refer to the one that evidence is of.
func TestRetentionKeepsEvidenceOfWhatIsNeeded(t *testing.T) {
	k := newKeeping(t)
	k.closed(t, "over", 50*time.Hour)
	k.kept(t, "log", "over", "a log", 60*time.Hour)
	again := k.closed(t, "again", 0, func(i *v1alpha1.Incident) {
		i.Spec.RelatedTo.Name, i.Status.Phase = "over", v1alpha1.PhaseContainment
	})
	eventually(t, func(ctx context.Context) string {
		return errText(k.retention.Client.Get(ctx, client.ObjectKeyFromObject(again), &v1alpha1.Incident{}))
	})
	k.planFor(t, v1alpha1.PlanRetention{Evidence: hoursOf(48)})
	eventually(t, func(context.Context) string {
		if len(k.told(t, v1alpha1.ReasonRetentionKept)) == 0 {
			return "nobody was told"
		}
		return ""
	})
	k.awaitPieces(t, "log")
	again.Status.Phase = v1alpha1.PhaseClosed
	if err := testClient.Status().Update(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	k.awaitPieces(t)
}

// TestRetentionKeepsEvidenceOfWhatIsGone has a lesson, an open incident and a legal hold ask for
// evidence whose incident was deleted by a person, and for an incident by its evidence.
func TestRetentionKeepsEvidenceOfWhatIsGone(t *testing.T) {
	k := newKeeping(t)
	hold := func(piece *v1alpha1.Evidence, status metav1.ConditionStatus) {
		t.Helper()
		piece.Status.Conditions = []metav1.Condition{{Type: "LegalHold", Status: status, Reason: "Court", LastTransitionTime: metav1.NewTime(k.clock.Now())}}
		if err := testClient.Status().Update(t.Context(), piece); err != nil {
			t.Fatal(err)
		}
	}
	k.kept(t, "taught-log", "taught", "a log", 60*time.Hour)
	k.kept(t, "related-log", "related", "another log", 60*time.Hour)
	k.kept(t, "free-log", "free", "a third log", 60*time.Hour)
	orphan := k.kept(t, "held-log", "purged", "a fourth log", 60*time.Hour)
	k.closed(t, "over", 50*time.Hour)
	k.kept(t, "over-free", "over", "a fifth log", 60*time.Hour)
	held := k.kept(t, "over-held", "over", "a sixth log", 60*time.Hour)
	hold(orphan, metav1.ConditionTrue)
	hold(held, metav1.ConditionTrue)
	lesson := &v1alpha1.LessonLearned{
		ObjectMeta: metav1.ObjectMeta{Name: "lesson-of-two", Namespace: k.namespace},
		Spec:       v1alpha1.LessonLearnedSpec{IncidentRefs: []v1alpha1.IncidentReference{{Name: "taught"}}},
	}
	mustCreate(t, lesson)
	again := k.closed(t, "again", 0, func(i *v1alpha1.Incident) {
		i.Spec.RelatedTo.Name, i.Status.Phase = "related", v1alpha1.PhaseContainment
	})
	eventually(t, func(ctx context.Context) string {
		return errText(errors.Join(k.retention.Client.Get(ctx, client.ObjectKeyFromObject(again), &v1alpha1.Incident{}),
			k.retention.Client.Get(ctx, client.ObjectKeyFromObject(lesson), &v1alpha1.LessonLearned{})))
	})
	k.planFor(t, v1alpha1.PlanRetention{ClosedIncidents: hoursOf(48), Evidence: hoursOf(48)})
	all := []string{"held-log", "over-free", "over-held", "related-log", "taught-log"}
	k.awaitPieces(t, all...)
	k.settle(t)
	k.awaitPieces(t, all...)
	k.awaitThere(t, "again", "over")

	hold(orphan, metav1.ConditionFalse)
	hold(held, metav1.ConditionFalse)
	lesson.Spec.RootCause.Category = "Misconfiguration"
	again.Status.Phase = v1alpha1.PhaseClosed
	if err := errors.Join(testClient.Update(t.Context(), lesson), testClient.Status().Update(t.Context(), again)); err != nil {
		t.Fatal(err)
	}
	k.awaitPieces(t)
	k.awaitThere(t, "again")
}
