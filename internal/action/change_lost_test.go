package action_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// A record that is lost keeps nobody from looking at what another step has set; where it is
// needed to tell who has changed something, a person is told.
func TestPatchWithoutTheRecordOfAnotherStep(t *testing.T) {
	w := newWorld(t, changeRights)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "settings"},
		Data: map[string]string{"a": "0", "b": "0", "policy": strings.Repeat("allow all\n", 1000)}}
	w.create(object)
	incident := w.incident("inc-1")
	first := w.valued(incident, patchStep(`{"data": {"a": "1", "b": "1"}}`), object)
	w.carryOut("patch", first)
	later := patchStep(`{"data": {"policy": "deny all"}}`)
	later.Name = "later"
	second := w.valued(incident, later, object)
	recorder, directory := w.vault()
	first.Evidence, second.Evidence = recorder, recorder
	second.Target.Undo = w.ask(lifecycle.VerbPlan, second, "").Undo
	w.expect("Apply", w.ask(lifecycle.VerbApply, second, second.Target.Undo), v1alpha1.TargetSucceeded)
	w.onRecord(incident, first, second)
	if err := os.RemoveAll(directory); err != nil {
		t.Fatal(err)
	}
	w.expect("Observe of what stands", do(t, "patch").Observe(t.Context(), first), v1alpha1.TargetSucceeded)

	w.patch(object, `{"data": {"b": "2"}}`)
	first.Target.Losses++
	for name, result := range map[string]lifecycle.Result{
		"Observe": do(t, "patch").Observe(t.Context(), first),
		"Apply":   do(t, "patch").Apply(t.Context(), first),
	} {
		w.expect(name, result, v1alpha1.TargetFailed, "the undo record of step 'later' cannot be read", "bring the bytes back from a backup")
		if !result.Unknown || !result.Permanent {
			t.Errorf("%s: it must be no loss, and a person must be told: %+v", name, result)
		}
	}
}

// What another response needs is handed over as far as there is room for it: undoing never
// fails because there is none.
func TestPatchHandsOverWhatFits(t *testing.T) {
	w := newWorld(t, changeRights)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "settings"}, Data: map[string]string{"small": "0"}}
	var fields []string
	for i := range 4 {
		key := fmt.Sprint("large", i)
		object.Data[key] = strings.Repeat(fmt.Sprint(i), 100_000)
		fields = append(fields, fmt.Sprintf("%q: \"set\"", key))
	}
	w.create(object)
	step := patchStep(`{"data": {"small": "set", ` + strings.Join(fields, ", ") + `}}`)
	var requests []*action.Request
	for _, name := range []string{"inc-1", "inc-2"} {
		request := w.valued(w.incident(name), step, object)
		planned := do(t, "patch").Plan(t.Context(), request)
		w.expect("Plan", planned, v1alpha1.TargetActing)
		request.Target.Undo = planned.Undo
		w.expect("Apply", do(t, "patch").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
		requests = append(requests, request)
	}
	w.expect("Undo of the first", do(t, "patch").Undo(t.Context(), requests[0]), v1alpha1.TargetReverted,
		"another response needs it: data.large0, data.large1, data.small", "too large to be handed over, and is in the undo record of this step: data.large2, data.large3")
	w.expect("Undo of the second", do(t, "patch").Undo(t.Context(), requests[1]), v1alpha1.TargetReverted,
		"put back: data.large0, data.large1, data.small", "what it was before is not known: data.large2, data.large3")
	w.get(object)
	if object.Data["small"] != "0" || len(object.Data["large0"]) != 100_000 || object.Data["large3"] != "set" || len(object.Annotations) > 0 {
		t.Errorf("small is %q, large0 has %d characters, large3 is %.10q; annotations %d", object.Data["small"], len(object.Data["large0"]), object.Data["large3"], len(object.Annotations))
	}
}
