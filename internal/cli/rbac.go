package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	rbacLong = `Print the exact rights a playbook needs, as Roles and bindings for its ServiceAccount.

Where spec.scope.namespaces names namespaces, each gets a Role; where it names none, the
rights are in the whole cluster. What acts on nodes or other objects of the cluster gets a
ClusterRole either way. A playbook that tells people gets a Role for the plan's
ServiceAccount too, which reads the Secrets of the plan's channels; with -f the plan must be
in the file. It grants nothing by itself: look at it, and keep it in git.

  kubectl firebreak rbac contain -n security
  kubectl firebreak rbac -f contain.yaml | kubectl apply -f -`

	maxPlaybookFile = 4 << 20
)

type rbacFlags struct{ file, output string }

func newRBACCommand(s *session) *cobra.Command {
	f := &rbacFlags{}
	cmd := &cobra.Command{
		Use:   "rbac (PLAYBOOK | -f FILE)",
		Short: "Print the rights a playbook needs",
		Long:  rbacLong,
		Args:  between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.printRights(cmd.Context(), f, args)
		},
	}
	cmd.Flags().StringVarP(&f.file, "filename", "f", "", "a file with playbooks; '-' is the standard input")
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "yaml (the default) or json")
	return cmd
}

func (s *session) printRights(ctx context.Context, f *rbacFlags, args []string) error {
	if err := checkOutput(f.output, outputYAML, outputJSON); err != nil {
		return err
	}
	if (f.file == "") == (len(args) == 0) {
		return failed("the rights of which playbook? It must be a name or -f FILE, and not both", "Help: kubectl firebreak rbac --help")
	}
	found, err := s.playbooks(ctx, f.file, args)
	if err != nil {
		return err
	}
	var objects []any
	var remarks []string
	for i := range found.playbooks {
		granted := rolesFor(&found.playbooks[i])
		granted.add(channelRoles(&found.playbooks[i], found.planOf(&found.playbooks[i])))
		objects = append(objects, granted.objects...)
		remarks = append(remarks, granted.remarks...)
	}
	for _, remark := range remarks {
		fmt.Fprintf(s.ErrOut, "%s %s\n", s.style.yellow("Note:"), clean(remark))
	}
	if len(objects) == 0 {
		fmt.Fprintln(s.ErrOut, "It needs no rights: none of its steps acts on anything.")
		return nil
	}
	return printObjects(s.Out, f.output, objects...)
}

// rbacSource is what rights are printed for.
type rbacSource struct {
	playbooks []v1alpha1.ResponsePlaybook
	plans     []v1alpha1.ResponsePlan
}

// planOf gives the plan of a playbook's namespace; nil when it is not known.
func (f *rbacSource) planOf(playbook *v1alpha1.ResponsePlaybook) *v1alpha1.ResponsePlan {
	for i := range f.plans {
		if namespace := f.plans[i].Namespace; namespace == playbook.Namespace || namespace == "" {
			return &f.plans[i]
		}
	}
	return nil
}

// playbooks gives the playbook of that name with the plan of its namespace, or those of a file.
func (s *session) playbooks(ctx context.Context, file string, args []string) (*rbacSource, error) {
	if file != "" {
		found, err := s.playbooksOf(file)
		if err != nil {
			return nil, err
		}
		for i := range found.playbooks {
			if playbook := &found.playbooks[i]; playbook.Namespace == "" {
				if playbook.Namespace, err = s.namespace(); err != nil {
					return nil, err
				}
			}
		}
		return found, nil
	}
	api, err := s.client()
	if err != nil {
		return nil, err
	}
	namespace, err := s.namespace()
	if err != nil {
		return nil, err
	}
	playbook := v1alpha1.ResponsePlaybook{}
	if err := api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: args[0]}, &playbook); err != nil {
		return nil, explain(err, fmt.Sprintf("read the playbook %s in the namespace %s", clean(args[0]), namespace))
	}
	found := &rbacSource{playbooks: []v1alpha1.ResponsePlaybook{playbook}}
	if !tells(&playbook) {
		return found, nil
	}
	plan := v1alpha1.ResponsePlan{}
	switch err := api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.ResponsePlanName}, &plan); {
	case err == nil:
		found.plans = append(found.plans, plan)
	case !apierrors.IsNotFound(err):
		return nil, explain(err, fmt.Sprintf("read the plan of the namespace %s", namespace))
	}
	return found, nil
}

func (s *session) playbooksOf(file string) (*rbacSource, error) {
	reader := s.In
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, failed(err.Error())
		}
		defer func() { _ = opened.Close() }()
		reader = opened
	}
	content, err := io.ReadAll(io.LimitReader(reader, maxPlaybookFile))
	if err != nil {
		return nil, failed(fmt.Sprintf("cannot read %s: %v", file, err))
	}
	found := &rbacSource{}
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = found.read(document)
		}
		if err != nil {
			return nil, failed(fmt.Sprintf("document %d of %s is not what it must be: %v", number, file, err))
		}
	}
	if len(found.playbooks) == 0 {
		return nil, failed(file + " has no ResponsePlaybook: it must have at least one")
	}
	return found, nil
}

// read reads a document; what is no playbook and no plan is passed over.
func (f *rbacSource) read(document []byte) error {
	head := struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}{}
	if err := sigsyaml.Unmarshal(document, &head); err != nil {
		return err
	}
	if head.Kind != "ResponsePlaybook" && head.Kind != "ResponsePlan" {
		return nil
	}
	if head.APIVersion != v1alpha1.SchemeGroupVersion.String() {
		return fmt.Errorf("`apiVersion` must be '%s'", v1alpha1.SchemeGroupVersion)
	}
	if head.Kind == "ResponsePlan" {
		plan := v1alpha1.ResponsePlan{}
		err := sigsyaml.UnmarshalStrict(document, &plan)
		f.plans = append(f.plans, plan)
		return err
	}
	playbook := v1alpha1.ResponsePlaybook{}
	if err := sigsyaml.UnmarshalStrict(document, &playbook); err != nil {
		return err
	}
	if playbook.Name == "" || playbook.Spec.ServiceAccountName == "" {
		return errors.New("`metadata.name` and `spec.serviceAccountName` must be set")
	}
	f.playbooks = append(f.playbooks, playbook)
	return nil
}
