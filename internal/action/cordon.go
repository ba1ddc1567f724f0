package action

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

var nodeKind = schema.GroupVersionKind{Version: "v1", Kind: "Node"}

// cordon keeps new pods off a node.
type cordon struct{}

var _ = register("cordon", cordon{})

// unschedulable is the value that keeps new pods off a node. Drain holds it too.
var unschedulable = holding{
	prefix: "cordon.firebreak.dev/",
	want:   true,
	read:   flagAt("spec", "unschedulable"),
	write:  writeFlag("unschedulable"),
	valid:  isFlag,
	is:     "takes no new pods",
	isNot:  "takes new pods again",
	again:  "takes new pods again",
}

// flagAt reads a boolean.
func flagAt(fields ...string) func(*unstructured.Unstructured) (any, error) {
	return func(object *unstructured.Unstructured) (any, error) {
		value, _, err := unstructured.NestedFieldCopy(object.Object, fields...)
		if err == nil && !isFlag(value) {
			err = fmt.Errorf("`%s` is no boolean", strings.Join(fields, "."))
		}
		return value, err
	}
}

// writeFlag sets a field of the spec, or takes it away.
func writeFlag(field string) func(*unstructured.Unstructured, any) map[string]any {
	return func(_ *unstructured.Unstructured, value any) map[string]any {
		return map[string]any{"spec": map[string]any{field: value}}
	}
}

func isFlag(value any) bool {
	_, is := value.(bool)
	return is || value == nil
}

// Plan finds out whether the node was cordoned before.
func (cordon) Plan(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Cordon == nil {
		return refused("step '%s' has no `cordon`", r.Step.Name)
	}
	return r.planNode(ctx, &unschedulable)
}

// planNode plans to hold a value of a node.
func (r *Request) planNode(ctx context.Context, h *holding) lifecycle.Result {
	if problem := r.mustBe(nodeKind); problem != nil {
		return *problem
	}
	node, problem := r.present(ctx)
	if problem != nil {
		return *problem
	}
	return h.plan(node, r)
}

// Apply cordons the node.
func (cordon) Apply(ctx context.Context, r *Request) lifecycle.Result {
	return unschedulable.apply(ctx, r)
}

// Observe looks whether it is still cordoned.
func (cordon) Observe(ctx context.Context, r *Request) lifecycle.Result {
	return unschedulable.observe(ctx, r)
}

// Undo uncordons the node, unless it was cordoned before or another incident needs it.
func (cordon) Undo(ctx context.Context, r *Request) lifecycle.Result {
	return unschedulable.undo(ctx, r)
}
