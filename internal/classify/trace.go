package classify

import (
	"context"
	"fmt"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

// What a rule says of an event.
const (
	Matched    = v1alpha1.AnswerMatched
	NotMatched = v1alpha1.AnswerNotMatched
	Failed     = v1alpha1.AnswerFailed
	NotUsable  = v1alpha1.AnswerNotUsable
)

// Asked is one rule that was asked.
type Asked struct {
	// Policy and Generation say of which policy.
	Policy     string `json:"policy"`
	Generation int64  `json:"generation,omitempty"`
	// Rule is its name; empty for NotUsable.
	Rule string `json:"rule,omitempty"`
	// Outcome is what the rule would decide.
	Outcome v1alpha1.RuleOutcome `json:"outcome,omitempty"`
	// Answer is what it says.
	Answer v1alpha1.RuleAnswer `json:"answer"`
	// Why says of a rule that does not match what of it is not true, or why it failed, and of
	// one that matches why it does not decide; empty when it does.
	Why []string `json:"why,omitempty"`
}

// Settle has a rule that matches say why it does not decide, by the record and its answer
// there: it is below its threshold, it opens no incident, or a policy before it does not
// compile.
func (a *Asked) Settle(answer v1alpha1.RuleAnswer, record *v1alpha1.Assessment) {
	if a.Answer == Matched && answer != NotMatched && (answer != Matched || record.Rule == "") {
		a.Answer, a.Why = answer, []string{record.Message}
	}
}

// Trace gives the rules that Assess asks about an event, in the order in which it does, up
// to the one that decides. The error is not nil only when the context has ended.
func Trace(ctx context.Context, in Input) ([]Asked, error) {
	variables, err := expression.EventVariables(in.Event, in.Workload)
	if err != nil {
		return nil, nil //nolint:nilerr // Assess says so: no rule was asked
	}
	var asked []Asked
	for _, policy := range ordered(in.Policies) {
		if policy.broken != nil {
			asked = append(asked, Asked{Policy: policy.name, Generation: policy.generation, Answer: NotUsable, Why: []string{policy.broken.Error()}})
			continue
		}
		for i := range policy.rules {
			rule := &policy.rules[i]
			one := Asked{Policy: policy.name, Generation: policy.generation, Rule: rule.name, Outcome: rule.outcome, Answer: NotMatched}
			matches, err := rule.match.Bool(ctx, variables)
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil:
				one.Answer, one.Why = Failed, []string{err.Error()}
			case matches:
				one.Answer = Matched
			default:
				one.Why = whyNot(ctx, rule, variables)
			}
			if asked = append(asked, one); one.Answer != NotMatched {
				return asked, ctx.Err()
			}
		}
	}
	return asked, ctx.Err()
}

// Judge gives what Trace gives and what Assess decides. A last rule that matches, but does not
// decide, says that.
func Judge(ctx context.Context, in Input) ([]Asked, Assessment, error) {
	asked, err := Trace(ctx, in)
	if err != nil {
		return nil, Assessment{}, err
	}
	result, err := Assess(ctx, in)
	if err != nil {
		return nil, Assessment{}, err
	}
	last, answers := len(asked)-1, result.Record.Asked
	if last < 0 || len(answers) == 0 {
		return asked, result, nil
	}
	asked[last].Settle(answers[len(answers)-1].Answer, &result.Record)
	if !result.Until.IsZero() {
		asked[last].Why = []string{fmt.Sprintf("this event was seen %d of %d times; it waits for more until %s",
			result.Seen, result.Asked, result.Until.UTC().Format(time.RFC3339))}
	}
	return asked, result, nil
}

// whyNot names the parts of a rule that are not true, with what they look at.
func whyNot(ctx context.Context, rule *rule, variables expression.Variables) []string {
	parts, err := expression.Why(ctx, expression.Event, v1alpha1.Expression(rule.match.Source()), "event", variables)
	if err != nil {
		return nil
	}
	var why []string
	for i := range parts {
		part := &parts[i]
		if part.Result {
			continue
		}
		text := part.Source + " is false"
		if part.Error != "" {
			text = part.Source + " cannot be told: " + part.Error
		}
		for j, value := range part.Values {
			text += map[bool]string{true: ": ", false: ", "}[j == 0] + value.Source
			if value.Text == "" {
				text += " is absent"
			} else {
				text += " is " + value.Text
			}
		}
		why = append(why, text)
	}
	return why
}
