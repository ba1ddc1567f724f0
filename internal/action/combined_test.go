package action_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

var combinedRights = append(append(append([]rbacv1.PolicyRule{}, allRights...), quarantineRights...), scaleRights...)

// held is one step of one incident, under the name of its action.
type held struct{ incident, action string }

var (
	isolateHere, isolateThere       = held{"inc-1", "isolate"}, held{"inc-2", "isolate"}
	quarantineHere, quarantineThere = held{"inc-1", "quarantine"}, held{"inc-2", "quarantine"}
	scaleHere                       = held{"inc-1", "scale"}
)

// TestCombined has several steps hold one pod, in every order, and undoes them in the same
// order, backwards, and with the first last: as long as one holds it nothing selects or reaches the pod, and after the last it
// is as it was.
func TestCombined(t *testing.T) {
	for name, steps := range map[string][]held{
		"isolate, quarantine":             {isolateHere, quarantineHere},
		"isolate, quarantine, scale":      {isolateHere, quarantineHere, scaleHere},
		"isolate, quarantine, by two":     {isolateHere, quarantineThere},
		"isolate twice, by two":           {isolateHere, isolateThere},
		"quarantine twice, by two":        {quarantineHere, quarantineThere},
		"all, by two":                     {isolateHere, quarantineHere, isolateThere},
		"quarantine twice, isolate twice": {quarantineHere, isolateHere, quarantineThere, isolateThere},
	} {
		w := newWorld(t, combinedRights)
		w.service("web", "tier", "web")
		w.service("cart", "app", "cart")
		w.allow("team-web", byLabel("tier", "web"))
		deployment := w.workloadOf("cart", 3)
		for _, made := range orders(len(steps)) {
			for _, undone := range undoings(made) {
				t.Run(name+"/"+spell(steps, made)+" undone "+spell(steps, undone), func(t *testing.T) {
					shared := *w
					shared.T = t
					newCombination(&shared, steps, deployment).run(made, undone)
				})
			}
		}
	}
}

// orders gives every order of so many things; of more than three, only each as the first
// and the rest in turn.
func orders(count int) [][]int {
	if count == 1 {
		return [][]int{{0}}
	}
	var all [][]int
	for first := range count {
		rest := [][]int{{}}
		if count <= 3 {
			rest = orders(count - 1)
		} else {
			for i := range count - 1 {
				rest[0] = append(rest[0], i)
			}
		}
		for _, tail := range rest {
			order := []int{first}
			for _, at := range tail {
				order = append(order, (first+1+at)%count)
			}
			all = append(all, order)
		}
	}
	return all
}

// undoings gives the same order, backwards, and of more than two with the first last.
func undoings(made []int) [][]int {
	backwards := slices.Clone(made)
	slices.Reverse(backwards)
	if len(made) == 2 {
		return [][]int{made, backwards}
	}
	return [][]int{made, backwards, append(slices.Clone(made[1:]), made[0])}
}

func spell(steps []held, order []int) string {
	var words []string
	for _, at := range order {
		words = append(words, steps[at].incident[len("inc-"):]+steps[at].action[:1])
	}
	return strings.Join(words, "-")
}

// combination is a pod that a Service and a policy of a team select by one label, and a
// Service by another.
type combination struct {
	*world
	steps      []held
	pod        *corev1.Pod
	deployment *appsv1.Deployment
	requests   []*action.Request
}

func newCombination(w *world, steps []held, deployment *appsv1.Deployment) *combination {
	c := &combination{world: w, steps: steps, pod: w.pod("cart-1", nil, cartLabels), deployment: deployment}
	incidents := map[string]*v1alpha1.Incident{}
	for _, name := range []string{"inc-1", "inc-2"} {
		incidents[name] = w.incident(name)
		incidents[name].Status.Steps = []v1alpha1.IncidentStep{{Name: "isolate"}, {Name: "quarantine"}, {Name: "stop"}}
	}
	for _, step := range steps {
		incident := incidents[step.incident]
		switch step.action {
		case "isolate":
			c.requests = append(c.requests, w.request(incident, isolateStep(), c.pod))
		case "quarantine":
			c.requests = append(c.requests, w.request(incident, quarantineStep(""), c.pod))
		default:
			c.requests = append(c.requests, w.request(incident, scaleStep(0), c.deployment))
		}
	}
	return c
}

func (c *combination) run(made, undone []int) {
	c.Helper()
	for i, at := range made {
		c.applied(c.steps[at].action, c.requests[at])
		c.stand(made[:i+1])
	}
	for i, at := range undone {
		c.undone(c.steps[at].action, c.requests[at])
		c.stand(undone[i+1:])
	}
	c.get(c.pod)
	if diff := cmp.Diff(cartLabels, c.pod.Labels); diff != "" || len(c.pod.Annotations) > 0 {
		c.Errorf("at the end: annotations %v, labels (-want +got):\n%s", c.pod.Annotations, diff)
	}
	c.replicas(c.deployment, 3)
	if left := c.policies(); len(left) != 1 {
		c.Errorf("%d policies at the end, want the team's", len(left))
	}
	c.delete(c.pod)
}

// stand checks that every step that was not undone has its effect.
func (c *combination) stand(which []int) {
	c.Helper()
	for _, at := range which {
		c.expect("Observe "+c.steps[at].incident+" "+c.steps[at].action, do(c.T, c.steps[at].action).Observe(c.Context(), c.requests[at]), v1alpha1.TargetSucceeded)
	}
}

// TestQuarantineLeavesTheIsolationOfAWorkload keeps the labels by which a workload is isolated.
func TestQuarantineLeavesTheIsolationOfAWorkload(t *testing.T) {
	w := newWorld(t, append([]rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}}, combinedRights...))
	set := w.replicaSet()
	w.service("cart", "app", "cart")
	pod := w.pod("cart-1", set, cartLabels)
	group := w.request(w.incident("inc-1"), isolateStep(), set)
	w.applied("isolate", group)
	request := w.request(w.incident("inc-2"), quarantineStep(""), pod)
	w.expect("Plan", do(t, "quarantine").Plan(t.Context(), request), v1alpha1.TargetFailed, "incident 'inc-1' isolates it by NetworkPolicy 'firebreak-inc-1-", "label 'app'", "isolate the pod itself first")

	alone := w.request(w.incident("inc-2"), isolateStep(), pod)
	w.applied("isolate", alone)
	w.applied("quarantine", request)
	w.expect("Observe", do(t, "isolate").Observe(t.Context(), alone), v1alpha1.TargetSucceeded)
	w.undone("quarantine", request)
	w.undone("isolate", alone)
	w.delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: "cart-1"}})
	w.undone("isolate", group)
}
