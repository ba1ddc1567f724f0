package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newNoteCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:               "note INCIDENT TEXT...",
		Short:             "Add a note to the timeline",
		Args:              between(2, 1000),
		ValidArgsFunction: s.completeIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.reason = strings.Join(args[1:], " ")
			return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
				spec:           v1alpha1.DecisionSpec{Type: v1alpha1.DecisionNote},
				reasonRequired: true,
				done:           "has your note",
			})
		},
	}
	f.add(cmd, "")
	return cmd
}
