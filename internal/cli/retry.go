package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newRetryCommand(s *session) *cobra.Command {
	return newStepCommand(s, stepCommand{
		use:     "retry INCIDENT [STEP]",
		short:   "Begin a failed step anew",
		long:    "Begin a failed step anew. STEP may be left out when only one step has failed.",
		kind:    v1alpha1.DecisionRetryStep,
		awaited: []v1alpha1.AwaitingType{v1alpha1.AwaitingFailure},
		reason:  reasonFlag,
		done:    "step %s is begun anew",
	})
}
