package fault

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	jane   = "jane@example.com"
	oncall = "security-oncall"
	app    = "cart"
)

// world is the demo (config/samples/demo) in namespaces of its own.
type world struct {
	*harness.Domain
	sender harness.Sender
	// jane manages incidents.
	jane client.Client
	// set owns the pods of the shop; the world plays its controller.
	set        *appsv1.ReplicaSet
	deployment *appsv1.Deployment
	// suspect is the pod that the alert is about.
	suspect *corev1.Pod
}

func newWorld(t *testing.T, cluster *harness.Cluster) *world {
	t.Helper()
	w := &world{Domain: cluster.NewDomain(t)}
	w.sender = w.NewSender(t, "falco")
	w.jane = w.As(t, jane, oncall)
	w.deployment, w.set = w.FakeWorkload(t, client.ObjectKey{Namespace: w.Target, Name: app}, 3)
	for _, suffix := range []string{"a", "b", "c"} {
		pod := w.FakePod(t, client.ObjectKey{Namespace: w.Target, Name: w.set.Name + "-" + suffix}, harness.PodLabels(app), w.set)
		if w.suspect == nil {
			w.suspect = pod
		}
	}
	samples, err := harness.Load(filepath.Join(w.Root, "config", "samples", "demo"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sample := range samples {
		if kind := sample.GetKind(); kind == "Namespace" || kind == "Deployment" {
			continue
		}
		if err := w.Client.Create(t.Context(), w.moved(t, sample)); err != nil {
			t.Fatalf("creating the sample %s %s: %v", sample.GetKind(), sample.GetName(), err)
		}
	}
	w.waitReady(t)
	return w
}

// moved puts an object of the samples into the world's namespaces.
func (w *world) moved(t *testing.T, sample *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	namespaces := map[string]string{"security": w.Namespace, "falco": w.Namespace, "shop": w.Target}
	sample.SetNamespace(namespaces[sample.GetNamespace()])
	if subjects, ok, err := unstructured.NestedSlice(sample.Object, "subjects"); ok && err == nil {
		for _, subject := range subjects {
			if subject, ok := subject.(map[string]any); ok && subject["namespace"] != nil {
				subject["namespace"] = namespaces[subject["namespace"].(string)]
			}
		}
		sample.Object["subjects"] = subjects
	}
	switch sample.GetKind() {
	case "ClassificationPolicy":
		w.edit(t, sample, "match", func(text string) string {
			return strings.ReplaceAll(text, "system:serviceaccount:falco:falco", w.sender.User)
		})
	case "ResponsePlaybook":
		w.edit(t, sample, "for", func(string) string { return "1s" })
	}
	return sample
}

// edit changes all texts under a key, and fails the test when there is none.
func (w *world) edit(t *testing.T, object *unstructured.Unstructured, key string, change func(string) string) {
	t.Helper()
	found := false
	var walk func(any)
	walk = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for name, child := range value {
				if text, ok := child.(string); ok && name == key {
					value[name], found = change(text), true
				}
				walk(child)
			}
		case []any:
			for _, child := range value {
				walk(child)
			}
		}
	}
	walk(object.Object)
	if !found {
		t.Fatalf("the sample %s %s has no `%s` any more: this test must be changed with it", object.GetKind(), object.GetName(), key)
	}
}

// waitReady waits until the manager has taken all of it up and the rights count.
func (w *world) waitReady(t *testing.T) {
	t.Helper()
	plan := harness.MakePlan(w.Namespace, "")
	harness.WaitFor(t, w.Client, plan, "the domain to be guarded", func(p *v1alpha1.ResponsePlan) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionGuarded)
	})
	policy := harness.MakePolicy(w.Namespace, "", "")
	policy.Name = "runtime"
	harness.WaitFor(t, w.Client, policy, "the policy to be ready", func(p *v1alpha1.ClassificationPolicy) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
	harness.WaitFor(t, w.Client, harness.MakePlaybook(w.Namespace, "contain", ""), "the playbook to be ready", func(p *v1alpha1.ResponsePlaybook) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
	for account, right := range map[string]authorizationv1.ResourceAttributes{
		"contain-intrusion": {Namespace: w.Target, Verb: "delete", Group: "networking.k8s.io", Resource: "networkpolicies"},
		"firebreak-reader":  {Namespace: w.Target, Verb: "get", Group: "apps", Resource: "deployments"},
	} {
		as := w.As(t, harness.AccountUser(w.Namespace, account))
		harness.Eventually(t, harness.Patience, "the rights of "+account, func(ctx context.Context) error {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &right}}
			if err := as.Create(ctx, review); err != nil || review.Status.Allowed {
				return err
			}
			return errors.New("they do not count yet")
		})
	}
}

// alert posts Falco's alert for a shell in the suspect.
func (w *world) alert(t *testing.T, receiver *harness.ReceiverProcess) {
	t.Helper()
	answer := receiver.Post(t, w.Namespace, "falco", w.sender.Token, harness.FalcoAlert(w.Target, w.suspect.Name, time.Now()))
	if answer.Code/100 != 2 {
		t.Fatalf("the receiver answers %d: %s, want 2xx", answer.Code, answer.Body)
	}
}
