package classify

import (
	"errors"
	"fmt"
	"slices"
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
// it once more in between does not give people more time, nor that it was below a threshold.
func DeferredSince(status *v1alpha1.SecurityEventStatus) time.Time {
	if first := firstDeferral(status.EarlierAssessments); first < len(status.EarlierAssessments) {
		return status.EarlierAssessments[first].Time.Time
	}
	return status.Assessment.Time.Time
}

// Earlier gives the assessments of an event before the next one: the last, at most so many. When
// these are deferrals in a row the first of them is the first of all, for DeferredSince.
func Earlier(status *v1alpha1.SecurityEventStatus, most int) []v1alpha1.Assessment {
	all := append(slices.Clone(status.EarlierAssessments), status.Assessment)
	over := len(all) - most
	if over <= 0 {
		return all
	}
	if first := firstDeferral(all); first < over {
		all[over] = all[first]
	}
	return all[over:]
}

// firstDeferral is where the deferrals begin with which assessments end; their number when the
// last is none.
func firstDeferral(assessments []v1alpha1.Assessment) int {
	first := len(assessments)
	for first > 0 && assessments[first-1].Outcome == v1alpha1.OutcomeDeferred {
		first--
	}
	return first
}
