package action_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// blockRights are what blockImage needs, and what it needs to prove that it bites.
var blockRights = []rbacv1.PolicyRule{
	{APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"}, Verbs: []string{"get", "create", "patch", "delete"}},
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "create"}},
}

func blockStep(match v1alpha1.ImageMatch) *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "block", Target: v1alpha1.TargetImages, BlockImage: &v1alpha1.BlockImageAction{Match: match}}
}

func (w *world) block(image string, match v1alpha1.ImageMatch) *action.Request {
	request := w.onIncident(w.incident("inc-1"), blockStep(match))
	request.Target = action.ImageTarget(image)
	return request
}

// bitten carries a block out until it is proven.
func (w *world) bitten(request *action.Request) lifecycle.Result {
	w.Helper()
	planned := do(w.T, "blockImage").Plan(w.Context(), request)
	w.expect("Plan", planned, v1alpha1.TargetActing)
	request.Target.Undo = planned.Undo
	result := do(w.T, "blockImage").Apply(w.Context(), request)
	w.eventually("the policy to bite", func(ctx context.Context) bool {
		if result.State == v1alpha1.TargetApplied {
			result = do(w.T, "blockImage").Observe(ctx, request)
		}
		return result.State != v1alpha1.TargetApplied
	})
	w.Cleanup(func() { do(w.T, "blockImage").Undo(context.Background(), request) })
	return result
}

// blocks makes a block, whether it bites at once or not yet: a policy takes about a second,
// and a busy machine no less.
func (w *world) blocks(request *action.Request) {
	w.Helper()
	planned := do(w.T, "blockImage").Plan(w.Context(), request)
	w.expect("Plan", planned, v1alpha1.TargetActing)
	request.Target.Undo = planned.Undo
	if result := do(w.T, "blockImage").Apply(w.Context(), request); result.State != v1alpha1.TargetApplied && result.State != v1alpha1.TargetSucceeded {
		w.Fatalf("Apply: %s (%s), want it done", result.State, result.Message)
	}
}

// tryPod tries to make a pod and says whether it was refused by a policy.
func (w *world) tryPod(namespace string, change func(*corev1.Pod)) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "try-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "registry.example/fine:1"}}},
	}
	change(pod)
	return admin.Create(w.Context(), pod, client.DryRunAll)
}

func runs(image string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = image }
}

const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestBlockImage(t *testing.T) {
	w := clusterWorld(t, blockRights)
	for name, test := range map[string]struct {
		image    string
		match    v1alpha1.ImageMatch
		refused  []string
		accepted []string
	}{
		"digest": {"registry.example/cart@" + digest, v1alpha1.ImageDigest,
			[]string{"registry.example/cart@" + digest, "elsewhere:5000/x:1@" + digest}, []string{"registry.example/cart:1", "registry.example/cart@" + strings.Replace(digest, "a", "b", 1)}},
		"reference": {"registry.example/blocked:1", v1alpha1.ImageReference,
			[]string{"registry.example/blocked:1"}, []string{"registry.example/blocked:2", "registry.example/blocked:11", "registry.example/blocked"}},
		"repository": {"registry.example:5000/cart:1", v1alpha1.ImageRepository,
			[]string{"registry.example:5000/cart", "registry.example:5000/cart:9", "registry.example:5000/cart@" + digest}, []string{"registry.example:5000/cart2:1", "registry.example/cart"}},
		"spellings of Docker's registry": {"nginx", "",
			[]string{"nginx", "nginx:latest", "docker.io/library/nginx", "library/nginx:latest", "index.docker.io/library/nginx"}, []string{"nginx:1", "example/nginx"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			request := w.block(test.image, test.match)
			w.expect("Observe", w.bitten(request), v1alpha1.TargetSucceeded, "a pod that runs it was refused")
			for _, image := range test.refused {
				if err := w.tryPod(w.shop, runs(image)); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "incident 'inc-1'") {
					t.Errorf("%s: %v, want Forbidden", image, err)
				}
			}
			for _, image := range test.accepted {
				if err := w.tryPod(w.shop, runs(image)); err != nil {
					t.Errorf("%s: %v, want none", image, err)
				}
			}
			if err := w.tryPod(w.shop, func(pod *corev1.Pod) {
				pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: test.refused[0]}}
			}); !apierrors.IsForbidden(err) {
				t.Errorf("init container: %v, want Forbidden", err)
			}
			if err := w.tryPod(metav1.NamespaceSystem, runs(test.refused[0])); err != nil {
				t.Errorf("kube-system: %v, want none", err)
			}
			w.expect("repeated Apply", do(t, "blockImage").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
			for _, try := range []string{"first", "repeated"} {
				w.expect(try+" Undo", do(t, "blockImage").Undo(t.Context(), request), v1alpha1.TargetReverted)
			}
			w.eventually("the policy to end", func(context.Context) bool { return w.tryPod(w.shop, runs(test.refused[0])) == nil })
		})
	}
}

