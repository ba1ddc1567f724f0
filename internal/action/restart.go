package action

import (
	"context"
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// restartedAt is the annotation of the pod template by which `kubectl rollout restart` has
// a workload replace its pods.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// restart replaces all pods of a workload.
type restart struct{}

var _ = register("restart", restart{})

// restartRecord keeps the value of the annotation, so that a restart that is tried again
// after a crash is the same one.
type restartRecord struct {
	RestartedAt string `json:"restartedAt"`
}

// Plan decides the value of the annotation.
func (restart) Plan(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Restart == nil {
		return refused("step '%s' has no `restart`", r.Step.Name)
	}
	object, problem := r.rollable(ctx)
	if problem != nil {
		return *problem
	}
	undo, err := json.Marshal(restartRecord{RestartedAt: r.Now.UTC().Format(time.RFC3339Nano)})
	if err != nil {
		return refused("%v", err)
	}
	return acting(r.targetName(), object, undo, r.targetName()+" will replace its pods")
}

// Apply has the workload replace its pods, unless an earlier try has.
func (restart) Apply(ctx context.Context, r *Request) lifecycle.Result {
	record := restartRecord{}
	if err := json.Unmarshal([]byte(r.Target.Undo), &record); err != nil || record.RestartedAt == "" {
		return refused("the record of when it is restarted cannot be read")
	}
	if _, problem := r.rollable(ctx); problem != nil {
		return *problem
	}
	object, problem := r.write(ctx, func(object *unstructured.Unstructured) (map[string]any, error) {
		at, _, _ := unstructured.NestedString(object.Object, "spec", "template", "metadata", "annotations", restartedAt)
		if at == record.RestartedAt {
			return nil, nil
		}
		return map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
			"annotations": map[string]any{restartedAt: record.RestartedAt},
		}}}}, nil
	})
	if problem != nil {
		return *problem
	}
	return r.rolledOut(object)
}

// Observe looks whether all pods are replaced.
func (restart) Observe(ctx context.Context, r *Request) lifecycle.Result { return r.rollout(ctx) }

// Undo has nothing to give back: the new pods are those of the same template.
func (restart) Undo(_ context.Context, r *Request) lifecycle.Result {
	return reverted("%s was restarted: that cannot be undone, and has left nothing to be undone", r.targetName())
}
