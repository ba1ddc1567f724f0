package action

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// revisionAnnotation has the number of a ReplicaSet's revision.
	revisionAnnotation = "deployment.kubernetes.io/revision"
	templateHashLabel  = appsv1.DefaultDeploymentUniqueLabelKey
)

// revision is a pod template that a workload has had.
type revision struct {
	revisionName
	template map[string]any
}

// templateOf gives the pod template of a workload or ReplicaSet, without the label by
// which a Deployment tells its ReplicaSets apart.
func templateOf(object *unstructured.Unstructured) map[string]any {
	template, _, _ := unstructured.NestedMap(object.Object, "spec", "template")
	unstructured.RemoveNestedField(template, "metadata", "labels", templateHashLabel)
	return template
}

// hashOf gives a hash of a template. What says nothing does not count: who writes a
// template may spell out what is empty.
func hashOf(template map[string]any) string {
	text, err := json.Marshal(withoutEmpty(template))
	if err != nil {
		return ""
	}
	return ShortHash(2*shortHashDigits, string(text))
}

func withoutEmpty(value any) any {
	switch value := value.(type) {
	case map[string]any:
		result := map[string]any{}
		for key, item := range value {
			if item = withoutEmpty(item); item != nil {
				result[key] = item
			}
		}
		if len(result) == 0 {
			return nil
		}
		return result
	case []any:
		result := make([]any, 0, len(value))
		for _, item := range value {
			result = append(result, withoutEmpty(item))
		}
		if len(result) == 0 {
			return nil
		}
		return result
	}
	return value
}

// revisions lists what a workload has run, the oldest first: the ReplicaSets of a
// Deployment, the ControllerRevisions of a StatefulSet or DaemonSet.
func (r *Request) revisions(ctx context.Context, object *unstructured.Unstructured) ([]revision, *lifecycle.Result) {
	kind := appsv1.SchemeGroupVersion.WithKind("ControllerRevision")
	if object.GetKind() == "Deployment" {
		kind = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")
	}
	selector, err := selectorOf(object)
	if err != nil {
		problem := refused("%s: %v", r.targetName(), err)
		return nil, &problem
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	var found []revision
	for {
		err := r.Client.List(ctx, list, client.InNamespace(object.GetNamespace()), client.MatchingLabelsSelector{Selector: selector}, client.Limit(policyPage), client.Continue(list.GetContinue()))
		if err != nil {
			problem := r.failure(err, r.accessTo("list", kind, object.GetNamespace(), ""))
			return nil, &problem
		}
		for i := range list.Items {
			if !metav1.IsControlledBy(&list.Items[i], object) {
				continue
			}
			if one, ok := revisionOf(&list.Items[i], kind); ok {
				found = append(found, one)
			}
		}
		if list.GetContinue() == "" {
			break
		}
	}
	slices.SortFunc(found, func(a, b revision) int { return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Name, b.Name)) })
	return found, nil
}

func revisionOf(object *unstructured.Unstructured, kind schema.GroupVersionKind) (revision, bool) {
	one := revision{revisionName: revisionName{Name: object.GetName()}}
	if kind.Kind == "ReplicaSet" {
		number, err := strconv.ParseInt(object.GetAnnotations()[revisionAnnotation], 10, 64)
		if err != nil {
			return one, false
		}
		one.Number, one.template = number, templateOf(object)
	} else {
		one.Number, _, _ = unstructured.NestedInt64(object.Object, "revision")
		template, _, err := unstructured.NestedMap(object.Object, "data", "spec", "template")
		if err != nil {
			return one, false
		}
		// The data is a patch that says that the template is to be replaced.
		delete(template, "$patch")
		one.template = template
	}
	one.Hash = hashOf(one.template)
	return one, len(one.template) > 0
}

func selectorOf(object *unstructured.Unstructured) (labels.Selector, error) {
	content, found, err := unstructured.NestedMap(object.Object, "spec", "selector")
	if err != nil || !found {
		return nil, fmt.Errorf("it has no `spec.selector`")
	}
	selector := &metav1.LabelSelector{}
	if _, isNew := content["matchLabels"]; !isNew && content["matchExpressions"] == nil {
		// A ReplicationController's selector is a plain map.
		text, err := utiljson.Marshal(content)
		if err != nil || utiljson.Unmarshal(text, &selector.MatchLabels) != nil {
			return nil, fmt.Errorf("its `spec.selector` cannot be read")
		}
		return metav1.LabelSelectorAsSelector(selector)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, selector); err != nil {
		return nil, fmt.Errorf("its `spec.selector` cannot be read: %w", err)
	}
	return metav1.LabelSelectorAsSelector(selector)
}

func numbersOf(revisions []revision) string {
	numbers := make([]string, 0, len(revisions))
	for _, one := range revisions {
		numbers = append(numbers, strconv.FormatInt(one.Number, 10))
	}
	return strings.Join(numbers, ", ")
}
