package action_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/evidence"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// vault is a recorder whose bytes can be got at.
func (w *world) vault() (*evidence.Recorder, string) {
	w.Helper()
	recorder, directory := w.recorder(), w.TempDir()
	store, err := evidence.OpenStore(w.Context(), "file://"+directory, "")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = store.Close() })
	recorder.Store = store
	return recorder, directory
}

// ask asks for one verb as the manager does: with what the status has on record, and
// nothing that an earlier call has left in the request.
func (w *world) ask(verb lifecycle.Verb, request *action.Request, undo string) lifecycle.Result {
	w.Helper()
	asked := *request
	asked.Target.Undo = undo
	return action.Do(w.Context(), do(w.T, lifecycle.ActionOf(request.Step)), verb, &asked)
}

// undoRecords lists the Evidence of undo records.
func (w *world) undoRecords() []v1alpha1.Evidence {
	w.Helper()
	list := &v1alpha1.EvidenceList{}
	if err := admin.List(w.Context(), list, client.InNamespace(w.domain)); err != nil {
		w.Fatal(err)
	}
	return list.Items
}

func TestLargeUndoRecordIsEvidence(t *testing.T) {
	w := clusterWorld(t, revokeRights)
	before := map[string]map[string]any{}
	var bindings []client.Object
	for i := range 60 {
		subjects := []rbacv1.Subject{user("jane"), w.account()}
		if i%3 == 0 {
			subjects = append(subjects, user("joe"))
		}
		binding := w.bind(fmt.Sprintf("binding-%02d", i), "view", subjects...)
		bindings = append(bindings, binding)
		before[binding.Name] = w.content(binding)
	}
	request := w.revoke("inc-1")
	recorder, directory := w.vault()
	request.Evidence = recorder

	planned := w.ask(lifecycle.VerbPlan, request, "")
	w.expect("Plan", planned, v1alpha1.TargetActing, "will be taken out of")
	if len(planned.Undo) > 4096 || !strings.HasPrefix(planned.Undo, `{"keptInEvidence":{"name":"inc-1-undo-`) {
		t.Fatalf("the status would keep %d bytes: %.120s", len(planned.Undo), planned.Undo)
	}
	// Killed before the intent was written, and between the intent and the effect.
	if again := w.ask(lifecycle.VerbPlan, request, ""); again.Undo != planned.Undo {
		t.Errorf("planned again gives %s, want %s", again.Undo, planned.Undo)
	}
	if again := w.ask(lifecycle.VerbPlan, request, planned.Undo); again.Undo != planned.Undo {
		t.Errorf("planned with the record gives %s, want %s", again.Undo, planned.Undo)
	}
	kept := w.undoRecords()
	if len(kept) != 1 || kept[0].Spec.Type != v1alpha1.EvidenceUndoRecord || kept[0].Spec.CollectedBy != managerName || kept[0].Status.Location == "" {
		t.Fatalf("kept: %+v", kept)
	}
	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Apply", w.ask(lifecycle.VerbApply, request, planned.Undo), v1alpha1.TargetSucceeded)
	}
	for _, binding := range bindings {
		if text := fmt.Sprint(w.content(binding)["subjects"]); strings.Contains(text, "cart") {
			t.Errorf("%s still names it: %s", binding.GetName(), text)
		}
	}
	w.expect("Observe", w.ask(lifecycle.VerbObserve, request, planned.Undo), v1alpha1.TargetSucceeded)
	w.refusesLost(request, planned.Undo, filepath.Join(directory, filepath.FromSlash(kept[0].Status.Location)))
	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Undo", w.ask(lifecycle.VerbUndo, request, planned.Undo), v1alpha1.TargetReverted)
	}
	for _, binding := range bindings {
		if diff := cmp.Diff(before[binding.GetName()], w.content(binding)); diff != "" {
			t.Errorf("%s after Undo (-want +got):\n%s", binding.GetName(), diff)
		}
	}
}

// TestLargeUndoRecordOfADryRun: nothing is kept of what is only tried, and it is tried all the
// same, also when the manager was killed between the plan and the try.
func TestLargeUndoRecordOfADryRun(t *testing.T) {
	w := clusterWorld(t, slices.Concat(revokeRights, changeRights))
	for i := range 60 {
		w.bind(fmt.Sprintf("binding-%02d", i), "view", user("jane"), w.account())
	}
	large := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "settings"}, Data: map[string]string{"policy": strings.Repeat("allow all\n", 4000)}}
	w.create(large)
	for name, test := range map[string]struct {
		request *action.Request
		says    string
	}{
		"revokeAccess": {w.revoke("inc-1"), "would be taken out of RoleBinding"},
		"patch":        {w.valued(w.incident("inc-1"), patchStep(`{"data": {"policy": "deny all"}}`), large), ""},
	} {
		request := test.request
		request.Client, request.DryRun = client.NewDryRunClient(w.client), true
		request.Evidence, _ = w.vault()
		planned := w.ask(lifecycle.VerbPlan, request, "")
		w.expect(name+" Plan", planned, v1alpha1.TargetActing)
		if planned.Undo != "" {
			t.Errorf("%s: the status would keep %.120s", name, planned.Undo)
		}
		for _, try := range []string{"first", "repeated"} {
			w.expect(name+" "+try+" Apply", w.ask(lifecycle.VerbApply, request, planned.Undo), v1alpha1.TargetSucceeded, test.says)
		}
	}
	if kept := w.undoRecords(); len(kept) > 0 {
		t.Errorf("kept: %+v", kept)
	}
}

