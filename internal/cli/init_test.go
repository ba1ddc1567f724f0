package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestInitIsIdempotent(t *testing.T) {
	ctx := t.Context()
	const name = "init-test"
	run(ctx, adminConfig, "init", "-n", name).check(t, ExitOK, "namespace init-test created\nrolebinding firebreak-impersonator created\ninit-test is a response domain.", "firebreak-impersonator is not there")
	run(ctx, adminConfig, "init", "-n", name).check(t, ExitOK, "namespace init-test unchanged\nrolebinding firebreak-impersonator unchanged\n", "")

	binding := &rbacv1.RoleBinding{}
	mustDo(t, admin.Get(ctx, client.ObjectKey{Namespace: name, Name: v1alpha1.ImpersonatorClusterRole}, binding))
	want := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "firebreak-system", Name: "firebreak-manager"}}
	if diff := cmp.Diff(want, binding.Subjects); diff != "" {
		t.Errorf("subjects (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "firebreak-impersonator"}, binding.RoleRef); diff != "" {
		t.Errorf("roleRef (-want +got):\n%s", diff)
	}

	// What someone took away comes back.
	namespace := &corev1.Namespace{}
	mustDo(t, admin.Get(ctx, client.ObjectKey{Name: name}, namespace))
	delete(namespace.Labels, v1alpha1.LabelDomain)
	namespace.Labels["team"] = "blue"
	mustDo(t, admin.Update(ctx, namespace))
	run(ctx, adminConfig, "init", "-n", name).check(t, ExitOK, "namespace init-test configured\nrolebinding firebreak-impersonator unchanged\n", "")
	mustDo(t, admin.Get(ctx, client.ObjectKey{Name: name}, namespace))
	if namespace.Labels[v1alpha1.LabelDomain] != "true" || namespace.Labels["team"] != "blue" {
		t.Errorf("labels are %v: the domain's must be there, and the team's too", namespace.Labels)
	}
}

func TestInitLabelsAnExistingNamespace(t *testing.T) {
	ctx := t.Context()
	mustDo(t, admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "init-existing"}}))
	run(ctx, adminConfig, "init", "-n", "init-existing").check(t, ExitOK, "namespace init-existing configured\n", "")
}

func TestInitRefuses(t *testing.T) {
	for _, namespace := range []string{"default", "kube-system", "kube-public", "firebreak-system"} {
		r := run(t.Context(), adminConfig, "init", "-n", namespace)
		r.check(t, ExitError, "", "the namespace "+namespace+" must not be a response domain")
	}
	run(t.Context(), adminConfig, "init").check(t, ExitError, "", "init -n NAMESPACE")
	run(t.Context(), adminConfig, "init", "-n", "x", "--dry-run=maybe").check(t, ExitError, "", "must be none or client")
	run(t.Context(), adminConfig, "init", "-n", "x", "-o", "yaml").check(t, ExitError, "", "needs --dry-run=client")
	run(t.Context(), janeConfig, "init", "-n", "jane-may-not").check(t, ExitError, "", "cannot read the namespace jane-may-not: you are not permitted to")
}

func TestInitDryRunIsWhatInitApplies(t *testing.T) {
	ctx := t.Context()
	r := run(ctx, adminConfig, "init", "-n", "init-dry", "--dry-run=client", "-o", "yaml")
	r.check(t, ExitOK, "kind: Namespace", "")
	golden(t, "init", r.out)
	namespaces := &corev1.NamespaceList{}
	mustDo(t, admin.List(ctx, namespaces))
	for i := range namespaces.Items {
		if namespaces.Items[i].Name == "init-dry" {
			t.Error("the dry run has created the namespace")
		}
	}
	if r := run(ctx, adminConfig, "init", "-n", "init-dry", "--dry-run=client", "-o", "json"); !strings.Contains(r.out, `"kind": "List"`) {
		t.Errorf("want a List:\n%s", r.out)
	}
}
