package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// noted is where the plan says that the journals end.
func (k *keeping) noted(ctx context.Context, reader client.Reader) (v1alpha1.RetentionHead, error) {
	plan := &v1alpha1.ResponsePlan{}
	err := reader.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: v1alpha1.ResponsePlanName}, plan)
	return plan.Status.Retention, err
}

// TestTheEndIsNotedBeforeAnythingGoes has noting fail for a while, and then a manager find a plan
// that tells of no end, as an earlier version leaves it.
func TestTheEndIsNotedBeforeAnythingGoes(t *testing.T) {
	k := newKeeping(t)
	const many = 1 << 40
	k.unnoted.Store(many)
	k.event(t, "old", 50*time.Hour, v1alpha1.OutcomeDismissed)
	k.plan(t)
	eventually(t, func(context.Context) string {
		if failed := many - k.unnoted.Load(); failed < 3 {
			return fmt.Sprintf("noting the end was tried %d times", failed)
		}
		return ""
	})
	k.await(t, "old")
	k.unnoted.Store(0)
	k.awaitThere(t)
	names, removals := k.journaled(t)
	want := v1alpha1.RetentionHead{Sequence: 1, Hash: removals["old"].Hash}
	if got, err := k.noted(t.Context(), testClient); err != nil || got != want || len(names) != 1 {
		t.Fatalf("journaled %q, and the plan says %+v, %v; want %+v", names, got, err, want)
	}
	k.stop()
	plan := &v1alpha1.ResponsePlan{ObjectMeta: metav1.ObjectMeta{Namespace: k.namespace, Name: v1alpha1.ResponsePlanName}}
	if err := testClient.Status().Patch(t.Context(), plan, client.RawPatch(types.MergePatchType, []byte(`{"status":{"retention":null}}`))); err != nil {
		t.Fatal(err)
	}
	k.start(t)
	eventually(t, func(ctx context.Context) string {
		got, err := k.noted(ctx, testClient)
		if err == nil && got != want {
			return fmt.Sprintf("the plan says %+v, want %+v", got, want)
		}
		return errText(err)
	})
}

// TestTheLastJournalIsMissed has somebody take the last journal away: the plan tells where the
// chain has ended, and the next journal follows that.
func TestTheLastJournalIsMissed(t *testing.T) {
	k := newKeeping(t)
	k.event(t, "first", 50*time.Hour, v1alpha1.OutcomeDismissed)
	k.event(t, "second", 46*time.Hour, v1alpha1.OutcomeDismissed)
	k.event(t, "third", 42*time.Hour, v1alpha1.OutcomeDismissed)
	k.plan(t)
	k.await(t, "second", "third")
	k.clock.SetTime(k.clock.Now().Add(4 * time.Hour))
	k.awaitThere(t, "third")
	journal := &v1alpha1.Evidence{}
	if err := testClient.Get(t.Context(), client.ObjectKey{Namespace: k.namespace, Name: "retention-2"}, journal); err != nil {
		t.Fatal(err)
	}
	want := v1alpha1.RetentionHead{Sequence: 2, Hash: journal.Spec.Journal.LastHash}
	if got, err := k.noted(t.Context(), testClient); err != nil || got != want {
		t.Fatalf("the plan says %+v, %v; want %+v", got, err, want)
	}
	k.stop()
	if err := testClient.Delete(t.Context(), journal); err != nil {
		t.Fatal(err)
	}
	k.start(t)
	eventually(t, func(ctx context.Context) string {
		got, err := k.noted(ctx, k.retention.Client)
		if err == nil && got != want {
			return "the cache is behind"
		}
		return errText(err)
	})
	k.awaitThere(t, "third")
	if told := k.told(t, v1alpha1.ReasonRetentionJournalLost); len(told) != 1 || !strings.Contains(told[0], "end with removal 1, but `status.retention` tells of 2") {
		t.Errorf("told %q", told)
	}
	k.clock.SetTime(k.clock.Now().Add(4 * time.Hour))
	k.awaitThere(t)
	next := &v1alpha1.Evidence{}
	if err := testClient.Get(t.Context(), client.ObjectKey{Namespace: k.namespace, Name: "retention-3"}, next); err != nil {
		t.Fatal(err)
	}
	if got := next.Spec.Journal; got.FirstSequence != 3 || got.Previous != want.Hash {
		t.Errorf("the next journal is %+v: it must follow the one that is missing, %+v", got, want)
	}
}
