package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

func newStopCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:   "stop [INCIDENT] --reason TEXT",
		Short: "The red button: stop the automation, of everything or of one incident",
		Long: `Stop the automation: of the whole response domain, or of one incident when it is named.

What is isolated stays isolated; nothing more is done until it is resumed.`,
		Args:              between(0, 1),
		ValidArgsFunction: s.completeIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
					spec:           v1alpha1.DecisionSpec{Type: v1alpha1.DecisionPause},
					reasonRequired: true,
					done:           "is paused: nothing more is done automatically",
				})
			}
			return s.decideDomain(cmd.Context(), f, v1alpha1.DecisionStopAutomation)
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	return cmd
}

// decideDomain stops or resumes the automation of the whole domain.
func (s *session) decideDomain(ctx context.Context, f *decisionFlags, kind v1alpha1.DecisionType) error {
	if err := f.check(); err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	if namespace == defaultNamespace {
		if hint := s.elsewhere(ctx, namespace); hint != "" {
			return failed("the namespace default is no response domain: there is no automation in it", hint)
		}
	}
	user, err := s.whoAmI(ctx)
	if err != nil {
		return err
	}
	d := decision{
		namespace: namespace,
		spec: v1alpha1.DecisionSpec{
			Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectResponsePlan, Name: v1alpha1.ResponsePlanName},
			Type:    kind,
		},
		done: "the automation of " + namespace + " runs again",
		next: s.command(namespace, "list"),
	}
	if kind == v1alpha1.DecisionResumeAutomation && lifecycle.PausedByPlan(s.plan(ctx, namespace)) {
		d.done = "the automation of " + namespace + " stays stopped as long as the plan's `response` is 'Paused'"
		d.next = s.editPlan(namespace)
	}
	if kind == v1alpha1.DecisionStopAutomation {
		d.done = "the automation of " + namespace + " is stopped; what is isolated stays isolated"
		d.next = "when it may go on: " + s.command(namespace, "resume")
		if err := s.requireReason(ctx, f); err != nil {
			return err
		}
	}
	return s.decide(ctx, f, user, d)
}

// editPlan is the line that lets the plan of a namespace go on.
func (s *session) editPlan(namespace string) string {
	return fmt.Sprintf("kubectl edit responseplan %s -n %s%s", v1alpha1.ResponsePlanName, namespace, s.clusterFlags())
}
