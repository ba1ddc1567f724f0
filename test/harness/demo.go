package harness

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Names that the samples of the demo use.
const (
	// DemoApp is the Deployment of the demo's shop; its pods have PodLabels of it.
	DemoApp = "cart"
	// DemoPlaybook is the demo's playbook.
	DemoPlaybook = "contain"
	// DemoGroup is the group whose members decide in the demo.
	DemoGroup = "security-oncall"
)

// InstallDemo puts the samples of the demo (config/samples/demo) into the domain and its
// target namespace, all but the workload, and gives who reports to it. Edits may change
// an object first.
func (d *Domain) InstallDemo(t testing.TB, edit ...func(*unstructured.Unstructured)) Sender {
	t.Helper()
	sender := d.NewSender(t, "falco")
	samples, err := Load(filepath.Join(d.Root, "config", "samples", "demo"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sample := range samples {
		if kind := sample.GetKind(); kind == "Namespace" || kind == "Deployment" {
			continue
		}
		d.moveHere(t, sample)
		if sample.GetKind() == "ClassificationPolicy" {
			EditText(t, sample, "match", func(text string) string {
				return strings.ReplaceAll(text, "system:serviceaccount:falco:falco", sender.User)
			})
		}
		for _, change := range edit {
			change(sample)
		}
		d.create(t, sample)
	}
	return sender
}

// moveHere changes the namespaces of a sample to those of the domain.
func (d *Domain) moveHere(t testing.TB, sample *unstructured.Unstructured) {
	t.Helper()
	namespaces := map[string]string{"security": d.Namespace, "falco": d.Namespace, "shop": d.Target}
	sample.SetNamespace(namespaces[sample.GetNamespace()])
	if sample.GetKind() == "ResponsePlaybook" {
		if err := unstructured.SetNestedStringSlice(sample.Object, []string{d.Target}, "spec", "scope", "namespaces"); err != nil {
			t.Fatal(err)
		}
	}
	subjects, ok, err := unstructured.NestedSlice(sample.Object, "subjects")
	if err != nil {
		t.Fatalf("the sample %s %s: %v", sample.GetKind(), sample.GetName(), err)
	}
	if !ok {
		return
	}
	for _, subject := range subjects {
		subject, ok := subject.(map[string]any)
		if !ok {
			continue
		}
		if namespace, ok := subject["namespace"].(string); ok {
			subject["namespace"] = namespaces[namespace]
		}
	}
	sample.Object["subjects"] = subjects
}

// EditText changes all texts under a key of an object, and fails the test when there is none.
func EditText(t testing.TB, object *unstructured.Unstructured, key string, change func(string) string) {
	t.Helper()
	if editText(object.Object, key, change) == 0 {
		t.Fatalf("%s %s has no `%s`: the test must be changed with it", object.GetKind(), object.GetName(), key)
	}
}

func editText(value any, key string, change func(string) string) int {
	changed := 0
	switch value := value.(type) {
	case map[string]any:
		for name, child := range value {
			if text, ok := child.(string); ok && name == key {
				value[name] = change(text)
				changed++
			}
			changed += editText(child, key, change)
		}
	case []any:
		for _, child := range value {
			changed += editText(child, key, change)
		}
	}
	return changed
}

// WaitDemoReady waits until a running manager has taken the demo up and its rights count.
func (d *Domain) WaitDemoReady(t testing.TB) {
	t.Helper()
	WaitFor(t, d.Client, MakePlan(d.Namespace, ""), "the domain to be guarded", func(p *v1alpha1.ResponsePlan) bool {
		return meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionGuarded)
	})
	policy := MakePolicy(d.Namespace, "", "")
	policy.Name = "runtime"
	WaitFor(t, d.Client, policy, "the policy to be ready", func(p *v1alpha1.ClassificationPolicy) bool {
		return meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
	WaitFor(t, d.Client, MakePlaybook(d.Namespace, DemoPlaybook, ""), "the playbook to be ready", func(p *v1alpha1.ResponsePlaybook) bool {
		return meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
	for account, right := range map[string]authorizationv1.ResourceAttributes{
		"contain-intrusion": {Namespace: d.Target, Verb: "delete", Group: "networking.k8s.io", Resource: "networkpolicies"},
		"firebreak-reader":  {Namespace: d.Target, Verb: "get", Group: "apps", Resource: "deployments"},
	} {
		Eventually(t, Patience, "the rights of "+account, func(ctx context.Context) error {
			allowed, err := d.allowed(ctx, Account(d.Namespace, account), right)
			if err == nil && !allowed {
				err = errors.New("they do not count yet")
			}
			return err
		})
	}
}
