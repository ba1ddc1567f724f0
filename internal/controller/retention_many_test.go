package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/evidence"
)

// TestEvidenceGoesInBatches has more pieces go than one journal is about, before their incident,
// with it, and after it.
func TestEvidenceGoesInBatches(t *testing.T) {
	const pieces = removalBatch + 3
	for name, test := range map[string]struct {
		incident string // that there is
		plan     v1alpha1.PlanRetention
		want     []int64 // how many objects each journal is about
	}{
		"before": {"over", v1alpha1.PlanRetention{Evidence: hoursOf(48)}, []int64{removalBatch, 3}},
		"with":   {"over", v1alpha1.PlanRetention{Evidence: hoursOf(48), ClosedIncidents: hoursOf(48)}, []int64{removalBatch, 4}},
		"after":  {"another", v1alpha1.PlanRetention{Evidence: hoursOf(48)}, []int64{removalBatch, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeeping(t)
			k.closed(t, test.incident, 50*time.Hour)
			var all []*v1alpha1.Evidence
			for i := range pieces {
				all = append(all, k.kept(t, fmt.Sprintf("log-%03d", i), "over", fmt.Sprintf("log %d", i), 60*time.Hour))
			}
			eventually(t, func(ctx context.Context) string {
				return errText(k.retention.Client.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: test.incident}, &v1alpha1.Incident{}))
			})
			k.planFor(t, test.plan)
			k.awaitPieces(t)
			k.settle(t)
			names, removals := k.journaled(t)
			if len(names) != len(removals) {
				t.Errorf("journaled %d removals of %d objects: each must be once", len(names), len(removals))
			}
			if diff := cmp.Diff(test.want, k.journals(t)); diff != "" {
				t.Errorf("what the journals are about (-want +got):\n%s", diff)
			}
			for _, piece := range all {
				k.bytes(t, piece, false)
			}
		})
	}
}

// journals says how many objects each journal is about, in their order.
func (k *keeping) journals(t *testing.T) []int64 {
	t.Helper()
	list := &v1alpha1.EvidenceList{}
	if err := testClient.List(t.Context(), list, client.InNamespace(k.namespace), client.HasLabels{v1alpha1.LabelJournal}); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.Evidence) int {
		return int(a.Spec.Journal.FirstSequence - b.Spec.Journal.FirstSequence)
	})
	var about []int64
	for i := range list.Items {
		about = append(about, list.Items[i].Spec.Journal.LastSequence-list.Items[i].Spec.Journal.FirstSequence+1)
	}
	return about
}

// TestPartsAreNotCopied: an incident may have thousands of events, which are looked at in every round.
func TestPartsAreNotCopied(t *testing.T) {
	k := newKeeping(t)
	incident := k.closed(t, "over", 50*time.Hour)
	k.joined(t, "first", "over")
	k.decision(t, "join-first", "first", true)
	look := func(ctx context.Context) (*incidentParts, string) {
		parts, err := k.retention.partsOf(ctx, incident)
		if err != nil || len(parts.Events) != 1 || len(parts.Decisions) != 1 {
			return nil, fmt.Sprintf("got %+v, %v", parts, err)
		}
		return parts, ""
	}
	eventually(t, func(ctx context.Context) string { _, problem := look(ctx); return problem })
	one, _ := look(t.Context())
	other, _ := look(t.Context())
	if &one.Events[0].Status.Counters[0] != &other.Events[0].Status.Counters[0] || &one.Decisions[0].Status.Conditions[0] != &other.Decisions[0].Status.Conditions[0] {
		t.Error("events and Decisions were copied")
	}
}

// anotherRemoves has another manager, which does not lead any more, remove bytes right when there
// is Evidence of them: it has looked before.
type anotherRemoves struct {
	client.Client
	store  *evidence.Store
	domain string
}

func (a anotherRemoves) Create(ctx context.Context, object client.Object, options ...client.CreateOption) error {
	err := a.Client.Create(ctx, object, options...)
	if made, ok := object.(*v1alpha1.Evidence); ok && err == nil {
		location := a.domain + "/" + strings.TrimPrefix(made.Spec.Digest, evidence.DigestPrefix)
		err = a.store.Remove(ctx, []string{location}, func(context.Context, []string) (map[string]bool, error) { return nil, nil })
	}
	return err
}

// TestBytesThatAnotherManagerRemovesAreStoredAgain has both on one volume.
func TestBytesThatAnotherManagerRemovesAreStoredAgain(t *testing.T) {
	k := newKeeping(t)
	namespace := &corev1.Namespace{}
	if err := testClient.Get(t.Context(), client.ObjectKey{Name: k.namespace}, namespace); err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	stores := make([]*evidence.Store, 0, 2)
	for range 2 {
		store, err := evidence.OpenStore(t.Context(), "file://"+directory, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		stores = append(stores, store)
	}
	incident := k.closed(t, "over", time.Hour)
	recorder := &evidence.Recorder{
		Client: anotherRemoves{testClient, stores[1], string(namespace.UID)}, Namespaces: testClient, Store: stores[0], Clock: k.clock, Manager: "manager", Version: "test",
	}
	sealed, err := recorder.SealJournal(t.Context(), incident, incident.Status.Timeline)
	if err != nil {
		t.Fatal(err)
	}
	if err := stores[0].Check(t.Context(), sealed.Status.Location, sealed.Spec.Digest); err != nil {
		t.Errorf("there is Evidence of the bytes, but: %v", err)
	}
}
