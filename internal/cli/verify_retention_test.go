package cli

import (
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
	}{
		"whole":               {journals(), 310, "one chain without a gap"},
		"nothing was deleted": {nil, 0, "Retention has deleted nothing"},
		"one is missing":      {journals()[:2], 310, "BROKEN journal retention-300: it begins with entry 300: it must begin with 257"},
		"the first is gone":   {journals()[2:], 299, "BROKEN journal retention-257: it begins with entry 257: it must begin with 1"},
		"one was exchanged": {append(journals()[1:], func() v1alpha1.Evidence {
			other := journal("retention-300", 300, 305, hash("e"), hash("f"))
			other.Spec.Type = v1alpha1.EvidenceRetentionJournal
			return other
		}()), 305, "BROKEN journal retention-300: entry 300 chains to eeee"},
		"others do not count": {append(journals(), journal("journal-1", 1, 9, audit.Origin, hash("d"))), 310, "one chain without a gap"},
	} {
		t.Run(name, func(t *testing.T) {
			got := verifyRemovals("security", test.evidence)
			s, out, _ := testSession(terminal{})
			s.printRetention(got)
			if got.Removed != test.removed || !strings.Contains(out.String(), test.want) || got.Intact == strings.Contains(out.String(), "BROKEN") || got.Intact != (len(got.Problems) == 0) {
				t.Errorf("got %+v, and printed:\n%s\nwant %q", got, out.String(), test.want)
			}
		})
	}
}
