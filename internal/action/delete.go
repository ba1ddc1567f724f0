package action

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// remove deletes a target, and what it owns after it.
type remove struct{}

var _ = register("delete", remove{})

// Plan looks whether the target is there.
func (remove) Plan(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Delete == nil {
		return refused("step '%s' has no `delete`", r.Step.Name)
	}
	object, err := r.metadata(ctx)
	if problem := r.absent(object, err); problem != nil {
		return *problem
	}
	return acting(r.targetName(), object, nil, r.targetName()+" will be deleted")
}

// Apply deletes the target. That it is gone already is success: it was there when this
// was planned, so an earlier try before a crash has deleted it, or somebody else has.
func (remove) Apply(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Delete == nil {
		return refused("step '%s' has no `delete`", r.Step.Name)
	}
	uid := types.UID(r.Target.UID)
	options := []client.DeleteOption{client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground)}
	if grace := r.Step.Delete.GracePeriodSeconds; grace != nil {
		options = append(options, client.GracePeriodSeconds(*grace))
	}
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kindOf(&r.Target))
	object.SetNamespace(r.Target.Namespace)
	object.SetName(r.Target.Name)
	err := r.Client.Delete(ctx, object, options...)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return r.failure(err, r.targetAccess("delete"))
	}
	if err == nil && r.DryRun {
		return done("%s would be deleted", r.targetName())
	}
	return r.deleted(ctx)
}

// Observe looks whether the target is gone.
func (remove) Observe(ctx context.Context, r *Request) lifecycle.Result { return r.deleted(ctx) }

func (r *Request) deleted(ctx context.Context) lifecycle.Result {
	object, err := r.metadata(ctx)
	switch {
	case apierrors.IsNotFound(err):
		return done("%s is deleted", r.targetName())
	case err != nil:
		return r.failure(err, r.targetAccess("get"))
	case !r.isTarget(object):
		return done("%s is deleted; another one has its name now, and is not touched", r.targetName())
	case object.DeletionTimestamp == nil:
		return failed("%s is still there: its deletion was not accepted", r.targetName())
	}
	return applied("%s is being deleted%s", r.targetName(), waitsFor(object))
}

func waitsFor(object *metav1.PartialObjectMetadata) string {
	var parts []string
	if grace := object.DeletionGracePeriodSeconds; grace != nil && *grace > 0 {
		parts = append(parts, fmt.Sprintf("it may take %s to end", time.Duration(*grace)*time.Second))
	}
	if len(object.Finalizers) > 0 {
		parts = append(parts, "it waits for finalizers '"+strings.Join(object.Finalizers, "', '")+"'")
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, "; ")
}

// Undo cannot bring back what was deleted.
func (remove) Undo(_ context.Context, r *Request) lifecycle.Result {
	return refused("%s was deleted, and that cannot be undone", r.targetName())
}
