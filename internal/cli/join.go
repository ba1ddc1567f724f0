package cli

import (
	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newJoinCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:   "join EVENT INCIDENT --reason TEXT",
		Short: "Make an event part of an open incident",
		Long: "Make an event part of an open incident: what its playbook does is done for what the event names too.\n" +
			"An event that belongs to another incident must be detached there first.",
		Args:              between(2, 2),
		ValidArgsFunction: s.completeEventAndIncident,
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, err := s.namespace()
			if err != nil {
				return err
			}
			incident, err := s.findIncident(cmd.Context(), namespace, args[1])
			if err != nil {
				return err
			}
			spec := v1alpha1.DecisionSpec{Type: v1alpha1.DecisionJoin, IncidentRef: v1alpha1.IncidentReference{Name: incident.Name}}
			return s.decideEvent(cmd.Context(), f, args[0], spec, "belongs to "+incident.Name)
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	return cmd
}

func newDetachCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:   "detach INCIDENT EVENT --reason TEXT",
		Short: "Say that an event does not belong to an incident",
		Long: "Say that an event does not belong to an incident: no further step acts on what it alone has named, what was\n" +
			"done stays, and a person decides about the event anew.",
		Args: between(2, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return s.completeEvents(cmd, nil, part)
			}
			return s.completeIncidents(cmd, args, part)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
				spec:           v1alpha1.DecisionSpec{Type: v1alpha1.DecisionDetachEvent, EventRef: v1alpha1.EventReference{Name: args[1]}},
				reasonRequired: true,
				done:           "is not about event " + args[1],
			})
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	return cmd
}

func (s *session) completeEventAndIncident(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return s.completeIncidents(cmd, nil, part)
	}
	return s.completeEvents(cmd, args, part)
}
