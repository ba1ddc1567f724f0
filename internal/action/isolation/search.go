package isolation

import (
	"container/heap"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	// workloadCost makes one label of the workload dearer than any number of others.
	workloadCost = 1 << 16
	// maxStates bounds the search: policies and labels are not ours, and may be many.
	maxStates = 4096
)

// allowing is a policy that allows something in a direction that is cut.
type allowing struct {
	name     string
	allows   string
	selector labels.Selector
	// keys are the labels without any one of which the policy does not select the pod.
	keys []string
}

// Compute says which labels must be taken off the pod, so that no policy that allows
// something in a direction that is cut selects it any more: as few of the workload's
// labels as possible, then as few labels as possible. Taking a label away may make
// further policies select the pod; they are counted in. It gives a *BlockedError when
// there is no way.
func Compute(in Input) ([]Label, error) {
	policies, err := relevant(in)
	if err != nil {
		return nil, err
	}
	states := &queue{{}}
	seen := map[string]bool{}
	var blocked *BlockedError
	for looked := 0; states.Len() > 0; looked++ {
		state, _ := heap.Pop(states).(state)
		if looked >= maxStates {
			return nil, &BlockedError{Policy: policies[0].name, Reason: fmt.Sprintf(
				"and %d others allow traffic to it in too many ways to compute which labels to take away: remove policies that are not needed", len(policies)-1)}
		}
		remaining := maps.Clone(in.Labels)
		for _, key := range state.removed {
			delete(remaining, key)
		}
		policy := firstMatch(policies, remaining)
		if policy == nil {
			return describe(in, state.removed), nil
		}
		removable := slices.DeleteFunc(slices.Clone(policy.keys), func(key string) bool {
			return in.Keep != nil && in.Keep(key)
		})
		if len(removable) == 0 && blocked == nil {
			blocked = &BlockedError{Policy: policy.name, Reason: reason(policy, state.removed)}
		}
		for _, key := range removable {
			next := state.with(key, in.Workload != nil && in.Workload(key))
			if id := next.id(); !seen[id] {
				seen[id] = true
				heap.Push(states, next)
			}
		}
	}
	return nil, blocked
}

// relevant are the policies that allow something in a direction that is cut.
func relevant(in Input) ([]allowing, error) {
	var found []allowing
	for i := range in.Policies {
		policy := &in.Policies[i]
		allows := Allows(&policy.Spec, in.Cut)
		if allows == "" {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		if err != nil {
			return nil, &BlockedError{Policy: policy.Name, Reason: fmt.Sprintf("has a podSelector that cannot be understood (%v): correct it", err)}
		}
		found = append(found, allowing{name: policy.Name, allows: allows, selector: selector, keys: positiveKeys(&policy.Spec.PodSelector)})
	}
	slices.SortFunc(found, func(a, b allowing) int { return strings.Compare(a.name, b.name) })
	return found, nil
}

func positiveKeys(selector *metav1.LabelSelector) []string {
	keys := slices.Collect(maps.Keys(selector.MatchLabels))
	for _, expression := range selector.MatchExpressions {
		if expression.Operator == metav1.LabelSelectorOpIn || expression.Operator == metav1.LabelSelectorOpExists {
			keys = append(keys, expression.Key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func firstMatch(policies []allowing, on map[string]string) *allowing {
	for i := range policies {
		if policies[i].selector.Matches(labels.Set(on)) {
			return &policies[i]
		}
	}
	return nil
}

func reason(policy *allowing, removed []string) string {
	switch {
	case policy.selector.Empty():
		return fmt.Sprintf("selects every pod of its namespace and allows %s: no label takes the pod out of it. Narrow its podSelector or delete it", policy.allows)
	case len(policy.keys) > 0:
		return fmt.Sprintf("selects the pod by a label that cannot be taken away for good (%s) and allows %s: narrow its podSelector or delete it",
			strings.Join(policy.keys, ", "), policy.allows)
	case len(removed) > 0:
		return fmt.Sprintf("selects the pod once it lacks the label '%s', by which others select it, and allows %s: narrow its podSelector or delete it",
			strings.Join(removed, "', '"), policy.allows)
	default:
		return fmt.Sprintf("selects pods by labels they lack (NotIn, DoesNotExist) and allows %s: taking labels away does not take the pod out of it. Narrow its podSelector or delete it", policy.allows)
	}
}

func describe(in Input, removed []string) []Label {
	found := make([]Label, 0, len(removed))
	for _, key := range removed {
		found = append(found, Label{Key: key, Value: in.Labels[key], Workload: in.Workload != nil && in.Workload(key)})
	}
	return found
}

// state is a set of labels taken away, sorted, and what that costs.
type state struct {
	removed []string
	cost    int
}

func (s state) with(key string, workload bool) state {
	removed := append(slices.Clone(s.removed), key)
	slices.Sort(removed)
	cost := s.cost + 1
	if workload {
		cost += workloadCost
	}
	return state{removed: removed, cost: cost}
}

func (s state) id() string { return strings.Join(s.removed, "\x00") }

// queue gives the cheapest state first, equals by their labels.
type queue []state

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if q[i].cost != q[j].cost {
		return q[i].cost < q[j].cost
	}
	return slices.Compare(q[i].removed, q[j].removed) < 0
}

func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *queue) Push(x any) {
	if s, ok := x.(state); ok {
		*q = append(*q, s)
	}
}

func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
