package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// always says whether a condition is true of everything.
func always(condition v1alpha1.Expression) bool {
	text := strings.TrimSpace(string(condition))
	return text == "" || text == "true"
}

// askedRule is a rule, and in words which one it is.
type askedRule struct {
	*v1alpha1.ClassificationRule

	policy *policy
}

// nameFor names a rule to somebody who reads a policy.
func (a askedRule) nameFor(reader *policy) string {
	if a.policy == reader {
		return fmt.Sprintf("rule %q", a.Name)
	}
	return fmt.Sprintf("rule %q of policy %q (priority %d)", a.Name, a.policy.Name, priorityOf(a.policy))
}

// checkReached finds rules that no event reaches, in the order in which they are asked in a
// namespace: the first that matches decides, be it that the event was not seen often enough.
func (r *run) checkReached() {
	policies := slices.SortedStableFunc(slices.Values(r.given.policies), func(a, b *policy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(priorityOf(b), priorityOf(a)), cmp.Compare(a.Name, b.Name))
	})
	var before []askedRule
	for i, p := range policies {
		if i > 0 && policies[i-1].Namespace != p.Namespace {
			before = nil
		}
		for j := range p.spec.Spec.Rules {
			rule := askedRule{&p.spec.Spec.Rules[j], p}
			at := site{p.Object, fmt.Sprintf("spec.rules[%d]", j)}
			if all := slices.IndexFunc(before, func(one askedRule) bool { return always(one.Match) }); all >= 0 {
				r.add(at, Warning, ReasonNeverAsked, "rule %q is never asked: %s before it matches every event, and the first that matches decides; it should be the last", rule.Name, before[all].nameFor(p))
			} else if same := slices.IndexFunc(before, rule.sameMatch); same >= 0 {
				r.add(at, Warning, ReasonNeverAsked, "rule %q never decides: %s before it has the same `match`, and the first that matches decides; they should be one, or differ", rule.Name, before[same].nameFor(p))
			}
			before = append(before, rule)
		}
	}
}

func (a askedRule) sameMatch(other askedRule) bool {
	return strings.TrimSpace(string(a.Match)) == strings.TrimSpace(string(other.Match))
}

func priorityOf(p *policy) int32 {
	if p.spec.Spec.Priority == nil {
		return 0
	}
	return *p.spec.Spec.Priority
}

// checkChoices finds playbooks of a rule that come after one that is always taken.
func (r *run) checkChoices(p *policy, rule *v1alpha1.ClassificationRule, path string) {
	choices := rule.Incident.Playbooks
	for i := range choices {
		if always(choices[i].When) && i+1 < len(choices) {
			r.add(site{p.Object, fmt.Sprintf("%s.incident.playbooks[%d]", path, i+1)}, Warning, ReasonNeverAsked,
				"playbook '%s' of rule %q is never chosen: '%s' before it has no `when` that could be false, and the first that is true is taken; it should be the last",
				choices[i+1].PlaybookRef.Name, rule.Name, choices[i].PlaybookRef.Name)
			return
		}
	}
}
