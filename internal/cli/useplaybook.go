package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newUsePlaybookCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:   "use-playbook INCIDENT PLAYBOOK --reason TEXT",
		Short: "Answer with another playbook",
		Long: "Answer with another playbook. It must be done before any step of the one before has had an effect;\n" +
			"an incident that names no playbook can be given one at any time before its review.",
		Args: between(2, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return s.completePlaybooks(cmd, args, part)
			}
			return s.completeIncidents(cmd, args, part)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
				spec:           v1alpha1.DecisionSpec{Type: v1alpha1.DecisionUsePlaybook, PlaybookRef: v1alpha1.PlaybookReference{Name: args[1]}},
				reasonRequired: true,
				done:           "is answered by playbook " + args[1] + " from now on",
			})
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	return cmd
}
