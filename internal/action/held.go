package action

import (
	"context"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// heldIn says that a step must wait for an approval before it writes in a namespace that
// is not its target's: it is protected, or out of the playbook's scope.
func (r *Request) heldIn(ctx context.Context, namespace string) *lifecycle.Result {
	if held := r.protectedIn(ctx, namespace); held != nil {
		return held
	}
	if r.OutOfScope == nil || r.Target.ApprovedBy != "" {
		return nil
	}
	if why := r.OutOfScope(namespace); why != "" {
		return &lifecycle.Result{State: v1alpha1.TargetHeld, Message: say("%s", why)}
	}
	return nil
}

// protectedIn says that a namespace is protected, and nobody has approved the step. What
// names an attacker's account elsewhere is no reason to leave him his rights, so that the
// scope holds no bindings.
func (r *Request) protectedIn(ctx context.Context, namespace string) *lifecycle.Result {
	if r.Protected == nil || namespace == "" || r.Target.ApprovedBy != "" {
		return nil
	}
	why, err := r.Protected(ctx, namespace)
	if err != nil {
		result := failed("%v", err)
		return &result
	}
	if why == "" {
		return nil
	}
	return &lifecycle.Result{State: v1alpha1.TargetHeld, Message: say("%s, and the playbook's `limits.allowProtected` does not name it", why)}
}
