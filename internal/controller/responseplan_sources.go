package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// expectSources takes down since when sources are expected, and forgets what is not.
func expectSources(plan *v1alpha1.ResponsePlan, now time.Time) {
	var sources []v1alpha1.SourceHeard
	for i := range plan.Spec.ExpectedSources {
		source := v1alpha1.SourceHeard{Product: plan.Spec.ExpectedSources[i].Product}
		if known := heardOf(plan, source.Product); known != nil {
			source = *known
		}
		if source.ExpectedTime == nil {
			source.ExpectedTime = &metav1.Time{Time: now.UTC().Truncate(time.Second)}
		}
		sources = append(sources, source)
	}
	plan.Status.Sources = sources
}

func heardOf(plan *v1alpha1.ResponsePlan, product string) *v1alpha1.SourceHeard {
	i := slices.IndexFunc(plan.Status.Sources, func(heard v1alpha1.SourceHeard) bool { return heard.Product == product })
	if i < 0 {
		return nil
	}
	return &plan.Status.Sources[i]
}

// silence is an expected source of which nothing is heard.
type silence struct {
	source *v1alpha1.ExpectedSource
	since  time.Time
	never  bool
}

// silentSources are the expected sources that have fallen silent, and when the next will if
// nothing is heard of it; zero is never.
func silentSources(plan *v1alpha1.ResponsePlan, now time.Time) ([]silence, time.Time) {
	var silent []silence
	var next time.Time
	for i := range plan.Spec.ExpectedSources {
		source := &plan.Spec.ExpectedSources[i]
		found := silence{source: source, since: now, never: true}
		if heard := heardOf(plan, source.Product); heard != nil {
			if heard.ExpectedTime != nil {
				found.since = heard.ExpectedTime.Time
			}
			if heard.LastHeardTime != nil {
				// Where a receiver's clock is ahead, it counts from now.
				found.since, found.never = earlier(heard.LastHeardTime.Time, now), false
			}
		}
		due := found.since.Add(source.SilentAfter.Duration)
		switch {
		case !due.After(now):
			silent = append(silent, found)
		case next.IsZero() || due.Before(next):
			next = due
		}
	}
	return silent, next
}

// silences are the sources that are silent, and when the next will be.
type silences struct {
	sources []silence
	next    time.Time
	// noted is what was heard since the plan was last written.
	noted map[string]time.Time
}

// listen gives a plan with what was heard since, and which of its sources are silent.
func (r *ResponsePlanReconciler) listen(plan *v1alpha1.ResponsePlan) (*v1alpha1.ResponsePlan, silences) {
	update, now := plan.DeepCopy(), r.Clock.Now()
	expectSources(update, now)
	noted := r.events.take(client.ObjectKeyFromObject(plan))
	hear(update, noted)
	if len(update.Spec.ExpectedSources) == 0 {
		meta.RemoveStatusCondition(&update.Status.Conditions, v1alpha1.ConditionSourcesHeard)
	}
	silent, next := silentSources(update, now)
	return update, silences{silent, next, noted}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// sourcesHeard says whether all expected sources were heard, and which were not.
func sourcesHeard(silent []silence) metav1.Condition {
	heard := metav1.Condition{Type: v1alpha1.ConditionSourcesHeard, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllHeard}
	if len(silent) == 0 {
		return heard
	}
	parts := make([]string, 0, len(silent))
	for i := range silent {
		s := &silent[i]
		since := "since " + s.since.UTC().Format(time.RFC3339)
		if s.never {
			since = "ever, and is expected " + since
		}
		from := ""
		if s.source.SubmittedBy != "" {
			from = " from '" + s.source.SubmittedBy + "'"
		}
		parts = append(parts, fmt.Sprintf("'%s' was not heard%s %s (silentAfter %s)", s.source.Product, from, since, s.source.SilentAfter.Duration))
	}
	heard.Status, heard.Reason = metav1.ConditionFalse, v1alpha1.ReasonSourceSilent
	heard.Message = lifecycle.Cut(strings.Join(parts, "; ")+
		": check that it runs, that its sender's log shows no refusals, and that the receiver's metric firebreak_receiver_alerts_total grows", 1024)
	return heard
}

// tellSources tells that a source has fallen silent, or was heard again.
func (r *ResponsePlanReconciler) tellSources(ctx context.Context, plan *v1alpha1.ResponsePlan, now metav1.Condition) error {
	return tellChange(ctx, r.Client, told{
		kind: "ResponsePlan", namespace: plan.Namespace, name: plan.Name, uid: plan.UID, action: "Listen", at: r.Clock.Now(),
	}, meta.FindStatusCondition(plan.Status.Conditions, now.Type), now)
}

// receiverUser submits what the receiver reads in policy reports, whose writers are not known.
const receiverUser = "system:serviceaccount:" + v1alpha1.SystemNamespace + ":" + v1alpha1.ReceiverServiceAccount

// comesFrom says whether an event is of a source. A drill is not: it does not show that the source
// has not fallen silent. Who may write policy reports may name any
// product, so what the receiver reads in them counts only where the plan names the receiver.
func comesFrom(one *v1alpha1.SecurityEvent, source *v1alpha1.ExpectedSource) bool {
	from := one.Spec.SubmittedBy
	return one.Spec.Mode != v1alpha1.ModeDrill && one.Spec.Source.Kind == v1alpha1.SourceAutomatic && one.Spec.Source.Product == source.Product &&
		(source.SubmittedBy == from || source.SubmittedBy == "" && from != receiverUser)
}

// createdEvents are when the last events of expected sources were created, of which the plans
// do not know yet: what reporters create themselves, past the receivers.
type createdEvents struct {
	mu   sync.Mutex
	last map[types.NamespacedName]map[string]time.Time
}

func (c *createdEvents) note(plan types.NamespacedName, product string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[types.NamespacedName]map[string]time.Time{}
	}
	if c.last[plan] == nil {
		c.last[plan] = map[string]time.Time{}
	}
	if at.After(c.last[plan][product]) {
		c.last[plan][product] = at
	}
}

