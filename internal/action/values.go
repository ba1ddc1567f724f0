package action

import (
	"context"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Values evaluates the expressions of a playbook's steps. What comes from an alert is
// only ever data in them. Where target is nil, the step acts on the incident as a whole,
// and `object` is absent. An error says why, in words for the playbook's author.
type Values interface {
	// Targets evaluates `targets`: at most 128 references, each with apiVersion, kind and name.
	Targets(ctx context.Context, incident *v1alpha1.Incident, expression v1alpha1.Expression) ([]v1alpha1.ResourceReference, error)
	// Object evaluates an expression that yields an object; it shares nothing with target.
	Object(ctx context.Context, incident *v1alpha1.Incident, expression v1alpha1.Expression, target map[string]any) (map[string]any, error)
	// Value evaluates an expression that yields whatever JSON has.
	Value(ctx context.Context, incident *v1alpha1.Incident, expression v1alpha1.Expression, target map[string]any) (any, error)
	// Text evaluates an expression that yields text.
	Text(ctx context.Context, incident *v1alpha1.Incident, expression v1alpha1.Expression, target map[string]any) (string, error)
	// FromResponse evaluates an expression over an answer; it yields whatever JSON has.
	FromResponse(ctx context.Context, expression v1alpha1.Expression, response map[string]any) (any, error)
}

// onIncident says that the step acts on no object, but on the incident as a whole.
func (r *Request) onIncident() bool {
	return r.Target.Kind == "Incident" && string(r.Target.UID) == string(r.Incident.UID)
}
