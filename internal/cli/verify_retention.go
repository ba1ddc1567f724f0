package cli

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// retentionVerification is what verify --retention found, as -o json prints it.
type retentionVerification struct {
	Namespace string `json:"namespace"`
	Intact    bool   `json:"intact"`
	// Journals is how many there are, Removed how many deleted objects they account for.
	Journals int       `json:"journals"`
	Removed  int64     `json:"removed"`
	LastHash string    `json:"lastHash,omitempty"`
	Problems []problem `json:"problems"`
}

// verifyRetention checks that the journals of what the plan's retention has deleted follow
// each other.
func (s *session) verifyRetention(ctx context.Context, output string) error {
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
	found := verifyRemovals(namespace, list.Items)
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

func verifyRemovals(namespace string, evidence []v1alpha1.Evidence) retentionVerification {
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
	v.Intact = len(v.Problems) == 0
	return v
}

func (s *session) printRetention(v retentionVerification) {
	if v.Journals == 0 {
		fmt.Fprintf(s.Out, "Retention has deleted nothing in %s, or its journals were taken away.\n", clean(v.Namespace))
		return
	}
	fmt.Fprintf(s.Out, "Retention has deleted %s in %s; %s, the last ends with hash %s (their bytes are not read)\n",
		plural(int(v.Removed), "object"), clean(v.Namespace), plural(v.Journals, "journal"), clean(v.LastHash))
	if v.Intact {
		fmt.Fprintln(s.Out, s.style.green("The journals are one chain without a gap."))
		return
	}
	for _, p := range v.Problems {
		fmt.Fprintf(s.Out, "  %s %s: %s\n", s.style.red("BROKEN"), clean(p.Where), clean(p.Message))
	}
}
