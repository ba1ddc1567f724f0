package cluster

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// components starts etcd and the API server in a directory of the test.
func components(t *testing.T) Options {
	t.Helper()
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set; `make test` sets it")
	}
	return Options{
		Dir:        filepath.Join(t.TempDir(), "cluster"),
		BinDirs:    []string{assets},
		Components: []Component{Etcd, APIServer},
		NoFsync:    true,
		Log:        t.Logf,
	}
}

func start(t *testing.T, options Options) (*Cluster, *kubernetes.Clientset) {
	t.Helper()
	cluster, err := Start(t.Context(), options)
	t.Cleanup(func() {
		if err := Stop(context.Background(), options.Dir, t.Logf); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	config, err := cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	return cluster, clientFor(t, config)
}

func clientFor(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestClusterRepairsWhatDied(t *testing.T) {
	options := components(t)
	cluster, client := start(t, options)
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "kept"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, component := range options.Components {
		if err := cluster.Processes().Signal(string(component), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	again, client := start(t, options)
	if again.Server() != cluster.Server() {
		t.Errorf("the API server moved from %s to %s", cluster.Server(), again.Server())
	}
	if _, err := client.CoreV1().Namespaces().Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("what was written before is lost: %v", err)
	}
}

func TestClusterIdentities(t *testing.T) {
	cluster, client := start(t, components(t))
	account := types.NamespacedName{Namespace: "default", Name: "reader"}
	if _, err := client.CoreV1().ServiceAccounts(account.Namespace).Create(t.Context(), &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Name: account.Name},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cluster.Dir(), "run", "reader.kubeconfig")
	if err := cluster.ServiceAccountKubeconfig(t.Context(), account, path); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	review, err := clientFor(t, config).AuthenticationV1().SelfSubjectReviews().
		Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := review.Status.UserInfo.Username, "system:serviceaccount:default:reader"; got != want {
		t.Errorf("the kubeconfig is %s, want %s", got, want)
	}
	token, err := cluster.Token(t.Context(), account, time.Hour, "somebody-else")
	if err != nil {
		t.Fatal(err)
	}
	config.BearerToken, config.BearerTokenFile = token, ""
	if _, err := clientFor(t, config).Discovery().ServerGroups(); err == nil {
		t.Error("a token for somebody else is good for the API server")
	}
}

func TestClusterLetsNobodyInUnnamed(t *testing.T) {
	cluster, _ := start(t, components(t))
	config, err := cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(rest.AnonymousClientConfig(config))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/readyz": http.StatusOK, "/version": http.StatusUnauthorized, "/api": http.StatusUnauthorized} {
		response, err := client.Get(cluster.Server() + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		if response.StatusCode != want {
			t.Errorf("%s answered %d, want %d", path, response.StatusCode, want)
		}
	}
}

func TestStopRemovesEverything(t *testing.T) {
	options := components(t)
	cluster, _ := start(t, options)
	var records []record
	for _, component := range options.Components {
		r, err := cluster.processes.read(string(component))
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	if err := cluster.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.alive() {
			t.Errorf("process %d lives", r.pid)
		}
	}
	if _, err := os.Stat(options.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", options.Dir, err)
	}
	for _, port := range cluster.ports.byID {
		if !free(port) {
			t.Errorf("port %d is still taken", port)
		}
	}
}

func TestForeignDirectoryIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "must be empty") {
		t.Errorf("Start() = %v, want an error that says what the directory must be", err)
	}
	if err := Stop(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "left alone") {
		t.Errorf("Stop() = %v, want an error that says that it is left alone", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestStartNamesAMissingBinary(t *testing.T) {
	_, err := Start(t.Context(), Options{Dir: filepath.Join(t.TempDir(), "cluster"), BinDirs: []string{"/nowhere"}})
	for _, want := range []string{"etcd", "/nowhere", "make controlplane"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Start() = %v, want it to name '%s'", err, want)
		}
	}
}

func TestPortsAreRemembered(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	first, err := openPorts(file)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for _, name := range []string{"a", "b", "c"} {
		if want[name], err = first.get(name); err != nil {
			t.Fatal(err)
		}
	}
	second, err := openPorts(file)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]string{}
	for name, port := range want {
		got, err := second.get(name)
		if err != nil || got != port {
			t.Errorf("get(%s) = %d, %v, want %d as before", name, got, err, port)
		}
		if other, taken := seen[port]; taken {
			t.Errorf("%s and %s have the same port %d", name, other, port)
		}
		seen[port] = name
	}
}
