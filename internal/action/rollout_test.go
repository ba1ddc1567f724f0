package action_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var rolloutRights = []rbacv1.PolicyRule{
	{APIGroups: []string{"apps"}, Resources: []string{"deployments", "statefulsets", "daemonsets"}, Verbs: []string{"get", "patch"}},
	{APIGroups: []string{"apps"}, Resources: []string{"replicasets", "controllerrevisions"}, Verbs: []string{"list"}},
}

func restartStep() *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "fresh", Target: v1alpha1.TargetWorkloads, Restart: &v1alpha1.RestartAction{}}
}

func rollbackStep(revision int64) *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "last-good", Target: v1alpha1.TargetWorkloads, Rollback: &v1alpha1.RollbackAction{ToRevision: revision}}
}

// running is a template that runs an image.
func running(image string) corev1.PodTemplateSpec {
	made := template(map[string]string{"app": "cart"})
	made.Spec.Containers[0].Image = image
	return made
}

// rolledOut says in the status of a workload that all its pods are new.
func (w *world) rolledOut(object client.Object) {
	w.Helper()
	w.get(object)
	switch object := object.(type) {
	case *appsv1.Deployment:
		object.Status = appsv1.DeploymentStatus{ObservedGeneration: object.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	case *appsv1.StatefulSet:
		object.Status = appsv1.StatefulSetStatus{ObservedGeneration: object.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, CurrentRevision: "b", UpdateRevision: "b"}
	case *appsv1.DaemonSet:
		object.Status = appsv1.DaemonSetStatus{ObservedGeneration: object.Generation, DesiredNumberScheduled: 1, CurrentNumberScheduled: 1, UpdatedNumberScheduled: 1, NumberAvailable: 1}
	}
	if err := admin.Status().Update(w.Context(), object); err != nil {
		w.Fatal(err)
	}
}

// rollables makes one workload of each kind.
func (w *world) rollables() map[string]client.Object {
	w.Helper()
	selector := byLabel("app", "cart")
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: w.shop, Name: name} }
	made := map[string]client.Object{
		"Deployment":  &appsv1.Deployment{ObjectMeta: meta("cart"), Spec: appsv1.DeploymentSpec{Selector: &selector, Template: running("good:1")}},
		"StatefulSet": &appsv1.StatefulSet{ObjectMeta: meta("cart"), Spec: appsv1.StatefulSetSpec{Selector: &selector, Template: running("good:1")}},
		"DaemonSet":   &appsv1.DaemonSet{ObjectMeta: meta("cart"), Spec: appsv1.DaemonSetSpec{Selector: &selector, Template: running("good:1")}},
	}
	for _, object := range made {
		w.create(object)
	}
	return made
}

func templateIn(object client.Object) *corev1.PodTemplateSpec {
	switch object := object.(type) {
	case *appsv1.Deployment:
		return &object.Spec.Template
	case *appsv1.StatefulSet:
		return &object.Spec.Template
	case *appsv1.DaemonSet:
		return &object.Spec.Template
	default:
		return nil
	}
}

