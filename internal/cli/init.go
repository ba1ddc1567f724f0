package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	initOwner = client.FieldOwner("kubectl-firebreak-init")
	initLong  = `Make a namespace a response domain: the place where the events, policies, playbooks,
incidents and evidence of one team live.

It labels the namespace firebreak.dev/domain=true, and creates it when there is none, and
binds the ClusterRole firebreak-impersonator there, so that the manager can act as the
ServiceAccounts of this namespace, and of no other. It may be run again.

With --dry-run=client it prints these two objects instead, for kubectl apply or GitOps.`
)

type initFlags struct{ dryRun, output string }

func newInitCommand(s *session) *cobra.Command {
	f := &initFlags{}
	cmd := &cobra.Command{
		Use:   "init -n NAMESPACE",
		Short: "Make a namespace a response domain",
		Long:  initLong,
		Args:  between(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return s.initialize(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.dryRun, "dry-run", "none", "'client' prints the objects and changes nothing")
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "with --dry-run=client: yaml or json")
	return cmd
}

func (s *session) initialize(ctx context.Context, f *initFlags) error {
	namespace := *s.flags.Namespace
	if namespace == "" {
		return failed("which namespace is meant to become a response domain?", "Say it: kubectl firebreak init -n NAMESPACE")
	}
	if strings.HasPrefix(namespace, "kube-") || slices.Contains([]string{defaultNamespace, v1alpha1.SystemNamespace}, namespace) {
		return failed(fmt.Sprintf("the namespace %s must not be a response domain: everything in it could be reached by playbooks", namespace),
			"Use one of its own: kubectl firebreak init -n security")
	}
	if err := checkOutput(f.output, outputYAML, outputJSON); err != nil {
		return err
	}
	switch {
	case f.dryRun != "none" && f.dryRun != "client":
		return failed(fmt.Sprintf("--dry-run=%s is not known: it must be none or client", clean(f.dryRun)))
	case f.dryRun == "client":
		return printObjects(s.Out, f.output, domainNamespace(namespace), impersonatorBinding(namespace))
	case f.output != "":
		return failed("-o prints the objects and needs --dry-run=client")
	}
	if err := s.makeDomain(ctx, namespace); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s is a response domain.\n", namespace)
	fmt.Fprintf(s.Out, "  Next: a ResponsePlan, a ClassificationPolicy and a ResponsePlaybook: kubectl apply -n %s%s -f ...\n", namespace, s.clusterFlags())
	return nil
}

// domainNamespace is the part of a Namespace that makes it a domain.
func domainNamespace(name string) *corev1ac.NamespaceApplyConfiguration {
	return corev1ac.Namespace(name).WithLabels(map[string]string{v1alpha1.LabelDomain: "true"})
}

// impersonatorBinding lets the manager act as the ServiceAccounts of a namespace.
func impersonatorBinding(namespace string) *rbacv1ac.RoleBindingApplyConfiguration {
	return rbacv1ac.RoleBinding(v1alpha1.ImpersonatorClusterRole, namespace).
		WithRoleRef(rbacv1ac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(v1alpha1.ImpersonatorClusterRole)).
		WithSubjects(rbacv1ac.Subject().WithKind(rbacv1.ServiceAccountKind).
			WithNamespace(v1alpha1.SystemNamespace).WithName(v1alpha1.ManagerServiceAccount))
}

func (s *session) makeDomain(ctx context.Context, namespace string) error {
	api, err := s.client()
	if err != nil {
		return err
	}
	steps := []struct {
		what   string
		object client.Object
		apply  runtime.ApplyConfiguration
	}{
		{"namespace " + namespace, &corev1.Namespace{}, domainNamespace(namespace)},
		{"rolebinding " + v1alpha1.ImpersonatorClusterRole, &rbacv1.RoleBinding{}, impersonatorBinding(namespace)},
	}
	keys := []client.ObjectKey{{Name: namespace}, {Namespace: namespace, Name: v1alpha1.ImpersonatorClusterRole}}
	for i, step := range steps {
		before, err := version(ctx, api, keys[i], step.object)
		if err != nil {
			return explain(err, "read the "+step.what)
		}
		if err := api.Apply(ctx, step.apply, initOwner, client.ForceOwnership); err != nil {
			return explain(err, "apply the "+step.what)
		}
		after, err := version(ctx, api, keys[i], step.object)
		if err != nil {
			return explain(err, "read the "+step.what)
		}
		fmt.Fprintf(s.Out, "%s %s\n", step.what, changed(before, after))
	}
	role := &rbacv1.ClusterRole{}
	if err := api.Get(ctx, client.ObjectKey{Name: v1alpha1.ImpersonatorClusterRole}, role); apierrors.IsNotFound(err) {
		fmt.Fprintf(s.ErrOut, "%s the ClusterRole %s is not there: Firebreak is not installed in this cluster yet.\n",
			s.style.yellow("Warning:"), v1alpha1.ImpersonatorClusterRole)
	}
	return nil
}

// version is the resourceVersion of an object; empty when it is not there.
func version(ctx context.Context, api client.Client, key client.ObjectKey, object client.Object) (string, error) {
	err := api.Get(ctx, key, object)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	return object.GetResourceVersion(), err
}

func changed(before, after string) string {
	switch before {
	case "":
		return "created"
	case after:
		return "unchanged"
	default:
		return "configured"
	}
}
