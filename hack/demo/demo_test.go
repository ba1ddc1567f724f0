package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const samples = "../../config/samples/demo"

func TestSamplesHaveNoUnknownFields(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	objects, err := readSamples(samples)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, object := range objects {
		content, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := strict.Decode(content, nil, nil); err != nil {
			t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
		}
		kinds[object.GetKind()]++
	}
	for _, kind := range []string{"ResponsePlan", "ClassificationPolicy", "ResponsePlaybook", "Deployment", "Service", "NetworkPolicy"} {
		if kinds[kind] != 1 {
			t.Errorf("the samples have %d objects of kind %s, want 1", kinds[kind], kind)
		}
	}
}

func TestFalcoAlert(t *testing.T) {
	template, err := os.ReadFile(filepath.Join(samples, "falco-alert.json"))
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-7f9"},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "cart", Image: "nginx:1.29"}}},
	}
	now := time.Date(2026, 11, 21, 16, 0, 0, 123456789, time.UTC)
	body, err := falcoAlert(string(template), pod, now)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rule, Hostname, Time string
		Fields               map[string]json.RawMessage `json:"output_fields"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	have := map[string]string{"rule": got.Rule, "hostname": got.Hostname, "time": got.Time}
	for _, field := range []string{"evt.time", "k8s.ns.name", "k8s.pod.name", "container.name", "container.image.repository", "container.image.tag"} {
		have[field] = string(got.Fields[field])
	}
	want := map[string]string{
		"rule": "Terminal shell in container", "hostname": "node-1", "time": "2026-11-21T16:00:00.123456789Z",
		"evt.time": "1795276800123456789", "k8s.ns.name": `"shop"`, "k8s.pod.name": `"cart-7f9"`, "container.name": `"cart"`,
		"container.image.repository": `"nginx"`, "container.image.tag": `"1.29"`,
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("alert (-want +got):\n%s", diff)
	}
}

func TestFalcoAlertOfAnotherTemplate(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: "nginx"}}}}
	for name, template := range map[string]string{
		"not JSON":         `{"rule": }`,
		"an unknown field": `{"rule": "${RULE}"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if body, err := falcoAlert(template, pod, time.Now()); err == nil || !strings.Contains(err.Error(), "must be JSON") {
				t.Errorf("got %s, %v; want an error that says what the template must be", body, err)
			}
		})
	}
}

func TestReadSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receiver.env")
	if err := os.WriteFile(path, []byte("RECEIVER_URL=https://127.0.0.1:1/v1/namespaces/security\nRECEIVER_TOKEN=a=b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readSettings(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"RECEIVER_URL": "https://127.0.0.1:1/v1/namespaces/security", "RECEIVER_TOKEN": "a=b"}, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(path, []byte("RECEIVER_URL=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSettings(path); err == nil || !strings.Contains(err.Error(), "RECEIVER_TOKEN") {
		t.Errorf("got %v, want an error that names RECEIVER_TOKEN", err)
	}
}

func TestScreen(t *testing.T) {
	if got := wrap("one two  three", 7); !cmp.Equal(got, []string{"one two", "three"}) {
		t.Errorf("wrap: got %q", got)
	}
	if got := clean("a\x1b[31m\nb"); got != "a\uFFFD[31m b" {
		t.Errorf("clean: got %q", got)
	}
	for d, want := range map[time.Duration]string{42 * time.Millisecond: "42 ms", 1500 * time.Millisecond: "1.5 s"} {
		if got := span(d); got != want {
			t.Errorf("span(%s): got %q, want %q", d, got, want)
		}
	}
}
