package fault

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	// kills is how often the manager is killed, and killsEach how often in one incident.
	kills, killsLong, killsEach = 50, 300, 10
	// The same, with the playbook that uses every action.
	actionKills, actionKillsLong, actionKillsEach = 30, 300, 15
)

// countOf is how often something is done: as a variable of the environment says, else
// long in `make test-long`, else short.
func countOf(t *testing.T, variable string, short, long int) int {
	t.Helper()
	if given := os.Getenv(variable); given != "" {
		count, err := strconv.Atoi(given)
		if err != nil || count < 0 {
			t.Fatalf("%s must be a number of at least 0, got %q", variable, given)
		}
		return count
	}
	if os.Getenv("FIREBREAK_LONG") == "1" {
		return long
	}
	return short
}

// TestKilled kills the manager at randomised moments of the demo's incident. It must
// leave the same behind as an incident that nobody has disturbed.
func TestKilled(t *testing.T) {
	s := newScenario(t)
	manager := s.manager(t)
	s.undisturbedDemo(t)
	s.kill(t, manager, countOf(t, "FIREBREAK_KILLS", kills, killsLong), killsEach)
}

// TestKilledOverAllActions does the same while a playbook runs that uses every action.
func TestKilledOverAllActions(t *testing.T) {
	s := newScenario(t)
	manager := s.manager(t, s.allActions(t)...)
	s.undisturbedActions(t)
	s.kill(t, manager, countOf(t, "FIREBREAK_ACTION_KILLS", actionKills, actionKillsLong), actionKillsEach)
}

// kill kills the manager so often, up to each times in one incident.
func (s *scenario) kill(t *testing.T, manager *harness.Process, left, each int) {
	t.Helper()
	s.mustRun(manager)
	total, incidents, repeated, start := 0, 0, 0, time.Now()
	for left > 0 {
		manager.WaitReady(t)
		killed := s.disturbed(t, disturbance{times: min(left, each), do: func(t *testing.T) {
			manager.Kill(t)
			manager.Launch(t)
		}})
		left -= killed.done
		total, incidents, repeated = total+killed.done, incidents+1, repeated+killed.repeated
		t.Logf("killed %d times: %s, %d kills to go", killed.done, killed.took.Round(time.Millisecond), left)
	}
	t.Logf("killed %d times in %d incidents, %d requests sent again, in %s", total, incidents, repeated, time.Since(start).Round(time.Second))
}
