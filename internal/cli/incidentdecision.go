package cli

import (
	"context"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// incidentDecision is what the commands that decide about a whole incident have in common.
type incidentDecision struct {
	spec           v1alpha1.DecisionSpec // but for the subject
	awaited        []v1alpha1.AwaitingType
	reasonRequired bool
	done           string
}

func (s *session) decideIncident(ctx context.Context, f *decisionFlags, name string, d incidentDecision) error {
	if err := f.check(); err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	incident, err := s.findIncident(ctx, namespace, name)
	if err != nil {
		return err
	}
	user, err := s.whoAmI(ctx)
	if err != nil {
		return err
	}
	if d.reasonRequired {
		if err := s.requireReason(ctx, f); err != nil {
			return err
		}
	}
	d.spec.Subject = v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: incident.Name}
	d.spec.Role = awaitedRole(incident, "", d.awaited...)
	return s.decide(ctx, f, user, decision{
		namespace: namespace,
		spec:      d.spec,
		done:      incident.Name + " " + d.done,
		next:      s.command(namespace, "show", incident.Name),
	})
}
