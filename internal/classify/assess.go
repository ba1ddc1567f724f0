package classify

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

const (
	maxTitle   = 256
	maxMessage = 1024
	// maxYielded is how much an error shows of what an expression has yielded.
	maxYielded = 64
)

// Input is everything an assessment follows from.
type Input struct {
	// Event is the event. It is not changed.
	Event *v1alpha1.SecurityEvent
	// Same are other events of the same thing (see v1alpha1.Threshold), in any order: what
	// they have counted counts for thresholds too. They are not changed.
	Same []v1alpha1.SecurityEvent
	// Workload is the name of the top owner of the event's first resource; empty when
	// the event names no resource.
	Workload string
	// Policies are the policies in force, in any order.
	Policies []*Policy
	// By is who decides: the manager's user name.
	By string
	// Now is the time of the decision.
	Now time.Time
}

// Assessment is what was decided.
type Assessment struct {
	// Record is what is kept with the event. Its outcome is Promoted, Dismissed or
	// Deferred; whether a Promoted event joins an open incident instead is for the
	// caller to find out by Correlation. It has no outcome while the event is below the
	// threshold of its rule and may reach it yet.
	Record v1alpha1.Assessment
	// Until is how long it waits for that; zero unless it does. Seen is how often it was seen
	// so far, within the time in which it must be seen Asked times.
	Until       time.Time
	Seen, Asked int64
	// Incident is the incident to open. Nil unless the outcome is Promoted.
	Incident *v1alpha1.IncidentSpec
	// Correlation says which incident the event belongs to, with Incident.
	Correlation Correlation
}

// Assess asks the policies, the highest priority first, and takes the first rule that
// matches. A rule that fails to evaluate defers the event at once: it is never passed
// over, and never dismisses. The error is not nil only when the context has ended;
// then nothing was decided.
func Assess(ctx context.Context, in Input) (Assessment, error) {
	variables, err := expression.EventVariables(in.Event, in.Workload)
	if err != nil {
		return in.deferred(v1alpha1.ReasonRuleError, err.Error()), nil
	}
	asking := &asked{}
	result, err := in.ask(ctx, variables, asking)
	if err != nil {
		return Assessment{}, err
	}
	result.Record.Asked, result.Record.MoreAsked = asking.policies, asking.more
	return result, nil
}

// ask asks rule by rule, until one decides.
func (in Input) ask(ctx context.Context, variables expression.Variables, asking *asked) (Assessment, error) {
	var unusable *Policy
	for _, policy := range ordered(in.Policies) {
		asking.policy(policy)
		if policy.broken != nil {
			asking.answer(v1alpha1.AnswerNotUsable)
			if unusable == nil {
				unusable = policy
			}
			continue
		}
		for i := range policy.rules {
			rule := &policy.rules[i]
			asking.rule(rule.name)
			matches, err := rule.match.Bool(ctx, variables)
			if ctx.Err() != nil {
				return Assessment{}, ctx.Err()
			}
			if err != nil {
				asking.answer(v1alpha1.AnswerFailed)
				return in.failed(policy, rule, fmt.Errorf("`match` %w", err)), nil
			}
			if matches {
				return in.decide(ctx, decision{policy, rule, unusable, asking}, variables)
			}
		}
	}
	if unusable != nil {
		return in.undecidable(unusable), nil
	}
	return in.deferred(v1alpha1.ReasonNoRuleMatched, "no rule of any classification policy matched; a person must decide"), nil
}

// decision is the rule that decides, and the first policy before it that could not be asked.
type decision struct {
	policy   *Policy
	rule     *rule
	unusable *Policy
	asking   *asked
}

func (in Input) decide(ctx context.Context, by decision, variables expression.Variables) (Assessment, error) {
	result := Assessment{Record: in.record(by.policy, by.rule)}
	by.asking.answer(v1alpha1.AnswerMatched)
	switch by.rule.outcome {
	case v1alpha1.RulePromote:
		if !in.reaches(by, &result) {
			by.asking.answer(v1alpha1.AnswerBelowThreshold)
			if by.unusable != nil && result.Record.Outcome == v1alpha1.OutcomeDismissed {
				return in.undecidable(by.unusable), nil
			}
			return result, nil
		}
		if err := in.promote(ctx, by, variables, &result); err != nil {
			if ctx.Err() != nil {
				return Assessment{}, ctx.Err()
			}
			by.asking.answer(v1alpha1.AnswerFailed)
			return in.failed(by.policy, by.rule, err), nil
		}
		result.Record.Outcome = v1alpha1.OutcomePromoted
	case v1alpha1.RuleDismiss:
		if by.unusable != nil {
			return in.undecidable(by.unusable), nil
		}
		result.Record.Outcome = v1alpha1.OutcomeDismissed
	default:
		result.Record.Outcome, result.Record.Reason = v1alpha1.OutcomeDeferred, v1alpha1.ReasonDeferredByRule
		result.Record.Message = fmt.Sprintf("rule %q of policy %q leaves the decision to a person", by.rule.name, by.policy.name)
	}
	return result, nil
}

