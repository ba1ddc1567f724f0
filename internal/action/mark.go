package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// holdMark is what a step leaves on an object whose value it holds, as an annotation of its
// own: several incidents may hold one value, and the last to let go gives back what was
// there before the first.
type holdMark struct {
	// Incident is who holds it, as 'namespace/name', for people.
	Incident string `json:"incident"`
	// Of says which value is held, where an action can hold several of one object.
	Of string `json:"of,omitempty"`
	// Want is the value it is held at; nil means none.
	Want any `json:"want"`
	// Before is the value before any incident held it; nil means none.
	Before any `json:"before"`
}

// holdRecord is what undoing a held value needs.
type holdRecord struct {
	Mark   string `json:"mark"`
	Of     string `json:"of,omitempty"`
	Want   any    `json:"want"`
	Before any    `json:"before"`
}

// holding is one value of the target that a step sets, and holds until it is undone.
type holding struct {
	// prefix begins the keys of the marks.
	prefix string
	of     string
	want   any
	// read gives the value; nil when there is none.
	read func(*unstructured.Unstructured) (any, error)
	// write gives the merge patch that sets it.
	write func(object *unstructured.Unstructured, value any) map[string]any
	// valid says of what a mark names as the value before that it can be one.
	valid func(any) bool
	// varies says that steps may hold it at different values, none of which is nothing.
	varies bool
	// is, isNot and again say what the value means, after the target's name.
	is, isNot, again string
}

// holdKey is the key of the mark that this step leaves.
func (r *Request) holdKey(prefix string) string {
	return prefix + ShortHash(shortHashDigits, string(r.Incident.UID), r.Step.Name)
}

// holdMarksOf gives the marks of one value of an object, by their keys.
func holdMarksOf(object metav1.Object, prefix, of string) map[string]holdMark {
	marks := map[string]holdMark{}
	for key, text := range object.GetAnnotations() {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		one := holdMark{}
		if utiljson.Unmarshal([]byte(text), &one) == nil && one.Incident != "" && one.Of == of {
			marks[key] = one
		}
	}
	return marks
}

// heldAt is the value that several marks hold together. Whoever may write annotations may
// forge a mark: one can keep a value held, but can never let it go.
func (h *holding) heldAt(marks map[string]holdMark) any {
	if h.varies {
		for _, key := range slices.Sorted(maps.Keys(marks)) {
			if want := marks[key].Want; want != nil && h.valid(want) {
				return want
			}
		}
	}
	return h.want
}

