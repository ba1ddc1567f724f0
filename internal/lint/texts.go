package lint

import (
	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

// checkTexts finds what compares texts and cannot mean it: severities by the alphabet, which
// misses what is worst, and what has few values with none of them.
func (r *run) checkTexts(at site, scope expression.Scope, source v1alpha1.Expression) {
	if severity, err := expression.OrdersSeverities(source); err == nil && severity != "" {
		r.add(at, Warning, ReasonTextOrder,
			"severities are text, and the alphabet orders them otherwise (Critical, High, Informational, Low, Medium): what is compared with '%s' by <, <=, > or >= must be named, such as event.severity in [\"High\", \"Critical\"]", severity)
	}
	others, err := expression.NoSuchValues(scope, source)
	if err != nil {
		return // it does not compile, which is said
	}
	for _, one := range others {
		r.add(at, Warning, ReasonNoSuchValue, "%s is never '%s': it must be compared with one of %q%s", one.Field, one.Text, one.Values, didYouMean(one.Text, one.Values))
	}
}

// checkSeverity finds what works out a severity that there is not.
func (r *run) checkSeverity(at site, rule *v1alpha1.ClassificationRule) {
	source := rule.Incident.SeverityExpression
	if source == "" {
		return
	}
	r.checkTexts(at, expression.Event, source)
	texts, err := expression.Yields(source)
	if err != nil {
		return
	}
	for _, text := range texts {
		if v1alpha1.Severity(text).Rank() == 0 {
			r.add(at, Error, ReasonNoSuchValue,
				"rule %q would yield the severity '%s', which there is not, and defer the event to a person: it must be 'Informational', 'Low', 'Medium', 'High' or 'Critical'", rule.Name, text)
		}
	}
}
