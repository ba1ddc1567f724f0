package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// MaxUndo is how many bytes an undo record may have. One that is too large for the
// incident's status is kept as Evidence.
const MaxUndo = 1 << 20

const (
	// maxInlineUndo is up to how many bytes an undo record is kept in the incident's status.
	maxInlineUndo = 4096
	// minInlineUndo is up to how many it is kept there however many there are: a reference
	// to Evidence takes nearly as much.
	minInlineUndo = 384
	// allInlineUndo is how many bytes the records in the status may have together.
	allInlineUndo = 384 << 10
	// outsideUndo begins a reference. No action's record begins like that.
	outsideUndo = `{"keptInEvidence":`
)

// ErrUndoLost says that the bytes of an undo record are not there any more, or are not
// what was kept. Trying again cannot help.
var ErrUndoLost = errors.New("the undo record is lost")

// UndoReference names an undo record that is too large for an incident's status.
type UndoReference struct {
	// Evidence is the name of the Evidence, of type UndoRecord, in the incident's namespace.
	Evidence string `json:"name"`
	// Digest is the SHA-256 of the bytes, as 'sha256:' and 64 hexadecimal digits.
	Digest string `json:"digest"`
}

func (u UndoReference) String() string {
	return fmt.Sprintf("Evidence '%s' (%s)", u.Evidence, u.Digest)
}

// undoStandIn is what the status keeps instead of the record.
type undoStandIn struct {
	Kept UndoReference `json:"keptInEvidence"`
}

// Do asks an action for one verb about the request's target. The action sees its undo
// record as it was planned, wherever it is kept: what does not fit into the incident's
// status is Evidence before the intent is on record, and so before the effect.
func Do(ctx context.Context, does Action, verb lifecycle.Verb, r *Request) lifecycle.Result {
	kept := r.Target.Undo
	if problem := r.fetchUndo(ctx, verb); problem != nil {
		return *problem
	}
	switch verb {
	case lifecycle.VerbPlan:
		return r.keepUndo(ctx, does.Plan(ctx, r), kept)
	case lifecycle.VerbApply:
		if problem := r.planAnew(ctx, does); problem != nil {
			return *problem
		}
		return does.Apply(ctx, r)
	case lifecycle.VerbObserve:
		return does.Observe(ctx, r)
	case lifecycle.VerbUndo:
		return does.Undo(ctx, r)
	default:
		return refused("no action can be asked to %s", verb)
	}
}

// inlineUndo is up to how many bytes, as JSON, a record of this step is kept in the status:
// what is left there is shared among all targets that may get one now.
func (r *Request) inlineUndo() int {
	left, without := allInlineUndo, 1
	for i := range r.Incident.Status.Steps {
		step := &r.Incident.Status.Steps[i]
		for j := range step.Targets {
			if undo := step.Targets[j].Undo; undo != "" {
				left -= lifecycle.JSONLen(undo)
			} else if step.State == v1alpha1.StepRunning {
				without++
			}
		}
	}
	return max(left/without, minInlineUndo)
}

// fitsInline says whether a record of this step is kept in the status.
func (r *Request) fitsInline(undo string) bool {
	return len(undo) <= maxInlineUndo && lifecycle.JSONLen(undo) <= r.inlineUndo()
}

