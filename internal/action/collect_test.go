package action_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clientgocorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/evidence"
)

const managerName = "system:serviceaccount:firebreak-system:firebreak-manager"

// nodeLogs answers for a node: the log of each container, as 'name' or 'name/previous'.
type nodeLogs struct {
	logs map[string]string
	err  error
	asks []string
}

func (n *nodeLogs) OpenLog(_ context.Context, _, _ string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
	name := options.Container
	if options.Previous {
		name += "/previous"
	}
	n.asks = append(n.asks, name)
	text, ok := n.logs[name]
	if !ok {
		return nil, n.err
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func (w *world) recorder() *evidence.Recorder {
	w.Helper()
	store, err := evidence.OpenStore(w.Context(), "file://"+w.TempDir(), "")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = store.Close() })
	return &evidence.Recorder{
		Client: admin, Namespaces: admin, Store: store, Clock: clocktesting.NewFakePassiveClock(now),
		Manager: managerName, Version: "v0.1.0", APIServerVersion: "v1.36.3",
	}
}

// kept gives the Evidence of the domain by type and container, and its bytes.
func (w *world) kept(recorder *evidence.Recorder) (map[string]*v1alpha1.Evidence, map[string]string) {
	w.Helper()
	list := &v1alpha1.EvidenceList{}
	if err := admin.List(w.Context(), list, client.InNamespace(w.domain)); err != nil {
		w.Fatal(err)
	}
	objects, contents := map[string]*v1alpha1.Evidence{}, map[string]string{}
	for i := range list.Items {
		item := &list.Items[i]
		key := string(item.Spec.Type)
		if item.Spec.Resource != nil && item.Spec.Resource.Container != "" {
			key += "/" + item.Spec.Resource.Container
		}
		if strings.Contains(item.Spec.Method, "previous=true") {
			key += "/previous"
		}
		objects[key] = item
		reader, err := recorder.Store.Open(w.Context(), item.Status.Location)
		if err != nil {
			w.Fatal(err)
		}
		raw, err := io.ReadAll(reader)
		if err != nil {
			w.Fatal(err)
		}
		_ = reader.Close()
		contents[key] = string(raw)
		if err := recorder.Store.Check(w.Context(), item.Status.Location, item.Spec.Digest); err != nil {
			w.Errorf("%s: %v", key, err)
		}
	}
	return objects, contents
}

func collectStep(collect v1alpha1.CollectAction) *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "preserve", Target: v1alpha1.TargetPods, Collect: &collect}
}

// restartedPod makes a pod with a secret in its environment that was restarted once.
func (w *world) restartedPod() *corev1.Pod {
	w.Helper()
	pod := w.pod("cart-1", w.replicaSet(), cartLabels, func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": `{"password":"hunter2"}`}
		pod.Spec.NodeName = "node-1"
		pod.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "registry.example/setup:1"}}
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "MODE", Value: "live"}, {Name: "DB_PASSWORD", Value: "hunter2"}}
	})
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "cart", ContainerID: "containerd://2", ImageID: "registry.example/cart@sha256:1", RestartCount: 1,
		State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://1"}},
	}}
	if err := admin.Status().Update(w.Context(), pod); err != nil {
		w.Fatal(err)
	}
	w.create(&corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: w.shop, Name: "cart-1.started"},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: w.shop, Name: pod.Name, UID: pod.UID}, Reason: "Started",
	})
	w.create(&corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: w.shop, Name: "other.started"},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: w.shop, Name: "other", UID: "other"}, Reason: "Started",
	})
	return pod
}

