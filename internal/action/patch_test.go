package action_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/expression"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// changeRights are what patch and apply need on what the tests change.
var changeRights = []rbacv1.PolicyRule{
	{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get", "create", "patch", "delete"}},
	{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "create", "patch", "delete"}},
}

func raw(text string) *runtime.RawExtension { return &runtime.RawExtension{Raw: []byte(text)} }

func patchStep(fields string) *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "change", Target: v1alpha1.TargetWorkloads, Patch: &v1alpha1.PatchAction{Fields: raw(fields)}}
}

// valued is a request whose expressions can be evaluated.
func (w *world) valued(incident *v1alpha1.Incident, step *v1alpha1.PlaybookStep, object client.Object) *action.Request {
	w.Helper()
	request := w.request(incident, step, object)
	request.Values = (&expression.Cache{}).Values(&v1alpha1.ResponsePlaybookSpec{})
	return request
}

func (w *world) cartDeployment(name string) *appsv1.Deployment {
	w.Helper()
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: name},
		Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](3), Selector: &metav1.LabelSelector{MatchLabels: cartLabels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: cartLabels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{
				{Name: "cart", Image: "registry.example/cart:1", Env: []corev1.EnvVar{{Name: "A", Value: "1"}}, Ports: []corev1.ContainerPort{{ContainerPort: 80}}},
				{Name: "log", Image: "registry.example/log:1"},
			}},
		}},
	}
	w.create(deployment)
	return deployment
}

// content reads an object without what the API server keeps about it.
func (w *world) content(object client.Object) map[string]any {
	w.Helper()
	kinds, _, err := scheme.ObjectKinds(object)
	if err != nil {
		w.Fatal(err)
	}
	read := &unstructured.Unstructured{}
	read.SetGroupVersionKind(kinds[0])
	if err := admin.Get(w.Context(), client.ObjectKeyFromObject(object), read); err != nil {
		w.Fatal(err)
	}
	for _, field := range []string{"managedFields", "resourceVersion", "generation"} {
		unstructured.RemoveNestedField(read.Object, "metadata", field)
	}
	return read.Object
}

// carryOut plans and applies a step.
func (w *world) carryOut(name string, request *action.Request, states ...v1alpha1.TargetState) lifecycle.Result {
	w.Helper()
	planned := do(w.T, name).Plan(w.Context(), request)
	w.expect("Plan", planned, v1alpha1.TargetActing)
	if len(planned.Undo) > 4096 {
		w.Fatalf("the undo record has %d bytes", len(planned.Undo))
	}
	request.Target.Undo = planned.Undo
	result := do(w.T, name).Apply(w.Context(), request)
	state := v1alpha1.TargetSucceeded
	if len(states) > 0 {
		state = states[0]
	}
	w.expect("Apply", result, state)
	return result
}

