package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// askedText is the text of a policy in which it was asked; nil when it is lost.
type askedText struct {
	text    *v1alpha1.ClassificationPolicy
	from    policyText
	present int64
}

// inForce is what of a policy counts.
type inForce struct {
	// compiled is nil when the text that counts cannot be read.
	compiled *classify.Policy
	present  int64
	// instead is the generation that counts while the present one does not compile; 0 when
	// the present one compiles, or nothing of the policy is in force.
	instead int64
}

// whatCounts finds what of the policies is in force, by their names. What does not compile, and
// what cannot be read, is said in words.
func whatCounts(ctx context.Context, api client.Reader, policies []v1alpha1.ClassificationPolicy) (counts map[string]inForce, problems []string) {
	counts = map[string]inForce{}
	for i := range policies {
		policy := &policies[i]
		one := inForce{present: policy.Generation}
		compiled, err := classify.Compile(policy)
		switch {
		case err == nil:
			one.compiled = compiled
		case policy.Status.InForce.Revision == "":
			one.compiled = classify.Unusable(policy, err)
		default:
			one.instead = policy.Status.InForce.Generation
			problem := fmt.Sprintf("policy %s: generation %d does not compile, and generation %d stays in force: %s",
				policy.Name, one.present, one.instead, strings.ReplaceAll(err.Error(), "\n", "; "))
			const untold = ", so that what would be decided now cannot be told"
			text, err := keptText(ctx, api, policy, policy.Status.InForce)
			if err == nil && text != nil {
				one.compiled, err = classify.Compile(text)
			}
			switch {
			case err != nil:
				problem += "; its text cannot be read" + untold + ": " + err.Error()
			case text == nil:
				problem += "; its text is not kept any more" + untold
			}
			problems = append(problems, problem)
		}
		counts[policy.Name] = one
	}
	return counts, problems
}

// textsOf finds the texts that an assessment was made by, by the names of the policies. What
// cannot be read is said in words.
func textsOf(ctx context.Context, api client.Reader, record *v1alpha1.Assessment, policies []v1alpha1.ClassificationPolicy) (texts map[string]askedText, problems []string) {
	texts = map[string]askedText{}
	if record == nil {
		return texts, nil
	}
	for i := range record.Asked {
		asked := &record.Asked[i]
		found := slices.IndexFunc(policies, func(policy v1alpha1.ClassificationPolicy) bool { return policy.Name == asked.Name })
		if found < 0 {
			continue
		}
		policy := &policies[found]
		one := askedText{present: policy.Generation, from: textLost}
		switch {
		case policy.CreationTimestamp.After(record.Time.Time):
			// One that was deleted and made anew begins to count anew.
		case policy.Generation == asked.Generation:
			one.text, one.from = policy, textPresent
		default:
			kept := slices.IndexFunc(policy.Status.Revisions, func(kept v1alpha1.PolicyRevision) bool { return kept.Generation == asked.Generation })
			if kept < 0 {
				break
			}
			text, err := keptText(ctx, api, policy, policy.Status.Revisions[kept])
			if err != nil {
				one.from = textUnread
				problems = append(problems, fmt.Sprintf("the text of policy %s, generation %d, cannot be read: %v", asked.Name, asked.Generation, err))
			} else if text != nil {
				one.text, one.from = text, textKept
			}
		}
		texts[asked.Name] = one
	}
	return texts, problems
}

// keptText reads the text of a generation; nil when it is not kept any more.
func keptText(ctx context.Context, api client.Reader, policy *v1alpha1.ClassificationPolicy, kept v1alpha1.PolicyRevision) (*v1alpha1.ClassificationPolicy, error) {
	revision := &appsv1.ControllerRevision{}
	if err := api.Get(ctx, client.ObjectKey{Namespace: policy.Namespace, Name: kept.Revision}, revision); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return classify.Revised(policy, kept, revision.Data.Raw)
}

