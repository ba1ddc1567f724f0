package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// wellKnown are the kinds whose API version need not be typed.
var wellKnown = map[string]string{
	"Pod": "v1", "Node": "v1", "Namespace": "v1", "ServiceAccount": "v1", "Service": "v1", "ConfigMap": "v1", "Secret": "v1",
	"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "ReplicaSet": "apps/v1",
	"Job": "batch/v1", "CronJob": "batch/v1",
}

type addResourceFlags struct {
	decisionFlags
	apiVersion, uid string
}

func newAddResourceCommand(s *session) *cobra.Command {
	f := &addResourceFlags{}
	cmd := &cobra.Command{
		Use:   "add-resource INCIDENT KIND [NAMESPACE/]NAME --reason TEXT",
		Short: "Make an object one that the incident is about",
		Long: "Make an object one that the incident is about: what the playbook does for the others is done for it too.\n" +
			"Limits and protected namespaces hold it like any other.\n\n" +
			"  kubectl firebreak add-resource k7f2a Pod shop/cart-7f9 --reason \"the same image\"",
		Args:              between(3, 3),
		ValidArgsFunction: s.completeIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			resource, err := f.resource(args[1], args[2])
			if err != nil {
				return err
			}
			return s.decideIncident(cmd.Context(), &f.decisionFlags, args[0], incidentDecision{
				spec:           v1alpha1.DecisionSpec{Type: v1alpha1.DecisionAddResource, Resource: resource},
				reasonRequired: true,
				done:           "is about " + referenceName(resource.Kind, resource.Namespace, resource.Name) + " too",
			})
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	cmd.Flags().StringVar(&f.apiVersion, "api-version", "", "API group and version of the kind, such as apps/v1; not needed for the usual kinds")
	cmd.Flags().StringVar(&f.uid, "uid", "", "the object's UID; when not given, whatever has the name now is meant")
	return cmd
}

func (f *addResourceFlags) resource(kind, name string) (v1alpha1.ResourceReference, error) {
	resource := v1alpha1.ResourceReference{APIVersion: f.apiVersion, Kind: kind, Name: name, UID: v1alpha1.ObjectUID(f.uid)}
	for known, version := range wellKnown {
		if strings.EqualFold(known, kind) && f.apiVersion == "" {
			resource.Kind, resource.APIVersion = known, version
		}
	}
	if resource.APIVersion == "" {
		return resource, failed(fmt.Sprintf("the API version of %q is not known", clean(kind)), "Say it: --api-version GROUP/VERSION")
	}
	if namespace, rest, ok := strings.Cut(name, "/"); ok {
		resource.Namespace, resource.Name = namespace, rest
	}
	return resource, nil
}
