package classify

import (
	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// maxAsked is how many policies an assessment names.
	maxAsked = 16
	// maxAskedNames is how many bytes the names of rules in an assessment have together.
	maxAskedNames = 1024
)

// asked takes down which rules of which policies are asked.
type asked struct {
	policies []v1alpha1.AskedPolicy
	more     int32
	names    int
}

// policy says that the rules of a policy are asked next. Between the first and the last there
// may be too many to be named.
func (a *asked) policy(of *Policy) {
	if len(a.policies) == maxAsked {
		a.policies = a.policies[:maxAsked-1]
		a.more++
	}
	a.policies = append(a.policies, v1alpha1.AskedPolicy{Name: of.name, Generation: of.generation, Answer: v1alpha1.AnswerNotMatched})
}

// rule says that a rule of that policy is asked.
func (a *asked) rule(name string) {
	last := &a.policies[len(a.policies)-1]
	if last.MoreRules > 0 || a.names+len(name) > maxAskedNames {
		last.MoreRules++
		return
	}
	a.names += len(name)
	last.Rules = append(last.Rules, name)
}

// answer says what the rule that was asked last has said.
func (a *asked) answer(answer v1alpha1.RuleAnswer) {
	a.policies[len(a.policies)-1].Answer = answer
}
