package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// knownEvidence is what is known of a domain's evidence, which is not watched.
type knownEvidence struct {
	// since is when all of it was looked at. Zero is not yet.
	since time.Time
	// incidents are those that had any then.
	incidents map[string]bool
	// sifted are the closed incidents of which none is left that could go before they do.
	sifted map[types.UID]bool
	// orphans are the names of the pieces whose incident is gone, by the hour in which they were
	// collected.
	orphans map[int64]map[string]bool
}

// knowEvidence looks at all evidence of a domain, once in the life of a manager.
func (r *RetentionReconciler) knowEvidence(ctx context.Context, namespace string, head *journalHead) error {
	if !head.evidence.since.IsZero() {
		return nil
	}
	known := knownEvidence{since: r.Clock.Now(), incidents: map[string]bool{}, sifted: map[types.UID]bool{}, orphans: map[int64]map[string]bool{}}
	var failed error
	err := r.Journals.EachEvidence(ctx, namespace, func(piece *v1alpha1.Evidence) {
		incident := piece.Spec.IncidentRef.Name
		if incident == "" || failed != nil {
			return
		}
		there, asked := known.incidents[incident]
		if !asked {
			if there, failed = r.isThere(ctx, namespace, incident); failed != nil {
				return
			}
			known.incidents[incident] = there
		}
		if !there {
			r.noteOrphan(namespace, &known, piece.Name, piece.Spec.CollectedTime.Time)
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	head.evidence = known
	return nil
}

// isThere says whether there is an incident of a name.
func (r *RetentionReconciler) isThere(ctx context.Context, namespace, incident string) (bool, error) {
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: incident}, &v1alpha1.Incident{}, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("read incident %q: %w", incident, err)
	}
	return err == nil, nil
}

func hourOf(at time.Time) int64 { return at.Unix() / int64(time.Hour/time.Second) }

// noteOrphan takes down a piece of evidence whose incident is gone.
func (r *RetentionReconciler) noteOrphan(namespace string, known *knownEvidence, name string, collected time.Time) {
	hour := hourOf(collected)
	if known.orphans[hour] == nil {
		known.orphans[hour] = map[string]bool{}
	}
	known.orphans[hour][name] = true
	r.orphaned.note(namespace, hour)
}

// noteOrphans takes down the evidence that an incident has left, the last of a group: what is
// not in the group, and what was kept.
func (r *RetentionReconciler) noteOrphans(namespace string, head *journalHead, group []audit.Removal, kept map[types.UID]bool) {
	if head.evidence.since.IsZero() {
		return // all of it is looked at when the plan says how long it is kept
	}
	for _, piece := range group[len(group)-1].Incident.Evidence {
		if kept[piece.UID] || !slices.ContainsFunc(group, func(removal audit.Removal) bool { return removal.UID == piece.UID }) {
			r.noteOrphan(namespace, &head.evidence, piece.Name, piece.CollectedTime.Time)
		}
	}
}

// keepsEvidence is for how long the plan keeps evidence; nil is for ever.
func (p *incidentParts) keepsEvidence() *metav1.Duration {
	if p.Plan == nil {
		return nil
	}
	return p.Plan.Spec.Retention.Evidence
}

// overWith are the pieces of evidence that go with their incident, sealed parts of its timeline
// after the others.
func (r *RetentionReconciler) overWith(known *incidentParts, evidence []v1alpha1.Evidence) []audit.Removal {
	keep := known.keepsEvidence()
	if keep == nil {
		return nil
	}
	var over, journals []audit.Removal
	for i := range evidence {
		piece := &evidence[i]
		why, _ := lifecycle.EvidenceKeptBecause(lifecycle.RetainedEvidence{
			Evidence: piece, Keep: keep.Duration, Incident: &known.Retained, Goes: true, Now: r.Clock.Now(),
		})
		if why != "" {
			continue
		}
		removal := audit.RemovalOfEvidence(piece)
		removal.With = known.Incident.Name
		if piece.Spec.Type == v1alpha1.EvidenceJournal {
			journals = append(journals, removal)
		} else {
			over = append(over, removal)
		}
	}
	return append(over, journals...)
}

// removeEvidenceHour deletes a batch of the evidence of the incidents that were closed within an
// hour, and are there yet.
func (r *RetentionReconciler) removeEvidenceHour(ctx context.Context, namespace string, hour int64, head *journalHead, because string) (taken, error) {
	list := &v1alpha1.IncidentList{}
	err := r.Client.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{indexClosedHour: strconv.FormatInt(hour, 10)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return taken{}, fmt.Errorf("list the closed incidents of namespace %q: %w", namespace, err)
	}
	if len(list.Items) == 0 {
		r.closed.forget(namespace, hour)
	}
	took := taken{}
	for i := range list.Items {
		if len(took.removals) >= removalBatch {
			break
		}
		one, err := r.sift(ctx, &list.Items[i], head)
		if err != nil {
			return taken{}, err
		}
		took.removals, took.wait = append(took.removals, one.removals...), sooner(took.wait, one.wait)
	}
	return r.removeBatch(ctx, namespace, head, took, because)
}

// removeBatch deletes a batch of what was taken down, at most as much as one journal is about.
func (r *RetentionReconciler) removeBatch(ctx context.Context, namespace string, head *journalHead, took taken, because string) (taken, error) {
	if len(took.removals) == 0 {
		return took, nil
	}
	took.removals = took.removals[:min(removalBatch, len(took.removals))]
	r.stamp(head, took.removals, because)
	return took, r.remove(ctx, namespace, head, took.removals)
}

// sift takes down the evidence of a closed incident that may go before that does.
func (r *RetentionReconciler) sift(ctx context.Context, cached *v1alpha1.Incident, head *journalHead) (taken, error) {
	closed, _ := lifecycle.ClosedAt(&cached.Status)
	if head.evidence.sifted[cached.UID] || !head.evidence.incidents[cached.Name] && closed.Before(head.evidence.since) {
		return taken{}, nil
	}
	known, err := r.partsOf(ctx, cached.DeepCopy())
	if err != nil || known.keepsEvidence() == nil {
		return taken{}, err
	}
	why, evidence, err := r.keptBecause(ctx, known)
	if err != nil {
		return taken{}, err
	}
	if why != "" {
		r.tellKept(ctx, head, cached, why)
		return taken{wait: keptRetry}, nil
	}
	took := taken{}
	for i := range evidence {
		one := taken{wait: r.refusedFor(head, evidence[i].UID)}
		if one.wait == 0 {
			one = r.takeEvidence(known, &evidence[i])
		}
		took.removals, took.wait = append(took.removals, one.removals...), sooner(took.wait, one.wait)
	}
	if len(took.removals) == 0 && took.wait == 0 {
		head.evidence.sifted[cached.UID] = true
	}
	return took, nil
}

// takeEvidence takes down a piece of evidence that may go. The incident is nil when it is gone.
func (r *RetentionReconciler) takeEvidence(known *incidentParts, piece *v1alpha1.Evidence) taken {
	keep := known.keepsEvidence()
	if keep == nil {
		return taken{}
	}
	in := lifecycle.RetainedEvidence{Evidence: piece, Now: r.Clock.Now(), Keep: keep.Duration}
	if known.Incident != nil {
		in.Incident = &known.Retained
	}
	why, until := lifecycle.EvidenceKeptBecause(in)
	switch {
	case why == "":
		return taken{removals: []audit.Removal{audit.RemovalOfEvidence(piece)}}
	case until.IsZero():
		return taken{}
	}
	return taken{wait: max(until.Sub(in.Now), time.Millisecond)}
}

// removeOrphanHour deletes a batch of the evidence that was collected within an hour, and whose
// incident is gone.
func (r *RetentionReconciler) removeOrphanHour(ctx context.Context, namespace string, hour int64, head *journalHead, because string) (taken, error) {
	names := head.evidence.orphans[hour]
	plan, err := planOf(ctx, r.Client, namespace)
	if err != nil || plan == nil || plan.Spec.Retention.Evidence == nil {
		return taken{}, err
	}
	took := taken{}
	for name := range names {
		piece, err := r.Journals.EvidenceNamed(ctx, namespace, name)
		if err != nil {
			return taken{}, err
		}
		if piece == nil {
			delete(names, name)
			continue
		}
		there, err := r.isThere(ctx, namespace, piece.Spec.IncidentRef.Name)
		if err != nil {
			return taken{}, err
		}
		holds, failed := r.orphanHolds(ctx, namespace, piece.Spec.IncidentRef.Name)
		if failed != nil {
			return taken{}, failed
		}
		one := taken{wait: r.refusedFor(head, piece.UID)}
		if one.wait > 0 {
			took.wait = sooner(took.wait, one.wait)
			continue
		}
		if holds = append(holds, lifecycle.LegalHolds([]v1alpha1.Evidence{*piece})...); len(holds) > 0 {
			one.wait = keptRetry
		} else if there { // one of that name was made anew
			head.evidence.incidents[piece.Spec.IncidentRef.Name] = true
		} else {
			one = r.takeEvidence(&incidentParts{Retained: lifecycle.Retained{Plan: plan}}, piece)
		}
		if len(one.removals) == 0 && one.wait == 0 {
			delete(names, name)
		}
		took.removals, took.wait = append(took.removals, one.removals...), sooner(took.wait, one.wait)
		if len(took.removals) == removalBatch {
			break
		}
	}
	if len(names) == 0 {
		delete(head.evidence.orphans, hour)
		r.orphaned.forget(namespace, hour)
	}
	return r.removeBatch(ctx, namespace, head, took, because)
}

// removeEvidence deletes a piece of evidence, unless its incident must stay by now.
func (r *RetentionReconciler) removeEvidence(ctx context.Context, namespace string, head *journalHead, group []audit.Removal) error {
	removal := &group[0]
	incident, incidentName := &v1alpha1.Incident{}, removal.Evidence.IncidentRef.Name
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: incidentName}, incident)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read incident %q: %w", incidentName, err)
	}
	if err == nil {
		known, err := r.partsOf(ctx, incident)
		if err != nil {
			return err
		}
		if why, _, err := r.keptBecause(ctx, known); err != nil || why != "" {
			return err
		}
	} else if holds, err := r.orphanHolds(ctx, namespace, incidentName); err != nil || len(holds) > 0 {
		return err
	}
	stays, _, err := r.try(ctx, namespace, head, removal)
	if err == nil && !stays {
		head.unswept = append(head.unswept, removal.Location)
	}
	return err
}
