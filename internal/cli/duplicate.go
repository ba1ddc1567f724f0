package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newDuplicateCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	original := ""
	cmd := &cobra.Command{
		Use:   "duplicate INCIDENT --of ORIGINAL --reason TEXT",
		Short: "Say that an incident is about the same as another, which goes on",
		Long: `Say that an incident is about the same as another, the original, which goes on with the events and
objects of both. The duplicate does nothing new. What it has done stands until the original is
contained and has come to its recovery; then it is undone, as far as the original does not need
it, and the duplicate closes by itself, without a lesson.

A wrong mark: detach the events from the original, and promote them. That opens a new incident.`,
		Args:              between(1, 1),
		ValidArgsFunction: s.completeIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			if original == "" {
				return failed("the original is missing", "Name the incident that goes on: --of ORIGINAL")
			}
			namespace, err := s.namespace()
			if err != nil {
				return err
			}
			of, err := s.findIncident(cmd.Context(), namespace, original)
			if err != nil {
				return err
			}
			return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
				spec:           v1alpha1.DecisionSpec{Type: v1alpha1.DecisionMarkDuplicate, IncidentRef: v1alpha1.IncidentReference{Name: of.Name}},
				reasonRequired: true,
				done:           "is a duplicate of " + of.Name,
			})
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	cmd.Flags().StringVar(&original, "of", "", "the incident that goes on, or the end of its name (required)")
	_ = cmd.RegisterFlagCompletionFunc("of", func(cmd *cobra.Command, _ []string, part string) ([]string, cobra.ShellCompDirective) {
		return s.completeIncidents(cmd, nil, part)
	})
	return cmd
}
