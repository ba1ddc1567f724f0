package fault

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/test/harness"
)

const jane = "jane@example.com"

// world is the demo (config/samples/demo) in namespaces of its own.
type world struct {
	*harness.Domain
	sender harness.Sender
	// jane manages incidents.
	jane client.Client
	// set owns the pods of the shop; the world plays its controller.
	set *appsv1.ReplicaSet
	// suspect is the pod that the alert is about.
	suspect *corev1.Pod

	// hook is called by the playbook, if it calls any.
	hook *webhook
	// things are the states of what the actions act on, one after the other; nil when the
	// playbook is the demo's. incident is its name, once it is known.
	things   map[string][]string
	incident string
	restarts map[string]bool
	// met numbers the objects of a kind that are met under a name of their own each time.
	met map[string][]types.UID
	// repeated is how many requests were sent again under their key.
	repeated int
}

// newWorld makes a world. A change may give it another playbook, which may do everything.
func newWorld(t *testing.T, cluster *harness.Cluster, change ...func(*unstructured.Unstructured)) *world {
	t.Helper()
	w := &world{Domain: cluster.NewDomain(t)}
	w.jane = w.As(t, jane, harness.DemoGroup)
	_, w.set = w.FakeWorkload(t, client.ObjectKey{Namespace: w.Target, Name: harness.DemoApp}, 3)
	for _, suffix := range []string{"a", "b", "c"} {
		pod := w.FakePod(t, client.ObjectKey{Namespace: w.Target, Name: w.set.Name + "-" + suffix}, harness.PodLabels(harness.DemoApp), w.set)
		if w.suspect == nil {
			w.suspect = pod
		}
	}
	if len(change) > 0 {
		w.mighty(t)
	}
	w.sender = w.InstallDemo(t, func(sample *unstructured.Unstructured) {
		for _, one := range change {
			one(sample)
		}
		if sample.GetKind() == "ResponsePlaybook" && len(change) == 0 {
			harness.EditText(t, sample, "for", func(string) string { return "1s" })
			// A step that takes long because the manager is away must not fail for that.
			harness.EditText(t, sample, "timeout", func(string) string { return "10m" })
		}
		if sample.GetKind() == "ResponsePlaybook" {
			retryOften(t, sample)
		}
	})
	w.WaitDemoReady(t)
	return w
}

// calls says when the playbook calls somebody; nil when it calls nobody.
func (w *world) calls() <-chan struct{} {
	if w.hook == nil {
		return nil
	}
	return w.hook.called
}

// alert posts Falco's alert for a shell in the suspect.
func (w *world) alert(t *testing.T, receiver *harness.ReceiverProcess) {
	t.Helper()
	answer := receiver.Post(t, w.Namespace, "falco", w.sender.Token, harness.FalcoAlert(w.Target, w.suspect.Name, time.Now()))
	if answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s, want 2xx", answer.Code, answer.Body)
	}
}

// retryOften lets every step of a playbook be tried so often that no trouble in passing
// fails it.
func retryOften(t *testing.T, playbook *unstructured.Unstructured) {
	t.Helper()
	for _, phase := range []string{"containment", "eradication", "recovery"} {
		steps, _, err := unstructured.NestedSlice(playbook.Object, "spec", phase, "steps")
		if err != nil {
			t.Fatal(err)
		}
		for i := range steps {
			step, ok := steps[i].(map[string]any)
			if !ok {
				t.Fatalf("a step is a %T", steps[i])
			}
			step["retry"] = map[string]any{"attempts": int64(20), "backoff": "100ms"}
			step["timeout"] = "10m"
		}
		if err := unstructured.SetNestedSlice(playbook.Object, steps, "spec", phase, "steps"); err != nil {
			t.Fatal(err)
		}
	}
}
