package action_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

// scaleRights do not allow to write a workload as a whole.
var scaleRights = []rbacv1.PolicyRule{
	{APIGroups: []string{"apps"}, Resources: []string{"deployments", "statefulsets", "replicasets", "daemonsets"}, Verbs: []string{"get"}},
	{APIGroups: []string{"apps"}, Resources: []string{"deployments/scale", "statefulsets/scale", "replicasets/scale", "daemonsets/scale"}, Verbs: []string{"get", "patch"}},
	{APIGroups: []string{"autoscaling"}, Resources: []string{"horizontalpodautoscalers"}, Verbs: []string{"list"}},
}

func scaleStep(replicas int32) *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "stop", Target: v1alpha1.TargetWorkloads, Scale: &v1alpha1.ScaleAction{Replicas: ptr.To(replicas)}}
}

// workloadOf makes a Deployment of that many replicas.
func (w *world) workloadOf(name string, replicas int32) *appsv1.Deployment {
	w.Helper()
	selector := byLabel("app", "cart")
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: name},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr.To(replicas), Selector: &selector, Template: template(map[string]string{"app": "cart"})},
	}
	w.create(deployment)
	return deployment
}

func (w *world) replicas(deployment *appsv1.Deployment, want int32) {
	w.Helper()
	if w.get(deployment); *deployment.Spec.Replicas != want {
		w.Fatalf("%d replicas, want %d", *deployment.Spec.Replicas, want)
	}
}

func TestScale(t *testing.T) {
	w := newWorld(t, scaleRights)
	deployment := w.workloadOf("cart", 3)
	request := w.request(w.incident("inc-1"), scaleStep(0), deployment)
	scale := do(t, "scale")
	w.expect("Plan", scale.Plan(t.Context(), request), v1alpha1.TargetActing, "will be scaled from 3 to 0 replicas")
	w.replicas(deployment, 3)
	w.applied("scale", request, "is scaled to 0 replicas")
	w.replicas(deployment, 0)

	w.patch(deployment, `{"metadata":{"labels":{"other":"change"}}}`)
	w.expect("Observe after another change", scale.Observe(t.Context(), request), v1alpha1.TargetSucceeded)
	w.patch(deployment, `{"spec":{"replicas":5}}`)
	w.expect("Observe after somebody has scaled it", scale.Observe(t.Context(), request), v1alpha1.TargetFailed, "something has scaled Deployment 'cart' to 5 replicas")
	w.madeAgain("scale", request)
	w.replicas(deployment, 0)

	planned := request.Target.Undo
	w.planned("scale", request)
	if got := scaleBefore(t, request); got != 3 {
		t.Errorf("planned again while it stands, it would give back %d replicas, want 3 (first %s)", got, planned)
	}
	w.undone("scale", request, "has 3 replicas again")
	w.replicas(deployment, 3)
	w.patch(deployment, `{"spec":{"replicas":0}}`)
	w.expect("Undo after somebody has scaled it", scale.Undo(t.Context(), request), v1alpha1.TargetReverted, "is left at 0 replicas, as somebody has set it since; it had 3 before")
	w.replicas(deployment, 0)
}

func scaleBefore(t *testing.T, request *action.Request) int32 {
	t.Helper()
	record := struct{ Before int32 }{}
	if err := json.Unmarshal([]byte(request.Target.Undo), &record); err != nil {
		t.Fatal(err)
	}
	return record.Before
}

func TestScaleKeepsWhatSomebodyHasSetMeanwhile(t *testing.T) {
	w := newWorld(t, scaleRights)
	deployment := w.workloadOf("cart", 3)
	request := w.request(w.incident("inc-1"), scaleStep(0), deployment)
	w.applied("scale", request)
	w.patch(deployment, `{"spec":{"replicas":7}}`)
	w.undone("scale", request, "is left at 7 replicas")
	w.replicas(deployment, 7)

	same := w.workloadOf("idle", 0)
	request = w.request(w.incident("inc-1"), scaleStep(0), same)
	w.applied("scale", request)
	w.undone("scale", request, "has 0 replicas, as before")
	request.Target.Undo = ""
	w.undone("scale", request, "nothing was done")
}

