package harness

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Domain is a response domain of one test, and a namespace it watches over. They are
// left behind: without its controllers the control plane cannot delete namespaces.
type Domain struct {
	*Cluster
	// Namespace is the domain.
	Namespace string
	// Target is where the workloads are.
	Target string
}

var domains atomic.Int64

// NewDomain makes a namespace a response domain, with the objects `kubectl firebreak
// init` makes, and a namespace for workloads.
func (c *Cluster) NewDomain(t testing.TB) *Domain {
	t.Helper()
	number := domains.Add(1)
	d := &Domain{
		Cluster:   c,
		Namespace: fmt.Sprintf("security-%d-%d", os.Getpid(), number),
		Target:    fmt.Sprintf("shop-%d-%d", os.Getpid(), number),
	}
	c.NewNamespace(t, d.Namespace, map[string]string{v1alpha1.LabelDomain: "true"})
	c.NewNamespace(t, d.Target, nil)
	manager := Account(v1alpha1.SystemNamespace, v1alpha1.ManagerServiceAccount)
	c.create(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ImpersonatorClusterRole, Namespace: d.Namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: v1alpha1.ImpersonatorClusterRole},
		Subjects:   []rbacv1.Subject{manager},
	})
	c.WaitAllowed(t, d.Namespace, manager, []rbacv1.PolicyRule{Rule("", []string{"serviceaccounts"}, []string{"impersonate"})})
	return d
}

// NewNamespace makes a namespace with labels.
func (c *Cluster) NewNamespace(t testing.TB, name string, labels map[string]string) {
	t.Helper()
	c.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
}

// ServiceAccount makes a ServiceAccount in the domain with rights in the target namespace.
func (d *Domain) ServiceAccount(t testing.TB, name string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	d.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: d.Namespace}})
	if len(rules) > 0 {
		d.Allow(t, d.Target, Account(d.Namespace, name), rules...)
	}
}

// ContainRules are the rights that a playbook with all actions needs where it acts.
func ContainRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		Rule("", []string{"pods"}, []string{"get", "list", "patch", "delete"}),
		Rule("", []string{"pods/log"}, []string{"get"}),
		Rule("", []string{"events"}, []string{"get", "list"}),
		Rule("events.k8s.io", []string{"events"}, []string{"get", "list"}),
		Rule("apps", []string{"deployments", "replicasets", "statefulsets", "daemonsets"}, []string{"get", "list"}),
		Rule("networking.k8s.io", []string{"networkpolicies"}, []string{"get", "list", "create", "patch", "delete"}),
	}
}

// ReadRules are the rights that a plan's ServiceAccount needs to look up owners.
func ReadRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		Rule("", []string{"pods"}, []string{"get", "list"}),
		Rule("apps", []string{"deployments", "replicasets", "statefulsets", "daemonsets"}, []string{"get", "list"}),
	}
}

// Sender is somebody who may report events to a domain.
type Sender struct {
	// User is the sender's user name, which becomes `submittedBy`.
	User string
	// Token authenticates the sender at the receiver.
	Token string
}

// NewSender makes a ServiceAccount that may report events, by the role that ships.
func (d *Domain) NewSender(t testing.TB, name string) Sender {
	t.Helper()
	d.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: d.Namespace}})
	d.Bind(t, d.Namespace, "firebreak-reporter", Account(d.Namespace, name))
	return Sender{User: AccountUser(d.Namespace, name), Token: d.Token(t, d.Namespace, name, v1alpha1.ReceiverAudience)}
}
