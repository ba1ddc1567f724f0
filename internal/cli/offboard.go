package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const offboardLong = `Make a response domain an ordinary namespace again. What was done is undone first.

  1. the automation is stopped
  2. with --revert each open incident is closed as FalsePositive, which undoes all that
     was done for it; the automation goes on meanwhile, for nothing is undone without it,
     and is stopped again. An incident that is opened in between is treated likewise
  3. the label firebreak.dev/domain is removed
  4. the RoleBinding to the ClusterRole firebreak-impersonator is deleted

Without --revert it refuses while incidents are open. Close those that were real by hand
first, so that their records say how they ended. What closed incidents have left in place
stays, and is listed.

It may be interrupted, and run again: it carries on where it was, with the automation
stopped in between. Only then can the namespace be deleted, and with it the records in it.

The same by hand: kubectl firebreak stop; close INCIDENT --resolution FalsePositive, for
each; resume, until all are closed; stop;
  kubectl label namespace NAMESPACE firebreak.dev/domain-
  kubectl delete rolebinding firebreak-impersonator -n NAMESPACE`

// offboardRounds is how often incidents that were opened meanwhile are dealt with.
const offboardRounds = 5

// offboarding is one run of the command.
type offboarding struct {
	*session
	api       client.WithWatch
	namespace string
	user      authenticationv1.UserInfo
	flags     *decisionFlags
	revert    bool
	within    time.Duration
}

