package cli

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
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
	decided := explainedPolicy("runtime", 100, 4, dismissRule("loud", `event.severity == "Critical"`), dismissRule("tested", `event.workload == "cart"`), dismissRule("later", "true"))
	before := explainedPolicy("audit", 200, 3, dismissRule("other", `event.source.rule == "Other"`))
	changed := explainedPolicy("runtime", 100, 5, dismissRule("tested", `event.workload == "web"`))
	deviating := explainedPolicy("runtime", 100, 4, dismissRule("loud", "true"))
	event := func(edit func(*v1alpha1.SecurityEventStatus)) *v1alpha1.SecurityEvent {
		subject := explainedEvent()
		subject.Status.Assessment.Asked = []v1alpha1.AskedPolicy{
			{Name: "audit", Generation: 3, Answer: v1alpha1.AnswerNotMatched, Rules: []string{"other"}},
			{Name: "runtime", Generation: 4, Answer: v1alpha1.AnswerMatched, Rules: []string{"loud", "tested"}},
		}
		edit(&subject.Status)
		return subject
	}
	asRecorded := event(func(*v1alpha1.SecurityEventStatus) {})
	byPerson := event(func(status *v1alpha1.SecurityEventStatus) {
		status.EarlierAssessments = []v1alpha1.Assessment{status.Assessment}
		status.Assessment = v1alpha1.Assessment{Outcome: v1alpha1.OutcomePromoted, Reason: "DecidedByPerson", By: "jane", DecisionRef: v1alpha1.DecisionReference{Name: "promote-1"}, Time: at(60)}
	})
	below := event(func(status *v1alpha1.SecurityEventStatus) {
		last := &status.Assessment
		last.Reason, last.Message = v1alpha1.ReasonThresholdNotReached, `rule "tested" of policy "runtime" asks for 3 occurrences within 10m0s; there were at most 1`
		last.Asked[1].Answer, last.MoreAsked = v1alpha1.AnswerBelowThreshold, 2
	})
	unnamed := event(func(status *v1alpha1.SecurityEventStatus) {
		status.Assessment.Asked[1].Rules, status.Assessment.Asked[1].MoreRules = []string{"loud"}, 1
	})
	unusable := event(func(status *v1alpha1.SecurityEventStatus) {
		last := &status.Assessment
		last.Asked[0] = v1alpha1.AskedPolicy{Name: "audit", Generation: 3, Answer: v1alpha1.AnswerNotUsable}
		last.Outcome, last.Reason, last.Rule = v1alpha1.OutcomeDeferred, v1alpha1.ReasonRuleError, ""
		last.Policy.Name, last.Policy.Generation, last.Message = "audit", 3, `policy "audit" does not compile, so the event is not dismissed`
	})
	counting := explainedPolicy("runtime", 100, 5, v1alpha1.ClassificationRule{Name: "shell", Match: "true", Outcome: v1alpha1.RulePromote,
		Threshold: v1alpha1.Threshold{Occurrences: 3, Within: &metav1.Duration{Duration: 10 * time.Minute}}})
	pending := metav1.Condition{Type: v1alpha1.ConditionAssessed, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonThresholdPending,
		Message: `rule "shell" of policy "runtime" asks for 3 occurrences within 10m0s; it waits for them until 2026-11-21T12:11:00Z`}
	waits := event(func(status *v1alpha1.SecurityEventStatus) {
		*status = v1alpha1.SecurityEventStatus{Conditions: []metav1.Condition{pending}}
	})
	waitsNow := event(func(status *v1alpha1.SecurityEventStatus) {
		last := &status.Assessment
		last.Outcome, last.Reason, last.Rule, last.Policy = v1alpha1.OutcomeDeferred, v1alpha1.ReasonNoRuleMatched, "", v1alpha1.PolicyGeneration{}
		last.Message, last.Asked[1].Answer, last.Asked[1].Rules = "no rule matched", v1alpha1.AnswerNotMatched, []string{"loud"}
		status.Conditions = []metav1.Condition{pending}
	})
	loud := explainedPolicy("runtime", 100, 4, dismissRule("loud", `event.severity == "Critical"`))
	failing := explainedPolicy("runtime", 100, 4, dismissRule("fails", `event.assets[0].owner == "x"`))
	fails := event(func(status *v1alpha1.SecurityEventStatus) {
		last := &status.Assessment
		last.Outcome, last.Reason, last.Rule = v1alpha1.OutcomeDeferred, v1alpha1.ReasonRuleError, "fails"
		last.Message = `rule "fails" of policy "runtime" could not be evaluated: no such key: assets; a person must decide`
		last.Asked[1].Answer, last.Asked[1].Rules = v1alpha1.AnswerFailed, []string{"fails"}
	})
	attached := event(func(status *v1alpha1.SecurityEventStatus) {
		first := status.Assessment
		first.Outcome = v1alpha1.OutcomePromoted
		status.EarlierAssessments = []v1alpha1.Assessment{first, {Outcome: v1alpha1.OutcomeDeferred, Reason: "DetachedByPerson", By: "jane", DecisionRef: v1alpha1.DecisionReference{Name: "detach-event-1"}, Time: at(30)}}
		status.Assessment = v1alpha1.Assessment{Outcome: v1alpha1.OutcomeJoined, Reason: "DecidedByPerson", By: "jane", DecisionRef: v1alpha1.DecisionReference{Name: "join-1"}, Time: at(60)}
		status.IncidentRef.Name, status.Occurrences = "inc-1", 7
	})
	unmatched := event(func(status *v1alpha1.SecurityEventStatus) {
		last := &status.Assessment
		last.Outcome, last.Reason, last.Rule, last.Policy = v1alpha1.OutcomeDeferred, v1alpha1.ReasonNoRuleMatched, "", v1alpha1.PolicyGeneration{}
		last.Message, last.Asked = "no rule matched", last.Asked[:1]
	})
	broken := explainedPolicy("audit", 200, 3, dismissRule("other", `event.sorce.rule == "Other"`))
	present := func(policy *v1alpha1.ClassificationPolicy) askedText {
		return askedText{text: policy, from: textPresent, present: policy.Generation}
	}
	same := map[string]askedText{"audit": present(&before), "runtime": present(&decided)}
	for name, test := range map[string]struct {
		event    *v1alpha1.SecurityEvent
		policies []v1alpha1.ClassificationPolicy
		texts    map[string]askedText
		now      string
		deviates bool
	}{
		"the same texts":       {asRecorded, []v1alpha1.ClassificationPolicy{decided, before}, same, "runtime/tested", false},
		"the text is another":  {asRecorded, []v1alpha1.ClassificationPolicy{changed, before}, map[string]askedText{"audit": present(&before), "runtime": {text: &decided, from: textKept, present: 5}}, "", false},
		"it is not kept":       {asRecorded, []v1alpha1.ClassificationPolicy{changed, before}, map[string]askedText{"audit": present(&before), "runtime": {from: textLost, present: 5}}, "", false},
		"it is gone":           {asRecorded, nil, nil, "", false},
		"a person decided":     {byPerson, []v1alpha1.ClassificationPolicy{decided, before}, same, "runtime/tested", false},
		"nobody has":           {event(func(status *v1alpha1.SecurityEventStatus) { *status = v1alpha1.SecurityEventStatus{} }), []v1alpha1.ClassificationPolicy{decided}, nil, "runtime/later", false},
		"seen too rarely":      {below, []v1alpha1.ClassificationPolicy{decided, before}, same, "runtime/tested", false},
		"not all are named":    {unnamed, nil, nil, "", false},
		"one does not compile": {unusable, []v1alpha1.ClassificationPolicy{decided, broken}, map[string]askedText{"audit": present(&broken), "runtime": present(&decided)}, "", false},
		"it waits":             {waits, []v1alpha1.ClassificationPolicy{counting}, nil, "", false},
		"it waits by now":      {waitsNow, []v1alpha1.ClassificationPolicy{counting, before}, map[string]askedText{"audit": present(&before), "runtime": {text: &loud, from: textKept, present: 5}}, "", false},
		"it fails again":       {fails, []v1alpha1.ClassificationPolicy{failing, before}, map[string]askedText{"audit": present(&before), "runtime": present(&failing)}, "", false},
		"it would fail":        {asRecorded, []v1alpha1.ClassificationPolicy{failing, before}, map[string]askedText{"audit": present(&before), "runtime": {text: &decided, from: textKept, present: 5}}, "", false},
		"decided many times":   {attached, []v1alpha1.ClassificationPolicy{decided, before}, same, "runtime/tested", false},
		"no rule either way":   {unmatched, []v1alpha1.ClassificationPolicy{explainedPolicy("audit", 200, 4, broken.Spec.Rules...)}, map[string]askedText{"audit": {text: &before, from: textKept, present: 4}}, "", false},
		"it says otherwise":    {asRecorded, []v1alpha1.ClassificationPolicy{deviating, before}, map[string]askedText{"audit": present(&before), "runtime": present(&deviating)}, "runtime/loud", true},
	} {
		t.Run(name, func(t *testing.T) {
			counts, problems := whatCounts(t.Context(), nil, test.policies)
			why, err := whyAssessed(t.Context(), at(90).Time, test.event, counts, test.texts)
			if len(problems) > 0 {
				t.Errorf("unexpected: %q", problems)
			}
			mustDo(t, err)
			deviates := slices.ContainsFunc(why.Policies, func(policy askedPolicy) bool { return policy.Deviates })
			if why.Now != test.now || deviates != test.deviates || why.Recorded == (test.event.Status.Assessment.Outcome == "") {
				t.Errorf("now %q, want %q; deviates: %t; recorded: %t", why.Now, test.now, deviates, why.Recorded)
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
	kept, raw, err := classify.Revision(&policy)
	mustDo(t, err)
	mustDo(t, admin.Create(ctx, &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: kept.Revision}, Data: runtime.RawExtension{Raw: raw}, Revision: 1,
	}))
	event := explainedEvent()
	event.Namespace = namespace
	status := event.Status
	mustDo(t, admin.Create(ctx, event))
	event.Status = status
	event.Status.Assessment = v1alpha1.Assessment{
		Outcome: v1alpha1.OutcomeDeferred, Reason: v1alpha1.ReasonNoRuleMatched, By: "manager",
		Time:  metav1.NewTime(time.Now().Add(time.Hour)), // whatever the clock of the API server
		Asked: []v1alpha1.AskedPolicy{{Name: "runtime", Generation: 1, Answer: v1alpha1.AnswerNotMatched, Rules: []string{"tested"}}},
	}
	mustDo(t, admin.Status().Update(ctx, event))
	const why = "runtime/tested  does not match\n      event.source.rule == \"Other\" is false: event.source.rule is \"Shell\""
	run(ctx, janeConfig, "explain", "falco-1", "-n", namespace).check(t, ExitOK, "generation 1, the text that is there now\n  "+why, "")

	policy.Spec.Rules[0].Match = "true"
	mustDo(t, admin.Update(ctx, &policy))
	policy.Status.Revisions = []v1alpha1.PolicyRevision{kept}
	mustDo(t, admin.Status().Update(ctx, &policy))
	run(ctx, janeConfig, "explain", "falco-1", "-n", namespace).check(t, ExitOK, "generation 1, the text of then, which is kept; now it is 2\n  "+why, "")
	r := run(ctx, janeConfig, "explain", "falco-1", "-o", "json", "-n", namespace)
	got := &explanation{}
	mustDo(t, json.Unmarshal([]byte(r.out), got))
	if r.code != ExitOK || len(got.Policies) != 1 || got.Policies[0].Text != textKept || got.Policies[0].Deviates || !got.Recorded || got.Now != "runtime/tested" {
		t.Errorf("exit code %d, %+v", r.code, got)
	}

	policy.Status.Revisions = nil
	mustDo(t, admin.Status().Update(ctx, &policy))
	run(ctx, janeConfig, "explain", "falco-1", "-n", namespace).check(t, ExitOK, "its text is not kept any more, so that why cannot be said\n  runtime/tested  does not match\n", "")
	run(ctx, janeConfig, "explain", "none", "-n", namespace).check(t, ExitError, "", "there is no event none")
}

// brokenSince puts a policy there whose generation 1 is in force while 2 does not compile,
// falco-1, which 1 has decided, and falco-2, which nothing has. It gives the text that is kept.
func brokenSince(t *testing.T, namespace string) *appsv1.ControllerRevision {
	t.Helper()
	ctx := t.Context()
	policy := explainedPolicy("runtime", 100, 0, dismissRule("tested", `event.source.rule == "Shell"`))
	policy.Namespace, policy.CreationTimestamp = namespace, metav1.Time{}
	mustDo(t, admin.Create(ctx, &policy))
	kept, raw, err := classify.Revision(&policy)
	mustDo(t, err)
	revision := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: kept.Revision}, Data: runtime.RawExtension{Raw: raw}, Revision: 1,
	}
	mustDo(t, admin.Create(ctx, revision))
	policy.Spec.Rules[0].Match = `event.sorce.rule == "Shell"`
	mustDo(t, admin.Update(ctx, &policy))
	policy.Status.InForce, policy.Status.Revisions = kept, []v1alpha1.PolicyRevision{kept}
	mustDo(t, admin.Status().Update(ctx, &policy))
	decided, waits := explainedEvent(), explainedEvent()
	decided.Namespace, waits.Namespace, waits.Name = namespace, namespace, "falco-2"
	status := decided.Status
	mustDo(t, admin.Create(ctx, waits))
	mustDo(t, admin.Create(ctx, decided))
	decided.Status = status
	record := &decided.Status.Assessment
	record.Policy.Generation, record.Time = 1, metav1.NewTime(time.Now().Add(time.Hour)) // whatever the clock of the API server
	record.Asked = []v1alpha1.AskedPolicy{{Name: "runtime", Generation: 1, Answer: v1alpha1.AnswerMatched, Rules: []string{"tested"}}}
	mustDo(t, admin.Status().Update(ctx, decided))
	return revision
}

