package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

type showFlags struct {
	watch  bool
	output string
}

func newShowCommand(s *session) *cobra.Command {
	f := &showFlags{}
	cmd := &cobra.Command{
		Use:   "show INCIDENT",
		Short: "Show everything about an incident; -w follows it live",
		Long: `Show everything about an incident: where it stands, what was done to what, the timeline,
the evidence, and last what waits for a person, with the line to type.

With -w what happens next is printed as it happens, until the incident is closed.`,
		Args:              between(1, 1),
		ValidArgsFunction: s.completeIncidents,
		RunE:              func(cmd *cobra.Command, args []string) error { return s.show(cmd.Context(), f, args[0]) },
	}
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "follow what happens, until the incident is closed or Ctrl-C")
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "json or yaml")
	return cmd
}

func (s *session) show(ctx context.Context, f *showFlags, name string) error {
	if err := checkOutput(f.output, outputJSON, outputYAML); err != nil {
		return err
	}
	if f.watch && f.output != "" {
		return failed("-w cannot be combined with -o", "To follow the object itself: kubectl get incident NAME -w -o "+f.output)
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	incident, err := s.findIncident(ctx, namespace, name)
	if err != nil {
		return err
	}
	if f.output != "" {
		incident.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("Incident"))
		return printObjects(s.Out, f.output, incident)
	}
	evidence, missing := s.evidence(ctx, incident)
	v := s.newView(incident)
	v.print(evidence, missing)
	if s.domainOrNot(ctx, namespace) == domainNo {
		fmt.Fprintf(s.ErrOut, "%s the namespace %s is not a response domain: nobody looks at this incident.\n", s.style.yellow("Warning:"), namespace)
		fmt.Fprintln(s.ErrOut, "  "+clean(s.otherDomain(ctx, namespace)))
	}
	if !f.watch {
		return nil
	}
	return v.follow(ctx)
}

// evidence lists what was preserved for an incident, or says why it cannot.
func (s *session) evidence(ctx context.Context, incident *v1alpha1.Incident) ([]v1alpha1.Evidence, string) {
	api, err := s.client()
	if err != nil {
		return nil, err.Error()
	}
	list := &v1alpha1.EvidenceList{}
	err = api.List(ctx, list, client.InNamespace(incident.Namespace), client.MatchingFields{"spec.incidentRef.name": incident.Name})
	switch {
	case apierrors.IsForbidden(err):
		return nil, "you are not permitted to list evidence in the namespace " + incident.Namespace
	case err != nil:
		return nil, err.Error()
	}
	slices.SortStableFunc(list.Items, func(a, b v1alpha1.Evidence) int {
		return cmp.Or(a.Spec.CollectedTime.Compare(b.Spec.CollectedTime.Time), cmp.Compare(a.Name, b.Name))
	})
	return list.Items, ""
}
