package action

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// rollback takes a workload back to an earlier revision, as `kubectl rollout undo` does.
type rollback struct{}

var _ = register("rollback", rollback{})

// rollbackPrefix begins the keys of the marks that rolling back leaves on a workload. What
// another incident has rolled back is not taken for the revision to leave: the one before
// it would be the bad one.
const rollbackPrefix = "rollback.firebreak.dev/"

// rollbackRecord is what undoing needs.
type rollbackRecord struct {
	Mark string `json:"mark"`
	// From is the revision before, To the one it was taken back to.
	From revisionName `json:"from"`
	To   revisionName `json:"to"`
}

// revisionName names a revision. Its number changes when it is used again; its name and
// the hash of its pod template do not.
type revisionName struct {
	Name   string `json:"name"`
	Number int64  `json:"number"`
	Hash   string `json:"hash"`
}

func (n revisionName) String() string { return fmt.Sprintf("revision %d ('%s')", n.Number, n.Name) }

// Plan finds the revision to go back to, and the present one.
func (rollback) Plan(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Rollback == nil {
		return refused("step '%s' has no `rollback`", r.Step.Name)
	}
	object, problem := r.rollable(ctx)
	if problem != nil {
		return *problem
	}
	revisions, problem := r.revisions(ctx, object)
	if problem != nil {
		return *problem
	}
	record, problem := r.planRollback(object, revisions)
	if problem != nil {
		return *problem
	}
	if record == nil {
		return done("%s runs the template of revision %d already", r.targetName(), r.Step.Rollback.ToRevision)
	}
	undo, err := json.Marshal(record)
	if err != nil || len(undo) > MaxUndo {
		return refused("what %s runs now is more than can be recorded: nothing was done", r.targetName())
	}
	return acting(r.targetName(), object, undo, fmt.Sprintf("%s will be taken from %s back to %s", r.targetName(), record.From, record.To))
}

// planRollback decides from where to where. It gives nothing when the workload is there
// already, without this step's doing.
func (r *Request) planRollback(object *unstructured.Unstructured, revisions []revision) (*rollbackRecord, *lifecycle.Result) {
	key := r.holdKey(rollbackPrefix)
	now := hashOf(templateOf(object))
	marks := rollbackMarks(object)
	if _, own := marks[key]; own && r.Target.Undo != "" {
		if earlier, problem := r.decodeRollback(); problem == nil && earlier.To.Hash == now {
			return earlier, nil
		}
	}
	delete(marks, key)
	at := slices.IndexFunc(revisions, func(one revision) bool { return one.Hash == now })
	if at < 0 {
		problem := failed("none of the %d revisions of %s is what it runs now: its controller may not have seen the last change yet", len(revisions), r.targetName())
		return nil, &problem
	}
	to, problem := r.revisionBefore(object, revisions, at)
	if problem != nil {
		return nil, problem
	}
	from := revisions[at].revisionName
	if to == at {
		// It is there already. What another incident has taken back is held with it.
		held := slices.SortedFunc(maps.Values(marks), func(a, b rollbackRecord) int { return cmp.Compare(a.Mark, b.Mark) })
		held = slices.DeleteFunc(held, func(other rollbackRecord) bool {
			return other.To.Hash != now || !slices.ContainsFunc(revisions, func(one revision) bool { return one.Name == other.From.Name && one.Hash == other.From.Hash })
		})
		if len(held) == 0 {
			return nil, nil
		}
		from = held[0].From
	}
	return &rollbackRecord{Mark: key, From: from, To: revisions[to].revisionName}, nil
}

// revisionBefore gives the index of the revision to go back to.
func (r *Request) revisionBefore(object *unstructured.Unstructured, revisions []revision, at int) (int, *lifecycle.Result) {
	var problem lifecycle.Result
	if wanted := r.Step.Rollback.ToRevision; wanted != 0 {
		to := slices.IndexFunc(revisions, func(one revision) bool { return one.Number == wanted })
		if to < 0 {
			problem = refused("%s has no revision %d: it must be one of %s", r.targetName(), wanted, numbersOf(revisions))
			return 0, &problem
		}
		return to, nil
	}
	named := holdMarksOf(object, rollbackPrefix, "")
	delete(named, r.holdKey(rollbackPrefix))
	for key, other := range rollbackMarks(object) {
		if _, foreign := named[key]; foreign && other.To.Hash == revisions[at].Hash {
			// The one before is what was to be left. Whoever may change the workload may
			// also forge this, so that it is not taken for done either.
			problem = refused("%s says of %s that it was taken back from %s already: look whether that is so, or name the revision by `toRevision`", holders(named), r.targetName(), other.From)
			return 0, &problem
		}
	}
	if at == 0 {
		problem = refused("%s has no revision before the present %d", r.targetName(), revisions[at].Number)
		return 0, &problem
	}
	return at - 1, nil
}

// rollbackMarks gives the marks on a workload, by their keys.
func rollbackMarks(object *unstructured.Unstructured) map[string]rollbackRecord {
	marks := map[string]rollbackRecord{}
	for key, one := range holdMarksOf(object, rollbackPrefix, "") {
		text, err := json.Marshal(one.Before)
		record := rollbackRecord{}
		if err == nil && json.Unmarshal(text, &record) == nil && record.To.Hash != "" {
			marks[key] = record
		}
	}
	return marks
}

func (r *Request) decodeRollback() (*rollbackRecord, *lifecycle.Result) {
	record := &rollbackRecord{}
	if err := json.Unmarshal([]byte(r.Target.Undo), record); err != nil || record.Mark == "" || record.From.Hash == "" || record.To.Hash == "" {
		problem := refused("the record of what to undo cannot be read, or names no revisions")
		return nil, &problem
	}
	return record, nil
}

