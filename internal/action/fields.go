package action

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// setField is one field that a step sets, and what undoing it takes.
type setField struct {
	// Path leads to it, each element as managedFields writes it.
	Path []string `json:"p"`
	// Before is what it had. Nil means that it was not there.
	Before *json.RawMessage `json:"b,omitempty"`
	// Stood is how many elements of the path were there before.
	Stood int `json:"s,omitempty"`
	// After is a hash of what the step has set: what differs was changed by somebody else.
	After string `json:"a"`
	// Shared says that another response had set the same before: what it was before that
	// is handed over by the other one when it is undone first.
	Shared bool `json:"h,omitempty"`
}

// valueHashDigits is how many digits of the hash of a value are kept.
const valueHashDigits = 12

func hashValue(content any) string {
	raw, err := json.Marshal(content)
	if err != nil {
		return ""
	}
	return ShortHash(valueHashDigits, string(raw))
}

// fieldsOf compares an object before and after an owner's apply, and gives the fields
// that the owner has set.
func fieldsOf(before map[string]any, after *unstructured.Unstructured, owner string) ([]setField, error) {
	set, err := ownedBy(after, owner)
	if err != nil {
		return nil, err
	}
	var paths []fieldpath.Path
	set.Iterate(func(path fieldpath.Path) { paths = append(paths, path.Copy()) })
	slices.SortStableFunc(paths, func(a, b fieldpath.Path) int { return a.Compare(b) })
	var fields []setField
	var absent fieldpath.Path
	for _, path := range paths {
		if absent != nil && hasPrefix(path, absent) {
			continue // it goes with what it is in
		}
		field, leaf, err := fieldAt(before, after.Object, path)
		if err != nil {
			return nil, err
		}
		if !leaf && field.Before != nil {
			continue // an element of a list that was there: what is set in it has paths of its own
		}
		if field.Before == nil {
			absent = path
		}
		fields = append(fields, field)
	}
	return fields, nil
}

func hasPrefix(path, prefix fieldpath.Path) bool {
	return len(path) > len(prefix) && path[:len(prefix)].Equals(prefix)
}

// fieldAt describes one path; leaf is false for an element of a keyed list.
func fieldAt(before, after map[string]any, path fieldpath.Path) (field setField, leaf bool, err error) {
	for _, element := range path {
		text, err := fieldpath.SerializePathElement(element)
		if err != nil {
			return field, false, err
		}
		field.Path = append(field.Path, text)
	}
	content, _, _ := find(after, path)
	field.After = hashValue(content)
	old, found, stood := find(before, path)
	field.Stood = stood
	if found {
		raw, err := json.Marshal(old)
		if err != nil {
			return field, false, err
		}
		message := json.RawMessage(raw)
		field.Before = &message
	}
	return field, path[len(path)-1].Key == nil, nil
}

// ownedBy gives the fields that an owner has applied.
func ownedBy(object *unstructured.Unstructured, owner string) (*fieldpath.Set, error) {
	set := &fieldpath.Set{}
	for _, entry := range object.GetManagedFields() {
		if !isEntryOf(entry, owner) || entry.FieldsV1 == nil {
			continue
		}
		part := &fieldpath.Set{}
		if err := part.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
			return nil, fmt.Errorf("the owners of its fields cannot be read: %w", err)
		}
		set = set.Union(part)
	}
	return set, nil
}

func isEntryOf(entry metav1.ManagedFieldsEntry, owner string) bool {
	return entry.Manager == owner && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == ""
}

func (f *setField) path() (fieldpath.Path, error) {
	path := make(fieldpath.Path, 0, len(f.Path))
	for _, text := range f.Path {
		element, err := fieldpath.DeserializePathElement(text)
		if err != nil {
			return nil, fmt.Errorf("the record of what to undo has a path that cannot be read: %w", err)
		}
		path = append(path, element)
	}
	return path, nil
}

// find gives what is at a path, and how many of its elements are there.
func find(content any, path fieldpath.Path) (found any, ok bool, stood int) {
	for i, element := range path {
		next, ok := step(content, element)
		if !ok {
			return nil, false, i
		}
		content = next
	}
	return content, true, len(path)
}

func step(content any, element fieldpath.PathElement) (any, bool) {
	if element.FieldName != nil {
		fields, _ := content.(map[string]any)
		next, ok := fields[*element.FieldName]
		return next, ok
	}
	list, _ := content.([]any)
	at := indexIn(list, element)
	if at < 0 {
		return nil, false
	}
	return list[at], true
}

// indexIn finds an element in a list; -1 when it is not there.
func indexIn(list []any, element fieldpath.PathElement) int {
	return slices.IndexFunc(list, func(item any) bool {
		switch {
		case element.Key != nil:
			fields, ok := item.(map[string]any)
			for _, key := range *element.Key {
				ok = ok && value.Equals(value.NewValueInterface(fields[key.Name]), key.Value)
			}
			return ok
		case element.Value != nil:
			return value.Equals(value.NewValueInterface(item), *element.Value)
		default:
			return false
		}
	})
}

