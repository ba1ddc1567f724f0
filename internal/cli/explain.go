package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"
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
to the policies as they are now.`

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
	textLost    policyText = "Lost"    // it is not kept any more, or may not be read
)

// askedPolicy is a policy as it was asked.
type askedPolicy struct {
	Name string `json:"name"`
	// Generation is the one that was asked, and Present the one that is there now; 0 when
	// there is none.
	Generation int64      `json:"generation,omitempty"`
	Present    int64      `json:"presentGeneration,omitempty"`
	Text       policyText `json:"text"`
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
	// Now is the rule that decides by the present texts; empty when none does.
	Now string `json:"now,omitempty"`
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
	why, err := whyAssessed(ctx, event, list.Items, texts)
	if err != nil {
		return err
	}
	if output == outputJSON {
		return printObjects(s.Out, outputJSON, why)
	}
	s.printExplanation(event, why)
	s.printNotes("", problems)
	return nil
}

// whyAssessed asks again what was asked about an event, in the texts of then.
func whyAssessed(ctx context.Context, event *v1alpha1.SecurityEvent, policies []v1alpha1.ClassificationPolicy, texts map[string]askedText) (*explanation, error) {
	why := &explanation{Event: event.Name, Mode: onlyDrill(event.Spec.Mode), Record: event.Status.Assessment, Policies: []askedPolicy{}}
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
			why.Policies = append(why.Policies, one)
		}
		why.Recorded = len(byRules.Asked) > 0
	}
	now, err := askNow(ctx, in, policies)
	if err != nil {
		return nil, err
	}
	if !why.Recorded {
		why.Policies = append(why.Policies, now...)
	}
	for _, policy := range now {
		for _, rule := range policy.Rules {
			if rule.Answer == classify.Matched {
				why.Now = rule.Policy + "/" + rule.Rule
			}
		}
	}
	return why, nil
}

// askNow asks the present policies.
func askNow(ctx context.Context, in classify.Input, policies []v1alpha1.ClassificationPolicy) ([]askedPolicy, error) {
	for i := range policies {
		in.Policies = append(in.Policies, compiledOrNot(&policies[i]))
	}
	asked, err := classify.Trace(ctx, in)
	if err != nil {
		return nil, err
	}
	var all []askedPolicy
	for _, one := range asked {
		if last := len(all) - 1; last < 0 || all[last].Name != one.Policy {
			all = append(all, askedPolicy{Name: one.Policy, Generation: one.Generation, Present: one.Generation, Text: textPresent})
		}
		last := &all[len(all)-1]
		last.Rules = append(last.Rules, one)
		last.Answer = one.Answer
	}
	return all, nil
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

func (s *session) printExplanation(event *v1alpha1.SecurityEvent, why *explanation) {
	fmt.Fprintf(s.Out, "EVENT  %s  %s\n", event.Name, s.style.bold(marked(event.Spec.Mode, event.Spec.Title)))
	fmt.Fprintf(s.Out, "  submitted by %s\n\n", clean(event.Spec.SubmittedBy))
	fmt.Fprintln(s.Out, s.style.bold("ON RECORD"))
	if why.Record.Outcome == "" {
		fmt.Fprintln(s.Out, "  not assessed yet")
	} else {
		s.printRecord(&why.Record)
	}
	if why.Rules != nil {
		fmt.Fprintln(s.Out, "  before that, the rules had decided:")
		s.printRecord(why.Rules)
	}
	record := &why.Record
	if why.Rules != nil {
		record = why.Rules
	}
	when := "as they were asked"
	if !why.Recorded {
		when = "evaluated now"
	}
	fmt.Fprintf(s.Out, "\n%s, %s\n", s.style.bold("RULES"), when)
	if len(why.Policies) == 0 {
		fmt.Fprintln(s.Out, "  there is no classification policy")
	}
	for i := range why.Policies {
		if i == len(why.Policies)-1 && why.MorePolicies > 0 {
			fmt.Fprintf(s.Out, "  and %s, of which none decided\n", plural(int(why.MorePolicies), "other policy"))
		}
		s.printAskedPolicy(&why.Policies[i], why.Recorded)
	}
	then := ""
	if record.Rule != "" {
		then = record.Policy.Name + "/" + record.Rule
	}
	if record.Outcome != "" && then != why.Now {
		fmt.Fprintf(s.Out, "\n%s by the policies as they are now, %s would decide; on record it is %s.\n",
			s.style.yellow("Note:"), clean(cmp.Or(why.Now, "no rule")), clean(cmp.Or(then, "no rule")))
	}
}

func (s *session) printRecord(record *v1alpha1.Assessment) {
	decided := "by " + record.By
	if record.DecisionRef.Name != "" {
		decided += ", by the Decision " + record.DecisionRef.Name
	}
	fmt.Fprintf(s.Out, "  %s  %s, %s\n", s.outcome(record.Outcome, string(record.Outcome)), s.at(record.Time.Time), clean(decided))
	for _, line := range wrap(joined(": ", record.Reason, record.Message), max(s.terminal.width-6, 0)) {
		fmt.Fprintln(s.Out, "      "+line)
	}
	if record.Policy.Name != "" {
		fmt.Fprintf(s.Out, "      policy %s, generation %d", clean(record.Policy.Name), record.Policy.Generation)
		if record.Rule != "" {
			fmt.Fprintf(s.Out, ", rule %s", clean(record.Rule))
		}
		fmt.Fprintln(s.Out)
	}
	if record.Workload != "" {
		fmt.Fprintf(s.Out, "      workload %s\n", clean(record.Workload))
	}
}
