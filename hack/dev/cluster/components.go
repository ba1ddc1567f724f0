package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// anonymousForHealthOnly lets anybody ask whether the API server is ready, and nothing else.
const anonymousForHealthOnly = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions: [{path: /livez}, {path: /readyz}, {path: /healthz}]
`

// process describes how a component is run.
func (c *Cluster) process(component Component) (Process, error) {
	port, err := c.ports.get(string(component))
	if err != nil {
		return Process{}, err
	}
	path, err := c.binary(string(component))
	if err != nil {
		return Process{}, err
	}
	var args []string
	health := "/healthz"
	switch component {
	case Etcd:
		health = "/health"
		args, err = c.etcdArgs(port)
	case APIServer:
		health = "/readyz"
		args = c.apiServerArgs(port)
	case ControllerManager:
		args = append(c.controllerArgs(component, port),
			"--use-service-account-credentials=true",
			"--service-account-private-key-file="+c.pki.private,
			"--root-ca-file="+c.pki.CertificateFile(),
		)
	case Scheduler:
		args = c.controllerArgs(component, port)
	case Kwok:
		args = c.kwokArgs(port)
	default:
		err = fmt.Errorf("no such component: '%s'", component)
	}
	if err != nil {
		return Process{}, err
	}
	url := "https://" + address(port) + health
	return Process{
		Name:  string(component),
		Path:  path,
		Args:  args,
		Ready: func(ctx context.Context) error { return c.probe(ctx, url) },
	}, nil
}

func (c *Cluster) binary(name string) (string, error) {
	for _, dir := range c.options.BinDirs {
		path, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("no executable '%s' in %s; `make controlplane` builds it", name, strings.Join(c.options.BinDirs, ", "))
}

func (c *Cluster) etcdArgs(port int) ([]string, error) {
	peer, err := c.ports.get("etcd-peer")
	if err != nil {
		return nil, err
	}
	client, peers := "https://"+address(port), "https://"+address(peer)
	args := []string{
		"--name=default",
		"--data-dir=" + filepath.Join(c.options.Dir, "etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers,
		"--initial-cluster=default=" + peers,
		"--log-level=warn",
	}
	for _, prefix := range []string{"", "peer-"} {
		args = append(args,
			"--"+prefix+"cert-file="+c.pki.serving.Certificate,
			"--"+prefix+"key-file="+c.pki.serving.Key,
			"--"+prefix+"trusted-ca-file="+c.pki.CertificateFile(),
			"--"+prefix+"client-cert-auth=true",
		)
	}
	if c.options.NoFsync {
		args = append(args, "--unsafe-no-fsync=true")
	}
	return args, nil
}

func (c *Cluster) apiServerArgs(port int) []string {
	ca := c.pki.CertificateFile()
	return []string{
		"--etcd-servers=" + c.ports.url(string(Etcd)),
		"--etcd-cafile=" + ca,
		"--etcd-certfile=" + c.pki.serving.Certificate,
		"--etcd-keyfile=" + c.pki.serving.Key,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + c.pki.serving.Certificate,
		"--tls-private-key-file=" + c.pki.serving.Key,
		"--client-ca-file=" + ca,
		"--authentication-config=" + c.config("authentication.yaml"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.pki.serviceAccountPublic,
		"--service-account-signing-key-file=" + c.pki.private,
		"--service-cluster-ip-range=10.96.0.0/16",
		"--kubelet-client-certificate=" + c.pki.kubelet.Certificate,
		"--kubelet-client-key=" + c.pki.kubelet.Key,
		"--kubelet-certificate-authority=" + ca,
		"--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged=true",
		"--profiling=false",
	}
}

// controllerArgs are those that the controller manager and the scheduler share.
func (c *Cluster) controllerArgs(component Component, port int) []string {
	kubeconfig := c.config(string(component) + ".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + c.pki.serving.Certificate,
		"--tls-private-key-file=" + c.pki.serving.Key,
		"--leader-elect=false",
		"--profiling=false",
	}
}

func (c *Cluster) config(name string) string { return filepath.Join(c.options.Dir, "run", name) }

func (c *Cluster) writeConfigs() error {
	if err := os.WriteFile(c.config("authentication.yaml"), []byte(anonymousForHealthOnly), 0o600); err != nil {
		return err
	}
	return c.writeKwokConfig()
}

// probe asks a health endpoint, as the administrator.
func (c *Cluster) probe(ctx context.Context, url string) error {
	certificate, err := tls.LoadX509KeyPair(c.pki.admin.Certificate, c.pki.admin.Key)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.pki.certificate)
	return probe(ctx, url, &tls.Config{
		RootCAs:      roots,
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
	})
}

// Healthy is the Ready of a process that answers 200 at a URL of plain HTTP.
func Healthy(url string) func(ctx context.Context) error {
	return func(ctx context.Context) error { return probe(ctx, url, nil) }
}

func probe(ctx context.Context, url string, config *tls.Config) error {
	// No proxy: everything asked is on loopback.
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if response.StatusCode != http.StatusOK {
		return errors.Join(err, fmt.Errorf("%s answered %s: %s", url, response.Status, strings.TrimSpace(string(body))))
	}
	return nil
}
