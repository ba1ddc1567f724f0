package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/audit"
)

const verifyLong = `Check that the record of an incident is whole: that the entries of its timeline form one
chain of hashes without a gap, that the chain continues from the journals that older
entries were sealed into, and that it ends where the incident says. With --retention: that
the journals of what the plan's retention has deleted form one chain, which ends where the
plan's status says. With --store, a copy of the directory in which the manager keeps the
bytes of evidence, also what is in them is checked: each removal, and the end of the
timeline of each incident.

Exit code: 0 whole, 1 broken (it says where), 2 it could not be checked.`

// verification is what verify found, as -o json prints it.
type verification struct {
	Incident  string `json:"incident"`
	Namespace string `json:"namespace"`
	// Mode is 'Drill' for an exercise, and absent for the real thing.
	Mode   v1alpha1.Mode `json:"mode,omitempty"`
	Intact bool          `json:"intact"`
	// Entries is how many entries are in the timeline; FirstSequence and HeadSequence say which.
	Entries       int    `json:"entries"`
	FirstSequence int64  `json:"firstSequence"`
	HeadSequence  int64  `json:"headSequence"`
	HeadHash      string `json:"headHash"`
	// Journals is how many journals hold entries 1 to SealedSequence.
	Journals       int   `json:"journals"`
	SealedSequence int64 `json:"sealedSequence"`
	// ProjectedSequence is the last entry that was published as a Kubernetes Event.
	// EventsFound is how many are still there: Kubernetes forgets them, usually after an
	// hour. -1 means that they cannot be read. Both prove nothing.
	ProjectedSequence int64     `json:"projectedSequence"`
	EventsFound       int       `json:"eventsFound"`
	Problems          []problem `json:"problems"`
}

// problem is one place where the record is broken.
type problem struct {
	Where   string `json:"where"`
	Message string `json:"message"`
}

