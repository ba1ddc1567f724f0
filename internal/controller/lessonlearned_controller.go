package controller

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// LessonLearnedReconciler takes a lesson's measures from its incidents' records.
type LessonLearnedReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Clock tells the time.
	Clock clock.PassiveClock
}

var _ reconcile.Reconciler = (*LessonLearnedReconciler)(nil)

// Reconcile measures one lesson.
func (r *LessonLearnedReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	lesson := &v1alpha1.LessonLearned{}
	if err := r.Client.Get(ctx, request.NamespacedName, lesson); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if domain, err := isDomain(ctx, r.Client, request.Namespace); err != nil || !domain {
		return ctrl.Result{}, err
	}
	condition := metav1.Condition{
		Type: v1alpha1.ConditionMeasured, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonFromIncidents,
		ObservedGeneration: lesson.Generation, LastTransitionTime: metav1.NewTime(r.Clock.Now()),
	}
	var incidents []v1alpha1.Incident
	for _, reference := range lesson.Spec.IncidentRefs {
		incident := v1alpha1.Incident{}
		err := r.Client.Get(ctx, types.NamespacedName{Namespace: lesson.Namespace, Name: reference.Name}, &incident)
		if apierrors.IsNotFound(err) {
			condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.ReasonIncidentNotFound
			condition.Message = fmt.Sprintf("there is no Incident '%s': what was measured before is kept", reference.Name)
			continue
		}
		if err != nil {
			return ctrl.Result{}, err
		}
		incidents = append(incidents, incident)
	}
	update := lesson.DeepCopy()
	changed := setReady(&update.Status.Conditions, &update.Status.ObservedGeneration, condition)
	if condition.Status == metav1.ConditionTrue || update.Status.Measures == (v1alpha1.LessonMeasures{}) {
		// Retention may have deleted an incident: what the response to it took stays on record.
		update.Status.Measures = lifecycle.Measure(incidents)
	}
	if !changed && equality.Semantic.DeepEqual(update.Status.Measures, lesson.Status.Measures) {
		return ctrl.Result{}, nil
	}
	if err := r.Client.Status().Update(ctx, update); err != nil {
		return ctrl.Result{}, fmt.Errorf("writing the lesson's status: %w", err)
	}
	return ctrl.Result{}, nil
}

// SetupWithManager registers the reconciler and what it watches.
func (r *LessonLearnedReconciler) SetupWithManager(mgr ctrl.Manager) error {
	// An incident's measures move little after Review: only then does its lesson exist.
	reviewed := predicate.NewPredicateFuncs(func(object client.Object) bool {
		return object.(*v1alpha1.Incident).Status.Phase.Rank() >= v1alpha1.PhaseReview.Rank()
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("lessonlearned").
		For(&v1alpha1.LessonLearned{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.Incident{}, handler.EnqueueRequestsFromMapFunc(lessonOfIncident), builder.WithPredicates(reviewed)).
		Complete(r)
}

func lessonOfIncident(_ context.Context, object client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{
		Namespace: object.GetNamespace(), Name: lifecycle.LessonName(object.GetName()),
	}}}
}
