// Package harness gives tests a real control plane (etcd and kube-apiserver) with
// Firebreak's CRDs, RBAC and admission policies as they ship, and the manager and the
// receiver as processes with the tokens of their own ServiceAccounts.
//
// A package of tests has one control plane, and each test a domain of its own in it:
//
//	func TestMain(m *testing.M) { harness.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		domain := harness.Get(t).NewDomain(t)
//		…
//	}
package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	startTimeout = 2 * time.Minute
	fieldOwner   = client.FieldOwner("firebreak-harness")
)

// Cluster is the control plane of a package's tests.
type Cluster struct {
	// Config is the administrator's, without a rate limit.
	Config *rest.Config
	// Client is the administrator's, and has no cache.
	Client client.WithWatch
	// Scheme knows Kubernetes' kinds and Firebreak's.
	Scheme *runtime.Scheme
	// Root is the repository's directory.
	Root string
	// Env is what managers and receivers that are made from now on have in their environment
	// beside that of the test, such as 'GOGC=50'.
	Env []string

	work     string
	binaries binaries
	// environment is the control plane as it was started, and apiServer the API server that
	// was started in place of its own.
	environment *envtest.Environment
	apiServer   *Process
}

var shared *Cluster

// Main runs the tests of a package on a control plane and exits. TestMain calls it.
// Options change the control plane before it starts.
func Main(m *testing.M, options ...func(*envtest.Environment)) {
	code, err := run(m, options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		code = 1
	}
	os.Exit(code)
}

// Get gives the package's control plane.
func Get(t testing.TB) *Cluster {
	t.Helper()
	if shared == nil {
		t.Fatal("there is no control plane: TestMain must call harness.Main")
	}
	return shared
}

func run(m *testing.M, options []func(*envtest.Environment)) (code int, err error) {
	if err := checkAssets(os.Getenv("KUBEBUILDER_ASSETS")); err != nil {
		return 1, err
	}
	logf.SetLogger(logr.Discard())
	work, err := os.MkdirTemp("", "firebreak-test-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(work)

	environment, err := newEnvironment(work)
	if err != nil {
		return 1, err
	}
	for _, option := range options {
		option(environment)
	}
	config, err := environment.Start()
	if err != nil {
		return 1, fmt.Errorf("starting etcd and kube-apiserver: %w", errors.Join(err, environment.Stop()))
	}
	defer func() {
		if stopErr := environment.Stop(); err == nil && stopErr != nil {
			err = fmt.Errorf("stopping the control plane: %w", stopErr)
		}
	}()

	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	shared, err = newCluster(ctx, config, work)
	if err != nil {
		return 1, err
	}
	shared.environment = environment
	defer shared.endAPIServer()
	return m.Run(), nil
}

// newEnvironment is a control plane that can be started again: its certificates and its
// address stay its own.
func newEnvironment(work string) (*envtest.Environment, error) {
	certificates := filepath.Join(work, "apiserver")
	if err := os.Mkdir(certificates, 0o700); err != nil {
		return nil, err
	}
	address, err := freeAddress(context.Background())
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	environment := &envtest.Environment{ControlPlaneStartTimeout: startTimeout, ControlPlaneStopTimeout: startTimeout}
	server := environment.ControlPlane.GetAPIServer()
	server.CertDir = certificates
	server.ListenAddr = envtest.ListenAddr{Address: host, Port: port}
	environment.ControlPlane.Etcd = &envtest.Etcd{}
	// Nothing here must survive the machine.
	environment.ControlPlane.Etcd.Configure().Append("unsafe-no-fsync", "true")
	return environment, nil
}

// EtcdURL is where etcd answers, without TLS.
func (c *Cluster) EtcdURL() string { return c.environment.ControlPlane.Etcd.URL.String() }

func checkAssets(dir string) error {
	if dir == "" {
		return errors.New("KUBEBUILDER_ASSETS must name the directory of etcd and kube-apiserver; " +
			"`make test` builds them and sets it, or: make controlplane-test && KUBEBUILDER_ASSETS=$PWD/bin/k8s go test …")
	}
	for _, binary := range []string{"etcd", "kube-apiserver"} {
		if _, err := os.Stat(filepath.Join(dir, binary)); err != nil {
			return fmt.Errorf("KUBEBUILDER_ASSETS must hold %s; `make controlplane-test` builds it: %w", binary, err)
		}
	}
	return nil
}

func newCluster(ctx context.Context, config *rest.Config, work string) (*Cluster, error) {
	root, err := repositoryRoot()
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	c := &Cluster{Config: config, Scheme: runtime.NewScheme(), Root: root, work: work}
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(c.Scheme); err != nil {
			return nil, err
		}
	}
	c.Client, err = client.NewWithWatch(config, client.Options{Scheme: c.Scheme})
	if err != nil {
		return nil, err
	}
	if err := c.install(ctx); err != nil {
		return nil, fmt.Errorf("installing Firebreak: %w", err)
	}
	return c, nil
}

// repositoryRoot is the directory of the main module's go.mod, above the tests.
func repositoryRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(content), "module github.com/firebreak-dev/firebreak\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod of module github.com/firebreak-dev/firebreak above %s", start)
		}
	}
}
