package action_test

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/evidence"
)

// TestCollectOnAFullVolume: what is collected leaves alone what is kept for timelines and undo
// records, and says why; those are kept, and what was collected before is found again.
func TestCollectOnAFullVolume(t *testing.T) {
	w := newWorld(t, allRights)
	recorder := w.recorder()
	free := int64(4 << 30)
	recorder.Store.MeasureBy(func() (evidence.Space, error) { return evidence.Space{Bytes: 10 << 30, FreeBytes: free}, nil })
	reserve, err := evidence.ParseReserve("256Mi")
	if err != nil {
		t.Fatal(err)
	}
	recorder.Store.KeepFree(reserve)
	collect := do(t, "collect")
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{Objects: v1alpha1.ObjectsFull, Logs: &v1alpha1.CollectLogs{}}), w.pod("cart-1", nil, cartLabels))
	request.Evidence, request.Logs = recorder, brokenLogs{}
	w.expect("Apply", collect.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "kept: ")

	free = 255 << 20
	w.expect("Apply again", collect.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "kept: ")
	request.Attempt = 2
	full := collect.Apply(t.Context(), request)
	w.expect("Apply on a full volume", full, v1alpha1.TargetFailed, "evidence could not be kept: ", "has 255Mi left, and 256Mi are kept for timelines and undo records", "--evidence-reserve")
	if count := strings.Count(full.Message, "--evidence-reserve"); count != 1 || full.Permanent {
		t.Errorf("the message says it %d times, and it is tried again: %t; want once, and that it is: %s", count, !full.Permanent, full.Message)
	}
	if _, err := recorder.Preserve(t.Context(), request, textRecord("events", "one")); !errors.Is(err, action.ErrNoRoom) {
		t.Errorf("Preserve() = %v, want ErrNoRoom", err)
	}

	undo, err := recorder.KeepUndo(t.Context(), request, []byte(`{"replicas":3}`))
	if err != nil {
		t.Fatal(err)
	}
	if back, err := recorder.ReadUndo(t.Context(), request.Incident.Namespace, undo); err != nil || string(back) != `{"replicas":3}` {
		t.Errorf("the undo record is read back as %q, %v", back, err)
	}
	entry := v1alpha1.TimelineEntry{Time: metav1.NewTime(now), Actor: managerName, Action: "Something"}
	if err := audit.Append(&request.Incident.Status, entry); err != nil {
		t.Fatal(err)
	}
	if _, err := recorder.SealJournal(t.Context(), request.Incident, request.Incident.Status.Timeline); err != nil {
		t.Errorf("the timeline is not sealed: %v", err)
	}

	free = 4 << 30
	w.expect("Apply when there is room", collect.Apply(t.Context(), request), v1alpha1.TargetSucceeded, "kept: ")
}
