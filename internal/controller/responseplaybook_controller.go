package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// ResponsePlaybookReconciler says whether playbooks can run.
type ResponsePlaybookReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Clock tells the time.
	Clock clock.PassiveClock
}

var _ reconcile.Reconciler = (*ResponsePlaybookReconciler)(nil)

// Reconcile compiles one playbook.
func (r *ResponsePlaybookReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	playbook := &v1alpha1.ResponsePlaybook{}
	if err := r.Client.Get(ctx, request.NamespacedName, playbook); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	update := playbook.DeepCopy()
	condition := playbookReady(playbook)
	domain, err := isDomain(ctx, r.Client, request.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !domain {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, v1alpha1.ReasonNotADomain, notADomain(request.Namespace)
	}
	condition.LastTransitionTime = metav1.NewTime(r.Clock.Now())
	if !setReady(&update.Status.Conditions, &update.Status.ObservedGeneration, condition) {
		return ctrl.Result{}, nil
	}
	if err := r.Client.Status().Update(ctx, update); err != nil {
		return ctrl.Result{}, fmt.Errorf("writing the playbook's status: %w", client.IgnoreNotFound(err))
	}
	return ctrl.Result{}, nil
}

// SetupWithManager registers the reconciler and what it watches.
func (r *ResponsePlaybookReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("responseplaybook").
		For(&v1alpha1.ResponsePlaybook{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.playbooksOfNamespace), builder.WithPredicates(becomesDomain)).
		Complete(r)
}

func (r *ResponsePlaybookReconciler) playbooksOfNamespace(ctx context.Context, namespace client.Object) []reconcile.Request {
	list := &v1alpha1.ResponsePlaybookList{}
	if err := r.Client.List(ctx, list, client.InNamespace(namespace.GetName())); err != nil {
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}
