package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
)

// retentionVerification is what verify --retention found, as -o json prints it.
type retentionVerification struct {
	Namespace string `json:"namespace"`
	Intact    bool   `json:"intact"`
	// Journals is how many there are, Removed how many removals they name. Of those that a clock
	// which was ahead has made nothing was deleted: they are named once more when they are.
	Journals int    `json:"journals"`
	Removed  int64  `json:"removed"`
	LastHash string `json:"lastHash,omitempty"`
	// Read is of how many journals the bytes were read, too.
	Read     int       `json:"read"`
	Problems []problem `json:"problems"`
}

// verifyRetention checks that the journals of what the plan's retention has deleted follow
// each other and end where the plan says, and with a copy of the store what is in them.
func (s *session) verifyRetention(ctx context.Context, output, store string) error {
	if err := checkOutput(output, outputJSON, outputYAML); err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	api, err := s.client()
	if err != nil {
		return err
	}
	list := &v1alpha1.EvidenceList{}
	if err := api.List(ctx, list, client.InNamespace(namespace), client.HasLabels{v1alpha1.LabelJournal}); err != nil {
		return explain(err, "list the retention journals "+where(namespace))
	}
	plan := &v1alpha1.ResponsePlan{}
	err = api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.ResponsePlanName}, plan)
	if client.IgnoreNotFound(err) != nil {
		return explain(err, "read where the retention journals end, the plan "+where(namespace))
	}
	found := verifyRemovals(namespace, list.Items, plan.Status.Retention)
	if store != "" {
		if err := found.readFrom(store, list.Items); err != nil {
			return err
		}
	}
	if output != "" {
		if err := printObjects(s.Out, output, found); err != nil {
			return err
		}
	} else {
		s.printRetention(found)
	}
	if !found.Intact {
		return &failure{code: ExitRefused, message: fmt.Sprintf("The record of what retention has deleted is BROKEN: %s.", plural(len(found.Problems), "problem"))}
	}
	return nil
}

func verifyRemovals(namespace string, evidence []v1alpha1.Evidence, noted v1alpha1.RetentionHead) retentionVerification {
	v := retentionVerification{Namespace: namespace, Problems: []problem{}}
	var journals []*v1alpha1.Evidence
	for i := range evidence {
		if evidence[i].Spec.Type == v1alpha1.EvidenceRetentionJournal {
			journals = append(journals, &evidence[i])
		}
	}
	v.Journals = len(journals)
	v.Problems = append(v.Problems, verifyJournals(&v1alpha1.IncidentAudit{}, journals)...)
	if v.Journals > 0 { // they are in order now
		if last := journals[v.Journals-1].Spec.Journal; last != nil {
			v.Removed, v.LastHash = last.LastSequence, last.LastHash
		}
	}
	v.Problems = append(v.Problems, verifyHead(journals, noted)...)
	v.Intact = len(v.Problems) == 0
	return v
}

// verifyHead checks that journals go on to where the plan says that they have ended. They may go on
// further: what a crash kept from being noted, or was deleted when there was no plan's status yet.
func verifyHead(journals []*v1alpha1.Evidence, noted v1alpha1.RetentionHead) []problem {
	if noted.Sequence == 0 {
		return nil
	}
	last, ends := int64(0), false
	for _, journal := range journals {
		part := journal.Spec.Journal
		if part == nil {
			continue
		}
		last = max(last, part.LastSequence)
		if part.LastSequence != noted.Sequence {
			continue
		}
		ends = true
		if part.LastHash != noted.Hash {
			return []problem{{"journal " + journal.Name, fmt.Sprintf("it ends with hash %s, but the plan's `status.retention` says %s: it was exchanged", part.LastHash, noted.Hash)}}
		}
	}
	if last < noted.Sequence {
		return []problem{{"journals", fmt.Sprintf("they end with removal %d, but the plan's `status.retention` says %d: the last ones were taken away", last, noted.Sequence)}}
	}
	if !ends { // each end that was noted is that of a journal
		return []problem{{"journals", fmt.Sprintf("none ends with removal %d, but the plan's `status.retention` says that one has: what is there was exchanged", noted.Sequence)}}
	}
	return nil
}

// readFrom checks the bytes of journals in a copy of the store.
func (v *retentionVerification) readFrom(store string, evidence []v1alpha1.Evidence) error {
	root, err := os.OpenRoot(store)
	if err != nil {
		return failed(fmt.Sprintf("the store %s must be a directory that can be read: %v", store, err))
	}
	defer func() { _ = root.Close() }()
	for i := range evidence {
		journal := &evidence[i]
		if journal.Spec.Type != v1alpha1.EvidenceRetentionJournal || journal.Spec.Journal == nil {
			continue
		}
		if err := readJournal(root, journal); err != nil {
			v.Problems = append(v.Problems, problem{"journal " + journal.Name, err.Error()})
			continue
		}
		v.Read++
	}
	v.Intact = len(v.Problems) == 0
	return nil
}

// readJournal checks the bytes of a journal, which are as many as its Evidence says.
func readJournal(root *os.Root, journal *v1alpha1.Evidence) error {
	if journal.Status.Location == "" {
		return errors.New("it does not say where its bytes are")
	}
	file, err := root.Open(filepath.FromSlash(journal.Status.Location))
	if err != nil {
		return fmt.Errorf("its bytes cannot be read: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, ptr.Deref(journal.Spec.SizeBytes, 0)+1))
	if err != nil {
		return fmt.Errorf("its bytes cannot be read: %w", err)
	}
	sum := sha256.Sum256(text)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != journal.Spec.Digest {
		return fmt.Errorf("its bytes were changed: they have digest %s, but must have %s", got, journal.Spec.Digest)
	}
	return audit.VerifyRemovals(bytes.NewReader(text), journal.Spec.Journal)
}

func (s *session) printRetention(v retentionVerification) {
	if v.Journals == 0 && v.Intact {
		fmt.Fprintf(s.Out, "Retention has deleted nothing in %s, or its journals were taken away.\n", clean(v.Namespace))
		return
	}
	read := "their bytes are not read"
	if v.Read > 0 {
		read = fmt.Sprintf("the bytes of %d were read", v.Read)
	}
	fmt.Fprintf(s.Out, "What retention has journaled in %s names %s; %s, the last ends with hash %s (%s)\n",
		clean(v.Namespace), plural(int(v.Removed), "removal"), plural(v.Journals, "journal"), clean(v.LastHash), read)
	if v.Intact {
		fmt.Fprintln(s.Out, s.style.green("The journals are one chain without a gap."))
		return
	}
	for _, p := range v.Problems {
		fmt.Fprintf(s.Out, "  %s %s: %s\n", s.style.red("BROKEN"), clean(p.Where), clean(p.Message))
	}
}
