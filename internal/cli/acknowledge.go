package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newAcknowledgeCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:               "acknowledge INCIDENT",
		Aliases:           []string{"ack"},
		Short:             "Say: I am on it",
		Args:              between(1, 1),
		ValidArgsFunction: s.completeIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
				spec: v1alpha1.DecisionSpec{Type: v1alpha1.DecisionAcknowledge},
				done: "is acknowledged: you are on it",
			})
		},
	}
	f.add(cmd, "a remark; it becomes part of the record")
	return cmd
}
