package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// askAtMost is how often a question is put whose answer cannot be taken.
const askAtMost = 3

// reportKinds are what can be reported, in the words of those who report.
var reportKinds = []struct {
	kind  v1alpha1.ReportType
	words string
}{
	{v1alpha1.ReportIneffectiveControl, "a security control does not do what it should"},
	{v1alpha1.ReportExpectationBreach, "something is not as confidential, intact or available as it should be"},
	{v1alpha1.ReportHumanError, "somebody made a mistake, such as a mail to the wrong person"},
	{v1alpha1.ReportNonCompliance, "a policy, rule or standard was not kept to"},
	{v1alpha1.ReportPhysicalBreach, "somebody came where they must not, or something was lost or stolen"},
	{v1alpha1.ReportUncontrolledChange, "a system was changed, and nobody knows why"},
	{v1alpha1.ReportMalfunction, "software or hardware behaves oddly"},
	{v1alpha1.ReportAccessViolation, "somebody had access who must not"},
	{v1alpha1.ReportVulnerability, "something can be abused"},
	{v1alpha1.ReportSuspectedMalware, "something may be infected"},
	{v1alpha1.ReportOther, "none of these"},
}

var reportTypes = func() []v1alpha1.ReportType {
	types := make([]v1alpha1.ReportType, 0, len(reportKinds))
	for _, one := range reportKinds {
		types = append(types, one.kind)
	}
	return types
}()

// question is one that is put to who reports.
type question struct {
	// flag is the one that answers it; empty when it is no flag.
	flag, text string
	into       *string
	// check says what is wrong with an answer; nil takes any.
	check func(answer string) error
}

// askForEvent asks for what no flag says. An answer that cannot be taken is asked for again:
// what was typed before is not lost.
func (s *session) askForEvent(ctx context.Context, f *eventFlags, given func(string) bool) error {
	about := ""
	questions := []question{
		{"", "What has happened, in one line? ", &f.title, func(answer string) error {
			if answer == "" {
				return failed("It must say in a few words what has happened.")
			}
			return fits("it", answer, maxEventTitle)
		}},
		{"type", "Which type is it? (its number or name) ", &f.kind, func(answer string) error {
			_, err := reportType("the type", answer)
			return err
		}},
		{"description", "What else is there to say about it? (empty: nothing) ", &f.description, atMost(maxDescription)},
		{"when", "When? (14:30, 2026-11-21 14:30, 20m for 20 minutes ago; empty: now) ", &f.when, func(answer string) error {
			_, err := s.moment("the time", answer)
			return err
		}},
		{"where", "Where? (empty: not known) ", &f.where, atMost(maxWhere)},
		{"malfunction", "What does not work as it should? (empty: nothing) ", &f.malfunction, atMost(maxReportText)},
		{"screen-messages", "Which messages were on the screen? (empty: none) ", &f.screen, atMost(maxReportText)},
		{"actions-taken", "What have you done about it? (empty: nothing) ", &f.actions, atMost(maxReportText)},
	}
	if len(f.assets) == 0 && len(f.resources) == 0 {
		questions = append(questions, question{"asset", "Which thing is it about? (such as Device:LT-0042, Account:jane or File:payroll.xlsx; empty: none) ", &about, func(answer string) error {
			if answer == "" {
				return nil
			}
			_, _, err := (&createFlags{assets: []string{answer}}).things()
			return err
		}})
	}
	for _, one := range questions {
		if *one.into != "" || one.flag != "" && given(one.flag) {
			continue
		}
		if one.flag == "type" {
			for i, kind := range reportKinds {
				fmt.Fprintf(s.ErrOut, "  %2d  %s: %s\n", i+1, kind.kind, kind.words)
			}
		}
		if err := s.askUntil(ctx, one); err != nil {
			return err
		}
	}
	if about != "" {
		f.assets = append(f.assets, about)
	}
	return nil
}

// askUntil asks until the answer can be taken. In the end it keeps the last one, and what
// takes it says what is wrong.
func (s *session) askUntil(ctx context.Context, q question) error {
	for range askAtMost {
		answer, err := s.askOrEnd(ctx, q.text)
		if errors.Is(err, io.EOF) || errors.Is(err, errNoAnswer) {
			return &failure{code: ExitRefused, message: "Nothing was reported: the answers ended before the last question."}
		}
		if err != nil {
			return err
		}
		*q.into = answer
		wrong := q.check(answer)
		if wrong == nil {
			return nil
		}
		fmt.Fprintln(s.ErrOut, "  "+clean(wrong.Error()))
	}
	return nil
}

func atMost(most int) func(string) error {
	return func(answer string) error { return fits("it", answer, most) }
}

// reportType reads a type by its name, or by its number among those that are shown.
func reportType(flag, text string) (v1alpha1.ReportType, error) {
	if number, err := strconv.Atoi(strings.TrimSpace(text)); err == nil && number >= 1 && number <= len(reportKinds) {
		return reportKinds[number-1].kind, nil
	}
	return choose(flag, text, reportTypes)
}
