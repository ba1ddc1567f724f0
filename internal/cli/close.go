package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var resolutions = []v1alpha1.Resolution{v1alpha1.ResolutionResolved, v1alpha1.ResolutionFalsePositive, v1alpha1.ResolutionAcceptedRisk}

func newCloseCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	resolution := ""
	cmd := &cobra.Command{
		Use:   "close INCIDENT --resolution RESOLUTION --reason TEXT",
		Short: "Close an incident",
		Long: `Close an incident. What still stands in the way is listed when it is refused.

  Resolved       it happened, and it is over
  FalsePositive  it was none: what was done is undone
  AcceptedRisk   it is left as it is, for the reason given`,
		Args:              between(1, 1),
		ValidArgsFunction: s.completeIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			if resolution == "" {
				return failed("the resolution is missing", "Say how it ended: --resolution "+oneOf(resolutions))
			}
			chosen, err := choose("the resolution", resolution, resolutions)
			if err != nil {
				return err
			}
			return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
				spec:           v1alpha1.DecisionSpec{Type: v1alpha1.DecisionClose, Resolution: chosen},
				awaited:        []v1alpha1.AwaitingType{v1alpha1.AwaitingClose},
				reasonRequired: true,
				done:           "closes as " + string(chosen),
			})
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	cmd.Flags().StringVar(&resolution, "resolution", "", "how it ended: "+oneOf(resolutions)+" (required)")
	_ = cmd.RegisterFlagCompletionFunc("resolution", cobra.FixedCompletions(enumNames(resolutions), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
