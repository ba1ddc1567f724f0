package controller

import (
	"context"
	"slices"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// resolve finds what a step acts on. An object is held when its namespace is protected,
// or when only resources that are held lead to it: a flood of alerts gains nothing by
// naming what the flooded objects have in common.
func (run *incidentRun) resolve(ctx context.Context, in lifecycle.Input, request *action.Request) lifecycle.Result {
	result := action.Resolve(ctx, request)
	if result.State != v1alpha1.TargetSucceeded {
		return result
	}
	free, err := run.withoutHeld(ctx, request)
	if err != nil {
		return *err
	}
	for i := range result.Targets {
		target := &result.Targets[i]
		target.State, target.Message = v1alpha1.TargetPending, ""
		if free != nil && !slices.ContainsFunc(free, func(known v1alpha1.StepTarget) bool { return known.UID == target.UID }) {
			target.State, target.Message = v1alpha1.TargetHeld, "only objects that are held lead to it: "+firstHold(request.Incident)
			continue
		}
		if held := run.protectedNow(ctx, in, target); held != nil {
			if held.State == v1alpha1.TargetFailed {
				return *held
			}
			target.State, target.Message = held.State, held.Message
		}
	}
	return result
}

// withoutHeld finds what the step would act on if the resources that are held were not
// there; nil when none is held.
func (run *incidentRun) withoutHeld(ctx context.Context, request *action.Request) ([]v1alpha1.StepTarget, *lifecycle.Result) {
	if firstHold(request.Incident) == "" {
		return nil, nil
	}
	without := *request
	without.Incident = request.Incident.DeepCopy()
	status := &without.Incident.Status
	status.Resources = slices.DeleteFunc(status.Resources, func(resource v1alpha1.IncidentResource) bool { return resource.Hold != "" })
	result := action.Resolve(ctx, &without)
	if result.State != v1alpha1.TargetSucceeded {
		return nil, &result
	}
	return append([]v1alpha1.StepTarget{}, result.Targets...), nil
}

// firstHold is why the first of the resources that are held is.
func firstHold(incident *v1alpha1.Incident) string {
	for i := range incident.Status.Resources {
		if hold := incident.Status.Resources[i].Hold; hold != "" {
			return hold
		}
	}
	return ""
}
