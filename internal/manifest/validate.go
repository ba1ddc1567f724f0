package manifest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	sigsjson "sigs.k8s.io/json"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/crdschema"
)

// resources are Firebreak's kinds.
var resources = map[string]string{
	"ClassificationPolicy": "classificationpolicies",
	"Decision":             "decisions",
	"Evidence":             "evidence",
	"Incident":             "incidents",
	"LessonLearned":        "lessonslearned",
	"ResponsePlan":         "responseplans",
	"ResponsePlaybook":     "responseplaybooks",
	"SecurityEvent":        "securityevents",
}

// IsFirebreak says whether an object is of Firebreak's group, whatever its kind, or is of one
// of its kinds and was most likely meant to be of its group.
func (o *Object) IsFirebreak() bool {
	group, _, _ := strings.Cut(o.APIVersion, "/")
	return group == v1alpha1.GroupName || resources[o.Kind] != "" && (group == "" || Nearest(group, []string{v1alpha1.GroupName}) != "")
}

// Fault is what the API server would have against a field of an object.
type Fault struct {
	// Path is the field's; empty is the whole object.
	Path string
	// Unknown says that there is no such field.
	Unknown bool
	// Message says what is wrong and what would be right.
	Message string
}

// Validate holds an object of Firebreak's group to the schema of its kind with its rules.
// It gets the defaults that the API server would fill in, and loses unknown fields and its status,
// which the API server does not take from a manifest.
func (o *Object) Validate(ctx context.Context) ([]Fault, error) {
	if o.APIVersion == "" {
		return []Fault{{Path: "apiVersion", Message: fmt.Sprintf("`apiVersion` must be set: it must be '%s'", v1alpha1.SchemeGroupVersion)}}, nil
	}
	if o.APIVersion != v1alpha1.SchemeGroupVersion.String() {
		return []Fault{{Path: "apiVersion", Message: fmt.Sprintf("`apiVersion` must be '%s', is '%s'", v1alpha1.SchemeGroupVersion, o.APIVersion)}}, nil
	}
	resource, ok := resources[o.Kind]
	if !ok {
		var kinds []string
		for kind := range resources {
			kinds = append(kinds, kind)
		}
		slices.Sort(kinds)
		message := "`kind` must be set: it must be one of " + strings.Join(kinds, ", ")
		if o.Kind != "" {
			message = fmt.Sprintf("`kind` '%s' is none of Firebreak's: it must be one of %s", o.Kind, strings.Join(kinds, ", ")) + meant(o.Kind, kinds)
		}
		return []Fault{{Path: "kind", Message: message}}, nil
	}
	schema, err := crdschema.Of(resource)
	if err != nil {
		return nil, err
	}
	content := runtime.DeepCopyJSON(o.Content)
	delete(content, "status")
	faults := checkMetadata(content)
	forget := giveName(content)
	for _, path := range schema.Prune(content) {
		faults = append(faults, unknown(schema, path))
	}
	mistyped := map[string]bool{}
	for _, problem := range schema.Complete(ctx, nil, content) {
		if mistyped[problem.Field] {
			continue // what else is said of it follows from that
		}
		mistyped[problem.Field] = problem.Type == field.ErrorTypeTypeInvalid
		faults = append(faults, Fault{Path: problem.Field, Message: inWords(problem)})
	}
	forget()
	o.Content = content
	return faults, nil
}

// giveName gives an object a name such as the API server would make of its `generateName`, and
// what takes it away again: nobody can refer to it.
func giveName(content map[string]any) (forget func()) {
	metadata, _ := content["metadata"].(map[string]any)
	prefix, _ := metadata["generateName"].(string)
	if name, _ := metadata["name"].(string); name != "" || prefix == "" {
		return func() {}
	}
	metadata["name"] = prefix + "xxxxx"
	return func() { delete(metadata, "name") }
}

// Decode gives an object that is right as the type of its kind.
func (o *Object) Decode(into any) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructured(o.Content, into)
}

// checkMetadata finds what is wrong with an object's metadata.
func checkMetadata(content map[string]any) []Fault {
	text, err := json.Marshal(content["metadata"])
	if err != nil {
		return []Fault{{Path: "metadata", Message: "`metadata` " + err.Error()}}
	}
	meta := &metav1.ObjectMeta{}
	strict, err := sigsjson.UnmarshalStrict(text, meta)
	if err != nil {
		return []Fault{mistypedMetadata(err)}
	}
	var faults []Fault
	for _, problem := range strict {
		fault := Fault{Path: "metadata", Unknown: true, Message: "`metadata`: " + problem.Error()}
		var where sigsjson.FieldError
		if errors.As(problem, &where) {
			fault.Path += "." + where.FieldPath()
			fault.Message = fmt.Sprintf("there is no field `%s`", fault.Path)
		}
		faults = append(faults, fault)
	}
	if meta.Name == "" && meta.GenerateName != "" {
		meta.Name = "generated"
	}
	if meta.Namespace == "" {
		meta.Namespace = metav1.NamespaceDefault // whoever applies it names one
	}
	for _, problem := range validation.ValidateObjectMeta(meta, true, validation.NameIsDNSSubdomain, field.NewPath("metadata")) {
		faults = append(faults, Fault{Path: problem.Field, Message: inWords(problem)})
	}
	return faults
}