func newVerifyCommand(s *session) *cobra.Command {
	output, retention, store := "", false, ""
	cmd := &cobra.Command{
		Use:               "verify (INCIDENT | --retention)",
		Short:             "Check that the record of an incident is whole",
		Long:              verifyLong,
		Args:              between(0, 1),
		ValidArgsFunction: s.completeIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			if retention == (len(args) == 1) {
				return failed("it must be either an incident or --retention: "+cmd.UseLine(), "Help: "+cmd.CommandPath()+" --help")
			}
			if store != "" && !retention {
				return failed("--store must be given with --retention only", "Help: "+cmd.CommandPath()+" --help")
			}
			if retention {
				return s.verifyRetention(cmd.Context(), output, store)
			}
			return s.verify(cmd.Context(), output, args[0])
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml")
	cmd.Flags().BoolVar(&retention, "retention", false, "check what was kept of what the plan's retention has deleted")
	cmd.Flags().StringVar(&store, "store", "", "with --retention: a copy of the evidence store's directory, to check what is in the journals")
	return cmd
}

func (s *session) verify(ctx context.Context, output, name string) error {
	if err := checkOutput(output, outputJSON, outputYAML); err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	incident, err := s.findIncident(ctx, namespace, name)
	if err != nil {
		return err
	}
	api, err := s.client()
	if err != nil {
		return err
	}
	evidence := &v1alpha1.EvidenceList{}
	// Journals are part of the record: without them nothing can be said about a sealed timeline.
	err = api.List(ctx, evidence, client.InNamespace(namespace), client.MatchingFields{"spec.incidentRef.name": incident.Name})
	if err != nil && incident.Status.Audit.SealedSequence > 0 {
		return explain(err, "list the journals of "+incident.Name)
	}
	found := verifyRecord(incident, evidence.Items)
	found.EventsFound = s.countEvents(ctx, incident)
	if output != "" {
		if err := printObjects(s.Out, output, found); err != nil {
			return err
		}
	} else {
		s.printVerification(found)
	}
	if !found.Intact {
		return &failure{code: ExitRefused, message: fmt.Sprintf("The record of %s is BROKEN: %s.", incident.Name, plural(len(found.Problems), "problem"))}
	}
	return nil
}

// verifyRecord checks the chain and how it continues from the journals.
func verifyRecord(incident *v1alpha1.Incident, evidence []v1alpha1.Evidence) verification {
	status := &incident.Status
	v := verification{
		Incident: incident.Name, Namespace: incident.Namespace, Mode: onlyDrill(incident.Spec.Mode),
		Entries: len(status.Timeline), HeadSequence: status.Audit.Sequence, HeadHash: status.Audit.HeadHash,
		SealedSequence: status.Audit.SealedSequence, ProjectedSequence: status.Audit.ProjectedSequence,
		Problems: []problem{},
	}
	if len(status.Timeline) > 0 {
		v.FirstSequence = status.Timeline[0].Sequence
	}
	if err := audit.Verify(status); err != nil {
		v.Problems = append(v.Problems, problem{"timeline", err.Error()})
	}
	var journals []*v1alpha1.Evidence
	for i := range evidence {
		if evidence[i].Spec.Type == v1alpha1.EvidenceJournal {
			journals = append(journals, &evidence[i])
		}
	}
	v.Journals = len(journals)
	v.Problems = append(v.Problems, verifyJournals(&status.Audit, journals)...)
	v.Intact = len(v.Problems) == 0
	return v
}

// verifyJournals checks that the journals follow each other from entry 1 to the last
// one sealed. What is in them is checked by whoever reads their bytes.
func verifyJournals(head *v1alpha1.IncidentAudit, journals []*v1alpha1.Evidence) []problem {
	var problems []problem
	broken := func(where, format string, args ...any) {
		problems = append(problems, problem{where, fmt.Sprintf(format, args...)})
	}
	slices.SortStableFunc(journals, func(a, b *v1alpha1.Evidence) int {
		return cmp.Or(cmp.Compare(firstOf(a), firstOf(b)), cmp.Compare(a.Name, b.Name))
	})
	sequence, hash := int64(0), audit.Origin
	for _, journal := range journals {
		where, part := "journal "+journal.Name, journal.Spec.Journal
		if part == nil {
			broken(where, "it does not say which entries it holds")
			continue
		}
		if part.FirstSequence != sequence+1 {
			broken(where, "it begins with entry %d: it must begin with %d, a journal is missing or doubled", part.FirstSequence, sequence+1)
		} else if part.Previous != hash {
			broken(where, "entry %d chains to %s, but entry %d has hash %s", part.FirstSequence, part.Previous, sequence, hash)
		}
		if part.LastSequence < part.FirstSequence {
			broken(where, "it ends with entry %d before it begins with %d", part.LastSequence, part.FirstSequence)
		}
		sequence, hash = part.LastSequence, part.LastHash
	}
	sealed := cmp.Or(head.SealedHash, audit.Origin)
	switch {
	case sequence < head.SealedSequence:
		broken("journals", "the journals end with entry %d, but entries up to %d were sealed: a journal is missing", sequence, head.SealedSequence)
	case sequence == head.SealedSequence && hash != sealed:
		broken("journals", "the last sealed entry %d has hash %s in the journals, but the timeline continues from %s", sequence, hash, sealed)
	}
	// A journal beyond what is sealed is one that a crash kept from being noted: it is written first.
	return problems
}

func firstOf(journal *v1alpha1.Evidence) int64 {
	if journal.Spec.Journal == nil {
		return 0
	}
	return journal.Spec.Journal.FirstSequence
}

// countEvents counts the Kubernetes Events about the incident; -1 when they cannot be read.
func (s *session) countEvents(ctx context.Context, incident *v1alpha1.Incident) int {
	api, err := s.client()
	if err != nil {
		return -1
	}
	events := &corev1.EventList{}
	if err := api.List(ctx, events, client.InNamespace(incident.Namespace),
		client.MatchingFields{"involvedObject.kind": "Incident", "involvedObject.name": incident.Name}); err != nil {
		return -1
	}
	return len(events.Items)
}

func (s *session) printVerification(v verification) {
	t := &table{indent: "  "}
	row := func(name, value string) { t.add(cell{name, s.style.dim}, plain(clean(value))) }
	fmt.Fprintf(s.Out, "%s in %s\n", marked(v.Mode, v.Incident), v.Namespace)
	entries := "no entries"
	if v.Entries > 0 {
		entries = fmt.Sprintf("%s, %d to %d", plural(v.Entries, "entry"), v.FirstSequence, v.FirstSequence+int64(v.Entries)-1)
	}
	row("Timeline", entries)
	if v.HeadHash != "" {
		row("Head", fmt.Sprintf("entry %d, %s", v.HeadSequence, v.HeadHash))
	}
	if v.SealedSequence > 0 || v.Journals > 0 {
		row("Journals", fmt.Sprintf("%d, entries 1 to %d (their ranges; their bytes are not read)", v.Journals, v.SealedSequence))
	}
	events := fmt.Sprintf("published up to entry %d, %d still kept by Kubernetes", v.ProjectedSequence, v.EventsFound)
	if v.EventsFound < 0 {
		events = fmt.Sprintf("published up to entry %d; you may not list them", v.ProjectedSequence)
	}
	row("Events", events)
	t.write(s.Out, s.style, 0)
	if v.Intact && v.Journals > 0 {
		fmt.Fprintln(s.Out, s.style.green("The record is whole as far as it is here: one chain, no gap, nothing changed; the bytes of its journals were not read."))
		return
	}
	if v.Intact {
		fmt.Fprintln(s.Out, s.style.green("The record is whole: one chain, no gap, nothing changed."))
		return
	}
	for _, p := range v.Problems {
		fmt.Fprintf(s.Out, "  %s %s: %s\n", s.style.red("BROKEN"), clean(p.Where), clean(p.Message))
	}
}
