package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const maxReason = 1024

// decisionFlags are the flags every command that decides has.
type decisionFlags struct {
	reason  string
	dryRun  string
	output  string
	waitFor time.Duration
}

func (f *decisionFlags) add(cmd *cobra.Command, reason string) {
	if reason != "" {
		cmd.Flags().StringVar(&f.reason, "reason", "", reason)
	}
	cmd.Flags().StringVar(&f.dryRun, "dry-run", "none", "'client' prints the Decision and creates nothing; 'server' lets the API server check it too")
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "print the Decision as yaml, json or name")
	cmd.Flags().DurationVar(&f.waitFor, "wait-for", 30*time.Second, "how long to wait for the answer; 0 does not wait")
}

const reasonFlag = "why; it becomes part of the record"

func (f *decisionFlags) check() error {
	switch f.dryRun {
	case "none", "client", "server":
	default:
		return failed(fmt.Sprintf("--dry-run=%s is not known: it must be none, client or server", clean(f.dryRun)))
	}
	if utf8.RuneCountInString(f.reason) > maxReason {
		return failed(fmt.Sprintf("the reason is too long: it must be at most %d characters", maxReason))
	}
	return checkOutput(f.output, outputYAML, outputJSON, outputName)
}

// decision is what a person wants to decide, before it is known who they are.
type decision struct {
	namespace string
	spec      v1alpha1.DecisionSpec
	// done says in a few words what was decided, such as 'step ok-to-delete is approved'.
	done string
	// next is what to look at or type afterwards.
	next string
}

// requireReason asks for the reason where there is someone to ask.
func (s *session) requireReason(ctx context.Context, f *decisionFlags) error {
	if says(f.reason) {
		return nil
	}
	if s.terminal.interactive {
		answer, err := s.ask(ctx, "Why? (part of the record): ")
		if err != nil {
			return err
		}
		f.reason = answer
		if err := f.check(); err != nil {
			return err
		}
	}
	if !says(f.reason) {
		return failed("the reason is missing: it is part of the record", `Say why: --reason "WHY"`)
	}
	return nil
}

// says tells a reason from the placeholder of a line that was copied to be filled in.
func says(reason string) bool { return strings.Trim(reason, " .…") != "" && reason != "WHY" }

// decide creates the Decision and waits for the answer.
func (s *session) decide(ctx context.Context, f *decisionFlags, user authenticationv1.UserInfo, d decision) error {
	object := s.newDecision(ctx, user, d)
	object.Spec.Reason = f.reason
	if f.dryRun == "client" {
		return s.printDecision(f, object)
	}
	api, err := s.client()
	if err != nil {
		return err
	}
	var options []client.CreateOption
	if f.dryRun == "server" {
		options = append(options, client.DryRunAll)
	}
	if err := api.Create(ctx, object, options...); err != nil {
		if refused := refusal(err, d.namespace); refused != nil {
			return refused
		}
		return s.uncertain(err, d.namespace)
	}
	if f.dryRun == "server" {
		return s.printDecision(f, object)
	}
	if f.waitFor <= 0 {
		if f.output != "" {
			return s.printDecision(f, object)
		}
		fmt.Fprintf(s.Out, "Created the Decision %s. The answer will be in its status: kubectl get decision %[1]s -n %s%s\n", object.Name, d.namespace, s.clusterFlags())
		return nil
	}
	return s.awaitAnswer(ctx, f, d, object)
}

// uncertain is a failure to create a Decision. Without an answer of the API server
// nobody can tell whether there is one.
func (s *session) uncertain(err error, namespace string) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return explain(err, "create the Decision")
	}
	why := "the connection was lost (" + err.Error() + ")"
	if errors.Is(err, context.Canceled) {
		why = "interrupted"
	}
	return &failure{code: ExitError, cause: err, message: why + ": the Decision may have been created all the same", hints: []string{
		fmt.Sprintf("Look:     kubectl get decisions -n %s%s", namespace, s.clusterFlags()),
		"To decide twice does no harm: run the same command again.",
	}}
}

func (s *session) newDecision(ctx context.Context, user authenticationv1.UserInfo, d decision) *v1alpha1.Decision {
	object := &v1alpha1.Decision{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Decision"},
		ObjectMeta: metav1.ObjectMeta{GenerateName: kebab(string(d.spec.Type)) + "-", Namespace: d.namespace},
		Spec:       d.spec,
	}
	object.Spec.By = user.Username
	if d.spec.Role != "" {
		object.Spec.Groups = groupsForRole(s.plan(ctx, d.namespace), d.spec.Role, user.Groups)
	}
	return object
}

func (s *session) printDecision(f *decisionFlags, object *v1alpha1.Decision) error {
	switch f.output {
	case outputName:
		name := object.Name
		if name == "" {
			name = object.GenerateName
		}
		fmt.Fprintln(s.Out, "decision.firebreak.dev/"+name)
		return nil
	case outputJSON:
		return printObjects(s.Out, outputJSON, object)
	default:
		return printObjects(s.Out, outputYAML, object)
	}
}

