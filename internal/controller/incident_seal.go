package controller

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// sealAt is how many timeline entries an incident keeps before the oldest are sealed.
	sealAt = 48
	// sealCount is how many are sealed at once.
	sealCount = 32
	// sealUsual is up to how many a person is not told that sealing fails: that may pass.
	sealUsual = 64
	// sealBy is up to how many it may grow while sealing fails: the API keeps 256.
	sealBy = 254
	// sealByBytes is how many bytes they may have then, as JSON, and sealByWhole how many all of the
	// incident may have, of which etcd takes 1.5 MiB: targets alone may have a megabyte.
	sealByBytes, sealByWhole = 256 << 10, 1400 << 10
	// maxSealProblem is how much the incident says of why sealing fails.
	maxSealProblem = 512
)

// sealOrGrow seals the timeline, or says why it could not. While the status has room that does
// not keep the incident from being written, and so from being carried on: what keeps a domain
// from sealing, such as a full volume, must not keep it from acting.
func (run *incidentRun) sealOrGrow(ctx context.Context) error {
	status := &run.incident.Status
	failure := run.seal(ctx)
	for left := sealBy; failure == nil && len(status.Timeline) >= sealAt && len(status.Timeline) < left; {
		left = len(status.Timeline)
		failure = run.seal(ctx) // what has grown while it failed
	}
	condition := metav1.Condition{
		Type: v1alpha1.ConditionTimelineSealed, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSealed,
		Message: "the older entries of the timeline are sealed again", ObservedGeneration: run.incident.Generation, LastTransitionTime: metav1.NewTime(run.Clock.Now()),
	}
	switch {
	case failure != nil && !roomUnsealed(run.incident):
		return failure
	case failure != nil:
		log.FromContext(ctx).Error(failure, "the timeline could not be sealed; it is tried again")
		if len(status.Timeline) <= sealUsual {
			return nil
		}
		condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.ReasonSealingFailed
		condition.Message = lifecycle.Cut(fmt.Sprintf("the timeline cannot be sealed, which is tried again with each change; the incident stops being carried on when it has %d entries, or %d KiB of them, or is %d KiB in all: %v",
			sealBy, sealByBytes>>10, sealByWhole>>10, failure), maxSealProblem)
	case len(status.Timeline) >= sealAt || meta.FindStatusCondition(status.Conditions, condition.Type) == nil:
		return nil
	}
	meta.SetStatusCondition(&status.Conditions, condition)
	return nil
}

// roomUnsealed says whether an incident can be written with so many entries.
func roomUnsealed(incident *v1alpha1.Incident) bool {
	timeline := incident.Status.Timeline
	return jsonFits(incident, sealByWhole) && (len(timeline) <= sealUsual || len(timeline) <= sealBy && jsonFits(timeline, sealByBytes))
}

func jsonFits(value any, most int) bool {
	text, err := json.Marshal(value)
	return err == nil && len(text) <= most
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
