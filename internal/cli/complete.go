package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const completionTimeout = 3 * time.Second

// candidates lists objects for shell completion; what fails gives none.
func (s *session) candidates(cmd *cobra.Command, list client.ObjectList, options ...client.ListOption) bool {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	api, err := s.client()
	if err != nil {
		return false
	}
	return api.List(ctx, list, options...) == nil
}

func (s *session) completeIncidents(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	namespace, err := s.namespace()
	list := &v1alpha1.IncidentList{}
	if len(args) > 0 || err != nil || !s.candidates(cmd, list, client.InNamespace(namespace)) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	sortIncidents(list.Items)
	var names []string
	for i := range list.Items {
		incident := &list.Items[i]
		names = append(names, cobra.CompletionWithDesc(incident.Name, clean(string(severityOf(incident)))+" "+marked(incident.Spec.Mode, incident.Spec.Title)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeSteps completes the incident first, then its steps: those that wait for what
// the command answers, or all when the command answers nothing in particular.
func (s *session) completeSteps(kinds ...v1alpha1.AwaitingType) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return s.completeIncidents(cmd, args, part)
		}
		namespace, err := s.namespace()
		if len(args) > 1 || err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		incident, err := s.findIncident(ctx, namespace, args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		waiting := waitingSteps(incident, kinds...)
		var names []string
		for _, step := range incident.Status.Steps {
			asked := slices.ContainsFunc(waiting, func(a v1alpha1.Awaiting) bool { return a.Step == step.Name })
			if asked || len(kinds) == 0 {
				names = append(names, cobra.CompletionWithDesc(step.Name, string(step.State)))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

func (s *session) completeEvents(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	namespace, err := s.namespace()
	list := &v1alpha1.SecurityEventList{}
	if len(args) > 0 || err != nil || !s.candidates(cmd, list, client.InNamespace(namespace), deferred) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, event := range list.Items {
		names = append(names, cobra.CompletionWithDesc(event.Name, clean(string(event.Spec.Severity))+" "+marked(event.Spec.Mode, event.Spec.Title)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (s *session) completePlaybooks(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	namespace, err := s.namespace()
	list := &v1alpha1.ResponsePlaybookList{}
	if err != nil || !s.candidates(cmd, list, client.InNamespace(namespace)) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, playbook := range list.Items {
		names = append(names, playbook.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (s *session) completeNamespaces(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	list := &corev1.NamespaceList{}
	if !s.candidates(cmd, list, client.HasLabels{v1alpha1.LabelDomain}) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
