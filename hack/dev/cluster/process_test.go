package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newProcesses(t *testing.T) *Processes {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"run", "logs"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	processes := &Processes{Dir: dir}
	t.Cleanup(func() {
		names, err := processes.Names()
		if err != nil {
			t.Error(err)
		}
		for _, name := range names {
			if _, err := processes.Stop(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
	})
	return processes
}

func shell(name, script string) Process {
	return Process{Name: name, Path: "/bin/sh", Args: []string{"-c", script}}
}

func mustStart(t *testing.T, processes *Processes, process Process, want bool) record {
	t.Helper()
	started, err := processes.Start(t.Context(), process)
	if err != nil {
		t.Fatal(err)
	}
	if started != want {
		t.Fatalf("Start() says started: %t, want %t", started, want)
	}
	current, err := processes.read(process.Name)
	if err != nil {
		t.Fatal(err)
	}
	return current
}

func TestStartIsIdempotentAndStopEndsTheWholeGroup(t *testing.T) {
	processes := newProcesses(t)
	childFile := filepath.Join(processes.Dir, "child")
	process := shell("sleeper", "sleep 300 & echo $! >"+childFile+"; wait")
	process.Ready = func(context.Context) error {
		if content, err := os.ReadFile(childFile); err != nil || len(content) == 0 {
			return errors.New("no child yet")
		}
		return nil
	}
	first := mustStart(t, processes, process, true)
	if err := processes.Await(t.Context(), process, time.Minute); err != nil {
		t.Fatal(err)
	}
	if second := mustStart(t, processes, process, false); second != first {
		t.Errorf("a second Start changed the process from %+v to %+v", first, second)
	}
	content, err := os.ReadFile(childFile)
	if err != nil {
		t.Fatal(err)
	}
	child := "/proc/" + strings.TrimSpace(string(content))
	stopped, err := processes.Stop(t.Context(), "sleeper")
	if err != nil || !stopped {
		t.Fatalf("Stop() = %t, %v, want true, nil", stopped, err)
	}
	if processes.Running("sleeper") {
		t.Error("it is still running")
	}
	if stat, err := os.ReadFile(child + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("its child lives: %s", stat)
	}
	if stopped, err := processes.Stop(t.Context(), "sleeper"); err != nil || stopped {
		t.Errorf("a second Stop() = %t, %v, want false, nil", stopped, err)
	}
}

func TestAnotherProcessWithTheSameNumberIsNeverKilled(t *testing.T) {
	processes := newProcesses(t)
	ours := mustStart(t, processes, shell("sleeper", "exec sleep 300"), true)

	// As if the pid file had been written for an earlier process of this number.
	recycled := ours
	recycled.startTime = "1"
	if err := processes.write("sleeper", recycled); err != nil {
		t.Fatal(err)
	}
	if processes.Running("sleeper") {
		t.Error("Running() takes another process for ours")
	}
	if stopped, err := processes.Stop(t.Context(), "sleeper"); err != nil || stopped {
		t.Errorf("Stop() = %t, %v, want false, nil", stopped, err)
	}
	if !ours.alive() {
		t.Error("the other process was killed")
	}
	if err := processes.write("sleeper", ours); err != nil {
		t.Fatal(err)
	}
}

func TestChangedProcessIsRestarted(t *testing.T) {
	processes := newProcesses(t)
	process := shell("sleeper", "exec sleep 300")
	process.RestartOnChange = true
	first := mustStart(t, processes, process, true)
	mustStart(t, processes, process, false)
	process.Args = []string{"-c", "exec sleep 301"}
	if second := mustStart(t, processes, process, true); second.pid == first.pid {
		t.Errorf("process %d was not restarted", first.pid)
	}
	if first.alive() {
		t.Error("the earlier process lives")
	}
}

func TestAwaitTellsWhyAProcessEnded(t *testing.T) {
	processes := newProcesses(t)
	process := shell("loser", "echo the disk is full >&2; exit 1")
	process.Ready = func(context.Context) error { return errors.New("not ready") }
	mustStart(t, processes, process, true)
	err := processes.Await(t.Context(), process, time.Minute)
	for _, want := range []string{"loser: it has ended", "the disk is full", "loser.log"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Await() = %v, want it to say '%s'", err, want)
		}
	}
}

func TestAwaitTellsWhatIsNotReady(t *testing.T) {
	processes := newProcesses(t)
	process := shell("sleeper", "exec sleep 300")
	process.Ready = func(context.Context) error { return errors.New("etcd is away") }
	mustStart(t, processes, process, true)
	err := processes.Await(t.Context(), process, 300*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "not ready after 300ms: etcd is away") {
		t.Errorf("Await() = %v, want it to say what it waited for", err)
	}
}

func TestStartRefusesWhatIsNotABinary(t *testing.T) {
	processes := newProcesses(t)
	_, err := processes.Start(t.Context(), Process{Name: "none", Path: filepath.Join(processes.Dir, "none")})
	if err == nil || !strings.Contains(err.Error(), "starting none") {
		t.Errorf("Start() = %v, want an error that names the process", err)
	}
}
