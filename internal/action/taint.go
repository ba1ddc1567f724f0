package action

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// defaultTaintKey is the key of a taint whose step names none.
const defaultTaintKey = "firebreak.dev/incident"

// taint puts a taint on a node.
type taint struct{}

var _ = register("taint", taint{})

// taintOf gives the taint of a step. A node has at most one of each key and effect.
func taintOf(step *v1alpha1.PlaybookStep) corev1.Taint {
	made := corev1.Taint{Key: step.Taint.Key, Value: step.Taint.Value, Effect: corev1.TaintEffect(step.Taint.Effect)}
	if made.Key == "" {
		made.Key = defaultTaintKey
	}
	if made.Effect == "" {
		made.Effect = corev1.TaintEffectNoSchedule
	}
	return made
}

// tainted is the value of the taint with the step's key and effect.
func tainted(step *v1alpha1.PlaybookStep) *holding {
	wanted := taintOf(step)
	name := fmt.Sprintf("taint '%s:%s'", wanted.Key, wanted.Effect)
	return &holding{
		prefix: "taint.firebreak.dev/",
		of:     fmt.Sprintf("%s:%s", wanted.Key, wanted.Effect),
		want:   wanted.Value,
		read: func(node *unstructured.Unstructured) (any, error) {
			_, at, err := taintsOf(node, &wanted)
			if err != nil || at == nil {
				return nil, err
			}
			value, _ := at["value"].(string)
			return value, nil
		},
		write: func(node *unstructured.Unstructured, value any) map[string]any {
			return map[string]any{"spec": map[string]any{"taints": withTaint(node, &wanted, value)}}
		},
		valid: func(value any) bool {
			text, isText := value.(string)
			return value == nil || isText && len(validation.IsValidLabelValue(text)) == 0
		},
		varies: true,
		is:     "has " + name,
		isNot:  "has no " + name + " any more, or one of another value",
		again:  "is again as it was about " + name,
	}
}

// taintsOf gives the node's taints, and the one with the key and effect.
func taintsOf(node *unstructured.Unstructured, wanted *corev1.Taint) (all []any, at map[string]any, err error) {
	all, _, err = unstructured.NestedSlice(node.Object, "spec", "taints")
	for _, item := range all {
		if fields, ok := item.(map[string]any); ok && fields["key"] == wanted.Key && fields["effect"] == string(wanted.Effect) {
			return all, fields, err
		}
	}
	return all, nil, err
}

// withTaint gives the node's taints with one set to a value, or without it. The others
// stay as they are: the list is written whole, in the version that was read.
func withTaint(node *unstructured.Unstructured, wanted *corev1.Taint, value any) []any {
	all, at, _ := taintsOf(node, wanted)
	result := make([]any, 0, len(all)+1)
	for _, item := range all {
		if fields, ok := item.(map[string]any); ok && at != nil && fields["key"] == wanted.Key && fields["effect"] == string(wanted.Effect) {
			continue
		}
		result = append(result, item)
	}
	if value == nil {
		return result
	}
	fields := map[string]any{"key": wanted.Key, "effect": string(wanted.Effect)}
	if value != "" {
		fields["value"] = value
	}
	return append(result, fields)
}

// Plan finds out whether the node had such a taint before.
func (taint) Plan(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Taint == nil {
		return refused("step '%s' has no `taint`", r.Step.Name)
	}
	return r.planNode(ctx, tainted(r.Step))
}

// Apply puts the taint on the node.
func (taint) Apply(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Taint == nil {
		return refused("step '%s' has no `taint`", r.Step.Name)
	}
	return tainted(r.Step).apply(ctx, r)
}

// Observe looks whether the taint is still there.
func (taint) Observe(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Taint == nil {
		return refused("step '%s' has no `taint`", r.Step.Name)
	}
	return tainted(r.Step).observe(ctx, r)
}

// Undo takes the taint off, unless it was there before or another incident needs it.
func (taint) Undo(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Taint == nil {
		return refused("step '%s' has no `taint`", r.Step.Name)
	}
	return tainted(r.Step).undo(ctx, r)
}
