package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// maxConditionMessage is how much of a compile error a condition shows.
const maxConditionMessage = 1024

// ClassificationPolicyReconciler compiles policies and says on them whether they are in force.
type ClassificationPolicyReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads without a cache.
	Live client.Reader
	// Policies is the store that the SecurityEventReconciler assesses by.
	Policies *PolicyStore
	// Clock gives the time of conditions.
	Clock clock.PassiveClock
}

var _ reconcile.Reconciler = (*ClassificationPolicyReconciler)(nil)

// SetupWithManager adds the reconciler to a manager.
func (r *ClassificationPolicyReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("classificationpolicy").
		For(&v1alpha1.ClassificationPolicy{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.policiesOfNamespace), builder.WithPredicates(domainChanges)).
		WithOptions(controller.Options{ReconciliationTimeout: reconcileTimeout}).
		Complete(r)
}

// Reconcile compiles one policy and writes its status when that changes.
func (r *ClassificationPolicyReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	policy := &v1alpha1.ClassificationPolicy{}
	if err := r.Client.Get(ctx, request.NamespacedName, policy); err != nil {
		if apierrors.IsNotFound(err) {
			r.Policies.Forget(request.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	domain, err := isDomain(ctx, r.Client, policy.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	before := policy.DeepCopy()
	condition := metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotADomain, Message: notADomain(policy.Namespace)}
	var notKept error
	if domain {
		counts, err := r.Policies.inForce(ctx, policy)
		if err != nil {
			return ctrl.Result{}, err
		}
		condition = ready(policy, counts)
		notKept = r.keep(ctx, policy, counts.text)
	}
	condition.Type, condition.ObservedGeneration = v1alpha1.ConditionReady, policy.Generation
	condition.LastTransitionTime = metav1.NewTime(r.Clock.Now())
	if domain {
		if err := r.tell(ctx, policy, condition); err != nil {
			return ctrl.Result{}, errors.Join(err, notKept)
		}
	}

	policy.Status.ObservedGeneration = policy.Generation
	meta.SetStatusCondition(&policy.Status.Conditions, condition)
	if !equality.Semantic.DeepEqual(before.Status, policy.Status) {
		err = r.Client.Status().Patch(ctx, policy, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	}
	return requeueOnConflict(errors.Join(client.IgnoreNotFound(err), notKept))
}

// tell tells that a policy does not compile, or does again. That its namespace was no domain
// before, or was not yet seen to be one, says nothing of either.
func (r *ClassificationPolicyReconciler) tell(ctx context.Context, policy *v1alpha1.ClassificationPolicy, now metav1.Condition) error {
	before := meta.FindStatusCondition(policy.Status.Conditions, now.Type)
	if before != nil && before.Reason == v1alpha1.ReasonNotADomain {
		before = nil
	}
	return tellChange(ctx, r.Client, told{
		kind: "ClassificationPolicy", namespace: policy.Namespace, name: policy.Name, uid: policy.UID, action: "Compile", at: r.Clock.Now(),
	}, before, now)
}

// ready says what of a policy is in force.
func ready(policy *v1alpha1.ClassificationPolicy, counts policyInForce) metav1.Condition {
	if counts.problem == nil {
		return metav1.Condition{
			Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompiled, Message: fmt.Sprintf("%d rules are in force", len(policy.Spec.Rules)),
		}
	}
	remains := "; no rule of this policy is in force, and no event that passes it is dismissed"
	if counts.text != nil {
		remains = fmt.Sprintf("; generation %d stays in force", counts.text.Generation)
	}
	problems := classify.Line(strings.ReplaceAll(counts.problem.Error(), "\n", "; "), maxConditionMessage-len(remains))
	return metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonExpressionError, Message: problems + remains}
}

func (r *ClassificationPolicyReconciler) policiesOfNamespace(ctx context.Context, namespace client.Object) []reconcile.Request {
	list := &v1alpha1.ClassificationPolicyList{}
	if err := r.Client.List(ctx, list, client.InNamespace(namespace.GetName()), client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "policies not looked at again", "namespace", namespace.GetName())
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}
