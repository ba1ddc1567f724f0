package audit

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// ReadRemovals reads the lines of one journal, and checks that they are one chain, from the
// removal after a sequence and hash on. The hashes are those of the lines as they were written,
// whatever of them this version knows.
func ReadRemovals(from io.Reader, sequence int64, previous string) ([]Removal, error) {
	var removals []Removal
	err := eachRemoval(from, sequence, previous, func(removal *Removal, _ []byte) error {
		removals = append(removals, *removal)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return removals, nil
}

// VerifyRemovals checks a journal as ReadRemovals does, that it ends as its Evidence says, and what
// is in it of the timeline of each incident: its last entries must lead from what was sealed to
// its head. Of an incident whose entries it does not hold it says nothing.
func VerifyRemovals(from io.Reader, part *v1alpha1.JournalRange) error {
	sequence, hash := part.FirstSequence-1, part.Previous
	var broken error
	err := eachRemoval(from, sequence, hash, func(removal *Removal, line []byte) error {
		sequence, hash = removal.Sequence, removal.Hash
		if removal.Incident == nil {
			return nil
		}
		if err := verifyTail(removal.Incident, line); err != nil {
			broken = errors.Join(broken, fmt.Errorf("removal %d, the timeline of incident %q: %w", removal.Sequence, removal.Name, err))
		}
		return nil
	})
	if err == nil && (sequence != part.LastSequence || hash != part.LastHash) {
		err = fmt.Errorf("it ends with removal %d and hash %s: it must end with %d and %s", sequence, hash, part.LastSequence, part.LastHash)
	}
	return errors.Join(err, broken)
}

// verifyTail checks the last entries of a timeline by their text, as hashLine takes it.
func verifyTail(incident *RemovedIncident, line []byte) error {
	text := struct {
		Incident struct {
			Timeline []json.RawMessage `json:"timeline"`
		} `json:"incident"`
	}{}
	if err := json.Unmarshal(line, &text); err != nil {
		return err
	}
	if len(incident.Timeline) == 0 {
		return nil
	}
	sequence, previous := incident.Audit.SealedSequence, cmp.Or(incident.Audit.SealedHash, Origin)
	for i := range incident.Timeline {
		entry := &incident.Timeline[i]
		hash, err := hashLine(text.Incident.Timeline[i])
		if err != nil {
			return err
		}
		if err := follows(entry, hash, previous, sequence); err != nil {
			return err
		}
		sequence, previous = entry.Sequence, entry.Hash
	}
	if sequence != incident.Audit.Sequence || previous != incident.Audit.HeadHash {
		return fmt.Errorf("the head says entry %d with hash %s, but the last entry is %d with hash %s",
			incident.Audit.Sequence, incident.Audit.HeadHash, sequence, previous)
	}
	return nil
}

// eachRemoval goes through the lines of a journal, each once it was checked.
func eachRemoval(from io.Reader, sequence int64, previous string, look func(removal *Removal, line []byte) error) error {
	decoder := json.NewDecoder(from)
	for {
		var line json.RawMessage
		removal := Removal{}
		err := decoder.Decode(&line)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = json.Unmarshal(line, &removal)
		}
		if err != nil {
			return fmt.Errorf("journal, after removal %d: %w", sequence, err)
		}
		hash, err := hashLine(line)
		switch {
		case err != nil:
			return fmt.Errorf("removal %d: %w", removal.Sequence, err)
		case removal.Sequence != sequence+1 || removal.Previous != previous:
			return fmt.Errorf("after removal %d with hash %s comes removal %d, which chains to %s: one is missing or was moved",
				sequence, previous, removal.Sequence, removal.Previous)
		case hash != removal.Hash:
			return fmt.Errorf("removal %d was changed: its text hashes to %s, but it says %s", removal.Sequence, hash, removal.Hash)
		}
		sequence, previous = removal.Sequence, removal.Hash
		if err := look(&removal, line); err != nil {
			return err
		}
	}
}