func TestCollect(t *testing.T) {
	w := newWorld(t, allRights)
	w.allow("team-web", byLabel("tier", "web"))
	pod := w.restartedPod()
	recorder := w.recorder()
	logs := &nodeLogs{logs: map[string]string{"cart": "2026 now\n", "cart/previous": "2026 before\n", "setup": ""}}
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{Logs: &v1alpha1.CollectLogs{TailLines: 10}}), pod)
	request.Logs, request.Evidence = logs, recorder
	collect := do(t, "collect")
	w.expect("Plan", collect.Plan(t.Context(), request), v1alpha1.TargetActing)
	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Apply", collect.Apply(t.Context(), request), v1alpha1.TargetSucceeded,
			"kept: manifest, events, log of container cart, log of container cart before its restart, log of container setup")
	}
	if diff := cmp.Diff([]string{"cart", "cart/previous", "setup"}, logs.asks); diff != "" {
		t.Errorf("logs that were read: what is kept must not be read again (-want +got):\n%s", diff)
	}
	objects, contents := w.kept(recorder)
	if diff := cmp.Diff([]string{"Events", "Log/cart", "Log/cart/previous", "Log/setup", "Manifest"}, slices.Sorted(maps.Keys(objects))); diff != "" {
		t.Fatalf("evidence (-want +got):\n%s", diff)
	}
	if contents["Log/cart"] != "2026 now\n" || contents["Log/cart/previous"] != "2026 before\n" || contents["Log/setup"] != "" {
		t.Errorf("logs: %q", contents)
	}

	manifest := objects["Manifest"]
	wantRedacted := []string{
		"items[0].metadata.annotations[kubectl.kubernetes.io/last-applied-configuration]",
		"items[0].spec.containers[0].env[1].value",
	}
	if diff := cmp.Diff(wantRedacted, manifest.Spec.Redacted); diff != "" {
		t.Errorf("redacted (-want +got):\n%s", diff)
	}
	if strings.Contains(contents["Manifest"], "hunter2") || !strings.Contains(contents["Manifest"], `"live"`) {
		t.Error("the manifest must be whole but for its secrets")
	}
	if diff := cmp.Diff([]string{"Pod/cart-1", "ReplicaSet/cart-7f9", "NetworkPolicy/team-web"}, itemsOf(t, contents["Manifest"])); diff != "" {
		t.Errorf("objects in the manifest (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"Event/cart-1.started"}, itemsOf(t, contents["Events"])); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	checkRecord(t, w, objects, pod)
}

// checkRecord checks what the Evidence of a collection says about itself.
func checkRecord(t *testing.T, w *world, objects map[string]*v1alpha1.Evidence, pod *corev1.Pod) {
	t.Helper()
	log := objects["Log/cart"]
	want := v1alpha1.EvidenceSpec{
		IncidentRef: v1alpha1.IncidentReference{Name: "inc-1"}, Step: "preserve", Type: v1alpha1.EvidenceLog,
		Resource: &v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: w.shop, Name: "cart-1", UID: v1alpha1.ObjectUID(pod.UID),
			Container: "cart", Image: "registry.example/cart:1", Node: "node-1"},
		Method: "the last 10 lines with timestamps from the Kubernetes API (pods/log, previous=false)",
		Tool:   v1alpha1.EvidenceTool{Name: "firebreak", Version: "v0.1.0"}, CollectedTime: metav1.NewTime(now.Local()), CollectedBy: w.user,
		Digest: log.Spec.Digest, SizeBytes: log.Spec.SizeBytes, MediaType: "text/plain; charset=utf-8",
		Origin: v1alpha1.EvidenceOrigin{Node: "node-1", ContainerID: "containerd://2", ImageID: "registry.example/cart@sha256:1", APIServerVersion: "v1.36.3"},
	}
	if diff := cmp.Diff(want, log.Spec); diff != "" {
		t.Errorf("spec of the log (-want +got):\n%s", diff)
	}
	if previous := objects["Log/cart/previous"].Spec.Origin.ContainerID; previous != "containerd://1" {
		t.Errorf("the earlier container is %q", previous)
	}
	for name, object := range objects {
		if !strings.HasPrefix(object.Name, "inc-1-") || object.Labels["firebreak.dev/incident"] != "inc-1" || len(object.OwnerReferences) > 0 {
			t.Errorf("%s: %+v", name, object.ObjectMeta)
		}
		stored := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionStored)
		if stored == nil || stored.Status != metav1.ConditionTrue || stored.Reason != v1alpha1.ReasonDigestMatches {
			t.Errorf("%s: Stored is %+v", name, stored)
		}
	}
}

