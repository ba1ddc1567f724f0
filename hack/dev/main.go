// Command dev starts and stops everything Firebreak needs on this machine: a
// control plane with fake nodes, the operator and the receiver.
//
//	dev up     start what is not running
//	dev down   stop all of it and remove its state
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/firebreak-dev/firebreak/hack/dev/cluster"
)

type options struct {
	dir              string
	bin              string
	config           string
	controlPlaneOnly bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dev:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("dev up|down", flag.ContinueOnError)
	flags.StringVar(&o.dir, "dir", ".dev", "directory of the state, removed by down")
	flags.StringVar(&o.bin, "bin", "bin", "directory of the binaries that `make build` and `make controlplane` build")
	flags.StringVar(&o.config, "config", "config/default", "kustomize directory to install")
	flags.BoolVar(&o.controlPlaneOnly, "control-plane-only", false, "start the control plane and the fake nodes only")
	if len(args) == 0 {
		return errors.New("no command; it must be up or down")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	started := time.Now()
	log := func(format string, args ...any) {
		fmt.Fprintf(out, "[%5.1f s] %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
	}
	unlock, err := lock(o.dir)
	if err != nil {
		return err
	}
	defer unlock()
	switch args[0] {
	case "up":
		return up(ctx, o, log)
	case "down":
		if err := cluster.Stop(ctx, o.dir, log); err != nil {
			return err
		}
		log("nothing is running, %s is gone", o.dir)
		return nil
	default:
		return fmt.Errorf("unknown command '%s'; it must be up or down", args[0])
	}
}

// lock keeps two of these programs from working on the same directory at once.
// The lock's file lies outside, so that the directory can be removed.
func lock(dir string) (unlock func(), err error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	parent, err := os.Open(filepath.Dir(absolute))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(parent.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		parent.Close()
		return nil, fmt.Errorf("another dev up or down is working in %s: %w", filepath.Dir(absolute), err)
	}
	return func() { parent.Close() }, nil
}
