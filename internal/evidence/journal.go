package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/gowebpki/jcs"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

// SealJournal keeps entries of an incident's timeline as Evidence of type Journal: one
// line of canonical JSON (RFC 8785) an entry, the oldest first. The entries must follow
// each other.
//
// When a journal that begins with the same entry was sealed before, and crashed before
// it was recorded, that one is given; it may hold fewer entries than are given now, and
// the caller must go by its spec.journal.
func (r *Recorder) SealJournal(ctx context.Context, incident *v1alpha1.Incident, entries []v1alpha1.TimelineEntry) (*v1alpha1.Evidence, error) {
	lines, err := journalLines(entries)
	if err != nil {
		return nil, err
	}
	first, last := &entries[0], &entries[len(entries)-1]
	number := "journal-" + strconv.FormatInt(first.Sequence, 10)
	names := []string{
		action.NameFor(incident.Name, number, maxName),
		action.NameFor(incident.Name, number+"-"+action.ShortHash(10, string(incident.UID), number), maxName),
	}
	name, found, err := r.find(ctx, incident.Namespace, names, func(spec *v1alpha1.EvidenceSpec) bool {
		return spec.CollectedBy == r.Manager && seals(spec, incident, entries)
	})
	if err != nil {
		return nil, err
	}
	if found != nil {
		return found, r.markStored(ctx, found)
	}
	stored, err := r.put(ctx, incident.Namespace, bytes.NewReader(lines))
	if err != nil {
		return nil, err
	}
	defer stored.Release()
	return r.create(ctx, incident, name, v1alpha1.EvidenceSpec{
		IncidentRef:   v1alpha1.IncidentReference{Name: incident.Name},
		Type:          v1alpha1.EvidenceJournal,
		Method:        "entries of status.timeline, sealed before they leave it",
		Tool:          r.tool(),
		CollectedTime: metav1.NewTime(r.Clock.Now()),
		CollectedBy:   r.Manager,
		MediaType:     "application/jsonl",
		Journal:       &v1alpha1.JournalRange{FirstSequence: first.Sequence, LastSequence: last.Sequence, Previous: first.Previous, LastHash: last.Hash},
	}, stored)
}

// journalLines gives entries that follow each other as lines of canonical JSON.
func journalLines(entries []v1alpha1.TimelineEntry) ([]byte, error) {
	if len(entries) == 0 {
		return nil, errors.New("a journal must have at least one entry")
	}
	var lines bytes.Buffer
	for i := range entries {
		entry := &entries[i]
		if i > 0 && (entry.Sequence != entries[i-1].Sequence+1 || entry.Previous != entries[i-1].Hash) {
			return nil, fmt.Errorf("timeline entry %d does not follow entry %d", entry.Sequence, entries[i-1].Sequence)
		}
		raw, err := json.Marshal(entry)
		if err != nil {
			return nil, fmt.Errorf("timeline entry %d: %w", entry.Sequence, err)
		}
		line, err := jcs.Transform(raw)
		if err != nil {
			return nil, fmt.Errorf("timeline entry %d: %w", entry.Sequence, err)
		}
		lines.Write(line)
		lines.WriteByte('\n')
	}
	return lines.Bytes(), nil
}

// seals says whether Evidence is a journal of the first of the entries.
func seals(found *v1alpha1.EvidenceSpec, incident *v1alpha1.Incident, entries []v1alpha1.TimelineEntry) bool {
	journal := found.Journal
	if found.Type != v1alpha1.EvidenceJournal || found.IncidentRef.Name != incident.Name || journal == nil ||
		journal.FirstSequence != entries[0].Sequence || journal.Previous != entries[0].Previous {
		return false
	}
	index := journal.LastSequence - journal.FirstSequence
	return index >= 0 && index < int64(len(entries)) && entries[index].Hash == journal.LastHash
}

// ReadJournal reads the entries of a journal's bytes, to verify them.
func ReadJournal(from io.Reader) ([]v1alpha1.TimelineEntry, error) {
	var entries []v1alpha1.TimelineEntry
	decoder := json.NewDecoder(from)
	for {
		entry := v1alpha1.TimelineEntry{}
		err := decoder.Decode(&entry)
		switch {
		case errors.Is(err, io.EOF):
			return entries, nil
		case err != nil:
			return nil, fmt.Errorf("journal, entry %d: %w", len(entries)+1, err)
		}
		entries = append(entries, entry)
	}
}
