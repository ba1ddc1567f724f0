// Package fault holds the tests that kill the manager in the middle of its work, or what
// it works with, and hold it to leave the same outcome behind as if nobody had.
//
// FIREBREAK_SEED repeats the random moments of an earlier run, as far as scheduling lets
// it. How often each is done can be said too: FIREBREAK_KILLS and FIREBREAK_ACTION_KILLS
// (kills of the manager, while the demo's playbook runs and while one with every action
// does), FIREBREAK_LEADER_KILLS, FIREBREAK_LEADER_PAUSES, FIREBREAK_RESTARTS (of the API
// server) and FIREBREAK_TROUBLED (incidents with an API server that makes trouble), each
// also with ACTION_ after FIREBREAK_, FIREBREAK_CORRELATED (events of one incident while two
// managers are disturbed), FIREBREAK_OPENINGS (incidents that are opened meanwhile),
// FIREBREAK_LOSS_ALERTS (alerts sent while the API server is down and the receiver is killed).
package fault

import (
	"testing"

	"github.com/firebreak-dev/firebreak/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
