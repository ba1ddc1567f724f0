package action_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/evidence"
)

func textRecord(key, text string) action.Record {
	return action.Record{
		Key:  key,
		Spec: v1alpha1.EvidenceSpec{Type: v1alpha1.EvidenceEvents, Method: "by hand", MediaType: "text/plain"},
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	}
}

func TestPreserveCarriesOnAfterACrash(t *testing.T) {
	w := newWorld(t, allRights)
	recorder := w.recorder()
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{}), w.pod("cart-1", nil, cartLabels))
	first, err := recorder.Preserve(t.Context(), request, textRecord("events", "one"))
	if err != nil {
		t.Fatal(err)
	}
	// As if the manager had been killed after the create and before the status.
	first.Status = v1alpha1.EvidenceStatus{}
	if err := admin.Status().Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	again, err := recorder.Preserve(t.Context(), request, textRecord("events", "two"))
	if err != nil {
		t.Fatal(err)
	}
	if again.UID != first.UID || again.Spec.Digest != first.Spec.Digest {
		t.Errorf("Preserve again gave %s, want the first: %s", again.Name, first.Name)
	}
	if !meta.IsStatusConditionTrue(again.Status.Conditions, v1alpha1.ConditionStored) || again.Status.Location == "" {
		t.Errorf("status was not made good: %+v", again.Status)
	}
	request.Attempt = 2
	other, err := recorder.Preserve(t.Context(), request, textRecord("events", "two"))
	if err != nil || other.Name == first.Name {
		t.Errorf("another attempt gave %v, %v; want Evidence of its own", other, err)
	}
}

func TestPreserveSaysThatBytesAreMissing(t *testing.T) {
	w := newWorld(t, allRights)
	recorder := w.recorder()
	directory := t.TempDir()
	store, err := evidence.OpenStore(t.Context(), "file://"+directory, "")
	if err != nil {
		t.Fatal(err)
	}
	recorder.Store = store
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{}), w.pod("cart-1", nil, cartLabels))
	made, err := recorder.Preserve(t.Context(), request, textRecord("events", "one"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(directory, filepath.FromSlash(made.Status.Location))); err != nil {
		t.Fatal(err)
	}
	made.Status = v1alpha1.EvidenceStatus{}
	if err := admin.Status().Update(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if _, err = recorder.Preserve(t.Context(), request, textRecord("events", "one")); !errors.Is(err, evidence.ErrNotStored) {
		t.Errorf("Preserve() = %v, want ErrNotStored", err)
	}
	w.get(made)
	if stored := meta.FindStatusCondition(made.Status.Conditions, v1alpha1.ConditionStored); stored == nil || stored.Reason != v1alpha1.ReasonMissing || stored.Status != metav1.ConditionFalse {
		t.Errorf("Stored is %+v, want False for Missing", stored)
	}
}

func TestPreserveDoesNotTrustATakenName(t *testing.T) {
	w := newWorld(t, allRights)
	recorder := w.recorder()
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{}), w.pod("cart-1", nil, cartLabels))
	made, err := recorder.Preserve(t.Context(), request, textRecord("events", "one"))
	if err != nil {
		t.Fatal(err)
	}
	w.delete(made)
	forged := &v1alpha1.Evidence{ObjectMeta: metav1.ObjectMeta{Namespace: made.Namespace, Name: made.Name}, Spec: made.Spec}
	forged.Spec.CollectedBy = "mallory"
	w.create(forged)
	honest, err := recorder.Preserve(t.Context(), request, textRecord("events", "one"))
	if err != nil {
		t.Fatal(err)
	}
	if honest.Name == forged.Name || honest.Spec.CollectedBy != w.user {
		t.Errorf("Preserve gave %s of %s", honest.Name, honest.Spec.CollectedBy)
	}
	w.get(forged)
	if len(forged.Status.Conditions) > 0 {
		t.Error("what somebody else made must not be marked as stored")
	}
}

func TestPreserveFitsLongNames(t *testing.T) {
	w := newWorld(t, allRights)
	recorder := w.recorder()
	request := w.request(w.incident(strings.Repeat("a", 253)), collectStep(v1alpha1.CollectAction{}), w.pod("cart-1", nil, cartLabels))
	made, err := recorder.Preserve(t.Context(), request, textRecord("events", "one"))
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Name) > 253 || len(made.Labels["firebreak.dev/incident"]) > 63 {
		t.Errorf("name of %d, label of %d characters", len(made.Name), len(made.Labels["firebreak.dev/incident"]))
	}
	isolating := w.request(request.Incident, isolateStep(), w.pod("cart-2", nil, cartLabels))
	w.plan(isolating)
	w.expect("Apply", do(t, "isolate").Apply(t.Context(), isolating), v1alpha1.TargetSucceeded)
	w.expect("Undo", do(t, "isolate").Undo(t.Context(), isolating), v1alpha1.TargetReverted)
	if left := w.policies(); len(left) > 0 {
		t.Errorf("policies left behind: %v", left)
	}
}

// brokenLogs gives a log that breaks off.
type brokenLogs struct{}

func (brokenLogs) OpenLog(context.Context, string, string, *corev1.PodLogOptions) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("half a li"), iotest.ErrReader(errors.New("connection reset")))), nil
}

