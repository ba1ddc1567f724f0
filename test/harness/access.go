package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Names that Kubernetes gives its users and groups.
const (
	// Masters is the group that may do everything.
	Masters = "system:masters"
	// Manager is the manager's user name.
	Manager = "system:serviceaccount:" + v1alpha1.SystemNamespace + ":" + v1alpha1.ManagerServiceAccount
	// Receiver is the receiver's user name.
	Receiver = "system:serviceaccount:" + v1alpha1.SystemNamespace + ":" + v1alpha1.ReceiverServiceAccount
)

const tokenSeconds = 24 * 3600

// As gives a client that is that user to RBAC and to admission. ServiceAccounts get the
// groups they have.
func (c *Cluster) As(t testing.TB, user string, groups ...string) client.Client {
	t.Helper()
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	as, err := client.New(config, client.Options{Scheme: c.Scheme, Mapper: c.Client.RESTMapper()})
	if err != nil {
		t.Fatalf("a client for %s: %v", user, err)
	}
	return as
}

// User is a person, to be bound to a role.
func User(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}
}

// Group is a group of people, to be bound to a role.
func Group(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
}

// Account is a ServiceAccount, to be bound to a role.
func Account(namespace, name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}
}

// AccountUser is the user name of a ServiceAccount.
func AccountUser(namespace, name string) string {
	return "system:serviceaccount:" + namespace + ":" + name
}

// Bind binds a ClusterRole to a subject in a namespace and waits until it counts.
func (c *Cluster) Bind(t testing.TB, namespace, clusterRole string, subject rbacv1.Subject) {
	t.Helper()
	var role rbacv1.ClusterRole
	if err := c.Client.Get(t.Context(), client.ObjectKey{Name: clusterRole}, &role); err != nil {
		t.Fatal(err)
	}
	c.create(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: clusterRole + "-", Namespace: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterRole},
		Subjects:   []rbacv1.Subject{subject},
	})
	c.WaitAllowed(t, namespace, subject, role.Rules)
}

// Allow gives a subject rights in a namespace and waits until they count.
func (c *Cluster) Allow(t testing.TB, namespace string, subject rbacv1.Subject, rules ...rbacv1.PolicyRule) {
	t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Namespace: namespace}, Rules: rules}
	c.create(t, role)
	c.create(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name, Namespace: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   []rbacv1.Subject{subject},
	})
	c.WaitAllowed(t, namespace, subject, rules)
}

// Rule is a right on resources of one API group.
func Rule(group string, resources, verbs []string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
}

func (c *Cluster) create(t testing.TB, object client.Object) {
	t.Helper()
	if err := c.Client.Create(t.Context(), object); err != nil {
		t.Fatalf("creating the %T %s: %v", object, object.GetName(), err)
	}
}

// WaitAllowed waits until the authorizer has taken up what was granted.
func (c *Cluster) WaitAllowed(t testing.TB, namespace string, subject rbacv1.Subject, rules []rbacv1.PolicyRule) {
	t.Helper()
	for _, rule := range rules {
		for _, attributes := range attributesOf(namespace, rule) {
			Eventually(t, Patience, "a right to count", func(ctx context.Context) error {
				allowed, err := c.allowed(ctx, subject, attributes)
				if err == nil && !allowed {
					err = fmt.Errorf("%s may not %s %s.%s in %s", subject.Name, attributes.Verb, attributes.Resource, attributes.Group, namespace)
				}
				return err
			})
		}
	}
}

func attributesOf(namespace string, rule rbacv1.PolicyRule) []authorizationv1.ResourceAttributes {
	name := ""
	if len(rule.ResourceNames) > 0 {
		name = rule.ResourceNames[0]
	}
	var all []authorizationv1.ResourceAttributes
	for _, full := range rule.Resources {
		resource, subresource := splitResource(full)
		for _, verb := range rule.Verbs {
			all = append(all, authorizationv1.ResourceAttributes{
				Namespace: namespace, Group: rule.APIGroups[0], Resource: resource, Subresource: subresource, Verb: verb, Name: name,
			})
		}
	}
	return all
}

func (c *Cluster) allowed(ctx context.Context, subject rbacv1.Subject, attributes authorizationv1.ResourceAttributes) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: &attributes}}
	switch subject.Kind {
	case rbacv1.GroupKind:
		review.Spec.User, review.Spec.Groups = "anybody", []string{subject.Name}
	case rbacv1.ServiceAccountKind:
		review.Spec.User = AccountUser(subject.Namespace, subject.Name)
	default:
		review.Spec.User = subject.Name
	}
	err := c.Client.Create(ctx, review)
	return review.Status.Allowed, err
}

// Token gives a token of a ServiceAccount for these audiences; none means the API server.
func (c *Cluster) Token(t testing.TB, namespace, name string, audiences ...string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: audiences, ExpirationSeconds: ptr.To[int64](tokenSeconds)},
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := c.Client.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatalf("a token for the ServiceAccount %s/%s: %v", namespace, name, err)
	}
	return request.Status.Token
}

// Kubeconfig writes a kubeconfig that holds the token of a ServiceAccount, and gives its path.
func (c *Cluster) Kubeconfig(t testing.TB, namespace, name string) string {
	t.Helper()
	user := &clientcmdapi.AuthInfo{Token: c.Token(t, namespace, name)}
	return c.kubeconfig(t, name, user)
}

// UserKubeconfig writes a kubeconfig of a person, as kubectl would use, and gives its path.
func (c *Cluster) UserKubeconfig(t testing.TB, user string, groups ...string) string {
	t.Helper()
	return c.kubeconfig(t, "user", &clientcmdapi.AuthInfo{
		ClientCertificateData: c.Config.CertData, ClientKeyData: c.Config.KeyData,
		Impersonate: user, ImpersonateGroups: groups,
	})
}

func (c *Cluster) kubeconfig(t testing.TB, name string, user *clientcmdapi.AuthInfo) string {
	t.Helper()
	return writeKubeconfig(t, name, &clientcmdapi.Cluster{Server: "https://" + hostOf(c.Config), CertificateAuthorityData: c.Config.CAData}, user)
}

func writeKubeconfig(t testing.TB, name string, cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = cluster
	config.AuthInfos[name] = user
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: name}
	config.CurrentContext = "test"
	path := filepath.Join(t.TempDir(), name+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