// holders names who holds by the marks.
func holders(marks map[string]holdMark) string {
	var names []string
	for _, one := range marks {
		if name := "'" + one.Incident + "'"; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return "incident " + strings.Join(names, ", ")
}

func (r *Request) decodeHold(h *holding) (*holdRecord, error) {
	record := &holdRecord{}
	if err := utiljson.Unmarshal([]byte(r.Target.Undo), record); err != nil {
		return nil, fmt.Errorf("the record of what to undo cannot be read: %w", err)
	}
	if !strings.HasPrefix(record.Mark, h.prefix) || record.Of != h.of {
		return nil, errors.New("the record of what to undo is not of this step")
	}
	return record, nil
}

// present reads the target whole.
func (r *Request) present(ctx context.Context) (*unstructured.Unstructured, *lifecycle.Result) {
	object, err := r.object(ctx, kindOf(&r.Target), targetKey(&r.Target))
	return object, r.absent(object, err)
}

// mustBe refuses a target of a kind that the action cannot act on.
func (r *Request) mustBe(kinds ...schema.GroupVersionKind) *lifecycle.Result {
	names := make([]string, 0, len(kinds))
	for _, kind := range kinds {
		if kindOf(&r.Target).GroupKind() == kind.GroupKind() {
			return nil
		}
		names = append(names, kind.Kind)
	}
	problem := refused("%s of '%s' is nothing that this action can act on: it must be a %s", r.targetName(), r.Target.APIVersion, strings.Join(names, ", "))
	return &problem
}

// plan finds out what is to be given back when the value is let go.
func (h *holding) plan(object *unstructured.Unstructured, r *Request) lifecycle.Result {
	current, err := h.read(object)
	if err != nil {
		return refused("%v", err)
	}
	record := holdRecord{Mark: r.holdKey(h.prefix), Of: h.of, Want: h.want, Before: current}
	marks := holdMarksOf(object, h.prefix, h.of)
	own, held := marks[record.Mark]
	if held {
		marks = map[string]holdMark{record.Mark: own}
	}
	if earlier, err := r.decodeHold(h); err == nil && (held || r.Target.Losses > 0) {
		// An earlier try of this step has made its effect, or it was taken away since: what
		// is there now is not what was there before.
		record.Before, marks = earlier.Before, nil
	}
	undo, err := json.Marshal(record)
	for _, key := range slices.Sorted(maps.Keys(marks)) {
		// What cannot be given back was forged: it must not stand in the way.
		if record.Before = marks[key].Before; h.valid(record.Before) {
			if inherited, err := json.Marshal(record); err == nil && len(inherited) <= MaxUndo {
				undo = inherited
				break
			}
		}
	}
	if err != nil || len(undo) > MaxUndo {
		return refused("what is to be given back to %s is more than can be recorded: nothing was done", r.targetName())
	}
	return acting(r.targetName(), object, undo, fmt.Sprintf("to be done: %s %s", r.targetName(), h.is))
}

// apply sets the value and leaves the mark, with one write.
func (h *holding) apply(ctx context.Context, r *Request) lifecycle.Result {
	record, err := r.decodeHold(h)
	if err != nil {
		return refused("%v", err)
	}
	text, err := json.Marshal(holdMark{Incident: r.Incident.Namespace + "/" + r.Incident.Name, Of: h.of, Want: h.want, Before: record.Before})
	if err != nil {
		return refused("%v", err)
	}
	object, problem := r.write(ctx, func(object *unstructured.Unstructured) (map[string]any, error) {
		marks := holdMarksOf(object, h.prefix, h.of)
		marks[record.Mark] = holdMark{Want: h.want}
		body, err := h.change(object, h.heldAt(marks))
		if object.GetAnnotations()[record.Mark] != string(text) {
			body = withAnnotation(body, record.Mark, string(text))
		}
		return body, err
	})
	if problem != nil {
		return *problem
	}
	if result := h.judge(object, record, r); result.State != v1alpha1.TargetFailed {
		return result
	}
	return refused("%s: it was written that it %s, but the API server has not kept that: the kind may have no such field", r.targetName(), h.is)
}

// change gives what sets the value; nothing when it is so already.
func (h *holding) change(object *unstructured.Unstructured, value any) (map[string]any, error) {
	current, err := h.read(object)
	if err != nil || equality.Semantic.DeepEqual(current, value) {
		return nil, err
	}
	return h.write(object, value), nil
}

func withAnnotation(body map[string]any, key string, value any) map[string]any {
	if body == nil {
		body = map[string]any{}
	}
	body["metadata"] = map[string]any{"annotations": map[string]any{key: value}}
	return body
}

// write patches the target by what change gives for the object as it is, and no other
// object: with another UID or in another version the patch is refused. It gives the
// object as it is then.
func (r *Request) write(ctx context.Context, change func(*unstructured.Unstructured) (map[string]any, error)) (*unstructured.Unstructured, *lifecycle.Result) {
	var last error
	for range patchTries {
		object, problem := r.present(ctx)
		if problem != nil {
			return nil, problem
		}
		body, err := change(object)
		if err == nil && len(body) == 0 {
			return object, nil
		}
		var patch []byte
		if err == nil {
			patch, err = json.Marshal(pinned(body, object))
		}
		if err != nil {
			problem := refused("%v", err)
			return nil, &problem
		}
		last = r.Client.Patch(ctx, object, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldOwner(r.Incident)))
		switch {
		case last == nil:
			return object, nil
		case apierrors.IsConflict(last), apierrors.IsNotFound(last), apierrors.IsInvalid(last):
			// Changed or replaced since it was read: look again.
		default:
			problem := r.failure(last, r.targetAccess("patch"))
			return nil, &problem
		}
	}
	problem := r.failure(last, r.targetAccess("patch"))
	return nil, &problem
}

