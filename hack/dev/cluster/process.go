package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	pollInterval = 100 * time.Millisecond
	// stopGrace is what a process gets to end by itself before it is killed.
	stopGrace = 8 * time.Second
	tailLines = 25
)

// Process is a program to run in the background.
type Process struct {
	// Name is unique in a directory; it names the log and the pid file.
	Name string
	// Path of the binary, and its arguments.
	Path string
	Args []string
	// Ready is polled until it returns nil. Default: ready when started.
	Ready func(ctx context.Context) error
	// RestartOnChange starts the process anew when its binary or its arguments
	// are not those it was started with. Default: false.
	RestartOnChange bool
}

// Processes are the background processes of a directory: logs/NAME.log and
// run/NAME.pid belong to each.
type Processes struct {
	Dir string
}

// record is what a pid file says: enough never to mistake another process,
// which got the same number later, for ours.
type record struct {
	pid       int
	startTime string
	origin    string
}

// Start starts the process detached, unless it is running already; it says
// whether it did.
func (p *Processes) Start(ctx context.Context, process Process) (bool, error) {
	origin, err := originOf(process)
	if err != nil {
		return false, fmt.Errorf("starting %s: %w", process.Name, err)
	}
	if current, err := p.read(process.Name); err != nil {
		return false, err
	} else if current.alive() {
		if !process.RestartOnChange || current.origin == origin {
			return false, nil
		}
		if _, err := p.Stop(ctx, process.Name); err != nil {
			return false, err
		}
	}
	log, err := os.OpenFile(p.log(process.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return false, fmt.Errorf("starting %s: %w", process.Name, err)
	}
	defer log.Close()

	command := exec.Command(process.Path, process.Args...)
	command.Stdout, command.Stderr = log, log
	command.Env = p.environment()
	// A session of its own: it outlives this program and its terminal.
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return false, fmt.Errorf("starting %s: %w", process.Name, err)
	}
	pid := command.Process.Pid
	started := record{pid: pid, startTime: startTime(pid), origin: origin}
	go func() { _ = command.Wait() }() // so that it does not stay as a zombie while this program lives
	return true, p.write(process.Name, started)
}

// environment keeps the caller's proxies, kubeconfig and home out of it.
func (p *Processes) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"TMPDIR=" + os.TempDir(),
		"HOME=" + filepath.Join(p.Dir, "run"),
	}
}

// Await waits until the process is ready; an error carries the end of its log.
func (p *Processes) Await(ctx context.Context, process Process, timeout time.Duration) error {
	if process.Ready == nil {
		return nil
	}
	var last error
	err := wait.PollUntilContextTimeout(ctx, pollInterval, timeout, true, func(ctx context.Context) (bool, error) {
		current, err := p.read(process.Name)
		if err != nil {
			return false, err
		}
		if !current.alive() {
			return false, errors.New("it has ended")
		}
		last = process.Ready(ctx)
		return last == nil, nil
	})
	if err == nil {
		return nil
	}
	if wait.Interrupted(err) && ctx.Err() == nil {
		err = fmt.Errorf("not ready after %s: %w", timeout, last)
	}
	return fmt.Errorf("%s: %w; the end of %s:\n%s", process.Name, err, p.log(process.Name), p.tail(process.Name))
}

// Names lists the processes that were started and not stopped.
func (p *Processes) Names() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(p.Dir, "run", "*.pid"))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(files))
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".pid"))
	}
	return names, nil
}

// Running says whether the process lives.
func (p *Processes) Running(name string) bool {
	current, err := p.read(name)
	return err == nil && current.alive()
}

// Signal sends a signal to the process and all its children. It is an error
// when the process is not running.
func (p *Processes) Signal(name string, signal syscall.Signal) error {
	current, err := p.read(name)
	if err != nil {
		return err
	}
	if !current.alive() {
		return fmt.Errorf("%s is not running", name)
	}
	return current.signal(signal)
}

// Stop ends the process and all its children, and forgets it; it says whether
// it was running. It is killed when it does not end by itself in time.
func (p *Processes) Stop(ctx context.Context, name string) (bool, error) {
	current, err := p.read(name)
	if err != nil {
		return false, err
	}
	running := current.alive()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if !current.alive() {
			break
		}
		if err := current.signal(signal); err != nil {
			return false, fmt.Errorf("stopping %s: %w", name, err)
		}
		err := wait.PollUntilContextTimeout(ctx, pollInterval, stopGrace, true, func(context.Context) (bool, error) {
			return !current.alive(), nil
		})
		if err != nil && !wait.Interrupted(err) {
			return false, fmt.Errorf("stopping %s: %w", name, err)
		}
	}
	if current.alive() {
		return false, fmt.Errorf("stopping %s: process %d survived SIGKILL", name, current.pid)
	}
	if err := os.Remove(p.pidFile(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return running, nil
}

func (p *Processes) log(name string) string     { return filepath.Join(p.Dir, "logs", name+".log") }
func (p *Processes) pidFile(name string) string { return filepath.Join(p.Dir, "run", name+".pid") }

func (p *Processes) write(name string, r record) error {
	content := fmt.Sprintf("%d\n%s\n%s\n", r.pid, r.startTime, r.origin)
	return os.WriteFile(p.pidFile(name), []byte(content), 0o600)
}

// read gives the zero record, which is not alive, when there is no pid file.
func (p *Processes) read(name string) (record, error) {
	content, err := os.ReadFile(p.pidFile(name))
	if errors.Is(err, os.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) < 3 {
		return record{}, nil
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil || pid <= 1 {
		return record{}, nil
	}
	return record{pid: pid, startTime: lines[1], origin: lines[2]}, nil
}

func (p *Processes) tail(name string) string {
	content, err := os.ReadFile(p.log(name))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return "  " + strings.Join(lines, "\n  ")
}

func (r record) alive() bool {
	return r.pid > 1 && r.startTime != "" && startTime(r.pid) == r.startTime
}

// signal goes to the group, which the process leads.
func (r record) signal(signal syscall.Signal) error {
	err := syscall.Kill(-r.pid, signal)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// startTime tells a process from a later one with the same number; empty when
// there is none, or only its remains.
func startTime(pid int) string {
	if runtime.GOOS != "linux" {
		return startTimeFromPS(pid)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name, in parentheses, may hold anything; behind it the fields are regular.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

func startTimeFromPS(pid int) string {
	command := exec.Command("ps", "-o", "stat=,lstart=", "-p", strconv.Itoa(pid))
	command.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	output, err := command.Output()
	fields := strings.Fields(string(output))
	if err != nil || len(fields) < 2 || strings.HasPrefix(fields[0], "Z") {
		return ""
	}
	return strings.Join(fields[1:], " ")
}

// originOf identifies the binary's content and the arguments.
func originOf(process Process) (string, error) {
	if !process.RestartOnChange {
		return "-", nil
	}
	file, err := os.Open(process.Path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	fmt.Fprintf(hash, "%q", process.Args)
	return hex.EncodeToString(hash.Sum(nil)), nil
}
