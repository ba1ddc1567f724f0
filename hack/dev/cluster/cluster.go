// Package cluster runs a Kubernetes control plane, and fake nodes when wanted,
// as background processes on loopback: for development, tests and measurements.
//
// The processes outlive the program that started them. What is needed to find,
// restart and stop them lies in one directory, so that a later Start repairs
// what died and Stop removes everything.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Component is one process of the control plane.
type Component string

// The components, in the order they start. Each needs etcd and kube-apiserver.
const (
	Etcd              Component = "etcd"
	APIServer         Component = "kube-apiserver"
	ControllerManager Component = "kube-controller-manager"
	Scheduler         Component = "kube-scheduler"
	Kwok              Component = "kwok"
)

// startTimeout is generous: a machine that compiles beside it is slow.
const startTimeout = 2 * time.Minute

// marker says that a directory is a cluster's, and may be removed by Stop.
const marker = "cluster"

// Options say what to start and where.
type Options struct {
	// Dir holds the cluster's state: kubeconfig, logs/, run/, pki/, etcd/.
	// It must be empty, missing, or of an earlier Start. Required.
	Dir string
	// BinDirs are searched in order for the components' binaries. Required.
	BinDirs []string
	// Components to start. Default: all.
	Components []Component
	// Nodes is how many fake nodes to create when kwok is among the
	// components. Default: 3.
	Nodes int
	// NoFsync lets etcd keep what it has written in memory only: faster, and
	// lost with the machine. Default: false.
	NoFsync bool
	// Log is told what is happening, one line at a time. Default: nothing is said.
	Log func(format string, args ...any)
}

// Cluster is a running control plane.
type Cluster struct {
	options   Options
	pki       *pki
	ports     *ports
	processes *Processes
}

// Start starts what is not running yet and waits until all of it is ready.
// On an error what did start is left running, so that it can be looked at;
// Stop removes it.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	c, err := open(options)
	if err != nil {
		return nil, err
	}
	if err := c.prepare(); err != nil {
		return nil, fmt.Errorf("preparing %s: %w", c.options.Dir, err)
	}
	// The rest cannot even start without these two, one after the other.
	for _, component := range []Component{Etcd, APIServer} {
		if err := c.start(ctx, component); err != nil {
			return nil, err
		}
	}
	if err := c.startTogether(ctx, ControllerManager, Scheduler, Kwok); err != nil {
		return nil, err
	}
	if c.wants(Kwok) {
		if err := c.createNodes(ctx); err != nil {
			return nil, fmt.Errorf("creating the fake nodes: %w", err)
		}
	}
	return c, nil
}

func open(options Options) (*Cluster, error) {
	dir, err := filepath.Abs(options.Dir)
	if err != nil || options.Dir == "" {
		return nil, fmt.Errorf("Options.Dir is '%s', it must name a directory", options.Dir)
	}
	options.Dir = dir
	if len(options.Components) == 0 {
		options.Components = []Component{Etcd, APIServer, ControllerManager, Scheduler, Kwok}
	}
	if options.Nodes == 0 {
		options.Nodes = 3
	}
	if options.Log == nil {
		options.Log = func(string, ...any) {}
	}
	if err := claim(dir); err != nil {
		return nil, err
	}
	c := &Cluster{options: options, processes: &Processes{Dir: dir}}
	if c.ports, err = openPorts(filepath.Join(dir, "run", "ports.json")); err != nil {
		return nil, err
	}
	return c, nil
}

// claim makes dir a cluster's, unless it holds something else.
func claim(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 && !isCluster(dir) {
		return fmt.Errorf("%s holds something else; it must be empty, missing, or the directory of an earlier start", dir)
	}
	for _, sub := range []string{"run", "logs", "pki"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "run", marker), []byte("firebreak development cluster\n"), 0o600)
}

func isCluster(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "run", marker))
	return err == nil
}

func (c *Cluster) wants(component Component) bool {
	return slices.Contains(c.options.Components, component)
}

// prepare writes what the components read when they start.
func (c *Cluster) prepare() error {
	var err error
	if c.pki, err = openPKI(filepath.Join(c.options.Dir, "pki")); err != nil {
		return err
	}
	if err := c.writeKubeconfigs(); err != nil {
		return err
	}
	return c.writeConfigs()
}

func (c *Cluster) start(ctx context.Context, component Component) error {
	if !c.wants(component) {
		return nil
	}
	process, err := c.process(component)
	if err != nil {
		return err
	}
	return c.Run(ctx, process)
}

// Run starts a process beside the control plane unless it is running already,
// and waits until it is ready.
func (c *Cluster) Run(ctx context.Context, process Process) error {
	started, err := c.processes.Start(ctx, process)
	if err != nil {
		return err
	}
	return c.await(ctx, process, started)
}

func (c *Cluster) startTogether(ctx context.Context, components ...Component) error {
	type launched struct {
		process Process
		started bool
	}
	var all []launched
	for _, component := range components {
		if !c.wants(component) {
			continue
		}
		process, err := c.process(component)
		if err != nil {
			return err
		}
		started, err := c.processes.Start(ctx, process)
		if err != nil {
			return err
		}
		all = append(all, launched{process, started})
	}
	for _, one := range all {
		if err := c.await(ctx, one.process, one.started); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) await(ctx context.Context, process Process, started bool) error {
	if err := c.processes.Await(ctx, process, startTimeout); err != nil {
		return err
	}
	if started {
		c.options.Log("%s is ready", process.Name)
	} else {
		c.options.Log("%s was running already", process.Name)
	}
	return nil
}

// Processes are the cluster's, and those that Run started.
func (c *Cluster) Processes() *Processes { return c.processes }

// Dir is the directory that holds the cluster's state.
func (c *Cluster) Dir() string { return c.options.Dir }

// Server is the API server's URL.
func (c *Cluster) Server() string { return c.ports.url(string(APIServer)) }

// Port gives the free loopback port that belongs to name, the same in every run.
func (c *Cluster) Port(name string) (int, error) { return c.ports.get(name) }

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.options.Dir, "kubeconfig") }

// RESTConfig is the administrator's, without a client-side rate limit.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// Stop stops every process of the cluster and removes its directory.
func (c *Cluster) Stop(ctx context.Context) error { return Stop(ctx, c.options.Dir, c.options.Log) }

// Stop stops every process that was started in dir, by whichever program, and
// removes dir. A missing dir is no error; one that is not a cluster's is
// left alone.
func Stop(ctx context.Context, dir string, log func(format string, args ...any)) error {
	if log == nil {
		log = func(string, ...any) {}
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if !isCluster(dir) {
		return fmt.Errorf("%s is not the directory of a cluster: it is left alone", dir)
	}
	processes := &Processes{Dir: dir}
	names, err := processes.Names()
	if err != nil {
		return err
	}
	// Clients first, etcd last: the API server waits for it when it ends.
	slices.SortStableFunc(names, func(a, b string) int { return stopOrder(a) - stopOrder(b) })
	for _, name := range names {
		stopped, err := processes.Stop(ctx, name)
		if err != nil {
			return err
		}
		if stopped {
			log("%s is stopped", name)
		}
	}
	return os.RemoveAll(dir)
}

func stopOrder(name string) int {
	switch Component(name) {
	case Etcd:
		return 3
	case APIServer:
		return 2
	case ControllerManager, Scheduler, Kwok:
		return 1
	default:
		return 0
	}
}
