package controller

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// gatherPromoters finds out who has promoted or joined any event that belongs to the incident,
// or did before it was detached, or belongs to a duplicate of it, when somebody approves something.
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
	ofDuplicates, err := run.gatherDuplicateEvents(ctx, in)
	if err != nil {
		return err
	}
	events = append(events, ofDuplicates...)
	slices.Sort(events)
	promoters, err := promotersOf(ctx, run.Client, run.incident.Namespace, slices.Compact(events))
	in.Promoters = append(in.Promoters, promoters...)
	return err
}

// gatherDuplicateEvents names the events of the incident's duplicates. It goes on with their
// objects before the events follow.
func (run *incidentRun) gatherDuplicateEvents(ctx context.Context, in *lifecycle.Input) ([]string, error) {
	names, seen := duplicateNames(run.incident), map[string]bool{run.incident.Name: true}
	var events []string
	for len(names) > 0 {
		name := names[0]
		if names = names[1:]; seen[name] {
			continue
		}
		seen[name] = true
		list := &v1alpha1.SecurityEventList{}
		if err := run.Client.List(ctx, list, client.InNamespace(run.incident.Namespace), client.MatchingFields{indexEventIncident: name}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing the events of incident %q: %w", name, err)
		}
		for i := range list.Items {
			events = append(events, list.Items[i].Name)
			in.Promoters = append(in.Promoters, broughtBy(&list.Items[i].Status)...)
		}
		duplicate := &v1alpha1.Incident{}
		if err := run.Client.Get(ctx, types.NamespacedName{Namespace: run.incident.Namespace, Name: name}, duplicate); err != nil {
			if apierrors.IsNotFound(err) {
				continue
			}
			return nil, fmt.Errorf("reading incident %q: %w", name, err)
		}
		for _, reference := range duplicate.Spec.EventRefs {
			events = append(events, reference.Name)
		}
		names = append(names, duplicateNames(duplicate)...) // what was its own duplicate before
	}
	return events, nil
}

func duplicateNames(incident *v1alpha1.Incident) []string {
	var names []string
	for i := range incident.Status.Duplicates {
		names = append(names, incident.Status.Duplicates[i].Name)
	}
	return names
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
