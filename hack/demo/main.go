// Command demo shows Firebreak's whole loop on the control plane that `bin/dev up` has
// started: a Falco alert about a pod of a sample shop becomes an incident that is
// contained, recovered from, reviewed and closed. Nothing in it is simulated but the
// nodes. It exits with 1 when any stage does not come to its end in time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/term"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	corev1 "k8s.io/api/core/v1"
)

type options struct {
	dir     string
	bin     string
	samples string
	yes     bool
}

// demo is one run, and what it has learned so far.
type demo struct {
	options
	*screen
	*world

	jane *person

	pod      *corev1.Pod // as it was before the alert
	event    string
	incident string
	alerted  time.Time
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case interrupted:
		fmt.Fprintln(os.Stderr, "\ndemo: interrupted. Everything is still running: `make demo` begins anew, `make dev-down` stops it.")
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "\ndemo:", clean(err.Error()))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	d := &demo{screen: newScreen(os.Stdout, time.Now())}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&d.dir, "dir", ".dev", "directory of what `bin/dev up` has started")
	flags.StringVar(&d.bin, "bin", "bin", "directory of kubectl-firebreak")
	flags.StringVar(&d.samples, "samples", "config/samples/demo", "kustomize directory of the shop and the response domain")
	flags.BoolVar(&d.yes, "yes", false, "approve without asking, as it is done where there is no terminal")
	if err := flags.Parse(args); err != nil {
		return err
	}
	d.yes = d.yes || !term.IsTerminal(int(os.Stdin.Fd())) || !term.IsTerminal(int(os.Stdout.Fd()))
	// What the libraries log is not what people came to see.
	klog.SetLogger(logr.Discard())
	logf.SetLogger(logr.Discard())

	if err := d.connect(ctx); err != nil {
		return err
	}
	return d.play(ctx)
}

func (d *demo) kubeconfig() string { return filepath.Join(d.dir, "kubeconfig") }

func (d *demo) connect(ctx context.Context) error {
	if _, err := os.Stat(d.kubeconfig()); err != nil {
		return fmt.Errorf("there is no cluster to show it on: `make dev-up` starts one (%w)", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", d.kubeconfig())
	if err != nil {
		return err
	}
	config.QPS = -1
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := d.ready(limited, config); err != nil {
		return fmt.Errorf("the cluster of %s cannot be used: `make dev-up` repairs it: %w", d.kubeconfig(), err)
	}
	if d.world, err = newWorld(ctx, config); err != nil {
		return err
	}
	d.jane, err = newPerson(d.dir, d.bin, "jane", "security-oncall")
	return err
}

// stage is a part of the demo that must come to its end in time.
type stage struct {
	title, explanation string
	within             time.Duration
	play               func(context.Context) error
}

func (d *demo) stages() []stage {
	decide := time.Minute
	if !d.yes {
		decide = 30 * time.Minute // a person may want to look around first
	}
	return []stage{
		{"A shop, and a team that has prepared", prepareText, 2 * time.Minute, d.prepare},
		{"An alert comes in", alertText, 30 * time.Second, d.alert},
		{"It is assessed, and an incident is opened", assessText, 30 * time.Second, d.assess},
		{"Contained: evidence is kept, the pod is cut off", containText, time.Minute, d.contain},
		{"A person is asked", approveText, decide, d.approve},
		{"Eradicated: the pod is deleted", eradicateText, time.Minute, d.eradicate},
		{"Recovered: the isolation is undone, normal operation verified", recoverText, 2 * time.Minute, d.recover},
		{"Reviewed and closed", closeText, time.Minute, d.close},
		{"The record", recordText, time.Minute, d.record},
	}
}

func (d *demo) play(ctx context.Context) error {
	fmt.Fprintln(d.out, d.bold("Firebreak: from an alert to a closed incident"))
	for _, line := range wrap(introduction, d.width) {
		fmt.Fprintln(d.out, d.dim(line))
	}
	stages := d.stages()
	for i, s := range stages {
		d.heading(fmt.Sprintf("%d/%d  %s", i+1, len(stages), s.title), s.explanation)
		limited, cancel := context.WithTimeout(ctx, s.within)
		err := s.play(limited)
		cancel()
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.diagnose(ctx, err)
		return fmt.Errorf("FAILED in stage %d of %d (%s)", i+1, len(stages), s.title)
	}
	return nil
}

const introduction = "What you see is real: etcd, kube-apiserver, controllers and scheduler of Kubernetes, Firebreak's manager and receiver " +
	"with tokens of their own ServiceAccounts and the RBAC that ships. Only the nodes are fake (kwok): pods become ready, but nothing runs in them, " +
	"and nobody enforces NetworkPolicies. Lines that begin with $ show or do the same by hand."
