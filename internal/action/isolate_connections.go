package action

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// endingSeconds is how long a pod that is deleted to end its connections may take.
const endingSeconds = 1

// deletesPod says whether the pod is deleted once it is isolated.
func (r *Request) deletesPod() bool {
	return r.Step.Isolate.SurvivingConnections == v1alpha1.SurvivingDeleted
}

// endConnections deletes a pod that is isolated now, where the step says so: what comes
// in its place starts without its connections.
func (r *Request) endConnections(ctx context.Context, isolated lifecycle.Result) lifecycle.Result {
	if isolated.State != v1alpha1.TargetSucceeded {
		return isolated
	}
	if !r.deletesPod() {
		isolated.Message = say("%s; connections that are open already may go on: the network plugin decides that", isolated.Message)
		return isolated
	}
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = r.Target.Namespace, r.Target.Name
	uid := types.UID(r.Target.UID)
	err := r.Client.Delete(ctx, pod, client.Preconditions{UID: &uid}, client.GracePeriodSeconds(endingSeconds))
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return r.failure(err, r.targetAccess("delete"))
	}
	isolated.Message = say("%s; the pod is deleted, so that its open connections end", isolated.Message)
	return isolated
}