func (in Input) promote(ctx context.Context, by decision, variables expression.Variables, result *Assessment) error {
	rule := by.rule
	var key []string
	for i, program := range rule.correlate {
		value, err := program.String(ctx, variables)
		if err != nil {
			return fmt.Errorf("`correlate.by[%d]` %w", i, err)
		}
		key = append(key, value)
	}
	within := rule.within
	if len(key) == 0 {
		key, within = []string{in.Event.Name}, 0
	}
	result.Correlation = Correlation{Mode: in.Event.Spec.Mode, Policy: by.policy.name, Rule: rule.name, Key: key, Within: within}

	incident, err := in.incident(ctx, by, variables)
	result.Incident = incident
	return err
}

// incident makes the incident that a rule opens; an error names the field that failed.
func (in Input) incident(ctx context.Context, by decision, variables expression.Variables) (*v1alpha1.IncidentSpec, error) {
	rule := by.rule
	incident := NewIncident(in.Event)
	incident.Rule = by.policy.name + "/" + rule.name
	incident.Category = rule.template.Category
	incident.Impact = rule.template.Impact
	incident.Confirm = rule.template.Confirm
	incident.Determinations = slices.Clone(rule.template.Determinations)
	if rule.template.TLP != "" {
		incident.TLP = rule.template.TLP
	}
	if err := rule.setSeverity(ctx, incident, variables); err != nil {
		return nil, err
	}
	if rule.title != nil {
		title, err := rule.title.String(ctx, variables)
		if err != nil {
			return nil, fmt.Errorf("`incident.title` %w", err)
		}
		if title = Line(title, maxTitle); title != "" {
			incident.Title = title
		}
	}
	for i, choice := range rule.playbooks {
		if choice.when != nil {
			right, err := choice.when.Bool(ctx, variables)
			if err != nil {
				return nil, fmt.Errorf("`incident.playbooks[%d].when` %w", i, err)
			}
			if !right {
				continue
			}
		}
		incident.PlaybookRef = choice.ref
		break
	}
	return incident, nil
}

// setSeverity gives the incident the rule's severity; without one it keeps the event's.
func (r *rule) setSeverity(ctx context.Context, incident *v1alpha1.IncidentSpec, variables expression.Variables) error {
	if r.template.Severity != "" {
		incident.Severity = r.template.Severity
	}
	if r.severity == nil {
		return nil
	}
	yielded, err := r.severity.String(ctx, variables)
	if err != nil {
		return fmt.Errorf("`incident.severityExpression` %w", err)
	}
	severity := v1alpha1.Severity(yielded)
	if severity.Rank() == 0 {
		return fmt.Errorf("`incident.severityExpression` must yield 'Informational', 'Low', 'Medium', 'High' or 'Critical', but yields '%s'",
			Line(yielded, maxYielded))
	}
	incident.Severity = severity
	return nil
}

// NewIncident is the incident an event opens when nothing more is known than the event.
func NewIncident(event *v1alpha1.SecurityEvent) *v1alpha1.IncidentSpec {
	observed := event.Spec.ObservedTime
	source := event.Spec.DeepCopy()
	title := Line(source.Title, maxTitle)
	if title == "" {
		title = Line("Event "+event.Name, maxTitle)
	}
	return &v1alpha1.IncidentSpec{
		Title:        title,
		Mode:         source.Mode,
		Severity:     source.Severity,
		Category:     v1alpha1.CategoryOther,
		TLP:          v1alpha1.TLPAmber,
		Resources:    source.Resources,
		Assets:       source.Assets,
		EventRefs:    []v1alpha1.EventReference{{Name: event.Name}},
		SubmittedBy:  source.SubmittedBy,
		OccurredTime: observed.DeepCopy(),
		DetectedTime: observed.DeepCopy(),
	}
}

func (in Input) record(policy *Policy, rule *rule) v1alpha1.Assessment {
	return v1alpha1.Assessment{
		Policy:   v1alpha1.PolicyGeneration{Name: policy.name, Generation: policy.generation},
		Rule:     rule.name,
		Reason:   v1alpha1.ReasonRuleMatched,
		Message:  fmt.Sprintf("rule %q of policy %q matched", rule.name, policy.name),
		Workload: in.Workload,
		By:       in.By,
		Time:     metav1.NewTime(in.Now),
	}
}

func (in Input) failed(policy *Policy, rule *rule, cause error) Assessment {
	record := in.record(policy, rule)
	record.Outcome, record.Reason = v1alpha1.OutcomeDeferred, v1alpha1.ReasonRuleError
	record.Message = Line(fmt.Sprintf("rule %q of policy %q could not be evaluated: %v; a person must decide",
		rule.name, policy.name, cause), maxMessage)
	return Assessment{Record: record}
}

func (in Input) undecidable(policy *Policy) Assessment {
	result := in.deferred(v1alpha1.ReasonRuleError, fmt.Sprintf(
		"policy %q does not compile, so the event is not dismissed: %v", policy.name, policy.broken))
	result.Record.Policy = v1alpha1.PolicyGeneration{Name: policy.name, Generation: policy.generation}
	return result
}

func (in Input) deferred(reason, message string) Assessment {
	return Assessment{Record: v1alpha1.Assessment{
		Outcome:  v1alpha1.OutcomeDeferred,
		Reason:   reason,
		Message:  Line(message, maxMessage),
		Workload: in.Workload,
		By:       in.By,
		Time:     metav1.NewTime(in.Now),
	}}
}
