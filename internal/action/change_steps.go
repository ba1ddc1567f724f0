package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// otherSteps is what other steps of the same incident have set on an object: a later step
// may set what an earlier one has.
type otherSteps struct {
	live *unstructured.Unstructured
	// owned are the fields whose owner has the name of such a step.
	owned *fieldpath.Set
	// recorded are the fields by the incident's record.
	recorded []setField
}

func (c *change) otherSteps(ctx context.Context, live *unstructured.Unstructured) (*otherSteps, error) {
	others := &otherSteps{live: live, owned: &fieldpath.Set{}}
	for _, entry := range live.GetManagedFields() {
		if entry.Manager == c.request.stepOwner() || !strings.HasPrefix(entry.Manager, ownerPrefix) || !strings.Contains(entry.Manager, c.request.incidentMark()) {
			continue
		}
		set, err := ownedBy(live, entry.Manager)
		if err != nil {
			return nil, err
		}
		others.owned = others.owned.Union(set)
	}
	if others.owned.Empty() {
		return others, nil
	}
	var err error
	others.recorded, err = c.request.recordedBySteps(ctx, c.target.UID)
	return others, err
}

// unsure is a failure because what other steps have set cannot be told. It is no loss. Where
// their record is lost for good a person must see to it.
func (c *change) unsure(err error) lifecycle.Result {
	problem := failed("%s: %v", c.name(), err)
	if errors.Is(err, ErrUndoLost) {
		problem = refused("%s: whether another step has set what it has now cannot be told: %v; bring the bytes back from a backup of the evidence store, or see to it by hand", c.name(), err)
	}
	problem.Unknown = true
	return problem
}

// have says of a field that another step of the same incident has set it, or something in
// it, to what it has now. Anybody can write under a step's name: what counts is the record.
func (o *otherSteps) have(field *setField, path fieldpath.Path) bool {
	return o.owned.Has(path) && slices.ContainsFunc(o.recorded, func(one setField) bool {
		shorter := min(len(one.Path), len(field.Path))
		if !slices.Equal(one.Path[:shorter], field.Path[:shorter]) {
			return false
		}
		at, err := one.path()
		if err != nil {
			return false
		}
		now, _, _ := find(o.live.Object, at)
		return hashValue(now) == one.After
	})
}

// recordedBySteps gives what the incident has on record that its other steps have set on
// an object.
func (r *Request) recordedBySteps(ctx context.Context, uid v1alpha1.ObjectUID) ([]setField, error) {
	var all []setField
	for i := range r.Incident.Status.Steps {
		step := &r.Incident.Status.Steps[i]
		if step.Name == r.Step.Name || step.Action != "patch" && step.Action != "apply" {
			continue
		}
		for j := range step.Targets {
			target := &step.Targets[j]
			if target.Undo == "" || step.Action == "patch" && target.UID != uid {
				continue
			}
			undo, err := r.recordOf(ctx, target.Undo)
			if err != nil {
				return nil, fmt.Errorf("the undo record of step '%s' cannot be read: %w", step.Name, err)
			}
			record := &applyRecord{}
			if err := json.Unmarshal(undo, record); err == nil && (step.Action == "patch" || record.Ref.UID == uid) {
				all = append(all, record.Set...)
			}
		}
	}
	return all, nil
}