// keepUndo moves a planned record that is too large for the status into Evidence. kept is
// what the status holds already. In a dry run there will be nothing to undo: it is not kept.
func (r *Request) keepUndo(ctx context.Context, result lifecycle.Result, kept string) lifecycle.Result {
	switch {
	case r.fitsInline(result.Undo), result.Undo == kept:
		return result
	case result.Undo == r.Target.Undo && kept != result.Undo:
		result.Undo = kept // it is that record, unchanged
		return result
	case len(result.Undo) > MaxUndo:
		return refused("%s: %d bytes would have to be kept before it is done, and there is room for %d; nothing was done", r.targetName(), len(result.Undo), MaxUndo)
	case r.Evidence == nil:
		return refused("%s: %d bytes would have to be kept as Evidence before it is done, and there is no evidence store; nothing was done", r.targetName(), len(result.Undo))
	}
	if r.DryRun {
		result.Undo = ""
		return result
	}
	reference, err := r.Evidence.KeepUndo(ctx, r, []byte(result.Undo))
	if err != nil {
		return failed("%s: what must be kept before it is done could not be kept, so nothing was done: %v", r.targetName(), err)
	}
	text, err := json.Marshal(undoStandIn{reference})
	if err != nil || len(text) > maxInlineUndo {
		return refused("%s: %s cannot be referred to, so nothing was done", r.targetName(), reference)
	}
	result.Undo = string(text)
	return result
}

// planAnew plans a dry run once more whose record was not kept: Apply reads in it what is to
// be tried. It gives what there is to say when there is nothing to try any more.
func (r *Request) planAnew(ctx context.Context, does Action) *lifecycle.Result {
	if !r.DryRun || r.Target.Undo != "" {
		return nil
	}
	planned := does.Plan(ctx, r)
	switch planned.State {
	case v1alpha1.TargetActing:
		r.Target.Undo = planned.Undo
		return nil
	case v1alpha1.TargetHeld: // since it was planned
		planned = refused("%s", planned.Message)
	case v1alpha1.TargetFailed:
		planned.Unknown = true // whether it would be accepted
	}
	planned.Undo = ""
	return &planned
}

// fetchUndo puts the record that the target's status refers to in its place.
func (r *Request) fetchUndo(ctx context.Context, verb lifecycle.Verb) *lifecycle.Result {
	if !strings.HasPrefix(r.Target.Undo, outsideUndo) {
		return nil
	}
	standIn := undoStandIn{}
	if err := json.Unmarshal([]byte(r.Target.Undo), &standIn); err != nil {
		problem := refused("%s: where the undo record is kept cannot be read: %v", r.targetName(), err)
		return &problem
	}
	if r.Evidence == nil {
		problem := refused("%s: its undo record is %s, and there is no evidence store", r.targetName(), standIn.Kept)
		return &problem
	}
	record, err := r.Evidence.ReadUndo(ctx, r.Incident.Namespace, standIn.Kept)
	switch {
	case errors.Is(err, ErrUndoLost):
		problem := refused("%s: its undo record, %s, cannot be used, so nothing was %s: %v; bring the bytes back from a backup of the evidence store and retry the step, or %s by hand",
			r.targetName(), standIn.Kept, doneBy(verb), err, byHand(verb))
		problem.Unknown = true
		return &problem
	case err != nil:
		problem := failed("%s: its undo record, %s, could not be read: %v", r.targetName(), standIn.Kept, err)
		problem.Unknown = true
		return &problem
	}
	r.Target.Undo = string(record)
	return nil
}

// recordOf reads the undo record of another target of the incident, wherever it is kept.
func (r *Request) recordOf(ctx context.Context, undo string) ([]byte, error) {
	standIn := undoStandIn{}
	switch {
	case !strings.HasPrefix(undo, outsideUndo):
		return []byte(undo), nil
	case r.Evidence == nil:
		return nil, errors.New("there is no evidence store")
	}
	if err := json.Unmarshal([]byte(undo), &standIn); err != nil {
		return nil, err
	}
	return r.Evidence.ReadUndo(ctx, r.Incident.Namespace, standIn.Kept)
}

func doneBy(verb lifecycle.Verb) string {
	switch verb {
	case lifecycle.VerbUndo:
		return "undone"
	case lifecycle.VerbObserve:
		return "looked at"
	default:
		return "done"
	}
}

func byHand(verb lifecycle.Verb) string {
	if verb == lifecycle.VerbUndo {
		return "undo it"
	}
	return "do it"
}
