package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newDismissCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:               "dismiss EVENT --reason TEXT",
		Short:             "Say that an event is not an incident",
		Args:              between(1, 1),
		ValidArgsFunction: s.completeEvents,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.decideEvent(cmd.Context(), f, args[0], v1alpha1.DecisionSpec{Type: v1alpha1.DecisionDismiss}, "is dismissed")
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	return cmd
}
