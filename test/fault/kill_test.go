package fault

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/evidence"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	// kills is how often the manager is killed, and killsEach how often in one incident.
	kills, killsLong, killsEach = 50, 400, 5
	// incidentTimeout is how long an incident may take, with the starts of the manager in it.
	incidentTimeout = 5 * time.Minute
)

// TestKilled kills the manager at randomised moments of the demo's incident. It must
// leave the same behind as an incident that nobody has disturbed.
//
// FIREBREAK_SEED repeats the moments of an earlier run, as far as scheduling lets it.
func TestKilled(t *testing.T) {
	seed := seedOf(t)
	t.Logf("FIREBREAK_SEED=%d repeats this run", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	cluster := harness.Get(t)
	location := "file://" + t.TempDir()
	store, err := evidence.OpenStore(t.Context(), location, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	scenario := &scenario{
		cluster: cluster, store: store, random: random,
		manager:  cluster.StartManager(t, "--evidence-store="+location, "--zap-log-level=error"),
		receiver: cluster.StartReceiver(t),
	}

	calm := scenario.run(t, 0)
	if t.Failed() {
		t.FailNow()
	}
	if calm.outcome.Phase != v1alpha1.PhaseClosed || calm.outcome.Lessons != 1 || len(calm.outcome.Evidence) == 0 {
		t.Fatalf("the undisturbed incident went wrong: %+v", calm.outcome)
	}
	t.Logf("undisturbed: %d changes seen, %d entries, %s", calm.changes, len(calm.outcome.Timeline), calm.took.Round(time.Millisecond))
	scenario.expected = calm.changes

	left := kills
	if os.Getenv("FIREBREAK_LONG") == "1" {
		left = killsLong
	}
	for left > 0 {
		scenario.manager.WaitReady(t)
		killed := scenario.run(t, min(left, killsEach))
		left -= killed.kills
		t.Logf("killed %d times: %s, %d kills to go", killed.kills, killed.took.Round(time.Millisecond), left)
		if diff := cmp.Diff(calm.outcome, killed.outcome); diff != "" {
			t.Errorf("the outcome must be the same as undisturbed (-undisturbed +killed):\n%s", diff)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

func seedOf(t *testing.T) uint64 {
	t.Helper()
	given := os.Getenv("FIREBREAK_SEED")
	if given == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(given, 10, 64)
	if err != nil {
		t.Fatalf("FIREBREAK_SEED must be a number: %v", err)
	}
	return seed
}

// scenario runs incidents, one after the other.
type scenario struct {
	cluster  *harness.Cluster
	manager  *harness.Process
	receiver *harness.ReceiverProcess
	store    *evidence.Store
	random   *rand.Rand
	// expected is how many changes an undisturbed incident makes.
	expected int
}

// result is what came of one incident.
type result struct {
	outcome outcome
	changes int
	kills   int
	took    time.Duration
}

// run takes a new world from the alert to the closed incident, and kills the manager up
// to that often on the way.
func (s *scenario) run(t *testing.T, kills int) result {
	t.Helper()
	w := newWorld(t, s.cluster)
	ctx, cancel := context.WithTimeout(t.Context(), incidentTimeout)
	defer cancel()
	changes := w.observe(ctx, t)
	r := &running{
		scenario: s, world: w, kills: kills,
		person: &person{world: w, decided: map[string]bool{}},
		set:    &replicaSet{world: w},
	}
	start := time.Now()
	r.plan()
	w.alert(t, s.receiver)
	for !r.finished() {
		select {
		case change := <-changes:
			r.see(ctx, t, change)
		case <-r.due:
			r.kill(t)
		case <-ctx.Done():
			t.Fatalf("the incident was not closed within %s; it is: %+v", incidentTimeout, r.incident)
		}
	}
	return result{outcome: w.outcomeOf(t, s.store, r.history), changes: r.changes, kills: r.killed, took: time.Since(start)}
}

// running is an incident under way.
type running struct {
	*scenario
	world  *world
	person *person
	set    *replicaSet

	history  history
	incident *v1alpha1.Incident
	answered map[string]bool
	changes  int

	// kills is how many kills are left, and killed how many there were.
	kills, killed int
	// at is after how many changes the next kill comes, and due when it has come to that.
	at  int
	due <-chan time.Time
}

// plan chooses the moment of the next kill: some time after some change.
func (r *running) plan() {
	r.due = nil
	if r.kills == 0 {
		return
	}
	left := max(r.expected-r.changes, 1)
	r.at = r.changes + r.random.IntN(2*left/(r.kills+1)+1)
	if r.at == r.changes {
		r.arm()
	}
}

// arm lets the time until the kill begin. Mostly it is within one write; sometimes it is
// as long as the manager takes to start.
func (r *running) arm() {
	most := 30 * time.Millisecond
	if r.random.IntN(5) == 0 {
		most = 2 * time.Second
	}
	r.due = time.After(time.Duration(r.random.Int64N(int64(most))))
}

func (r *running) kill(t *testing.T) {
	t.Helper()
	r.manager.Kill(t)
	r.kills--
	r.killed++
	r.manager.Launch(t)
	r.plan()
}

// see takes a change in, and lets those react who would.
func (r *running) see(ctx context.Context, t *testing.T, change watch.Event) {
	t.Helper()
	if change.Type == watch.Error {
		t.Fatalf("a watch has ended: %+v", change.Object)
	}
	r.changes++
	r.history.note(r.world, change)
	switch object := change.Object.(type) {
	case *v1alpha1.Incident:
		r.incident = object
		r.person.see(t, object)
	case *v1alpha1.Decision:
		if r.answered == nil {
			r.answered = map[string]bool{}
		}
		accepted := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionAccepted)
		if accepted != nil && accepted.Status != metav1.ConditionTrue {
			t.Fatalf("the Decision %s must be accepted, but: %s: %s", object.Spec.Type, accepted.Reason, accepted.Message)
		}
		r.answered[object.Name] = accepted != nil
	default:
		if err := r.set.sync(ctx); err != nil {
			t.Fatalf("playing the ReplicaSet's controller: %v", err)
		}
	}
	if r.kills > 0 && r.due == nil && r.changes >= r.at {
		r.arm()
	}
}

// finished says that nothing is left to be done.
func (r *running) finished() bool {
	if r.incident == nil || r.incident.Status.Phase != v1alpha1.PhaseClosed ||
		r.incident.Status.Audit.ProjectedSequence != r.incident.Status.Audit.Sequence {
		return false
	}
	for _, answered := range r.answered {
		if !answered {
			return false
		}
	}
	return len(r.answered) == len(r.person.decided)
}
