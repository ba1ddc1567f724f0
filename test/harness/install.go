package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// install applies config/dev as it ships and waits until all of it bites.
func (c *Cluster) install(ctx context.Context) error {
	objects, err := Load(filepath.Join(c.Root, "config", "dev"))
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := c.apply(ctx, object); err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	if err := c.established(ctx); err != nil {
		return err
	}
	return c.guarded(ctx)
}

func (c *Cluster) apply(ctx context.Context, object *unstructured.Unstructured) error {
	return c.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership)
}

// Load reads the objects of a file, or of a directory with a kustomization.yaml and of
// all that it names. It knows `resources` only, which is all that config/ uses.
func Load(path string) ([]*unstructured.Unstructured, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return loadFile(path)
	}
	content, err := os.ReadFile(filepath.Join(path, "kustomization.yaml"))
	if err != nil {
		return nil, err
	}
	var kustomization struct {
		Resources []string `json:"resources"`
	}
	if err := yaml.UnmarshalStrict(content, &kustomization); err != nil {
		return nil, fmt.Errorf("%s must hold nothing but `resources`: %w", path, err)
	}
	var objects []*unstructured.Unstructured
	for _, resource := range kustomization.Resources {
		loaded, err := Load(filepath.Join(path, resource))
		if err != nil {
			return nil, err
		}
		objects = append(objects, loaded...)
	}
	return objects, nil
}

func loadFile(path string) ([]*unstructured.Unstructured, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &object.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// established waits until all CRDs are served.
func (c *Cluster) established(ctx context.Context) error {
	return poll(ctx, func(ctx context.Context) error {
		var crds apiextensionsv1.CustomResourceDefinitionList
		if err := c.Client.List(ctx, &crds); err != nil {
			return err
		}
		for _, crd := range crds.Items {
			if !isEstablished(&crd) {
				return fmt.Errorf("the CRD %s is not established", crd.Name)
			}
		}
		return nil
	})
}

func isEstablished(crd *apiextensionsv1.CustomResourceDefinition) bool {
	for _, condition := range crd.Status.Conditions {
		if condition.Type == apiextensionsv1.Established {
			return condition.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

// guarded waits until the admission policies bite, which takes up to a second. The API
// server takes them up in order, so one more policy, applied last, says when all do.
func (c *Cluster) guarded(ctx context.Context) error {
	const name = "harness-last-policy"
	fail, match := admissionv1.Fail, admissionv1.Equivalent
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionv1.MatchResources{
				MatchPolicy: &match,
				ResourceRules: []admissionv1.NamedRuleWithOperations{{
					ResourceNames: []string{name},
					RuleWithOperations: admissionv1.RuleWithOperations{
						Operations: []admissionv1.OperationType{admissionv1.Create},
						Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
					},
				}},
			},
			Validations: []admissionv1.Validation{{Expression: "false", Message: "all policies stand"}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}
	for _, object := range []client.Object{policy, binding} {
		if err := c.Client.Create(ctx, object); err != nil {
			return err
		}
	}
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault}}
	return poll(ctx, func(ctx context.Context) error {
		if err := c.Client.Create(ctx, probe.DeepCopy(), client.DryRunAll); err == nil {
			return errors.New("the admission policies do not stand yet")
		}
		return nil
	})
}

// pollInterval is short beside the time of a write: waiting costs a test little.
const pollInterval = 20 * time.Millisecond

// poll asks until check gives no error or the context ends; then it gives the last error.
func poll(ctx context.Context, check func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		// That the time is up says less than what was found before.
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("timed out: %w", last)
		case <-ticker.C:
		}
	}
}
