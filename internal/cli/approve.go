package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const approveLong = `Let a step go on that waits for approval.

What would be done is shown first. The approval holds for exactly that: when the step's
targets change in between, it is refused as stale. STEP may be left out when only one
step waits.`

type approveFlags struct {
	decisionFlags
	yes    bool
	digest string
}

func newApproveCommand(s *session) *cobra.Command {
	f := &approveFlags{}
	c := stepCommand{
		use:     "approve INCIDENT [STEP] --reason TEXT",
		kind:    v1alpha1.DecisionApprove,
		awaited: []v1alpha1.AwaitingType{v1alpha1.AwaitingApproval},
	}
	cmd := &cobra.Command{
		Use:               c.use,
		Short:             "Let a step go on that waits for approval",
		Long:              approveLong,
		Args:              between(1, 2),
		ValidArgsFunction: s.completeSteps(c.awaited...),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.approve(cmd.Context(), f, c, args)
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask for confirmation (it is only asked on a terminal)")
	cmd.Flags().StringVar(&f.digest, "digest", "", "approve only if what would be done still has this digest")
	return cmd
}

func (s *session) approve(ctx context.Context, f *approveFlags, c stepCommand, args []string) error {
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
	awaiting, err := s.awaitedApproval(incident, step, f.digest)
	if err != nil {
		return err
	}
	user, err := s.whoAmI(ctx)
	if err != nil {
		return err
	}
	s.showApproval(incident, awaiting, user.Username)
	if err := s.requireReason(ctx, &f.decisionFlags); err != nil {
		return err
	}
	if err := s.confirm(ctx, f); err != nil {
		return err
	}
	return s.decide(ctx, &f.decisionFlags, user, decision{
		namespace: namespace,
		spec: v1alpha1.DecisionSpec{
			Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: incident.Name},
			Type:    v1alpha1.DecisionApprove,
			Step:    step,
			Digest:  awaiting.Digest,
			Role:    awaiting.Role,
		},
		done: fmt.Sprintf("step %s is approved (%s)", step, incident.Name),
		next: s.command(namespace, "show", incident.Name, "-w"),
	})
}

// awaitedApproval is what is asked for a step; it has the digest the approval must carry.
func (s *session) awaitedApproval(incident *v1alpha1.Incident, step, digest string) (v1alpha1.Awaiting, error) {
	waiting := waitingSteps(incident, v1alpha1.AwaitingApproval)
	at := slices.IndexFunc(waiting, func(a v1alpha1.Awaiting) bool { return a.Step == step })
	if at < 0 {
		state := ""
		for _, other := range incident.Status.Steps {
			if other.Name == step {
				state = fmt.Sprintf(": it is %s", other.State)
			}
		}
		hint := "No step waits for an approval. See: " + s.command(incident.Namespace, "show", incident.Name)
		if len(waiting) > 0 {
			var names []string
			for _, awaiting := range waiting {
				names = append(names, awaiting.Step)
			}
			hint = "These do: " + strings.Join(names, ", ")
		}
		return v1alpha1.Awaiting{}, failed(fmt.Sprintf("step %s of %s does not wait for an approval%s", step, incident.Name, state), hint)
	}
	if waiting[at].Digest == "" {
		return v1alpha1.Awaiting{}, failed(fmt.Sprintf("step %s of %s has no digest yet: its targets are still being looked up", step, incident.Name), "Try again in a moment.")
	}
	if digest != "" && digest != waiting[at].Digest {
		return v1alpha1.Awaiting{}, &failure{code: ExitRefused,
			message: fmt.Sprintf("Refused: what step %s would do has changed: its digest is %s, not %s", step, waiting[at].Digest, digest),
			hints:   []string{"No Decision was created. See what would be done now: " + s.command(incident.Namespace, "show", incident.Name)}}
	}
	return waiting[at], nil
}

// showApproval says what is being approved, beside the output, so that what -o prints
// stays what was asked for.
func (s *session) showApproval(incident *v1alpha1.Incident, awaiting v1alpha1.Awaiting, user string) {
	w := s.ErrOut
	fmt.Fprintf(w, "To be approved, as %s:\n\n", s.style.bold(clean(user)))
	facts := &table{indent: "  "}
	fact := func(name, value string) { facts.add(cell{name, s.style.dim}, plain(clean(value))) }
	fact("incident", fmt.Sprintf("%s  %s  %s", incident.Name, severityOf(incident), marked(incident.Spec.Mode, incident.Spec.Title)))
	fact("step", awaiting.Step)
	for i, line := range wrap(awaiting.Message, max(s.terminal.width-14, 0)) {
		name := ""
		if i == 0 {
			name = "asked"
		}
		fact(name, line)
	}
	for i, target := range targetsOf(incident, awaiting.Step) {
		name := ""
		if i == 0 {
			name = "targets"
		}
		fact(name, targetName(target)+"  "+string(target.State))
	}
	if awaiting.Role != "" {
		fact("role", awaiting.Role)
	}
	if awaiting.DueTime != nil {
		fact("due", s.due(awaiting.DueTime))
	}
	fact("digest", awaiting.Digest)
	facts.write(w, s.style, 0)
	fmt.Fprintln(w)
}

func targetsOf(incident *v1alpha1.Incident, step string) []v1alpha1.StepTarget {
	for _, candidate := range incident.Status.Steps {
		if candidate.Name == step {
			return candidate.Targets
		}
	}
	return nil
}

// confirm asks the person at the terminal; without one, typing the command was the answer.
func (s *session) confirm(ctx context.Context, f *approveFlags) error {
	if f.yes || !s.terminal.interactive || f.dryRun == "client" {
		return nil
	}
	answer, err := s.ask(ctx, "Approve this? [y/N] ")
	if err != nil {
		return err
	}
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	default:
		return failed("not approved: nothing was done")
	}
}
