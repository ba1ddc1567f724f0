package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const rootLong = `Respond to security incidents in a cluster that runs Firebreak.

  kubectl firebreak list                 what is open, and what waits for a person
  kubectl firebreak show INCIDENT -w     everything about one incident, and what follows
  kubectl firebreak approve INCIDENT     let a step go on
  kubectl firebreak stop                 the red button: stop all automation

The end of an incident's name is enough: k7f2a for inc-20261121-k7f2a.
Deciding creates a Decision; --dry-run=client shows it, and kubectl create -f does the same.

Exit code: 0 done or accepted, 1 refused, broken or found faulty, 2 could not be done or told.`

// Run runs one command line and gives the exit code.
func Run(ctx context.Context, args []string, config Config) int {
	s := newSession(config)
	root := newRootCommand(s) //nolint:contextcheck // the commands get it from ExecuteContext
	root.SetArgs(args)
	return report(s.ErrOut, s.style, root.ExecuteContext(ctx))
}

// NewCommand gives the tree of commands, for documentation.
func NewCommand(config Config) *cobra.Command { return newRootCommand(newSession(config)) }

func newRootCommand(s *session) *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-firebreak",
		Short:         "Respond to security incidents",
		Long:          rootLong,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl firebreak"},
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          knownCommand,

		SuggestionsMinimumDistance: 2,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return failed(err.Error(), "Help: "+cmd.CommandPath()+" --help")
	})
	s.addConnectionFlags(root)
	root.AddGroup(
		&cobra.Group{ID: groupReport, Title: "Report:"},
		&cobra.Group{ID: groupLook, Title: "See what happens:"},
		&cobra.Group{ID: groupDecide, Title: "Decide about an incident:"},
		&cobra.Group{ID: groupEvents, Title: "Decide about an event:"},
		&cobra.Group{ID: groupFiles, Title: "Check manifests, without a cluster:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	for group, commands := range map[string][]*cobra.Command{
		groupLook:   {newListCommand(s), newShowCommand(s), newExplainCommand(s), newVerifyCommand(s)},
		groupDecide: decidingCommands(s),
		groupEvents: {newPromoteCommand(s), newJoinCommand(s), newDismissCommand(s)},
		groupReport: {newEventCommand(s), newDeclareCommand(s)},
		groupFiles:  {newLintCommand(s), newSimulateCommand(s)},
		groupOther:  {newInitCommand(s), newOffboardCommand(s), newRBACCommand(s), newVersionCommand(s)},
	} {
		for _, command := range commands {
			command.GroupID = group
			command.DisableFlagsInUseLine = true
			root.AddCommand(command)
		}
	}
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	return root
}

// knownCommand refuses what is no command, and says which was probably meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "Help: " + cmd.CommandPath() + " --help"
	if meant := cmd.SuggestionsFor(args[0]); len(meant) > 0 {
		hint = "Did you mean " + strings.Join(meant, " or ") + "?"
	}
	return failed(fmt.Sprintf("unknown command %q", clean(args[0])), hint)
}

const (
	groupLook   = "look"
	groupDecide = "decide"
	groupEvents = "events"
	groupReport = "report"
	groupFiles  = "files"
	groupOther  = "other"
)

func decidingCommands(s *session) []*cobra.Command {
	return []*cobra.Command{
		newAcknowledgeCommand(s), newConfirmCommand(s), newApproveCommand(s), newRejectCommand(s), newTaskCommand(s), newRetryCommand(s),
		newSkipCommand(s), newRunActionCommand(s), newAddResourceCommand(s), newUsePlaybookCommand(s), newDetachCommand(s), newDuplicateCommand(s), newStopCommand(s), newResumeCommand(s), newSeverityCommand(s), newDetermineCommand(s), newNoteCommand(s), newCloseCommand(s),
	}
}

// addConnectionFlags adds kubectl's flags, and keeps all but the usual ones out of the help.
func (s *session) addConnectionFlags(root *cobra.Command) {
	flags := pflag.NewFlagSet("kubectl", pflag.ContinueOnError)
	s.flags.AddFlags(flags)
	flags.VisitAll(func(flag *pflag.Flag) {
		switch flag.Name {
		case "namespace":
			flag.Usage = "namespace of the response domain; the kubeconfig context's when not given"
		case "context", "kubeconfig":
		default:
			flag.Hidden = true
		}
	})
	root.PersistentFlags().AddFlagSet(flags)
	_ = root.RegisterFlagCompletionFunc("namespace", s.completeNamespaces)
}

// between is cobra's check of the number of arguments, with the usage line in the error.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		problem := "something is missing"
		if len(args) > most {
			problem = fmt.Sprintf("%q is too much", clean(args[most]))
		}
		return failed(problem+": it must be "+cmd.UseLine(), "Help: "+cmd.CommandPath()+" --help")
	}
}
