package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

// age shows on an event that waits for a person that it has waited for too long, and tells
// so once by a Kubernetes Event. Before that it says how long that is yet; zero is for ever.
func (r *SecurityEventReconciler) age(ctx context.Context, before, event *v1alpha1.SecurityEvent) (time.Duration, error) {
	key, last := client.ObjectKeyFromObject(event), &event.Status.Assessment
	if !isDeferred(event) {
		r.late.forget(key)
		return 0, nil
	}
	within, err := r.assessWithin(ctx, before, event)
	if err != nil {
		return 0, err
	}
	since := classify.DeferredSince(&event.Status)
	due := since.Add(within)
	if left := due.Sub(r.Clock.Now()); left > 0 {
		r.late.forget(key)
		if isOverdue(event) {
			r.say(event, last) // people were given more time
		}
		return left, nil
	}
	overdue := metav1.Condition{
		Type:   v1alpha1.ConditionAssessed,
		Status: metav1.ConditionFalse,
		Reason: v1alpha1.ReasonAssessmentOverdue,
		Message: fmt.Sprintf("%sit waits for a person since %s (%s), and was to be decided about by %s: type 'kubectl firebreak promote %s -n %s' or 'kubectl firebreak dismiss %s -n %s --reason \"...\"'",
			drillSays(event.Spec.Mode), since.UTC().Format(time.RFC3339), last.Reason, due.UTC().Format(time.RFC3339), event.Name, event.Namespace, event.Name, event.Namespace),
		ObservedGeneration: event.Generation,
		LastTransitionTime: last.Time,
	}
	if !isOverdue(before) {
		// Before the status is written: what finds that done does not come here again.
		if err := r.tellOverdue(ctx, event, since, overdue.Message); err != nil {
			return 0, err
		}
	}
	meta.SetStatusCondition(&event.Status.Conditions, overdue)
	if event.Spec.Mode != v1alpha1.ModeDrill {
		r.late.note(key, event.Spec.Severity)
	}
	return 0, nil
}

// assessWithin is how long an event may wait, by the plan. The cache had it as it was before.
func (r *SecurityEventReconciler) assessWithin(ctx context.Context, before, event *v1alpha1.SecurityEvent) (time.Duration, error) {
	plan, err := planOf(ctx, r.Client, event.Namespace)
	if err != nil {
		return 0, fmt.Errorf("read the plan of namespace %q: %w", event.Namespace, err)
	}
	var objectives []v1alpha1.PlanObjective
	if plan != nil {
		objectives = plan.Spec.Objectives
	}
	full, err := r.whole(ctx, before, event)
	if err != nil {
		return 0, err
	}
	return classify.AssessWithin(objectives, event.Spec.Severity, func(source v1alpha1.Expression) (bool, error) {
		return r.expressions.matches(ctx, source, full)
	}), nil
}

// matches evaluates an expression over an event, with the workload by which it was assessed.
func (e *Expressions) matches(ctx context.Context, source v1alpha1.Expression, event *v1alpha1.SecurityEvent) (bool, error) {
	program, err := e.program(expression.Event, string(source))
	if err != nil {
		return false, err
	}
	variables, err := expression.EventVariables(event, event.Status.Assessment.Workload)
	if err != nil {
		return false, err
	}
	return program.Bool(ctx, variables)
}

func isDeferred(event *v1alpha1.SecurityEvent) bool {
	return event.Status.Assessment.Outcome == v1alpha1.OutcomeDeferred
}

func isOverdue(event *v1alpha1.SecurityEvent) bool {
	condition := meta.FindStatusCondition(event.Status.Conditions, v1alpha1.ConditionAssessed)
	return condition != nil && condition.Reason == v1alpha1.ReasonAssessmentOverdue
}

// tellOverdue creates the Kubernetes Event, once for a wait.
func (r *SecurityEventReconciler) tellOverdue(ctx context.Context, event *v1alpha1.SecurityEvent, since time.Time, message string) error {
	return tell(ctx, r.Client, &told{
		kind: kindSecurityEvent, namespace: event.Namespace, name: event.Name, uid: event.UID,
		action: "Assess", reason: v1alpha1.ReasonAssessmentOverdue, severity: corev1.EventTypeWarning, note: message,
		at: r.Clock.Now(), prefix: "overdue", apart: []string{since.UTC().Format(time.RFC3339)},
	})
}

// deferredEventsOfPlan are those whose time a change of the plan may change.
func (r *SecurityEventReconciler) deferredEventsOfPlan(ctx context.Context, plan client.Object) []reconcile.Request {
	return r.eventsBy(ctx, plan.GetNamespace(), client.MatchingFields{indexDeferred: "true"})
}

// isUnassessed says that nobody looks at an event, as its namespace is no response domain.
func isUnassessed(event *v1alpha1.SecurityEvent) bool {
	condition := meta.FindStatusCondition(event.Status.Conditions, v1alpha1.ConditionAssessed)
	return condition != nil && condition.Reason == v1alpha1.ReasonNotADomain
}

// countedEvents are events that are counted for a metric, such as those that have waited for a
// person for too long.
type countedEvents struct {
	mu     sync.Mutex
	events map[types.NamespacedName]v1alpha1.Severity
}

func (o *countedEvents) note(key types.NamespacedName, severity v1alpha1.Severity) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.events == nil {
		o.events = map[types.NamespacedName]v1alpha1.Severity{}
	}
	o.events[key] = severity
}

func (o *countedEvents) forget(key types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.events, key)
}

// counts are how many there are, by namespace and severity.
func (o *countedEvents) counts() map[[2]string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	counts := map[[2]string]int{}
	for key, severity := range o.events {
		counts[[2]string{key.Namespace, string(severity)}]++
	}
	return counts
}