// askAgain asks one policy of the record again.
func askAgain(ctx context.Context, in classify.Input, record *v1alpha1.Assessment, asked *v1alpha1.AskedPolicy, then askedText) (askedPolicy, error) {
	result := askedPolicy{Name: asked.Name, Generation: asked.Generation, Present: then.present, Text: cmp.Or(then.from, textLost), Answer: asked.Answer,
		onRecord: len(asked.Rules) + int(asked.MoreRules)}
	if then.text == nil {
		result.Rules, result.MoreRules = fromNames(record, asked), asked.MoreRules
		return result, nil
	}
	in.Policies = []*classify.Policy{compiledOrNot(then.text)}
	rules, err := classify.Trace(ctx, in)
	if err != nil {
		return result, err
	}
	result.Rules = rules
	if asked.Answer == v1alpha1.AnswerNotUsable {
		result.Deviates = len(rules) != 1 || rules[0].Answer != classify.NotUsable
		return result, nil
	}
	if len(rules) != len(asked.Rules)+int(asked.MoreRules) || len(rules) == 0 {
		result.Deviates = true
		return result, nil
	}
	last := &rules[len(rules)-1]
	last.Settle(asked.Answer, record) // what it asks for besides follows from more than the event
	result.Deviates = last.Answer != asked.Answer
	return result, nil
}

// fromNames is what the record alone says.
func fromNames(record *v1alpha1.Assessment, asked *v1alpha1.AskedPolicy) []classify.Asked {
	var rules []classify.Asked
	for i, name := range asked.Rules {
		one := classify.Asked{Policy: asked.Name, Generation: asked.Generation, Rule: name, Answer: classify.NotMatched}
		if i == len(asked.Rules)-1 && asked.MoreRules == 0 {
			one.Answer = asked.Answer
			one.Settle(asked.Answer, record)
		}
		rules = append(rules, one)
	}
	if len(rules) == 0 && asked.Answer == v1alpha1.AnswerNotUsable {
		rules = append(rules, classify.Asked{Policy: asked.Name, Generation: asked.Generation, Answer: classify.NotUsable})
	}
	return rules
}

func (s *session) printAskedPolicy(policy *askedPolicy, recorded bool) {
	fmt.Fprintf(s.Out, "  %s: %s\n", s.style.bold(clean(policy.Name)), s.textInWords(policy, recorded))
	s.printAskedRules(policy.Rules)
	if policy.MoreRules > 0 {
		fmt.Fprintf(s.Out, "  and %s, of which the last says: %s\n", plural(int(policy.MoreRules), "other rule"), clean(string(policy.Answer)))
	}
	if policy.Deviates {
		fmt.Fprintf(s.Out, "      %s\n", s.style.yellow(fmt.Sprintf("asked again it says something else; on record it is %s after %s",
			policy.Answer, plural(policy.onRecord, "rule"))))
	}
}

func (s *session) textInWords(policy *askedPolicy, recorded bool) string {
	switch {
	case policy.Text == textKept && policy.Generation == policy.InForce:
		return fmt.Sprintf("generation %d, which stays in force: generation %d does not compile", policy.Generation, policy.Present)
	case !recorded:
		return fmt.Sprintf("generation %d", policy.Generation)
	case policy.Text == textPresent:
		return fmt.Sprintf("generation %d, the text that is there now", policy.Generation)
	case policy.Text == textKept:
		return fmt.Sprintf("generation %d, the text of then, which is kept; now it is %d", policy.Generation, cmp.Or(policy.InForce, policy.Present))
	case policy.Text == textUnread:
		return s.style.yellow(fmt.Sprintf("generation %d; its text cannot be read, so that why cannot be said", policy.Generation))
	case policy.Present == 0:
		return s.style.yellow(fmt.Sprintf("generation %d; the policy is not there any more, so that why cannot be said", policy.Generation))
	default:
		return s.style.yellow(fmt.Sprintf("generation %d; its text is not kept any more, so that why cannot be said", policy.Generation))
	}
}
