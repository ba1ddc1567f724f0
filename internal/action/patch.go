package action

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// patch sets fields of the target by server-side apply. The API server itself says, by a
// dry run, which fields that are; what they had before is recorded.
type patch struct{}

var _ = register("patch", patch{})

// changeRecord is what undoing a change needs.
type changeRecord struct {
	// Fields are what an expression has yielded: it is evaluated once. Empty when the
	// playbook has written them out.
	Fields json.RawMessage `json:"fields,omitempty"`
	// Set are the fields that are set.
	Set []setField `json:"set,omitempty"`
}

func decodeChangeRecord(text string) (*changeRecord, error) {
	record := &changeRecord{}
	if err := json.Unmarshal([]byte(text), record); err != nil {
		return nil, fmt.Errorf("the record of what to undo cannot be read: %w", err)
	}
	return record, nil
}

// fields gives what the step sets: what an earlier try has evaluated, or what the
// playbook says.
func (patch) fields(r *Request, record *changeRecord) (map[string]any, error) {
	if len(record.Fields) > 0 {
		fields := map[string]any{}
		if err := utiljson.Unmarshal(record.Fields, &fields); err != nil {
			return nil, fmt.Errorf("the record of what was set cannot be read: %w", err)
		}
		return fields, nil
	}
	return decodeFields(r.Step.Patch.Fields, "patch.fields")
}

func (patch) render(ctx context.Context, r *Request, live *unstructured.Unstructured) (map[string]any, json.RawMessage, error) {
	if r.Step.Patch.Expression == "" {
		fields, err := decodeFields(r.Step.Patch.Fields, "patch.fields")
		return fields, nil, err
	}
	fields, err := r.Values.Object(ctx, r.Incident, r.Step.Patch.Expression, live.Object)
	if err != nil {
		return nil, nil, fmt.Errorf("`patch.expression` %w", err)
	}
	raw, err := json.Marshal(fields)
	return fields, raw, err
}

// live reads the target, or says why nothing can be set on it.
func (patch) live(ctx context.Context, r *Request) (*unstructured.Unstructured, *lifecycle.Result) {
	var problem lifecycle.Result
	if r.Step.Patch == nil {
		problem = refused("step '%s' has no `patch`", r.Step.Name)
		return nil, &problem
	}
	if isOwnGroup(kindOf(&r.Target).Group) {
		problem = refused("%s is of Firebreak's own kinds: a playbook must not change them", r.targetName())
		return nil, &problem
	}
	if isSecret(kindOf(&r.Target)) {
		problem = refused("%s is a Secret: %s", r.targetName(), saysSecret)
		return nil, &problem
	}
	return r.present(ctx)
}

// Plan asks the API server which fields are set, and records what they have now.
func (p patch) Plan(ctx context.Context, r *Request) lifecycle.Result {
	live, problem := p.live(ctx, r)
	if problem != nil {
		return *problem
	}
	record := &changeRecord{}
	if r.Target.Undo != "" && (r.Target.Losses > 0 || isOwner(live, r.stepOwner())) {
		// An earlier try has set fields: what they were before it counts.
		return acting(r.targetName(), live, []byte(r.Target.Undo), r.targetName()+" will be changed")
	}
	fields, raw, err := p.render(ctx, r, live)
	if err != nil {
		return refused("%v", err)
	}
	if err := checkFields(fields); err != nil {
		return refused("`patch` %v", err)
	}
	if len(fields) == 0 {
		return refused("`patch` sets nothing: it must have at least one field")
	}
	c := &change{request: r, target: r.Target, fields: fields}
	record.Fields = raw
	if record.Set, problem = c.plan(ctx, live); problem != nil {
		return *problem
	}
	result := planned(record, c.name(), fieldNames(record.Set))
	result.Warning = fights(c.name(), live)
	return result
}

// planned gives the record of a change, if it fits.
func planned(record any, name, what string) lifecycle.Result {
	undo, err := json.Marshal(record)
	switch {
	case err != nil:
		return refused("%s: %v", name, err)
	case len(undo) > MaxUndo:
		return refused("%s is not changed: to undo it %d bytes would have to be kept, and there is room for %d; set fewer fields in one step", name, len(undo), MaxUndo)
	}
	return lifecycle.Result{State: v1alpha1.TargetActing, Undo: string(undo), Message: say("%s: will set %s", name, what)}
}

// Apply sets the fields, if they still have what is recorded.
func (p patch) Apply(ctx context.Context, r *Request) lifecycle.Result {
	var result lifecycle.Result
	for range patchTries {
		live, problem := p.live(ctx, r)
		if problem != nil {
			return *problem
		}
		c, record, problem := p.recorded(r)
		if problem != nil {
			return *problem
		}
		if result = c.make(ctx, live, record.Set); made(result) {
			break
		}
	}
	return result
}

func (p patch) recorded(r *Request) (*change, *changeRecord, *lifecycle.Result) {
	record, err := decodeChangeRecord(r.Target.Undo)
	var fields map[string]any
	if err == nil {
		fields, err = p.fields(r, record)
	}
	if err == nil {
		err = checkFields(fields)
	}
	if err != nil {
		problem := refused("%v", err)
		return nil, nil, &problem
	}
	return &change{request: r, target: r.Target, fields: fields}, record, nil
}

// Observe looks whether the fields have what was set.
func (p patch) Observe(ctx context.Context, r *Request) lifecycle.Result {
	live, problem := p.live(ctx, r)
	switch {
	case problem != nil && problem.State == v1alpha1.TargetGone:
		problem.State = v1alpha1.TargetSucceeded
		return *problem
	case problem != nil:
		return *problem
	}
	c, record, problem := p.recorded(r)
	if problem != nil {
		return *problem
	}
	return c.observe(ctx, live, record.Set)
}

// Undo puts back what the fields had.
func (patch) Undo(ctx context.Context, r *Request) lifecycle.Result {
	if r.Target.Undo == "" {
		return reverted("nothing was done to it")
	}
	record, err := decodeChangeRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	c := &change{request: r, target: r.Target}
	return c.undo(ctx, record.Set)
}
