package controller

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// gatherPromoters finds out who has promoted or joined any event that belongs to the incident,
// or did before it was detached, when somebody approves something.
func (run *incidentRun) gatherPromoters(ctx context.Context, in *lifecycle.Input) error {
	if !slices.ContainsFunc(in.Decisions, func(one v1alpha1.Decision) bool { return one.Spec.Type == v1alpha1.DecisionApprove }) {
		return nil
	}
	var events []string
	for i := range in.Events {
		events = append(events, in.Events[i].Name)
	}
	for i := range run.incident.Status.DetachedEvents {
		events = append(events, run.incident.Status.DetachedEvents[i].Name)
	}
	for _, reference := range run.incident.Spec.EventRefs {
		events = append(events, reference.Name)
	}
	slices.Sort(events)
	promoters, err := promotersOf(ctx, run.Client, run.incident.Namespace, slices.Compact(events))
	in.Promoters = append(in.Promoters, promoters...)
	return err
}

// promotersOf goes by the Decisions: what an event says of itself changes with its next
// assessment, and is written only after its incident was opened.
func promotersOf(ctx context.Context, reader client.Reader, namespace string, events []string) ([]string, error) {
	var people []string
	for _, event := range events {
		decisions, err := decisionsAbout(ctx, reader, namespace, v1alpha1.SubjectSecurityEvent, event)
		if err != nil {
			return nil, err
		}
		for i := range decisions {
			spec := &decisions[i].Spec
			promotes := spec.Type == v1alpha1.DecisionPromote || spec.Type == v1alpha1.DecisionJoin
			if promotes && !meta.IsStatusConditionFalse(decisions[i].Status.Conditions, v1alpha1.ConditionAccepted) && !slices.Contains(people, spec.By) {
				people = append(people, spec.By)
			}
		}
	}
	slices.Sort(people)
	return people, nil
}
