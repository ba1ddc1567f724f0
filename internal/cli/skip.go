package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newSkipCommand(s *session) *cobra.Command {
	return newStepCommand(s, stepCommand{
		use:            "skip INCIDENT STEP --reason TEXT",
		short:          "Go on without a step",
		long:           "Go on without a step. The reason waives it, and is part of the record.",
		kind:           v1alpha1.DecisionSkipStep,
		roleOf:         []v1alpha1.AwaitingType{v1alpha1.AwaitingTask},
		reason:         reasonFlag + " (required)",
		reasonRequired: true,
		done:           "step %s is skipped",
	})
}