func TestTwoIncidentsScaleOneWorkload(t *testing.T) {
	for name, wants := range map[string][2]int32{"the same": {0, 0}, "less, then more": {0, 1}, "more, then less": {1, 0}} {
		for order, at := range map[string][2]int{"first goes first": {0, 1}, "last goes first": {1, 0}} {
			t.Run(name+", "+order, func(t *testing.T) {
				w := newWorld(t, scaleRights)
				deployment := w.workloadOf("cart", 3)
				requests := []*action.Request{
					w.request(w.incident("inc-1"), scaleStep(wants[0]), deployment), w.request(w.incident("inc-2"), scaleStep(wants[1]), deployment),
				}
				scale := do(t, "scale")
				w.applied("scale", requests[0])
				w.applied("scale", requests[1])
				w.replicas(deployment, 0)
				w.hold(requests[0])
				w.replicas(deployment, 0)

				first, second := requests[at[0]], requests[at[1]]
				w.undone("scale", first, "another incident holds it")
				w.hold(second)
				w.replicas(deployment, *second.Step.Scale.Replicas)
				w.expect("Observe of the one left", scale.Observe(t.Context(), second), v1alpha1.TargetSucceeded)
				w.undone("scale", second, "has 3 replicas again")
				w.replicas(deployment, 3)
			})
		}
	}
}

// hold does what the runner does about an effect that it holds.
func (w *world) hold(request *action.Request) {
	w.Helper()
	scale := do(w.T, "scale")
	if result := scale.Observe(w.Context(), request); result.State != v1alpha1.TargetSucceeded {
		w.expect("Apply of what is held", scale.Apply(w.Context(), request), v1alpha1.TargetSucceeded)
	}
}

func TestScaleRefuses(t *testing.T) {
	w := newWorld(t, scaleRights)
	deployment := w.workloadOf("cart", 3)
	w.create(&autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart"},
		Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 9, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "cart"}},
	})
	selector := byLabel("app", "agent")
	agent := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "agent"}, Spec: appsv1.DaemonSetSpec{Selector: &selector, Template: template(map[string]string{"app": "agent"})}}
	w.create(agent)
	set := w.replicaSet()
	w.patch(set, `{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"cart","uid":"`+string(deployment.UID)+`","controller":true}]}}`)
	for name, test := range map[string]struct {
		object client.Object
		step   *v1alpha1.PlaybookStep
		says   string
	}{
		"an autoscaler": {deployment, scaleStep(2), "is scaled by HorizontalPodAutoscaler 'cart', which would undo this: `replicas` must be 0"},
		"no scale":      {agent, scaleStep(0), "cannot be scaled: the API server serves no `scale` for it"},
		"its owner":     {set, scaleStep(0), "is run by Deployment 'cart', which would scale it back"},
		"no replicas":   {deployment, &v1alpha1.PlaybookStep{Name: "stop"}, "has no `scale.replicas`"},
	} {
		t.Run(name, func(t *testing.T) {
			result := do(t, "scale").Plan(t.Context(), w.request(w.incident("inc-1"), test.step, test.object))
			w.expect("Plan", result, v1alpha1.TargetFailed, test.says)
			if !result.Permanent {
				t.Error("must be permanent")
			}
		})
	}
	request := w.request(w.incident("inc-1"), scaleStep(0), deployment)
	w.applied("scale", request)
	w.undone("scale", request)
	w.replicas(deployment, 3)
}

