package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// sender is a ServiceAccount that may report events to the domain, as a
// cluster's Falco would be.
const sender = `apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[2]s, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: report-events, namespace: %[3]s}
rules:
- {apiGroups: [firebreak.dev], resources: [securityevents], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: report-events-falco, namespace: %[3]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: report-events}
subjects:
- {kind: ServiceAccount, name: %[2]s, namespace: %[1]s}
`

// install applies what a cluster gets, without the workloads: their pods would
// be as fake as the nodes, so manager and receiver run as processes instead.
func (s *stack) install(ctx context.Context) error {
	rendered, err := s.kubectl(ctx, nil, "kustomize", s.options.config)
	if err != nil {
		return fmt.Errorf("rendering %s: %w", s.options.config, err)
	}
	manifests, err := withoutWorkloads(rendered)
	if err != nil {
		return fmt.Errorf("reading what %s renders to: %w", s.options.config, err)
	}
	if err := s.apply(ctx, manifests); err != nil {
		return fmt.Errorf("applying %s: %w", s.options.config, err)
	}
	if _, err := s.kubectl(ctx, nil, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
		return fmt.Errorf("waiting for the CRDs: %w", err)
	}
	s.log("CRDs, RBAC and admission policies are applied from %s", s.options.config)
	return nil
}

func withoutWorkloads(manifests []byte) ([]byte, error) {
	var first, rest bytes.Buffer
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifests)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return append(first.Bytes(), rest.Bytes()...), nil
		}
		if err != nil {
			return nil, err
		}
		var object struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal(document, &object); err != nil {
			return nil, err
		}
		into := &rest
		switch object.Kind {
		case "Deployment", "StatefulSet":
			continue
		case "Namespace", "CustomResourceDefinition":
			into = &first
		}
		into.WriteString("---\n")
		into.Write(document)
	}
}

// makeDomain makes a namespace a response domain, with the command a user has.
func (s *stack) makeDomain(ctx context.Context) error {
	namespace := fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", domainNamespace)
	if err := s.apply(ctx, []byte(namespace)); err != nil {
		return fmt.Errorf("creating the namespace %s: %w", domainNamespace, err)
	}
	plugin := filepath.Join(s.options.bin, "kubectl-firebreak")
	if _, err := s.command(ctx, nil, plugin, "init", "-n", domainNamespace); err != nil {
		return fmt.Errorf("making the namespace %s a domain: %w", domainNamespace, err)
	}
	s.log("namespace %s is a response domain", domainNamespace)
	return nil
}

// admitSender writes .dev/receiver.env, which is all a sender needs but the CA.
func (s *stack) admitSender(ctx context.Context) error {
	if err := s.apply(ctx, fmt.Appendf(nil, sender, senderNamespace, senderName, domainNamespace)); err != nil {
		return fmt.Errorf("creating the sender: %w", err)
	}
	account := types.NamespacedName{Namespace: senderNamespace, Name: senderName}
	token, err := s.Token(ctx, account, 24*time.Hour, receiverAudience)
	if err != nil {
		return err
	}
	bind, err := s.address("receiver")
	if err != nil {
		return err
	}
	url := fmt.Sprintf("https://%s/v1/namespaces/%s", bind, domainNamespace)
	path := filepath.Join(s.Dir(), "receiver.env")
	content := fmt.Sprintf("RECEIVER_URL=%s\nRECEIVER_TOKEN=%s\n", url, token)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	s.log("alerts are received at %s (token in %s)", url, path)
	return nil
}

func (s *stack) apply(ctx context.Context, manifests []byte) error {
	_, err := s.kubectl(ctx, manifests, "apply", "--server-side", "--force-conflicts", "--field-manager=firebreak-dev", "-f", "-")
	return err
}

func (s *stack) kubectl(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	return s.command(ctx, stdin, filepath.Join(s.options.bin, "k8s", "kubectl"), args...)
}

// command runs a program as the cluster's administrator.
func (s *stack) command(ctx context.Context, stdin []byte, path string, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, path, args...)
	environment := slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "KUBECONFIG=") })
	command.Env = append(environment, "KUBECONFIG="+s.Kubeconfig())
	command.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(append([]string{filepath.Base(path)}, args...), " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}
