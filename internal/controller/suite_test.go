package controller

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// waitFor is how long a test waits for the controllers on a slow machine.
const waitFor = 90 * time.Second

// maxProblem is how much a test says of what it has waited for in vain.
const maxProblem = 3000

var (
	// testConfig is an administrator of the API server of these tests.
	testConfig *rest.Config
	// testClient reads and writes without a cache.
	testClient client.Client
	testScheme = runtime.NewScheme()
)

func TestMain(m *testing.M) {
	os.Exit(runWithAPIServer(m))
}

func runWithAPIServer(m *testing.M) int {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fmt.Fprintln(os.Stderr, "KUBEBUILDER_ASSETS must name the folder of etcd and kube-apiserver; `make test` sets it")
		return 1
	}
	ctrl.SetLogger(logr.Discard())
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(testScheme); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
		CRDInstallOptions:     envtest.CRDInstallOptions{MaxTime: time.Minute},

		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute,
	}
	started, err := environment.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the API server:", err)
		return 1
	}
	defer func() {
		if err := environment.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the API server:", err)
		}
	}()
	testConfig = started
	testConfig.QPS = -1
	testClient, err = client.New(testConfig, client.Options{Scheme: testScheme})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// newDomain creates a response domain for one test.
func newDomain(t *testing.T) string {
	t.Helper()
	return newNamespace(t, map[string]string{v1alpha1.LabelDomain: ""})
}

func newNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}
	mustCreate(t, namespace)
	return namespace.Name
}

// labelDomain sets the label of response domains to a JSON string, or takes it away by null.
func labelDomain(t *testing.T, namespace, value string) {
	t.Helper()
	label := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, v1alpha1.LabelDomain, value)
	if err := testClient.Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, client.RawPatch(types.MergePatchType, label)); err != nil {
		t.Fatal(err)
	}
}

func mustCreate(t *testing.T, object client.Object) {
	t.Helper()
	if err := testClient.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// newManager gives a manager that sees one namespace only.
func newManager(t *testing.T, namespace string) ctrl.Manager {
	t.Helper()
	mgr, err := ctrl.NewManager(testConfig, ctrl.Options{
		Scheme:  testScheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{namespace: {}}, DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{&v1alpha1.SecurityEvent{}: {Transform: KeepOfEvent}},
		},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

// start runs a manager until the test ends or stop is called.
func start(t *testing.T, mgr ctrl.Manager) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// eventually waits until check says nothing any more.
func eventually(t *testing.T, check func(ctx context.Context) (problem string)) {
	t.Helper()
	problem := "not tried"
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, waitFor, true, func(ctx context.Context) (bool, error) {
		problem = check(ctx)
		return problem == "", nil
	})
	if err != nil {
		if left := len(problem) - maxProblem; left > 0 {
			problem = fmt.Sprintf("%s … and %d bytes more", strings.ToValidUTF8(problem[:maxProblem], ""), left)
		}
		t.Fatalf("after %s: %s", waitFor, problem)
	}
}
