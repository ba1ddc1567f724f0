package integration

import (
	"encoding/json"
	"path/filepath"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/test/harness"
)

// sample loads the sample of a kind and moves it into the domain.
func sample(t *testing.T, d *harness.Domain, kind string) *unstructured.Unstructured {
	t.Helper()
	objects, err := harness.Load(filepath.Join(d.Root, "config", "samples"))
	done(t, err)
	for _, object := range objects {
		if object.GetKind() == kind {
			object.SetNamespace(d.Namespace)
			return object
		}
	}
	t.Fatalf("config/samples must hold a %s", kind)
	return nil
}

// changed is a sample with a JSON merge patch, dry-run by one who may do everything, in
// the name that the samples write.
func tryChanged(t *testing.T, d *harness.Domain, kind, mergePatch string) error {
	t.Helper()
	original, err := json.Marshal(sample(t, d, kind).Object)
	done(t, err)
	merged, err := jsonpatch.MergePatch(original, []byte(mergePatch))
	done(t, err)
	object := &unstructured.Unstructured{}
	done(t, json.Unmarshal(merged, &object.Object))
	return d.As(t, jane, harness.Masters, "security-oncall").Create(t.Context(), object, client.DryRunAll)
}

var kinds = []string{
	"ResponsePlan", "ClassificationPolicy", "ResponsePlaybook", "SecurityEvent",
	"Incident", "Decision", "Evidence", "LessonLearned",
}

func TestSamplesAreAccepted(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			object := sample(t, d, kind)
			done(t, d.As(t, jane, harness.Masters, "security-oncall").Create(t.Context(), object))
			done(t, d.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object))
		})
	}
}

func TestUnknownFieldsAreRefusedWhenAsked(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	strict := client.FieldValidation("Strict")
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			object := sample(t, d, kind)
			done(t, unstructured.SetNestedField(object.Object, "x", "spec", "noSuchField"))
			err := d.As(t, jane, harness.Masters, "security-oncall").Create(t.Context(), object, strict, client.DryRunAll)
			says(t, err, `unknown field "spec.noSuchField"`)
		})
	}
}
