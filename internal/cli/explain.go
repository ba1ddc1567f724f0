package cli

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

const explainLong = `Say what was decided about an event and why: which rules were asked, and why each did or did
not match.

What was decided, and which rules of which policies were asked in which text, is read from the
record. Why each said what it did is found by asking it again: the event never changes, its
workload is on record, and the texts of policies that were in force are kept. Of a text that is
not kept any more only the answers are known. An event that no rule was asked about yet is shown
to the policies that are in force now: while the text of one does not compile, the last one that
did counts.`

func newExplainCommand(s *session) *cobra.Command {
	output := ""
	cmd := &cobra.Command{
		Use:               "explain EVENT",
		Short:             "Say which rules were asked about an event, and why each did or did not match",
		Long:              explainLong,
		Args:              between(1, 1),
		ValidArgsFunction: s.completeEvents,
		RunE:              func(cmd *cobra.Command, args []string) error { return s.explainEvent(cmd.Context(), output, args[0]) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}

// policyText says where the text comes from by which a policy is asked again.
type policyText string

const (
	textPresent policyText = "Present" // it is the one that is there now
	textKept    policyText = "Kept"    // it was another one, and is kept
	textLost    policyText = "Lost"    // it is not kept any more
	textUnread  policyText = "Unread"  // it is kept, but may not be read or is another one
)

// askedPolicy is a policy as it was asked.
type askedPolicy struct {
	Name string `json:"name"`
	// Generation is the one that was asked, and Present the one that is there now; 0 when
	// there is none.
	Generation int64 `json:"generation,omitempty"`
	Present    int64 `json:"presentGeneration,omitempty"`
	// InForce is the one that counts while Present does not compile; 0 when Present counts, or
	// nothing of the policy is in force.
	InForce int64      `json:"inForceGeneration,omitempty"`
	Text    policyText `json:"text"`
	// Answer is what it said; empty when that is not on record.
	Answer v1alpha1.RuleAnswer `json:"answer,omitempty"`
	Rules  []classify.Asked    `json:"rules,omitempty"`
	// MoreRules is how many were asked besides.
	MoreRules int32 `json:"moreRules,omitempty"`
	// Deviates says that asked again it says something else than the record.
	Deviates bool `json:"deviates,omitempty"`

	onRecord int // how many rules were asked
}

// explanation is why an event was assessed as it was.
type explanation struct {
	Event string `json:"event"`
	// Mode is 'Drill' for an exercise, and absent for the real thing.
	Mode v1alpha1.Mode `json:"mode,omitempty"`
	// Record is what was decided, and Rules the last time that rules decided, when a
	// person has decided since.
	Record v1alpha1.Assessment  `json:"record"`
	Rules  *v1alpha1.Assessment `json:"rulesRecord,omitempty"`
	// Recorded says that Policies are those of the record; otherwise they are asked now.
	Recorded bool `json:"recorded"`
	// Policies are those that are asked, in their order.
	Policies []askedPolicy `json:"policies"`
	// MorePolicies is how many were asked before the last one besides.
	MorePolicies int32 `json:"morePolicies,omitempty"`
	// Now is the rule that decides by the texts in force; empty when none does, as while the
	// event waits for the threshold of one. Untold says that it cannot be told.
	Now    string   `json:"now,omitempty"`
	Untold bool     `json:"untold,omitempty"`
	Waits  *waiting `json:"waits,omitempty"`
	// Problems say which texts do not compile or cannot be read.
	Problems []string `json:"problems,omitempty"`
	// Incident is the one that the event opened or joined, and Occurrences how often it was seen.
	Incident    string `json:"incident,omitempty"`
	Occurrences int64  `json:"occurrences"`
	// Assessed is the condition, where it says something else than the record.
	Assessed *metav1.Condition `json:"assessed,omitempty"`
	// Earlier is what was decided before the record, the oldest first.
	Earlier []v1alpha1.Assessment `json:"earlier,omitempty"`

	present v1alpha1.Assessment // what the texts in force decide
}

// waiting is an event that waits for the threshold of a rule that matches.
type waiting struct {
	Rule  string      `json:"rule"`
	Seen  int64       `json:"seen"`
	Asked int64       `json:"asked"`
	Until metav1.Time `json:"until"`
}

func (s *session) explainEvent(ctx context.Context, output, name string) error {
	if err := checkOutput(output, outputJSON); err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	event, err := s.findEvent(ctx, namespace, name)
	if err != nil {
		return err
	}
	api, err := s.client()
	if err != nil {
		return err
	}
	list := &v1alpha1.ClassificationPolicyList{}
	if err := api.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return explain(err, "list the classification policies in the namespace "+namespace)
	}
	texts, problems := textsOf(ctx, api, lastByRules(event), list.Items)
	counts, more := whatCounts(ctx, api, list.Items)
	why, err := whyAssessed(ctx, s.clock.Now(), event, counts, texts)
	if err != nil {
		return err
	}
	why.Problems = append(problems, more...)
	if output == outputJSON {
		return printObjects(s.Out, outputJSON, why)
	}
	s.printExplanation(event, why)
	if s.domainOrNot(ctx, namespace) == domainNo {
		s.printNotes("", []string{fmt.Sprintf("the namespace %s is not a response domain: nobody assesses this event", namespace), s.elsewhere(ctx, namespace)})
	}
	return nil
}

// whyAssessed asks again what was asked about an event, in the texts of then.
func whyAssessed(ctx context.Context, at time.Time, event *v1alpha1.SecurityEvent, counts map[string]inForce, texts map[string]askedText) (*explanation, error) {
	why := &explanation{Event: event.Name, Mode: onlyDrill(event.Spec.Mode), Record: event.Status.Assessment, Policies: []askedPolicy{},
		Incident: event.Status.IncidentRef.Name, Occurrences: max(event.Status.Occurrences, 1),
		Assessed: conditionBesides(event), Earlier: event.Status.EarlierAssessments}
	byRules := lastByRules(event)
	if byRules != nil && byRules != &event.Status.Assessment {
		why.Rules = byRules
	}
	in := classify.Input{Event: event, Workload: event.Status.Assessment.Workload, Now: event.Spec.ObservedTime.Time}
	if byRules != nil {
		in.Workload, in.Now = cmp.Or(byRules.Workload, in.Workload), byRules.Time.Time
	}
	if in.Workload == "" && len(event.Spec.Resources) > 0 {
		in.Workload = event.Spec.Resources[0].Name
	}
	if byRules != nil {
		why.MorePolicies = byRules.MoreAsked
		for i := range byRules.Asked {
			one, err := askAgain(ctx, in, byRules, &byRules.Asked[i], texts[byRules.Asked[i].Name])
			if err != nil {
				return nil, err
			}
			one.InForce = counts[one.Name].instead
			why.Policies = append(why.Policies, one)
		}
		why.Recorded = len(byRules.Asked) > 0
	}
	in.Now = at // what counts now is asked at present
	now, err := askNow(ctx, in, counts, why)
	if err != nil {
		return nil, err
	}
	if !why.Recorded {
		why.Policies = append(why.Policies, now...)
	}
	return why, nil
}

// conditionBesides is the condition Assessed, where it says what the record does not.
func conditionBesides(event *v1alpha1.SecurityEvent) *metav1.Condition {
	condition := meta.FindStatusCondition(event.Status.Conditions, v1alpha1.ConditionAssessed)
	if condition == nil || condition.Status != metav1.ConditionFalse || condition.Reason == event.Status.Assessment.Reason {
		return nil
	}
	return condition
}

// askNow asks what of the policies is in force, and takes down what it decides. Without the text
// of one nothing can be told: its priority, too, is part of it.
func askNow(ctx context.Context, in classify.Input, counts map[string]inForce, why *explanation) ([]askedPolicy, error) {
	for _, one := range counts {
		if one.compiled == nil {
			why.Untold = true
			return nil, nil
		}
		in.Policies = append(in.Policies, one.compiled)
	}
	asked, decided, err := classify.Judge(ctx, in)
	if err != nil {
		return nil, err
	}
	why.present = decided.Record
	if last := len(asked) - 1; last >= 0 && asked[last].Answer == classify.Matched {
		why.Now = ruleOf(&decided.Record)
	}
	if !decided.Until.IsZero() {
		why.Waits = &waiting{Rule: ruleOf(&decided.Record), Seen: decided.Seen, Asked: decided.Asked, Until: metav1.NewTime(decided.Until)}
	}
	var all []askedPolicy
	for _, one := range asked {
		if last := len(all) - 1; last < 0 || all[last].Name != one.Policy {
			policy := askedPolicy{Name: one.Policy, Generation: one.Generation, Present: counts[one.Policy].present, InForce: counts[one.Policy].instead, Text: textPresent}
			if policy.InForce != 0 {
				policy.Text = textKept
			}
			all = append(all, policy)
		}
		last := &all[len(all)-1]
		last.Rules = append(last.Rules, one)
		last.Answer = one.Answer
	}
	return all, nil
}

// ruleOf is the rule of an assessment; empty when it names none.
func ruleOf(record *v1alpha1.Assessment) string {
	if record.Rule == "" {
		return ""
	}
	return record.Policy.Name + "/" + record.Rule
}

func compiledOrNot(source *v1alpha1.ClassificationPolicy) *classify.Policy {
	policy, err := classify.Compile(source)
	if err != nil {
		return classify.Unusable(source, err)
	}
	return policy
}

// lastByRules is the last assessment that no person made; nil when there is none.
func lastByRules(event *v1alpha1.SecurityEvent) *v1alpha1.Assessment {
	if event.Status.Assessment.Outcome != "" && event.Status.Assessment.DecisionRef.Name == "" {
		return &event.Status.Assessment
	}
	earlier := event.Status.EarlierAssessments
	for i := len(earlier) - 1; i >= 0; i-- {
		if earlier[i].DecisionRef.Name == "" {
			return &earlier[i]
		}
	}
	return nil
}