func (w *world) like() *world {
	return &world{T: w.T, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
}

func TestRestart(t *testing.T) {
	w := newWorld(t, rolloutRights)
	for kind, object := range w.rollables() {
		t.Run(kind, func(t *testing.T) {
			w := w.like()
			w.T = t
			w.rolledOut(object)
			request := w.request(w.incident("inc-1"), restartStep(), object)
			restart := do(t, "restart")
			w.planned("restart", request)
			result := restart.Apply(t.Context(), request)
			w.expect("Apply", result, v1alpha1.TargetApplied, "is replacing its pods: its controller has not seen the change yet")
			if result.After <= 0 {
				t.Error("it must say when to look again")
			}
			w.get(object)
			generation, at := object.GetGeneration(), templateIn(object).Annotations["kubectl.kubernetes.io/restartedAt"]
			if at == "" {
				t.Fatal("the template was not changed")
			}
			request.Now = now.AddDate(0, 0, 1)
			w.expect("repeated Apply", restart.Apply(t.Context(), request), v1alpha1.TargetApplied)
			if w.get(object); object.GetGeneration() != generation {
				t.Error("it was restarted twice")
			}
			w.expect("Observe", restart.Observe(t.Context(), request), v1alpha1.TargetApplied)
			w.rolledOut(object)
			w.expect("Observe at the end", restart.Observe(t.Context(), request), v1alpha1.TargetSucceeded, "has replaced its pods")
			w.undone("restart", request, "cannot be undone")
			w.planned("restart", request)
			w.expect("Apply of another restart", restart.Apply(t.Context(), request), v1alpha1.TargetApplied)
			if w.get(object); templateIn(object).Annotations["kubectl.kubernetes.io/restartedAt"] == at {
				t.Error("a restart that was planned anew must be another one")
			}
		})
	}
}

func TestRolloutWaits(t *testing.T) {
	w := newWorld(t, rolloutRights)
	deployment := w.rollables()["Deployment"].(*appsv1.Deployment)
	request := w.request(w.incident("inc-1"), restartStep(), deployment)
	for name, test := range map[string]struct {
		status appsv1.DeploymentStatus
		state  v1alpha1.TargetState
		says   string
	}{
		"not new":       {appsv1.DeploymentStatus{Replicas: 1}, v1alpha1.TargetApplied, "0 of 1 are new"},
		"old ones":      {appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 1}, v1alpha1.TargetApplied, "1 old ones are still there"},
		"not available": {appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1}, v1alpha1.TargetApplied, "0 of 1 are available"},
		"stuck": {appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{{Type: "Progressing", Status: "False", Reason: "ProgressDeadlineExceeded", Message: "no progress"}}},
			v1alpha1.TargetFailed, "does not come up: no progress"},
		"complete": {appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}, v1alpha1.TargetSucceeded, "has replaced its pods"},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.like()
			w.T = t
			w.get(deployment)
			deployment.Status = test.status
			deployment.Status.ObservedGeneration = deployment.Generation
			if err := admin.Status().Update(t.Context(), deployment); err != nil {
				t.Fatal(err)
			}
			w.expect("Observe", do(t, "restart").Observe(t.Context(), request), test.state, test.says)
		})
	}
}

func TestRolloutRefuses(t *testing.T) {
	w := newWorld(t, rolloutRights)
	made := w.rollables()
	w.patch(made["Deployment"], `{"spec":{"paused":true}}`)
	w.patch(made["StatefulSet"], `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null}}}`)
	for name, test := range map[string]struct {
		object client.Object
		says   string
	}{
		"paused":       {made["Deployment"], "is paused and would not replace its pods"},
		"OnDelete":     {made["StatefulSet"], "replaces pods only when they are deleted"},
		"another kind": {w.replicaSet(), "it must be a Deployment, StatefulSet, DaemonSet"},
	} {
		for action, step := range map[string]*v1alpha1.PlaybookStep{"restart": restartStep(), "rollback": rollbackStep(0)} {
			t.Run(name+", "+action, func(t *testing.T) {
				result := do(t, action).Plan(t.Context(), w.request(w.incident("inc-1"), step, test.object))
				w.expect("Plan", result, v1alpha1.TargetFailed, test.says)
				if !result.Permanent {
					t.Error("must be permanent")
				}
			})
		}
	}
}

// history makes what the controllers make: a revision for each template that was run.
func (w *world) history(object client.Object, images ...string) {
	w.Helper()
	kinds, _, err := scheme.ObjectKinds(object)
	if err != nil {
		w.Fatal(err)
	}
	for i, image := range images {
		meta := metav1.ObjectMeta{
			Namespace: w.shop, Name: fmt.Sprintf("%s-%s-%d", object.GetName(), strings.ToLower(kinds[0].Kind), i+1), Labels: map[string]string{"app": "cart"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(object, kinds[0])},
		}
		made := running(image)
		if kinds[0].Kind == "Deployment" {
			meta.Annotations = map[string]string{"deployment.kubernetes.io/revision": fmt.Sprint(i + 1)}
			meta.Labels["pod-template-hash"], made.Labels["pod-template-hash"] = fmt.Sprint(i), fmt.Sprint(i)
			w.create(&appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{
				Replicas: ptr.To[int32](0), Selector: &metav1.LabelSelector{MatchLabels: meta.Labels}, Template: made,
			}})
			continue
		}
		// The controllers keep what the API server has made of the template.
		spelled := object.DeepCopyObject().(client.Object)
		w.get(spelled)
		full := templateIn(spelled).DeepCopy()
		full.Spec.Containers[0].Image = image
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(full)
		if err != nil {
			w.Fatal(err)
		}
		content["$patch"] = "replace"
		content["metadata"].(map[string]any)["creationTimestamp"] = nil
		data, err := json.Marshal(map[string]any{"spec": map[string]any{"template": content}})
		if err != nil {
			w.Fatal(err)
		}
		w.create(&appsv1.ControllerRevision{ObjectMeta: meta, Revision: int64(i + 1), Data: runtime.RawExtension{Raw: data}})
	}
	w.listed(object, len(images))
}

