package action_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

var (
	environment *envtest.Environment
	config      *rest.Config
	admin       client.Client
	scheme      = runtime.NewScheme()
	now         = time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fmt.Fprintln(os.Stderr, "KUBEBUILDER_ASSETS must name the directory of etcd and kube-apiserver: run the tests with 'make test'")
		return 1
	}
	log.SetLogger(logr.Discard())
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	environment = &envtest.Environment{
		CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true, Scheme: scheme,
		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute, CRDInstallOptions: envtest.CRDInstallOptions{MaxTime: time.Minute},
	}
	var err error
	if config, err = environment.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "the control plane did not start:", err)
		return 1
	}
	defer func() { _ = environment.Stop() }()
	config.QPS = -1
	if admin, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// patience is how long a test waits for what takes a second on an idle machine.
const patience = 90 * time.Second

// world is a response domain and a namespace in which it acts.
type world struct {
	*testing.T
	domain string
	shop   string
	client client.Client
	user   string
}

// allRights are what isolate, collect and delete need.
var allRights = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "patch", "delete"}},
	{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"list"}},
	{APIGroups: []string{""}, Resources: []string{"pods/log"}, Verbs: []string{"get"}},
	{APIGroups: []string{"apps"}, Resources: []string{"replicasets", "statefulsets", "daemonsets", "deployments"}, Verbs: []string{"get", "delete"}},
	{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"}, Verbs: []string{"get", "list", "create", "patch", "delete"}},
}

// without takes a verb on a resource out of rights.
func without(rules []rbacv1.PolicyRule, verb, resource string) []rbacv1.PolicyRule {
	var left []rbacv1.PolicyRule
	for _, rule := range rules {
		for _, one := range rule.Resources {
			copied := *rule.DeepCopy()
			copied.Resources = []string{one}
			if one == resource {
				copied.Verbs = nil
				for _, other := range rule.Verbs {
					if other != verb {
						copied.Verbs = append(copied.Verbs, other)
					}
				}
			}
			if len(copied.Verbs) > 0 {
				left = append(left, copied)
			}
		}
	}
	return left
}

func newWorld(t *testing.T, rights []rbacv1.PolicyRule) *world {
	t.Helper()
	w := &world{T: t}
	w.domain = w.namespace("security-")
	w.shop = w.namespace("shop-")
	w.user = "system:serviceaccount:" + w.domain + ":contain"
	w.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: "contain"}})
	w.create(&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "contain"}, Rules: append(rights, rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"},
	})})
	w.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "contain"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "contain"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.domain, Name: "contain"}},
	})
	w.client = w.impersonating(config, "contain")
	w.eventually("the rights of the ServiceAccount", func(ctx context.Context) bool {
		return w.client.List(ctx, &corev1.ConfigMapList{}, client.InNamespace(w.shop)) == nil
	})
	return w
}

func (w *world) impersonating(as *rest.Config, account string) client.Client {
	w.Helper()
	identities := impersonation.NewFactory(impersonation.Options{Config: as, Scheme: scheme, Mapper: admin.RESTMapper(), Own: admin, Clock: clock.RealClock{}})
	made, err := identities.Client(w.Context(), w.domain, account)
	if err != nil {
		w.Fatal(err)
	}
	return made
}

func (w *world) namespace(prefix string) string {
	w.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix}}
	w.create(namespace)
	return namespace.Name
}

func (w *world) create(object client.Object) {
	w.Helper()
	if err := admin.Create(w.Context(), object); err != nil {
		w.Fatalf("create %T %s: %v", object, object.GetName(), err)
	}
}

func (w *world) get(object client.Object) {
	w.Helper()
	if err := admin.Get(w.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		w.Fatalf("get %T %s: %v", object, object.GetName(), err)
	}
}

func (w *world) delete(object client.Object) {
	w.Helper()
	if err := admin.Delete(w.Context(), object, client.GracePeriodSeconds(0)); err != nil {
		w.Fatalf("delete %T %s: %v", object, object.GetName(), err)
	}
}

