package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// readyTimeout is long, because a binary with the race detector is slow on a busy machine.
	readyTimeout = 3 * time.Minute
	stopTimeout  = time.Minute
	// shownLogLines is how much of a log a failing test prints, each line up to shownLogBytes.
	shownLogLines, shownLogBytes = 60, 500
)

// binaries builds each command once.
type binaries struct {
	mu    sync.Mutex
	built map[string]string
}

// Binary builds cmd/NAME, with the race detector when FIREBREAK_RACE is 1, and gives its path.
func (c *Cluster) Binary(t testing.TB, name string) string {
	t.Helper()
	c.binaries.mu.Lock()
	defer c.binaries.mu.Unlock()
	if path, ok := c.binaries.built[name]; ok {
		return path
	}
	path := filepath.Join(c.work, name)
	args := []string{"build", "-buildvcs=false", "-o", path}
	if os.Getenv("FIREBREAK_RACE") == "1" {
		args = append(args, "-race")
	}
	build := exec.CommandContext(t.Context(), "go", append(args, "./cmd/"+name)...)
	build.Dir = c.Root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building cmd/%s: %v\n%s", name, err, output)
	}
	if c.binaries.built == nil {
		c.binaries.built = map[string]string{}
	}
	c.binaries.built[name] = path
	return path
}

// Process is a manager or a receiver that runs. It ends with its test.
type Process struct {
	// Name is the command's.
	Name string

	path  string
	args  []string
	env   []string
	ready string
	// asks asks whether it is ready; nil means without any certificate.
	asks *http.Client
	log  string

	command *exec.Cmd
	exited  chan struct{}
}

// StartManager starts the manager with the token of its ServiceAccount and waits until
// it is ready. Later flags win over the usual ones.
func (c *Cluster) StartManager(t testing.TB, flags ...string) *Process {
	t.Helper()
	store := t.TempDir()
	health := FreeAddress(t)
	return c.start(t, "manager", health, slices.Concat([]string{
		"--kubeconfig=" + c.Kubeconfig(t, managerKey.Namespace, managerKey.Name),
		"--leader-elect=false",
		"--health-probe-bind-address=" + health,
		"--metrics-bind-address=0",
		"--evidence-store=file://" + store,
	}, flags))
}

func (c *Cluster) start(t testing.TB, name, health string, args []string) *Process {
	t.Helper()
	p := &Process{
		Name: name, path: c.Binary(t, name), args: args, env: slices.Clone(c.Env),
		ready: "http://" + health + "/readyz", log: filepath.Join(t.TempDir(), name+".log"),
	}
	t.Cleanup(func() { p.finish(t) })
	p.Start(t)
	return p
}

// Start starts a process that has ended, with the same flags, and waits until it is ready.
func (p *Process) Start(t testing.TB) {
	t.Helper()
	p.Launch(t)
	p.WaitReady(t)
}

// Launch starts a process that has ended without waiting for anything.
func (p *Process) Launch(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// Not CommandContext: the process outlives the call, and finish ends it.
	p.command = exec.Command(p.path, p.args...)
	p.command.Stdout, p.command.Stderr = log, log
	p.command.Env = append(slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "KUBECONFIG=") }), p.env...)
	if err := p.command.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.Name, err)
	}
	exited := make(chan struct{})
	p.exited = exited
	go func(command *exec.Cmd) {
		_ = command.Wait() // how it ended is in command.ProcessState
		close(exited)
	}(p.command)
}

// WaitReady waits until the process says that it is ready.
func (p *Process) WaitReady(t testing.TB) {
	t.Helper()
	Eventually(t, readyTimeout, p.Name+" to be ready", func(ctx context.Context) error {
		select {
		case <-p.exited:
			t.Fatalf("%s has ended before it was ready: %s", p.Name, p.command.ProcessState)
		default:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ready, http.NoBody)
		if err != nil {
			return err
		}
		asks := http.DefaultClient
		if p.asks != nil {
			asks = p.asks
		}
		response, err := asks.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s says %s", p.ready, response.Status)
		}
		return nil
	})
}

// Running says whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Kill ends the process at once, as a crash would, and waits for its end.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGKILL)
	<-p.exited
}

// Stop ends the process as a rolling update would, and waits for its end.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	if !p.Terminate(t, stopTimeout) {
		t.Errorf("%s did not stop within %s", p.Name, stopTimeout)
	}
}

// Terminate asks the process to end and kills it when it has not after a grace period, as
// a kubelet does. It says whether it has ended by itself.
func (p *Process) Terminate(t testing.TB, grace time.Duration) bool {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	select {
	case <-p.exited:
		return true
	case <-time.After(grace):
		p.Kill(t)
		return false
	}
}

// Restart kills the process and starts it again.
func (p *Process) Restart(t testing.TB) {
	t.Helper()
	p.Kill(t)
	p.Start(t)
}

// Signal sends a signal to the process; one that has ended is left alone.
func (p *Process) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("signalling %s: %v", p.Name, err)
	}
}

// Log gives what the process has written so far, over all its starts.
func (p *Process) Log() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// finish ends the process with its test and shows its log where that helps.
func (p *Process) finish(t testing.TB) {
	if p.command == nil || p.command.Process == nil {
		return
	}
	if p.Running() {
		p.Stop(t)
	}
	log := p.Log()
	if t.Failed() {
		lines := strings.Split(strings.TrimRight(log, "\n"), "\n")
		t.Logf("the end of the log of %s:\n%s", p.Name, narrow(lines[max(0, len(lines)-shownLogLines):]))
	}
	// What it says matters more than how the log ends, and so comes after it.
	for _, bad := range []string{"WARNING: DATA RACE", "panic: "} {
		if _, report, found := strings.Cut(log, bad); found {
			lines := strings.Split(report, "\n")
			t.Errorf("the log of %s says %s%s", p.Name, bad, narrow(lines[:min(shownLogLines, len(lines))]))
		}
	}
}

// narrow joins lines, of which the long ones lose their end.
func narrow(lines []string) string {
	narrowed := make([]string, 0, len(lines))
	for _, line := range lines {
		if len(line) > shownLogBytes {
			line = strings.ToValidUTF8(line[:shownLogBytes], "") + "…"
		}
		narrowed = append(narrowed, line)
	}
	return strings.Join(narrowed, "\n")
}
