package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newConfirmCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:               "confirm INCIDENT",
		Short:             "Say that it is an incident",
		Long:              "Say that it is an incident. Where its `confirm` is 'Required', it is contained before that, but not eradicated.",
		Args:              between(1, 1),
		ValidArgsFunction: s.completeIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
				spec: v1alpha1.DecisionSpec{Type: v1alpha1.DecisionConfirm},
				done: "is confirmed",
			})
		},
	}
	f.add(cmd, reasonFlag)
	return cmd
}

var determinationOutcomes = []v1alpha1.DeterminationOutcome{
	v1alpha1.DeterminationSuspected, v1alpha1.DeterminationConfirmed, v1alpha1.DeterminationExcluded,
}

func newDetermineCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:   "determine INCIDENT NAME OUTCOME --reason TEXT",
		Short: "Say what was found, such as that personal data was lost",
		Long: "Say what was found about a question on which duties hang. OUTCOME is one of " + oneOf(determinationOutcomes) + ".\n\n" +
			"  kubectl firebreak determine k7f2a personal-data-breach excluded --reason \"only test data\"",
		Args: between(3, 3),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 2 {
				return enumNames(determinationOutcomes), cobra.ShellCompDirectiveNoFileComp
			}
			return s.completeIncidents(cmd, args, part)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			outcome, err := choose("the outcome", args[2], determinationOutcomes)
			if err != nil {
				return err
			}
			return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
				spec:           v1alpha1.DecisionSpec{Type: v1alpha1.DecisionDetermine, Determination: v1alpha1.Determination{Name: args[1], Outcome: outcome}},
				reasonRequired: true,
				done:           "has " + args[1] + " " + string(outcome),
			})
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	return cmd
}
