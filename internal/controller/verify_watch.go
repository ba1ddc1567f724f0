package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
)

const (
	// maxVerifyWatches is how many watches a manager keeps open for verify steps. A step
	// that finds no room is looked at every second.
	maxVerifyWatches = 256
	// watchedLook is how often a step is looked at whose objects are watched.
	watchedLook = 5 * time.Minute
	// verifyGap is how long after a look what has changed is looked at again at the earliest.
	verifyGap = time.Second
)

// verifyWatches watches the objects of verify steps as the playbooks' ServiceAccounts, and
// wakes an incident when one has changed. It only ever makes a look come earlier: whatever
// is not watched, because it is forbidden, broken or there are too many, is polled. It is
// in memory only.
type verifyWatches struct {
	identities *impersonation.Factory
	clock      clock.PassiveClock
	wake       chan event.GenericEvent
	// running ends with the process, and every watch with it.
	running context.Context
	stop    context.CancelFunc

	mu    sync.Mutex
	steps map[verifyKey]*watchedStep
	open  int
}

// verifyKey is one verify step of one incident.
type verifyKey struct {
	incident types.NamespacedName
	step     string
}

// watchedStep is what is known of one step.
type watchedStep struct {
	// of says which objects are watched, and as whom.
	of      string
	cancel  context.CancelFunc
	groups  []*watchedGroup
	lookAt  time.Time
	pending bool
	stirred bool
}

// watchedGroup is one watch: objects of one kind in one namespace.
type watchedGroup struct {
	account   string
	kind      schema.GroupVersionKind
	namespace string
	names     []string
	// problem says why it is not watched now; empty when it is.
	problem string
}

func newVerifyWatches(identities *impersonation.Factory, now clock.PassiveClock) *verifyWatches {
	running, stop := context.WithCancel(context.Background())
	return &verifyWatches{
		identities: identities, clock: now, wake: make(chan event.GenericEvent), running: running, stop: stop, steps: map[verifyKey]*watchedStep{},
	}
}

// Start ends all watches with the manager.
func (w *verifyWatches) Start(ctx context.Context) error {
	<-ctx.Done()
	w.stop()
	return nil
}

// looking says that a step's objects are about to be read, and whether whatever changes
// from now on is noticed; if not, why.
func (w *verifyWatches) looking(key verifyKey) (watched bool, problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	step := w.steps[key]
	if step == nil {
		return false, ""
	}
	step.stirred, step.lookAt = false, w.clock.Now()
	for _, group := range step.groups {
		if group.problem != "" {
			return false, strings.TrimSpace(group.problem)
		}
	}
	return true, ""
}

// stirred gives the verify steps of an incident whose objects have changed since they were
// looked at, or may have: a manager that was there before has relied on watches of its own.
func (w *verifyWatches) stirred(incident *v1alpha1.Incident) map[string]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := map[string]bool{}
	for i := range incident.Status.Steps {
		step := &incident.Status.Steps[i]
		if step.State != v1alpha1.StepRunning || step.Action != "verify" || step.NextTime == nil {
			continue
		}
		known := w.steps[verifyKey{types.NamespacedName{Namespace: incident.Namespace, Name: incident.Name}, step.Name}]
		names[step.Name] = known != nil && known.stirred || known == nil && step.NextTime.Sub(w.clock.Now()) > 2*verifyGap
	}
	return names
}

// begin watches the targets of a step, if there is room and it is not done already.
func (w *verifyWatches) begin(key verifyKey, account string, targets []v1alpha1.StepTarget) {
	groups := groupTargets(account, targets)
	of := describeGroups(groups)
	w.mu.Lock()
	defer w.mu.Unlock()
	if step := w.steps[key]; step != nil {
		if step.of == of {
			return
		}
		w.end(key, step) // its targets have changed
	}
	if len(groups) == 0 || w.open+len(groups) > maxVerifyWatches || w.running.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(w.running)
	step := &watchedStep{of: of, cancel: cancel, groups: groups, lookAt: w.clock.Now()}
	w.steps[key] = step
	w.open += len(groups)
	for _, group := range groups {
		go w.follow(ctx, key, step, group)
	}
}

// keep ends the watches of an incident's steps that are over.
func (w *verifyWatches) keep(incident types.NamespacedName, running []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, step := range w.steps {
		if key.incident == incident && !slices.Contains(running, key.step) {
			w.end(key, step)
		}
	}
}

// end is called with the lock held.
func (w *verifyWatches) end(key verifyKey, step *watchedStep) {
	step.cancel()
	w.open -= len(step.groups)
	delete(w.steps, key)
}

// stir has a step looked at again, at once or when the last look is long enough ago.
func (w *verifyWatches) stir(key verifyKey, step *watchedStep) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if step.pending || step.stirred {
		return
	}
	step.pending = true
	time.AfterFunc(max(verifyGap-w.clock.Since(step.lookAt), 0), func() { w.rouse(key, step) })
}

// rouse wakes the incident.
func (w *verifyWatches) rouse(key verifyKey, step *watchedStep) {
	w.mu.Lock()
	step.pending = false
	there := w.steps[key] == step
	step.stirred = there
	w.mu.Unlock()
	if !there {
		return
	}
	incident := &v1alpha1.Incident{}
	incident.Namespace, incident.Name = key.incident.Namespace, key.incident.Name
	select {
	case w.wake <- event.GenericEvent{Object: incident}:
	case <-w.running.Done():
	}
}

// set notes whether a group is watched.
func (w *verifyWatches) set(group *watchedGroup, problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	group.problem = problem
}

// connecting is the problem of a watch that is not open yet: none that a person is told of.
const connecting = " "

// groupTargets makes as few watches as can be.
func groupTargets(account string, targets []v1alpha1.StepTarget) []*watchedGroup {
	var groups []*watchedGroup
	for i := range targets {
		target := &targets[i]
		kind := schema.FromAPIVersionAndKind(target.APIVersion, target.Kind)
		at := slices.IndexFunc(groups, func(group *watchedGroup) bool { return group.kind == kind && group.namespace == target.Namespace })
		if at < 0 {
			at = len(groups)
			groups = append(groups, &watchedGroup{account: account, kind: kind, namespace: target.Namespace, problem: connecting})
		}
		if !slices.Contains(groups[at].names, target.Name) {
			groups[at].names = append(groups[at].names, target.Name)
		}
	}
	for _, group := range groups {
		slices.Sort(group.names)
	}
	slices.SortFunc(groups, func(a, b *watchedGroup) int { return cmp.Compare(a.String(), b.String()) })
	return groups
}

func (g *watchedGroup) String() string {
	return fmt.Sprintf("%s %s %s/%s", g.account, g.kind, g.namespace, strings.Join(g.names, ","))
}

func describeGroups(groups []*watchedGroup) string {
	texts := make([]string, 0, len(groups))
	for _, group := range groups {
		texts = append(texts, group.String())
	}
	return strings.Join(texts, "\n")
}

// cannotWatch says why a watch does not stand, and how soon to try again.
func (g *watchedGroup) cannotWatch(err error, user string, failures int) (problem string, again time.Duration) {
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("%s may not watch %s", user, g.kind.Kind), rewatchForbidden
	case isNoKind(err), apierrors.IsMethodNotSupported(err), apierrors.IsNotFound(err):
		return fmt.Sprintf("the API server cannot watch %s", g.kind.Kind), rewatchForbidden
	default:
		return connecting, min(rewatch<<min(failures, 5), rewatchAtMost)
	}
}
