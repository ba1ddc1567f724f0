package expression

import (
	"testing"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

func TestParseStep(t *testing.T) {
	for name, test := range map[string]struct {
		raw       string
		wantError string
	}{
		"good":             {raw: `{"target": "Pods", "isolate": {}}`},
		"a name is given":  {raw: `{"name": "mine", "target": "Nodes", "cordon": {}}`},
		"no object":        {`"collect"`, "`action` must be an object"},
		"null":             {`null`, "`action` must be an object"},
		"not JSON":         {`{`, "`action` must be an object"},
		"no action":        {`{"target": "Pods"}`, "exactly one of the fields in [collect isolate"},
		"two actions":      {`{"target": "Pods", "isolate": {}, "delete": {}}`, "exactly one of the fields in [collect isolate"},
		"an unknown field": {`{"target": "Pods", "isolate": {"ingres": "Deny"}}`, "there is no such field: `isolate.ingres`"},
		"a bad value":      {`{"target": "Pods", "isolate": {"ingress": "Perhaps"}}`, "supported values: \"Allow\", \"Deny\""},
		"a bad target":     {`{"target": "Pods", "cordon": {}}`, "`target` must be 'Nodes' for 'cordon', 'drain' and 'taint'"},
		"no target":        {`{"isolate": {}}`, "`target` or `targets` must be set"},
		"a bad duration":   {`{"target": "Pods", "isolate": {}, "timeout": "48h"}`, "`timeout` must be from '1s' to '24h'"},
		"too many tries":   {`{"target": "Pods", "isolate": {}, "retry": {"attempts": 99}}`, "should be less than or equal to 20"},
	} {
		t.Run(name, func(t *testing.T) {
			step, err := ParseStep(t.Context(), "adhoc-1", []byte(test.raw))
			checkError(t, err, test.wantError)
			if err == nil && (step.Name != "adhoc-1" || step.Timeout.Duration != 5*time.Minute || step.OnFailure != v1alpha1.OnFailureEscalate) {
				t.Errorf("got %+v", step)
			}
		})
	}
}

func TestCheckAdHoc(t *testing.T) {
	playbook := &v1alpha1.ResponsePlaybookSpec{Containment: v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{
		{Name: "isolate", Target: v1alpha1.TargetPods, Isolate: &v1alpha1.IsolateAction{}}}}}
	earlier := []*v1alpha1.PlaybookStep{{Name: "adhoc-1", Target: v1alpha1.TargetPods, Isolate: &v1alpha1.IsolateAction{}}}
	revert := func(names ...v1alpha1.StepName) v1alpha1.PlaybookStep {
		return v1alpha1.PlaybookStep{Name: "adhoc-2", Revert: &v1alpha1.RevertAction{Steps: names}}
	}
	for name, test := range map[string]struct {
		step      v1alpha1.PlaybookStep
		wantError string
	}{
		"a step of the playbook": {step: revert("isolate")},
		"a step beside it":       {step: revert("adhoc-1")},
		"no such step":           {revert("nope"), "`revert.steps` names \"nope\""},
		"when":                   {v1alpha1.PlaybookStep{Name: "adhoc-2", When: "incidnt.x", Collect: &v1alpha1.CollectAction{}}, "undeclared reference to 'incidnt'"},
	} {
		t.Run(name, func(t *testing.T) {
			checkError(t, CheckAdHoc(playbook, earlier, &test.step), test.wantError)
		})
	}
}