func itemsOf(t *testing.T, text string) []string {
	t.Helper()
	list := struct{ Items []map[string]any }{}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, item := range list.Items {
		object := unstructured.Unstructured{Object: item}
		names = append(names, object.GetKind()+"/"+object.GetName())
	}
	return names
}

func TestCollectKeepsWhatItCan(t *testing.T) {
	w := newWorld(t, without(without(allRights, "get", "replicasets"), "list", "events"))
	pod := w.restartedPod()
	recorder := w.recorder()
	logs := &nodeLogs{logs: map[string]string{"cart": "now\n"}, err: apierrors.NewInternalError(errors.New("dial tcp 10.0.0.7:10250: i/o timeout"))}
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{Logs: &v1alpha1.CollectLogs{}}), pod)
	request.Logs, request.Evidence = logs, recorder
	w.expect("Apply", do(t, "collect").Apply(t.Context(), request), v1alpha1.TargetSucceeded,
		"kept: manifest, log of container cart; not kept: ",
		"owner ReplicaSet 'cart-7f9': "+w.user+" may not get replicasets in namespace '"+w.shop+"'",
		"events: "+w.user+" may not list events in namespace '"+w.shop+"'",
		"log of container cart before its restart: could not get pods/log 'cart-1'", "i/o timeout",
		"log of container setup: its node does not answer")
	if diff := cmp.Diff([]string{"cart", "cart/previous"}, logs.asks); diff != "" {
		t.Errorf("a node that does not answer must be asked once (-want +got):\n%s", diff)
	}
	objects, _ := w.kept(recorder)
	if diff := cmp.Diff([]string{"Log/cart", "Manifest"}, slices.Sorted(maps.Keys(objects))); diff != "" {
		t.Errorf("evidence (-want +got):\n%s", diff)
	}
}

// A log that could not be read for a reason that may pass is read again while the step has
// tries left; what can be read is kept at once.
func TestCollectReadsLogsAgain(t *testing.T) {
	w := newWorld(t, allRights)
	pod := w.restartedPod()
	recorder := w.recorder()
	logs := &nodeLogs{logs: map[string]string{"cart": "now\n", "setup": "set up\n"}, err: apierrors.NewTooManyRequests("later", 1)}
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{Logs: &v1alpha1.CollectLogs{}}), pod)
	request.Logs, request.Evidence, request.Step.Retry.Attempts = logs, recorder, 3
	result := do(t, "collect").Apply(t.Context(), request)
	w.expect("Apply", result, v1alpha1.TargetFailed, "log of container cart before its restart", "later")
	if result.Permanent {
		t.Error("it must be tried again")
	}
	if diff := cmp.Diff([]string{"cart", "cart/previous", "setup"}, logs.asks); diff != "" {
		t.Errorf("logs that were asked for (-want +got):\n%s", diff)
	}
	request.Target.Attempts = 2
	w.expect("Apply with the last try", do(t, "collect").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "not kept: log of container cart before its restart")
	request.Target.Attempts, logs.logs["cart/previous"] = 1, "before\n"
	w.expect("Apply when it is over", do(t, "collect").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	if _, contents := w.kept(recorder); contents["Log/cart/previous"] != "before\n" || contents["Log/setup"] != "set up\n" {
		t.Errorf("kept %v", contents)
	}
}

