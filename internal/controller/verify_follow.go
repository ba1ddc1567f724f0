package controller

import (
	"context"
	"regexp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// watchFor is how long one watch stands: then the account's rights are asked for anew.
	watchFor = 5 * time.Minute
	// rewatch is how soon a watch that broke is opened again, twice that the next time.
	rewatch       = time.Second
	rewatchAtMost = 30 * time.Second
	// rewatchForbidden is how soon it is tried again when it was forbidden.
	rewatchForbidden = time.Minute
)

// follow keeps one watch open until the step is over.
func (w *verifyWatches) follow(ctx context.Context, key verifyKey, step *watchedStep, group *watchedGroup) {
	for failures := 0; ctx.Err() == nil; {
		problem, again := connecting, rewatch
		opened, err := w.watch(ctx, key, group)
		if err == nil {
			failures = 0
			w.set(group, "")
			// What has changed before it stood is seen by the look that follows.
			w.stir(key, step)
			w.listen(ctx, opened, group, func() { w.stir(key, step) })
		} else {
			problem, again = group.cannotWatch(err, userOf(key, group), failures)
			failures++
		}
		w.set(group, problem)
		if failures < 2 {
			w.stir(key, step) // it is looked at as often as what is not watched
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

func userOf(key verifyKey, group *watchedGroup) string {
	return "system:serviceaccount:" + key.incident.Namespace + ":" + group.account
}

// watch opens a watch as the playbook's ServiceAccount, if the namespace still lets it.
func (w *verifyWatches) watch(ctx context.Context, key verifyKey, group *watchedGroup) (watch.Interface, error) {
	identity, err := w.identities.For(ctx, key.incident.Namespace, group.account)
	if err != nil {
		return nil, err
	}
	name := ""
	if len(group.names) == 1 {
		name = group.names[0]
	}
	return identity.Watch(ctx, group.kind, client.ObjectKey{Namespace: group.namespace, Name: name}, watchFor)
}

// listen says when something happens to one of the objects, until the watch ends.
func (w *verifyWatches) listen(ctx context.Context, opened watch.Interface, group *watchedGroup, changed func()) {
	defer opened.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case seen, ok := <-opened.ResultChan():
			if !ok || seen.Type == watch.Error {
				return
			}
			if object, err := meta.Accessor(seen.Object); err == nil && slices.Contains(group.names, object.GetName()) {
				changed()
			}
		}
	}
}

// verify looks whether the condition of a verify step holds. While its objects are watched
// the next look can wait.
func (run *incidentRun) verify(ctx context.Context, request *action.Request) lifecycle.Result {
	key := verifyKey{types.NamespacedName{Namespace: run.incident.Namespace, Name: run.incident.Name}, request.Step.Name}
	watched, problem := run.verifies.looking(key)
	result := action.Verify(ctx, request, run.Expressions)
	if result.Permanent || len(request.Targets) == 0 || dependsOnIncident(request.Step) {
		return result
	}
	if result.State == v1alpha1.TargetSucceeded && request.Step.Verify.For == nil {
		return result // it is over
	}
	run.verifies.begin(key, run.incident.Status.Playbook.ServiceAccountName, request.Targets) //nolint:contextcheck // a watch outlives the look that begins it
	switch {
	case result.Unknown: // the API server gave no answer: no change of an object tells that it does
	case watched:
		result.After = watchedLook
		if result.State == v1alpha1.TargetApplied {
			result.Message += "; they are watched"
		}
	case problem != "" && result.State == v1alpha1.TargetApplied:
		result.Message += "; looked at every second, because " + problem
	}
	return result
}

// mentionsIncident finds the variable, or a word that is taken for it.
var mentionsIncident = regexp.MustCompile(`\bincident\b`)

// dependsOnIncident says that an expression may begin to hold although no object changes.
func dependsOnIncident(step *v1alpha1.PlaybookStep) bool {
	return mentionsIncident.MatchString(string(step.Verify.Expression))
}

// endVerifies ends the watches of steps that are over.
func (run *incidentRun) endVerifies() {
	var running []string
	for i := range run.incident.Status.Steps {
		if step := &run.incident.Status.Steps[i]; step.State == v1alpha1.StepRunning && step.Action == "verify" {
			running = append(running, step.Name)
		}
	}
	run.verifies.keep(client.ObjectKeyFromObject(run.incident), running)
}
