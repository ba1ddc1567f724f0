package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newTaskCommand(s *session) *cobra.Command {
	return newStepCommand(s, stepCommand{
		use:   "task INCIDENT [STEP]",
		short: "Say that you have done what a step asks",
		long: "Say that you have done what a step asks of a person, or what a failed step should have done.\n" +
			"STEP may be left out when only one step asks for something.",
		kind:    v1alpha1.DecisionCompleteTask,
		awaited: []v1alpha1.AwaitingType{v1alpha1.AwaitingTask},
		reason:  "what was done; it becomes part of the record",
		done:    "step %s is done",
	})
}