// refusesLost changes the bytes of a record and takes them away, and brings them back.
func (w *world) refusesLost(request *action.Request, undo, file string) {
	w.Helper()
	right, err := os.ReadFile(file)
	if err != nil {
		w.Fatal(err)
	}
	forged := strings.Replace(string(right), "cart", "evil", 1)
	if err := os.Chmod(file, 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(forged), 0o600); err != nil {
		w.Fatal(err)
	}
	for _, verb := range []lifecycle.Verb{lifecycle.VerbPlan, lifecycle.VerbApply, lifecycle.VerbObserve, lifecycle.VerbUndo} {
		result := w.ask(verb, request, undo)
		w.expect(string(verb)+" with changed bytes", result, v1alpha1.TargetFailed, "Evidence 'inc-1-undo-", "were changed", "bring the bytes back from a backup")
		if !result.Permanent || !result.Unknown {
			w.Errorf("%s with changed bytes must be refused for good, and be no loss: %+v", verb, result)
		}
	}
	if err := os.Remove(file); err != nil {
		w.Fatal(err)
	}
	w.expect("Undo without the bytes", w.ask(lifecycle.VerbUndo, request, undo), v1alpha1.TargetFailed, "nothing was undone", "has no such bytes", "or undo it by hand")
	if err := os.WriteFile(file, right, 0o600); err != nil {
		w.Fatal(err)
	}
}

func TestPatchOfALargeField(t *testing.T) {
	rights := []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "patch", "update"}}}
	w := newWorld(t, rights)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "settings"}, Data: map[string]string{"policy": strings.Repeat("allow all\n", 4000)}}
	w.create(object)
	before := w.content(object)
	request := w.valued(w.incident("inc-1"), patchStep(`{"data": {"policy": "deny all"}}`), object)
	request.Evidence, _ = w.vault()
	planned := w.ask(lifecycle.VerbPlan, request, "")
	w.expect("Plan", planned, v1alpha1.TargetActing)
	w.expect("Apply", w.ask(lifecycle.VerbApply, request, planned.Undo), v1alpha1.TargetSucceeded)
	// As after a crash: what is there now is not what was there before.
	if again := w.ask(lifecycle.VerbPlan, request, planned.Undo); again.Undo != planned.Undo {
		t.Errorf("planned again gives %.200s, want %.200s", again.Undo, planned.Undo)
	}
	w.expect("Undo", w.ask(lifecycle.VerbUndo, request, planned.Undo), v1alpha1.TargetReverted)
	if diff := cmp.Diff(before, w.content(object)); diff != "" {
		t.Errorf("after Undo (-want +got):\n%s", diff)
	}
}

// recording is an action whose record has a number of bytes.
type recording struct {
	action.Action
	bytes int
}

func (r recording) Plan(context.Context, *action.Request) lifecycle.Result {
	return lifecycle.Result{State: v1alpha1.TargetActing, Undo: strings.Repeat("x", r.bytes)}
}

func TestUndoRecordsAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	recorder, _ := w.vault()
	for _, test := range []struct {
		name     string
		bytes    int
		recorder action.Recorder
		state    v1alpha1.TargetState
		says     string
		kept     int
		dryRun   bool
	}{
		{"fits", 4096, nil, v1alpha1.TargetActing, "", 0, false},
		{"no store", 4097, nil, v1alpha1.TargetFailed, "there is no evidence store; nothing was done", 0, false},
		{"too large", action.MaxUndo + 1, recorder, v1alpha1.TargetFailed, "1048577 bytes would have to be kept before it is done, and there is room for 1048576; nothing was done", 0, false},
		{"too large, tried", action.MaxUndo + 1, recorder, v1alpha1.TargetFailed, "there is room for 1048576; nothing was done", 0, true},
		{"largest, tried", action.MaxUndo, recorder, v1alpha1.TargetActing, "", 0, true},
		{"largest", action.MaxUndo, recorder, v1alpha1.TargetActing, "", 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := w.onIncident(w.incident("inc-1"), revokeStep())
			request.Evidence, request.DryRun = test.recorder, test.dryRun
			result := action.Do(t.Context(), recording{bytes: test.bytes}, lifecycle.VerbPlan, request)
			if result.State != test.state || !strings.Contains(result.Message, test.says) || len(result.Undo) > 4096 {
				t.Errorf("Plan: %s, %d bytes on record (%s); want %s and %q", result.State, len(result.Undo), result.Message, test.state, test.says)
			}
			if kept := w.undoRecords(); len(kept) != test.kept {
				t.Errorf("%d records kept as Evidence, want %d", len(kept), test.kept)
			}
		})
	}
}
