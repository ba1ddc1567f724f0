package fault

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	// leaderKills is how often the leader is killed, and pauses how often it is paused until
	// another leads, and resumed; leaderEach is how often in one incident.
	leaderKills, leaderKillsLong = 2, 30
	pauses, pausesLong           = 2, 30
	leaderEach                   = 2
	// The same, with the playbook that uses every action.
	actionLeaderKills, actionLeaderKillsLong = 1, 20
	actionPauses, actionPausesLong           = 1, 20
)

// candidate is one of several managers that elect the one that works.
type candidate struct {
	*harness.Process
	proxy *harness.Proxy
	// launched is when it was started again.
	launched time.Time
}

// Launch starts it again.
func (c *candidate) Launch(t *testing.T) {
	t.Helper()
	c.Process.Launch(t)
	c.launched = time.Now()
}

// candidates starts two managers, of which one leads, and keeps them running.
func (s *scenario) candidates(t *testing.T, flags ...string) []*candidate {
	t.Helper()
	var all []*candidate
	for range 2 {
		proxy := s.cluster.NewProxy(t)
		all = append(all, &candidate{proxy: proxy, Process: s.manager(t, append([]string{
			proxy.ManagerFlag(t), "--leader-elect",
			"--leader-elect-lease-duration=6s", "--leader-elect-renew-deadline=4s", "--leader-elect-retry-period=500ms",
		}, flags...)...)})
	}
	s.tend = func(t *testing.T) { relaunch(t, all) }
	return all
}

// relaunch starts those that have ended, as a kubelet would: a leader ends when a busy
// machine keeps it from renewing.
func relaunch(t *testing.T, all []*candidate) {
	t.Helper()
	for _, one := range all {
		if !one.Running() {
			one.Launch(t)
		}
	}
}

// heldSince says when the candidate has last taken or renewed the Lease: what it did before
// it was killed does not make it lead.
func (c *candidate) heldSince() time.Time {
	var last time.Time
	for _, write := range c.proxy.Writes() {
		if strings.Contains(write.Path, "/leases") && write.Time.After(c.launched) {
			last = write.Time
		}
	}
	return last
}

// writesSince are the writes that the API server has done for the candidate since then.
func (c *candidate) writesSince(since time.Time) []harness.Request {
	var writes []harness.Request
	for _, write := range c.proxy.Writes() {
		if write.Time.After(since) {
			writes = append(writes, write)
		}
	}
	return writes
}

// leader waits for the candidate that has held the Lease last, after a moment.
func leader(t *testing.T, all []*candidate, after time.Time) *candidate {
	t.Helper()
	var found *candidate
	harness.Eventually(t, harness.Patience, "a leader", func(context.Context) error {
		relaunch(t, all)
		for _, one := range all {
			if held := one.heldSince(); held.After(after) && (found == nil || held.After(found.heldSince())) {
				found = one
			}
		}
		if found == nil {
			return errors.New("nobody holds the Lease")
		}
		return nil
	})
	return found
}

// TestLeaderKilled kills the manager that leads; the other goes on.
func TestLeaderKilled(t *testing.T) {
	s := newScenario(t)
	all := s.candidates(t)
	s.undisturbedDemo(t)
	s.killLeaders(t, all, countOf(t, "FIREBREAK_LEADER_KILLS", leaderKills, leaderKillsLong))
}

// TestLeaderKilledOverAllActions does the same while a playbook runs that uses every action.
func TestLeaderKilledOverAllActions(t *testing.T) {
	s := newScenario(t)
	all := s.candidates(t, s.allActions(t)...)
	s.undisturbedActions(t)
	s.killLeaders(t, all, countOf(t, "FIREBREAK_ACTION_LEADER_KILLS", actionLeaderKills, actionLeaderKillsLong))
}

// killLeaders kills the leader so often.
func (s *scenario) killLeaders(t *testing.T, all []*candidate, left int) {
	t.Helper()
	for left > 0 {
		result := s.disturbed(t, disturbance{times: min(left, leaderEach), do: func(t *testing.T) {
			leads := leader(t, all, time.Now().Add(-time.Second))
			leads.Kill(t)
			leads.Launch(t)
		}})
		left -= result.done
		t.Logf("killed %d leaders: %s, %d to go", result.done, result.took.Round(time.Millisecond), left)
	}
}

// TestLeaderPaused stops the manager that leads until another leads, and lets it go on in
// the middle of what it did: nothing that it then wants to write is written.
func TestLeaderPaused(t *testing.T) {
	s := newScenario(t)
	all := s.candidates(t)
	s.undisturbedDemo(t)
	s.pauseLeaders(t, all, countOf(t, "FIREBREAK_LEADER_PAUSES", pauses, pausesLong))
}

// TestLeaderPausedOverAllActions does the same while a playbook runs that uses every action.
func TestLeaderPausedOverAllActions(t *testing.T) {
	s := newScenario(t)
	all := s.candidates(t, s.allActions(t)...)
	s.undisturbedActions(t)
	s.pauseLeaders(t, all, countOf(t, "FIREBREAK_ACTION_LEADER_PAUSES", actionPauses, actionPausesLong))
}

// pauseLeaders pauses the leader so often, and resumes it when another leads.
func (s *scenario) pauseLeaders(t *testing.T, all []*candidate, left int) {
	t.Helper()
	for left > 0 {
		paused := &pause{all: all}
		result := s.disturbed(t, disturbance{
			// Each is paused at one moment and resumed at another.
			times: 2 * min(left, leaderEach),
			do:    paused.toggle,
			end:   func() { paused.resume(t) },
		})
		left -= max(paused.times, 1)
		t.Logf("paused %d leaders (%d changes): %s, %d to go", paused.times, result.changes, result.took.Round(time.Millisecond), left)
	}
}

// pause is a leader that is stopped, if any.
type pause struct {
	all   []*candidate
	of    *candidate
	times int
}

// toggle stops the leader and waits until another leads, or lets the stopped one go on.
func (p *pause) toggle(t *testing.T) {
	t.Helper()
	if p.of != nil {
		p.resume(t)
		return
	}
	p.times++
	p.of = leader(t, p.all, time.Now().Add(-time.Second))
	p.of.Signal(t, syscall.SIGSTOP)
	others := make([]*candidate, 0, len(p.all))
	for _, one := range p.all {
		if one != p.of {
			others = append(others, one)
		}
	}
	leader(t, others, time.Now())
}

// resume lets a stopped leader go on: it must end, and must have written nothing.
func (p *pause) resume(t *testing.T) {
	t.Helper()
	if p.of == nil {
		return
	}
	deposed := p.of
	p.of = nil
	resumed := time.Now()
	deposed.Signal(t, syscall.SIGCONT)
	harness.Eventually(t, harness.Patience, "the deposed leader to end", func(context.Context) error {
		if deposed.Running() {
			return errors.New("it runs")
		}
		return nil
	})
	for _, write := range deposed.writesSince(resumed) {
		t.Errorf("the deposed leader has written: %s", write)
	}
	deposed.Launch(t)
}
