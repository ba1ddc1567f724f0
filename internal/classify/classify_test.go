package classify

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var (
	observed = time.Date(2026, 11, 21, 23, 30, 0, 0, time.FixedZone("west", -3*3600)) // 22 November in UTC
	now      = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
)

const by = "system:serviceaccount:firebreak-system:firebreak-manager"

func event() *v1alpha1.SecurityEvent {
	return &v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Name: "falco-5f0c8a2e1b", Namespace: "security"},
		Spec: v1alpha1.SecurityEventSpec{
			Source:       v1alpha1.EventSource{Kind: v1alpha1.SourceAutomatic, Product: "falco", Rule: "Terminal shell in container"},
			SubmittedBy:  "system:serviceaccount:falco:falcosidekick",
			Title:        "A shell was spawned",
			Severity:     v1alpha1.SeverityCritical,
			ObservedTime: metav1.NewTime(observed),
			Resources:    []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-7f9"}},
		},
	}
}

func rulePromote(name string, match v1alpha1.Expression, edit ...func(*v1alpha1.ClassificationRule)) v1alpha1.ClassificationRule {
	rule := v1alpha1.ClassificationRule{
		Name: name, Match: match, Outcome: v1alpha1.RulePromote,
		Incident: v1alpha1.IncidentTemplate{Category: v1alpha1.CategoryIntrusion},
	}
	for _, apply := range edit {
		apply(&rule)
	}
	return rule
}

func ruleOf(name string, outcome v1alpha1.RuleOutcome, match v1alpha1.Expression) v1alpha1.ClassificationRule {
	return v1alpha1.ClassificationRule{Name: name, Match: match, Outcome: outcome}
}

func source(name string, priority int32, rules ...v1alpha1.ClassificationRule) *v1alpha1.ClassificationPolicy {
	return &v1alpha1.ClassificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 4},
		Spec:       v1alpha1.ClassificationPolicySpec{Priority: ptr.To(priority), Rules: rules},
	}
}

// design is the sample of the design.
func design() v1alpha1.ClassificationRule {
	return rulePromote("shell-in-container",
		`event.submittedBy == "system:serviceaccount:falco:falcosidekick" && event.source.rule == "Terminal shell in container"`,
		func(rule *v1alpha1.ClassificationRule) {
			rule.Correlate = v1alpha1.Correlation{
				By:     []v1alpha1.Expression{"event.resources[0].namespace", "event.workload"},
				Within: &metav1.Duration{Duration: 2 * time.Hour},
			}
			rule.Incident = v1alpha1.IncidentTemplate{
				Title:    `"Shell in " + event.resources[0].namespace + "/" + event.workload`,
				Severity: v1alpha1.SeverityHigh,
				Category: v1alpha1.CategoryIntrusion,
				Impact:   v1alpha1.Impact{Confidentiality: v1alpha1.ImpactHigh},
				TLP:      v1alpha1.TLPRed,
				Confirm:  v1alpha1.ConfirmRequired,
				Determinations: []v1alpha1.Determination{
					{Name: "personal-data-breach", Outcome: v1alpha1.DeterminationSuspected},
				},
				Playbooks: []v1alpha1.PlaybookChoice{
					{When: `event.severity == "Critical"`, PlaybookRef: v1alpha1.PlaybookReference{Name: "contain-hard"}},
					{PlaybookRef: v1alpha1.PlaybookReference{Name: "contain"}},
				},
			}
		})
}

func severityBy(expression v1alpha1.Expression) func(*v1alpha1.ClassificationRule) {
	return func(rule *v1alpha1.ClassificationRule) { rule.Incident.SeverityExpression = expression }
}

func TestSeverityExpression(t *testing.T) {
	worse := severityBy(`event.workload == "cart" && event.severity == "High" ? "Critical" : event.severity`)
	for name, test := range map[string]struct {
		severity, want v1alpha1.Severity
	}{
		"raised":      {v1alpha1.SeverityHigh, v1alpha1.SeverityCritical},
		"the event's": {v1alpha1.SeverityLow, v1alpha1.SeverityLow},
	} {
		t.Run(name, func(t *testing.T) {
			subject := event()
			subject.Spec.Severity = test.severity
			got := assess(t, subject, compiled(t, source("a", 0, rulePromote("r", "true", worse))))
			if got.Incident == nil || got.Incident.Severity != test.want {
				t.Errorf("got %+v, want severity %s", got.Incident, test.want)
			}
		})
	}
}

