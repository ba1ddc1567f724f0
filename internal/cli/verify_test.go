package cli

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
)

func journal(name string, first, last int64, previous, lastHash string) v1alpha1.Evidence {
	return v1alpha1.Evidence{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.EvidenceSpec{Type: v1alpha1.EvidenceJournal,
			Journal: &v1alpha1.JournalRange{FirstSequence: first, LastSequence: last, Previous: previous, LastHash: lastHash}},
	}
}

// sealed is the sample with its first two entries moved to two journals.
func sealed() (*v1alpha1.Incident, []v1alpha1.Evidence) {
	incident := sampleIncident()
	timeline := incident.Status.Timeline
	journals := []v1alpha1.Evidence{
		journal("journal-2", 2, 2, timeline[0].Hash, timeline[1].Hash),
		{ObjectMeta: metav1.ObjectMeta{Name: "log"}, Spec: v1alpha1.EvidenceSpec{Type: v1alpha1.EvidenceLog}},
		journal("journal-1", 1, 1, audit.Origin, timeline[0].Hash),
	}
	incident.Status.Audit.SealedSequence, incident.Status.Audit.SealedHash = 2, timeline[1].Hash
	incident.Status.Timeline = timeline[2:]
	return incident, journals
}

func TestVerifyRecord(t *testing.T) {
	for name, test := range map[string]struct {
		bend func(*v1alpha1.Incident, []v1alpha1.Evidence) []v1alpha1.Evidence
		want string // in the problems; empty means intact
	}{
		"whole": {nil, ""},
		"a message was changed": {func(i *v1alpha1.Incident, e []v1alpha1.Evidence) []v1alpha1.Evidence {
			i.Status.Timeline[0].Message = "other"
			return e
		}, "entry 3 was changed"},
		"the last entry is gone": {func(i *v1alpha1.Incident, e []v1alpha1.Evidence) []v1alpha1.Evidence {
			i.Status.Timeline = nil
			return e
		}, "entries were removed"},
		"the head was moved": {func(i *v1alpha1.Incident, e []v1alpha1.Evidence) []v1alpha1.Evidence {
			i.Status.Audit.Sequence = 9
			return e
		}, "the head"},
		"no journal at all":    {func(*v1alpha1.Incident, []v1alpha1.Evidence) []v1alpha1.Evidence { return nil }, "a journal is missing"},
		"the first is missing": {func(_ *v1alpha1.Incident, e []v1alpha1.Evidence) []v1alpha1.Evidence { return e[:2] }, "journal journal-2: it begins with entry 2: it must begin with 1"},
		"the last is missing":  {func(_ *v1alpha1.Incident, e []v1alpha1.Evidence) []v1alpha1.Evidence { return e[1:] }, "the journals end with entry 1, but entries up to 2 were sealed"},
		"journals do not chain": {func(_ *v1alpha1.Incident, e []v1alpha1.Evidence) []v1alpha1.Evidence {
			e[0].Spec.Journal.Previous = strings.Repeat("f", 64)
			return e
		}, "entry 2 chains to ffff"},
		"the seal does not match": {func(_ *v1alpha1.Incident, e []v1alpha1.Evidence) []v1alpha1.Evidence {
			e[0].Spec.Journal.LastHash = strings.Repeat("f", 64)
			return e
		}, "the last sealed entry 2 has hash ffff"},
		"a journal says nothing": {func(_ *v1alpha1.Incident, e []v1alpha1.Evidence) []v1alpha1.Evidence {
			e[0].Spec.Journal = nil
			return e
		}, "does not say which entries"},
		"a doubled journal": {func(_ *v1alpha1.Incident, e []v1alpha1.Evidence) []v1alpha1.Evidence { return append(e, e[0]) }, "missing or doubled"},
		"a crash left one more": {func(i *v1alpha1.Incident, e []v1alpha1.Evidence) []v1alpha1.Evidence {
			return append(e, journal("journal-3", 3, 3, i.Status.Audit.SealedHash, i.Status.Timeline[0].Hash))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			incident, evidence := sealed()
			if test.bend != nil {
				evidence = test.bend(incident, evidence)
			}
			got := verifyRecord(incident, evidence)
			var all []string
			for _, p := range got.Problems {
				all = append(all, p.Where+": "+p.Message)
			}
			text := strings.Join(all, "\n")
			if got.Intact != (test.want == "") || !strings.Contains(text, test.want) {
				t.Errorf("intact %v, problems:\n%s\nwant %q", got.Intact, text, test.want)
			}
		})
	}
}

func TestVerifyRendering(t *testing.T) {
	incident, evidence := sealed()
	s, out, _ := testSession(terminal{})
	s.printVerification(verifyRecord(incident, evidence))
	incident.Status.Timeline[0].Message = hostile
	s.printVerification(verifyRecord(incident, evidence[:2]))
	golden(t, "verify", out.String())
}
