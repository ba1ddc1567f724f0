package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
)

// fullStore takes journals as long as it is not full.
type fullStore struct {
	full   bool
	sealed []v1alpha1.TimelineEntry
}

func (s *fullStore) SealJournal(_ context.Context, _ *v1alpha1.Incident, entries []v1alpha1.TimelineEntry) (*v1alpha1.Evidence, error) {
	if s.full {
		return nil, errors.New("no space left on device")
	}
	s.sealed = append(s.sealed, entries...)
	return &v1alpha1.Evidence{Spec: v1alpha1.EvidenceSpec{Journal: &v1alpha1.JournalRange{
		FirstSequence: entries[0].Sequence, LastSequence: entries[len(entries)-1].Sequence,
	}}}, nil
}

// unsealed is an incident whose timeline grows.
type unsealed struct {
	*testing.T
	*incidentRun
	store *fullStore
}

func newUnsealed(t *testing.T) *unsealed {
	t.Helper()
	incident := &v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Namespace: newDomain(t), Name: "inc-1"},
		Spec:       v1alpha1.IncidentSpec{Title: "Shell", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion},
	}
	mustCreate(t, incident)
	incident.Status.Phase = v1alpha1.PhaseContainment
	store := &fullStore{}
	reconciler := &IncidentReconciler{Client: testClient, Live: testClient, Journals: store, Clock: clock.RealClock{}}
	return &unsealed{t, &incidentRun{IncidentReconciler: reconciler, incident: incident, base: incident.DeepCopy()}, store}
}

// grow writes the incident with so many more entries.
func (u *unsealed) grow(count int, message string) error {
	for range count {
		if err := audit.Append(&u.incident.Status, v1alpha1.TimelineEntry{Time: metav1.Now(), Actor: "manager", Action: "Note", Message: message}); err != nil {
			u.Fatal(err)
		}
	}
	return u.write(u.Context())
}

func (u *unsealed) wantSealed(status metav1.ConditionStatus, says string) {
	u.Helper()
	stored := getIncident(u.T, u.incident.Namespace, u.incident.Name)
	if err := audit.Verify(&stored.Status); err != nil {
		u.Error(err)
	}
	found := meta.FindStatusCondition(stored.Status.Conditions, v1alpha1.ConditionTimelineSealed)
	if found == nil || found.Status != status || !strings.Contains(found.Message, says) {
		u.Errorf("%s is %+v, want %s, saying %q", v1alpha1.ConditionTimelineSealed, found, status, says)
	}
}

// TestTimelineGrowsWhileItCannotBeSealed: a full evidence volume keeps no incident from being
// carried on as long as its status has room, loses no entry, and is told of.
func TestTimelineGrowsWhileItCannotBeSealed(t *testing.T) {
	u := newUnsealed(t)
	u.store.full = true
	for u.incident.Status.Audit.Sequence+maxUnsaved <= sealBy {
		if err := u.grow(maxUnsaved, "as usual"); err != nil {
			t.Fatalf("with %d entries: %v", len(u.incident.Status.Timeline), err)
		}
	}
	u.wantSealed(metav1.ConditionFalse, "no space left on device")
	before := u.base.DeepCopy()
	if err := u.grow(maxUnsaved, "one too many"); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Fatalf("got the error %v with %d entries, want that they cannot be sealed", err, len(u.incident.Status.Timeline))
	}
	u.incident, u.base = before.DeepCopy(), before // what could not be written is decided anew
	u.store.full = false
	if err := u.grow(1, "there is room again"); err != nil {
		t.Fatal(err)
	}
	u.wantSealed(metav1.ConditionTrue, "sealed again")
	if err := audit.VerifyEntries(u.store.sealed, audit.Origin, 0); err != nil {
		t.Error(err)
	}
	status := &u.incident.Status
	if first, last := status.Timeline[0].Sequence, u.store.sealed[len(u.store.sealed)-1].Sequence; len(status.Timeline) >= sealAt || first != last+1 {
		t.Errorf("%d entries are left, from %d on; sealed are those up to %d", len(status.Timeline), first, last)
	}
}

// TestTimelineIsSealedInTime: without trouble nothing is said of it.
func TestTimelineIsSealedInTime(t *testing.T) {
	u := newUnsealed(t)
	for range 10 {
		if err := u.grow(maxUnsaved, "as usual"); err != nil {
			t.Fatal(err)
		}
	}
	if status := &u.incident.Status; len(status.Timeline) >= sealAt+maxUnsaved || len(status.Conditions) > 0 {
		t.Errorf("%d entries, conditions %+v; want fewer than %d and none", len(status.Timeline), status.Conditions, sealAt+maxUnsaved)
	}
}

// TestSealingThatFailsOnce: what passes before there are more entries than usual, nobody is told.
func TestSealingThatFailsOnce(t *testing.T) {
	u := newUnsealed(t)
	u.store.full = true
	for u.incident.Status.Audit.Sequence+maxUnsaved <= sealUsual {
		if err := u.grow(maxUnsaved, "as usual"); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(u.incident.Status.Timeline); got < sealAt {
		t.Fatalf("there are %d entries, want at least %d", got, sealAt)
	}
	u.store.full = false
	if err := u.grow(1, "there is room again"); err != nil {
		t.Fatal(err)
	}
	if status := &u.incident.Status; len(status.Timeline) >= sealAt || len(status.Conditions) > 0 {
		t.Errorf("%d entries, conditions %+v; want fewer than %d and none", len(status.Timeline), status.Conditions, sealAt)
	}
}

// TestRoomUnsealed: an incident stays writable also where its entries are long.
func TestRoomUnsealed(t *testing.T) {
	for name, one := range map[string]struct {
		count, length int
		targets       int // bytes
		want          bool
	}{
		"as ever":                       {64, 1024, 0, true},
		"many short ones":               {sealBy, 300, 0, true},
		"too many":                      {sealBy + 1, 1, 0, false},
		"long ones":                     {sealBy, 1024, 0, false},
		"beside as many targets as may": {sealBy, 300, 1_000_000, true},
		"the whole is too large":        {sealBy, 300, 1_350_000, false},
		"as ever, of what is too large": {64, 1024, 1_400_000, false},
	} {
		timeline := make([]v1alpha1.TimelineEntry, one.count)
		for i := range timeline {
			hash := fmt.Sprintf("%064d", i)
			timeline[i] = v1alpha1.TimelineEntry{Sequence: int64(i), Actor: "manager", Action: "Note", Message: strings.Repeat("x", one.length), Previous: hash, Hash: hash}
		}
		incident := &v1alpha1.Incident{Status: v1alpha1.IncidentStatus{Timeline: timeline}}
		for range one.targets / 1000 {
			incident.Status.Resources = append(incident.Status.Resources, v1alpha1.IncidentResource{ResourceReference: v1alpha1.ResourceReference{Name: strings.Repeat("x", 960)}})
		}
		if got := roomUnsealed(incident); got != one.want {
			t.Errorf("%s: got %t, want %t", name, got, one.want)
		}
	}
}
