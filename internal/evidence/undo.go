package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

// KeepUndo keeps an undo record as Evidence of type UndoRecord. The same record of the same
// step and target is kept once; another one, of a plan made anew, beside it.
func (r *Recorder) KeepUndo(ctx context.Context, request *action.Request, record []byte) (action.UndoReference, error) {
	incident, target := request.Incident, &request.Target
	// The bytes first and in any case: an effect is made next, and it may be another try
	// that finds them gone.
	stored, err := r.put(ctx, incident.Namespace, bytes.NewReader(record))
	if err != nil {
		return action.UndoReference{}, err
	}
	defer stored.Release()
	spec := v1alpha1.EvidenceSpec{
		IncidentRef:   v1alpha1.IncidentReference{Name: incident.Name},
		Step:          request.Step.Name,
		Type:          v1alpha1.EvidenceUndoRecord,
		Method:        "what undoing the step needs, or sending it again, kept before its effect",
		Tool:          r.tool(),
		CollectedTime: metav1.NewTime(request.Now),
		CollectedBy:   r.Manager,
		MediaType:     "application/json",
	}
	if target.APIVersion != "" {
		spec.Resource = &v1alpha1.ResourceReference{
			APIVersion: target.APIVersion, Kind: target.Kind, Namespace: target.Namespace, Name: target.Name, UID: target.UID,
		}
	}
	var names []string
	for _, digits := range []int{10, 32} {
		hash := action.ShortHash(digits, string(incident.UID), request.Step.Name, string(target.UID), stored.Digest)
		names = append(names, action.NameFor(incident.Name, "undo-"+hash, maxName))
	}
	name, found, err := r.find(ctx, incident.Namespace, names, func(known *v1alpha1.EvidenceSpec) bool {
		return known.IncidentRef == spec.IncidentRef && known.Type == spec.Type && known.Step == spec.Step &&
			known.CollectedBy == spec.CollectedBy && known.Digest == stored.Digest
	})
	switch {
	case err != nil:
	case found != nil:
		err = r.markStored(ctx, found)
	default:
		_, err = r.create(ctx, incident, name, spec, stored)
	}
	return action.UndoReference{Evidence: name, Digest: stored.Digest}, err
}

// ReadUndo reads an undo record. What the store holds counts only if it has the digest that
// the incident has on record.
func (r *Recorder) ReadUndo(ctx context.Context, namespace string, reference action.UndoReference) ([]byte, error) {
	if !digestForm.MatchString(reference.Digest) {
		return nil, fmt.Errorf("%w: digest '%s' must be 'sha256:' and 64 hexadecimal digits", action.ErrUndoLost, reference.Digest)
	}
	domain, err := r.domain(ctx, namespace)
	if err != nil {
		return nil, err
	}
	location := string(domain) + "/" + strings.TrimPrefix(reference.Digest, DigestPrefix)
	reader, err := r.Store.Open(ctx, location)
	if errors.Is(err, ErrNotStored) {
		return nil, fmt.Errorf("%w: %w", action.ErrUndoLost, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close() }()
	record, err := io.ReadAll(io.LimitReader(reader, action.MaxUndo+1))
	if err != nil {
		return nil, fmt.Errorf("evidence %s: %w", location, err)
	}
	sum := sha256.Sum256(record)
	if found := DigestPrefix + hex.EncodeToString(sum[:]); found != reference.Digest {
		return nil, fmt.Errorf("%w: evidence %s: %w: they have digest %s", action.ErrUndoLost, location, ErrChanged, found)
	}
	return record, nil
}
