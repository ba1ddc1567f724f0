package receiver

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	apply "github.com/firebreak-dev/firebreak/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

const (
	// planFor is how long a plan is taken to say what it said; what is expected newly is
	// noticed after that.
	planFor = time.Minute
	// hearings is how many are waiting to be written down at most; what comes then is heard
	// again with the next alert.
	hearings = 64
	// hearAgain is when what failed is tried again.
	hearAgain = 10 * time.Second
	// maxListened is of how many namespaces it is known what they expect.
	maxListened = 1024

	// heardManager, with the product, is the field manager of what was heard: all receivers
	// write the same entry, and the last counts.
	heardManager = "firebreak-receiver-heard-"
)

// listener writes down, in the plan of a namespace, when the sources were heard that the plan
// expects. It never holds up an alert, and what it cannot write is heard again soon, or, while the
// API server is away, written when it is back.
type listener struct {
	client       client.Client
	clock        clock.PassiveClock
	log          logr.Logger
	availability *availability
	queue        chan hearing
	// missed is when was last heard what the API server was not there for; only run uses it.
	missed map[hearing]time.Time

	mu     sync.Mutex
	places map[string]*place
}

// hearing is that a source was heard.
type hearing struct {
	namespace, product, sender string
}

// place is what is known of a namespace.
type place struct {
	// asked is when its plan was last asked for.
	asked time.Time
	// unknown says that it could not be read.
	unknown bool
	// expected are the sources it expects, by their product.
	expected map[string]*listened
}

type listened struct {
	submittedBy string
	every       time.Duration
	// wrote is when it was last written that it was heard.
	wrote time.Time
}

func newListener(c client.Client, o *Options, a *availability) *listener {
	return &listener{client: c, clock: o.Clock, log: o.Log, availability: a, queue: make(chan hearing, hearings), missed: map[hearing]time.Time{}, places: map[string]*place{}}
}

// heard takes down that a sender has reported for the products of a body, alerts or not. A
// drill does not show that a source has not fallen silent.
func (l *listener) heard(namespace, sender string, what *parsed) {
	said := map[string]bool{}
	say := func(product string) {
		if product == "" || said[product] {
			return
		}
		said[product] = true
		one := hearing{namespace, product, sender}
		if !l.due(one, l.clock.Now()) {
			return
		}
		select {
		case l.queue <- one:
		default:
		}
	}
	if len(what.skipped) > 0 {
		say(what.product)
	}
	for i := range what.alerts {
		spec := &what.alerts[i].spec
		if what.alerts[i].problem == nil && spec.Source.Kind == v1alpha1.SourceAutomatic && spec.Mode != v1alpha1.ModeDrill {
			say(spec.Source.Product)
		}
	}
}

// due says whether there is something to ask, or to write of what was heard then.
func (l *listener) due(one hearing, at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.places[one.namespace]
	if known == nil || l.clock.Since(known.asked) >= planFor {
		return true
	}
	source := known.expected[one.product]
	return source != nil && (source.submittedBy == "" || source.submittedBy == one.sender) && at.Sub(source.wrote) >= source.every
}

// run writes down what was heard until the context ends.
func (l *listener) run(ctx context.Context) {
	again := time.NewTicker(hearAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case one := <-l.queue:
			l.take(ctx, one, l.clock.Now())
		case <-again.C:
			l.takeMissed(ctx)
		}
	}
}

// take writes down when a source was heard, or keeps it for when the API server is back.
func (l *listener) take(ctx context.Context, one hearing, at time.Time) {
	delete(l.missed, one)
	err := l.write(ctx, one, at)
	switch {
	case err == nil || ctx.Err() != nil:
	case unreachable(err) && len(l.missed) < maxListened:
		l.missed[one] = at
	default:
		l.log.V(1).Info("not written down that a source was heard; it is tried again with its next alert",
			"namespace", one.namespace, "product", one.product, "error", err.Error())
	}
}

// takeMissed writes down what was heard while the API server was away, once it is back.
func (l *listener) takeMissed(ctx context.Context) {
	if l.availability.away.Load() {
		return
	}
	l.mu.Lock()
	for one := range l.missed {
		delete(l.places, one.namespace) // other receivers may have written what they heard later
	}
	l.mu.Unlock()
	for one, at := range maps.Clone(l.missed) {
		if !l.availability.away.Load() {
			l.take(ctx, one, at)
		}
	}
}

func (l *listener) write(ctx context.Context, one hearing, at time.Time) error {
	if l.availability.away.Load() {
		return errStillAway
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := l.ask(ctx, one.namespace); err != nil || !l.due(one, at) {
		return err
	}
	entry := apply.SourceHeard().WithProduct(one.product).WithLastHeardTime(metav1.NewTime(at.UTC().Truncate(time.Second)))
	plan := apply.ResponsePlan(v1alpha1.ResponsePlanName, one.namespace).WithStatus(apply.ResponsePlanStatus().WithSources(entry))
	err := client.IgnoreNotFound(l.client.Status().Apply(ctx, plan, client.FieldOwner(heardManager+one.product), client.ForceOwnership))
	l.mu.Lock()
	defer l.mu.Unlock()
	if source := l.places[one.namespace].expected[one.product]; source != nil && !unreachable(err) {
		source.wrote = at
		if err != nil {
			source.wrote = l.clock.Now().Add(hearAgain - source.every)
		}
	}
	return err
}

// ask reads what the plan of a namespace expects, when that was not done for a while.
func (l *listener) ask(ctx context.Context, namespace string) error {
	now := l.clock.Now()
	l.mu.Lock()
	known := l.places[namespace]
	l.mu.Unlock()
	if known != nil && now.Sub(known.asked) < planFor {
		if known.unknown {
			return errStillAway
		}
		return nil
	}
	plan := &v1alpha1.ResponsePlan{}
	err := l.client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: v1alpha1.ResponsePlanName}, plan)
	if client.IgnoreNotFound(err) != nil {
		l.know(namespace, &place{asked: now.Add(hearAgain - planFor), unknown: unreachable(err)})
		return err
	}
	l.know(namespace, expectedBy(plan, now))
	return nil
}

func (l *listener) know(namespace string, fresh *place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.places) >= maxListened {
		l.places = map[string]*place{}
	}
	l.places[namespace] = fresh
}

func expectedBy(plan *v1alpha1.ResponsePlan, now time.Time) *place {
	fresh := &place{asked: now, expected: map[string]*listened{}}
	for i := range plan.Spec.ExpectedSources {
		source := &plan.Spec.ExpectedSources[i]
		entry := &listened{submittedBy: source.SubmittedBy, every: v1alpha1.HeardEvery(source.SilentAfter.Duration)}
		for j := range plan.Status.Sources {
			// What another receiver has written counts as well.
			if heard := &plan.Status.Sources[j]; heard.Product == source.Product && heard.LastHeardTime != nil {
				entry.wrote = heard.LastHeardTime.Time
			}
		}
		if entry.wrote.After(now) {
			entry.wrote = time.Time{} // another's clock is ahead
		}
		fresh.expected[source.Product] = entry
	}
	return fresh
}