func compiled(t *testing.T, sources ...*v1alpha1.ClassificationPolicy) []*Policy {
	t.Helper()
	var policies []*Policy
	for _, source := range sources {
		policy, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		policies = append(policies, policy)
	}
	return policies
}

func assess(t *testing.T, event *v1alpha1.SecurityEvent, policies []*Policy) Assessment {
	t.Helper()
	result, err := Assess(t.Context(), Input{Event: event, Workload: "cart", Policies: policies, By: by, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestDesignSample(t *testing.T) {
	observedTime := metav1.NewTime(observed)
	got := assess(t, event(), compiled(t, source("runtime", 100, design())))
	want := Assessment{
		Record: v1alpha1.Assessment{
			Outcome: v1alpha1.OutcomePromoted, Policy: v1alpha1.PolicyGeneration{Name: "runtime", Generation: 4},
			Rule: "shell-in-container", Reason: v1alpha1.ReasonRuleMatched,
			Message:  `rule "shell-in-container" of policy "runtime" matched`,
			Workload: "cart", By: by, Time: metav1.NewTime(now),
			Asked: []v1alpha1.AskedPolicy{{Name: "runtime", Generation: 4, Answer: v1alpha1.AnswerMatched, Rules: []string{"shell-in-container"}}},
		},
		Correlation: Correlation{Policy: "runtime", Rule: "shell-in-container", Key: []string{"shop", "cart"}, Within: 2 * time.Hour},
		Incident: &v1alpha1.IncidentSpec{
			Title: "Shell in shop/cart", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion,
			Impact: v1alpha1.Impact{Confidentiality: v1alpha1.ImpactHigh}, TLP: v1alpha1.TLPRed, Confirm: v1alpha1.ConfirmRequired,
			Determinations: []v1alpha1.Determination{{Name: "personal-data-breach", Outcome: v1alpha1.DeterminationSuspected}},
			PlaybookRef:    v1alpha1.PlaybookReference{Name: "contain-hard"},
			Resources:      event().Spec.Resources,
			EventRefs:      []v1alpha1.EventReference{{Name: "falco-5f0c8a2e1b"}},
			SubmittedBy:    "system:serviceaccount:falco:falcosidekick",
			Rule:           "runtime/shell-in-container",
			OccurredTime:   &observedTime, DetectedTime: &observedTime,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("assessment (-want +got):\n%s", diff)
	}
}

func TestAssess(t *testing.T) {
	bare := func() *v1alpha1.SecurityEvent {
		result := event()
		result.Spec.Source.Rule = ""
		return result
	}
	for name, test := range map[string]struct {
		event    *v1alpha1.SecurityEvent
		policies []*v1alpha1.ClassificationPolicy
		want     v1alpha1.AssessmentOutcome
		reason   string
		by       string
		message  string
	}{
		"no policy":     {want: v1alpha1.OutcomeDeferred, reason: v1alpha1.ReasonNoRuleMatched, message: "no rule of any classification policy matched"},
		"nothing right": {policies: []*v1alpha1.ClassificationPolicy{source("a", 0, ruleOf("r", v1alpha1.RuleDismiss, "false"))}, want: v1alpha1.OutcomeDeferred, reason: v1alpha1.ReasonNoRuleMatched},
		"first rule decides": {
			policies: []*v1alpha1.ClassificationPolicy{source("a", 0, ruleOf("no", v1alpha1.RuleDefer, "false"), ruleOf("noise", v1alpha1.RuleDismiss, "true"), rulePromote("late", "true"))},
			want:     v1alpha1.OutcomeDismissed, reason: v1alpha1.ReasonRuleMatched, by: "a/noise",
		},
		"higher priority first": {
			policies: []*v1alpha1.ClassificationPolicy{source("a", -1, ruleOf("r", v1alpha1.RuleDismiss, "true")), source("b", 1, rulePromote("r", "true"))},
			want:     v1alpha1.OutcomePromoted, reason: v1alpha1.ReasonRuleMatched, by: "b/r",
		},
		"equals by name": {
			policies: []*v1alpha1.ClassificationPolicy{source("b", 1, ruleOf("r", v1alpha1.RuleDismiss, "true")), source("a", 1, ruleOf("r", v1alpha1.RuleDefer, "true"))},
			want:     v1alpha1.OutcomeDeferred, reason: v1alpha1.ReasonDeferredByRule, by: "a/r",
		},
		"absent field defers at once": {
			event: bare(),
			policies: []*v1alpha1.ClassificationPolicy{source("a", 0, ruleOf("r", v1alpha1.RuleDismiss, `event.source.rule == "x"`),
				rulePromote("later", "true"))},
			want: v1alpha1.OutcomeDeferred, reason: v1alpha1.ReasonRuleError, by: "a/r", message: "`match` no such key: rule",
		},
		"title that fails": {
			policies: []*v1alpha1.ClassificationPolicy{source("a", 0, rulePromote("r", "true", func(rule *v1alpha1.ClassificationRule) {
				rule.Incident.Title = "event.resources[7].name"
			}))},
			want: v1alpha1.OutcomeDeferred, reason: v1alpha1.ReasonRuleError, by: "a/r", message: "`incident.title` index out of bounds",
		},
		"severity that fails": {
			policies: []*v1alpha1.ClassificationPolicy{source("a", 0, rulePromote("r", "true", severityBy("event.fingerprint")))},
			want:     v1alpha1.OutcomeDeferred, reason: v1alpha1.ReasonRuleError, by: "a/r", message: "`incident.severityExpression` no such key: fingerprint",
		},
		"severity that is none": {
			policies: []*v1alpha1.ClassificationPolicy{source("a", 0, rulePromote("r", "true", severityBy(`"high\n"+event.title`)), rulePromote("later", "true"))},
			want:     v1alpha1.OutcomeDeferred, reason: v1alpha1.ReasonRuleError, by: "a/r",
			message: "must yield 'Informational', 'Low', 'Medium', 'High' or 'Critical', but yields 'high A shell was spawned'; a person must decide",
		},
		"key that fails": {
			policies: []*v1alpha1.ClassificationPolicy{source("a", 0, rulePromote("r", "true", func(rule *v1alpha1.ClassificationRule) {
				rule.Correlate.By = []v1alpha1.Expression{"event.title", "event.fingerprint"}
			}))},
			want: v1alpha1.OutcomeDeferred, reason: v1alpha1.ReasonRuleError, by: "a/r", message: "`correlate.by[1]` no such key: fingerprint",
		},
		"playbook choice that fails": {
			policies: []*v1alpha1.ClassificationPolicy{source("a", 0, rulePromote("r", "true", func(rule *v1alpha1.ClassificationRule) {
				rule.Incident.Playbooks = []v1alpha1.PlaybookChoice{{When: `event.description == ""`}}
			}))},
			want: v1alpha1.OutcomeDeferred, reason: v1alpha1.ReasonRuleError, by: "a/r", message: "`incident.playbooks[0].when` no such key: description",
		},
	} {
		t.Run(name, func(t *testing.T) {
			subject := test.event
			if subject == nil {
				subject = event()
			}
			got := assess(t, subject, compiled(t, test.policies...))
			decided := strings.Trim(got.Record.Policy.Name+"/"+got.Record.Rule, "/")
			if got.Record.Outcome != test.want || got.Record.Reason != test.reason || decided != test.by {
				t.Errorf("got %s %s by %q, want %s %s by %q", got.Record.Outcome, got.Record.Reason, decided, test.want, test.reason, test.by)
			}
			if !strings.Contains(got.Record.Message, test.message) {
				t.Errorf("got the message %q, want it to hold %q", got.Record.Message, test.message)
			}
			if (got.Incident != nil) != (test.want == v1alpha1.OutcomePromoted) {
				t.Errorf("got the incident %v for %s", got.Incident, test.want)
			}
		})
	}
}

func TestUnusablePolicy(t *testing.T) {
	broken := Unusable(source("broken", 10), errors.New("rule \"x\" `match` 1:1: undeclared reference to 'evnt'"))
	for name, test := range map[string]struct {
		next   *v1alpha1.ClassificationPolicy
		want   v1alpha1.AssessmentOutcome
		reason string
	}{
		"a later policy may promote":     {source("a", 0, rulePromote("r", "true")), v1alpha1.OutcomePromoted, v1alpha1.ReasonRuleMatched},
		"a later policy may not dismiss": {source("a", 0, ruleOf("r", v1alpha1.RuleDismiss, "true")), v1alpha1.OutcomeDeferred, v1alpha1.ReasonRuleError},
		"an earlier policy may dismiss":  {source("a", 20, ruleOf("r", v1alpha1.RuleDismiss, "true")), v1alpha1.OutcomeDismissed, v1alpha1.ReasonRuleMatched},
		"nothing matches":                {source("a", 0, rulePromote("r", "false")), v1alpha1.OutcomeDeferred, v1alpha1.ReasonRuleError},
	} {
		t.Run(name, func(t *testing.T) {
			got := assess(t, event(), append(compiled(t, test.next), broken))
			if got.Record.Outcome != test.want || got.Record.Reason != test.reason {
				t.Errorf("got %s %s (%s), want %s %s", got.Record.Outcome, got.Record.Reason, got.Record.Message, test.want, test.reason)
			}
		})
	}
}

func TestCompileNamesEveryProblem(t *testing.T) {
	_, err := Compile(source("runtime", 0,
		ruleOf("one", v1alpha1.RuleDismiss, `true && evnt.title == "x"`),
		ruleOf("good", v1alpha1.RuleDismiss, `true`),
		rulePromote("two", "true", func(rule *v1alpha1.ClassificationRule) {
			rule.Correlate.By = []v1alpha1.Expression{"event.worklaod"}
			rule.Incident.Title = "event.title == ''"
			rule.Incident.SeverityExpression = "event.resources.size()"
			rule.Incident.Playbooks = []v1alpha1.PlaybookChoice{{}, {When: "event.severity"}}
		})))
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{
		"rule \"one\" `match` 1:9: undeclared reference to 'evnt'",
		"rule \"two\" `correlate.by[0]` 1:6: undefined field 'worklaod'",
		"rule \"two\" `incident.title` 1:1: must yield a string, but yields a bool",
		"rule \"two\" `incident.severityExpression` 1:1: must yield a string, but yields a int",
		"rule \"two\" `incident.playbooks[1].when` 1:1: must yield a bool, but yields a string",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant it to hold\n%s", err, want)
		}
	}
	if strings.Contains(err.Error(), "good") {
		t.Errorf("got\n%v\nwant no problem of rule good", err)
	}
}

func TestHostileTitle(t *testing.T) {
	for name, test := range map[string]struct{ title, want string }{
		"too long":         {strings.Repeat("ä", 300), strings.Repeat("ä", 256)},
		"terminal control": {"\x1b[2Jall\nfine\x00", "[2Jall fine"},
		"right to left":    {"ab\u202ecd", "ab cd"},
		"nothing left":     {"\n\t\x1b", "Event falco-5f0c8a2e1b"},
		"not UTF-8":        {"a\xff", "a\uFFFD"},
	} {
		t.Run(name, func(t *testing.T) {
			subject := event()
			subject.Spec.Title = test.title
			got := assess(t, subject, compiled(t, source("a", 0, rulePromote("r", "true"))))
			if got.Incident.Title != test.want {
				t.Errorf("got %q, want %q", got.Incident.Title, test.want)
			}
		})
	}
}

func TestCancelledDecidesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Assess(ctx, Input{Event: event(), Policies: compiled(t, source("a", 0, ruleOf("r", v1alpha1.RuleDismiss, "true"))), By: by, Now: now})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestCorrelationNames(t *testing.T) {
	key := Correlation{Policy: "runtime", Rule: "shell", Key: []string{"shop", "cart"}}
	name, ok := key.IncidentName(observed, 1, 0)
	if !ok || !regexp.MustCompile(`^inc-20261122-[a-z2-7]{5}$`).MatchString(name) {
		t.Errorf("got %q", name)
	}
	longer, ok := key.IncidentName(observed, 1, 1)
	if !ok || !strings.HasPrefix(longer, name) || len(longer) != len(name)+5 {
		t.Errorf("got %q after %q", longer, name)
	}
	if _, ok := key.IncidentName(observed, 1, 10); ok {
		t.Error("got a name beyond the end of the hash")
	}
	if !regexp.MustCompile(`^[a-z2-7]{52}$`).MatchString(key.Label()) {
		t.Errorf("got the label %q", key.Label())
	}
	if second, _ := key.IncidentName(observed, 2, 0); second == name {
		t.Error("sequence 2 has the name of sequence 1")
	}
	for _, other := range []Correlation{
		{Policy: "runtime", Rule: "shell", Key: []string{"shopc", "art"}},
		{Policy: "runtime", Rule: "shell", Key: []string{"shop", "cart", ""}},
		{Policy: "runtime", Rule: "shellshop", Key: []string{"", "cart"}},
		{Mode: v1alpha1.ModeDrill, Policy: "runtime", Rule: "shell", Key: []string{"shop", "cart"}},
	} {
		if other.Label() == key.Label() {
			t.Errorf("%v has the label of %v", other, key)
		}
	}
}

func TestWithoutCorrelateEveryEventIsItsOwn(t *testing.T) {
	policies := compiled(t, source("a", 0, rulePromote("r", "true")))
	one, two := event(), event()
	two.Name = "falco-other"
	first, second := assess(t, one, policies), assess(t, two, policies)
	if first.Correlation.Label() == second.Correlation.Label() || first.Correlation.Within != 0 {
		t.Errorf("got %v and %v", first.Correlation, second.Correlation)
	}
}

func TestAssessIsDeterministic(t *testing.T) {
	matches := []v1alpha1.Expression{"true", "false", `event.source.rule == "x"`, `event.severity == "High"`,
		`event.resources[0].name.startsWith("cart")`, `event.title.contains("a")`, `event.title.matches(event.title)`}
	rapid.Check(t, func(t *rapid.T) {
		var policies []*Policy
		for i := range rapid.IntRange(0, 4).Draw(t, "policies") {
			var rules []v1alpha1.ClassificationRule
			for range rapid.IntRange(1, 3).Draw(t, "rules") {
				match := rapid.SampledFrom(matches).Draw(t, "match")
				outcome := rapid.SampledFrom([]v1alpha1.RuleOutcome{v1alpha1.RulePromote, v1alpha1.RuleDismiss, v1alpha1.RuleDefer}).Draw(t, "outcome")
				rules = append(rules, v1alpha1.ClassificationRule{Name: "r", Match: match, Outcome: outcome,
					Incident: v1alpha1.IncidentTemplate{Title: "event.title", Category: v1alpha1.CategoryOther}})
			}
			text := source(string(rune('a'+i)), rapid.Int32Range(-2, 2).Draw(t, "priority"), rules...)
			policy, err := Compile(text)
			if err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 9).Draw(t, "broken") == 0 {
				policy = Unusable(text, errors.New("broken"))
			}
			policies = append(policies, policy)
		}
		subject := event()
		subject.Spec.Title = rapid.String().Draw(t, "title")
		if rapid.Bool().Draw(t, "bare") {
			subject.Spec.Source.Rule, subject.Spec.Resources = "", nil
		}
		subject.Spec.Severity = rapid.SampledFrom([]v1alpha1.Severity{v1alpha1.SeverityHigh, v1alpha1.SeverityLow}).Draw(t, "severity")

		in := Input{Event: subject, Workload: "cart", Policies: policies, By: by, Now: now}
		first, err := Assess(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		in.Policies = rapid.Permutation(policies).Draw(t, "order")
		second, err := Assess(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Fatalf("not deterministic:\n%s", diff)
		}
		switch first.Record.Outcome {
		case v1alpha1.OutcomePromoted, v1alpha1.OutcomeJoined, v1alpha1.OutcomeDismissed, v1alpha1.OutcomeDeferred:
		default:
			t.Fatalf("got the outcome %q", first.Record.Outcome)
		}
		if first.Record.Outcome == v1alpha1.OutcomeDismissed {
			for _, policy := range first.Record.Asked {
				if policy.Answer == v1alpha1.AnswerFailed || policy.Answer == v1alpha1.AnswerNotUsable {
					t.Fatalf("what may have said otherwise failed, and yet it is dismissed: %+v", first.Record.Asked)
				}
			}
		}
		if first.Incident != nil && (first.Incident.Title == "" || len([]rune(first.Incident.Title)) > 256) {
			t.Fatalf("got the title %q", first.Incident.Title)
		}
	})
}
