package controller

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// take makes a decision's status the incident's, and chains what happened to its timeline.
func (run *incidentRun) take(out lifecycle.Output) error {
	run.incident.Status = out.Status
	return audit.Append(&run.incident.Status, out.Entries...)
}

// write stores the status when it has changed: a transition and its timeline entries
// are one write, with the resourceVersion, so that a deposed manager cannot make it.
func (run *incidentRun) write(ctx context.Context) error {
	if equality.Semantic.DeepEqual(worthWriting(run.base), worthWriting(run.incident)) {
		return nil
	}
	if err := run.kept(); err != nil {
		return err
	}
	if err := run.sealOrGrow(ctx); err != nil {
		return err
	}
	update := run.incident.DeepCopy()
	update.ResourceVersion = run.base.ResourceVersion
	if err := run.Client.Status().Update(ctx, update); err != nil {
		return fmt.Errorf("writing the incident's status: %w", err)
	}
	key := client.ObjectKeyFromObject(update)
	run.written.note(key, update.ResourceVersion)
	run.incident, run.base, run.fresh = update, update.DeepCopy(), true
	if update.Status.Phase == v1alpha1.PhaseClosed {
		run.revisions.forget(key)
		run.written.forget(key)
	}
	return nil
}

// worthWriting leaves out when something is looked at again: a look that finds nothing new
// is not worth a write, and after a restart it is due at once.
func worthWriting(incident *v1alpha1.Incident) *v1alpha1.IncidentStatus {
	status := incident.Status.DeepCopy()
	for i := range status.Steps {
		step := &status.Steps[i]
		step.NextTime = nil
		for j := range step.Targets {
			step.Targets[j].NextTime = nil
		}
	}
	return status
}

// answerDecisions tells Decisions what became of them. The incident keeps the answers
// until the Decisions say so themselves.
func (run *incidentRun) answerDecisions(ctx context.Context) error {
	for _, answer := range run.incident.Status.Answers {
		decision := &v1alpha1.Decision{}
		key := types.NamespacedName{Namespace: run.incident.Namespace, Name: answer.Name}
		if err := run.Client.Get(ctx, key, decision); err != nil {
			if apierrors.IsNotFound(err) {
				continue
			}
			return err
		}
		if string(decision.UID) != string(answer.UID) {
			continue
		}
		if err := answerDecision(ctx, run.Client, decision, metav1.Condition{
			Status: answer.Status, Reason: answer.Reason, Message: answer.Message, LastTransitionTime: metav1.NewTime(run.Clock.Now()),
		}); err != nil {
			return err
		}
	}
	return nil
}

// answerDecision sets a Decision's Accepted condition, once: an answer is never changed.
func answerDecision(ctx context.Context, writer client.Client, decision *v1alpha1.Decision, answer metav1.Condition) error {
	if meta.FindStatusCondition(decision.Status.Conditions, v1alpha1.ConditionAccepted) != nil {
		return nil
	}
	answer.Type = v1alpha1.ConditionAccepted
	answer.ObservedGeneration = decision.Generation
	update := decision.DeepCopy()
	update.Status.ObservedGeneration = decision.Generation
	meta.SetStatusCondition(&update.Status.Conditions, answer)
	err := writer.Status().Update(ctx, update)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		// Answered already, by what the cache has not shown yet, or purged.
		return nil
	}
	if err != nil {
		return fmt.Errorf("answering Decision %s: %w", decision.Name, err)
	}
	return nil
}

// writtenVersions remembers the last resourceVersion this process has written of each
// open incident, so that a cache that lags is noticed.
type writtenVersions struct {
	versions sync.Map
}

func (w *writtenVersions) note(key types.NamespacedName, version string) {
	w.versions.Store(key, version)
}

func (w *writtenVersions) forget(key types.NamespacedName) { w.versions.Delete(key) }

func (w *writtenVersions) isOwn(key types.NamespacedName, version string) bool {
	last, ok := w.versions.Load(key)
	return ok && last == version
}

// newerThan says whether this process has written a later version. Versions of one
// resource are numbers that grow (KEP-5504).
func (w *writtenVersions) newerThan(key types.NamespacedName, version string) bool {
	last, ok := w.versions.Load(key)
	if !ok {
		return false
	}
	written, err := strconv.ParseUint(last.(string), 10, 64)
	if err != nil {
		return last != version
	}
	seen, err := strconv.ParseUint(version, 10, 64)
	return err != nil || written > seen
}
