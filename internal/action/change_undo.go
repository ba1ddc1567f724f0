package action

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// undo puts the fields back, each for itself: what somebody has changed since stays.
func (c *change) undo(ctx context.Context, recorded []setField) lifecycle.Result {
	var last error
	for range patchTries {
		live, err := c.request.object(ctx, kindOf(&c.target), targetKey(&c.target))
		switch {
		case apierrors.IsNotFound(err):
			return reverted(saysGone, c.name())
		case err != nil:
			return c.request.failure(err, c.access("get"))
		case string(live.GetUID()) != string(c.target.UID):
			return reverted(saysReplaced, c.name())
		}
		restored, err := c.restored(ctx, live, recorded)
		if err != nil {
			return c.unsure(err)
		}
		last = c.write(ctx, live, restored.object)
		if last == nil {
			return reverted("%s: %s", c.name(), restored.message())
		}
		if !apierrors.IsConflict(last) && !apierrors.IsNotFound(last) {
			break
		}
	}
	return c.request.failure(last, c.access("patch"))
}

// restored is an object with its fields put back.
type restored struct {
	object                                           *unstructured.Unstructured
	back, changed, shared, tooLarge, unknown, failed []string
}

func (c *change) restored(ctx context.Context, live *unstructured.Unstructured, recorded []setField) (*restored, error) {
	owner := c.request.stepOwner()
	result := &restored{object: live.DeepCopy()}
	others, err := otherResponses(live, owner)
	if err != nil {
		return nil, err
	}
	var handOver []setField
	// The last first: an element of a list that was not there goes after what is in it.
	for i := len(recorded) - 1; i >= 0; i-- {
		field := recorded[i]
		path, err := field.path()
		if err != nil {
			return nil, err
		}
		now, ok, _ := find(live.Object, path)
		if field, err = c.takeOver(ctx, live, field); err != nil {
			return nil, err
		}
		switch {
		case others.Has(path):
			result.shared = append(result.shared, field.name())
			handOver = append(handOver, field)
		case ok == (field.Before != nil) && (!ok || hashValue(now) == hashValue(field.Before)) && !field.Shared:
			result.back = append(result.back, field.name())
		case hashValue(now) != field.After:
			result.changed = append(result.changed, field.name())
		case field.Shared:
			result.unknown = append(result.unknown, field.name())
		default:
			if err := field.restore(result.object.Object); err != nil {
				result.failed = append(result.failed, fmt.Sprintf("%s (%v)", field.name(), err))
				continue
			}
			result.back = append(result.back, field.name())
		}
	}
	result.leave(owner, handOver)
	return result, nil
}

// takeOver looks whether the response that had set what the field was before was undone
// since, and has left what it was before that. Anybody can annotate an object: of a step of
// the same incident the record counts, and of another response only what both had set.
func (c *change) takeOver(ctx context.Context, live *unstructured.Unstructured, field setField) (setField, error) {
	var left []setField
	annotations := live.GetAnnotations()
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		var some []setField
		if strings.HasPrefix(key, handoverPrefix) && json.Unmarshal([]byte(annotations[key]), &some) == nil {
			left = append(left, some...)
		}
	}
	if len(left) == 0 {
		return field, nil
	}
	recorded, err := c.request.recordedBySteps(ctx, c.target.UID)
	if err != nil {
		return field, err
	}
	shared := field.Shared
	before := func(one setField) bool {
		return field.Before != nil && slices.Equal(one.Path, field.Path) && one.After == hashValue(field.Before) && !one.Shared
	}
	// Each leaves what it was before itself; no more of them can follow on each other than there are.
	for range left {
		at := slices.IndexFunc(left, before)
		if at < 0 {
			break
		}
		one := left[at]
		if own := slices.IndexFunc(recorded, before); own >= 0 {
			one = recorded[own]
		} else if !shared {
			break
		}
		field.Before, field.Stood, field.Shared = one.Before, one.Stood, false
	}
	return field, nil
}

// maxAnnotations is how many bytes all annotations of an object may have together, as the API
// server counts them.
const maxAnnotations = 256 << 10