// Apply writes the template of the earlier revision.
func (rollback) Apply(ctx context.Context, r *Request) lifecycle.Result {
	record, problem := r.decodeRollback()
	if problem != nil {
		return *problem
	}
	text, err := json.Marshal(holdMark{Incident: r.Incident.Namespace + "/" + r.Incident.Name, Want: record.To.Name, Before: record})
	if err != nil {
		return refused("%v", err)
	}
	object, problem := r.writeTemplate(ctx, func(object *unstructured.Unstructured) (*templateChange, *lifecycle.Result) {
		change := &templateChange{annotations: map[string]any{}}
		if object.GetAnnotations()[record.Mark] != string(text) {
			change.annotations[record.Mark] = string(text)
		}
		switch hashOf(templateOf(object)) {
		case record.To.Hash:
			return change, nil
		case record.From.Hash:
			change.to = &record.To
			return change, nil
		}
		again := lifecycle.Result{State: v1alpha1.TargetPending, Message: say("%s was changed at the same time: it is planned again", r.targetName())}
		return nil, &again
	})
	if problem != nil {
		return *problem
	}
	return r.rolledOut(object)
}

// Observe looks whether all pods are replaced.
func (rollback) Observe(ctx context.Context, r *Request) lifecycle.Result {
	record, problem := r.decodeRollback()
	if problem != nil {
		return *problem
	}
	object, problem := r.present(ctx)
	if problem != nil {
		return r.stillGone(*problem)
	}
	if hashOf(templateOf(object)) != record.To.Hash {
		return takenBack(object, "somebody has changed the template of %s since it was taken back to %s", r.targetName(), record.To)
	}
	return r.rolledOut(object)
}

// Undo writes the template that was there before, unless somebody has changed it since or
// another incident needs it as it is.
func (rollback) Undo(ctx context.Context, r *Request) lifecycle.Result {
	if r.Target.Undo == "" {
		return reverted("nothing was done to it")
	}
	record, problem := r.decodeRollback()
	if problem != nil {
		return *problem
	}
	says := ""
	_, problem = r.writeTemplate(ctx, func(object *unstructured.Unstructured) (*templateChange, *lifecycle.Result) {
		marks := rollbackMarks(object)
		change := &templateChange{annotations: map[string]any{}}
		if _, held := marks[record.Mark]; !held {
			says = "is left as it is: nothing of this step is on it (any more)"
			return change, nil
		}
		change.annotations[record.Mark] = nil
		delete(marks, record.Mark)
		switch {
		case len(marks) > 0:
			named := holdMarksOf(object, rollbackPrefix, "")
			delete(named, record.Mark)
			says = "stays as it is: " + holders(named) + " has rolled it back too"
		case hashOf(templateOf(object)) != record.To.Hash:
			says = "is left as it is: somebody has changed its template since"
		default:
			says = "has its template of " + record.From.String() + " again"
			change.to = &record.From
		}
		return change, nil
	})
	if problem != nil {
		return undone(*problem)
	}
	return reverted("%s %s", r.targetName(), says)
}

// templateChange is what is written to a workload.
type templateChange struct {
	// to is the revision whose template is written; nil leaves the template.
	to *revisionName
	// annotations are set; nil takes one away.
	annotations map[string]any
}

// writeTemplate writes what change gives for the workload as it is, and to no other. The
// template is replaced as a whole: a JSON patch, since a merge would keep what is new.
func (r *Request) writeTemplate(ctx context.Context, change func(*unstructured.Unstructured) (*templateChange, *lifecycle.Result)) (*unstructured.Unstructured, *lifecycle.Result) {
	var last error
	for range patchTries {
		object, problem := r.present(ctx)
		if problem != nil {
			return nil, problem
		}
		wanted, problem := change(object)
		if problem != nil {
			return nil, problem
		}
		if wanted.to == nil && len(wanted.annotations) == 0 {
			return object, nil
		}
		patch, problem := r.templatePatch(ctx, object, wanted)
		if problem != nil {
			return nil, problem
		}
		last = r.Client.Patch(ctx, object, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(fieldOwner(r.Incident)))
		switch {
		case last == nil:
			return object, nil
		case apierrors.IsConflict(last), apierrors.IsNotFound(last):
			// Changed or replaced since it was read: look again.
		default:
			problem := r.failure(last, r.targetAccess("patch"))
			return nil, &problem
		}
	}
	problem := r.failure(last, r.targetAccess("patch"))
	return nil, &problem
}

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

func (r *Request) templatePatch(ctx context.Context, object *unstructured.Unstructured, change *templateChange) ([]byte, *lifecycle.Result) {
	annotations := map[string]any{}
	for key, value := range object.GetAnnotations() {
		annotations[key] = value
	}
	for key, value := range change.annotations {
		if annotations[key] = value; value == nil {
			delete(annotations, key)
		}
	}
	operations := []operation{
		{Op: "replace", Path: "/metadata/uid", Value: string(object.GetUID())},
		{Op: "replace", Path: "/metadata/resourceVersion", Value: object.GetResourceVersion()},
		{Op: "add", Path: "/metadata/annotations", Value: annotations},
	}
	if change.to != nil {
		revisions, problem := r.revisions(ctx, object)
		if problem != nil {
			return nil, problem
		}
		at := slices.IndexFunc(revisions, func(one revision) bool { return one.Name == change.to.Name && one.Hash == change.to.Hash })
		if at < 0 {
			refusal := refused("%s of %s does not exist any more: its template cannot be brought back", change.to, r.targetName())
			return nil, &refusal
		}
		operations = append(operations, operation{Op: "replace", Path: "/spec/template", Value: revisions[at].template})
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		problem := refused("%v", err)
		return nil, &problem
	}
	return patch, nil
}
