package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var categories = []v1alpha1.Category{
	v1alpha1.CategoryAbusiveContent, v1alpha1.CategoryMaliciousCode, v1alpha1.CategoryInformationGathering,
	v1alpha1.CategoryIntrusionAttempt, v1alpha1.CategoryIntrusion, v1alpha1.CategoryAvailability,
	v1alpha1.CategoryInformationContentSecurity, v1alpha1.CategoryFraud, v1alpha1.CategoryVulnerable,
	v1alpha1.CategoryOther, v1alpha1.CategoryTest,
}

type promoteFlags struct {
	decisionFlags
	severity, category, playbook string
}

func newPromoteCommand(s *session) *cobra.Command {
	f := &promoteFlags{}
	cmd := &cobra.Command{
		Use:               "promote EVENT",
		Short:             "Make an event an incident",
		Long:              "Make an event an incident. Without --playbook people answer it by hand.",
		Args:              between(1, 1),
		ValidArgsFunction: s.completeEvents,
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := f.spec()
			if err != nil {
				return err
			}
			return s.decideEvent(cmd.Context(), &f.decisionFlags, args[0], spec, "is an incident now")
		},
	}
	f.add(cmd, reasonFlag)
	cmd.Flags().StringVar(&f.severity, "severity", "", "severity of the incident: "+oneOf(severities)+"; the event's when not given")
	cmd.Flags().StringVar(&f.category, "category", "", "category of the incident: "+oneOf(categories)+"; Other when not given")
	cmd.Flags().StringVar(&f.playbook, "playbook", "", "the ResponsePlaybook that answers")
	_ = cmd.RegisterFlagCompletionFunc("severity", cobra.FixedCompletions(enumNames(severities), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("category", cobra.FixedCompletions(enumNames(categories), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("playbook", s.completePlaybooks)
	return cmd
}

func (f *promoteFlags) spec() (v1alpha1.DecisionSpec, error) {
	spec := v1alpha1.DecisionSpec{Type: v1alpha1.DecisionPromote, PlaybookRef: v1alpha1.PlaybookReference{Name: f.playbook}}
	var err error
	if f.severity != "" {
		if spec.Severity, err = choose("--severity", f.severity, severities); err != nil {
			return spec, err
		}
	}
	if f.category != "" {
		if spec.Category, err = choose("--category", f.category, categories); err != nil {
			return spec, err
		}
	}
	return spec, nil
}

// decideEvent decides about a SecurityEvent.
func (s *session) decideEvent(ctx context.Context, f *decisionFlags, name string, spec v1alpha1.DecisionSpec, done string) error {
	if err := f.check(); err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	event, err := s.findEvent(ctx, namespace, name)
	if err != nil {
		return err
	}
	user, err := s.whoAmI(ctx)
	if err != nil {
		return err
	}
	if spec.Type != v1alpha1.DecisionPromote {
		if err := s.requireReason(ctx, f); err != nil {
			return err
		}
	}
	spec.Subject = v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectSecurityEvent, Name: event.Name}
	return s.decide(ctx, f, user, decision{
		namespace: namespace,
		spec:      spec,
		done:      "event " + event.Name + " " + done,
		next:      s.command(namespace, "list"),
	})
}
