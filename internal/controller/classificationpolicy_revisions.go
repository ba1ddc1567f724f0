package controller

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// maxRevisions is how many generations of a policy are kept.
const maxRevisions = 10

// keep stores the text that is in force as a ControllerRevision owned by the policy, so that
// it stays in force after a restart and explains what was decided by it, and says so in the
// status that the caller writes. What is beyond the last ones goes.
func (r *ClassificationPolicyReconciler) keep(ctx context.Context, policy, text *v1alpha1.ClassificationPolicy) error {
	status := &policy.Status
	if text == nil {
		status.InForce = v1alpha1.PolicyRevision{}
		return nil
	}
	if policy.DeletionTimestamp != nil {
		return nil
	}
	kept, err := r.keepText(ctx, policy, text)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	if err != nil {
		return err
	}
	revisions := slices.DeleteFunc(slices.Clone(status.Revisions), func(one v1alpha1.PolicyRevision) bool { return one == kept })
	revisions = append(revisions, kept)
	for len(revisions) > maxRevisions {
		old := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: policy.Namespace, Name: revisions[0].Revision}}
		if err := r.Client.Delete(ctx, old); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting the text of generation %d of policy %q: %w", revisions[0].Generation, policy.Name, err)
		}
		revisions = revisions[1:]
	}
	status.InForce, status.Revisions = kept, revisions
	return nil
}

// keepText stores one text.
func (r *ClassificationPolicyReconciler) keepText(ctx context.Context, policy, text *v1alpha1.ClassificationPolicy) (v1alpha1.PolicyRevision, error) {
	kept, raw, err := classify.Revision(text)
	if err != nil {
		return kept, err
	}
	revision := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Namespace: policy.Namespace, Name: kept.Revision},
		Data:       runtime.RawExtension{Raw: raw}, Revision: kept.Generation,
	}
	// To block the policy's deletion would take a right of its own, and is not needed.
	if err := controllerutil.SetControllerReference(policy, revision, r.Client.Scheme(), controllerutil.WithBlockOwnerDeletion(false)); err != nil {
		return kept, err
	}
	err = r.Client.Create(ctx, revision)
	if err == nil {
		return kept, nil
	}
	if apierrors.IsAlreadyExists(err) {
		there := &appsv1.ControllerRevision{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(revision), there); err != nil {
			return kept, fmt.Errorf("reading the kept text %s of policy %q: %w", kept.Revision, policy.Name, err)
		}
		if metav1.IsControlledBy(there, policy) {
			return kept, nil
		}
		return kept, fmt.Errorf("keeping the text of policy %q as %s: a ControllerRevision of that name belongs to another object; it must go first", policy.Name, kept.Revision)
	}
	return kept, fmt.Errorf("keeping the text of policy %q as %s: %w", policy.Name, kept.Revision, err)
}