func TestPatchRestoresExactly(t *testing.T) {
	w := newWorld(t, changeRights)
	for name, fields := range map[string]string{
		"scalar":                 `{"spec": {"replicas": 0, "paused": true}}`,
		"new annotations":        `{"metadata": {"annotations": {"example.com/held": "yes"}, "labels": {"a/b": "c"}}}`,
		"container of a list":    `{"spec": {"template": {"spec": {"containers": [{"name": "cart", "image": "registry.example/cart:2"}]}}}}`,
		"list in a list":         `{"spec": {"template": {"spec": {"containers": [{"name": "cart", "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]}]}}}}`,
		"new container":          `{"spec": {"template": {"spec": {"containers": [{"name": "new", "image": "registry.example/new:1", "args": ["a"]}]}}}}`,
		"new fields in elements": `{"spec": {"template": {"spec": {"containers": [{"name": "log", "command": ["sh"], "resources": {"limits": {"cpu": "1000m"}}}], "nodeSelector": {"x": "y"}}}}}`,
		"atomic list":            `{"spec": {"template": {"spec": {"containers": [{"name": "cart", "args": ["x", "y"]}], "tolerations": [{"key": "a", "operator": "Exists"}]}}}}`,
		"port":                   `{"spec": {"template": {"spec": {"containers": [{"name": "cart", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}]}]}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			deployment := w.cartDeployment("cart-" + action.ShortHash(8, name))
			before := w.content(deployment)
			request := w.valued(w.incident("inc-1"), patchStep(fields), deployment)
			w.carryOut("patch", request)
			if cmp.Equal(before, w.content(deployment)) {
				t.Fatal("nothing was changed")
			}
			w.expect("repeated Apply", do(t, "patch").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
			w.expect("Observe", do(t, "patch").Observe(t.Context(), request), v1alpha1.TargetSucceeded)
			for _, try := range []string{"first", "repeated"} {
				w.expect(try+" Undo", do(t, "patch").Undo(t.Context(), request), v1alpha1.TargetReverted)
			}
			if diff := cmp.Diff(before, w.content(deployment)); diff != "" {
				t.Errorf("after Undo (-want +got):\n%s", diff)
			}
			w.get(deployment)
			for _, entry := range deployment.ManagedFields {
				if strings.HasPrefix(entry.Manager, "firebreak-") {
					t.Errorf("%s still owns fields", entry.Manager)
				}
			}
		})
	}
}

func TestPatchKeepsWhatOthersHaveChanged(t *testing.T) {
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	request := w.valued(w.incident("inc-1"), patchStep(`{"spec": {"replicas": 0, "paused": true}}`), deployment)
	w.carryOut("patch", request)
	w.patch(deployment, `{"spec": {"replicas": 5}}`)
	w.expect("Observe", do(t, "patch").Observe(t.Context(), request), v1alpha1.TargetFailed, "something has changed spec.replicas")
	w.expect("Undo", do(t, "patch").Undo(t.Context(), request), v1alpha1.TargetReverted, "put back: spec.paused", "left as somebody has set it since: spec.replicas")
	w.get(deployment)
	if *deployment.Spec.Replicas != 5 || deployment.Spec.Paused {
		t.Errorf("replicas %d, paused %v", *deployment.Spec.Replicas, deployment.Spec.Paused)
	}
}

func TestPatchHoldsAgainstDrift(t *testing.T) {
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	before := w.content(deployment)
	request := w.valued(w.incident("inc-1"), patchStep(`{"spec": {"replicas": 0}}`), deployment)
	w.carryOut("patch", request)
	w.patch(deployment, `{"spec": {"replicas": 3}}`)
	w.expect("Observe", do(t, "patch").Observe(t.Context(), request), v1alpha1.TargetFailed)
	w.expect("Apply again", do(t, "patch").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.expect("Undo", do(t, "patch").Undo(t.Context(), request), v1alpha1.TargetReverted)
	if diff := cmp.Diff(before, w.content(deployment)); diff != "" {
		t.Errorf("after Undo (-want +got):\n%s", diff)
	}
}

// A third value without the annotation of the response leaves nothing by which the object
// says that it was changed: what is lost is made again all the same, by the first record.
func TestPatchHoldsAgainstAThirdValue(t *testing.T) {
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	before := w.content(deployment)
	request := w.valued(w.incident("inc-1"), patchStep(`{"spec": {"replicas": 0}}`), deployment)
	w.carryOut("patch", request)
	w.patch(deployment, `{"metadata": {"annotations": {"`+w.changeMark(deployment)+`": null}}, "spec": {"replicas": 7}}`)
	w.expect("Observe", do(t, "patch").Observe(t.Context(), request), v1alpha1.TargetFailed)
	request.Target.Losses++
	w.carryOut("patch", request)
	if w.get(deployment); *deployment.Spec.Replicas != 0 {
		t.Errorf("replicas %d, want 0", *deployment.Spec.Replicas)
	}
	w.expect("Observe", do(t, "patch").Observe(t.Context(), request), v1alpha1.TargetSucceeded)
	w.expect("Undo", do(t, "patch").Undo(t.Context(), request), v1alpha1.TargetReverted, "put back: spec.replicas")
	if diff := cmp.Diff(before, w.content(deployment)); diff != "" {
		t.Errorf("after Undo (-want +got):\n%s", diff)
	}
}

// changeMark gives the one annotation by which an object says that a step has changed it.
func (w *world) changeMark(object client.Object) string {
	w.Helper()
	w.get(object)
	for key := range object.GetAnnotations() {
		if strings.HasPrefix(key, "change.firebreak.dev/") {
			return key
		}
	}
	w.Fatalf("%s does not say who has changed it", object.GetName())
	return ""
}

// Who takes the annotation of an earlier step away does not get back what a later one has set.
func TestPatchLeavesLaterStepsWithoutItsMark(t *testing.T) {
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	incident := w.incident("inc-1")
	first := w.valued(incident, patchStep(`{"spec": {"replicas": 2}}`), deployment)
	w.carryOut("patch", first)
	mark := w.changeMark(deployment)
	later := patchStep(`{"spec": {"replicas": 0}}`)
	later.Name = "stop"
	second := w.valued(incident, later, deployment)
	w.carryOut("patch", second)
	w.onRecord(incident, first, second)
	w.patch(deployment, `{"metadata": {"annotations": {"`+mark+`": null}}}`)
	w.expect("Observe", do(t, "patch").Observe(t.Context(), first), v1alpha1.TargetFailed)
	first.Target.Losses++
	w.carryOut("patch", first)
	if w.get(deployment); *deployment.Spec.Replicas != 0 {
		t.Errorf("replicas %d, want 0 as the later step has set", *deployment.Spec.Replicas)
	}
	w.expect("Observe of the later", do(t, "patch").Observe(t.Context(), second), v1alpha1.TargetSucceeded)
	w.expect("Observe", do(t, "patch").Observe(t.Context(), first), v1alpha1.TargetSucceeded)
}

func TestPatchChangedBetweenPlanAndApply(t *testing.T) {
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	request := w.valued(w.incident("inc-1"), patchStep(`{"spec": {"replicas": 0}}`), deployment)
	planned := do(t, "patch").Plan(t.Context(), request)
	w.expect("Plan", planned, v1alpha1.TargetActing)
	request.Target.Undo = planned.Undo
	w.patch(deployment, `{"spec": {"replicas": 7}}`)
	w.expect("Apply", do(t, "patch").Apply(t.Context(), request), v1alpha1.TargetPending, "changed at the same time")
	w.carryOut("patch", request)
	w.expect("Undo", do(t, "patch").Undo(t.Context(), request), v1alpha1.TargetReverted)
	if w.get(deployment); *deployment.Spec.Replicas != 7 {
		t.Errorf("replicas %d, want 7: what it was when it was changed", *deployment.Spec.Replicas)
	}
}

func TestPatchOfTwoIncidents(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			w := newWorld(t, changeRights)
			deployment := w.cartDeployment("cart")
			before := w.content(deployment)
			var requests []*action.Request
			for _, name := range []string{"inc-1", "inc-2"} {
				request := w.valued(w.incident(name), patchStep(`{"spec": {"replicas": 0}}`), deployment)
				w.carryOut("patch", request)
				requests = append(requests, request)
			}
			w.expect("first Undo", do(t, "patch").Undo(t.Context(), requests[order[0]]), v1alpha1.TargetReverted, "another response needs it")
			if w.get(deployment); *deployment.Spec.Replicas != 0 {
				t.Fatalf("replicas %d: the other incident needs 0", *deployment.Spec.Replicas)
			}
			w.expect("Observe of the other", do(t, "patch").Observe(t.Context(), requests[order[1]]), v1alpha1.TargetSucceeded)
			w.expect("second Undo", do(t, "patch").Undo(t.Context(), requests[order[1]]), v1alpha1.TargetReverted, "put back: spec.replicas")
			if diff := cmp.Diff(before, w.content(deployment)); diff != "" {
				t.Errorf("after both Undos (-want +got):\n%s", diff)
			}
		})
	}
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	w.carryOut("patch", w.valued(w.incident("inc-1"), patchStep(`{"spec": {"replicas": 0}}`), deployment))
	other := w.valued(w.incident("inc-2"), patchStep(`{"spec": {"replicas": 1}}`), deployment)
	w.expect("Plan of another value", do(t, "patch").Plan(t.Context(), other), v1alpha1.TargetFailed, "another response ('firebreak-inc-1-")
}

func TestPatchByExpressionIsEvaluatedOnce(t *testing.T) {
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	step := &v1alpha1.PlaybookStep{Name: "change", Patch: &v1alpha1.PatchAction{Expression: `{"spec": {"replicas": object.spec.replicas - 1}}`}}
	request := w.valued(w.incident("inc-1"), step, deployment)
	w.carryOut("patch", request)
	w.expect("repeated Apply", do(t, "patch").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	replanned := do(t, "patch").Plan(t.Context(), request)
	w.expect("repeated Plan", replanned, v1alpha1.TargetActing)
	request.Target.Undo = replanned.Undo
	w.expect("Apply after that", do(t, "patch").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	if w.get(deployment); *deployment.Spec.Replicas != 2 {
		t.Errorf("replicas %d, want 2", *deployment.Spec.Replicas)
	}
	w.expect("Undo", do(t, "patch").Undo(t.Context(), request), v1alpha1.TargetReverted)
	if w.get(deployment); *deployment.Spec.Replicas != 3 {
		t.Errorf("replicas %d after Undo, want 3", *deployment.Spec.Replicas)
	}
}

func TestPatchRefuses(t *testing.T) {
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	for fields, says := range map[string]string{
		`{"metadata": {"name": "x"}}`:                                      "must not set `metadata.name`",
		`{"metadata": {"namespace": "kube-system"}}`:                       "must not set `metadata.namespace`",
		`{"metadata": {"ownerReferences": []}}`:                            "must not set `metadata.ownerReferences`",
		`{"metadata": {"finalizers": ["a/b"]}}`:                            "must not set `metadata.finalizers`",
		`{"metadata": {"labels": {"firebreak.dev/incident": "x"}}}`:        "Firebreak goes by it",
		`{"metadata": {"annotations": {"handover.firebreak.dev/x": "x"}}}`: "Firebreak goes by it",
		`{"status": {"replicas": 0}}`:                                      "must not set `status`",
		`{"kind": "Secret"}`:                                               "must not set `kind`",
		`{"apiVersion": "v2"}`:                                             "must not set `apiVersion`",
		`{"spec": {"replicas": null}}`:                                     "`spec.replicas` is null",
		`{"spec": {"nosuch": 1}}`:                                          "nosuch",
		`{}`:                                                               "sets nothing",
		`{"metadata": {"annotations": {"example.com/big": "` + strings.Repeat("x", 10) + `"}}, "spec": {"replicas": -1}}`: "must be greater than or equal to 0",
	} {
		result := do(t, "patch").Plan(t.Context(), w.valued(w.incident("inc-1"), patchStep(fields), deployment))
		w.expect(fields, result, v1alpha1.TargetFailed, says)
		if !result.Permanent {
			t.Errorf("%s: must be refused for good", fields)
		}
	}
	incident := w.valued(w.incident("inc-1"), patchStep(`{"spec": {"title": "x"}}`), deployment)
	incident.Target.APIVersion, incident.Target.Kind = "firebreak.dev/v1alpha1", "Incident"
	w.expect("own kind", do(t, "patch").Plan(t.Context(), incident), v1alpha1.TargetFailed, "Firebreak's own kinds")
	incident.Target.APIVersion, incident.Target.Kind = "v1", "Secret"
	w.expect("a Secret", do(t, "patch").Plan(t.Context(), incident), v1alpha1.TargetFailed, "is a Secret")
}

func TestPatchWithoutRights(t *testing.T) {
	w := newWorld(t, without(changeRights, "patch", "deployments"))
	result := do(t, "patch").Plan(t.Context(), w.valued(w.incident("inc-1"), patchStep(`{"spec": {"replicas": 0}}`), w.cartDeployment("cart")))
	w.expect("Plan", result, v1alpha1.TargetFailed, w.user+" may not patch deployments in namespace '"+w.shop+"'")
}

func TestPatchOfWhatIsGone(t *testing.T) {
	w := newWorld(t, changeRights)
	deployment := w.cartDeployment("cart")
	request := w.valued(w.incident("inc-1"), patchStep(`{"spec": {"replicas": 0}}`), deployment)
	w.carryOut("patch", request)
	w.delete(deployment)
	w.expect("Undo", do(t, "patch").Undo(t.Context(), request), v1alpha1.TargetReverted, "does not exist any more")
	again := w.cartDeployment("cart")
	w.expect("Undo with a successor", do(t, "patch").Undo(t.Context(), request), v1alpha1.TargetReverted, "is not touched")
	w.expect("Apply with a successor", do(t, "patch").Apply(t.Context(), request), v1alpha1.TargetGone)
	if w.get(again); *again.Spec.Replicas != 3 {
		t.Error("the successor was changed")
	}
}

// may waits until the ServiceAccount has rights.
func (w *world) may(rights []rbacv1.PolicyRule) {
	w.Helper()
	for _, rule := range rights {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				resource, subresource, _ := strings.Cut(resource, "/")
				w.eventually(verb+" "+resource, func(ctx context.Context) bool {
					review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
						Group: rule.APIGroups[0], Resource: resource, Subresource: subresource, Verb: verb,
					}}}
					return w.client.Create(ctx, review) == nil && review.Status.Allowed
				})
			}
		}
	}
}

func TestPatchOfTwoStepsOfOneIncident(t *testing.T) {
	for _, order := range [][]int{{1, 0}, {0, 1}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			w := newWorld(t, changeRights)
			deployment := w.cartDeployment("cart")
			before := w.content(deployment)
			requests := w.twoSteps(deployment)
			for _, i := range order {
				w.expect("Undo", do(t, "patch").Undo(t.Context(), requests[i]), v1alpha1.TargetReverted)
			}
			if diff := cmp.Diff(before, w.content(deployment)); diff != "" {
				t.Errorf("after both (-want +got):\n%s", diff)
			}
		})
	}
}

// twoSteps sets a field by one step and again by a later one.
func (w *world) twoSteps(deployment client.Object) []*action.Request {
	w.Helper()
	t := w.T
	incident := w.incident("inc-1")
	first := w.valued(incident, patchStep(`{"spec": {"replicas": 0, "paused": true}}`), deployment)
	w.carryOut("patch", first)
	later := patchStep(`{"spec": {"replicas": 1}}`)
	later.Name = "warm-up"
	second := w.valued(incident, later, deployment)
	w.carryOut("patch", second)
	w.onRecord(incident, first, second)
	w.expect("Observe of the first", do(t, "patch").Observe(t.Context(), first), v1alpha1.TargetSucceeded)
	w.patch(deployment, `{"spec": {"paused": false}}`)
	w.expect("Observe of the first after a change", do(t, "patch").Observe(t.Context(), first), v1alpha1.TargetFailed, "something has changed spec.paused")
	w.carryOut("patch", first)
	return []*action.Request{first, second}
}

// onRecord writes down in the incident what its steps have done.
func (w *world) onRecord(incident *v1alpha1.Incident, requests ...*action.Request) {
	incident.Status.Steps = nil
	for _, request := range requests {
		incident.Status.Steps = append(incident.Status.Steps, v1alpha1.IncidentStep{
			Name: request.Step.Name, Action: lifecycle.ActionOf(request.Step), Targets: []v1alpha1.StepTarget{request.Target},
		})
	}
}

// With a client whose every write is a dry run, nothing is changed and nothing waits.
func TestObjectActionsInADryRun(t *testing.T) {
	w := clusterWorld(t, slices.Concat(changeRights, revokeRights, blockRights, jobRights[:3]))
	deployment := w.cartDeployment("cart")
	binding := w.bind("view", "view", w.account())
	before := []map[string]any{w.content(deployment), w.content(binding)}
	for name, request := range map[string]*action.Request{
		"patch":        w.valued(w.incident("inc-1"), patchStep(`{"spec": {"replicas": 0}}`), deployment),
		"apply":        w.onIncident(w.incident("inc-1"), applyStep(w.configMapText(`{"a": "1"}`))),
		"revokeAccess": w.revoke("inc-1"),
		"blockImage":   w.block("registry.example/dry:1", v1alpha1.ImageReference),
		"job":          w.onIncident(w.incident("inc-1"), jobStep(simpleJob)),
	} {
		request.Client, request.DryRun = client.NewDryRunClient(w.client), true
		w.carryOut(name, request)
	}
	if diff := cmp.Diff(before, []map[string]any{w.content(deployment), w.content(binding)}); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	if len(w.jobs()) != 0 || w.tryPod(w.shop, runs("registry.example/dry:1")) != nil {
		t.Error("a Job was made, or an image is blocked")
	}
	made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "block"}}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(made), made); !apierrors.IsNotFound(err) {
		t.Errorf("get: %v, want NotFound", err)
	}
}
