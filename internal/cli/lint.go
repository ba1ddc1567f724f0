package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/internal/lint"
	"github.com/firebreak-dev/firebreak/internal/manifest"
)

const lintLong = `Check manifests before they come to a cluster; no cluster is needed.

Of every object of Firebreak in the files, and in the *.yaml, *.yml and *.json of the directories
but for hidden ones ('-' is the standard input; links are followed), it says what the API server would refuse, with unknown fields and the
rules of the schema; what would keep a policy or playbook from being Ready: expressions,
references to each other, roles of the plan and ServiceAccounts, the order of steps; rights that
a playbook's or the plan's ServiceAccount lacks by the Roles, ClusterRoles and bindings among
the manifests; and rules that trust whoever sends, or are never asked. Give all that belongs
together: what is not given cannot be checked, and is a warning. Other kinds are passed over. Of
kustomize overlays it wants the result:

  kubectl firebreak lint clusters/prod/security
  kubectl kustomize overlays/prod | kubectl firebreak lint --strict -

Exit code: 0 nothing found but warnings; 1 errors, also in the YAML itself (with --strict also
warnings); 2 a PATH that cannot be read, or has no object of Firebreak.

-o json gives {findings: [{file, line, column, severity, reason, kind, namespace, name, field,
message}], files, objects, ignored, errors, warnings}, in the order of files and lines; the same
manifests give the same text.`

type lintFlags struct {
	output string
	strict bool
}

func newLintCommand(s *session) *cobra.Command {
	f := &lintFlags{}
	cmd := &cobra.Command{
		Use:   "lint PATH...",
		Short: "Check policies, playbooks and their rights before they come to a cluster",
		Long:  lintLong,
		Args:  atLeastOne,
		RunE:  func(cmd *cobra.Command, args []string) error { return s.lint(cmd.Context(), f, args) },
	}
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "json")
	cmd.Flags().BoolVar(&f.strict, "strict", false, "exit with 1 on warnings too")
	return cmd
}

// atLeastOne is cobra's check that there is a path.
func atLeastOne(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return nil
	}
	return failed("something is missing: it must be "+cmd.UseLine(), "Help: "+cmd.CommandPath()+" --help")
}

func (s *session) lint(ctx context.Context, f *lintFlags, paths []string) error {
	if err := checkOutput(f.output, outputJSON); err != nil {
		return err
	}
	set, err := s.readManifests(paths)
	if err != nil {
		return err
	}
	report, err := lint.Run(ctx, set, *s.flags.Namespace)
	if err != nil {
		return err
	}
	if f.output == outputJSON {
		if err := printObjects(s.Out, outputJSON, report); err != nil {
			return err
		}
	} else {
		s.printLint(report)
	}
	if report.Objects == 0 && len(report.Findings) == 0 {
		return failed(fmt.Sprintf("nothing was checked: there is no object of Firebreak in %s; PATH must be a file or folder with some", plural(report.Files, "file")))
	}
	if report.Errors > 0 || f.strict && report.Warnings > 0 {
		return &failure{code: ExitRefused}
	}
	return nil
}

// readManifests reads files and directories.
func (s *session) readManifests(paths []string) (*manifest.Set, error) {
	set, err := manifest.Read(paths, s.In)
	var where *fs.PathError
	switch {
	case errors.As(err, &where):
		return nil, failed(fmt.Sprintf("cannot read %s: %v", where.Path, where.Err))
	case err != nil:
		return nil, failed(err.Error())
	}
	return set, nil
}

func (s *session) printLint(report *lint.Report) {
	for i := range report.Findings {
		finding := &report.Findings[i]
		label := s.style.red("error:")
		if finding.Severity == lint.Warning {
			label = s.style.yellow("warning:")
		}
		about := ""
		if finding.Kind != "" {
			about = joined(" ", finding.Kind, joined("/", finding.Namespace, finding.Name)) + ": "
		}
		fmt.Fprintf(s.Out, "%s: %s %s\n", clean(finding.String()), label, clean(about+finding.Message))
	}
	if len(report.Findings) > 0 {
		fmt.Fprintln(s.Out)
	}
	fmt.Fprintf(s.Out, "%s of Firebreak in %s: %s, %s", plural(report.Objects, "object"), plural(report.Files, "file"),
		plural(report.Errors, "error"), plural(report.Warnings, "warning"))
	if report.Ignored > 0 {
		fmt.Fprintf(s.Out, "; %s passed over", plural(report.Ignored, "other document"))
	}
	fmt.Fprintln(s.Out)
}