func TestCollectKeepsTheBeginningOfALogThatBreaksOff(t *testing.T) {
	w := newWorld(t, allRights)
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{Objects: v1alpha1.ObjectsNone, Events: v1alpha1.Exclude, Logs: &v1alpha1.CollectLogs{}}),
		w.pod("cart-1", nil, cartLabels))
	recorder := w.recorder()
	request.Evidence, request.Logs = recorder, brokenLogs{}
	w.expect("Apply", do(t, "collect").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "kept: log of container cart")
	objects, contents := w.kept(recorder)
	spec := objects["Log/cart"].Spec
	if contents["Log/cart"] != "half a li" || *spec.SizeBytes != 9 || !strings.HasSuffix(spec.Method, "; broke off after 9 bytes") {
		t.Errorf("kept %q, %d bytes, method %q", contents["Log/cart"], *spec.SizeBytes, spec.Method)
	}
}

func TestSealJournal(t *testing.T) {
	w := newWorld(t, allRights)
	recorder := w.recorder()
	incident := w.incident("inc-1")
	for i := range 5 {
		entry := v1alpha1.TimelineEntry{Time: metav1.NewTime(now), Actor: managerName, Action: "Something", Message: fmt.Sprintf("entry %d <&>", i)}
		if err := audit.Append(&incident.Status, entry); err != nil {
			t.Fatal(err)
		}
	}
	timeline := incident.Status.Timeline
	sealed, err := recorder.SealJournal(t.Context(), incident, timeline[:3])
	if err != nil {
		t.Fatal(err)
	}
	want := &v1alpha1.JournalRange{FirstSequence: 1, LastSequence: 3, Previous: audit.Origin, LastHash: timeline[2].Hash}
	if diff := cmp.Diff(want, sealed.Spec.Journal); diff != "" || sealed.Name != "inc-1-journal-1" || sealed.Spec.CollectedBy != managerName {
		t.Errorf("%s by %s, range (-want +got):\n%s", sealed.Name, sealed.Spec.CollectedBy, diff)
	}
	_, contents := w.kept(recorder)
	entries, err := evidence.ReadJournal(strings.NewReader(contents["Journal"]))
	if err != nil {
		t.Fatal(err)
	}
	if err := audit.VerifyEntries(entries, audit.Origin, 0); err != nil || len(entries) != 3 {
		t.Errorf("%d entries read back: %v", len(entries), err)
	}
	// As if the manager had been killed before it recorded the seal, and more has happened since.
	again, err := recorder.SealJournal(t.Context(), incident, timeline)
	if err != nil || again.UID != sealed.UID || again.Spec.Journal.LastSequence != 3 {
		t.Errorf("SealJournal again gave %+v, %v; want the first", again, err)
	}
	next, err := recorder.SealJournal(t.Context(), incident, timeline[3:])
	if err != nil || next.Name != "inc-1-journal-4" || next.Spec.Journal.Previous != timeline[2].Hash {
		t.Errorf("the next journal: %+v, %v", next, err)
	}
	if _, err := recorder.SealJournal(t.Context(), incident, []v1alpha1.TimelineEntry{timeline[0], timeline[2]}); err == nil || !strings.Contains(err.Error(), "entry 3 does not follow entry 1") {
		t.Errorf("SealJournal with a gap = %v, want it refused", err)
	}
	if _, err := recorder.SealJournal(t.Context(), incident, nil); err == nil {
		t.Error("SealJournal of nothing must be refused")
	}
}

func TestSealJournalDoesNotTrustATakenName(t *testing.T) {
	w := newWorld(t, allRights)
	recorder := w.recorder()
	incident := w.incident("inc-1")
	if err := audit.Append(&incident.Status, v1alpha1.TimelineEntry{Time: metav1.NewTime(now), Actor: managerName, Action: "Something"}); err != nil {
		t.Fatal(err)
	}
	sealed, err := recorder.SealJournal(t.Context(), incident, incident.Status.Timeline)
	if err != nil {
		t.Fatal(err)
	}
	w.delete(sealed)
	forged := &v1alpha1.Evidence{ObjectMeta: metav1.ObjectMeta{Namespace: sealed.Namespace, Name: sealed.Name}, Spec: sealed.Spec}
	forged.Spec.CollectedBy = "mallory"
	w.create(forged)
	honest, err := recorder.SealJournal(t.Context(), incident, incident.Status.Timeline)
	if err != nil || honest.Name == forged.Name {
		t.Errorf("SealJournal gave %v, %v; want another name", honest, err)
	}
}

func TestPreserveNeedsTheNamespace(t *testing.T) {
	w := newWorld(t, allRights)
	recorder := w.recorder()
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{}), w.pod("cart-1", nil, cartLabels))
	request.Incident.Namespace = "no-such-namespace"
	if _, err := recorder.Preserve(t.Context(), request, textRecord("events", "one")); err == nil || !strings.Contains(err.Error(), "the UID of namespace 'no-such-namespace'") {
		t.Errorf("Preserve() = %v, want it to name the namespace", err)
	}
	list := &v1alpha1.EvidenceList{}
	if err := admin.List(t.Context(), list, client.InNamespace(w.domain)); err != nil || len(list.Items) > 0 {
		t.Errorf("%d Evidence, %v; want none", len(list.Items), err)
	}
}
