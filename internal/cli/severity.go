package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var severities = []v1alpha1.Severity{
	v1alpha1.SeverityInformational, v1alpha1.SeverityLow, v1alpha1.SeverityMedium, v1alpha1.SeverityHigh, v1alpha1.SeverityCritical,
}

func newSeverityCommand(s *session) *cobra.Command {
	f := &decisionFlags{}
	cmd := &cobra.Command{
		Use:   "severity INCIDENT SEVERITY --reason TEXT",
		Short: "Change the severity",
		Long:  "Change the severity in force. SEVERITY is one of " + oneOf(severities) + ".",
		Args:  between(2, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return enumNames(severities), cobra.ShellCompDirectiveNoFileComp
			}
			return s.completeIncidents(cmd, args, part)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			severity, err := choose("the severity", args[1], severities)
			if err != nil {
				return err
			}
			return s.decideIncident(cmd.Context(), f, args[0], incidentDecision{
				spec:           v1alpha1.DecisionSpec{Type: v1alpha1.DecisionSetSeverity, Severity: severity},
				reasonRequired: true,
				done:           "is " + string(severity) + " now",
			})
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	return cmd
}

// choose finds what was typed among the values there are, in any case.
func choose[T ~string](what, typed string, values []T) (T, error) {
	for _, value := range values {
		if strings.EqualFold(typed, string(value)) {
			return value, nil
		}
	}
	return "", failed(fmt.Sprintf("%s %q is not known: it must be one of %s", what, typed, oneOf(values)))
}

func enumNames[T ~string](values []T) []string {
	names := make([]string, len(values))
	for i, value := range values {
		names[i] = string(value)
	}
	return names
}

func oneOf[T ~string](values []T) string { return strings.Join(enumNames(values), ", ") }
