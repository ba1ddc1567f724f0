package action_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applyappsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// handover is an annotation that says of the replicas that they were 99 before somebody
// set them to what they were.
func handover(was string) string {
	return `[{"p": ["f:spec", "f:replicas"], "b": 99, "s": 2, "a": "` + action.ShortHash(12, was) + `"}]`
}

// annotate writes an annotation as somebody else would.
func (w *world) annotate(object client.Object, key, text string) {
	w.Helper()
	w.get(object)
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[key] = text
	object.SetAnnotations(annotations)
	if err := admin.Update(w.Context(), object); err != nil {
		w.Fatal(err)
	}
}

// Who can annotate an object does not get undoing to write what he likes.
func TestPatchUndoDoesNotTrustHandovers(t *testing.T) {
	t.Run("of nobody", func(t *testing.T) {
		w := newWorld(t, changeRights)
		deployment := w.cartDeployment("cart")
		request := w.valued(w.incident("inc-1"), patchStep(`{"spec": {"replicas": 0}}`), deployment)
		w.carryOut("patch", request)
		w.annotate(deployment, "handover.firebreak.dev/x", handover("3"))
		w.expect("Undo", do(t, "patch").Undo(t.Context(), request), v1alpha1.TargetReverted, "put back: spec.replicas")
		if w.get(deployment); *deployment.Spec.Replicas != 3 {
			t.Errorf("replicas %d, want 3", *deployment.Spec.Replicas)
		}
	})
	t.Run("of an earlier step", func(t *testing.T) {
		w := newWorld(t, changeRights)
		deployment := w.cartDeployment("cart")
		before := w.content(deployment)
		requests := w.twoSteps(deployment)
		w.expect("Undo of the first", do(t, "patch").Undo(t.Context(), requests[0]), v1alpha1.TargetReverted, "another response needs it")
		w.get(deployment)
		for key := range deployment.Annotations {
			if strings.HasPrefix(key, "handover.firebreak.dev/") {
				w.annotate(deployment, key, handover("0"))
			}
		}
		w.expect("Undo of the second", do(t, "patch").Undo(t.Context(), requests[1]), v1alpha1.TargetReverted, "put back: spec.replicas")
		if diff := cmp.Diff(before, w.content(deployment)); diff != "" {
			t.Errorf("after both (-want +got):\n%s", diff)
		}
	})
}

// Three steps of one incident, undone in the order in which they were carried out.
func TestPatchOfThreeStepsHandsOver(t *testing.T) {
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	before := w.content(deployment)
	incident := w.incident("inc-1")
	var requests []*action.Request
	for _, step := range []struct{ name, fields string }{
		{"first", `{"spec": {"replicas": 2}}`}, {"second", `{"spec": {"replicas": 1}}`}, {"third", `{"spec": {"replicas": 0}}`},
	} {
		playbook := patchStep(step.fields)
		playbook.Name = step.name
		request := w.valued(incident, playbook, deployment)
		w.carryOut("patch", request)
		requests = append(requests, request)
	}
	w.onRecord(incident, requests...)
	for _, request := range requests {
		w.expect("Undo of "+request.Step.Name, do(t, "patch").Undo(t.Context(), request), v1alpha1.TargetReverted)
	}
	if diff := cmp.Diff(before, w.content(deployment)); diff != "" {
		t.Errorf("after all (-want +got):\n%s", diff)
	}
}

// The name under which somebody writes does not make him a later step of the incident.
func TestPatchDoesNotTrustFieldOwners(t *testing.T) {
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	request := w.valued(w.incident("inc-1"), patchStep(`{"spec": {"replicas": 0}}`), deployment)
	w.carryOut("patch", request)
	w.onRecord(request.Incident, request)
	forged := applyappsv1.Deployment("cart", w.shop).WithSpec(applyappsv1.DeploymentSpec().WithReplicas(7))
	if err := admin.Apply(t.Context(), forged, client.FieldOwner(w.managerOf(deployment)+"x"), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
	w.expect("Observe", do(t, "patch").Observe(t.Context(), request), v1alpha1.TargetFailed, "something has changed spec.replicas")
	request.Target.Losses++
	w.carryOut("patch", request)
	if w.get(deployment); *deployment.Spec.Replicas != 0 {
		t.Errorf("replicas %d, want 0", *deployment.Spec.Replicas)
	}
}

// What a later step has set counts also where its record is kept as Evidence.
func TestPatchReadsRecordsKeptAsEvidence(t *testing.T) {
	w := newWorld(t, changeRights)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "settings"}, Data: map[string]string{"a": "0", "policy": strings.Repeat("allow all\n", 1000)}}
	w.create(object)
	incident := w.incident("inc-1")
	first := w.valued(incident, patchStep(`{"data": {"a": "1"}}`), object)
	w.carryOut("patch", first)
	later := patchStep(`{"data": {"a": "2", "policy": "deny all"}}`)
	later.Name = "later"
	second := w.valued(incident, later, object)
	second.Evidence, _ = w.vault()
	second.Target.Undo = w.ask(lifecycle.VerbPlan, second, "").Undo
	if !strings.HasPrefix(second.Target.Undo, `{"keptInEvidence":`) {
		t.Fatalf("the record is not kept as Evidence: %.100s", second.Target.Undo)
	}
	w.expect("Apply", w.ask(lifecycle.VerbApply, second, second.Target.Undo), v1alpha1.TargetSucceeded)
	w.onRecord(incident, first, second)
	result := do(t, "patch").Observe(t.Context(), first)
	w.expect("Observe without the store", result, v1alpha1.TargetFailed, "the undo record of step 'later' cannot be read")
	if !result.Unknown || result.Permanent {
		t.Errorf("it must be no loss, and tried again: %+v", result)
	}
	first.Evidence = second.Evidence
	w.expect("Observe", do(t, "patch").Observe(t.Context(), first), v1alpha1.TargetSucceeded)
}

// managerOf gives the one field owner of a response on an object.
func (w *world) managerOf(deployment *appsv1.Deployment) string {
	w.Helper()
	w.get(deployment)
	for _, entry := range deployment.ManagedFields {
		if strings.HasPrefix(entry.Manager, "firebreak-inc-") {
			return entry.Manager
		}
	}
	w.Fatal("no response owns a field")
	return ""
}

// Steps that apply hand over as those that patch do.
func TestApplyStepsHandOver(t *testing.T) {
	w := newWorld(t, changeRights)
	known := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block"}, Data: map[string]string{"a": "0"}}
	w.create(known)
	before := w.content(known)
	incident := w.incident("inc-1")
	var requests []*action.Request
	for _, step := range []struct{ name, data string }{{"first", `{"a": "1"}`}, {"second", `{"a": "2"}`}} {
		playbook := applyStep(w.configMapText(step.data))
		playbook.Name = step.name
		request := w.onIncident(incident, playbook)
		w.carryOut("apply", request)
		requests = append(requests, request)
	}
	w.onRecord(incident, requests...)
	w.expect("Observe of the first", do(t, "apply").Observe(t.Context(), requests[0]), v1alpha1.TargetSucceeded)
	for _, request := range requests {
		w.expect("Undo", do(t, "apply").Undo(t.Context(), request), v1alpha1.TargetReverted)
	}
	if diff := cmp.Diff(before, w.content(known)); diff != "" {
		t.Errorf("after both (-want +got):\n%s", diff)
	}
}
