package cli

import (
	"cmp"
	"fmt"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func (s *session) printExplanation(event *v1alpha1.SecurityEvent, why *explanation) {
	fmt.Fprintf(s.Out, "EVENT  %s  %s\n", event.Name, s.style.bold(marked(event.Spec.Mode, event.Spec.Title)))
	fmt.Fprintf(s.Out, "  submitted by %s, seen %s\n", clean(event.Spec.SubmittedBy), plural(int(why.Occurrences), "time"))
	if why.Incident != "" {
		fmt.Fprintf(s.Out, "  incident %s: %s\n", clean(why.Incident), s.command(event.Namespace, "show", clean(why.Incident)))
	}
	fmt.Fprintf(s.Out, "\n%s\n", s.style.bold("ON RECORD"))
	if why.Record.Outcome == "" {
		fmt.Fprintln(s.Out, "  not assessed yet")
	} else {
		s.printRecord(&why.Record)
	}
	if why.Assessed != nil {
		fmt.Fprintf(s.Out, "  %s\n", s.style.yellow("it waits:"))
		s.printWrapped(joined(": ", why.Assessed.Reason, why.Assessed.Message))
	}
	if why.Rules != nil {
		fmt.Fprintln(s.Out, "  before that, the rules had decided:")
		s.printRecord(why.Rules)
	}
	s.printEarlier(why)
	when := "as they were asked"
	if !why.Recorded {
		when = "evaluated now"
	}
	fmt.Fprintf(s.Out, "\n%s, %s\n", s.style.bold("RULES"), when)
	if len(why.Policies) == 0 && why.Untold {
		fmt.Fprintln(s.Out, "  what the policies in force say cannot be told")
	} else if len(why.Policies) == 0 {
		fmt.Fprintln(s.Out, "  there is no classification policy")
	}
	for i := range why.Policies {
		if i == len(why.Policies)-1 && why.MorePolicies > 0 {
			fmt.Fprintf(s.Out, "  and %s, of which none decided\n", plural(int(why.MorePolicies), "other policy"))
		}
		s.printAskedPolicy(&why.Policies[i], why.Recorded)
	}
	if note := why.note(); note != "" {
		fmt.Fprintf(s.Out, "\n%s %s.\n", s.style.yellow("Note:"), clean(note))
	} else if len(why.Problems) > 0 {
		fmt.Fprintln(s.Out)
	}
	s.printNotes("", why.Problems)
}

// note says where what is in force now decides otherwise than the policies of the record; empty
// where it does not, or that cannot be told. Where the same rule matches, its threshold is left
// out for what is decided: what was counted then is not all there any more.
func (why *explanation) note() string {
	record := &why.Record
	if why.Rules != nil {
		record = why.Rules
	}
	then, now := ruleOf(record), ruleOf(&why.present)
	fails := func(of *v1alpha1.Assessment) bool { return of.Reason == v1alpha1.ReasonRuleError }
	begin := "by the policies in force now, "
	switch onRecord := "; on record it is " + cmp.Or(then, "no rule"); {
	case record.Outcome == "" || why.Untold || !why.Recorded && why.Waits != nil:
		return ""
	case why.Waits != nil && record == &why.Record && record.Outcome == v1alpha1.OutcomeDeferred:
		return fmt.Sprintf("%s%s matches, but this event was seen %d of %d times; it waits for more until %s",
			begin, why.Waits.Rule, why.Waits.Seen, why.Waits.Asked, why.Waits.Until.UTC().Format(time.RFC3339))
	case then == now && (now == "" || fails(record) == fails(&why.present)):
		return ""
	case now != "" && why.Now == "":
		return begin + now + " would not decide (" + why.present.Message + ")" + onRecord
	default:
		return begin + cmp.Or(why.Now, "no rule") + " would decide" + onRecord
	}
}

// printEarlier shows in a line each what was decided before, where that is not shown yet.
func (s *session) printEarlier(why *explanation) {
	if len(why.Earlier) == 0 || len(why.Earlier) == 1 && why.Rules != nil {
		return
	}
	fmt.Fprintln(s.Out, "  all that was decided before, the oldest first:")
	for i := range why.Earlier {
		one := &why.Earlier[i]
		decided := "by " + one.By
		if one.DecisionRef.Name != "" {
			decided += ", by the Decision " + one.DecisionRef.Name
		}
		fmt.Fprintf(s.Out, "    %s  %s  %s\n", s.at(one.Time.Time), s.outcome(one.Outcome, string(one.Outcome)), clean(joined(", ", one.Reason, decided, ruleOf(one))))
	}
}

func (s *session) printWrapped(text string) {
	for _, line := range wrap(text, max(s.terminal.width-6, 0)) {
		fmt.Fprintln(s.Out, "      "+line)
	}
}

func (s *session) printRecord(record *v1alpha1.Assessment) {
	decided := "by " + record.By
	if record.DecisionRef.Name != "" {
		decided += ", by the Decision " + record.DecisionRef.Name
	}
	fmt.Fprintf(s.Out, "  %s  %s, %s\n", s.outcome(record.Outcome, string(record.Outcome)), s.at(record.Time.Time), clean(decided))
	s.printWrapped(joined(": ", record.Reason, record.Message))
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
