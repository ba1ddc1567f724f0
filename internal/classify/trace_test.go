package classify

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

func TestJudge(t *testing.T) {
	counting := ruleOf("counting", v1alpha1.RulePromote, "true")
	counting.Threshold = v1alpha1.Threshold{Occurrences: 3, Within: &metav1.Duration{Duration: 10 * time.Minute}}
	wrong := ruleOf("wrong", v1alpha1.RulePromote, "true")
	wrong.Incident.SeverityExpression = `"Dire"`
	for name, test := range map[string]struct {
		rule v1alpha1.ClassificationRule
		at   time.Time
		want v1alpha1.RuleAnswer
		why  string
	}{
		"it waits":             {counting, event().Spec.ObservedTime.Time, v1alpha1.AnswerBelowThreshold, "this event was seen 1 of 3 times; it waits for more until 2"},
		"it has waited":        {counting, event().Spec.ObservedTime.Add(time.Hour), v1alpha1.AnswerBelowThreshold, "there were at most 1"},
		"it opens no incident": {wrong, now, Failed, "but yields 'Dire'"},
		"it decides":           {ruleOf("any", v1alpha1.RuleDismiss, "true"), now, Matched, ""},
	} {
		t.Run(name, func(t *testing.T) {
			policy, err := Compile(source("counts", 100, test.rule))
			if err != nil {
				t.Fatal(err)
			}
			asked, decided, err := Judge(t.Context(), Input{Event: event(), Workload: "cart", Policies: []*Policy{policy}, By: by, Now: test.at})
			if err != nil || len(asked) != 1 || asked[0].Answer != test.want || !strings.Contains(strings.Join(asked[0].Why, ""), test.why) {
				t.Errorf("got %+v, %+v, %v", asked, decided, err)
			}
		})
	}
}

// What a policy before it keeps from being dismissed, no rule has decided.
func TestJudgeAfterUnusable(t *testing.T) {
	broken := Unusable(source("broken", 300), errors.New("it does not compile"))
	for outcome, want := range map[v1alpha1.RuleOutcome]string{
		v1alpha1.RuleDismiss: `policy "broken" does not compile, so the event is not dismissed: it does not compile`,
		v1alpha1.RulePromote: "",
	} {
		policy, err := Compile(source("main", 100, ruleOf("any", outcome, "true")))
		if err != nil {
			t.Fatal(err)
		}
		asked, _, err := Judge(t.Context(), Input{Event: event(), Policies: []*Policy{broken, policy}, By: by, Now: now})
		if err != nil || len(asked) != 2 || asked[1].Answer != Matched || strings.Join(asked[1].Why, "") != want {
			t.Errorf("%s: got %+v, %v", outcome, asked, err)
		}
	}
}
