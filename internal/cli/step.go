package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// stepCommand is a command that decides about one step of an incident.
type stepCommand struct {
	use, short, long string
	kind             v1alpha1.DecisionType
	// awaited are the things a person is asked for that this command answers. When
	// exactly one step asks for one, it need not be named; empty means it always must.
	awaited []v1alpha1.AwaitingType
	// roleOf are the things whose role the person must hold who decides this, asked for it or not.
	roleOf []v1alpha1.AwaitingType
	// reason is the reason's help, and whether there must be one.
	reason         string
	reasonRequired bool
	// done is what to say when it was accepted; %s is the step.
	done string
}

func newStepCommand(s *session, c stepCommand) *cobra.Command {
	f := &decisionFlags{}
	least := 1
	if len(c.awaited) == 0 {
		least = 2
	}
	cmd := &cobra.Command{
		Use:               c.use,
		Short:             c.short,
		Long:              c.long,
		Args:              between(least, 2),
		ValidArgsFunction: s.completeSteps(c.awaited...),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.decideStep(cmd.Context(), f, c, args)
		},
	}
	f.add(cmd, c.reason)
	return cmd
}

func (s *session) decideStep(ctx context.Context, f *decisionFlags, c stepCommand, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	incident, err := s.findIncident(ctx, namespace, args[0])
	if err != nil {
		return err
	}
	step, err := s.chooseStep(incident, args[1:], c)
	if err != nil {
		return err
	}
	user, err := s.whoAmI(ctx)
	if err != nil {
		return err
	}
	if c.reasonRequired {
		if err := s.requireReason(ctx, f); err != nil {
			return err
		}
	}
	return s.decide(ctx, f, user, decision{
		namespace: namespace,
		spec: v1alpha1.DecisionSpec{
			Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: incident.Name},
			Type:    c.kind,
			Step:    step,
			Role:    awaitedRole(incident, step, append(slices.Clone(c.awaited), c.roleOf...)...),
		},
		done: fmt.Sprintf(c.done, step) + " (" + incident.Name + ")",
		next: s.command(namespace, "show", incident.Name, "-w"),
	})
}

// chooseStep is the step that was named, or the only one that asks for this.
func (s *session) chooseStep(incident *v1alpha1.Incident, named []string, c stepCommand) (string, error) {
	if len(named) > 0 {
		if slices.ContainsFunc(incident.Status.Steps, func(step v1alpha1.IncidentStep) bool { return step.Name == named[0] }) {
			return named[0], nil
		}
		var names []string
		for _, step := range incident.Status.Steps {
			names = append(names, step.Name)
		}
		if len(names) == 0 {
			return "", failed(fmt.Sprintf("%s has no steps (yet)", incident.Name), "See: "+s.command(incident.Namespace, "show", incident.Name))
		}
		return "", failed(fmt.Sprintf("%s has no step %q", incident.Name, named[0]), "Its steps are: "+strings.Join(names, ", "))
	}
	waiting := waitingSteps(incident, c.awaited...)
	verb, _, _ := strings.Cut(c.use, " ")
	switch len(waiting) {
	case 1:
		return waiting[0].Step, nil
	case 0:
		return "", failed(fmt.Sprintf("no step of %s waits to %s", incident.Name, waitsTo[c.kind]),
			"See what it waits for: "+s.command(incident.Namespace, "show", incident.Name))
	default:
		hints := make([]string, 0, len(waiting))
		for _, awaiting := range waiting {
			hints = append(hints, s.command(incident.Namespace, verb, incident.Name, awaiting.Step)+"   "+shorten(clean(awaiting.Message), 80))
		}
		return "", failed(fmt.Sprintf("%s of %s wait: name one", plural(len(waiting), "step"), incident.Name), hints...)
	}
}

var waitsTo = map[v1alpha1.DecisionType]string{
	v1alpha1.DecisionApprove:      "be approved",
	v1alpha1.DecisionReject:       "be approved or rejected",
	v1alpha1.DecisionCompleteTask: "be done by a person",
	v1alpha1.DecisionRetryStep:    "be tried again",
}

// waitingSteps are the things a person is asked for that name a step.
func waitingSteps(incident *v1alpha1.Incident, kinds ...v1alpha1.AwaitingType) []v1alpha1.Awaiting {
	var waiting []v1alpha1.Awaiting
	for _, awaiting := range incident.Status.Awaiting {
		if awaiting.Step != "" && slices.Contains(kinds, awaiting.Type) {
			waiting = append(waiting, awaiting)
		}
	}
	return waiting
}
