package harness

import (
	"path/filepath"
	"syscall"
	"testing"

	"k8s.io/client-go/rest"
)

// APIServer gives the API server as a process that can be stopped, killed and started
// again, on the same address and the same etcd. It outlives the test, and must run again
// when the test ends.
func (c *Cluster) APIServer(t testing.TB) *Process {
	t.Helper()
	if c.apiServer != nil {
		return c.apiServer
	}
	server := c.environment.ControlPlane.GetAPIServer()
	asks, err := rest.HTTPClientFor(c.Config)
	if err != nil {
		t.Fatalf("asking the API server whether it is ready: %v", err)
	}
	serving := server.SecureServing
	keys := filepath.Join(server.CertDir, "sa-signer")
	process := &Process{
		Name: "kube-apiserver", path: server.Path, ready: "https://" + hostOf(c.Config) + "/readyz", asks: asks, log: filepath.Join(c.work, "kube-apiserver.log"),
		// As envtest starts it.
		args: server.Configure().AsStrings(map[string][]string{
			"service-cluster-ip-range":         {"10.0.0.0/24"},
			"allow-privileged":                 {"true"},
			"disable-admission-plugins":        {"ServiceAccount"},
			"cert-dir":                         {server.CertDir},
			"authorization-mode":               {"RBAC"},
			"secure-port":                      {serving.Port},
			"bind-address":                     {serving.Address},
			"service-account-issuer":           {serving.URL("https", "/").String()},
			"service-account-key-file":         {keys + ".crt"},
			"service-account-signing-key-file": {keys + ".key"},
			"etcd-servers":                     {server.EtcdURL.String()},
		}),
	}
	if err := server.Stop(); err != nil {
		t.Fatalf("stopping the API server: %v", err)
	}
	c.apiServer = process
	process.Start(t)
	return process
}

// endAPIServer ends the API server that was started in place of envtest's.
func (c *Cluster) endAPIServer() {
	if c.apiServer == nil || c.apiServer.command == nil || c.apiServer.command.Process == nil {
		return
	}
	_ = c.apiServer.command.Process.Signal(syscall.SIGKILL) // it may have ended already
	<-c.apiServer.exited
}