// pinned makes a patch that is refused for any other object or version.
func pinned(body map[string]any, object *unstructured.Unstructured) map[string]any {
	metadata, _ := body["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata["uid"], metadata["resourceVersion"] = string(object.GetUID()), object.GetResourceVersion()
	body["metadata"] = metadata
	return body
}

// observe looks whether the value stands and is marked.
func (h *holding) observe(ctx context.Context, r *Request) lifecycle.Result {
	record, err := r.decodeHold(h)
	if err != nil {
		return refused("%v", err)
	}
	object, problem := r.present(ctx)
	if problem != nil {
		return r.stillGone(*problem)
	}
	return h.judge(object, record, r)
}

func (h *holding) judge(object *unstructured.Unstructured, record *holdRecord, r *Request) lifecycle.Result {
	current, err := h.read(object)
	if err != nil {
		return refused("%v", err)
	}
	marks := holdMarksOf(object, h.prefix, h.of)
	if _, held := marks[record.Mark]; !held {
		return takenBack(object, "%s: something has taken away the annotation '%s', by which others see that this incident holds it", r.targetName(), record.Mark)
	}
	if !equality.Semantic.DeepEqual(current, h.heldAt(marks)) {
		return takenBack(object, "something has changed what was done: %s %s", r.targetName(), h.isNot)
	}
	return done("%s %s", r.targetName(), h.is)
}

// stillGone makes a success of the first observation that the target is gone: what is no
// more needs no containment. Later ones say that nothing is left to be held.
func (r *Request) stillGone(result lifecycle.Result) lifecycle.Result {
	if result.State == v1alpha1.TargetGone && r.Target.State != v1alpha1.TargetSucceeded {
		result.State = v1alpha1.TargetSucceeded
	}
	return result
}

// undo takes the mark away, and gives back what was there before when it was the last
// and nobody has changed the value since.
func (h *holding) undo(ctx context.Context, r *Request) lifecycle.Result {
	if r.Target.Undo == "" {
		return reverted("nothing was done to it")
	}
	record, err := r.decodeHold(h)
	if err != nil {
		return refused("%v", err)
	}
	message := ""
	_, problem := r.write(ctx, func(object *unstructured.Unstructured) (map[string]any, error) {
		body, says, err := h.release(object, record)
		message = says
		return body, err
	})
	if problem != nil {
		return undone(*problem)
	}
	return reverted("%s %s", r.targetName(), message)
}

// undone makes a reverted target of one that is gone.
func undone(result lifecycle.Result) lifecycle.Result {
	if result.State == v1alpha1.TargetGone {
		result.State = v1alpha1.TargetReverted
	}
	return result
}

func (h *holding) release(object *unstructured.Unstructured, record *holdRecord) (body map[string]any, says string, err error) {
	current, err := h.read(object)
	if err != nil {
		return nil, "", err
	}
	marks := holdMarksOf(object, h.prefix, h.of)
	if _, held := marks[record.Mark]; !held {
		return nil, "is left as it is: nothing of this step is on it (any more)", nil
	}
	standing := equality.Semantic.DeepEqual(current, h.heldAt(marks))
	delete(marks, record.Mark)
	back, says := record.Before, h.again
	if len(marks) > 0 {
		back, says = h.heldAt(marks), "stays as it is: "+holders(marks)+" holds it too"
	}
	switch {
	case !standing:
		says = "is left as it is: somebody has changed it since"
	case !equality.Semantic.DeepEqual(current, back):
		body = h.write(object, back)
	case len(marks) == 0:
		says = "stays as it is: it was so before"
	}
	return withAnnotation(body, record.Mark, nil), says, nil
}
