package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"

	"github.com/firebreak-dev/firebreak/hack/dev/cluster"
)

const (
	systemNamespace  = "firebreak-system"
	domainNamespace  = "security"
	senderNamespace  = "falco"
	senderName       = "falco"
	receiverAudience = "firebreak-receiver"
)

// stack is what runs on top of the control plane.
type stack struct {
	*cluster.Cluster
	options options
	log     func(format string, args ...any)
}

func up(ctx context.Context, o options, log func(string, ...any)) error {
	var binDirs []string
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" {
		binDirs = append(binDirs, assets)
	}
	control, err := cluster.Start(ctx, cluster.Options{
		Dir:     o.dir,
		BinDirs: append(binDirs, filepath.Join(o.bin, "k8s")),
		Log:     log,
	})
	if err != nil {
		return fmt.Errorf("%w\nlogs: %s; `make dev-down` removes what is left", err, filepath.Join(o.dir, "logs"))
	}
	s := &stack{Cluster: control, options: o, log: log}
	if !o.controlPlaneOnly {
		if err := s.firebreak(ctx); err != nil {
			return fmt.Errorf("%w\nlogs: %s; `make dev-down` removes what is left", err, filepath.Join(o.dir, "logs"))
		}
	}
	log("up. To look around: export KUBECONFIG=%s", control.Kubeconfig())
	return nil
}

// firebreak installs the operator as a user would, then runs it here.
func (s *stack) firebreak(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.install, s.startManager, s.startReceiver, s.makeDomain, s.admitSender,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *stack) startManager(ctx context.Context) error {
	kubeconfig, err := s.identity(ctx, "manager")
	if err != nil {
		return err
	}
	health, err := s.address("manager-health")
	if err != nil {
		return err
	}
	evidence := filepath.Join(s.Dir(), "evidence")
	if err := os.MkdirAll(evidence, 0o700); err != nil {
		return err
	}
	return s.run(ctx, "manager", health,
		"--kubeconfig="+kubeconfig,
		"--leader-elect=false",
		"--health-probe-bind-address="+health,
		"--metrics-bind-address=0",
		"--evidence-store=file://"+evidence,
	)
}

func (s *stack) startReceiver(ctx context.Context) error {
	kubeconfig, err := s.identity(ctx, "receiver")
	if err != nil {
		return err
	}
	health, err := s.address("receiver-health")
	if err != nil {
		return err
	}
	bind, err := s.address("receiver")
	if err != nil {
		return err
	}
	authority, err := cluster.OpenAuthority(filepath.Join(s.Dir(), "pki"), "receiver-ca")
	if err != nil {
		return err
	}
	serving, err := authority.Serving("receiver")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(authority.CertificateFile())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "receiver-ca.crt"), ca, 0o600); err != nil {
		return err
	}
	spool := filepath.Join(s.Dir(), "spool")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return err
	}
	return s.run(ctx, "receiver", health,
		"--kubeconfig="+kubeconfig,
		"--bind-address="+bind,
		"--shutdown-delay=0",
		"--tls-cert-file="+serving.Certificate,
		"--tls-private-key-file="+serving.Key,
		"--health-probe-bind-address="+health,
		"--name=receiver-0",
		"--spool-dir="+spool,
	)
}

// identity writes the kubeconfig of the component's own ServiceAccount: what
// runs here has the rights that ship, and no others.
func (s *stack) identity(ctx context.Context, component string) (string, error) {
	path := filepath.Join(s.Dir(), "run", component+".kubeconfig")
	account := types.NamespacedName{Namespace: systemNamespace, Name: "firebreak-" + component}
	return path, s.ServiceAccountKubeconfig(ctx, account, path)
}

func (s *stack) address(name string) (string, error) {
	port, err := s.Port(name)
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

func (s *stack) run(ctx context.Context, name, health string, args ...string) error {
	path, err := filepath.Abs(filepath.Join(s.options.bin, name))
	if err != nil {
		return err
	}
	return s.Run(ctx, cluster.Process{
		Name:            name,
		Path:            path,
		Args:            args,
		Ready:           cluster.Healthy("http://" + health + "/readyz"),
		RestartOnChange: true,
	})
}