// take gives what was noted for a plan. It is the plan's from then on.
func (c *createdEvents) take(plan types.NamespacedName) map[string]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	noted := c.last[plan]
	delete(c.last, plan)
	return noted
}

// planOfEvent wakes a plan that has not heard of an event's source for a while.
func (r *ResponsePlanReconciler) planOfEvent(ctx context.Context, object client.Object) []reconcile.Request {
	one, ok := object.(*v1alpha1.SecurityEvent)
	if !ok {
		return nil
	}
	plan := &v1alpha1.ResponsePlan{}
	key := types.NamespacedName{Namespace: one.Namespace, Name: v1alpha1.ResponsePlanName}
	if err := r.Client.Get(ctx, key, plan, client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	i := slices.IndexFunc(plan.Spec.ExpectedSources, func(source v1alpha1.ExpectedSource) bool { return comesFrom(one, &source) })
	if i < 0 {
		return nil
	}
	source, at := &plan.Spec.ExpectedSources[i], one.CreationTimestamp.Time
	if heard := heardOf(plan, source.Product); heard != nil && heard.LastHeardTime != nil &&
		at.Sub(heard.LastHeardTime.Time) < v1alpha1.HeardEvery(source.SilentAfter.Duration) {
		return nil // a receiver has written it down
	}
	r.events.note(key, source.Product, at)
	return []reconcile.Request{{NamespacedName: key}}
}

// hear takes down what was created past the receivers.
func hear(plan *v1alpha1.ResponsePlan, noted map[string]time.Time) {
	for product, at := range noted {
		heard := heardOf(plan, product)
		if heard != nil && (heard.LastHeardTime == nil || at.After(heard.LastHeardTime.Time)) {
			heard.LastHeardTime = &metav1.Time{Time: at}
		}
	}
}

// created lets through what is new.
var created = predicate.Funcs{
	UpdateFunc:  func(event.UpdateEvent) bool { return false },
	DeleteFunc:  func(event.DeleteEvent) bool { return false },
	GenericFunc: func(event.GenericEvent) bool { return false },
}

// planChanges lets through new texts of plans, and what receivers have heard where that ends
// a silence.
var planChanges = predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{
	CreateFunc: func(event.CreateEvent) bool { return false },
	DeleteFunc: func(event.DeleteEvent) bool { return false },
	UpdateFunc: func(update event.UpdateEvent) bool {
		before, ok := update.ObjectOld.(*v1alpha1.ResponsePlan)
		after, alsoOK := update.ObjectNew.(*v1alpha1.ResponsePlan)
		return ok && alsoOK && meta.IsStatusConditionFalse(after.Status.Conditions, v1alpha1.ConditionSourcesHeard) &&
			!equality.Semantic.DeepEqual(before.Status.Sources, after.Status.Sources)
	},
})
