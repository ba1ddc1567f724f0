package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/audit"
)

const (
	// retentionLabel is the value of the label 'firebreak.dev/journal'.
	retentionLabel = "retention"
	// listPage is how many journals are listed at a time.
	listPage = 200
)

// SealRemovals keeps what was on record about objects that are to be deleted as Evidence of
// type RetentionJournal, after the journal that was sealed before; nil is none. The same
// removals, tried again after the bytes were stored and before the Evidence was made, may
// become another journal: the name of the first is free then.
func (r *Recorder) SealRemovals(ctx context.Context, namespace string, after *v1alpha1.JournalRange, removals []audit.Removal) (*v1alpha1.Evidence, error) {
	if len(removals) == 0 {
		return nil, errors.New("a retention journal must have at least one removal")
	}
	part := v1alpha1.JournalRange{Previous: audit.Origin}
	if after != nil {
		part.FirstSequence, part.Previous = after.LastSequence, after.LastHash
	}
	lines, err := audit.ChainRemovals(removals, part.FirstSequence, part.Previous)
	if err != nil {
		return nil, err
	}
	part.FirstSequence++
	part.LastSequence, part.LastHash = removals[len(removals)-1].Sequence, removals[len(removals)-1].Hash
	number := "retention-" + strconv.FormatInt(part.FirstSequence, 10)
	names := []string{number, number + "-" + action.ShortHash(10, part.Previous, number)}
	// What has the name and follows the same journal was sealed by a try that crashed, maybe of
	// other objects: the caller must go by what is in it.
	name, found, err := r.find(ctx, namespace, names, func(spec *v1alpha1.EvidenceSpec) bool {
		return spec.CollectedBy == r.Manager && spec.Type == v1alpha1.EvidenceRetentionJournal && spec.Journal != nil &&
			spec.Journal.FirstSequence == part.FirstSequence && spec.Journal.Previous == part.Previous
	})
	if err != nil {
		return nil, err
	}
	if found != nil {
		return found, r.markStored(ctx, found)
	}
	stored, err := r.put(ctx, namespace, bytes.NewReader(lines))
	if err != nil {
		return nil, err
	}
	defer stored.Release()
	made := &v1alpha1.Evidence{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{v1alpha1.LabelJournal: retentionLabel}},
		Spec: v1alpha1.EvidenceSpec{
			Type:          v1alpha1.EvidenceRetentionJournal,
			Method:        "what was on record about objects, kept before they were deleted by the plan's retention",
			Tool:          r.tool(),
			CollectedTime: metav1.NewTime(r.Clock.Now()),
			CollectedBy:   r.Manager,
			MediaType:     "application/jsonl",
			Journal:       &part,
			Digest:        stored.Digest,
			SizeBytes:     &stored.SizeBytes,
		},
	}
	return made, r.keep(ctx, made, stored)
}

// ServerTime is what time it is by the API server's clock, in whole seconds: that at which it would
// create a journal. The manager has the right to do that, and nothing is left of it.
func (r *Recorder) ServerTime(ctx context.Context, namespace string) (time.Time, error) {
	tried := &v1alpha1.Evidence{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "retention-clock-", Labels: map[string]string{v1alpha1.LabelJournal: retentionLabel}},
		Spec: v1alpha1.EvidenceSpec{
			Type:          v1alpha1.EvidenceRetentionJournal,
			Method:        "tried only, to learn the API server's time",
			Tool:          r.tool(),
			CollectedTime: metav1.NewTime(r.Clock.Now()),
			CollectedBy:   r.Manager,
			MediaType:     "application/jsonl",
			Digest:        DigestPrefix + audit.Origin,
			SizeBytes:     new(int64),
		},
	}
	if err := r.Client.Create(ctx, tried, client.DryRunAll); err != nil {
		return time.Time{}, fmt.Errorf("the API server's time could not be learned by the dry run of creating evidence in namespace '%s': %w", namespace, err)
	}
	return tried.CreationTimestamp.Time, nil
}

// LastRemovals finds the last RetentionJournal of a domain; nil when there is none. It lists
// them all, so it is for the start of a process.
func (r *Recorder) LastRemovals(ctx context.Context, namespace string) (*v1alpha1.Evidence, error) {
	var last *v1alpha1.Evidence
	err := r.EachEvidence(ctx, namespace, func(one *v1alpha1.Evidence) {
		if one.Spec.Type == v1alpha1.EvidenceRetentionJournal && one.Spec.CollectedBy == r.Manager && one.Spec.Journal != nil &&
			(last == nil || one.Spec.Journal.LastSequence > last.Spec.Journal.LastSequence) {
			last = one.DeepCopy()
		}
	}, client.MatchingLabels{v1alpha1.LabelJournal: retentionLabel})
	return last, err
}

// EvidenceOf lists the evidence of an incident, by name.
func (r *Recorder) EvidenceOf(ctx context.Context, namespace, incident string) ([]v1alpha1.Evidence, error) {
	var found []v1alpha1.Evidence
	err := r.EachEvidence(ctx, namespace, func(piece *v1alpha1.Evidence) { found = append(found, *piece) },
		client.MatchingFields{"spec.incidentRef.name": incident})
	return found, err
}

// EvidenceNamed reads a piece of evidence; nil when it is not there.
func (r *Recorder) EvidenceNamed(ctx context.Context, namespace, name string) (*v1alpha1.Evidence, error) {
	found := &v1alpha1.Evidence{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, found)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("evidence '%s': %w", name, err)
	}
	return found, nil
}

// ReadRemovals reads what a RetentionJournal holds, and checks it: its bytes, their chain, and
// that this is what the Evidence says.
func (r *Recorder) ReadRemovals(ctx context.Context, journal *v1alpha1.Evidence) ([]audit.Removal, error) {
	if err := r.markStored(ctx, journal); err != nil {
		return nil, err
	}
	if err := r.Store.Check(ctx, journal.Status.Location, journal.Spec.Digest); err != nil {
		return nil, err
	}
	reader, err := r.Store.Open(ctx, journal.Status.Location)
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close() }()
	part := journal.Spec.Journal
	removals, err := audit.ReadRemovals(reader, part.FirstSequence-1, part.Previous)
	if err != nil {
		return nil, fmt.Errorf("evidence '%s': %w", journal.Name, err)
	}
	if count := len(removals); count == 0 || removals[count-1].Sequence != part.LastSequence || removals[count-1].Hash != part.LastHash {
		return nil, fmt.Errorf("evidence '%s': its journal does not end with removal %d and hash %s, as it says", journal.Name, part.LastSequence, part.LastHash)
	}
	return removals, nil
}
