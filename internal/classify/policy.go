// Package classify decides about security events by the criteria of
// ClassificationPolicies (ISO/IEC 27002:2022, 5.25). It is pure: an assessment follows
// from the event, its workload, the policies and the time alone, and can be made again.
package classify

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

// defaultWithin is how long events join an incident when the rule does not say.
const defaultWithin = time.Hour

// Policy is a compiled ClassificationPolicy. It is safe for concurrent use.
type Policy struct {
	name       string
	generation int64
	priority   int32
	rules      []rule
	broken     error
}

// rule is a compiled rule.
type rule struct {
	name      string
	outcome   v1alpha1.RuleOutcome
	match     *expression.Program
	threshold v1alpha1.Threshold
	correlate []*expression.Program
	within    time.Duration
	title     *expression.Program
	severity  *expression.Program
	playbooks []choice
	template  v1alpha1.IncidentTemplate
}

// choice is a compiled PlaybookChoice; when nil it is always right.
type choice struct {
	when *expression.Program
	ref  v1alpha1.PlaybookReference
}

// Compile compiles every expression of a policy. The error names each rule, field and
// position that is wrong.
func Compile(source *v1alpha1.ClassificationPolicy) (*Policy, error) {
	policy := &Policy{name: source.Name, generation: source.Generation, priority: priorityOf(source)}
	var problems []error
	for i := range source.Spec.Rules {
		compiled, err := compileRule(&source.Spec.Rules[i])
		if err != nil {
			problems = append(problems, err)
			continue
		}
		policy.rules = append(policy.rules, compiled)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return policy, nil
}

// Unusable stands for a policy that does not compile and has no earlier generation in
// force. It decides nothing, but no event that passes it is dismissed: what it would
// have said about the event is not known.
func Unusable(source *v1alpha1.ClassificationPolicy, cause error) *Policy {
	return &Policy{name: source.Name, generation: source.Generation, priority: priorityOf(source), broken: cause}
}

// Generation is the generation of the text that was compiled.
func (p *Policy) Generation() int64 { return p.generation }

// Broken says that the policy is one of Unusable.
func (p *Policy) Broken() bool { return p.broken != nil }

func priorityOf(source *v1alpha1.ClassificationPolicy) int32 {
	if source.Spec.Priority == nil {
		return 0
	}
	return *source.Spec.Priority
}

// ordered gives the policies in the order in which they are asked.
func ordered(policies []*Policy) []*Policy {
	return slices.SortedStableFunc(slices.Values(policies), func(a, b *Policy) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.name, b.name))
	})
}

func compileRule(source *v1alpha1.ClassificationRule) (rule, error) {
	var problems []error
	check := func(field string, program *expression.Program, err error) *expression.Program {
		if err != nil {
			problems = append(problems, fmt.Errorf("rule %q `%s` %w", source.Name, field, err))
		}
		return program
	}
	result := rule{name: source.Name, outcome: source.Outcome, within: defaultWithin, threshold: source.Threshold, template: source.Incident}
	compiled, err := expression.CompileBool(expression.Event, source.Match)
	result.match = check("match", compiled, err)
	for i, by := range source.Correlate.By {
		compiled, err := expression.CompileString(expression.Event, by)
		result.correlate = append(result.correlate, check(fmt.Sprintf("correlate.by[%d]", i), compiled, err))
	}
	if source.Correlate.Within != nil {
		result.within = source.Correlate.Within.Duration
	}
	if source.Incident.Title != "" {
		compiled, err := expression.CompileString(expression.Event, source.Incident.Title)
		result.title = check("incident.title", compiled, err)
	}
	if source.Incident.SeverityExpression != "" {
		compiled, err := expression.CompileString(expression.Event, source.Incident.SeverityExpression)
		result.severity = check("incident.severityExpression", compiled, err)
	}
	for i, playbook := range source.Incident.Playbooks {
		next := choice{ref: playbook.PlaybookRef}
		if playbook.When != "" {
			compiled, err := expression.CompileBool(expression.Event, playbook.When)
			next.when = check(fmt.Sprintf("incident.playbooks[%d].when", i), compiled, err)
		}
		result.playbooks = append(result.playbooks, next)
	}
	return result, errors.Join(problems...)
}
