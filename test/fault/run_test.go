package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/evidence"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	// incidentTimeout is how long an incident may take, with the starts of the manager in it:
	// on a busy machine, and with the minute that client-go waits at most before it asks an API
	// server again that makes trouble.
	incidentTimeout = 10 * time.Minute
	// quietFor is for how long nothing changes when an incident has come to rest: its own
	// changes and those of what was done come by different watches.
	quietFor = time.Second
)

// scenario runs incidents, one after the other.
type scenario struct {
	cluster  *harness.Cluster
	receiver *harness.ReceiverProcess
	store    *evidence.Store
	// evidence is the flag that has a manager keep its evidence in store.
	evidence string
	random   *rand.Rand
	// build makes a world, in which an alert starts an incident.
	build func(*testing.T) *world
	// tend is called every second while an incident is under way; nil means nothing.
	tend func(*testing.T)
	// calm is what came of an undisturbed incident.
	calm result
}

// newScenario starts the receiver. Each test starts its managers.
func newScenario(t *testing.T) *scenario {
	t.Helper()
	seed := seedOf(t)
	t.Logf("FIREBREAK_SEED=%d repeats this run", seed)
	cluster := harness.Get(t)
	location := "file://" + t.TempDir()
	store, err := evidence.OpenStore(t.Context(), location, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return &scenario{
		cluster: cluster, store: store, evidence: "--evidence-store=" + location,
		random: rand.New(rand.NewPCG(seed, 0)), receiver: cluster.StartReceiver(t),
		build: func(t *testing.T) *world { return newWorld(t, cluster) },
	}
}

// seedOf is FIREBREAK_SEED, which repeats the moments of an earlier run as far as
// scheduling lets it, or a new one.
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

// manager starts a manager that keeps its evidence where the scenario looks for it.
func (s *scenario) manager(t *testing.T, flags ...string) *harness.Process {
	t.Helper()
	return s.cluster.StartManager(t, append([]string{s.evidence, "--zap-log-level=error", "--zap-stacktrace-level=panic"}, flags...)...)
}

// mustRun fails the test as soon as a manager has ended that nobody has killed.
func (s *scenario) mustRun(manager *harness.Process) {
	s.tend = func(t *testing.T) {
		t.Helper()
		if !manager.Running() {
			t.Fatal("the manager has ended by itself")
		}
	}
}

// disturbance is what is done to an incident under way.
type disturbance struct {
	// times is how often do is called, at random moments.
	times int
	do    func(*testing.T)
	// begin is called before the alert, and end when the incident is over. Nil means nothing.
	begin, end func()
	// says tells what there was of it, for people to read; nil means how often do was called.
	says func() string
}

// calmDemo is what came of the demo's incident undisturbed, once a test has run it.
var calmDemo *result

// undisturbedDemo is undisturbed for the demo's incident, which the tests share.
func (s *scenario) undisturbedDemo(t *testing.T) {
	t.Helper()
	if calmDemo == nil {
		s.undisturbed(t)
		calmDemo = &s.calm
	}
	s.calm = *calmDemo
}

// calmActions is the same of the incident whose playbook uses every action.
var calmActions *result

// allActions has incidents begin whose playbook uses every action. Its flags are those that
// a manager needs for it.
func (s *scenario) allActions(t *testing.T) (flags []string) {
	t.Helper()
	hook := newWebhook(t)
	s.build = func(t *testing.T) *world { return newActionsWorld(t, s.cluster, hook) }
	return hook.flags(t)
}

// undisturbedActions is undisturbed for these, which the tests share.
func (s *scenario) undisturbedActions(t *testing.T) {
	t.Helper()
	if calmActions == nil {
		s.undisturbed(t)
		calmActions = &s.calm
	}
	s.calm = *calmActions
}

// undisturbed runs an incident that nobody disturbs, to compare the others with.
func (s *scenario) undisturbed(t *testing.T) {
	t.Helper()
	s.calm = s.run(t, disturbance{})
	if calm := s.calm.outcome; calm.Phase != v1alpha1.PhaseClosed || calm.Lessons != 1 || len(calm.Evidence) == 0 {
		t.Fatalf("the undisturbed incident went wrong: %s", harness.Brief(fmt.Sprintf("%+v", calm)))
	}
	for _, step := range s.calm.outcome.Steps {
		if !strings.Contains(step, " "+string(v1alpha1.StepSucceeded)+" ") && !strings.Contains(step, " "+string(v1alpha1.StepReverted)+" ") {
			t.Errorf("every step of the undisturbed incident must do what it is for, but: %s", step)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("undisturbed: %d changes seen, %d entries, %s", s.calm.changes, len(s.calm.outcome.Timeline), s.calm.took.Round(time.Millisecond))
}

// disturbed runs an incident that must end as if nobody had disturbed it.
func (s *scenario) disturbed(t *testing.T, by disturbance) result {
	t.Helper()
	disturbed := s.run(t, by)
	if diff := cmp.Diff(s.calm.outcome, disturbed.outcome); diff != "" {
		says := fmt.Sprintf("%d disturbances", disturbed.done)
		if by.says != nil {
			says = by.says()
		}
		t.Errorf("after %s within %s the outcome must be the same as undisturbed (-undisturbed +disturbed):\n%s",
			says, disturbed.took.Round(time.Millisecond), harness.Brief(diff))
	}
	if t.Failed() {
		t.FailNow()
	}
	return disturbed
}

// result is what came of one incident.
type result struct {
	outcome outcome
	changes int
	done    int
	// repeated is how many requests were sent again.
	repeated int
	took     time.Duration
}

// run takes a new world from the alert to the closed incident.
func (s *scenario) run(t *testing.T, by disturbance) result {
	t.Helper()
	w := s.build(t)
	ctx, cancel := context.WithTimeout(t.Context(), incidentTimeout)
	defer cancel()
	changes := w.observe(ctx, t)
	r := &running{
		scenario: s, world: w, by: by, left: by.times,
		person: &person{world: w, decided: map[string]bool{}},
		set:    &replicaSet{world: w},
	}
	if by.begin != nil {
		by.begin()
	}
	start := time.Now()
	r.plan()
	w.alert(t, s.receiver)
	r.untilAtRest(ctx, t, changes)
	took := time.Since(start) - quietFor
	if by.end != nil {
		by.end()
	}
	outcome := w.outcomeOf(t, s.store, r.history)
	return result{outcome: outcome, changes: r.changes, done: r.done, repeated: w.repeated, took: took}
}

// untilAtRest lets those react who would, and disturbs, until the incident is over and nothing
// changes any more.
func (r *running) untilAtRest(ctx context.Context, t *testing.T, changes <-chan watch.Event) {
	t.Helper()
	tending := time.NewTicker(time.Second)
	defer tending.Stop()
	rest := time.NewTimer(quietFor)
	defer rest.Stop()
	for over := false; !over; {
		select {
		case <-rest.C:
			over = len(r.unfinished()) == 0
			rest.Reset(quietFor)
		case change := <-changes:
			r.see(ctx, t, change)
			rest.Reset(quietFor)
		case <-r.due:
			r.disturb(t)
			rest.Reset(quietFor)
		case <-r.world.calls():
			r.called()
		case <-tending.C:
			if r.tend != nil {
				r.tend(t)
			}
		case <-ctx.Done():
			t.Fatalf("the incident was not over within %s: %s", incidentTimeout, r.whatIsLeft())
		}
	}
}

// running is an incident under way.
type running struct {
	*scenario
	world  *world
	by     disturbance
	person *person
	set    *replicaSet

	history  history
	incident *v1alpha1.Incident
	answered map[string]bool
	// assessed says that the event names its incident, which it does off the critical path.
	assessed bool
	changes  int

	// left is how many disturbances are to come, and done how many there were.
	left, done int
	// at is after how many changes the next one comes, and due when it has come to that.
	at  int
	due <-chan time.Time
}

// plan chooses the moment of the next disturbance: some time after some change.
func (r *running) plan() {
	r.due = nil
	if r.left == 0 {
		return
	}
	left := max(r.calm.changes-r.changes, 1)
	r.at = r.changes + r.random.IntN(2*left/(r.left+1)+1)
	if r.at == r.changes {
		r.arm()
	}
}

// arm lets the time until the disturbance begin. Mostly it is within one write; sometimes
// it is as long as the manager takes to start.
func (r *running) arm() {
	most := 30 * time.Millisecond
	if r.random.IntN(5) == 0 {
		most = 2 * time.Second
	}
	r.due = time.After(time.Duration(r.random.Int64N(int64(most))))
}

// called may have the next disturbance come while a request waits for its answer.
func (r *running) called() {
	if r.left > 0 && r.random.IntN(2) == 0 {
		r.due = time.After(time.Duration(r.random.Int64N(int64(answersAfter))))
	}
}

func (r *running) disturb(t *testing.T) {
	t.Helper()
	r.by.do(t)
	r.left--
	r.done++
	r.plan()
}

// see takes a change in, and lets those react who would.
func (r *running) see(ctx context.Context, t *testing.T, change watch.Event) {
	t.Helper()
	r.changes++
	r.history.note(r.world, change)
	r.world.noteThing(change)
	switch object := change.Object.(type) {
	case *v1alpha1.Incident:
		r.incident, r.world.incident = object, object.Name
		r.person.see(t, object)
	case *v1alpha1.SecurityEvent:
		r.assessed = object.Status.Assessment.Outcome != "" && object.Status.IncidentRef.Name != ""
	case *v1alpha1.Decision:
		if r.answered == nil {
			r.answered = map[string]bool{}
		}
		accepted := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionAccepted)
		if accepted != nil && accepted.Status != metav1.ConditionTrue {
			t.Fatalf("the Decision %s must be accepted, but: %s: %s", object.Spec.Type, accepted.Reason, accepted.Message)
		}
		r.answered[object.Name] = accepted != nil
	case *corev1.Pod:
		if err := r.world.endPod(ctx, change, object); err != nil {
			t.Fatalf("playing the kubelet: %v", err)
		}
		if err := r.set.sync(ctx); err != nil {
			t.Fatalf("playing the ReplicaSet's controller: %v", err)
		}
	case client.Object:
		if err := r.world.control(ctx, object); err != nil {
			t.Fatalf("playing a controller: %v", err)
		}
	}
	if r.left > 0 && r.due == nil && r.changes >= r.at {
		r.arm()
	}
}

// unfinished says what is left to be done.
func (r *running) unfinished() []string {
	if r.incident == nil {
		return []string{"there is no incident"}
	}
	var left []string
	status := &r.incident.Status
	if status.Phase != v1alpha1.PhaseClosed {
		left = append(left, "it is in phase "+string(status.Phase))
	}
	if status.Audit.ProjectedSequence != status.Audit.Sequence {
		left = append(left, fmt.Sprintf("%d of %d entries are Events", status.Audit.ProjectedSequence, status.Audit.Sequence))
	}
	if !r.assessed {
		left = append(left, "its event does not name it")
	}
	for name, answered := range r.answered {
		if !answered {
			left = append(left, "the Decision "+name+" is not answered")
		}
	}
	if len(r.answered) != len(r.person.decided) {
		left = append(left, fmt.Sprintf("%d of %d Decisions are there", len(r.answered), len(r.person.decided)))
	}
	return left
}

// whatIsLeft says why an incident is not over, for people to read.
func (r *running) whatIsLeft() string {
	text := strings.Join(r.unfinished(), "; ")
	if r.incident == nil {
		return text
	}
	for i := range r.incident.Status.Steps {
		if step := &r.incident.Status.Steps[i]; step.EndTime == nil && step.StartTime != nil {
			text += fmt.Sprintf("; step %s is %s: %s", step.Name, step.State, step.Message)
		}
	}
	return harness.Brief(text + "\n" + harness.Describe(r.incident))
}