var goType = regexp.MustCompile(`cannot unmarshal (\S+).* into Go struct field ObjectMeta\.(\S+) of type (\S+)$`)

// mistypedMetadata says without Go's words what in the metadata is of the wrong type.
func mistypedMetadata(err error) Fault {
	found := goType.FindStringSubmatch(err.Error())
	if found == nil {
		return Fault{Path: "metadata", Message: "`metadata` is not what it must be: " + err.Error()}
	}
	fault := Fault{Path: "metadata." + found[2], Message: fmt.Sprintf("`metadata.%s` must not be of type %s", found[2], found[1])}
	if found[3] == "string" {
		fault.Message = fmt.Sprintf("`metadata.%s` has a value of type %s, which must be text: it must be in quotes", found[2], found[1])
	}
	return fault
}

// unknown says what is near a field that there is not.
func unknown(schema *crdschema.Schema, path string) Fault {
	names := Names(path)
	last := names[len(names)-1]
	parent := names[:len(names)-1]
	known := schema.Fields(parent)
	message := fmt.Sprintf("there is no field `%s`", path)
	switch near := Nearest(last, known); {
	case near != "":
		message += fmt.Sprintf(": did you mean `%s`?", near)
	case len(known) > 0 && len(known) <= 32:
		message += fmt.Sprintf(": it must be one of `%s`", strings.Join(known, "`, `"))
	}
	return Fault{Path: path, Unknown: true, Message: message}
}

func meant(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean '%s'?", near)
	}
	return ""
}

var bodyPrefix = regexp.MustCompile(`^\S+ in body (should|must) `)

// noDuration is in what the API server says of a text that is no duration where a rule bounds it.
const noDuration = "type conversion error from 'string' to 'google.protobuf.Duration'"

// inWords says what the API server says, in Firebreak's words.
func inWords(problem *field.Error) string {
	where, value := "`"+problem.Field+"`", ""
	if problem.Field == "" || problem.Field == "<nil>" {
		where = "the object"
	}
	if text, ok := problem.BadValue.(string); ok && len(text) <= 128 {
		value = fmt.Sprintf(", is '%s'", text)
	}
	detail := problem.Detail
	if found := bodyPrefix.FindString(detail); found != "" {
		detail = "must " + detail[len(found):]
		if problem.Type == field.ErrorTypeTypeInvalid {
			detail, _, _ = strings.Cut(detail, ": ")
			value = ""
		}
	}
	switch {
	case strings.Contains(detail, noDuration):
		return where + " must be a duration, such as '30s' or '1h30m'"
	case problem.Type == field.ErrorTypeRequired && !strings.Contains(detail, " "), problem.Type == field.ErrorTypeRequired && detail == "":
		return where + " must be set"
	case problem.Field == "metadata.name" && problem.Type == field.ErrorTypeRequired:
		return where + " must be set, or for 'kubectl create' `metadata.generateName`"
	case problem.Type == field.ErrorTypeRequired:
		return where + " must be set: " + detail
	case problem.Type == field.ErrorTypeNotSupported:
		return where + " must be one of " + strings.TrimPrefix(strings.ReplaceAll(detail, `"`, "'"), "supported values: ") + value
	case problem.Type == field.ErrorTypeTooLong, problem.Type == field.ErrorTypeTooMany:
		return where + " is too long: it " + strings.TrimPrefix(detail, "Too long: ")
	case problem.Type == field.ErrorTypeDuplicate:
		return where + " must not be there twice: " + twice(problem.BadValue)
	case strings.HasPrefix(detail, "must "):
		return where + " " + detail + value
	case detail == "":
		return where + ": " + problem.ErrorBody()
	default:
		return where + ": " + detail
	}
}

// twice names an item of a list: by its keys where it has some.
func twice(value any) string {
	keys, ok := value.(map[string]any)
	if !ok {
		return fmt.Sprintf("'%v'", value)
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		parts = append(parts, fmt.Sprintf("`%s` '%v'", key, keys[key]))
	}
	return strings.Join(parts, ", ")
}
