package action

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// fluxSuffix ends the API groups of Flux, all of whose kinds have `spec.suspend`.
const fluxSuffix = ".toolkit.fluxcd.io"

// suspendKinds are what suspend documents. Other kinds of Flux are suspended alike.
var suspendKinds = []schema.GroupVersionKind{
	{Group: "batch", Version: "v1", Kind: "CronJob"},
	{Group: "batch", Version: "v1", Kind: "Job"},
	{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"},
	{Group: "helm.toolkit.fluxcd.io", Version: "v2", Kind: "HelmRelease"},
	{Group: "argoproj.io", Version: "v1alpha1", Kind: "Application"},
}

// suspend stops what starts or reconciles other things.
type suspend struct{}

var _ = register("suspend", suspend{})

const suspendPrefix = "suspend.firebreak.dev/"

// suspended is `spec.suspend`.
var suspended = holding{
	prefix: suspendPrefix,
	want:   true,
	read:   flagAt("spec", "suspend"),
	write:  writeFlag("suspend"),
	valid:  isFlag,
	is:     "is suspended",
	isNot:  "is not suspended any more",
	again:  "is not suspended any more",
}

// unsynced is an Argo CD Application without `spec.syncPolicy.automated`: Argo CD then
// shows what differs, and changes nothing by itself.
var unsynced = holding{
	prefix: suspendPrefix,
	want:   nil,
	read: func(object *unstructured.Unstructured) (any, error) {
		automated, _, err := unstructured.NestedFieldCopy(object.Object, "spec", "syncPolicy", "automated")
		return automated, err
	},
	write: func(_ *unstructured.Unstructured, value any) map[string]any {
		return map[string]any{"spec": map[string]any{"syncPolicy": map[string]any{"automated": value}}}
	},
	valid: func(value any) bool {
		_, isMap := value.(map[string]any)
		return value == nil || isMap
	},
	is:    "is not synced automatically",
	isNot: "is synced automatically again",
	again: "is synced automatically again, as it was",
}

// suspendedBy says how a target is suspended.
func (r *Request) suspendedBy() (*holding, *lifecycle.Result) {
	if r.Step.Suspend == nil {
		problem := refused("step '%s' has no `suspend`", r.Step.Name)
		return nil, &problem
	}
	kind := kindOf(&r.Target)
	switch {
	case kind.Group == "argoproj.io" && kind.Kind == "Application":
		return &unsynced, nil
	case strings.HasSuffix(kind.Group, fluxSuffix):
		return &suspended, nil
	}
	return &suspended, r.mustBe(suspendKinds...)
}

// Plan finds out whether the target can be suspended, and was before.
func (suspend) Plan(ctx context.Context, r *Request) lifecycle.Result {
	by, problem := r.suspendedBy()
	if problem != nil {
		return *problem
	}
	object, problem := r.present(ctx)
	if problem != nil {
		return *problem
	}
	if kindOf(&r.Target).Group == "batch" && finished(object) {
		return gone("%s has ended: there is nothing to suspend", r.targetName())
	}
	result := by.plan(object, r)
	if note := goesOn(object); note != "" && result.State == v1alpha1.TargetActing {
		result.Message = say("%s; %s", result.Message, note)
	}
	return result
}

// finished says that a Job has ended.
func finished(object *unstructured.Unstructured) bool {
	for _, condition := range conditionsOf(object) {
		if (condition["type"] == "Complete" || condition["type"] == "Failed") && condition["status"] == string(corev1.ConditionTrue) {
			return true
		}
	}
	return false
}

func conditionsOf(object *unstructured.Unstructured) []map[string]any {
	list, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	var conditions []map[string]any
	for _, item := range list {
		if fields, ok := item.(map[string]any); ok {
			conditions = append(conditions, fields)
		}
	}
	return conditions
}

// goesOn says what suspending does not stop.
func goesOn(object *unstructured.Unstructured) string {
	switch {
	case object.GetKind() == "CronJob":
		if active, _, _ := unstructured.NestedSlice(object.Object, "status", "active"); len(active) > 0 {
			return fmt.Sprintf("%d Jobs that it has started go on", len(active))
		}
	case object.GetKind() == "Application":
		if phase, _, _ := unstructured.NestedString(object.Object, "status", "operationState", "phase"); phase == "Running" {
			return "a sync that is under way goes on"
		}
	}
	return ""
}

// Apply suspends the target.
func (suspend) Apply(ctx context.Context, r *Request) lifecycle.Result {
	by, problem := r.suspendedBy()
	if problem != nil {
		return *problem
	}
	return by.apply(ctx, r)
}

// Observe looks whether it is still suspended.
func (suspend) Observe(ctx context.Context, r *Request) lifecycle.Result {
	by, problem := r.suspendedBy()
	if problem != nil {
		return *problem
	}
	return by.observe(ctx, r)
}

// Undo lets the target go on, unless it was suspended before or another incident needs it.
func (suspend) Undo(ctx context.Context, r *Request) lifecycle.Result {
	by, problem := r.suspendedBy()
	if problem != nil {
		return *problem
	}
	return by.undo(ctx, r)
}
