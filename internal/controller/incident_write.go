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
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// sealAt is how many timeline entries an incident keeps before the oldest are sealed.
	sealAt = 48
	// sealBy is up to how many it may grow while sealing fails: the API keeps 64.
	sealBy = 62
	// sealCount is how many are sealed at once.
	sealCount = 32
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
	if err := run.seal(ctx); err != nil {
		if len(run.incident.Status.Timeline) > sealBy {
			return err
		}
		// There is room left: what keeps a domain from sealing must not keep it from acting.
		log.FromContext(ctx).Error(err, "the timeline could not be sealed; it is tried again")
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

// seal moves the oldest stored entries to a Journal before the timeline overflows. They
// are published first: what has left can no longer be.
func (run *incidentRun) seal(ctx context.Context) error {
	status := &run.incident.Status
	if len(status.Timeline) < sealAt {
		return nil
	}
	count := 0
	for count < sealCount && status.Timeline[count].Sequence <= run.base.Status.Audit.Sequence {
		count++
	}
	if count == 0 {
		return nil
	}
	entries := status.Timeline[:count]
	if err := run.publish(ctx, entries); err != nil {
		return err
	}
	journal, err := run.Journals.SealJournal(ctx, run.incident, entries)
	if err != nil {
		return fmt.Errorf("sealing the timeline: %w", err)
	}
	// A manager that was killed may have sealed fewer entries before.
	count = int(journal.Spec.Journal.LastSequence - entries[0].Sequence + 1)
	if count < 1 || count > len(entries) {
		return fmt.Errorf("sealing the timeline: %s holds entries %d to %d, which is not what was asked for",
			journal.Name, journal.Spec.Journal.FirstSequence, journal.Spec.Journal.LastSequence)
	}
	last := entries[count-1]
	status.Audit.SealedSequence, status.Audit.SealedHash = last.Sequence, last.Hash
	status.Timeline = append([]v1alpha1.TimelineEntry(nil), status.Timeline[count:]...)
	return nil
}

// publish creates the Events of entries that have none yet.
func (run *incidentRun) publish(ctx context.Context, entries []v1alpha1.TimelineEntry) error {
	audited := &run.incident.Status.Audit
	for _, entry := range entries {
		if entry.Sequence <= audited.ProjectedSequence {
			continue
		}
		if err := audit.Project(ctx, run.Client, run.incident, entry); err != nil {
			return err
		}
		audited.ProjectedSequence = entry.Sequence
	}
	return nil
}

// projectInTurn publishes what is on record as soon as there is room for it.
func (run *incidentRun) projectInTurn(ctx context.Context) error {
	audited := &run.incident.Status.Audit
	if audited.ProjectedSequence == audited.Sequence || !run.publishing.enter(client.ObjectKeyFromObject(run.incident)) {
		return run.write(ctx)
	}
	return run.project(ctx)
}

// project publishes what is on record, and notes how far it came.
func (run *incidentRun) project(ctx context.Context) error {
	failure := run.publish(ctx, run.incident.Status.Timeline)
	if err := run.write(ctx); err != nil {
		return err
	}
	return failure
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
