package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// storedJournal is a journal as version 0.1 has written it. It is never written anew: what it
// was is what must be read for ever.
func storedJournal(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/retention-journal.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAStoredJournalIsReadForEver: whatever the types become, what was written by them stays whole.
func TestAStoredJournalIsReadForEver(t *testing.T) {
	read, err := ReadRemovals(bytes.NewReader(storedJournal(t)), 0, Origin)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]string, 0, len(read))
	for i := range read {
		got = append(got, read[i].Kind+" "+read[i].Name+" with "+read[i].With+" because of "+read[i].Because)
	}
	want := []string{
		"SecurityEvent sev-falco-1 with inc-1 because of retention.closedIncidents: 26280h0m0s",
		"Decision the-end with inc-1 because of retention.closedIncidents: 26280h0m0s",
		"Evidence inc-1-log with inc-1 because of retention.closedIncidents: 26280h0m0s",
		"Incident inc-1 with  because of retention.closedIncidents: 26280h0m0s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if read[0].Event.SubmittedBy != "falco" || read[1].Decision.By != "jane" || read[2].Evidence.Digest != "sha256:"+strings.Repeat("1", 64) ||
		read[3].Incident.Occurrences != 9007199254740993 || read[3].Incident.Mode != v1alpha1.ModeDrill || len(read[3].Incident.Timeline) != 2 {
		t.Errorf("got %+v", read)
	}
}

// TestWhatALaterVersionWritesIsRead has a version write what this one does not know, and leave out
// what this one has.
func TestWhatALaterVersionWritesIsRead(t *testing.T) {
	first, _, _ := strings.Cut(string(storedJournal(t)), "\n")
	members := map[string]any{}
	decoder := json.NewDecoder(strings.NewReader(first))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		t.Fatal(err)
	}
	delete(members, "hash")
	members["reviewedBy"] = "joe <joe@example.com>"
	event, _ := members["event"].(map[string]any)
	event["assessment"].(map[string]any)["confidence"] = json.Number("0.75")
	delete(event, "title")
	hash, err := hashOf(members)
	if err != nil {
		t.Fatal(err)
	}
	members["hash"] = hash
	line, err := canonical(members)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := ReadRemovals(bytes.NewReader(line), 0, Origin); err != nil || len(read) != 1 || read[0].Name != "sev-falco-1" || read[0].Hash != hash {
		t.Errorf("got %+v, %v", read, err)
	}
	for _, edit := range [][2]string{{"joe@", "jim@"}, {"0.75", "0.5"}, {`"reviewedBy"`, `"reviewedBx"`}} {
		edited := strings.Replace(string(line), edit[0], edit[1], 1)
		if _, err := ReadRemovals(strings.NewReader(edited), 0, Origin); edited == string(line) || err == nil || !strings.Contains(err.Error(), "removal 1 was changed") {
			t.Errorf("%q instead of %q: got %v", edit[1], edit[0], err)
		}
	}
}

// TestVerifyRemovals checks what is in a journal of the end of a timeline, whatever was chained.
func TestVerifyRemovals(t *testing.T) {
	text := storedJournal(t)
	read, err := ReadRemovals(bytes.NewReader(text), 0, Origin)
	if err != nil {
		t.Fatal(err)
	}
	whole := v1alpha1.JournalRange{FirstSequence: 1, LastSequence: 4, Previous: Origin, LastHash: read[3].Hash}
	if err := VerifyRemovals(bytes.NewReader(text), &whole); err != nil {
		t.Error(err)
	}
	short := whole
	short.LastSequence = 3
	if err := VerifyRemovals(bytes.NewReader(text), &short); err == nil || !strings.Contains(err.Error(), "it must end with 3") {
		t.Errorf("it is longer than it should be: %v", err)
	}
	for name, test := range map[string]struct {
		edit func(*RemovedIncident)
		want string
	}{
		"an entry says another thing": {func(i *RemovedIncident) { i.Timeline[0].Message = "nothing" }, "entry 2 was changed"},
		"the first is not there":      {func(i *RemovedIncident) { i.Timeline = i.Timeline[1:] }, "after entry 1 comes entry 3"},
		"the last is not there":       {func(i *RemovedIncident) { i.Timeline = i.Timeline[:1] }, "the head says entry 3"},
		"another was sealed":          {func(i *RemovedIncident) { i.Audit.SealedHash = Origin }, "entry 2 chains to"},
		"none was taken down":         {func(i *RemovedIncident) { i.Timeline = nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			again, err := ReadRemovals(bytes.NewReader(text), 0, Origin)
			if err != nil {
				t.Fatal(err)
			}
			test.edit(again[3].Incident)
			forged, err := ChainRemovals(again, 0, Origin) // a chain, as whoever can write all of it makes one
			if err != nil {
				t.Fatal(err)
			}
			part := v1alpha1.JournalRange{FirstSequence: 1, LastSequence: 4, Previous: Origin, LastHash: again[3].Hash}
			err = VerifyRemovals(bytes.NewReader(forged), &part)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
