package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newRejectCommand(s *session) *cobra.Command {
	return newStepCommand(s, stepCommand{
		use:            "reject INCIDENT [STEP] --reason TEXT",
		short:          "Say no to a step that waits for approval",
		long:           "Say no to a step that waits for approval: it is not done.\nSTEP may be left out when only one step waits.",
		kind:           v1alpha1.DecisionReject,
		awaited:        []v1alpha1.AwaitingType{v1alpha1.AwaitingApproval},
		reason:         reasonFlag + " (required)",
		reasonRequired: true,
		done:           "step %s is rejected",
	})
}
