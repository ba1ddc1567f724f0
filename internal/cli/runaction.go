package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var targetKinds = []v1alpha1.TargetKind{
	v1alpha1.TargetPods, v1alpha1.TargetWorkloads, v1alpha1.TargetNodes, v1alpha1.TargetNamespaces, v1alpha1.TargetServiceAccounts, v1alpha1.TargetImages,
}

type runActionFlags struct {
	decisionFlags
	target, file string
}

func newRunActionCommand(s *session) *cobra.Command {
	f := &runActionFlags{}
	cmd := &cobra.Command{
		Use:   "run INCIDENT [ACTION] --reason TEXT",
		Short: "Run an action beside the playbook",
		Long: "Run an action beside the playbook: one of those that its `adHoc` names, under its ServiceAccount and limits.\n" +
			"It becomes a step of the incident, and is undone and recorded like one.\n\n" +
			"  kubectl firebreak run k7f2a isolate --target Pods --reason \"it spreads\"\n" +
			"  kubectl firebreak run k7f2a -f step.yaml --reason \"it spreads\"\n\n" +
			"The file holds a step as in a playbook: `target` or `targets`, and one action with its fields.",
		Args:              between(1, 2),
		ValidArgsFunction: s.completeIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			action, err := f.action(s, args[1:])
			if err != nil {
				return err
			}
			return s.decideIncident(cmd.Context(), &f.decisionFlags, args[0], incidentDecision{
				spec:           v1alpha1.DecisionSpec{Type: v1alpha1.DecisionRunAction, Action: &runtime.RawExtension{Raw: action}},
				reasonRequired: true,
				done:           "has the action as a step of its own",
			})
		},
	}
	f.add(cmd, reasonFlag+" (required)")
	cmd.Flags().StringVar(&f.target, "target", "", "which objects of the incident: "+oneOf(targetKinds))
	cmd.Flags().StringVarP(&f.file, "filename", "f", "", "the step, as YAML or JSON; - reads it from the input")
	_ = cmd.RegisterFlagCompletionFunc("target", cobra.FixedCompletions(enumNames(targetKinds), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// maxStepFile is how many bytes of a file are read.
const maxStepFile = 64 << 10

// action is the step to run, as JSON.
func (f *runActionFlags) action(s *session, named []string) ([]byte, error) {
	switch {
	case f.file == "" && len(named) == 0:
		return nil, failed("nothing says what to run: it must be an ACTION or a file", "Such as: kubectl firebreak run INCIDENT isolate --target Pods", "Or:      kubectl firebreak run INCIDENT -f step.yaml")
	case f.file != "" && (len(named) > 0 || f.target != ""):
		return nil, failed("the file says what to run: ACTION and --target must not be given with -f")
	case f.file != "":
		return f.read(s)
	}
	step := map[string]any{named[0]: map[string]any{}}
	if f.target != "" {
		target, err := choose("--target", f.target, targetKinds)
		if err != nil {
			return nil, err
		}
		step["target"] = string(target)
	}
	return json.Marshal(step)
}

func (f *runActionFlags) read(s *session) ([]byte, error) {
	source := s.In
	if f.file != "-" {
		file, err := os.Open(f.file)
		if err != nil {
			return nil, failed(fmt.Sprintf("the step cannot be read: %v", err))
		}
		defer file.Close()
		source = file
	}
	text, err := io.ReadAll(io.LimitReader(source, maxStepFile+1))
	if err != nil {
		return nil, failed(fmt.Sprintf("the step cannot be read: %v", err))
	}
	if len(text) > maxStepFile {
		return nil, failed(fmt.Sprintf("the step is too long: it must be at most %d bytes", maxStepFile))
	}
	step := map[string]any{}
	if err := yaml.UnmarshalStrict(text, &step); err != nil {
		return nil, failed(fmt.Sprintf("the step is not YAML: %v", err))
	}
	return json.Marshal(step)
}
