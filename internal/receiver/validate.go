package receiver

import (
	"fmt"
	"sync"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/config/crd"
)

// specValidator checks the spec of an event as the API server does by the CRD's schema.
var specValidator = sync.OnceValues(func() (validation.SchemaValidator, error) {
	content, err := crd.Read("securityevents")
	if err != nil {
		return nil, err
	}
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(content, &definition); err != nil {
		return nil, err
	}
	if len(definition.Spec.Versions) == 0 || definition.Spec.Versions[0].Schema == nil {
		return nil, fmt.Errorf("the CustomResourceDefinition %s has no schema", definition.Name)
	}
	var schema apiextensions.JSONSchemaProps
	spec := definition.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&spec, &schema, nil); err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(&schema)
	return validator, err
})

// validate gives the error that the API server would by the schema. The CRD's rules in CEL
// are not run: complete checks them.
func validate(a *alert) error {
	validator, err := specValidator()
	if err != nil {
		return fmt.Errorf("reading the schema of SecurityEvents: %w", err)
	}
	spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&a.spec)
	if err != nil {
		return fmt.Errorf("reading an alert: %w", err)
	}
	errs := validation.ValidateCustomResource(field.NewPath("spec"), spec, validator)
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(v1alpha1.SchemeGroupVersion.WithKind("SecurityEvent").GroupKind(), "", errs)
}