func TestScaleGoneOrReplaced(t *testing.T) {
	w := newWorld(t, scaleRights)
	deployment := w.workloadOf("cart", 3)
	request := w.request(w.incident("inc-1"), scaleStep(0), deployment)
	w.applied("scale", request)
	w.delete(deployment)
	w.expect("Observe", do(t, "scale").Observe(t.Context(), request), v1alpha1.TargetGone)
	w.expect("Undo", do(t, "scale").Undo(t.Context(), request), v1alpha1.TargetReverted, "does not exist any more")
	successor := w.workloadOf("cart", 4)
	w.expect("Plan", do(t, "scale").Plan(t.Context(), request), v1alpha1.TargetGone, "came back under the same name")
	w.expect("Apply", do(t, "scale").Apply(t.Context(), request), v1alpha1.TargetGone, "came back under the same name")
	w.expect("Undo", do(t, "scale").Undo(t.Context(), request), v1alpha1.TargetReverted, "came back under the same name")
	w.replicas(successor, 4)
}

// A workload that is replaced between a look and the write is not scaled: the API server
// holds the write to the UID.
func TestScaleIsHeldToTheUID(t *testing.T) {
	w := newWorld(t, scaleRights)
	deployment := w.workloadOf("cart", 3)
	request := w.request(w.incident("inc-1"), scaleStep(0), deployment)
	w.planned("scale", request)
	w.delete(deployment)
	successor := w.workloadOf("cart", 4)
	request.Client = staleReader{Client: w.client, stale: deployment}
	result := do(t, "scale").Apply(t.Context(), request)
	w.expect("Apply", result, v1alpha1.TargetFailed, "it was changed at the same time")
	w.replicas(successor, 4)
}

// staleReader reads the metadata of an object as it was.
type staleReader struct {
	client.Client
	stale client.Object
}

func (s staleReader) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if metadata, ok := object.(*metav1.PartialObjectMetadata); ok {
		metadata.SetUID(s.stale.GetUID())
		metadata.SetName(s.stale.GetName())
		return nil
	}
	return s.Client.Get(ctx, key, object, options...)
}

func TestScaleWorksOnStatefulSets(t *testing.T) {
	w := newWorld(t, scaleRights)
	selector := byLabel("app", "db")
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "db"}, Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](2), Selector: &selector, Template: template(map[string]string{"app": "db"})}}
	w.create(set)
	request := w.request(w.incident("inc-"+strings.Repeat("x", 200)), scaleStep(1), set)
	w.applied("scale", request)
	if w.get(set); *set.Spec.Replicas != 1 {
		t.Errorf("%d replicas, want 1", *set.Spec.Replicas)
	}
	w.undone("scale", request)
	if w.get(set); *set.Spec.Replicas != 2 {
		t.Errorf("%d replicas, want 2", *set.Spec.Replicas)
	}
	scale := &autoscalingv1.Scale{}
	if err := w.client.SubResource("scale").Update(t.Context(), set, client.WithSubResourceBody(scale)); !apierrors.IsForbidden(err) {
		t.Errorf("update of the scale: %v, want Forbidden: the test must have no more rights than are documented", err)
	}
}

func TestScaleNamesTheMissingRight(t *testing.T) {
	for name, test := range map[string]struct{ verb, resource, says string }{
		"get":         {"get", "deployments", "may not get deployments in namespace 'SHOP': grant it 'get' on 'deployments' (API group 'apps') there by a RoleBinding"},
		"get scale":   {"get", "deployments/scale", "may not get deployments/scale in namespace 'SHOP': grant it 'get' on 'deployments/scale' (API group 'apps')"},
		"patch scale": {"patch", "deployments/scale", "may not patch deployments/scale in namespace 'SHOP': grant it 'patch' on 'deployments/scale' (API group 'apps')"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, without(scaleRights, test.verb, test.resource))
			w.missing("scale", w.request(w.incident("inc-1"), scaleStep(0), w.workloadOf("cart", 3)), test.says)
		})
	}
	w := newWorld(t, without(scaleRights, "list", "horizontalpodautoscalers"))
	result := do(t, "scale").Plan(t.Context(), w.request(w.incident("inc-1"), scaleStep(1), w.workloadOf("cart", 3)))
	w.expect("Plan without a look at autoscalers", result, v1alpha1.TargetActing, "whether a HorizontalPodAutoscaler scales it could not be seen")
}
