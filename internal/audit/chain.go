// Package audit keeps the record of an incident: a chain of hashed timeline entries,
// written with each transition, and its projection as Kubernetes Events.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gowebpki/jcs"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Origin is what the first entry of every chain names as its predecessor.
var Origin = strings.Repeat("0", 64)

// HashEntry gives the SHA-256, in hexadecimal, of an entry without its hash as
// canonical JSON (RFC 8785).
func HashEntry(entry v1alpha1.TimelineEntry) (string, error) {
	entry.Hash = ""
	raw, err := json.Marshal(entry)
	if err != nil {
		return "", fmt.Errorf("timeline entry %d: %w", entry.Sequence, err)
	}
	canonical, err := jcs.Transform(raw)
	if err != nil {
		return "", fmt.Errorf("timeline entry %d: %w", entry.Sequence, err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}

// Append chains entries to the timeline. It fills in sequence, previous and hash.
func Append(status *v1alpha1.IncidentStatus, entries ...v1alpha1.TimelineEntry) error {
	for _, entry := range entries {
		entry.Sequence = status.Audit.Sequence + 1
		entry.Previous = status.Audit.HeadHash
		if entry.Previous == "" {
			entry.Previous = Origin
		}
		hash, err := HashEntry(entry)
		if err != nil {
			return err
		}
		entry.Hash = hash
		status.Timeline = append(status.Timeline, entry)
		status.Audit.Sequence = entry.Sequence
		status.Audit.HeadHash = hash
	}
	return nil
}

// Verify checks that the timeline is one chain from what was sealed to the head, and
// says where it breaks. An empty timeline with nothing sealed is whole.
func Verify(status *v1alpha1.IncidentStatus) error {
	previous, sequence := status.Audit.SealedHash, status.Audit.SealedSequence
	if previous == "" {
		previous = Origin
	}
	if err := VerifyEntries(status.Timeline, previous, sequence); err != nil {
		return err
	}
	if count := len(status.Timeline); count > 0 {
		previous, sequence = status.Timeline[count-1].Hash, status.Timeline[count-1].Sequence
	}
	if sequence == 0 && status.Audit.HeadHash == "" && status.Audit.Sequence == 0 {
		return nil
	}
	if status.Audit.Sequence != sequence || status.Audit.HeadHash != previous {
		return fmt.Errorf("the head says entry %d with hash %s, but the last entry is %d with hash %s: entries were removed or the head was changed",
			status.Audit.Sequence, status.Audit.HeadHash, sequence, previous)
	}
	return nil
}

// VerifyEntries checks that entries follow each other, and the entry of the given
// hash and sequence, without a gap, and that none was changed.
func VerifyEntries(entries []v1alpha1.TimelineEntry, previous string, sequence int64) error {
	for i := range entries {
		entry := &entries[i]
		hash, err := HashEntry(*entry)
		if err != nil {
			return err
		}
		if err := follows(entry, hash, previous, sequence); err != nil {
			return err
		}
		previous, sequence = entry.Hash, entry.Sequence
	}
	return nil
}

// follows checks that an entry, whose text has a hash, follows the one of another hash and sequence.
func follows(entry *v1alpha1.TimelineEntry, hash, previous string, sequence int64) error {
	switch {
	case entry.Sequence != sequence+1:
		return fmt.Errorf("after entry %d comes entry %d: it must be %d, entries were removed or reordered", sequence, entry.Sequence, sequence+1)
	case entry.Previous != previous:
		return fmt.Errorf("entry %d chains to %s, but the entry before it has hash %s", entry.Sequence, entry.Previous, previous)
	case hash != entry.Hash:
		return fmt.Errorf("entry %d was changed: its text hashes to %s, but it says %s", entry.Sequence, hash, entry.Hash)
	}
	return nil
}
