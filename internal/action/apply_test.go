package action_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

// onIncident is a request of a step that acts on the incident as a whole.
func (w *world) onIncident(incident *v1alpha1.Incident, step *v1alpha1.PlaybookStep) *action.Request {
	target := v1alpha1.StepTarget{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Incident", Namespace: incident.Namespace, Name: incident.Name, UID: v1alpha1.ObjectUID(incident.UID),
	}
	return &action.Request{
		Incident: incident, Step: step, Attempt: 1, Target: target, Targets: []v1alpha1.StepTarget{target}, Client: w.client, ActingAs: w.user, Now: now,
		Values: (&expression.Cache{}).Values(&v1alpha1.ResponsePlaybookSpec{}),
	}
}

func applyStep(object string) *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "make", Apply: &v1alpha1.ApplyAction{Object: raw(object)}}
}

func (w *world) configMapText(data string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": %q, "name": "block"}, "data": %s}`, w.shop, data)
}

func TestApplyMakesAndDeletes(t *testing.T) {
	w := newWorld(t, changeRights)
	request := w.onIncident(w.incident("inc-1"), applyStep(w.configMapText(`{"a": "1"}`)))
	made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block"}}
	w.carryOut("apply", request)
	w.get(made)
	uid := made.UID
	// A crash between making it and taking that down: planned and made again.
	w.expect("repeated Apply", do(t, "apply").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.carryOut("apply", request)
	if w.get(made); made.UID != uid {
		t.Error("it was made twice")
	}
	w.expect("Observe", do(t, "apply").Observe(t.Context(), request), v1alpha1.TargetSucceeded)
	w.patch(made, `{"data": {"a": "2"}}`)
	w.expect("Observe after a change", do(t, "apply").Observe(t.Context(), request), v1alpha1.TargetFailed, "something has changed")
	w.expect("Apply again", do(t, "apply").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	if w.get(made); made.Data["a"] != "1" {
		t.Errorf("data %v", made.Data)
	}
	w.delete(made)
	w.expect("Observe after deletion", do(t, "apply").Observe(t.Context(), request), v1alpha1.TargetFailed, "does not exist any more")
	w.expect("Apply after deletion", do(t, "apply").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Undo", do(t, "apply").Undo(t.Context(), request), v1alpha1.TargetReverted)
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(made), made); !apierrors.IsNotFound(err) {
		t.Errorf("get after Undo: %v, want NotFound", err)
	}
	w.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block"}})
	w.expect("Undo with a successor", do(t, "apply").Undo(t.Context(), request), v1alpha1.TargetReverted, "somebody else's")
	w.get(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block"}})
}

func TestApplyOnWhatIsThere(t *testing.T) {
	w := newWorld(t, changeRights)
	known := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block"}, Data: map[string]string{"a": "0", "z": "9"}}
	w.create(known)
	before := w.content(known)
	request := w.onIncident(w.incident("inc-1"), applyStep(w.configMapText(`{"a": "1", "b": "2"}`)))
	w.carryOut("apply", request)
	w.get(known)
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "2", "z": "9"}, known.Data); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	w.expect("repeated Apply", do(t, "apply").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.expect("Observe", do(t, "apply").Observe(t.Context(), request), v1alpha1.TargetSucceeded)
	w.expect("Undo", do(t, "apply").Undo(t.Context(), request), v1alpha1.TargetReverted)
	if diff := cmp.Diff(before, w.content(known)); diff != "" {
		t.Errorf("after Undo (-want +got):\n%s", diff)
	}
}

func TestApplyWhenSomebodyElseIsFaster(t *testing.T) {
	w := newWorld(t, changeRights)
	request := w.onIncident(w.incident("inc-1"), applyStep(w.configMapText(`{"a": "1"}`)))
	planned := do(t, "apply").Plan(t.Context(), request)
	w.expect("Plan", planned, v1alpha1.TargetActing)
	request.Target.Undo = planned.Undo
	other := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block"}, Data: map[string]string{"a": "0"}}
	w.create(other)
	w.expect("Apply", do(t, "apply").Apply(t.Context(), request), v1alpha1.TargetPending, "made by somebody else")
	w.carryOut("apply", request)
	w.expect("Undo", do(t, "apply").Undo(t.Context(), request), v1alpha1.TargetReverted, "put back: data.a")
	if w.get(other); other.Data["a"] != "0" {
		t.Errorf("data %v", other.Data)
	}
}

// Whoever deletes what a step has made, or changed, and makes another of its name does not
// end the containment: the successor is planned anew, with what it has.
func TestApplyTakesOverSuccessors(t *testing.T) {
	block := metav1.ObjectMeta{Name: "block"}
	for name, test := range map[string]struct {
		before *corev1.ConfigMap
		make   func(*world, *corev1.ConfigMap)
	}{
		"of what the step has made, by an attacker": {nil, func(w *world, object *corev1.ConfigMap) { w.create(object) }},
		"of what the step has made, by GitOps":      {nil, (*world).createInGit},
		"of what was there, by an attacker":         {&corev1.ConfigMap{ObjectMeta: block}, func(w *world, object *corev1.ConfigMap) { w.create(object) }},
		"of what was there, by GitOps":              {&corev1.ConfigMap{ObjectMeta: block}, (*world).createInGit},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, changeRights)
			if test.before != nil {
				test.before.Namespace = w.shop
				w.create(test.before)
			}
			request := w.onIncident(w.incident("inc-1"), applyStep(w.configMapText(`{"a": "1"}`)))
			w.carryOut("apply", request)
			known := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block"}}
			for range 2 {
				w.delete(known)
				known = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block"}, Data: map[string]string{"a": "0", "z": "9"}}
				test.make(w, known)
				w.expect("Observe", do(t, "apply").Observe(t.Context(), request), v1alpha1.TargetFailed)
				request.Target.Losses++
				w.carryOut("apply", request)
				w.get(known)
				if diff := cmp.Diff(map[string]string{"a": "1", "z": "9"}, known.Data); diff != "" {
					t.Fatalf("data (-want +got):\n%s", diff)
				}
				w.expect("Observe", do(t, "apply").Observe(t.Context(), request), v1alpha1.TargetSucceeded)
			}
			w.expect("Undo", do(t, "apply").Undo(t.Context(), request), v1alpha1.TargetReverted, "put back: data.a")
			w.get(known)
			if diff := cmp.Diff(map[string]string{"a": "0", "z": "9"}, known.Data); diff != "" {
				t.Errorf("data after Undo (-want +got):\n%s", diff)
			}
		})
	}
}