// listed waits until the API server lists the revisions of a workload. On a busy machine its cache
// was once seen to lag behind what it had just stored; a step that sees none then is tried again.
func (w *world) listed(object client.Object, count int) {
	w.Helper()
	w.eventually("the revisions to be listed", func(ctx context.Context) bool {
		found := 0
		for _, kind := range []string{"ReplicaSetList", "ControllerRevisionList"} {
			list := &metav1.PartialObjectMetadataList{}
			list.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind(kind))
			if err := admin.List(ctx, list, client.InNamespace(w.shop)); err != nil {
				return false
			}
			for i := range list.Items {
				if metav1.IsControlledBy(&list.Items[i], object) {
					found++
				}
			}
		}
		return found == count
	})
}

// deploy has a workload run an image, as somebody would.
func (w *world) deploy(object client.Object, image string) {
	w.Helper()
	w.patch(object, `{"spec":{"template":{"spec":{"containers":[{"name":"cart","image":"`+image+`"}]}}}}`)
}

func (w *world) runs(object client.Object, image string) {
	w.Helper()
	w.get(object)
	if got := templateIn(object).Spec.Containers[0].Image; got != image {
		w.Fatalf("it runs %s, want %s", got, image)
	}
}

func TestRollback(t *testing.T) {
	w := newWorld(t, rolloutRights)
	for kind, object := range w.rollables() {
		w.history(object, "good:1", "good:2", "bad:3")
		for name, test := range map[string]struct {
			revision int64
			to       string
		}{"the one before": {0, "good:2"}, "by number": {1, "good:1"}} {
			t.Run(kind+", "+name, func(t *testing.T) {
				w := w.like()
				w.T = t
				w.deploy(object, "bad:3")
				w.get(object)
				before := templateIn(object).DeepCopy()
				request := w.request(w.incident("inc-1"), rollbackStep(test.revision), object)
				rollback := do(t, "rollback")
				w.planned("rollback", request)
				for _, try := range []string{"first", "repeated"} {
					w.expect(try+" Apply", rollback.Apply(t.Context(), request), v1alpha1.TargetApplied, "is replacing its pods")
					w.runs(object, test.to)
				}
				w.rolledOut(object)
				w.expect("Observe", rollback.Observe(t.Context(), request), v1alpha1.TargetSucceeded)
				w.planned("rollback", request)
				w.expect("Apply planned again", rollback.Apply(t.Context(), request), v1alpha1.TargetSucceeded)
				w.runs(object, test.to)

				w.undone("rollback", request, "has its template of revision 3")
				w.get(object)
				if diff := cmp.Diff(before, templateIn(object)); diff != "" {
					t.Errorf("the template after Undo (-before +after):\n%s", diff)
				}
				for key := range object.GetAnnotations() {
					if strings.Contains(key, "firebreak.dev") {
						t.Errorf("annotation %q is left", key)
					}
				}
			})
		}
	}
}

func TestRollbackKeepsWhatSomebodyHasDeployedMeanwhile(t *testing.T) {
	w := newWorld(t, rolloutRights)
	object := w.rollables()["Deployment"]
	w.history(object, "good:1", "bad:2")
	w.deploy(object, "bad:2")
	request := w.request(w.incident("inc-1"), rollbackStep(0), object)
	rollback := do(t, "rollback")
	w.planned("rollback", request)
	w.deploy(object, "fix:3")
	w.expect("Apply to what was changed since the plan", rollback.Apply(t.Context(), request), v1alpha1.TargetPending, "was changed at the same time")
	w.runs(object, "fix:3")
	w.expect("Plan of what its controller has not seen", rollback.Plan(t.Context(), request), v1alpha1.TargetFailed, "its controller may not have seen the last change yet")

	w.deploy(object, "bad:2")
	w.planned("rollback", request)
	w.expect("Apply", rollback.Apply(t.Context(), request), v1alpha1.TargetApplied)
	w.deploy(object, "fix:3")
	w.expect("Observe", rollback.Observe(t.Context(), request), v1alpha1.TargetFailed, "somebody has changed the template")
	w.undone("rollback", request, "is left as it is: somebody has changed its template since")
	w.runs(object, "fix:3")
}

