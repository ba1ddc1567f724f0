package controller

import (
	"context"
	"errors"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/expression"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// gatherOffers reads what Decisions refer to: the playbooks to use, and the actions to run.
func (run *incidentRun) gatherOffers(ctx context.Context, in *lifecycle.Input) error {
	in.Offers, in.Actions = map[string]lifecycle.Offer{}, map[string]lifecycle.AdHoc{}
	for i := range in.Decisions {
		decision := &in.Decisions[i]
		if in.Unguarded[string(decision.UID)] != "" {
			continue
		}
		switch decision.Spec.Type {
		case v1alpha1.DecisionUsePlaybook:
			offer, err := run.offer(ctx, in, decision.Spec.PlaybookRef.Name)
			if err != nil {
				return err
			}
			in.Offers[string(decision.UID)] = offer
		case v1alpha1.DecisionRunAction:
			in.Actions[string(decision.UID)] = run.adHoc(ctx, in.Playbook, decision)
		}
	}
	return nil
}

// offer keeps the text of a playbook that a person wants to be used.
func (run *incidentRun) offer(ctx context.Context, in *lifecycle.Input, name string) (lifecycle.Offer, error) {
	playbook, problem, err := run.findPlaybook(ctx, run.incident, name)
	if err != nil || problem != nil {
		return lifecycle.Offer{Problem: problem}, err
	}
	_, err = run.Identities.For(ctx, run.incident.Namespace, playbook.Spec.ServiceAccountName)
	if notAllowed := (*impersonation.NotAllowedError)(nil); errors.As(err, &notAllowed) {
		return lifecycle.Offer{Problem: &lifecycle.PlaybookProblem{Reason: v1alpha1.ReasonCannotImpersonate, Message: err.Error()}}, nil
	}
	if err != nil {
		return lifecycle.Offer{}, err
	}
	pin, err := run.pin(ctx, run.incident, playbook)
	if err != nil {
		return lifecycle.Offer{}, err
	}
	return lifecycle.Offer{Pin: pin, Playbook: playbook.Spec.DeepCopy()}, run.countRuns(ctx, in)
}

// adHoc reads the action of a RunAction, as strictly as the API server reads a playbook's steps.
func (run *incidentRun) adHoc(ctx context.Context, playbook *v1alpha1.ResponsePlaybookSpec, decision *v1alpha1.Decision) lifecycle.AdHoc {
	if playbook == nil || decision.Spec.Action == nil {
		return lifecycle.AdHoc{}
	}
	step, err := expression.ParseStep(ctx, "adhoc-0", decision.Spec.Action.Raw)
	if err == nil {
		var earlier []*v1alpha1.PlaybookStep
		for i := range run.incident.Status.Steps {
			if known := &run.incident.Status.Steps[i]; known.Definition != "" {
				if text := lifecycle.TextOf(nil, known); text != nil {
					earlier = append(earlier, text)
				}
			}
		}
		err = expression.CheckAdHoc(playbook, earlier, step)
	}
	if err != nil {
		return lifecycle.AdHoc{Problem: "`action` must be a step as in a playbook: " + err.Error()}
	}
	return lifecycle.AdHoc{Step: step}
}
