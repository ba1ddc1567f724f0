package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

const eventLong = `Report something that may be a security incident: whoever notices something may and should.

On a terminal you are asked for what the flags do not say. It asks for no more than is needed to
look into it; what you do not know, leave empty. What was reported cannot be changed.
With --drill it is an exercise: what answers it takes no effect, and it never mixes with what is live.

  kubectl firebreak event -n security
  kubectl firebreak event "A laptop was left on a train" --type PhysicalBreach --asset Device:LT-0042 --when 40m`

const (
	maxEventTitle  = 256
	maxReportText  = 2048
	maxDescription = 4096
	maxWhere       = 253
)

type eventFlags struct {
	createFlags
	title, description, kind, malfunction, screen, actions, when, where, severity, user, email string
}

func newEventCommand(s *session) *cobra.Command {
	f := &eventFlags{}
	cmd := &cobra.Command{
		Use:     "event [TITLE]",
		Aliases: []string{"report"},
		Short:   "Report something that may be an incident",
		Long:    eventLong,
		Args:    between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.title = strings.Join(args, "")
			return s.reportEvent(cmd, f)
		},
	}
	f.add(cmd, "SecurityEvent")
	cmd.Flags().StringVar(&f.kind, "type", "", "what it is: "+oneOf(reportTypes))
	cmd.Flags().StringVar(&f.description, "description", "", "what happened, in full")
	cmd.Flags().StringVar(&f.when, "when", "", "when: '14:30', '2026-11-21 14:30', or how long ago, such as 20m; now when not given")
	cmd.Flags().StringVar(&f.where, "where", "", "the place, such as a site or room")
	cmd.Flags().StringVar(&f.malfunction, "malfunction", "", "what does not work as it should")
	cmd.Flags().StringVar(&f.screen, "screen-messages", "", "the messages on the screen, word by word")
	cmd.Flags().StringVar(&f.actions, "actions-taken", "", "what you have done about it")
	cmd.Flags().StringVar(&f.severity, "severity", string(v1alpha1.SeverityMedium), "how bad you think it is: "+oneOf(severities))
	cmd.Flags().StringVar(&f.user, "reporter-user", "", "who noticed it, when that is not you")
	cmd.Flags().StringVar(&f.email, "reporter-email", "", "where that person can be asked")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(enumNames(reportTypes), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("severity", cobra.FixedCompletions(enumNames(severities), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (s *session) reportEvent(cmd *cobra.Command, f *eventFlags) error {
	ctx := cmd.Context()
	if err := f.check(); err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	if s.terminal.interactive {
		if err := s.askForEvent(ctx, f, cmd.Flags().Changed); err != nil {
			return err
		}
	}
	spec, err := s.eventSpec(f)
	if err != nil {
		return err
	}
	user, err := s.whoAmI(ctx)
	if err != nil {
		return err
	}
	spec.SubmittedBy = user.Username
	event := &v1alpha1.SecurityEvent{ObjectMeta: metav1.ObjectMeta{GenerateName: "report-", Namespace: namespace}, Spec: *spec}
	created, err := s.create(ctx, &f.createFlags, event, v1alpha1.SchemeGroupVersion.WithKind("SecurityEvent"))
	if err != nil || !created {
		return err
	}
	what := "event"
	if f.drill {
		what = "drill"
	}
	fmt.Fprintf(s.Out, "%s as the %s %s. Thank you.\n", s.style.green("Reported"), what, event.Name)
	fmt.Fprintf(s.Out, "  %s\n", classify.Advice(event))
	fmt.Fprintf(s.Out, "  What becomes of it: kubectl get securityevent %s -n %s%s\n", event.Name, namespace, s.clusterFlags())
	return nil
}

// eventSpec makes the event of what was said.
func (s *session) eventSpec(f *eventFlags) (*v1alpha1.SecurityEventSpec, error) {
	if strings.TrimSpace(f.title) == "" {
		return nil, failed("the title is missing: it says in one line what has happened", `Such as: kubectl firebreak event "A laptop was left on a train" --type PhysicalBreach`)
	}
	if f.kind == "" {
		return nil, failed("--type is missing: it must be one of " + oneOf(reportTypes))
	}
	kind, err := reportType("--type", f.kind)
	if err != nil {
		return nil, err
	}
	severity, err := choose("--severity", f.severity, severities)
	if err != nil {
		return nil, err
	}
	for _, text := range []struct {
		flag, text string
		most       int
	}{
		{"the title", f.title, maxEventTitle}, {"--description", f.description, maxDescription}, {"--malfunction", f.malfunction, maxReportText},
		{"--screen-messages", f.screen, maxReportText}, {"--actions-taken", f.actions, maxReportText}, {"--where", f.where, maxWhere},
	} {
		if err := fits(text.flag, text.text, text.most); err != nil {
			return nil, err
		}
	}
	observed, err := s.moment("--when", f.when)
	if err != nil {
		return nil, err
	}
	resources, assets, err := f.things()
	if err != nil {
		return nil, err
	}
	if f.where != "" {
		assets = append(assets, v1alpha1.Asset{Type: "Site", Identifier: f.where})
	}
	return &v1alpha1.SecurityEventSpec{
		Source: v1alpha1.EventSource{Kind: v1alpha1.SourceHuman}, Mode: f.mode(), Title: f.title, Description: f.description, Severity: severity,
		ObservedTime: observed, Resources: resources, Assets: assets,
		Report:   v1alpha1.EventReport{Type: kind, Malfunction: f.malfunction, ScreenMessages: f.screen, ActionsTaken: f.actions},
		Reporter: v1alpha1.Reporter{User: f.user, Email: f.email},
	}, nil
}
