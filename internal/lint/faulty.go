package lint

import (
	"context"
	"slices"

	"github.com/firebreak-dev/firebreak/internal/manifest"
)

// checkFaulty looks at the expressions and references of an object that the API server would
// refuse, so that one round tells of all mistakes. What is said about a field that is wrong
// already may follow from that, and so may all else that is not about a single field.
func (r *run) checkFaulty(ctx context.Context, object *manifest.Object) error {
	faults := slices.Clone(r.report.Findings)
	defer func() {
		found := r.report.Findings[len(faults):]
		r.report.Findings = append(faults, slices.DeleteFunc(found, func(one Finding) bool {
			return one.Severity != Error || one.Reason != ReasonExpression && one.Reason != ReasonReference ||
				slices.ContainsFunc(faults, func(fault Finding) bool { return fault.Position == one.Position })
		})...)
	}()
	switch object.Kind {
	case "ClassificationPolicy":
		one := &policy{Object: object}
		if object.Decode(&one.spec) == nil {
			r.checkPolicy(one)
		}
	case "ResponsePlaybook":
		one := &playbook{Object: object}
		if object.Decode(&one.spec) == nil {
			one.spec.Namespace = object.Namespace
			return r.checkPlaybook(ctx, one)
		}
	}
	return nil
}