func TestTwoIncidentsRollOneWorkloadBack(t *testing.T) {
	w := newWorld(t, rolloutRights)
	object := w.rollables()["Deployment"]
	w.history(object, "good:1", "bad:2")
	w.deploy(object, "bad:2")
	rollback := do(t, "rollback")
	first, second := w.request(w.incident("inc-1"), rollbackStep(0), object), w.request(w.incident("inc-2"), rollbackStep(0), object)
	w.planned("rollback", first)
	w.expect("Apply", rollback.Apply(t.Context(), first), v1alpha1.TargetApplied)
	result := rollback.Plan(t.Context(), second)
	w.expect("Plan of the second", result, v1alpha1.TargetFailed, "incident '"+w.domain+"/inc-1' says of Deployment 'cart' that it was taken back", "`toRevision`")

	second.Step = rollbackStep(1)
	w.planned("rollback", second)
	w.expect("Apply", rollback.Apply(t.Context(), second), v1alpha1.TargetApplied)
	w.undone("rollback", first, "stays as it is: incident '"+w.domain+"/inc-2' has rolled it back too")
	w.runs(object, "good:1")
	w.undone("rollback", second, "has its template of revision 2")
	w.runs(object, "bad:2")
}

func TestRollbackRefuses(t *testing.T) {
	w := newWorld(t, rolloutRights)
	object := w.rollables()["Deployment"]
	w.history(object, "good:1")
	rollback := do(t, "rollback")
	w.expect("Plan of the first revision", rollback.Plan(t.Context(), w.request(w.incident("inc-1"), rollbackStep(0), object)), v1alpha1.TargetFailed, "has no revision before the present 1")
	result := rollback.Plan(t.Context(), w.request(w.incident("inc-1"), rollbackStep(7), object))
	w.expect("Plan of no revision", result, v1alpha1.TargetFailed, "has no revision 7: it must be one of 1")
	if !result.Permanent {
		t.Error("must be permanent")
	}
	w.expect("Plan of the present one", rollback.Plan(t.Context(), w.request(w.incident("inc-1"), rollbackStep(1), object)), v1alpha1.TargetSucceeded, "already")
}

func TestRollbackToWhatIsGone(t *testing.T) {
	w := newWorld(t, rolloutRights)
	object := w.rollables()["Deployment"]
	w.history(object, "good:1", "bad:2")
	w.deploy(object, "bad:2")
	request := w.request(w.incident("inc-1"), rollbackStep(0), object)
	rollback := do(t, "rollback")
	w.planned("rollback", request)
	w.expect("Apply", rollback.Apply(t.Context(), request), v1alpha1.TargetApplied)
	w.delete(&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart-deployment-2"}})
	result := rollback.Undo(t.Context(), request)
	w.expect("Undo to a revision that is gone", result, v1alpha1.TargetFailed, "revision 2 ('cart-deployment-2') of Deployment 'cart' does not exist any more")
	if !result.Permanent {
		t.Error("must be permanent")
	}
	w.delete(object)
	w.expect("Observe", rollback.Observe(t.Context(), request), v1alpha1.TargetSucceeded)
	w.undone("rollback", request, "does not exist any more")
	successor := w.workloadOf("cart", 1)
	w.expect("Plan", rollback.Plan(t.Context(), request), v1alpha1.TargetGone, "came back under the same name")
	w.expect("Apply", rollback.Apply(t.Context(), request), v1alpha1.TargetGone, "came back under the same name")
	w.expect("Apply", do(t, "restart").Plan(t.Context(), request), v1alpha1.TargetFailed, "has no `restart`")
	restart := w.request(w.incident("inc-1"), restartStep(), object)
	restart.Target.Undo = `{"restartedAt":"2026-11-21T16:00:00Z"}`
	w.expect("restart", do(t, "restart").Apply(t.Context(), restart), v1alpha1.TargetGone, "came back under the same name")
	w.undone("rollback", request, "came back under the same name")
	w.runs(successor, "registry.example/cart:1")
}

func TestRolloutNamesTheMissingRight(t *testing.T) {
	for name, test := range map[string]struct {
		verb, resource, kind, says string
	}{
		"get":                      {"get", "deployments", "Deployment", "may not get deployments in namespace 'SHOP': grant it 'get' on 'deployments' (API group 'apps') there by a RoleBinding"},
		"patch":                    {"patch", "deployments", "Deployment", "may not patch deployments in namespace 'SHOP'"},
		"list replicasets":         {"list", "replicasets", "Deployment", "may not list replicasets in namespace 'SHOP'"},
		"list controllerrevisions": {"list", "controllerrevisions", "DaemonSet", "may not list controllerrevisions in namespace 'SHOP'"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, without(rolloutRights, test.verb, test.resource))
			object := w.rollables()[test.kind]
			w.history(object, "good:1", "bad:2")
			w.deploy(object, "bad:2")
			w.missing("rollback", w.request(w.incident("inc-1"), rollbackStep(0), object), test.says)
			if test.verb == "patch" {
				w.missing("restart", w.request(w.incident("inc-1"), restartStep(), object), test.says)
			}
		})
	}
}
