package classify

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestTrace(t *testing.T) {
	high, err := Compile(source("high", 200,
		ruleOf("other-rule", v1alpha1.RuleDismiss, `event.submittedBy == "system:serviceaccount:falco:falcosidekick" && event.source.rule == "Other"`),
		ruleOf("low", v1alpha1.RuleDefer, `event.?workload.orValue("") == "cart" && event.severity == "Low"`),
	))
	if err != nil {
		t.Fatal(err)
	}
	matching, err := Compile(source("runtime", 100, design(), ruleOf("never-asked", v1alpha1.RuleDismiss, "true")))
	if err != nil {
		t.Fatal(err)
	}
	failing, err := Compile(source("failing", 150, ruleOf("fails", v1alpha1.RuleDismiss, `event.assets[0].owner == "x"`)))
	if err != nil {
		t.Fatal(err)
	}
	broken := Unusable(source("broken", 300), errors.New("it does not compile"))
	high1 := Asked{Policy: "high", Generation: 4, Rule: "other-rule", Outcome: v1alpha1.RuleDismiss, Answer: NotMatched,
		Why: []string{`event.source.rule == "Other" is false: event.source.rule is "Terminal shell in container"`}}
	high2 := Asked{Policy: "high", Generation: 4, Rule: "low", Outcome: v1alpha1.RuleDefer, Answer: NotMatched,
		Why: []string{`event.severity == "Low" is false: event.severity is "Critical"`}}
	for name, test := range map[string]struct {
		policies []*Policy
		want     []Asked
		outcome  v1alpha1.AssessmentOutcome
	}{
		"up to the one that decides": {[]*Policy{matching, high}, []Asked{high1, high2,
			{Policy: "runtime", Generation: 4, Rule: "shell-in-container", Outcome: v1alpha1.RulePromote, Answer: Matched}}, v1alpha1.OutcomePromoted},
		"none decides": {[]*Policy{high}, []Asked{high1, high2}, v1alpha1.OutcomeDeferred},
		"one fails": {[]*Policy{matching, failing}, []Asked{
			{Policy: "failing", Generation: 4, Rule: "fails", Outcome: v1alpha1.RuleDismiss, Answer: Failed, Why: []string{"no such key: assets"}}}, v1alpha1.OutcomeDeferred},
		"one does not compile": {[]*Policy{matching, broken}, []Asked{
			{Policy: "broken", Generation: 4, Answer: NotUsable, Why: []string{"it does not compile"}},
			{Policy: "runtime", Generation: 4, Rule: "shell-in-container", Outcome: v1alpha1.RulePromote, Answer: Matched}}, v1alpha1.OutcomePromoted},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Event: event(), Workload: "cart", Policies: test.policies, By: by, Now: now}
			got, err := Trace(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			assessed, err := Assess(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			last := got[len(got)-1]
			if assessed.Record.Outcome != test.outcome || last.Answer != NotMatched && assessed.Record.Rule != last.Rule {
				t.Errorf("the assessment is %+v, but the last that was asked is %+v", assessed.Record, last)
			}
		})
	}
}