// awaitAnswer waits until the Decision says whether it was accepted.
func (s *session) awaitAnswer(ctx context.Context, f *decisionFlags, d decision, object *v1alpha1.Decision) error {
	limited, cancel := context.WithTimeout(ctx, f.waitFor)
	defer cancel()
	gone := false
	var answer *metav1.Condition
	err := s.watch(limited, watching{
		object: object.DeepCopy(),
		list:   &v1alpha1.DecisionList{},
		see: func(state client.Object) (bool, error) {
			latest, ok := state.(*v1alpha1.Decision)
			if !ok {
				gone = true
				return true, nil
			}
			answer = meta.FindStatusCondition(latest.Status.Conditions, v1alpha1.ConditionAccepted)
			if answer != nil && answer.Status != metav1.ConditionUnknown {
				object = latest
				return true, nil
			}
			return false, nil
		},
	})
	look := fmt.Sprintf("Look:     kubectl get decision %s -n %s%s", object.Name, d.namespace, s.clusterFlags())
	switch {
	case gone:
		return failed(fmt.Sprintf("the Decision %s was deleted before it was answered", object.Name))
	case err == nil && answer != nil:
		return s.printAnswer(f, d, object, answer)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && s.domainOrNot(ctx, d.namespace) == domainNo:
		return failed(fmt.Sprintf("no answer within %s: the Decision %s stays, but the namespace %s is not a response domain, so that nobody looks at it", f.waitFor, object.Name, d.namespace),
			"Make it one: "+s.command(d.namespace, "init"), look)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return failed(fmt.Sprintf("no answer within %s: the Decision %s stays, and is answered as soon as the manager looks", f.waitFor, object.Name),
			look, fmt.Sprintf("Manager:  kubectl get pods -n %s%s", v1alpha1.SystemNamespace, s.clusterFlags()))
	case ctx.Err() != nil:
		return failed(fmt.Sprintf("interrupted: the Decision %s is created and stays", object.Name), look)
	default:
		return failed(fmt.Sprintf("the Decision %s is created, but its answer cannot be read: %v", object.Name, err), look)
	}
}

func (s *session) printAnswer(f *decisionFlags, d decision, object *v1alpha1.Decision, answer *metav1.Condition) error {
	if f.output != "" {
		if err := s.printDecision(f, object); err != nil {
			return err
		}
	}
	if answer.Status != metav1.ConditionTrue {
		message := fmt.Sprintf("Refused (%s)", answer.Reason)
		if answer.Message != "" {
			message += ": " + answer.Message
		}
		return &failure{code: ExitRefused, message: message, hints: []string{
			"Decision: " + object.Name + " (stays on record)", whatNow(answer, s, d),
		}}
	}
	if f.output != "" {
		return nil
	}
	fmt.Fprintf(s.Out, "%s: %s\n", s.style.green("Accepted"), clean(d.done))
	if answer.Message != "" {
		for _, line := range wrap(answer.Message, max(s.terminal.width-2, 0)) {
			fmt.Fprintln(s.Out, "  "+line)
		}
	}
	fmt.Fprintf(s.Out, "  Decision: %s\n", object.Name)
	if d.next != "" {
		fmt.Fprintf(s.Out, "  Next:     %s\n", clean(d.next))
	}
	return nil
}

// whatNow is what helps against a refusal.
func whatNow(answer *metav1.Condition, s *session, d decision) string {
	if d.spec.Type == v1alpha1.DecisionClose && strings.Contains(answer.Message, string(v1alpha1.DecisionSkipStep)) {
		return "Waive it: " + s.command(d.namespace, "skip", d.spec.Subject.Name, "STEP", `--reason "WHY"`)
	}
	switch answer.Reason {
	case v1alpha1.ReasonStale:
		return "Next:     what would be done has changed. Run the same command again: it shows what would be done now."
	case v1alpha1.ReasonSamePerson:
		return "Next:     another person must decide this."
	case v1alpha1.ReasonNotInRole, v1alpha1.ReasonNoSuchRole:
		return "Next:     who holds the roles: kubectl get responseplan default -o yaml -n " + d.namespace + s.clusterFlags()
	case v1alpha1.ReasonNotGuarded:
		return "Next:     call the platform team: the admission policies are not proven to stand. kubectl get responseplan -n " + d.namespace + s.clusterFlags()
	case v1alpha1.ReasonNotAwaited, v1alpha1.ReasonNoSuchStep, v1alpha1.ReasonAlreadyDecided, v1alpha1.ReasonGateOpen, v1alpha1.ReasonClosed, v1alpha1.ReasonDuplicate:
		if d.spec.Subject.Kind == v1alpha1.SubjectIncident {
			return "Next:     " + s.command(d.namespace, "show", d.spec.Subject.Name)
		}
	}
	return ""
}

// kebab is the RBAC verb of a type of Decision: 'complete-task' for 'CompleteTask'.
func kebab(name string) string {
	var b strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
