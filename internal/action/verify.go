package action

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// Evaluator evaluates the expression of a verify step.
type Evaluator interface {
	// Verify says whether the expression holds for the objects; an error says why
	// that cannot be told.
	Verify(ctx context.Context, expression string, objects []any, incident *v1alpha1.Incident) (bool, error)
}

// Verify looks whether the expression of a verify step holds for its targets as they
// are now. What is gone is left out; a workload that was made anew under its name
// counts, a pod does not. An expression that cannot be evaluated is tried again: an
// object may lack a field for a while.
func Verify(ctx context.Context, r *Request, evaluator Evaluator) lifecycle.Result {
	if r.Step.Verify == nil || r.Step.Verify.Expression == "" {
		return refused("step '%s' has no `verify.expression`", r.Step.Name)
	}
	objects := make([]any, 0, len(r.Targets))
	var missing []string
	for i := range r.Targets {
		target := &r.Targets[i]
		kind := kindOf(target)
		object, err := r.object(ctx, kind, client.ObjectKey{Namespace: target.Namespace, Name: target.Name})
		switch {
		case apierrors.IsNotFound(err), err == nil && target.Kind == "Pod" && string(object.GetUID()) != string(target.UID):
			missing = append(missing, nameOf(target.Kind, target.Name))
		case err != nil:
			return r.failure(err, r.accessTo("get", kind, target.Namespace, target.Name))
		default:
			objects = append(objects, object.Object)
		}
	}
	expression := string(r.Step.Verify.Expression)
	holds, err := evaluator.Verify(ctx, expression, objects, r.Incident)
	about := fmt.Sprintf("%d of %d objects", len(objects), len(r.Targets))
	if len(missing) > 0 {
		about += " (gone: " + strings.Join(missing, ", ") + ")"
	}
	switch {
	case err != nil:
		return failed("`verify.expression` could not be evaluated for %s: %v", about, err)
	case holds:
		return done("it holds for %s: %s", about, expression)
	default:
		return applied("it does not hold for %s: %s", about, expression)
	}
}
