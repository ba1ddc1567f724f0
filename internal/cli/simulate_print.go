package cli

import (
	"fmt"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
	"github.com/firebreak-dev/firebreak/internal/simulate"
)

func (s *session) printSimulation(result *simulate.Result, another bool) {
	if another {
		fmt.Fprintln(s.Out)
	}
	fmt.Fprintf(s.Out, "EVENT  %s\n", s.style.bold(marked(result.Mode, joined("  ", result.Event, result.Title))))
	fmt.Fprintf(s.Out, "  submitted by %s\n\n", clean(joined(", of workload ", result.SubmittedBy, result.Workload)))
	s.printAsked(result.Asked)
	fmt.Fprintf(s.Out, "\n%s  %s: %s\n", s.style.bold("OUTCOME"), s.outcome(result.Outcome, string(result.Outcome)), clean(joined(": ", result.Reason, result.Message)))
	if result.Incident != nil {
		s.printSimulatedIncident(result.Incident)
	}
	if result.Playbook != nil {
		s.printSimulatedPlaybook(result.Playbook)
	}
	s.printNotes("", result.Notes)
}

func (s *session) outcome(outcome v1alpha1.AssessmentOutcome, text string) string {
	switch outcome {
	case v1alpha1.OutcomePromoted, v1alpha1.OutcomeJoined:
		return s.style.red(text)
	case v1alpha1.OutcomeDismissed:
		return s.style.green(text)
	default:
		return s.style.yellow(text)
	}
}

// printAsked shows the rules that were asked, and why each did or did not match.
func (s *session) printAsked(asked []classify.Asked) {
	fmt.Fprintln(s.Out, s.style.bold("RULES"))
	if len(asked) == 0 {
		fmt.Fprintln(s.Out, "  none was asked")
	}
	s.printAskedRules(asked)
}

func (s *session) printAskedRules(asked []classify.Asked) {
	for i := range asked {
		one := &asked[i]
		says := ""
		switch one.Answer {
		case classify.Matched:
			says = s.style.bold(joined(": ", "matches, and decides", string(one.Outcome)))
			if len(one.Why) > 0 {
				says = s.style.yellow("matches, but does not decide")
			}
		case v1alpha1.AnswerBelowThreshold:
			says = s.style.yellow("matches, but was not seen often enough")
		case classify.Failed:
			says = s.style.yellow("could not be evaluated, so that a person must decide")
		case classify.NotUsable:
			says = s.style.yellow("the policy does not compile: nothing that passes it is dismissed")
		default:
			says = "does not match"
		}
		fmt.Fprintf(s.Out, "  %s  %s\n", clean(joined("/", one.Policy, one.Rule)), says)
		for _, why := range one.Why {
			for _, line := range wrap(why, max(s.terminal.width-6, 0)) {
				fmt.Fprintln(s.Out, "      "+line)
			}
		}
	}
}

func (s *session) printSimulatedIncident(incident *simulate.Incident) {
	fmt.Fprintf(s.Out, "\n%s  %s  %s\n", s.style.bold("INCIDENT"), incident.Name, clean(incident.Title))
	severity := s.severityCell(incident.Severity)
	text := joined(", ", string(incident.Priority), string(incident.Category), "TLP "+string(incident.TLP))
	fmt.Fprintf(s.Out, "  %s, %s\n", paintOr(severity.paint, severity.text), clean(text))
	if about := impact(incident.Impact); about != "" {
		fmt.Fprintf(s.Out, "  impact: %s\n", clean(about))
	}
	if incident.Confirm == v1alpha1.ConfirmRequired {
		fmt.Fprintln(s.Out, "  a person must confirm it before it is eradicated")
	}
	for _, determination := range incident.Determinations {
		fmt.Fprintf(s.Out, "  %s: %s, until a person has determined it\n", clean(determination.Name), clean(string(determination.Outcome)))
	}
	if len(incident.Key) > 0 {
		fmt.Fprintf(s.Out, "  events of [%s] join it within %s\n", clean(strings.Join(incident.Key, ", ")), incident.Within)
	} else {
		fmt.Fprintln(s.Out, "  no other event joins it")
	}
}

func paintOr(p paint, text string) string {
	if p == nil {
		return text
	}
	return p(text)
}

func (s *session) printSimulatedPlaybook(playbook *simulate.Playbook) {
	fmt.Fprintf(s.Out, "\n%s  %s\n", s.style.bold("PLAYBOOK"), clean(joined(", acting as ", playbook.Name, playbook.ServiceAccount)))
	if playbook.Problem != "" {
		fmt.Fprintln(s.Out, "  "+s.style.yellow(clean(playbook.Problem)))
	}
	s.printNotes("  ", playbook.Notes)
	phase := ""
	for i := range playbook.Steps {
		step := &playbook.Steps[i]
		if step.Phase != phase {
			phase = step.Phase
			fmt.Fprintf(s.Out, "  %s\n", s.style.bold(phase))
		}
		s.printSimulatedStep(i+1, step)
	}
}

func (s *session) printSimulatedStep(number int, step *simulate.Step) {
	about := step.Action
	if step.Parallel != "" {
		about += ", beside the others of group " + step.Parallel
	}
	fmt.Fprintf(s.Out, "  %2d  %s (%s)\n", number, s.style.bold(clean(step.Name)), clean(about))
	line := func(text string) {
		for _, part := range wrap(text, max(s.terminal.width-8, 0)) {
			fmt.Fprintln(s.Out, "        "+part)
		}
	}
	if step.Skipped != "" {
		line("skipped: " + step.Skipped)
		return
	}
	line(step.Does)
	if step.Settings != "" {
		line("with " + step.Settings)
	}
	if len(step.Targets) > 0 {
		line("on " + strings.Join(step.Targets, ", "))
	}
	for _, note := range step.Notes {
		line("- " + note)
	}
}

func (s *session) printNotes(indent string, notes []string) {
	for _, note := range notes {
		fmt.Fprintf(s.Out, "%s%s %s\n", indent, s.style.yellow("Note:"), clean(note))
	}
}
