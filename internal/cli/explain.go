package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

const explainLong = `Say what was decided about an event and why: which rules were asked, and why each did or did
not match.

What was decided is read from the record. What each rule says is evaluated anew, by the event,
which never changes, the workload on record, and the policies as they are now. Of every policy
it is said whether that is the text that was asked then.`

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

// policyText says whether a policy's text is the one that was asked.
type policyText string

const (
	textSame    policyText = "Same"    // it is
	textChanged policyText = "Changed" // it has changed since
	textNewer   policyText = "Newer"   // the policy came after the assessment
	textGone    policyText = "Gone"    // the policy that decided is not there any more
	textUnknown policyText = "Unknown" // the record does not say
)

// askedPolicy is a policy as it is now, and as it was asked.
type askedPolicy struct {
	Name string `json:"name"`
	// Generation is the one that is there now, Recorded the one of the record; 0 when
	// there is none.
	Generation int64            `json:"generation,omitempty"`
	Recorded   int64            `json:"recordedGeneration,omitempty"`
	Text       policyText       `json:"text"`
	Rules      []classify.Asked `json:"rules,omitempty"`
}

// explanation is why an event was assessed as it was.
type explanation struct {
	Event string `json:"event"`
	// Record is what was decided, and Rules the last time that rules decided, when a
	// person has decided since.
	Record v1alpha1.Assessment  `json:"record"`
	Rules  *v1alpha1.Assessment `json:"rulesRecord,omitempty"`
	// Policies are those that are asked, in their order.
	Policies []askedPolicy `json:"policies"`
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
	why, err := whyAssessed(ctx, event, list.Items)
	if err != nil {
		return err
	}
	if output == outputJSON {
		return printObjects(s.Out, outputJSON, why)
	}
	s.printExplanation(event, why)
	return nil
}

// whyAssessed asks the present policies about an event, and compares them with the record.
func whyAssessed(ctx context.Context, event *v1alpha1.SecurityEvent, policies []v1alpha1.ClassificationPolicy) (*explanation, error) {
	why := &explanation{Event: event.Name, Record: event.Status.Assessment, Policies: []askedPolicy{}}
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
	sources := map[string]*v1alpha1.ClassificationPolicy{}
	for i := range policies {
		source := &policies[i]
		sources[source.Name] = source
		policy, err := classify.Compile(source)
		if err != nil {
			policy = classify.Unusable(source, err)
		}
		in.Policies = append(in.Policies, policy)
	}
	asked, err := classify.Trace(ctx, in)
	if err != nil {
		return nil, err
	}
	for _, one := range asked {
		if last := len(why.Policies) - 1; last < 0 || why.Policies[last].Name != one.Policy {
			why.Policies = append(why.Policies, comparePolicy(one.Policy, sources[one.Policy], byRules))
		}
		last := &why.Policies[len(why.Policies)-1]
		last.Rules = append(last.Rules, one)
		if one.Answer == classify.Matched {
			why.Now = one.Policy + "/" + one.Rule
		}
	}
	if byRules != nil && byRules.Policy.Name != "" && !slices.ContainsFunc(why.Policies, func(p askedPolicy) bool { return p.Name == byRules.Policy.Name }) {
		why.Policies = append(why.Policies, comparePolicy(byRules.Policy.Name, sources[byRules.Policy.Name], byRules))
	}
	return why, nil
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

// comparePolicy says whether a policy's present text is the one that was asked.
func comparePolicy(name string, source *v1alpha1.ClassificationPolicy, record *v1alpha1.Assessment) askedPolicy {
	result := askedPolicy{Name: name, Text: textUnknown}
	if source != nil {
		result.Generation = source.Generation
	}
	var at metav1.Time
	if record != nil {
		at = record.Time
		if record.Policy.Name == name {
			result.Recorded = record.Policy.Generation
		}
	}
	switch {
	case source == nil:
		result.Text = textGone
	case record == nil:
	case source.CreationTimestamp.After(at.Time):
		// One that was deleted and made anew begins to count anew.
		result.Text = textNewer
	case result.Recorded != 0 && result.Recorded == source.Generation, result.Recorded == 0 && source.Generation == 1:
		result.Text = textSame
	case result.Recorded != 0:
		result.Text = textChanged
	}
	return result
}

func (s *session) printExplanation(event *v1alpha1.SecurityEvent, why *explanation) {
	fmt.Fprintf(s.Out, "EVENT  %s  %s\n", event.Name, s.style.bold(clean(event.Spec.Title)))
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
	fmt.Fprintf(s.Out, "\n%s, evaluated now\n", s.style.bold("RULES"))
	if len(why.Policies) == 0 {
		fmt.Fprintln(s.Out, "  there is no classification policy")
	}
	for i := range why.Policies {
		policy := &why.Policies[i]
		fmt.Fprintf(s.Out, "  %s: %s\n", s.style.bold(clean(policy.Name)), s.textInWords(policy, record.Outcome != ""))
		s.printAskedRules(policy.Rules)
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

func (s *session) textInWords(policy *askedPolicy, assessed bool) string {
	switch policy.Text {
	case textSame:
		if policy.Recorded == 0 {
			return fmt.Sprintf("generation %d, the text that was there then", policy.Generation)
		}
		return fmt.Sprintf("generation %d, the text that was asked", policy.Generation)
	case textChanged:
		return s.style.yellow(fmt.Sprintf("its text has changed since: generation %d was asked, this is %d", policy.Recorded, policy.Generation))
	case textNewer:
		return s.style.yellow("it was created after the assessment")
	case textGone:
		return s.style.yellow("it is not there any more, so that its rules cannot be shown")
	default:
		if !assessed {
			return fmt.Sprintf("generation %d", policy.Generation)
		}
		return fmt.Sprintf("generation %d; the record does not say which was asked", policy.Generation)
	}
}