// restore puts one field back to what it was, in content. What is empty after that and was
// not there before goes with it.
func (f *setField) restore(content map[string]any) error {
	path, err := f.path()
	if err != nil {
		return err
	}
	var old any
	if f.Before != nil {
		if err := utiljson.Unmarshal(*f.Before, &old); err != nil {
			return fmt.Errorf("the record of what to undo has a value that cannot be read: %w", err)
		}
	}
	_, err = f.put(content, path, 0, old)
	return err
}

func (f *setField) put(content any, path fieldpath.Path, depth int, old any) (any, error) {
	element := path[depth]
	last := depth == len(path)-1
	child, ok := step(content, element)
	if !ok && (f.Before == nil || !last) {
		if f.Before == nil {
			return content, nil
		}
		return nil, errors.New("what it was in is not there any more")
	}
	remove := last && f.Before == nil
	if last {
		child = old
	} else {
		next, err := f.put(child, path, depth+1, old)
		if err != nil {
			return nil, err
		}
		child = next
		remove = f.Before == nil && depth+1 > f.Stood && isEmpty(child)
	}
	return replace(content, element, child, remove), nil
}

func isEmpty(content any) bool {
	switch v := content.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	default:
		return false
	}
}

func replace(content any, element fieldpath.PathElement, child any, remove bool) any {
	if element.FieldName != nil {
		fields, _ := content.(map[string]any)
		if remove {
			delete(fields, *element.FieldName)
		} else {
			fields[*element.FieldName] = child
		}
		return fields
	}
	list, _ := content.([]any)
	at := indexIn(list, element)
	switch {
	case at >= 0 && remove:
		return slices.Delete(list, at, at+1)
	case at >= 0:
		list[at] = child
		return list
	default:
		return append(list, child)
	}
}

// name is how people write the path.
func (f *setField) name() string {
	path, err := f.path()
	if err != nil {
		return strings.Join(f.Path, "/")
	}
	return strings.TrimPrefix(path.String(), ".")
}

// checkFields refuses what a step must not set: the identity of the object, its owners,
// what Firebreak itself goes by, and its status.
func checkFields(fields map[string]any, allowed ...string) error {
	for name, content := range fields {
		switch {
		case name == "metadata":
			if err := checkMetadata(content, allowed); err != nil {
				return err
			}
		case name == "status":
			return errors.New("must not set `status`: it says what is, not what is to be")
		case (name == "apiVersion" || name == "kind") && !slices.Contains(allowed, name):
			return fmt.Errorf("must not set `%s`: it is the target's", name)
		}
		if at := findNull(content, name); at != "" {
			return fmt.Errorf("`%s` is null: a field can be set, not taken away", at)
		}
	}
	return nil
}

func checkMetadata(content any, allowed []string) error {
	metadata, ok := content.(map[string]any)
	if !ok {
		return errors.New("`metadata` must be an object")
	}
	for name, part := range metadata {
		if slices.Contains(allowed, name) {
			continue
		}
		if name != "labels" && name != "annotations" {
			return fmt.Errorf("must not set `metadata.%s`: of the metadata it may set labels and annotations", name)
		}
		pairs, ok := part.(map[string]any)
		if !ok {
			return fmt.Errorf("`metadata.%s` must be an object", name)
		}
		for key, value := range pairs {
			if isOwnName(key) {
				return fmt.Errorf("must not set `metadata.%s[%s]`: Firebreak goes by it", name, key)
			}
			if _, ok := value.(string); !ok {
				return fmt.Errorf("`metadata.%s[%s]` must be a string", name, key)
			}
		}
	}
	return nil
}

// isOwnName says of the key of a label or annotation that it is Firebreak's.
func isOwnName(key string) bool {
	domain, _, found := strings.Cut(key, "/")
	return found && isOwnGroup(domain)
}

// saysSecret is why no playbook writes Secrets.
const saysSecret = "what undoing needs is on record for all who read incidents, and so what it holds would be; replace it by a `task`, or by a `job` that may"

func isSecret(kind schema.GroupVersionKind) bool { return kind.Group == "" && kind.Kind == "Secret" }

// isOwnGroup says of an API group that it is Firebreak's.
func isOwnGroup(group string) bool {
	own := v1alpha1.SchemeGroupVersion.Group
	return group == own || strings.HasSuffix(group, "."+own)
}

func findNull(content any, at string) string {
	switch v := content.(type) {
	case nil:
		return at
	case map[string]any:
		for name, part := range v {
			if found := findNull(part, at+"."+name); found != "" {
				return found
			}
		}
	case []any:
		for i, part := range v {
			if found := findNull(part, fmt.Sprintf("%s[%d]", at, i)); found != "" {
				return found
			}
		}
	}
	return ""
}

// decodeFields reads what a playbook has written out.
func decodeFields(raw *runtime.RawExtension, field string) (map[string]any, error) {
	fields := map[string]any{}
	if raw == nil || len(raw.Raw) == 0 {
		return nil, fmt.Errorf("`%s` must be set", field)
	}
	if err := utiljson.Unmarshal(raw.Raw, &fields); err != nil {
		return nil, fmt.Errorf("`%s` must be an object: %w", field, err)
	}
	return fields, nil
}
