package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func newVersionCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  between(0, 0),
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(s.Out, "kubectl-firebreak %s (%s, %s/%s, API %s)\n", s.version, runtime.Version(), runtime.GOOS, runtime.GOARCH, v1alpha1.SchemeGroupVersion)
			return nil
		},
	}
}
