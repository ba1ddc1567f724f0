package classify

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func within(severity v1alpha1.Severity, when v1alpha1.Expression, limit time.Duration) v1alpha1.PlanObjective {
	objective := v1alpha1.PlanObjective{Severity: severity, When: when}
	if limit > 0 {
		objective.AssessWithin = &metav1.Duration{Duration: limit}
	}
	return objective
}

func TestAssessWithin(t *testing.T) {
	const high, low = v1alpha1.SeverityHigh, v1alpha1.SeverityLow
	for name, test := range map[string]struct {
		objectives []v1alpha1.PlanObjective
		severity   v1alpha1.Severity
		want       time.Duration
	}{
		"no plan, critical":          {nil, v1alpha1.SeverityCritical, 15 * time.Minute},
		"no plan, high":              {nil, high, time.Hour},
		"no plan, medium":            {nil, v1alpha1.SeverityMedium, 8 * time.Hour},
		"no plan, low":               {nil, low, 72 * time.Hour},
		"no plan, informational":     {nil, v1alpha1.SeverityInformational, 168 * time.Hour},
		"of its severity":            {[]v1alpha1.PlanObjective{within(low, "", time.Minute), within(high, "", 2*time.Minute)}, high, 2 * time.Minute},
		"of no severity that counts": {[]v1alpha1.PlanObjective{within(low, "", time.Minute)}, high, time.Hour},
		"the first that counts":      {[]v1alpha1.PlanObjective{within(high, "false", time.Minute), within(high, "true", 3*time.Minute), within(high, "", 4*time.Minute)}, high, 3 * time.Minute},
		"none counts":                {[]v1alpha1.PlanObjective{within(high, "false", time.Minute)}, high, time.Hour},
		"one that fails counts":      {[]v1alpha1.PlanObjective{within(high, "broken", time.Minute), within(high, "", 4*time.Minute)}, high, time.Minute},
		"it says nothing about this": {[]v1alpha1.PlanObjective{within(high, "", 0)}, high, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			got := AssessWithin(test.objectives, test.severity, func(source v1alpha1.Expression) (bool, error) {
				if source == "broken" {
					return false, errors.New("the test says so")
				}
				return source == "true", nil
			})
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestCheckObjectives(t *testing.T) {
	objectives := []v1alpha1.PlanObjective{
		within(v1alpha1.SeverityHigh, "", time.Minute),
		within(v1alpha1.SeverityHigh, `event.source.?product.orValue("") == "falco"`, time.Minute),
	}
	if err := CheckObjectives(objectives); err != nil {
		t.Errorf("got %v, want no problem", err)
	}
	objectives = append(objectives, within(v1alpha1.SeverityHigh, `event.sorce == "x"`, time.Minute), within(v1alpha1.SeverityLow, `"text"`, time.Minute))
	err := CheckObjectives(objectives)
	if err == nil || !strings.Contains(err.Error(), "`objectives[2].when` 1:6:") || !strings.Contains(err.Error(), "`objectives[3].when` 1:1: must yield a bool") {
		t.Errorf("got %v, want both places", err)
	}
}

func TestDeferredSince(t *testing.T) {
	at := func(outcome v1alpha1.AssessmentOutcome, hour int) v1alpha1.Assessment {
		return v1alpha1.Assessment{Outcome: outcome, Time: metav1.NewTime(time.Date(2026, 11, 21, hour, 0, 0, 0, time.UTC))}
	}
	for name, test := range map[string]struct {
		earlier []v1alpha1.Assessment
		want    int
	}{
		"once":               {nil, 9},
		"and once more":      {[]v1alpha1.Assessment{at(v1alpha1.OutcomeDeferred, 3), at(v1alpha1.OutcomeDeferred, 5)}, 3},
		"detached":           {[]v1alpha1.Assessment{at(v1alpha1.OutcomeDeferred, 3), at(v1alpha1.OutcomePromoted, 5)}, 9},
		"detached, and then": {[]v1alpha1.Assessment{at(v1alpha1.OutcomePromoted, 3), at(v1alpha1.OutcomeDeferred, 5)}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			status := &v1alpha1.SecurityEventStatus{Assessment: at(v1alpha1.OutcomeDeferred, 9), EarlierAssessments: test.earlier}
			if got := DeferredSince(status); got.Hour() != test.want {
				t.Errorf("got %s, want %d:00", got, test.want)
			}
		})
	}
}
