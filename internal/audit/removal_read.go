package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
