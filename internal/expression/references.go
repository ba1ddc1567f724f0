package expression

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// The patterns of what names an object, as api/v1alpha1 has them for ResourceReference.
var (
	apiVersionPattern = regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[a-z0-9]+$`)
	kindPattern       = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	namespacePattern  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	namePattern       = regexp.MustCompile(`^[a-z0-9A-Z]([-a-z0-9A-Z.:_]*[a-z0-9A-Z])?$`)
	uidPattern        = regexp.MustCompile(`^[-A-Za-z0-9]+$`)
)

// referenceFields are the fields of a reference. The last three come with the elements
// of `resources` and say nothing about which object is meant.
var referenceFields = []struct {
	name     string
	required bool
	longest  int
	pattern  *regexp.Regexp
	example  string
}{
	{"apiVersion", true, 317, apiVersionPattern, "'v1' or 'apps/v1'"},
	{"kind", true, 63, kindPattern, "'Pod'"},
	{"name", true, 253, namePattern, "'cart-7f9'"},
	{"namespace", false, 63, namespacePattern, "'shop'"},
	{"uid", false, 63, uidPattern, "the object's `metadata.uid`"},
	{"container", false, 253, nil, ""},
	{"image", false, 512, nil, ""},
	{"node", false, 253, nil, ""},
}

// references makes references of what an expression has yielded, and says which element
// is none.
func references(list []any) ([]v1alpha1.ResourceReference, error) {
	if len(list) > MaxTargets {
		return nil, fmt.Errorf("must yield at most %d objects, but has yielded %d", MaxTargets, len(list))
	}
	result := make([]v1alpha1.ResourceReference, 0, len(list))
	for i, element := range list {
		fields, ok := element.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("element %d must be an object with `apiVersion`, `kind`, `name` and `namespace`, but is %s", i, kindOf(element))
		}
		reference, err := reference(fields)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		if !slices.Contains(result, reference) {
			result = append(result, reference)
		}
	}
	return result, nil
}

func reference(fields map[string]any) (v1alpha1.ResourceReference, error) {
	values := map[string]string{}
	for _, field := range referenceFields {
		value, ok := fields[field.name]
		if !ok && field.required {
			return v1alpha1.ResourceReference{}, fmt.Errorf("`%s` must be set, such as %s", field.name, field.example)
		}
		if !ok {
			continue
		}
		text, ok := value.(string)
		if !ok {
			return v1alpha1.ResourceReference{}, fmt.Errorf("`%s` must be a string, but is %s", field.name, kindOf(value))
		}
		if text == "" && !field.required {
			continue
		}
		if len(text) > field.longest {
			return v1alpha1.ResourceReference{}, fmt.Errorf("`%s` must have at most %d bytes, but has %d", field.name, field.longest, len(text))
		}
		if field.pattern != nil && !field.pattern.MatchString(text) {
			return v1alpha1.ResourceReference{}, fmt.Errorf("`%s` must be such as %s, but is %q", field.name, field.example, text)
		}
		values[field.name] = text
	}
	for name := range fields {
		if !isReferenceField(name) {
			return v1alpha1.ResourceReference{}, fmt.Errorf("has a field %q: it must have none but `apiVersion`, `kind`, `name`, `namespace` and `uid`", name)
		}
	}
	return v1alpha1.ResourceReference{
		APIVersion: values["apiVersion"], Kind: values["kind"], Name: values["name"],
		Namespace: values["namespace"], UID: v1alpha1.ObjectUID(values["uid"]),
	}, nil
}

func isReferenceField(name string) bool {
	for _, field := range referenceFields {
		if field.name == name {
			return true
		}
	}
	return false
}