func newOffboardCommand(s *session) *cobra.Command {
	o := &offboarding{session: s, flags: &decisionFlags{dryRun: "none"}}
	cmd := &cobra.Command{
		Use:   "offboard -n NAMESPACE --reason TEXT [--revert]",
		Short: "Undo what a response domain has done, and make it an ordinary namespace",
		Long:  offboardLong,
		Args:  between(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&o.flags.reason, "reason", "", reasonFlag+" (required)")
	cmd.Flags().BoolVar(&o.revert, "revert", false, "close the open incidents as FalsePositive, which undoes what was done")
	cmd.Flags().DurationVar(&o.flags.waitFor, "wait-for", 30*time.Second, "how long to wait for the answer to each Decision")
	cmd.Flags().DurationVar(&o.within, "within", 10*time.Minute, "how long to wait until everything is undone")
	return cmd
}

func (o *offboarding) run(ctx context.Context) (err error) {
	if o.namespace = *o.session.flags.Namespace; o.namespace == "" {
		return failed("which response domain is meant to be offboarded?", "Say it: kubectl firebreak offboard -n NAMESPACE")
	}
	if o.flags.waitFor <= 0 || o.within <= 0 {
		return failed("--wait-for and --within must be more than 0: offboarding goes by the answers")
	}
	if o.api, err = o.client(); err != nil {
		return err
	}
	labelled, err := o.labelled(ctx)
	if err != nil {
		return err
	}
	incidents, err := o.incidents(ctx)
	if err != nil {
		return err
	}
	open, closed := split(incidents)
	if !labelled {
		if err := o.alreadyUnlabelled(open); err != nil {
			return err
		}
	} else if err := o.empty(ctx, open); err != nil {
		return err
	}
	o.warnOfLeft(closed)
	return o.dissolve(ctx, labelled)
}

// alreadyUnlabelled refuses to go on where the label was taken away too early: without it
// nothing is undone.
func (o *offboarding) alreadyUnlabelled(open []v1alpha1.Incident) error {
	for i := range open {
		if standing := lifecycle.Standing(&open[i].Status); len(standing) > 0 {
			return refusedWith(fmt.Sprintf("%s is no response domain any more, but %s is open, and what it has done stands: %s", o.namespace, open[i].Name, strings.Join(standing, ", ")),
				"Make it a domain again, so that it can be undone: kubectl firebreak init -n "+o.namespace+o.clusterFlags(), "Then offboard it again.")
		}
	}
	return nil
}

// empty closes what is open, and leaves the automation stopped.
func (o *offboarding) empty(ctx context.Context, open []v1alpha1.Incident) error {
	if len(open) > 0 && !o.revert {
		return o.refuseOpen(open)
	}
	if err := o.requireReason(ctx, o.flags); err != nil {
		return err
	}
	if err := o.mayDissolve(ctx); err != nil {
		return err
	}
	var err error
	if o.user, err = o.whoAmI(ctx); err != nil {
		return err
	}
	for range offboardRounds {
		if err := o.automation(ctx, v1alpha1.DecisionStopAutomation); err != nil {
			return err
		}
		incidents, err := o.incidents(ctx)
		if err != nil {
			return err
		}
		if open, _ = split(incidents); len(open) == 0 {
			return nil
		}
		if !o.revert {
			return o.refuseOpen(open)
		}
		if err := o.closeAll(ctx, open); err != nil {
			return err
		}
	}
	return failed(fmt.Sprintf("new incidents are opened faster than they can be closed: %d are open again, and the automation is stopped", len(open)),
		"Take the ClassificationPolicies away, or stop what reports to "+o.namespace+", then run the same command again.")
}

func (o *offboarding) refuseOpen(open []v1alpha1.Incident) error {
	hints := make([]string, 0, len(open)+2)
	for i := range open {
		standing := "nothing to undo"
		if effects := lifecycle.Standing(&open[i].Status); len(effects) > 0 {
			standing = "stands: " + strings.Join(effects, ", ")
		}
		hints = append(hints, fmt.Sprintf("%s  %s  %s", open[i].Name, open[i].Status.Phase, standing))
	}
	return refusedWith(fmt.Sprintf("%s has %d open incidents", o.namespace, len(open)), append(hints,
		"Close the real ones: "+o.command(o.namespace, "close", "INCIDENT", "--resolution", "Resolved", "--reason", "WHY"),
		"Undo the others:     "+o.command(o.namespace, "offboard", "--revert", "--reason", "WHY"))...)
}

func refusedWith(message string, hints ...string) *failure {
	return &failure{code: ExitRefused, message: message, hints: hints}
}

// closeAll closes incidents as false positives and waits until they are closed.
func (o *offboarding) closeAll(ctx context.Context, open []v1alpha1.Incident) error {
	effects := false
	for i := range open {
		if err := o.close(ctx, &open[i]); err != nil {
			return err
		}
		effects = effects || len(lifecycle.Standing(&open[i].Status)) > 0
	}
	if effects {
		if err := o.mayUndo(ctx); err != nil {
			return err
		}
		// A Decision without an answer may get it when nobody waits any more.
		if err := o.automation(ctx, v1alpha1.DecisionResumeAutomation); err != nil {
			return o.stopAgain(ctx, true, err)
		}
	}
	limited, cancel := context.WithTimeout(ctx, o.within)
	defer cancel()
	for i := range open {
		if err := o.awaitClosed(limited, ctx, &open[i]); err != nil {
			return o.stopAgain(ctx, effects, err)
		}
	}
	return nil
}

// stopAgain stops the automation that was let go on to undo, also when the command was
// interrupted: it would answer to what comes in. It is decided anew whatever the Decisions say
// so far: one that lets it go on may be waiting for its answer.
func (o *offboarding) stopAgain(ctx context.Context, resumed bool, err error) error {
	if !resumed {
		return err
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(o.flags.waitFor, stopWithin))
	defer cancel()
	hint := "The automation is stopped again: what is left to undo waits for the next run."
	if o.decideAutomation(limited, v1alpha1.DecisionStopAutomation) != nil {
		hint = "The automation may be on meanwhile, also for what comes in. Stop it: " + o.command(o.namespace, "stop", "--reason", "WHY")
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		f.hints = append(f.hints, hint)
	}
	return err
}

// stopWithin is how long a command that has failed tries to stop the automation again.
const stopWithin = 10 * time.Second

// close decides about one incident, unless that is decided already.
func (o *offboarding) close(ctx context.Context, incident *v1alpha1.Incident) error {
	about := v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: incident.Name}
	if incident.Status.Resolution == "" {
		err := o.decide(ctx, o.flags, o.user, decision{
			namespace: o.namespace, done: incident.Name + " closes as FalsePositive: what was done is undone",
			spec: v1alpha1.DecisionSpec{Subject: about, Type: v1alpha1.DecisionClose, Resolution: v1alpha1.ResolutionFalsePositive, Role: awaitedRole(incident, "", v1alpha1.AwaitingClose)},
		})
		if refused := (*failure)(nil); errors.As(err, &refused) && refused.code == ExitRefused && o.decidedMeanwhile(ctx, incident) {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	// From here on the incident only undoes, or closes: what it says now counts.
	if err := o.api.Get(ctx, client.ObjectKeyFromObject(incident), incident); client.IgnoreNotFound(err) != nil {
		return explain(err, "read the incident "+incident.Name)
	}
	if incident.Status.PausedBy == "" {
		return nil
	}
	return o.decide(ctx, o.flags, o.user, decision{
		namespace: o.namespace, done: incident.Name + " goes on, to undo what was done",
		spec: v1alpha1.DecisionSpec{Subject: about, Type: v1alpha1.DecisionResume, Role: awaitedRole(incident, "", v1alpha1.AwaitingResume)},
	})
}

// decidedMeanwhile says that somebody else has closed the incident just now.
func (o *offboarding) decidedMeanwhile(ctx context.Context, incident *v1alpha1.Incident) bool {
	err := o.api.Get(ctx, client.ObjectKeyFromObject(incident), incident)
	return apierrors.IsNotFound(err) || err == nil && incident.Status.Resolution != ""
}

// mayUndo refuses to go on where the plan lets nothing be undone.
func (o *offboarding) mayUndo(ctx context.Context) error {
	if plan := o.plan(ctx, o.namespace); plan != nil && (plan.Spec.Response == v1alpha1.ResponsePaused || plan.Spec.Response == v1alpha1.ResponseDryRun) {
		return refusedWith(fmt.Sprintf("nothing is undone while the plan's `response` is '%s'", plan.Spec.Response),
			"Set it to 'Enforce': kubectl edit responseplan default -n "+o.namespace+o.clusterFlags(), "Then run the same command again. The automation is stopped meanwhile.")
	}
	return nil
}

// automation stops the automation or lets it go on, unless it is so.
func (o *offboarding) automation(ctx context.Context, kind v1alpha1.DecisionType) error {
	for range 2 * offboardRounds {
		list := &v1alpha1.DecisionList{}
		if err := o.api.List(ctx, list, client.InNamespace(o.namespace)); err != nil {
			return explain(err, "list the Decisions in the namespace "+o.namespace)
		}
		about := slices.DeleteFunc(list.Items, func(one v1alpha1.Decision) bool { return one.Spec.Subject.Kind != v1alpha1.SubjectResponsePlan })
		if lifecycle.AutomationOf(o.plan(ctx, o.namespace), about).Stopped == (kind == v1alpha1.DecisionStopAutomation) {
			return nil
		}
		if err := o.decideAutomation(ctx, kind); err != nil {
			return err
		}
		// Of two Decisions within one second the one that stops counts: the next comes later.
		select {
		case <-ctx.Done():
			return failed("interrupted: run the same command again, it carries on")
		case <-time.After(time.Second):
		}
	}
	return failed(o.automationIs(kind)+", but somebody decides otherwise again and again", "Who: kubectl get decisions -n "+o.namespace+o.clusterFlags())
}

func (o *offboarding) automationIs(kind v1alpha1.DecisionType) string {
	if kind == v1alpha1.DecisionResumeAutomation {
		return "the automation of " + o.namespace + " goes on, to undo what was done"
	}
	return "the automation of " + o.namespace + " is stopped"
}

func (o *offboarding) decideAutomation(ctx context.Context, kind v1alpha1.DecisionType) error {
	return o.decide(ctx, o.flags, o.user, decision{namespace: o.namespace, done: o.automationIs(kind), spec: v1alpha1.DecisionSpec{
		Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectResponsePlan, Name: v1alpha1.ResponsePlanName}, Type: kind,
	}})
}
