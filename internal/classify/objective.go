package classify

import (
	"errors"
	"fmt"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

// defaultAssessWithin is how long an event may wait for a person where the plan does not say.
var defaultAssessWithin = map[v1alpha1.Severity]time.Duration{
	v1alpha1.SeverityCritical:      15 * time.Minute,
	v1alpha1.SeverityHigh:          time.Hour,
	v1alpha1.SeverityMedium:        8 * time.Hour,
	v1alpha1.SeverityLow:           72 * time.Hour,
	v1alpha1.SeverityInformational: 168 * time.Hour,
}

// CheckObjectives says which expressions of a plan's objectives do not compile, and where.
func CheckObjectives(objectives []v1alpha1.PlanObjective) error {
	var problems []error
	for i := range objectives {
		if objectives[i].When == "" {
			continue
		}
		if _, err := expression.CompileBool(expression.Event, objectives[i].When); err != nil {
			problems = append(problems, fmt.Errorf("`objectives[%d].when` %w", i, err))
		}
	}
	return errors.Join(problems...)
}

// AssessWithin is how long an event may wait for a person. An objective whose expression
// cannot be evaluated counts, so that no fault makes an event wait for longer than was meant.
func AssessWithin(objectives []v1alpha1.PlanObjective, severity v1alpha1.Severity, when func(v1alpha1.Expression) (bool, error)) time.Duration {
	for i := range objectives {
		objective := &objectives[i]
		if objective.Severity != severity {
			continue
		}
		if objective.When != "" {
			if counts, err := when(objective.When); err == nil && !counts {
				continue
			}
		}
		if objective.AssessWithin != nil {
			return objective.AssessWithin.Duration
		}
		break
	}
	return defaultAssessWithin[severity]
}

// DeferredSince is since when an event waits for a person. That a rule, or none, has deferred
// it once more in between does not give people more time.
func DeferredSince(status *v1alpha1.SecurityEventStatus) time.Time {
	since := status.Assessment.Time.Time
	for i := len(status.EarlierAssessments) - 1; i >= 0 && status.EarlierAssessments[i].Outcome == v1alpha1.OutcomeDeferred; i-- {
		since = status.EarlierAssessments[i].Time.Time
	}
	return since
}