// Whatever the name of an image holds, it blocks that image and nothing else.
func TestBlockImageQuotes(t *testing.T) {
	w := clusterWorld(t, blockRights)
	for _, image := range []string{
		`x"] || true || image in ["`, `x\"]) || (true`, "x\n\"]\t|| true", `x\u0022] || true`, "x'${1}é\U0001F600 \u2028y", `\`, `x\\" + "y`,
	} {
		t.Run(image, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			request := w.block(image, v1alpha1.ImageReference)
			result := w.bitten(request)
			w.expect("Observe", result, v1alpha1.TargetSucceeded, "a pod that runs it was refused")
			if err := w.tryPod(w.shop, runs(image)); !apierrors.IsForbidden(err) {
				t.Errorf("%q: %v, want Forbidden", image, err)
			}
			if err := w.tryPod(w.shop, runs("registry.example/fine:1")); err != nil {
				t.Errorf("another image: %v, want none", err)
			}
			w.expect("Undo", do(t, "blockImage").Undo(t.Context(), request), v1alpha1.TargetReverted)
		})
	}
}

// A pod that runs the image already can still be labelled, as isolating it does; it
// cannot be given the image by a change.
func TestBlockImageSparesWhatRuns(t *testing.T) {
	w := clusterWorld(t, blockRights)
	running := w.pod("cart-1", nil, cartLabels, runs("registry.example/running:1"))
	other := w.pod("other", nil, cartLabels, runs("registry.example/other:1"))
	request := w.block(running.Spec.Containers[0].Image, v1alpha1.ImageReference)
	w.bitten(request)
	w.patch(running, `{"metadata": {"labels": {"isolated": "yes"}}}`)
	other.Spec.Containers[0].Image = running.Spec.Containers[0].Image
	if err := admin.Update(t.Context(), other); !apierrors.IsForbidden(err) {
		t.Errorf("update of another pod: %v, want Forbidden", err)
	}
}

// A target stands for the digest that runs: the names by which the pods call it are
// refused too.
func TestBlockImageByTheNamesOfPods(t *testing.T) {
	w := clusterWorld(t, blockRights)
	pod := w.pod("cart-1", nil, cartLabels, runs("registry.example/named:1"))
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "cart", Image: "x", ImageID: "registry.example/named@" + digest}}
	if err := admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	request := w.block("registry.example/named@"+digest, v1alpha1.ImageReference)
	request.Incident.Status.Resources = []v1alpha1.IncidentResource{{ResourceReference: v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: w.shop, Name: pod.Name}}}
	w.expect("Observe", w.bitten(request), v1alpha1.TargetSucceeded, "registry.example/named:1", digest)
}

// named makes a pod whose containers name one digest in different ways, and a block of it.
func (w *world) named(images ...string) (*corev1.Pod, *action.Request) {
	w.Helper()
	pod := w.pod("cart-1", nil, cartLabels, func(pod *corev1.Pod) {
		pod.Spec.Containers = nil
		for i, image := range images {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprintf("cart-%d", i), Image: image})
		}
	})
	repository, _, _ := strings.Cut(images[0], ":")
	for i := range images {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: fmt.Sprintf("cart-%d", i), Image: "x", ImageID: repository + "@" + digest,
		})
	}
	if err := admin.Status().Update(w.Context(), pod); err != nil {
		w.Fatal(err)
	}
	request := w.block(repository+"@"+digest, v1alpha1.ImageReference)
	request.Incident.Status.Resources = []v1alpha1.IncidentResource{{ResourceReference: v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: w.shop, Name: pod.Name}}}
	return pod, request
}

func imagesIn(t *testing.T, undo string) []string {
	t.Helper()
	record := struct {
		Images []string `json:"images"`
	}{}
	if err := json.Unmarshal([]byte(undo), &record); err != nil {
		t.Fatal(err)
	}
	return record.Images
}

// What was blocked stays blocked when it is planned again after a loss, also when the pods
// that named it are gone, and when more names come than can be recorded.
func TestBlockImageRemembersTheNamesOfPods(t *testing.T) {
	w := clusterWorld(t, blockRights)
	pod, request := w.named("registry.example/told:1")
	w.blocks(request)
	t.Cleanup(func() { do(t, "blockImage").Undo(context.Background(), request) })
	want := []string{"registry.example/told:1", "registry.example/told@" + digest}
	if diff := cmp.Diff(want, imagesIn(t, request.Target.Undo)); diff != "" {
		t.Fatalf("images (-want +got):\n%s", diff)
	}
	w.delete(pod)
	request.Target.Losses++
	again := do(t, "blockImage").Plan(t.Context(), request)
	w.expect("Plan without the pod", again, v1alpha1.TargetActing)
	if diff := cmp.Diff(want, imagesIn(t, again.Undo)); diff != "" {
		t.Errorf("images without the pod (-want +got):\n%s", diff)
	}
	if strings.Contains(again.Message, "could not be read") {
		t.Errorf("message %q: a pod that is gone names nothing", again.Message)
	}
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("registry.example/told:%0100d", i))
	}
	_, crowd := w.named(many...)
	crowd.Target.Undo, crowd.Target.Losses = request.Target.Undo, 2
	again = do(t, "blockImage").Plan(t.Context(), crowd)
	w.expect("Plan with too many names", again, v1alpha1.TargetActing, "60 more names by which pods call it are not blocked")
	if diff := cmp.Diff(want, imagesIn(t, again.Undo)); diff != "" {
		t.Errorf("images with too many names (-want +got):\n%s", diff)
	}
}

// failingPods does not give pods.
type failingPods struct {
	client.Client
	err error
}

func (f failingPods) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if _, ok := object.(*corev1.Pod); ok {
		return f.err
	}
	return f.Client.Get(ctx, key, object, options...)
}

// How pods name the image is part of what is blocked: that it could not be read is said,
// and is tried again when it may pass.
func TestBlockImageOfPodsThatCannotBeRead(t *testing.T) {
	w := clusterWorld(t, blockRights)
	_, request := w.named("registry.example/unread:1")
	request.Client = failingPods{w.client, apierrors.NewServiceUnavailable("later")}
	result := do(t, "blockImage").Plan(t.Context(), request)
	w.expect("Plan", result, v1alpha1.TargetFailed, "could not get pods 'cart-1'", "later")
	if result.Permanent {
		t.Error("it must be tried again")
	}
	request.Client = failingPods{w.client, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "cart-1", errors.New("no"))}
	w.expect("Plan without the right", do(t, "blockImage").Plan(t.Context(), request), v1alpha1.TargetActing,
		"how Pod '"+w.shop+"/cart-1' names it could not be read")
}

// deletions notes what is deleted, in order.
type deletions struct {
	client.Client
	names *[]string
}

func (d deletions) Delete(ctx context.Context, object client.Object, options ...client.DeleteOption) error {
	*d.names = append(*d.names, fmt.Sprintf("%T", object))
	return d.Client.Delete(ctx, object, options...)
}

func TestBlockImageUndoOrder(t *testing.T) {
	w := clusterWorld(t, blockRights)
	var got, want []string
	for range 5 {
		request := w.block("registry.example/blocked:1", v1alpha1.ImageReference)
		request.Client = deletions{w.client, &got}
		w.blocks(request)
		w.expect("Undo", do(t, "blockImage").Undo(t.Context(), request), v1alpha1.TargetReverted, "are not refused any more")
		want = append(want, "*v1.ValidatingAdmissionPolicyBinding", "*v1.ValidatingAdmissionPolicy")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
}

func TestBlockImageUndoSaysWhatItLeaves(t *testing.T) {
	w := clusterWorld(t, blockRights)
	request := w.block("registry.example/blocked:1", v1alpha1.ImageReference)
	w.blocks(request)
	list := &admissionv1.ValidatingAdmissionPolicyList{}
	if err := admin.List(t.Context(), list, client.MatchingLabels{v1alpha1.LabelIncident: "inc-1"}); err != nil || len(list.Items) != 1 {
		t.Fatalf("%d policies, %v", len(list.Items), err)
	}
	policy := &list.Items[0]
	t.Cleanup(func() { _ = admin.Delete(context.Background(), policy) })
	w.patch(policy, `{"metadata": {"labels": {"firebreak.dev/incident": null}}}`)
	result := do(t, "blockImage").Undo(t.Context(), request)
	w.expect("Undo", result, v1alpha1.TargetReverted,
		"ValidatingAdmissionPolicy '"+policy.Name+"' does not carry the incident's labels any more and is not touched: delete it by hand")
	if strings.Contains(result.Message, "are not refused any more") {
		t.Errorf("message %q says what is not known", result.Message)
	}
	w.get(policy)
}

func TestBlockImageSeesDriftAndSaysWhatIsNotProven(t *testing.T) {
	w := clusterWorld(t, blockRights)
	request := w.block("registry.example/blocked:1", v1alpha1.ImageReference)
	w.bitten(request)
	list := &admissionv1.ValidatingAdmissionPolicyBindingList{}
	if err := admin.List(t.Context(), list, client.MatchingLabels{v1alpha1.LabelIncident: "inc-1"}); err != nil || len(list.Items) != 1 {
		t.Fatalf("%d bindings, %v", len(list.Items), err)
	}
	w.patch(&list.Items[0], `{"spec": {"validationActions": ["Audit"]}}`)
	w.expect("Observe", do(t, "blockImage").Observe(t.Context(), request), v1alpha1.TargetFailed, "something has changed")
	do(t, "blockImage").Apply(t.Context(), request)
	w.get(&list.Items[0])
	if diff := cmp.Diff([]admissionv1.ValidationAction{"Deny", "Audit"}, list.Items[0].Spec.ValidationActions); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
	w.delete(&list.Items[0])
	w.expect("Observe", do(t, "blockImage").Observe(t.Context(), request), v1alpha1.TargetFailed, "something has deleted")

	w = clusterWorld(t, blockRights[:1])
	request = w.block("registry.example/blocked:1", v1alpha1.ImageReference)
	w.expect("without create pods", w.bitten(request), v1alpha1.TargetSucceeded, "is not proven: "+w.user+" may not create pods")
	hostile := w.block("registry.example/100%d%s:1", v1alpha1.ImageReference)
	w.expect("a name that looks like a format", w.bitten(hostile), v1alpha1.TargetSucceeded, "'registry.example/100%d%s:1'", "is not proven: "+w.user)
	w.expect("no digest", do(t, "blockImage").Plan(t.Context(), w.block("nginx:1", v1alpha1.ImageDigest)), v1alpha1.TargetFailed, "names no digest")
	w = newWorld(t, nil)
	w.expect("without rights", do(t, "blockImage").Plan(t.Context(), w.block("nginx:1", v1alpha1.ImageReference)), v1alpha1.TargetFailed, "may not get validatingadmissionpolicies")
}
