package fault

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	// troubled is how many incidents there are with an API server that makes trouble.
	troubled, troubledLong = 2, 20
	// The same, with the playbook that uses every action.
	actionTroubled, actionTroubledLong = 1, 20
	// restarts is how often the API server is restarted, and restartsEach how often in one incident.
	restarts, restartsLong, restartsEach = 2, 20, 2
	// The same, with the playbook that uses every action.
	actionRestarts, actionRestartsLong = 1, 20
)

// troubles makes the trouble of an API server, and counts it.
type troubles struct {
	mu     sync.Mutex
	random *rand.Rand
	counts map[string]int
	// until is when it ends.
	until time.Time
}

// troubleFor is how long an API server makes trouble at most, several times as long as an
// incident mostly takes with it: what was made worse by it (a watch that is opened anew only
// after a minute) must mend by itself.
const troubleFor = 3 * time.Minute

// make chooses the trouble of one request.
func (m *troubles) make(r *http.Request) harness.Trouble {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case time.Now().After(m.until):
		return harness.Trouble{}
	case harness.IsWatch(r):
		return m.ofWatch()
	case r.Method == http.MethodGet:
		return m.ofRequest(10, false)
	default:
		return m.ofRequest(25, true)
	}
}

func (m *troubles) ofWatch() harness.Trouble {
	if m.random.IntN(100) < 30 {
		m.counts["watch cut"]++
		return harness.Trouble{Cut: true, Delay: m.upTo(8 * time.Second)}
	}
	return harness.Trouble{}
}

// ofRequest makes trouble for so many of a hundred requests.
func (m *troubles) ofRequest(percent int, write bool) harness.Trouble {
	if m.random.IntN(100) >= percent {
		return harness.Trouble{}
	}
	choices := []struct {
		name    string
		writes  bool
		trouble harness.Trouble
	}{
		{"delayed", false, harness.Trouble{Delay: m.upTo(500 * time.Millisecond)}},
		{"429", false, harness.Trouble{Code: http.StatusTooManyRequests}},
		{"500", false, harness.Trouble{Code: http.StatusInternalServerError}},
		{"503", false, harness.Trouble{Code: http.StatusServiceUnavailable}},
		{"504, late", false, harness.Trouble{Code: http.StatusGatewayTimeout, Delay: m.upTo(time.Second)}},
		{"cut", false, harness.Trouble{Cut: true}},
		// The worst: it was done, and nobody hears of it.
		{"done, cut", true, harness.Trouble{Cut: true, Reaches: true}},
		{"done, 500", true, harness.Trouble{Code: http.StatusInternalServerError, Reaches: true}},
		{"done, 504", true, harness.Trouble{Code: http.StatusGatewayTimeout, Reaches: true}},
		{"409", true, harness.Trouble{Code: http.StatusConflict}},
	}
	if !write {
		choices = choices[:6]
	}
	chosen := choices[m.random.IntN(len(choices))]
	m.counts[chosen.name]++
	return chosen.trouble
}

func (m *troubles) upTo(most time.Duration) time.Duration {
	return time.Duration(m.random.Int64N(int64(most)))
}

// TestTroubledAPIServer has the API server answer the manager late, wrongly or not at all,
// sometimes after it has done what it was asked for.
func TestTroubledAPIServer(t *testing.T) {
	s := newScenario(t)
	proxy := s.cluster.NewProxy(t)
	manager := s.manager(t, proxy.ManagerFlag(t))
	s.undisturbedDemo(t)
	s.trouble(t, proxy, manager, countOf(t, "FIREBREAK_TROUBLED", troubled, troubledLong))
}

// TestTroubledOverAllActions does the same while a playbook runs that uses every action.
func TestTroubledOverAllActions(t *testing.T) {
	s := newScenario(t)
	proxy := s.cluster.NewProxy(t)
	manager := s.manager(t, append(s.allActions(t), proxy.ManagerFlag(t))...)
	s.undisturbedActions(t)
	s.trouble(t, proxy, manager, countOf(t, "FIREBREAK_ACTION_TROUBLED", actionTroubled, actionTroubledLong))
}

// trouble runs so many incidents with an API server that makes trouble.
func (s *scenario) trouble(t *testing.T, proxy *harness.Proxy, manager *harness.Process, incidents int) {
	t.Helper()
	s.mustRun(manager)
	for range incidents {
		made := &troubles{random: rand.New(rand.NewPCG(s.random.Uint64(), 0)), counts: map[string]int{}, until: time.Now().Add(troubleFor)}
		result := s.disturbed(t, disturbance{
			begin: func() { proxy.Make(made.make) },
			end:   func() { proxy.Make(nil) },
			says:  func() string { return fmt.Sprintf("the trouble %v", made.counts) },
		})
		t.Logf("%s with %v", result.took.Round(time.Millisecond), made.counts)
	}
}

