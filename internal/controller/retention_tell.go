package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
)

// tellLost tells that the bytes of the last journal are lost.
func (r *RetentionReconciler) tellLost(ctx context.Context, journal *v1alpha1.Evidence, lost error) {
	r.tell(ctx, &told{
		kind: kindEvidence, namespace: journal.Namespace, name: journal.Name, uid: journal.UID,
		reason: v1alpha1.ReasonRetentionJournalLost, severity: corev1.EventTypeWarning,
		note: fmt.Sprintf("what was on record about the objects that evidence '%s' names is lost; retention goes on after it, "+
			"and 'kubectl firebreak verify --retention' will say so: restore the store from a backup: %v", journal.Name, lost),
	}, "lost")
}

// tellAhead tells that nothing is deleted, for the manager's clock is ahead: at once, and every
// hour.
func (r *RetentionReconciler) tellAhead(ctx context.Context, namespace string, head *journalHead, ahead time.Duration) {
	note := fmt.Sprintf("nothing is deleted by the plan's `retention`: the manager's clock is %s ahead of the API server's, and must not be more than %s. "+
		"Set the clocks of their nodes right; retention goes on by itself", ahead, clockTolerance)
	log.FromContext(ctx).Info("Retention waits", "because", note)
	r.tell(ctx, &told{
		kind: "ResponsePlan", namespace: namespace, name: v1alpha1.ResponsePlanName, uid: head.plan,
		reason: v1alpha1.ReasonRetentionClockAhead, severity: corev1.EventTypeWarning, note: note,
	}, "ahead", head.ahead.UTC().Format(time.RFC3339))
}

// tellUnwitnessed tells that nothing is deleted, for the API server's time cannot be learned.
func (r *RetentionReconciler) tellUnwitnessed(ctx context.Context, namespace string, head *journalHead, failure error) {
	r.tell(ctx, &told{
		kind: "ResponsePlan", namespace: namespace, name: v1alpha1.ResponsePlanName, uid: head.plan,
		reason: v1alpha1.ReasonRetentionClockUnknown, severity: corev1.EventTypeWarning,
		note: fmt.Sprintf("nothing is deleted by the plan's `retention`, which is tried again: what admits Evidence, such as a webhook, must allow the manager a dry run of creating it: %v", failure),
	}, "unwitnessed", head.unwitnessed.UTC().Format(time.RFC3339))
}

// tellVoid tells that nothing of what a journal names is deleted because of it.
func (r *RetentionReconciler) tellVoid(ctx context.Context, journal *v1alpha1.Evidence, ahead time.Duration) {
	note := fmt.Sprintf("nothing that this journal names is deleted because of it: when it was made the manager's clock was %s ahead of the API server's, "+
		"and must not be more than %s. What it names is journaled once more when its time is over", ahead, clockTolerance)
	log.FromContext(ctx).Info("A retention journal does not count", "journal", journal.Name, "because", note)
	r.tell(ctx, &told{
		kind: kindEvidence, namespace: journal.Namespace, name: journal.Name, uid: journal.UID,
		reason: v1alpha1.ReasonRetentionClockAhead, severity: corev1.EventTypeWarning, note: note,
	}, "void")
}

// tellCut tells that the last journals are not there.
func (r *RetentionReconciler) tellCut(ctx context.Context, namespace string, head *journalHead, noted v1alpha1.RetentionHead) {
	found := int64(0)
	if head.last != nil {
		found = head.last.LastSequence
	}
	r.tell(ctx, &told{
		kind: "ResponsePlan", namespace: namespace, name: v1alpha1.ResponsePlanName, uid: head.plan,
		reason: v1alpha1.ReasonRetentionJournalLost, severity: corev1.EventTypeWarning,
		note: fmt.Sprintf("the retention journals end with removal %d, but `status.retention` tells of %d: the last ones were taken away; retention goes on after them, "+
			"and 'kubectl firebreak verify --retention' will say so: restore their Evidence from a backup", found, noted.Sequence),
	}, "cut", noted.Hash)
}

// tellKept tells why an incident stays although its time is over: at once, and every hour, for
// Kubernetes forgets Events.
func (r *RetentionReconciler) tellKept(ctx context.Context, head *journalHead, incident *v1alpha1.Incident, why string) {
	now := r.Clock.Now()
	if last, ok := head.kept[incident.UID]; ok && last.why == why && now.Sub(last.at) < keptRetry {
		return
	}
	head.kept[incident.UID] = toldKept{why, now}
	r.tell(ctx, &told{
		kind: kindIncident, namespace: incident.Namespace, name: incident.Name, uid: incident.UID,
		reason: v1alpha1.ReasonRetentionKept, severity: corev1.EventTypeNormal,
		note: "its time is over by the plan's `retention`, but it is kept: " + why,
	}, "kept", why)
}

// tellRefused tells that the API server refuses to delete what is over.
func (r *RetentionReconciler) tellRefused(ctx context.Context, namespace string, removal *audit.Removal, refusal error) {
	r.tell(ctx, &told{
		kind: removal.Kind, namespace: namespace, name: removal.Name, uid: removal.UID,
		reason: v1alpha1.ReasonRetentionKept, severity: corev1.EventTypeWarning,
		note: fmt.Sprintf("its time is over by the plan's `retention`, but it is kept: the manager must be allowed to delete it, and is not: %v", refusal),
	}, "refused", r.Clock.Now().UTC().Format(time.DateOnly))
}

// toldKept is what was told about an incident that stays, and when.
type toldKept struct {
	why string
	at  time.Time
}

// tellRemoved tells that an incident was deleted, and where it is on record.
func (r *RetentionReconciler) tellRemoved(ctx context.Context, namespace string, removal *audit.Removal) {
	r.tell(ctx, &told{
		kind: removal.Kind, namespace: namespace, name: removal.Name, uid: removal.UID,
		reason: v1alpha1.ReasonRetentionRemoved, severity: corev1.EventTypeNormal,
		note: fmt.Sprintf("deleted by the plan's `%s`; what was on record about it is number %d of the retention journals", removal.Because, removal.Sequence),
	}, "removed")
}

// tellSwept tells how much evidence was deleted.
func (r *RetentionReconciler) tellSwept(ctx context.Context, journal *v1alpha1.Evidence, pieces int) {
	r.tell(ctx, &told{
		kind: kindEvidence, namespace: journal.Namespace, name: journal.Name, uid: journal.UID,
		reason: v1alpha1.ReasonRetentionRemoved, severity: corev1.EventTypeNormal,
		note: fmt.Sprintf("deleted by the plan's `retention`: %d pieces of evidence that this journal names, with their bytes where no others have the same", pieces),
	}, "swept")
}

// tell creates a Kubernetes Event. Where none can be made, as by a quota, that is logged:
// retention goes on.
func (r *RetentionReconciler) tell(ctx context.Context, what *told, prefix string, apart ...string) {
	what.action, what.at, what.prefix, what.apart = "Retain", r.Clock.Now(), prefix, apart
	if err := tell(ctx, r.Client, what); err != nil {
		log.FromContext(ctx).Error(err, "not told what became of an object by the plan's retention", "kind", what.kind, "namespace", what.namespace, "name", what.name, "reason", what.reason)
	}
}
