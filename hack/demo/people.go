package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/firebreak-dev/firebreak/hack/dev/cluster"
)

// person is a user of the cluster, with a client certificate of their own.
type person struct {
	name       string
	group      string
	kubeconfig string
	plugin     string
}

// newPerson writes the kubeconfig by which a person, or whoever plays them, reaches
// the cluster.
func newPerson(dir, bin, name, group string) (*person, error) {
	authority, err := cluster.OpenAuthority(filepath.Join(dir, "pki"), "ca")
	if err != nil {
		return nil, err
	}
	pair, err := authority.Client("person-"+name, name, group)
	if err != nil {
		return nil, err
	}
	certificate, err := os.ReadFile(pair.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(pair.Key)
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.LoadFromFile(filepath.Join(dir, "kubeconfig"))
	if err != nil {
		return nil, err
	}
	current, ok := config.Contexts[config.CurrentContext]
	if !ok {
		return nil, fmt.Errorf("%s has no current context", filepath.Join(dir, "kubeconfig"))
	}
	current.AuthInfo, current.Namespace = name, domain
	config.AuthInfos = map[string]*clientcmdapi.AuthInfo{name: {ClientCertificateData: certificate, ClientKeyData: key}}
	p := &person{name: name, group: group, kubeconfig: filepath.Join(dir, name+".kubeconfig"), plugin: filepath.Join(bin, "kubectl-firebreak")}
	return p, clientcmd.WriteToFile(*config, p.kubeconfig)
}

// line is what the person types, in the directory the demo runs in.
func (p *person) line(args ...string) string {
	words := []string{"KUBECONFIG=" + p.kubeconfig, p.plugin}
	for _, arg := range args {
		if strings.ContainsAny(arg, " '\"$") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

func (p *person) run(ctx context.Context, args []string) *exec.Cmd {
	command := exec.CommandContext(ctx, p.plugin, args...)
	environment := slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "KUBECONFIG=") })
	command.Env = append(environment, "KUBECONFIG="+p.kubeconfig)
	return command
}

// types runs the plugin as the person and shows what it says. It fails when the
// plugin does: a Decision was refused, a chain is broken.
func (d *demo) types(ctx context.Context, p *person, args ...string) error {
	d.command("%s", p.line(args...))
	command := p.run(ctx, args)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	d.quoted(output.String())
	return plugged(p, args, err)
}

// shows runs the plugin with the terminal for itself.
func (d *demo) shows(ctx context.Context, p *person, args ...string) error {
	d.command("%s", p.line(args...))
	command := p.run(ctx, args)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	return plugged(p, args, command.Run())
}

func plugged(p *person, args []string, err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return fmt.Errorf("`kubectl firebreak %s` as %s must exit with 0, but exited with %d", strings.Join(args, " "), p.name, exit.ExitCode())
	default:
		return fmt.Errorf("running %s: %w (`make build` builds it)", p.plugin, err)
	}
}