// TestEveryRequestFailsAtFirst has the API server fail each request of the manager the first
// time it is made, while a playbook runs that uses every action: by itself, or by its answer
// alone. Unlike trouble at random it leaves none out.
func TestEveryRequestFailsAtFirst(t *testing.T) {
	s := newScenario(t)
	proxy := s.cluster.NewProxy(t)
	s.mustRun(s.manager(t, append(s.allActions(t), proxy.ManagerFlag(t))...))
	s.undisturbedActions(t)
	kinds := map[string]harness.Trouble{
		"503":       {Code: http.StatusServiceUnavailable},
		"done, 504": {Code: http.StatusGatewayTimeout, Reaches: true},
		"409":       {Code: http.StatusConflict},
	}
	if os.Getenv("FIREBREAK_LONG") == "1" {
		// With each connection that is cut all watches end, and client-go waits up to a minute.
		kinds["done, cut"] = harness.Trouble{Cut: true, Reaches: true}
	}
	for name, trouble := range kinds {
		first := &firsts{trouble: trouble, seen: map[string]bool{}}
		result := s.disturbed(t, disturbance{
			begin: func() { proxy.Make(first.make) },
			end:   func() { proxy.Make(nil) },
			says:  func() string { return "each request that failed at first (" + name + ")" },
		})
		t.Logf("%s: %s with %d requests that failed at first", name, result.took.Round(time.Millisecond), len(first.seen))
	}
}

// firsts makes the same trouble of each request the first time.
type firsts struct {
	trouble harness.Trouble

	mu   sync.Mutex
	seen map[string]bool
}

func (f *firsts) make(r *http.Request) harness.Trouble {
	if harness.IsWatch(r) || r.Method == http.MethodGet && f.trouble.Code == http.StatusConflict {
		return harness.Trouble{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	request := r.Method + " " + r.URL.Path + " " + r.URL.Query().Get("dryRun")
	if f.seen[request] {
		return harness.Trouble{}
	}
	f.seen[request] = true
	return f.trouble
}

// TestLostQuestion has the API server not answer at first whether the playbook's account
// may be impersonated: that passes, and nobody is asked to do anything about it.
func TestLostQuestion(t *testing.T) {
	s := newScenario(t)
	proxy := s.cluster.NewProxy(t)
	s.manager(t, proxy.ManagerFlag(t))
	s.undisturbedDemo(t)
	lost := 0
	s.disturbed(t, disturbance{
		begin: func() {
			proxy.Make(func(r *http.Request) harness.Trouble {
				if lost == 3 || !strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") {
					return harness.Trouble{}
				}
				lost++
				return harness.Trouble{Code: http.StatusServiceUnavailable}
			})
		},
		end: func() { proxy.Make(nil) },
	})
	if lost != 3 {
		t.Errorf("the question was lost %d times, want 3", lost)
	}
}

// TestAPIServerRestarted stops or kills the API server in the middle of an incident, and
// starts it again.
func TestAPIServerRestarted(t *testing.T) {
	s := newScenario(t)
	server := s.cluster.APIServer(t)
	manager := s.manager(t)
	s.undisturbedDemo(t)
	s.restart(t, server, manager, countOf(t, "FIREBREAK_RESTARTS", restarts, restartsLong))
}

// TestAPIServerRestartedOverAllActions does the same while a playbook runs that uses every action.
func TestAPIServerRestartedOverAllActions(t *testing.T) {
	s := newScenario(t)
	server := s.cluster.APIServer(t)
	manager := s.manager(t, s.allActions(t)...)
	s.undisturbedActions(t)
	s.restart(t, server, manager, countOf(t, "FIREBREAK_ACTION_RESTARTS", actionRestarts, actionRestartsLong))
}

// restart stops or kills the API server so often, and starts it again.
func (s *scenario) restart(t *testing.T, server, manager *harness.Process, left int) {
	t.Helper()
	s.mustRun(manager)
	for left > 0 {
		result := s.disturbed(t, disturbance{times: min(left, restartsEach), do: func(t *testing.T) {
			if s.random.IntN(2) == 0 {
				server.Kill(t)
			} else {
				// It lets go of its watches late, if at all.
				server.Terminate(t, time.Duration(s.random.Int64N(int64(3*time.Second))))
			}
			server.Start(t)
		}})
		left -= result.done
		t.Logf("restarted %d times: %s, %d restarts to go", result.done, result.took.Round(time.Millisecond), left)
	}
}
