package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// ResponsePlanReconciler answers Decisions about a domain's automation, and shows on the
// plan whether the domain is guarded. It does so too where there is no plan.
type ResponsePlanReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Guard proves that the admission policies stand.
	Guard *AdmissionGuard
	// Clock tells the time.
	Clock clock.PassiveClock

	events createdEvents
}

var _ reconcile.Reconciler = (*ResponsePlanReconciler)(nil)

// Reconcile carries the plan of one namespace on.
func (r *ResponsePlanReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	domain, err := isDomain(ctx, r.Client, request.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	plan, err := planOf(ctx, r.Client, request.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !domain {
		if plan == nil {
			return ctrl.Result{}, nil
		}
		return requeueOnConflict(r.write(ctx, plan, plan.DeepCopy(), []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotADomain,
			Message: notADomain(request.Namespace),
		}}))
	}
	decisions, err := decisionsAbout(ctx, r.Client, request.Namespace, v1alpha1.SubjectResponsePlan, v1alpha1.ResponsePlanName)
	if err != nil {
		return ctrl.Result{}, err
	}
	unanswered := slices.DeleteFunc(slices.Clone(decisions), func(decision v1alpha1.Decision) bool {
		return meta.FindStatusCondition(decision.Status.Conditions, v1alpha1.ConditionAccepted) != nil
	})
	verdict := r.Guard.Trust(ctx, request.Namespace, unanswered)
	again := provenFor
	if verdict.Trust != TrustProven {
		again = guardRetry
	}
	if verdict.Trust != TrustUnknown {
		if err := r.answer(ctx, plan, unanswered, verdict); err != nil {
			return ctrl.Result{}, err
		}
	}
	proof := r.Guard.prove(ctx, request.Namespace, time.Time{})
	if plan == nil {
		if len(unanswered) == 0 || verdict.Trust == TrustProven {
			again = 0
		}
		return ctrl.Result{RequeueAfter: again}, nil
	}
	conditions := planConditions(plan, decisions, proof)
	update, silent := r.listen(plan)
	if len(plan.Spec.ExpectedSources) > 0 {
		conditions = append(conditions, sourcesHeard(silent.sources))
	}
	if err := r.write(ctx, plan, update, conditions); err != nil {
		for product, at := range silent.noted {
			r.events.note(request.NamespacedName, product, at)
		}
		return requeueOnConflict(err)
	}
	if !silent.next.IsZero() {
		again = sooner(again, max(silent.next.Sub(r.Clock.Now()), time.Millisecond))
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

// answer accepts or refuses Decisions that have no answer. To stop what is stopped is
// accepted too: the button does not argue.
func (r *ResponsePlanReconciler) answer(ctx context.Context, plan *v1alpha1.ResponsePlan, decisions []v1alpha1.Decision, verdict Verdict) error {
	lifecycle.SortDecisions(decisions)
	for i := range decisions {
		decision := &decisions[i]
		answer := metav1.Condition{
			Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted,
			Message: "the automation of this namespace stops; what is isolated stays isolated", LastTransitionTime: metav1.NewTime(r.Clock.Now()),
		}
		if decision.Spec.Type == v1alpha1.DecisionResumeAutomation {
			answer.Message = "the automation of this namespace goes on"
			if lifecycle.PausedByPlan(plan) {
				answer.Message = "the automation goes on when the plan's `response` is 'Enforce' again"
			}
		}
		if role := decision.Spec.Role; role != "" {
			if reason, message, ok := lifecycle.HoldsRole(plan, role, decision.Spec.By, decision.Spec.Groups); !ok {
				answer.Status, answer.Reason, answer.Message = metav1.ConditionFalse, reason, message
			}
		}
		if why := verdict.Refused(decision); why != "" {
			answer.Status, answer.Reason, answer.Message = metav1.ConditionFalse, v1alpha1.ReasonNotGuarded, why
		}
		if err := answerDecision(ctx, r.Client, decision, answer); err != nil {
			return err
		}
	}
	return nil
}

func planConditions(plan *v1alpha1.ResponsePlan, decisions []v1alpha1.Decision, proof proof) []metav1.Condition {
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonInForce}
	if err := classify.CheckObjectives(plan.Spec.Objectives); err != nil {
		ready.Status, ready.Reason = metav1.ConditionFalse, v1alpha1.ReasonExpressionError
		ready.Message = lifecycle.Cut(err.Error()+"; all else of the plan is in force, and what does not compile counts for every event of its severity", 1024)
	}
	guarded := metav1.Condition{Type: v1alpha1.ConditionGuarded, Status: metav1.ConditionFalse, Reason: proof.reason, Message: lifecycle.Cut(proof.why, 1024)}
	if proof.trust == TrustProven {
		guarded.Status = metav1.ConditionTrue
	}
	stopped := metav1.Condition{Type: v1alpha1.ConditionAutomationStopped, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRunning}
	if automation := lifecycle.AutomationOf(plan, decisions); automation.Stopped {
		stopped.Status, stopped.Reason = metav1.ConditionTrue, v1alpha1.ReasonStoppedByDecision
		stopped.Message = lifecycle.Cut(automation.By+": "+automation.Why, 1024)
		if lifecycle.PausedByPlan(plan) {
			stopped.Reason = v1alpha1.ReasonPausedByPlan
		}
	}
	return []metav1.Condition{ready, guarded, stopped}
}

// write writes what is new in update, and the conditions.
func (r *ResponsePlanReconciler) write(ctx context.Context, plan, update *v1alpha1.ResponsePlan, conditions []metav1.Condition) error {
	changed := !equality.Semantic.DeepEqual(plan.Status, update.Status)
	for _, condition := range conditions {
		if condition.Type == v1alpha1.ConditionSourcesHeard {
			if err := r.tellSources(ctx, plan, condition); err != nil {
				return err
			}
		}
		condition.ObservedGeneration = plan.Generation
		condition.LastTransitionTime = metav1.NewTime(r.Clock.Now().Truncate(time.Second))
		changed = setReady(&update.Status.Conditions, &update.Status.ObservedGeneration, condition) || changed
	}
	if !changed {
		return nil
	}
	if err := r.Client.Status().Update(ctx, update); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("writing the plan's status: %w", err)
	}
	return nil
}

// SetupWithManager registers the reconciler and what it watches.
func (r *ResponsePlanReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("responseplan").
		For(&v1alpha1.ResponsePlan{}, builder.WithPredicates(planChanges)).
		Watches(&v1alpha1.SecurityEvent{}, handler.EnqueueRequestsFromMapFunc(r.planOfEvent), builder.WithPredicates(created)).
		Watches(&v1alpha1.Decision{}, handler.EnqueueRequestsFromMapFunc(planOfDecision)).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(planOfNamespace), builder.WithPredicates(domainChanges)).
		Complete(r)
}

func planOfDecision(_ context.Context, object client.Object) []reconcile.Request {
	if object.(*v1alpha1.Decision).Spec.Subject.Kind != v1alpha1.SubjectResponsePlan {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: v1alpha1.ResponsePlanName}}}
}

func planOfNamespace(_ context.Context, namespace client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: namespace.GetName(), Name: v1alpha1.ResponsePlanName}}}
}
