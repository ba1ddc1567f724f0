package expression

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/config/crd"
)

// stepSchema is what the API server holds the steps of a playbook to.
type stepSchema struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
	rules      *schemacel.Validator
}

var stepSchemaOnce = sync.OnceValues(newStepSchema)

func newStepSchema() (*stepSchema, error) {
	content, err := crd.Read("responseplaybooks")
	if err != nil {
		return nil, err
	}
	definition := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(content, definition); err != nil {
		return nil, fmt.Errorf("read CustomResourceDefinition of responseplaybooks: %w", err)
	}
	root := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(definition.Spec.Versions[0].Schema.OpenAPIV3Schema, root, nil); err != nil {
		return nil, fmt.Errorf("read schema of responseplaybooks: %w", err)
	}
	steps := root.Properties["spec"].Properties["containment"]
	items := steps.Properties["steps"].Items
	if items == nil || items.Schema == nil {
		return nil, errors.New("read schema of responseplaybooks: `spec.containment.steps` must be a list")
	}
	schema := &stepSchema{}
	if schema.structural, err = structuralschema.NewStructural(items.Schema); err != nil {
		return nil, fmt.Errorf("read schema of a step: %w", err)
	}
	if schema.validator, _, err = validation.NewSchemaValidator(items.Schema); err != nil {
		return nil, fmt.Errorf("read schema of a step: %w", err)
	}
	schema.rules = schemacel.NewValidator(schema.structural, false, celconfig.PerCallLimit)
	return schema, nil
}

// ParseStep reads a step that is not in a playbook, and holds it to what the API server
// holds those to that are. It gives the step with its defaults, under another name.
func ParseStep(ctx context.Context, name string, raw []byte) (*v1alpha1.PlaybookStep, error) {
	schema, err := stepSchemaOnce()
	if err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return nil, errors.New("`action` must be an object, such as {\"target\": \"Pods\", \"collect\": {}}")
	}
	object["name"] = name
	if problems := schema.check(ctx, object); len(problems) > 0 {
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

// check fills in the defaults and finds what is wrong.
func (s *stepSchema) check(ctx context.Context, object map[string]any) field.ErrorList {
	at := field.NewPath("action")
	unknown := pruning.PruneWithOptions(object, s.structural, false, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return field.ErrorList{field.Forbidden(at, "there is no such field: `"+strings.Join(unknown, "`, `")+"`")}
	}
	defaulting.Default(object, s.structural)
	problems := validation.ValidateCustomResource(at, object, s.validator)
	problems = append(problems, listtype.ValidateListSetsAndMaps(at, s.structural, object)...)
	if len(problems) > 0 {
		return problems
	}
	problems, _ = s.rules.Validate(ctx, at, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
	return problems
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
