package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// rightsEvery is how often a playbook's rights are asked for again: nothing tells when
	// they change.
	rightsEvery = 5 * time.Minute
	// missingEvery is how soon that is after something was found missing: somebody may be at
	// it. The longer it is missing, the longer the wait, up to rightsEvery.
	missingEvery = 15 * time.Second

	// playbookWorkers is how many playbooks are checked at the same time. A check waits for an
	// answer for each right, and at a start all playbooks there are want one.
	playbookWorkers = 4
	// maxPreflightMessage is how much of what is missing a condition shows.
	maxPreflightMessage = 2048
)

// ResponsePlaybookReconciler says whether playbooks can run.
type ResponsePlaybookReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads ServiceAccounts of domains without a cache. Nil means that nobody looks
	// whether they exist.
	Live client.Reader
	// Clock tells the time.
	Clock clock.PassiveClock
}

var _ reconcile.Reconciler = (*ResponsePlaybookReconciler)(nil)

// Reconcile checks one playbook before it is needed.
func (r *ResponsePlaybookReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	playbook := &v1alpha1.ResponsePlaybook{}
	if err := r.Client.Get(ctx, request.NamespacedName, playbook); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	domain, err := isDomain(ctx, r.Client, request.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	plan, err := planOf(ctx, r.Client, request.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	ready := readyWith(playbook, plan)
	authorized := metav1.Condition{
		Type: v1alpha1.ConditionAuthorized, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonNotAsked, Message: "the namespace is not a response domain",
	}
	if domain {
		authorized = r.authorized(ctx, playbook, plan)
		if missing := r.accountMissing(ctx, playbook); missing != "" && ready.Status == metav1.ConditionTrue {
			ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.ReasonServiceAccountNotFound, missing
		}
	} else {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.ReasonNotADomain, notADomain(request.Namespace)
	}
	update := playbook.DeepCopy()
	changed := false
	for _, condition := range []metav1.Condition{ready, authorized, reversible(playbook)} {
		condition.ObservedGeneration = playbook.Generation
		condition.LastTransitionTime = metav1.NewTime(r.Clock.Now())
		changed = setReady(&update.Status.Conditions, &update.Status.ObservedGeneration, condition) || changed
	}
	again := r.again(update)
	if !changed {
		return ctrl.Result{RequeueAfter: again}, nil
	}
	if err := r.Client.Status().Update(ctx, update); err != nil {
		return ctrl.Result{}, fmt.Errorf("writing the playbook's status: %w", client.IgnoreNotFound(err))
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

// readyWith says whether a playbook can run, and tell whom it names.
func readyWith(playbook *v1alpha1.ResponsePlaybook, plan *v1alpha1.ResponsePlan) metav1.Condition {
	ready := playbookReady(playbook)
	if problem := action.CheckChannels(&playbook.Spec, plan); problem != nil && ready.Status == metav1.ConditionTrue {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.ReasonChannelNotFound, lifecycle.Cut(problem.Error(), maxPreflightMessage)
	}
	return ready
}

// again is when to ask again.
func (r *ResponsePlaybookReconciler) again(playbook *v1alpha1.ResponsePlaybook) time.Duration {
	wait := rightsEvery
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionAuthorized} {
		condition := meta.FindStatusCondition(playbook.Status.Conditions, kind)
		if condition == nil || condition.Status == metav1.ConditionTrue {
			continue
		}
		if condition.Type == v1alpha1.ConditionAuthorized || condition.Reason == v1alpha1.ReasonServiceAccountNotFound {
			wait = min(wait, max(missingEvery, r.Clock.Since(condition.LastTransitionTime.Time)))
		}
	}
	return wait
}

// accountMissing says that the playbook's ServiceAccount does not exist. The API server
// lets anybody who may impersonate act as one that does not.
func (r *ResponsePlaybookReconciler) accountMissing(ctx context.Context, playbook *v1alpha1.ResponsePlaybook) string {
	if r.Live == nil {
		return ""
	}
	account := &metav1.PartialObjectMetadata{}
	account.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ServiceAccount"))
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: playbook.Namespace, Name: playbook.Spec.ServiceAccountName}, account)
	if !apierrors.IsNotFound(err) {
		return "" // it is there, or the binding of 'firebreak-impersonator' does not let the manager see
	}
	return fmt.Sprintf("ServiceAccount '%s' does not exist in namespace '%s': create it, and give it what 'kubectl firebreak rbac %s -n %s' prints",
		playbook.Spec.ServiceAccountName, playbook.Namespace, playbook.Name, playbook.Namespace)
}

// checkOrder finds what makes a playbook that compiles unfit to run.
func checkOrder(playbook *v1alpha1.ResponsePlaybookSpec) (reason string, problem error) {
	evidence, targets := action.CheckEvidence(playbook), action.CheckTargets(playbook)
	switch {
	case targets != nil:
		return v1alpha1.ReasonInvalidTarget, errors.Join(targets, evidence)
	case evidence != nil:
		return v1alpha1.ReasonEvidenceLoss, evidence
	default:
		return "", nil
	}
}

// reversible says whether the playbook undoes every containment it makes.
func reversible(playbook *v1alpha1.ResponsePlaybook) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionReversible, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllReverted}
	if left := action.Unreverted(&playbook.Spec); len(left) > 0 {
		condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.ReasonNotReverted
		condition.Message = lifecycle.Cut(fmt.Sprintf(
			"no later `revert` undoes '%s': its effect stays until a person undoes it. A `revert` step in `recovery` would",
			strings.Join(left, "', '")), maxPreflightMessage)
	}
	return condition
}

// SetupWithManager registers the reconciler and what it watches.
func (r *ResponsePlaybookReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("responseplaybook").
		For(&v1alpha1.ResponsePlaybook{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.playbooksOfNamespace), builder.WithPredicates(domainChanges)).
		Watches(&v1alpha1.ResponsePlan{}, handler.EnqueueRequestsFromMapFunc(r.playbooksOfPlan), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: playbookWorkers}).
		Complete(r)
}

func (r *ResponsePlaybookReconciler) playbooksOfNamespace(ctx context.Context, namespace client.Object) []reconcile.Request {
	return r.playbooksIn(ctx, namespace.GetName())
}

// playbooksOfPlan are those that the plan's channels and roles are for.
func (r *ResponsePlaybookReconciler) playbooksOfPlan(ctx context.Context, plan client.Object) []reconcile.Request {
	return r.playbooksIn(ctx, plan.GetNamespace())
}

func (r *ResponsePlaybookReconciler) playbooksIn(ctx context.Context, namespace string) []reconcile.Request {
	list := &v1alpha1.ResponsePlaybookList{}
	if err := r.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}
