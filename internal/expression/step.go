package expression

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/crdschema"
)

// ParseStep reads a step that is not in a playbook, and holds it to what the API server
// holds those to that are. It gives the step with its defaults, under another name.
func ParseStep(ctx context.Context, name string, raw []byte) (*v1alpha1.PlaybookStep, error) {
	schema, err := crdschema.Of("responseplaybooks", "spec", "containment", "steps", "[]")
	if err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return nil, errors.New("`action` must be an object, such as {\"target\": \"Pods\", \"collect\": {}}")
	}
	object["name"] = name
	if problems := checkStepText(ctx, schema, object); len(problems) > 0 {
		return nil, problems.ToAggregate()
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("`action`: %w", err)
	}
	step := &v1alpha1.PlaybookStep{}
	if err := json.Unmarshal(text, step); err != nil {
		return nil, fmt.Errorf("`action`: %w", err)
	}
	return step, nil
}

// checkStepText fills in the defaults and finds what is wrong.
func checkStepText(ctx context.Context, schema *crdschema.Schema, object map[string]any) field.ErrorList {
	at := field.NewPath("action")
	if unknown := schema.Prune(object); len(unknown) > 0 {
		return field.ErrorList{field.Forbidden(at, "there is no such field: `"+strings.Join(unknown, "`, `")+"`")}
	}
	return schema.Complete(ctx, at, object)
}

// CheckAdHoc finds what is wrong with a step beside a playbook, after other such steps: as
// if it were its last one.
func CheckAdHoc(playbook *v1alpha1.ResponsePlaybookSpec, earlier []*v1alpha1.PlaybookStep, step *v1alpha1.PlaybookStep) error {
	seen := map[v1alpha1.StepName]*v1alpha1.PlaybookStep{}
	for _, other := range earlier {
		seen[v1alpha1.StepName(other.Name)] = other
	}
	for _, steps := range [][]v1alpha1.PlaybookStep{playbook.Containment.Steps, playbook.Eradication.Steps, playbook.Recovery.Steps} {
		for i := range steps {
			seen[v1alpha1.StepName(steps[i].Name)] = &steps[i]
		}
	}
	named := step.DeepCopy()
	named.Name = "run" // names like that of the step are reserved for it
	return errors.Join(append(checkStep(named, seen), checkValues(named, playbook.Variables, seen)...)...)
}
