package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
)

func TestVerifyRemovals(t *testing.T) {
	hash := func(digit string) string { return strings.Repeat(digit, 64) }
	journals := func() []v1alpha1.Evidence {
		all := []v1alpha1.Evidence{
			journal("retention-300", 300, 310, hash("b"), hash("c")),
			journal("retention-1", 1, 256, audit.Origin, hash("a")),
			journal("retention-257", 257, 299, hash("a"), hash("b")),
		}
		for i := range all {
			all[i].Spec.Type = v1alpha1.EvidenceRetentionJournal
		}
		return all
	}
	for name, test := range map[string]struct {
		evidence []v1alpha1.Evidence
		removed  int64
		want     string // in the output
		noted    v1alpha1.RetentionHead
	}{
		"whole":               {journals(), 310, "What retention has journaled in security names 310 removals; 3 journals", v1alpha1.RetentionHead{}},
		"nothing was deleted": {nil, 0, "Retention has deleted nothing", v1alpha1.RetentionHead{}},
		"one is missing":      {journals()[:2], 310, "BROKEN journal retention-300: it begins with entry 300: it must begin with 257", v1alpha1.RetentionHead{}},
		"the first is gone":   {journals()[2:], 299, "BROKEN journal retention-257: it begins with entry 257: it must begin with 1", v1alpha1.RetentionHead{}},
		"one was exchanged": {append(journals()[1:], func() v1alpha1.Evidence {
			other := journal("retention-300", 300, 305, hash("e"), hash("f"))
			other.Spec.Type = v1alpha1.EvidenceRetentionJournal
			return other
		}()), 305, "BROKEN journal retention-300: entry 300 chains to eeee", v1alpha1.RetentionHead{}},
		"others do not count":          {append(journals(), journal("journal-1", 1, 9, audit.Origin, hash("d"))), 310, "one chain without a gap", v1alpha1.RetentionHead{}},
		"they end where the plan says": {journals(), 310, "one chain without a gap", v1alpha1.RetentionHead{Sequence: 310, Hash: hash("c")}},
		"the last was not noted":       {journals(), 310, "one chain without a gap", v1alpha1.RetentionHead{Sequence: 299, Hash: hash("b")}},
		"the last is gone":             {journals()[1:], 299, "BROKEN journals: they end with removal 299, but the plan's `status.retention` says 310", v1alpha1.RetentionHead{Sequence: 310, Hash: hash("c")}},
		"one reaches beyond that":      {journals(), 310, "BROKEN journals: none ends with removal 305, but the plan's `status.retention` says that one has", v1alpha1.RetentionHead{Sequence: 305, Hash: hash("d")}},
		"all are gone":                 {nil, 0, "BROKEN journals: they end with removal 0, but", v1alpha1.RetentionHead{Sequence: 310, Hash: hash("c")}},
		"the last was exchanged":       {journals(), 310, "BROKEN journal retention-300: it ends with hash cccc", v1alpha1.RetentionHead{Sequence: 310, Hash: hash("d")}},
	} {
		t.Run(name, func(t *testing.T) {
			got := verifyRemovals("security", test.evidence, test.noted)
			s, out, _ := testSession(terminal{})
			s.printRetention(got)
			if got.Removed != test.removed || !strings.Contains(out.String(), test.want) || got.Intact == strings.Contains(out.String(), "BROKEN") || got.Intact != (len(got.Problems) == 0) {
				t.Errorf("got %+v, and printed:\n%s\nwant %q", got, out.String(), test.want)
			}
		})
	}
}

// TestVerifyStoredRemovals reads the bytes of journals in a copy of the store.
func TestVerifyStoredRemovals(t *testing.T) {
	removals := []audit.Removal{{Kind: "Decision", Name: "the-end"}, {Kind: "Incident", Name: "inc", Incident: &audit.RemovedIncident{}}}
	status := &v1alpha1.IncidentStatus{}
	if err := audit.Append(status, v1alpha1.TimelineEntry{Actor: "manager", Action: "IncidentClosed"}); err != nil {
		t.Fatal(err)
	}
	stored := func(edit func()) (string, v1alpha1.Evidence) {
		t.Helper()
		removals[1].Incident.Audit, removals[1].Incident.Timeline = status.Audit, []v1alpha1.TimelineEntry{status.Timeline[0]}
		edit()
		lines, err := audit.ChainRemovals(removals, 0, audit.Origin)
		if err != nil {
			t.Fatal(err)
		}
		sum, size, directory := sha256.Sum256(lines), int64(len(lines)), t.TempDir()
		one := journal("retention-1", 1, 2, audit.Origin, removals[1].Hash)
		one.Spec.Type, one.Spec.Digest, one.Spec.SizeBytes = v1alpha1.EvidenceRetentionJournal, "sha256:"+hex.EncodeToString(sum[:]), &size
		one.Status.Location = "uid/" + hex.EncodeToString(sum[:])
		if err := os.MkdirAll(filepath.Join(directory, "uid"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(directory, one.Status.Location), lines, 0o600); err != nil {
			t.Fatal(err)
		}
		return directory, one
	}
	nothing := func() {}
	forged := func() { removals[1].Incident.Timeline[0].Message = "nothing happened" }
	for name, test := range map[string]struct {
		edit  func()
		spoil func(path string, one *v1alpha1.Evidence) error
		want  string // in the output
	}{
		"whole":              {nothing, func(string, *v1alpha1.Evidence) error { return nil }, "the bytes of 1 were read"},
		"the timeline's end": {forged, func(string, *v1alpha1.Evidence) error { return nil }, `BROKEN journal retention-1: removal 2, the timeline of incident "inc": entry 1 was changed`},
		"gone":               {nothing, func(path string, _ *v1alpha1.Evidence) error { return os.Remove(path) }, "BROKEN journal retention-1: its bytes cannot be read"},
		"changed": {nothing, func(path string, _ *v1alpha1.Evidence) error {
			return os.WriteFile(path, bytes.Repeat([]byte("x"), 9999), 0o600)
		}, "its bytes were changed"},
		"outside":             {nothing, func(_ string, one *v1alpha1.Evidence) error { one.Status.Location = "../../etc/passwd"; return nil }, "its bytes cannot be read"},
		"another end than is": {nothing, func(_ string, one *v1alpha1.Evidence) error { one.Spec.Journal.LastHash = audit.Origin; return nil }, "it must end with 2 and 0000"},
	} {
		t.Run(name, func(t *testing.T) {
			directory, one := stored(test.edit)
			if err := test.spoil(filepath.Join(directory, one.Status.Location), &one); err != nil {
				t.Fatal(err)
			}
			all := []v1alpha1.Evidence{one}
			got := verifyRemovals("security", all, v1alpha1.RetentionHead{})
			if err := got.readFrom(directory, all); err != nil {
				t.Fatal(err)
			}
			s, out, _ := testSession(terminal{})
			s.printRetention(got)
			if !strings.Contains(out.String(), test.want) || got.Intact != (name == "whole") {
				t.Errorf("got %+v, and printed:\n%s\nwant %q", got, out.String(), test.want)
			}
		})
	}
}
