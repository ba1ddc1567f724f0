package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func explainedPolicy(name string, priority int32, generation int64, rules ...v1alpha1.ClassificationRule) v1alpha1.ClassificationPolicy {
	return v1alpha1.ClassificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name, Generation: generation, CreationTimestamp: at(-3600)},
		Spec:       v1alpha1.ClassificationPolicySpec{Priority: &priority, Rules: rules},
	}
}

func dismissRule(name string, match v1alpha1.Expression) v1alpha1.ClassificationRule {
	return v1alpha1.ClassificationRule{Name: name, Match: match, Outcome: v1alpha1.RuleDismiss}
}

func explainedEvent() *v1alpha1.SecurityEvent {
	return &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Name: "falco-1", Namespace: "security"},
		Spec: v1alpha1.SecurityEventSpec{
			Source: v1alpha1.EventSource{Kind: v1alpha1.SourceAutomatic, Rule: "Shell"}, SubmittedBy: "falco", Title: "A shell\x1b[31m", Severity: v1alpha1.SeverityHigh,
			ObservedTime: at(0), Resources: []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-1"}},
		},
		Status: v1alpha1.SecurityEventStatus{Assessment: v1alpha1.Assessment{
			Outcome: v1alpha1.OutcomeDismissed, Policy: v1alpha1.PolicyGeneration{Name: "runtime", Generation: 4}, Rule: "tested",
			Reason: v1alpha1.ReasonRuleMatched, Message: `rule "tested" of policy "runtime" matched`, Workload: "cart", By: "manager", Time: at(1),
		}},
	}
}

func TestWhyAssessed(t *testing.T) {
	before := explainedPolicy("audit", 200, 3, dismissRule("other", `event.source.rule == "Other"`))
	untouched := explainedPolicy("early", 150, 1, dismissRule("never", `event.workload == "web"`))
	decided := explainedPolicy("runtime", 100, 4, dismissRule("loud", `event.severity == "Critical"`), dismissRule("tested", `event.workload == "cart"`), dismissRule("later", "true"))
	later := explainedPolicy("later", 50, 1, dismissRule("all", "true"))
	texts := func(why *explanation) map[string]policyText {
		all := map[string]policyText{}
		for _, policy := range why.Policies {
			all[policy.Name] = policy.Text
		}
		return all
	}
	byPerson := explainedEvent()
	byPerson.Status.EarlierAssessments = []v1alpha1.Assessment{byPerson.Status.Assessment}
	byPerson.Status.Assessment = v1alpha1.Assessment{Outcome: v1alpha1.OutcomePromoted, Reason: "DecidedByPerson", By: "jane", DecisionRef: v1alpha1.DecisionReference{Name: "promote-1"}, Time: at(60)}
	undecided := explainedEvent()
	undecided.Status = v1alpha1.SecurityEventStatus{}
	changed, newer := decided, decided
	changed.Generation, newer.CreationTimestamp = 5, at(30)
	changed.Spec.Rules = []v1alpha1.ClassificationRule{dismissRule("tested", `event.workload == "web"`)}
	for name, test := range map[string]struct {
		event    *v1alpha1.SecurityEvent
		policies []v1alpha1.ClassificationPolicy
		want     map[string]policyText
		now      string
		person   bool
	}{
		"the same texts":      {explainedEvent(), []v1alpha1.ClassificationPolicy{decided, later, untouched, before}, map[string]policyText{"audit": textUnknown, "early": textSame, "runtime": textSame}, "runtime/tested", false},
		"the text is another": {explainedEvent(), []v1alpha1.ClassificationPolicy{changed}, map[string]policyText{"runtime": textChanged}, "", false},
		"it came later":       {explainedEvent(), []v1alpha1.ClassificationPolicy{newer}, map[string]policyText{"runtime": textNewer}, "runtime/tested", false},
		"it is gone":          {explainedEvent(), []v1alpha1.ClassificationPolicy{later}, map[string]policyText{"later": textSame, "runtime": textGone}, "later/all", false},
		"a person decided":    {byPerson, []v1alpha1.ClassificationPolicy{decided}, map[string]policyText{"runtime": textSame}, "runtime/tested", true},
		"nobody has":          {undecided, []v1alpha1.ClassificationPolicy{decided}, map[string]policyText{"runtime": textUnknown}, "runtime/later", false},
	} {
		t.Run(name, func(t *testing.T) {
			why, err := whyAssessed(t.Context(), test.event, test.policies)
			mustDo(t, err)
			if diff := cmp.Diff(test.want, texts(why)); diff != "" || why.Now != test.now || (why.Rules != nil) != test.person {
				t.Errorf("now %q, want %q; rules' record %v; texts (-want +got):\n%s", why.Now, test.now, why.Rules, diff)
			}
			s, out, _ := testSession(terminal{})
			s.printExplanation(test.event, why)
			golden(t, "explain-"+strings.ReplaceAll(name, " ", "-"), out.String())
		})
	}
}

func TestExplain(t *testing.T) {
	ctx := t.Context()
	namespace := domain(t, "firebreak-viewer")
	policy := explainedPolicy("runtime", 100, 0, dismissRule("tested", `event.source.rule == "Other"`))
	policy.Namespace, policy.CreationTimestamp = namespace, metav1.Time{}
	mustDo(t, admin.Create(ctx, &policy))
	event := explainedEvent()
	event.Namespace = namespace
	status := event.Status
	mustDo(t, admin.Create(ctx, event))
	event.Status = status
	event.Status.Assessment.Policy.Generation = policy.Generation
	event.Status.Assessment.Time = metav1.NewTime(time.Now().Add(time.Hour)) // whatever the clock of the API server
	mustDo(t, admin.Status().Update(ctx, event))
	run(ctx, janeConfig, "explain", "falco-1", "-n", namespace).check(t, ExitOK, "runtime/tested  does not match\n      event.source.rule == \"Other\" is false: event.source.rule is \"Shell\"", "")
	r := run(ctx, janeConfig, "explain", "falco-1", "-o", "json", "-n", namespace)
	why := &explanation{}
	mustDo(t, json.Unmarshal([]byte(r.out), why))
	if r.code != ExitOK || len(why.Policies) != 1 || why.Policies[0].Text != textSame || why.Record.Rule != "tested" || why.Now != "" {
		t.Errorf("exit code %d, %+v", r.code, why)
	}
	run(ctx, janeConfig, "explain", "none", "-n", namespace).check(t, ExitError, "", "there is no event none")
}