// createInGit makes an object as a GitOps controller does.
func (w *world) createInGit(object *corev1.ConfigMap) {
	w.Helper()
	config := applycorev1.ConfigMap(object.Name, object.Namespace).WithData(object.Data).WithLabels(map[string]string{
		"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
	})
	if err := admin.Apply(w.Context(), config, client.FieldOwner("kustomize-controller"), client.ForceOwnership); err != nil {
		w.Fatal(err)
	}
}

// What a step has made and given back what it had lost is held, too, when somebody takes
// its mark off.
func TestApplyHoldsWhatLostItsMark(t *testing.T) {
	w := newWorld(t, changeRights)
	request := w.onIncident(w.incident("inc-1"), applyStep(w.configMapText(`{"a": "1"}`)))
	w.carryOut("apply", request)
	made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block"}}
	for _, change := range []string{`{"data": {"a": "2"}}`, `{"metadata": {"annotations": {"firebreak.dev/intent": null}}, "data": {"a": "2"}}`} {
		w.patch(made, change)
		w.expect("Observe", do(t, "apply").Observe(t.Context(), request), v1alpha1.TargetFailed)
		request.Target.Losses++
		w.carryOut("apply", request)
		if w.get(made); made.Data["a"] != "1" {
			t.Errorf("data %v", made.Data)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	w := newWorld(t, changeRights)
	for object, says := range map[string]string{
		`{"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}}`:                                                   "`apiVersion` must be set",
		`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a", "namespace": "b"}}`:                       "`metadata.name` must be set",
		`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}`:                                                 "`metadata.namespace` must be set",
		`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a", "namespace": "b"}}`:                                    "must not set `metadata.namespace`",
		`{"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": "a", "namespace": "b"}}`:                                 "which the cluster does not have",
		`{"apiVersion": "firebreak.dev/v1alpha1", "kind": "Decision", "metadata": {"name": "a", "namespace": "b"}}`:            "they are Firebreak's own",
		`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b", "ownerReferences": []}}`:        "must not set `metadata.ownerReferences`",
		`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {"firebreak.dev/protected": "false"}}}`: "Firebreak goes by it",
		`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}`:                         "may not get configmaps in namespace 'default'",
	} {
		result := do(t, "apply").Plan(t.Context(), w.onIncident(w.incident("inc-1"), applyStep(object)))
		w.expect(object, result, v1alpha1.TargetFailed, says)
		if !result.Permanent {
			t.Errorf("%s: must be refused for good", object)
		}
	}
}

func TestApplyHoldsProtectedNamespaces(t *testing.T) {
	w := newWorld(t, changeRights)
	request := w.onIncident(w.incident("inc-1"), applyStep(w.configMapText(`{"a": "1"}`)))
	request.Protected = func(_ context.Context, namespace string) (string, error) {
		return "namespace " + namespace + " is protected", nil
	}
	w.expect("Plan", do(t, "apply").Plan(t.Context(), request), v1alpha1.TargetHeld, "is protected", "`limits.allowProtected`")
	request.Target.ApprovedBy = "jane"
	w.expect("Plan after an approval", do(t, "apply").Plan(t.Context(), request), v1alpha1.TargetActing)

	request.Target.ApprovedBy, request.Protected = "", nil
	request.OutOfScope = func(namespace string) string { return "namespace " + namespace + " is out of scope" }
	w.expect("Plan out of scope", do(t, "apply").Plan(t.Context(), request), v1alpha1.TargetHeld, "namespace "+w.shop+" is out of scope")
	request.Target.ApprovedBy = "jane"
	w.expect("Plan out of scope after an approval", do(t, "apply").Plan(t.Context(), request), v1alpha1.TargetActing)
}

// What an expression yields for another namespace needs rights there, and nothing more
// can be reached by it.
func TestApplyByExpressionReachesNoFurtherThanItsRights(t *testing.T) {
	w := newWorld(t, changeRights)
	other := w.namespace("other-")
	incident := w.incident("inc-1")
	incident.Status.Resources = []v1alpha1.IncidentResource{{ResourceReference: v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: other, Name: "x"}}}
	step := &v1alpha1.PlaybookStep{Name: "make", Apply: &v1alpha1.ApplyAction{
		Expression: `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "block", "namespace": resources[0].namespace}, "data": {"by": incident.name}}`,
	}}
	w.expect("Plan", do(t, "apply").Plan(t.Context(), w.onIncident(incident, step)), v1alpha1.TargetFailed, "may not get configmaps in namespace '"+other+"'")
	incident.Status.Resources[0].Namespace = w.shop
	request := w.onIncident(incident, step)
	w.carryOut("apply", request)
	incident.Status.Resources[0].Namespace = other
	w.expect("Observe does not evaluate again", do(t, "apply").Observe(t.Context(), request), v1alpha1.TargetSucceeded)
	made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block", UID: types.UID("")}}
	if w.get(made); made.Data["by"] != "inc-1" {
		t.Errorf("data %v", made.Data)
	}
}