// patch writes as somebody else would.
func (w *world) patch(object client.Object, patch string) {
	w.Helper()
	if err := admin.Patch(w.Context(), object, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		w.Fatalf("patch %T %s: %v", object, object.GetName(), err)
	}
}

func (w *world) eventually(what string, holds func(context.Context) bool) {
	w.Helper()
	err := wait.PollUntilContextTimeout(w.Context(), 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		return holds(ctx), nil
	})
	if err != nil {
		w.Fatalf("waited in vain for %s: %v", what, err)
	}
}

// pod makes a pod of a workload, or of none.
func (w *world) pod(name string, owner client.Object, labels map[string]string, change ...func(*corev1.Pod)) *corev1.Pod {
	w.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: name, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "cart", Image: "registry.example/cart:1"}}},
	}
	if owner != nil {
		kinds, _, err := scheme.ObjectKinds(owner)
		if err != nil {
			w.Fatal(err)
		}
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, kinds[0])}
	}
	for _, one := range change {
		one(pod)
	}
	w.create(pod)
	return pod
}

// allow makes a policy of a team that allows ingress to the pods with the labels.
func (w *world) allow(name string, selector metav1.LabelSelector) *networkingv1.NetworkPolicy {
	w.Helper()
	policy := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: name},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: selector, PolicyTypes: []networkingv1.PolicyType{"Ingress"}, Ingress: []networkingv1.NetworkPolicyIngressRule{{}},
		},
	}
	w.create(policy)
	return policy
}

// policies lists the NetworkPolicies of the shop, by name.
func (w *world) policies() map[string]*networkingv1.NetworkPolicy {
	w.Helper()
	list := &networkingv1.NetworkPolicyList{}
	if err := admin.List(w.Context(), list, client.InNamespace(w.shop)); err != nil {
		w.Fatal(err)
	}
	found := map[string]*networkingv1.NetworkPolicy{}
	for i := range list.Items {
		found[list.Items[i].Name] = &list.Items[i]
	}
	return found
}

func (w *world) incident(name string) *v1alpha1.Incident {
	return &v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: name, UID: types.UID("uid-of-" + name)}}
}

func isolateStep(change ...func(*v1alpha1.IsolateAction)) *v1alpha1.PlaybookStep {
	step := &v1alpha1.PlaybookStep{Name: "isolate", Target: v1alpha1.TargetPods, Isolate: &v1alpha1.IsolateAction{}}
	for _, one := range change {
		one(step.Isolate)
	}
	return step
}

// request asks for a step about an object as it is now.
func (w *world) request(incident *v1alpha1.Incident, step *v1alpha1.PlaybookStep, object client.Object) *action.Request {
	w.Helper()
	kinds, _, err := scheme.ObjectKinds(object)
	if err != nil {
		w.Fatal(err)
	}
	apiVersion, kind := kinds[0].ToAPIVersionAndKind()
	target := v1alpha1.StepTarget{
		APIVersion: apiVersion, Kind: kind, Namespace: object.GetNamespace(), Name: object.GetName(), UID: v1alpha1.ObjectUID(object.GetUID()),
	}
	return &action.Request{
		Incident: incident, Step: step, Attempt: 1, Target: target, Targets: []v1alpha1.StepTarget{target},
		Client: w.client, ActingAs: w.user, Now: now,
	}
}

func do(t *testing.T, name string) action.Action {
	t.Helper()
	found, err := action.For(name)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// expect checks the state of a result and what its message says.
func (w *world) expect(what string, got lifecycle.Result, state v1alpha1.TargetState, says ...string) {
	w.Helper()
	if got.State != state {
		w.Fatalf("%s: %s (%s), want %s", what, got.State, got.Message, state)
	}
	for _, text := range says {
		if !strings.Contains(got.Message, text) {
			w.Errorf("%s: message %q must say %q", what, got.Message, text)
		}
	}
}

// powerless is the configuration of a user without any right.
func powerless(t *testing.T) *rest.Config {
	t.Helper()
	user, err := environment.AddUser(envtest.User{Name: "powerless"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return user.Config()
}