// leave takes this response out of the object, and leaves to others what they need. What
// was handed over goes when no other response needs it; what is too large for an annotation
// stays on record here, for a person.
func (s *restored) leave(owner string, handOver []setField) {
	entries := slices.DeleteFunc(s.object.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool { return isEntryOf(entry, owner) })
	s.object.SetManagedFields(entries)
	annotations := s.object.GetAnnotations()
	if !slices.ContainsFunc(entries, func(entry metav1.ManagedFieldsEntry) bool {
		return strings.HasPrefix(entry.Manager, ownerPrefix) && entry.Manager != owner
	}) {
		for key := range annotations {
			if strings.HasPrefix(key, handoverPrefix) {
				delete(annotations, key)
			}
		}
	}
	if len(handOver) > 0 {
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[handoverPrefix+ShortHash(shortHashDigits, owner)] = s.fitting(handOver, annotations)
	}
	if annotations != nil {
		s.object.SetAnnotations(annotations)
	}
}

// fitting gives as much of what is handed over as the object has room for beside its other
// annotations, the largest left out first.
func (s *restored) fitting(handOver []setField, annotations map[string]string) string {
	room := maxAnnotations - 2*len(handoverPrefix)
	for key, text := range annotations {
		room -= len(key) + len(text)
	}
	sizes := make([]int, len(handOver))
	total := 0
	bySize := make([]int, len(handOver))
	for i := range handOver {
		raw, err := json.Marshal(handOver[i])
		if err != nil {
			raw = make([]byte, maxAnnotations)
		}
		sizes[i], bySize[i] = len(raw)+1, i
		total += sizes[i]
	}
	slices.SortStableFunc(bySize, func(a, b int) int { return sizes[b] - sizes[a] })
	left := map[int]bool{}
	for _, i := range bySize {
		if total < room {
			break
		}
		left[i] = true
		total -= sizes[i]
		name := handOver[i].name()
		s.shared = slices.DeleteFunc(s.shared, func(one string) bool { return one == name })
		s.tooLarge = append(s.tooLarge, name)
	}
	kept := []setField{}
	for i := range handOver {
		if !left[i] {
			kept = append(kept, handOver[i])
		}
	}
	raw, err := json.Marshal(kept)
	if err != nil {
		return "[]"
	}
	return string(raw)
}

func (s *restored) message() string {
	var parts []string
	own := func(name string) bool { return strings.Contains(name, changePrefix) }
	for _, part := range []struct {
		says  string
		names []string
	}{
		{"put back", s.back},
		{"left as somebody has set it since", s.changed},
		{"left, because another response needs it", s.shared},
		{"left, because another response needs it, which must put it back by hand: what it was before is too large to be handed over, and is in the undo record of this step", s.tooLarge},
		{"left, because what it was before is not known", s.unknown},
		{"could not be put back", s.failed},
	} {
		if part.names = slices.DeleteFunc(part.names, own); len(part.names) > 0 {
			slices.Sort(part.names)
			parts = append(parts, part.says+": "+strings.Join(part.names, ", "))
		}
	}
	if len(parts) == 0 {
		return "nothing was set"
	}
	return strings.Join(parts, "; ")
}

// write makes the difference between two states of an object, and of no other object.
func (c *change) write(ctx context.Context, live, want *unstructured.Unstructured) error {
	before, err := json.Marshal(live.Object)
	if err != nil {
		return err
	}
	after, err := json.Marshal(want.Object)
	if err != nil {
		return err
	}
	patch, err := jsonpatch.CreateMergePatch(before, after)
	if err != nil {
		return err
	}
	if string(patch) == "{}" {
		return nil
	}
	content := map[string]any{}
	if err := utiljson.Unmarshal(patch, &content); err != nil {
		return err
	}
	for field, text := range map[string]string{"uid": string(live.GetUID()), "resourceVersion": live.GetResourceVersion()} {
		if err := unstructured.SetNestedField(content, text, "metadata", field); err != nil {
			return err
		}
	}
	if patch, err = json.Marshal(content); err != nil {
		return err
	}
	// Not the step's own name: what it gives back is not its own.
	object := live.DeepCopy()
	return c.request.Client.Patch(ctx, object, client.RawPatch(types.MergePatchType, patch), client.FieldOwner("firebreak"))
}