// saysOfRules checks all that explain says from the rules on.
func saysOfRules(t *testing.T, namespace, event, want string) {
	t.Helper()
	r := run(t.Context(), janeConfig, "explain", event, "-n", namespace)
	if _, got, _ := strings.Cut(r.out, "RULES, "); r.code != ExitOK || !strings.HasPrefix(got, want) || strings.Contains(got, "would decide;") {
		t.Errorf("%s: exit code %d, want\n%s\ngot\n%s", event, r.code, want, got)
	}
}

const staysInForce = "\nNote: policy runtime: generation 2 does not compile, and generation 1 stays in force: rule \"tested\" `match` 1:6: undefined field 'sorce'"

// While a text does not compile, the last one that did is what counts.
func TestExplainInForce(t *testing.T) {
	namespace := domain(t, viewer)
	revision := brokenSince(t, namespace)
	const decides = "  runtime: generation 1, which stays in force: generation 2 does not compile\n  runtime/tested  matches, and decides: Dismiss\n"
	saysOfRules(t, namespace, "falco-1", "as they were asked\n"+decides+staysInForce+"\n")
	saysOfRules(t, namespace, "falco-2", "evaluated now\n"+decides+staysInForce+"\n")
	r := run(t.Context(), janeConfig, "explain", "falco-2", "-o", "json", "-n", namespace)
	got := &explanation{}
	mustDo(t, json.Unmarshal([]byte(r.out), got))
	want := askedPolicy{Name: "runtime", Generation: 1, Present: 2, InForce: 1, Text: textKept, Answer: v1alpha1.AnswerMatched,
		Rules: []classify.Asked{{Policy: "runtime", Generation: 1, Rule: "tested", Outcome: v1alpha1.RuleDismiss, Answer: classify.Matched}}}
	if diff := cmp.Diff([]askedPolicy{want}, got.Policies, cmpopts.IgnoreUnexported(askedPolicy{})); diff != "" || len(got.Problems) != 1 || got.Untold || got.Now != "runtime/tested" {
		t.Errorf("%+v, policies (-want +got):\n%s", got, diff)
	}

	mustDo(t, admin.Delete(t.Context(), revision))
	const lost = staysInForce + "; its text is not kept any more, so that what would be decided now cannot be told\n"
	saysOfRules(t, namespace, "falco-1", "as they were asked\n  runtime: generation 1; its text is not kept any more, so that why cannot be said\n  runtime/tested  matches, and decides\n"+lost)
	saysOfRules(t, namespace, "falco-2", "evaluated now\n  what the policies in force say cannot be told\n"+lost)
}

// Who may not read the text that is in force is told so, and nothing that is not known.
func TestExplainForbidden(t *testing.T) {
	const role = "no-revisions"
	mustDo(t, admin.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: role}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{v1alpha1.GroupName}, Resources: []string{"incidents", "securityevents", "classificationpolicies"}, Verbs: []string{"get", "list"},
	}}}))
	namespace := domain(t, role)
	brokenSince(t, namespace)
	const unread = "; its text cannot be read, so that what would be decided now cannot be told: controllerrevisions.apps "
	saysOfRules(t, namespace, "falco-1", "as they were asked\n  runtime: generation 1; its text cannot be read, so that why cannot be said\n  runtime/tested  matches, and decides\n"+
		"\nNote: the text of policy runtime, generation 1, cannot be read: controllerrevisions.apps ")
	saysOfRules(t, namespace, "falco-2", "evaluated now\n  what the policies in force say cannot be told\n"+staysInForce+unread)
}