// What a pod says of itself may be longer than an Evidence holds: it is cut, and the log is kept.
func TestCollectCutsWhatPodsSay(t *testing.T) {
	w := newWorld(t, allRights)
	pod := w.pod("cart-1", nil, cartLabels, func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = "registry.example/" + strings.Repeat("a", 600) })
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "cart", ContainerID: "containerd://" + strings.Repeat("b", 300), ImageID: "registry.example/" + strings.Repeat("c", 600),
		State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://" + strings.Repeat("d", 300)}},
	}}
	if err := admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	recorder := w.recorder()
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{Logs: &v1alpha1.CollectLogs{}}), pod)
	request.Logs, request.Evidence = &nodeLogs{logs: map[string]string{"cart": "now\n", "cart/previous": "before\n"}}, recorder
	w.expect("Apply", do(t, "collect").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "log of container cart, log of container cart before its restart")
	objects, _ := w.kept(recorder)
	log, previous := objects["Log/cart"].Spec, objects["Log/cart/previous"].Spec
	for name, length := range map[string]int{
		"image": len([]rune(log.Resource.Image)) - 512, "image ID": len([]rune(log.Origin.ImageID)) - 512,
		"container ID": len([]rune(log.Origin.ContainerID)) - 253, "earlier container ID": len([]rune(previous.Origin.ContainerID)) - 253,
	} {
		if length != 0 {
			t.Errorf("%s is %d characters from its bound", name, length)
		}
	}
}

func TestCollectThroughTheAPIServer(t *testing.T) {
	for name, test := range map[string]struct{ verb, says string }{
		"no right to logs": {"get", "may not get pods/log in namespace"},
		"no such node":     {"none", `log of container cart: could not get pods/log 'cart-1': there is no such object`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, without(allRights, test.verb, "pods/log"))
			pod := w.pod("cart-1", nil, cartLabels, func(pod *corev1.Pod) { pod.Spec.NodeName = "node-1" })
			as := rest.CopyConfig(config)
			as.Impersonate.UserName = w.user
			pods, err := clientgocorev1.NewForConfig(as)
			if err != nil {
				t.Fatal(err)
			}
			request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{Logs: &v1alpha1.CollectLogs{}}), pod)
			request.Logs, request.Evidence = action.PodLogs{Pods: pods}, w.recorder()
			w.expect("Apply", do(t, "collect").Apply(t.Context(), request), v1alpha1.TargetSucceeded, "kept: manifest, events; not kept: ", test.says)
		})
	}
}

func TestCollectFails(t *testing.T) {
	w := newWorld(t, allRights)
	pod := w.pod("cart-1", nil, cartLabels)
	request := w.request(w.incident("inc-1"), collectStep(v1alpha1.CollectAction{Objects: v1alpha1.ObjectsNone, Events: v1alpha1.Exclude}), pod)
	collect := do(t, "collect")
	result := collect.Plan(t.Context(), request)
	w.expect("Plan of nothing", result, v1alpha1.TargetFailed, "collects nothing: at least one of `objects`, `events` and `logs`")
	if !result.Permanent {
		t.Error("a step that collects nothing must fail for good")
	}
	request.Step = collectStep(v1alpha1.CollectAction{Objects: v1alpha1.ObjectsNone, Events: v1alpha1.Exclude, Logs: &v1alpha1.CollectLogs{}})
	request.Logs, request.Evidence = &nodeLogs{err: errors.New("no logs here")}, w.recorder()
	result = collect.Apply(t.Context(), request)
	w.expect("Apply without any log", result, v1alpha1.TargetFailed, "nothing could be collected", "no logs here")
	if result.Permanent {
		t.Error("it must be tried again")
	}
	w.delete(pod)
	w.expect("Plan of what is gone", collect.Plan(t.Context(), request), v1alpha1.TargetGone)
	w.expect("Apply to what is gone", collect.Apply(t.Context(), request), v1alpha1.TargetGone)
	w.pod("cart-1", nil, cartLabels)
	w.expect("Plan of another", collect.Plan(t.Context(), request), v1alpha1.TargetGone, "came back under the same name")
	w.expect("Undo", collect.Undo(t.Context(), request), v1alpha1.TargetReverted, "evidence stays")
}
