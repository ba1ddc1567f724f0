package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var (
	update = flag.Bool("update", false, "write the golden files")

	environment *envtest.Environment
	admin       client.WithWatch
	adminConfig string // path of the admin's kubeconfig
	janeConfig  string // path of the kubeconfig of a responder
	scratch     string
)

const (
	jane        = "jane@example.com"
	oncallGroup = "security-oncall"
	setupTime   = 90 * time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		os.Exit(Run(context.Background(), os.Args[1:], Config{Streams: genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}}))
	}
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // no fuzz target needs a cluster, and there is a process for each worker
	}
	code, err := runWithCluster(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "internal/cli:", err)
		code = 1
	}
	os.Exit(code)
}

func runWithCluster(m *testing.M) (code int, err error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return 1, errors.New("KUBEBUILDER_ASSETS must name the directory of etcd and kube-apiserver: run `make test`")
	}
	if scratch, err = os.MkdirTemp("", "firebreak-cli"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(scratch)
	environment = &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
		CRDInstallOptions:     envtest.CRDInstallOptions{MaxTime: setupTime},

		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: setupTime,
	}
	config, err := environment.Start()
	if err != nil {
		return 1, fmt.Errorf("starting the control plane: %w", err)
	}
	defer func() { err = errors.Join(err, environment.Stop()) }()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return 1, err
		}
	}
	if admin, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return 1, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTime)
	defer cancel()
	if err := prepare(ctx); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// prepare installs what ships: roles for people, and the guard of Decisions.
func prepare(ctx context.Context) (err error) {
	for _, file := range []string{"rbac/user_roles.yaml", "admission/decisions.yaml"} {
		if err := install(ctx, filepath.Join("..", "..", "config", filepath.FromSlash(file))); err != nil {
			return fmt.Errorf("installing %s: %w", file, err)
		}
	}
	if adminConfig, err = addUser("admin", "system:masters"); err != nil {
		return err
	}
	if janeConfig, err = addUser(jane, oncallGroup, "everybody"); err != nil {
		return err
	}
	return untilGuarded(ctx)
}

func install(ctx context.Context, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		object := &unstructured.Unstructured{}
		if err := utilyaml.Unmarshal(document, &object.Object); err != nil {
			return err
		}
		if len(object.Object) == 0 {
			continue
		}
		if err := admin.Create(ctx, object); err != nil {
			return err
		}
	}
}

func addUser(name string, groups ...string) (string, error) {
	user, err := environment.AddUser(envtest.User{Name: name, Groups: groups}, nil)
	if err != nil {
		return "", err
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return "", err
	}
	path := filepath.Join(scratch, strings.NewReplacer("@", "-", ":", "-").Replace(name)+".kubeconfig")
	return path, os.WriteFile(path, kubeconfig, 0o600)
}

// untilGuarded waits until the guard of Decisions bites.
func untilGuarded(ctx context.Context) error {
	forged := &v1alpha1.Decision{
		ObjectMeta: metav1.ObjectMeta{Name: "forged", Namespace: "default"},
		Spec: v1alpha1.DecisionSpec{
			Type: v1alpha1.DecisionAcknowledge, By: "somebody-else",
			Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: "none"},
		},
	}
	return wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		return admin.Create(ctx, forged.DeepCopy(), client.DryRunAll) != nil, nil
	})
}

// domain makes a namespace of its own for a test, in which jane is a responder.
func domain(t *testing.T, role string) string {
	t.Helper()
	ctx := t.Context()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "domain-", Labels: map[string]string{v1alpha1.LabelDomain: "true"}}}
	mustDo(t, admin.Create(ctx, namespace))
	t.Cleanup(func() { // hints name the domains that there are
		unlabelled := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+v1alpha1.LabelDomain+`":null}}}`))
		mustDo(t, admin.Patch(context.WithoutCancel(ctx), namespace, unlabelled))
	})
	mustDo(t, admin.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "jane", Namespace: namespace.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: jane}},
	}))
	// The authorizer learns of the binding by a watch.
	verb, resource := "list", "incidents"
	if role == reporter {
		verb, resource = "create", "securityevents"
	}
	allowed(t, &authorizationv1.ResourceAttributes{Namespace: namespace.Name, Verb: verb, Group: v1alpha1.GroupName, Resource: resource})
	return namespace.Name
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// result is what a person gets to see of a command.
type result struct {
	code     int
	out, err string
}

func run(ctx context.Context, kubeconfig string, args ...string) result {
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	code := Run(ctx, append(args, "--kubeconfig", kubeconfig), Config{Streams: streams, Version: "test", Location: time.UTC})
	return result{code, out.String(), errOut.String()}
}

func (r result) check(t *testing.T, code int, out, err string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) || !strings.Contains(r.err, err) {
		t.Errorf("exit code %d, want %d\nout, want %q in it:\n%s\nerr, want %q in it:\n%s", r.code, code, out, r.out, err, r.err)
	}
}

// manage plays the manager: it answers every Decision of a namespace.
func manage(t *testing.T, namespace string, judge func(*v1alpha1.Decision) metav1.Condition) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	decisions, err := admin.Watch(ctx, &v1alpha1.DecisionList{}, client.InNamespace(namespace))
	mustDo(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range decisions.ResultChan() {
			decision, ok := event.Object.(*v1alpha1.Decision)
			if !ok || event.Type != watch.Added {
				continue
			}
			condition := judge(decision)
			condition.Type = v1alpha1.ConditionAccepted
			meta.SetStatusCondition(&decision.Status.Conditions, condition)
			if err := admin.Status().Update(ctx, decision); err != nil && ctx.Err() == nil {
				t.Errorf("answering %s: %v", decision.Name, err)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		decisions.Stop()
		<-done
	})
}

func accepted(*v1alpha1.Decision) metav1.Condition {
	return metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, Message: "it is so"}
}

// createIncident creates an incident with a status, as the manager would.
func createIncident(t *testing.T, incident *v1alpha1.Incident) *v1alpha1.Incident {
	t.Helper()
	status := incident.Status
	incident.ResourceVersion, incident.UID = "", ""
	mustDo(t, admin.Create(t.Context(), incident))
	incident.Status = status
	mustDo(t, admin.Status().Update(t.Context(), incident))
	return incident
}
