package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newResumeCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:               "resume [INCIDENT]",
		Short:             "Let the automation go on",
		Long:              "Let the automation go on: of the whole response domain, or of one incident when it is named.",
		Args:              between(0, 1),
		ValidArgsFunction: s.completeIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
					spec:    v1alpha1.DecisionSpec{Type: v1alpha1.DecisionResume},
					awaited: []v1alpha1.AwaitingType{v1alpha1.AwaitingResume},
					done:    "goes on",
				})
			}
			return s.decideDomain(cmd.Context(), f, v1alpha1.DecisionResumeAutomation)
		},
	}
	f.add(cmd, reasonFlag)
	return cmd
}
