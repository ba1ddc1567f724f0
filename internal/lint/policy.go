package lint

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

// quotedField is the field that a problem names.
var quotedField = regexp.MustCompile("`([^`]+)`")

func (r *run) checkPolicy(p *policy) {
	for i := range p.spec.Spec.Rules {
		rule := &p.spec.Spec.Rules[i]
		path := fmt.Sprintf("spec.rules[%d]", i)
		alone := p.spec.DeepCopy()
		alone.Spec.Rules = []v1alpha1.ClassificationRule{*rule}
		_, err := classify.Compile(alone)
		for _, problem := range each(err) {
			at := path
			if field := quotedField.FindStringSubmatch(problem.Error()); field != nil {
				at += "." + field[1]
			}
			r.add(site{p.Object, at}, Error, ReasonExpression, "%v", problem)
		}
		if err == nil {
			r.checkTrust(p, rule, path)
		}
		r.checkTexts(site{p.Object, path + ".match"}, expression.Event, rule.Match)
		r.checkSeverity(site{p.Object, path + ".incident.severityExpression"}, rule)
		r.checkChoices(p, rule, path)
		for j, choice := range rule.Incident.Playbooks {
			r.checkTexts(site{p.Object, fmt.Sprintf("%s.incident.playbooks[%d].when", path, j)}, expression.Event, choice.When)
			r.refersToPlaybook(p.Object, fmt.Sprintf("%s.incident.playbooks[%d].playbookRef.name", path, j), choice.PlaybookRef.Name)
		}
	}
}

// checkTrust finds rules that decide whoever has sent the event. To defer to a person does
// no harm.
func (r *run) checkTrust(p *policy, rule *v1alpha1.ClassificationRule, path string) {
	if names, err := expression.Requires(rule.Match, "event", "submittedBy", namesSubmitter); err != nil || names {
		return
	}
	harm := ""
	switch rule.Outcome {
	case v1alpha1.RulePromote:
		harm = "whoever may create events can open incidents by it and set off their playbooks"
	case v1alpha1.RuleDismiss:
		harm = "whoever may create events can have theirs dismissed by it, and so hide them"
	default:
		return
	}
	r.add(site{p.Object, path + ".match"}, Warning, ReasonAnySubmitter,
		"rule %q `match` trusts any submitter: %s. To be true, it must demand of `event.submittedBy`, which admission vouches for, that it is one that is written out, "+
			"such as event.submittedBy == \"system:serviceaccount:falco:falco\" && …, or in a list of such, or that it startsWith \"system:serviceaccount:NAMESPACE:\"; "+
			"where everybody is meant, it must say event.submittedBy != \"\" && …", rule.Name, harm)
}

// serviceAccounts begins the name of every ServiceAccount; its namespace and a colon follow.
const serviceAccounts = "system:serviceaccount:"

// namesSubmitter says whether a rule knows by a demand whom it trusts: one of some, those of one
// namespace, or everybody, said with intent.
func namesSubmitter(demand expression.Demand) bool {
	switch demand.Operator {
	case "!=":
		return demand.Texts[0] == ""
	case "startsWith":
		prefix := demand.Texts[0]
		namespace, all := strings.CutPrefix(prefix, serviceAccounts)
		return !strings.HasPrefix(serviceAccounts, prefix) && (!all || strings.Contains(namespace, ":"))
	}
	return true
}
