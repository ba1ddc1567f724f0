package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func entryAt(at time.Time, message string) v1alpha1.TimelineEntry {
	return v1alpha1.TimelineEntry{
		Time: metav1.NewTime(at), Actor: "jane", Decision: "dec-1", Action: "Approve", Outcome: "Accepted", Step: "ok",
		Resource: "Pod shop/cart", Message: message,
	}
}

func chained(t *testing.T, count int) *v1alpha1.IncidentStatus {
	t.Helper()
	status := &v1alpha1.IncidentStatus{}
	for i := range count {
		if err := Append(status, entryAt(time.Date(2026, 11, 21, 16, 0, i, 123456789, time.UTC), fmt.Sprintf("entry %d", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	return status
}

func TestAppend(t *testing.T) {
	status := chained(t, 3)
	if err := Verify(status); err != nil {
		t.Fatalf("a chain as it was written: %v", err)
	}
	if got := status.Timeline[0].Previous; got != strings.Repeat("0", 64) {
		t.Errorf("the first entry chains to %q, must be 64 zeros", got)
	}
	for i, entry := range status.Timeline {
		if entry.Sequence != int64(i+1) || len(entry.Hash) != 64 {
			t.Errorf("entry %d has sequence %d and hash %q", i, entry.Sequence, entry.Hash)
		}
		if i > 0 && entry.Previous != status.Timeline[i-1].Hash {
			t.Errorf("entry %d does not chain to the one before", i)
		}
	}
	if status.Audit.Sequence != 3 || status.Audit.HeadHash != status.Timeline[2].Hash {
		t.Errorf("the head is %+v", status.Audit)
	}
	if err := Verify(&v1alpha1.IncidentStatus{}); err != nil {
		t.Errorf("an empty timeline: %v", err)
	}
	forged := entryAt(time.Now(), "says itself what it chains to")
	forged.Sequence, forged.Previous, forged.Hash = 99, "nonsense", "nonsense"
	if err := Append(status, forged); err != nil || Verify(status) != nil {
		t.Errorf("Append must fill in the chain itself: %v, %v", err, Verify(status))
	}
}

// TestKnownHash pins the form that is hashed: a chain written by one version must be
// whole for every later one.
func TestKnownHash(t *testing.T) {
	entry := entryAt(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC), `<"grüße" & Co>`)
	entry.Sequence, entry.Previous = 1, Origin
	got, err := HashEntry(entry)
	if err != nil {
		t.Fatal(err)
	}
	// printf of the canonical JSON, piped into sha256sum.
	const want = "8f765c8de76779683f6c2731b6672447ae218352975870a4fe2396db91962474"
	if got != want {
		t.Errorf("hash is %s, want %s", got, want)
	}
}

func TestTampering(t *testing.T) {
	for _, test := range []struct {
		name   string
		tamper func(*v1alpha1.IncidentStatus)
		want   string
	}{
		{"message edited", func(s *v1alpha1.IncidentStatus) { s.Timeline[1].Message = "entry two" }, "entry 2 was changed"},
		{"actor edited", func(s *v1alpha1.IncidentStatus) { s.Timeline[1].Actor = "kim" }, "entry 2 was changed"},
		{"decision edited", func(s *v1alpha1.IncidentStatus) { s.Timeline[1].Decision = "" }, "entry 2 was changed"},
		{"action edited", func(s *v1alpha1.IncidentStatus) { s.Timeline[1].Action = "Reject" }, "entry 2 was changed"},
		{"outcome edited", func(s *v1alpha1.IncidentStatus) { s.Timeline[1].Outcome = "Refused" }, "entry 2 was changed"},
		{"step edited", func(s *v1alpha1.IncidentStatus) { s.Timeline[1].Step = "no" }, "entry 2 was changed"},
		{"resource edited", func(s *v1alpha1.IncidentStatus) { s.Timeline[1].Resource = "Pod shop/other" }, "entry 2 was changed"},
		{"text moved between fields", func(s *v1alpha1.IncidentStatus) {
			s.Timeline[1].Step, s.Timeline[1].Outcome = s.Timeline[1].Outcome, s.Timeline[1].Step
		}, "entry 2 was changed"},
		{"time moved by a second", func(s *v1alpha1.IncidentStatus) { s.Timeline[1].Time.Time = s.Timeline[1].Time.Add(time.Second) }, "entry 2 was changed"},
		{"hash edited", func(s *v1alpha1.IncidentStatus) { s.Timeline[1].Hash = Origin }, "entry 2 was changed"},
		{"edited and hashed again", func(s *v1alpha1.IncidentStatus) {
			s.Timeline[1].Message = "entry two"
			s.Timeline[1].Hash, _ = HashEntry(s.Timeline[1])
		}, "entry 3 chains to"},
		{"last edited and hashed again", func(s *v1alpha1.IncidentStatus) {
			s.Timeline[3].Message = "entry four"
			s.Timeline[3].Hash, _ = HashEntry(s.Timeline[3])
		}, "the head says entry 4"},
		{"previous edited", func(s *v1alpha1.IncidentStatus) { s.Timeline[2].Previous = Origin }, "entry 3 chains to " + Origin},
		{"one dropped", func(s *v1alpha1.IncidentStatus) { s.Timeline = append(s.Timeline[:1], s.Timeline[2:]...) }, "after entry 1 comes entry 3"},
		{"first dropped", func(s *v1alpha1.IncidentStatus) { s.Timeline = s.Timeline[1:] }, "after entry 0 comes entry 2"},
		{"first dropped and said to be sealed", func(s *v1alpha1.IncidentStatus) {
			s.Timeline, s.Audit.SealedSequence = s.Timeline[1:], 1
		}, "entry 2 chains to"},
		{"truncated", func(s *v1alpha1.IncidentStatus) { s.Timeline = s.Timeline[:2] }, "the head says entry 4"},
		{"emptied", func(s *v1alpha1.IncidentStatus) { s.Timeline = nil }, "the head says entry 4"},
		{"one dropped and renumbered", func(s *v1alpha1.IncidentStatus) {
			s.Timeline = append(s.Timeline[:1], s.Timeline[2:]...)
			s.Timeline[1].Sequence, s.Timeline[2].Sequence = 2, 3
		}, "entry 2 chains to"},
		{"reordered", func(s *v1alpha1.IncidentStatus) { s.Timeline[1], s.Timeline[2] = s.Timeline[2], s.Timeline[1] }, "after entry 1 comes entry 3"},
		{"repeated", func(s *v1alpha1.IncidentStatus) { s.Timeline = append(s.Timeline, s.Timeline[3]) }, "after entry 4 comes entry 4"},
		{"one put in", func(s *v1alpha1.IncidentStatus) {
			forged := entryAt(time.Now(), "forged")
			forged.Sequence, forged.Previous = 5, s.Timeline[3].Hash
			forged.Hash, _ = HashEntry(forged)
			s.Timeline = append(s.Timeline, forged)
		}, "the head says entry 4"},
		{"head's hash changed", func(s *v1alpha1.IncidentStatus) { s.Audit.HeadHash = s.Timeline[2].Hash }, "the head says entry 4"},
		{"head's sequence changed", func(s *v1alpha1.IncidentStatus) { s.Audit.Sequence = 5 }, "the head says entry 5"},
		{"head removed", func(s *v1alpha1.IncidentStatus) { s.Audit = v1alpha1.IncidentAudit{} }, "the head says entry 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status := chained(t, 4)
			test.tamper(status)
			if err := Verify(status); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}
}

// TestSealed moves the oldest entries away, as sealing does: both parts stay chains.
func TestSealed(t *testing.T) {
	status := chained(t, 10)
	seal := func(count int) []v1alpha1.TimelineEntry {
		sealed := append([]v1alpha1.TimelineEntry(nil), status.Timeline[:count]...)
		status.Audit.SealedSequence, status.Audit.SealedHash = sealed[count-1].Sequence, sealed[count-1].Hash
		status.Timeline = status.Timeline[count:]
		return sealed
	}
	journal := seal(6)
	if err := VerifyEntries(journal, Origin, 0); err != nil {
		t.Errorf("the journal: %v", err)
	}
	if err := Verify(status); err != nil {
		t.Errorf("what is left: %v", err)
	}
	second := seal(4)
	if err := VerifyEntries(second, journal[5].Hash, 6); err != nil {
		t.Errorf("the second journal: %v", err)
	}
	if err := Verify(status); err != nil {
		t.Errorf("with all sealed: %v", err)
	}
	if err := Append(status, entryAt(time.Now(), "after it")); err != nil || Verify(status) != nil {
		t.Errorf("an entry after all were sealed: %v, %v", err, Verify(status))
	}
	if got := status.Timeline[0].Sequence; got != 11 {
		t.Errorf("its sequence is %d, want 11", got)
	}
	status.Audit.SealedHash = journal[0].Hash
	if err := Verify(status); err == nil {
		t.Error("a changed seal must show")
	}
}

// TestRoundTrip stores a chain as the API server does and reads it back: times lose
// what is below a second and their zone, and the hashes must stand.
func TestRoundTrip(t *testing.T) {
	status := &v1alpha1.IncidentStatus{}
	berlin := time.FixedZone("CET", 3600)
	for _, at := range []time.Time{
		time.Date(2026, 11, 21, 16, 0, 0, 999999999, time.UTC), time.Date(2026, 11, 21, 17, 0, 1, 1, berlin), time.Now(), {},
	} {
		if err := Append(status, entryAt(at, "a message with <html> & \"quotes\", grüße, \u2028 and \x01")); err != nil {
			t.Fatal(err)
		}
	}
	stored := roundTrip(t, status)
	if err := Verify(stored); err != nil {
		t.Errorf("after it was stored: %v", err)
	}
	if err := Append(stored, entryAt(time.Now(), "goes on")); err != nil || Verify(roundTrip(t, stored)) != nil {
		t.Errorf("what goes on after it was stored: %v, %v", err, Verify(roundTrip(t, stored)))
	}
}

func roundTrip(t interface{ Fatalf(string, ...any) }, status *v1alpha1.IncidentStatus) *v1alpha1.IncidentStatus {
	raw, err := json.Marshal(status)
	if err != nil {
		t.Fatalf("marshalling: %v", err)
	}
	read := &v1alpha1.IncidentStatus{}
	if err := json.Unmarshal(raw, read); err != nil {
		t.Fatalf("unmarshalling: %v", err)
	}
	return read
}

func genEntry(t *rapid.T) v1alpha1.TimelineEntry {
	text := func(name string) string {
		if rapid.IntRange(0, 9).Draw(t, name+" of bytes") == 0 {
			return string(rapid.SliceOfN(rapid.Byte(), 0, 30).Draw(t, name)) // an executor's message may be no UTF-8
		}
		return rapid.StringN(0, 30, -1).Draw(t, name)
	}
	return v1alpha1.TimelineEntry{
		Time:  metav1.NewTime(time.Unix(rapid.Int64Range(0, 4102444800).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds"))),
		Actor: text("actor"), Decision: text("decision"), Action: text("action"), Outcome: text("outcome"), Step: text("step"),
		Resource: text("resource"), Message: text("message"),
	}
}

// TestChainProperties checks that any chain verifies, also after it was stored, and that
// no single change goes unseen.
func TestChainProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		status := &v1alpha1.IncidentStatus{}
		for _, batch := range rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(genEntry), 0, 4), 1, 5).Draw(t, "batches") {
			if err := Append(status, batch...); err != nil {
				t.Fatalf("appending: %v", err)
			}
			status = roundTrip(t, status)
		}
		if err := Verify(status); err != nil {
			t.Fatalf("a chain as it was written: %v", err)
		}
		count := len(status.Timeline)
		if count == 0 {
			return
		}
		forged := status.DeepCopy()
		at := rapid.IntRange(0, count-1).Draw(t, "at")
		switch rapid.IntRange(0, 3).Draw(t, "change") {
		case 0:
			forged.Timeline[at].Message += "x"
		case 1:
			forged.Timeline = append(forged.Timeline[:at], forged.Timeline[at+1:]...)
		case 2:
			to := rapid.IntRange(0, count-1).Draw(t, "to")
			forged.Timeline[at], forged.Timeline[to] = forged.Timeline[to], forged.Timeline[at]
		default:
			other := genEntry(t)
			other.Sequence, other.Previous, other.Hash = forged.Timeline[at].Sequence, forged.Timeline[at].Previous, forged.Timeline[at].Hash
			forged.Timeline[at] = other
		}
		forged = roundTrip(t, forged)
		if cmp.Equal(status, forged) {
			return // nothing was changed
		}
		if err := Verify(forged); err == nil {
			t.Fatalf("a change goes unseen:\n%s", cmp.Diff(status, forged))
		}
	})
}
