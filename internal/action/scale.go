package action

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// scale sets the replicas of a workload, by its `scale` subresource: who may scale need
// not be able to change what the pods run.
type scale struct{}

var _ = register("scale", scale{})

// scaleRecord is what undoing needs.
type scaleRecord struct {
	// Holder is this step among those who hold the replicas.
	Holder string `json:"holder"`
	// Before is how many there were before any incident held them.
	Before int32 `json:"before"`
}

// scaleOwnerPrefix begins the names of field managers that hold replicas. The name is the
// mark: a `scale` keeps no annotations, and a right on the whole workload would be far
// more than scaling takes. It goes when anybody sets another number. All holders are in
// one name, as the API server lets no two field managers hold 0 replicas together:
// 'firebreak-scale/BEFORE/WANT:HOLDER,WANT:HOLDER'.
const (
	scaleOwnerPrefix  = "firebreak-scale"
	scaleHolderDigits = 8
)

// scaleHolds is who holds the replicas of a workload, and at how many.
type scaleHolds struct {
	want map[string]int32
	// before is how many there were before; nil when nobody holds them.
	before *int32
	// owners are the holders of each field manager.
	owners map[string][]string
}

func (r *Request) scaleHolder() string {
	return ShortHash(scaleHolderDigits, string(r.Incident.UID), r.Step.Name)
}

// scaleHoldsOf reads the holds from an object's field managers.
func scaleHoldsOf(object metav1.Object) *scaleHolds {
	holds := &scaleHolds{want: map[string]int32{}, owners: map[string][]string{}}
	for _, entry := range object.GetManagedFields() {
		parts := strings.Split(entry.Manager, "/")
		if len(parts) != 3 || parts[0] != scaleOwnerPrefix || entry.Operation != metav1.ManagedFieldsOperationApply {
			continue
		}
		before, ok := replicaCount(parts[1])
		if !ok {
			continue
		}
		for one := range strings.SplitSeq(parts[2], ",") {
			number, holder, _ := strings.Cut(one, ":")
			if want, ok := replicaCount(number); ok && holder != "" {
				holds.want[holder] = want
				holds.owners[entry.Manager] = append(holds.owners[entry.Manager], holder)
				holds.before = &before
			}
		}
	}
	return holds
}

func replicaCount(text string) (int32, bool) {
	number, err := strconv.ParseInt(text, 10, 32)
	return int32(number), err == nil && number >= 0
}

// owner is the field manager of these holds. Where there are too many for a name, which
// is more likely forged than true, the own one is in it.
func (h *scaleHolds) owner(own string, before int32) string {
	name := fmt.Sprintf("%s/%d/", scaleOwnerPrefix, before)
	order := slices.Sorted(maps.Keys(h.want))
	if _, held := h.want[own]; held {
		order = append([]string{own}, slices.DeleteFunc(order, func(holder string) bool { return holder == own })...)
	}
	first := len(name)
	for _, holder := range order {
		one := fmt.Sprintf("%d:%s", h.want[holder], holder)
		if len(name) > first {
			one = "," + one
		}
		if len(name)+len(one) <= maxFieldOwner {
			name += one
		}
	}
	return name
}

// with gives the holds with one more.
func (h *scaleHolds) with(holder string, want int32) *scaleHolds {
	all := &scaleHolds{want: maps.Clone(h.want), before: h.before}
	all.want[holder] = want
	return all
}

// least is the number that all incidents together want: the fewest.
func (h *scaleHolds) least() int32 { return slices.Min(slices.Collect(maps.Values(h.want))) }

// scaled is a workload and how many replicas it is to have.
type scaled struct {
	object   *metav1.PartialObjectMetadata
	replicas int32
	version  string
}

// readScale reads the workload's metadata and its scale.
func (r *Request) readScale(ctx context.Context) (*scaled, *lifecycle.Result) {
	var problem lifecycle.Result
	object, err := r.metadata(ctx)
	if absent := r.absent(object, err); absent != nil {
		return nil, absent
	}
	content := newScale()
	err = r.Client.SubResource("scale").Get(ctx, r.scalable(), content)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
		problem = refused("%s cannot be scaled: the API server serves no `scale` for it", r.targetName())
		return nil, &problem
	case err != nil:
		problem = r.failure(err, r.scaleAccess("get"))
		return nil, &problem
	}
	return &scaled{object: object, replicas: replicasOf(content), version: object.ResourceVersion}, nil
}

func newScale() *unstructured.Unstructured {
	content := &unstructured.Unstructured{}
	content.SetGroupVersionKind(autoscalingv1.SchemeGroupVersion.WithKind("Scale"))
	return content
}

func replicasOf(content *unstructured.Unstructured) int32 {
	replicas, _, _ := unstructured.NestedInt64(content.Object, "spec", "replicas")
	return int32(min(max(replicas, 0), 1<<30))
}

// scalable names the target for requests to its subresources.
func (r *Request) scalable() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kindOf(&r.Target))
	object.SetNamespace(r.Target.Namespace)
	object.SetName(r.Target.Name)
	return object
}

func (r *Request) scaleAccess(verb string) access {
	at := r.targetAccess(verb)
	at.resource += "/scale"
	return at
}

// patchScale writes the scale of the target, and of no other object: with another UID, or
// in another version, the patch is refused.
func (r *Request) patchScale(ctx context.Context, with client.Patch, options ...client.SubResourcePatchOption) (int32, error) {
	content := newScale()
	options = append(options, &client.SubResourcePatchOptions{SubResourceBody: content})
	err := r.Client.SubResource("scale").Patch(ctx, r.scalable(), with, options...)
	return replicasOf(content), err
}

// applyScale sets the replicas by a field manager, which then holds them. Without a spec it
// ends its hold on what another field manager holds too.
func (r *Request) applyScale(ctx context.Context, owner, version string, spec map[string]any) (int32, error) {
	metadata := map[string]any{"name": r.Target.Name, "uid": r.Target.UID}
	if r.Target.Namespace != "" {
		metadata["namespace"] = r.Target.Namespace
	}
	if version != "" {
		metadata["resourceVersion"] = version
	}
	body := map[string]any{"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata}
	if spec != nil {
		body["spec"] = spec
	}
	patch, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	return r.patchScale(ctx, client.RawPatch(types.ApplyPatchType, patch), client.FieldOwner(owner), client.ForceOwnership)
}

// Plan finds out how many replicas the workload has, and what would fight.
func (scale) Plan(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.Scale == nil || r.Step.Scale.Replicas == nil {
		return refused("step '%s' has no `scale.replicas`", r.Step.Name)
	}
	want := *r.Step.Scale.Replicas
	now, problem := r.readScale(ctx)
	if problem != nil {
		return *problem
	}
	if owner := metav1.GetControllerOf(now.object); owner != nil && owner.Kind == "Deployment" && r.Target.Kind == "ReplicaSet" {
		return refused("%s is run by Deployment '%s', which would scale it back: the Deployment must be scaled", r.targetName(), owner.Name)
	}
	note, problem := r.autoscaler(ctx, want)
	if problem != nil {
		return *problem
	}
	holds := scaleHoldsOf(now.object)
	record := scaleRecord{Holder: r.scaleHolder(), Before: now.replicas}
	if holds.before != nil {
		record.Before = *holds.before
	}
	if earlier, problem := r.decodeScale(); problem == nil && r.Target.Losses > 0 {
		// What somebody has scaled it to since is not what there was before.
		record.Before = earlier.Before
	}
	undo, err := json.Marshal(record)
	if err != nil {
		return refused("%v", err)
	}
	return acting(r.targetName(), now.object, undo, fmt.Sprintf("%s will be scaled from %d to %d replicas%s",
		r.targetName(), now.replicas, holds.with(record.Holder, want).least(), note))
}

// autoscaler refuses to scale what a HorizontalPodAutoscaler scales: it would fight.
// Without replicas it does nothing, and begins again when there are some.
func (r *Request) autoscaler(ctx context.Context, want int32) (note string, problem *lifecycle.Result) {
	if want == 0 {
		return "", nil
	}
	list := &autoscalingv2.HorizontalPodAutoscalerList{}
	err := r.Client.List(ctx, list, client.InNamespace(r.Target.Namespace))
	if apierrors.IsForbidden(err) {
		return "; whether a HorizontalPodAutoscaler scales it could not be seen: " + r.ActingAs + " may not list them", nil
	}
	if err != nil {
		failure := r.failure(err, access{verb: "list", group: autoscalingv2.GroupName, resource: "horizontalpodautoscalers", namespace: r.Target.Namespace})
		return "", &failure
	}
	for i := range list.Items {
		ref := list.Items[i].Spec.ScaleTargetRef
		if ref.Kind != r.Target.Kind || ref.Name != r.Target.Name {
			continue
		}
		refusal := refused("%s is scaled by HorizontalPodAutoscaler '%s', which would undo this: `replicas` must be 0, which stops the autoscaler too, or its `minReplicas` and `maxReplicas` must be patched instead",
			r.targetName(), list.Items[i].Name)
		return "", &refusal
	}
	return "", nil
}

func (r *Request) decodeScale() (*scaleRecord, *lifecycle.Result) {
	record := &scaleRecord{}
	err := json.Unmarshal([]byte(r.Target.Undo), record)
	switch {
	case r.Step.Scale == nil || r.Step.Scale.Replicas == nil:
		problem := refused("step '%s' has no `scale.replicas`", r.Step.Name)
		return nil, &problem
	case err != nil || record.Holder == "":
		problem := refused("the record of what to undo cannot be read, or is not of this step")
		return nil, &problem
	}
	return record, nil
}

// Apply scales the workload.
func (scale) Apply(ctx context.Context, r *Request) lifecycle.Result {
	record, problem := r.decodeScale()
	if problem != nil {
		return *problem
	}
	var last error
	for range patchTries {
		now, problem := r.readScale(ctx)
		if problem != nil {
			return *problem
		}
		holds := scaleHoldsOf(now.object)
		_, held := holds.want[record.Holder]
		all := holds.with(record.Holder, *r.Step.Scale.Replicas)
		want := all.least()
		if now.replicas == want && (held || holds.before == nil && record.Before == want) {
			return done("%s", r.scaledTo(want))
		}
		var got int32
		got, last = r.applyScale(ctx, all.owner(record.Holder, record.Before), now.version, map[string]any{"replicas": want})
		switch {
		case last == nil && got == want:
			return done("%s", r.scaledTo(want))
		case last == nil:
			return failed("%s was to have %d replicas, but the API server says %d", r.targetName(), want, got)
		case !apierrors.IsConflict(last) && !apierrors.IsNotFound(last):
			return r.failure(last, r.scaleAccess("patch"))
		}
	}
	return r.failure(last, r.scaleAccess("patch"))
}

func (r *Request) scaledTo(replicas int32) string {
	text := fmt.Sprintf("%s is scaled to %d replicas", r.targetName(), replicas)
	if replicas < *r.Step.Scale.Replicas {
		text += ": another incident wants no more"
	}
	return text
}

// Observe looks whether it still is.
func (scale) Observe(ctx context.Context, r *Request) lifecycle.Result {
	record, problem := r.decodeScale()
	if problem != nil {
		return *problem
	}
	now, problem := r.readScale(ctx)
	if problem != nil {
		return r.stillGone(*problem)
	}
	holds := scaleHoldsOf(now.object)
	_, held := holds.want[record.Holder]
	want := holds.with(record.Holder, *r.Step.Scale.Replicas).least()
	switch {
	case now.replicas != want:
		return takenBack(now.object, "something has scaled %s to %d replicas: it is to have %d", r.targetName(), now.replicas, want)
	case !held && record.Before != want:
		return takenBack(now.object, "%s has %d replicas, but something else has set them: this incident does not hold them", r.targetName(), want)
	}
	return done("%s", r.scaledTo(want))
}

// Undo gives back the replicas, unless another incident holds them or somebody has set
// others since.
func (scale) Undo(ctx context.Context, r *Request) lifecycle.Result {
	if r.Target.Undo == "" {
		return reverted("nothing was done to it")
	}
	record, problem := r.decodeScale()
	if problem != nil {
		return *problem
	}
	last := errStillHeld
	for range 2 * patchTries {
		now, problem := r.readScale(ctx)
		if problem != nil {
			return undone(*problem)
		}
		says, err := r.letGo(ctx, record, now)
		switch {
		case err == nil:
			return reverted("%s", says)
		case errors.Is(err, errStillHeld), apierrors.IsConflict(err), apierrors.IsNotFound(err):
			last = err // Changed or replaced since it was read, or half done: look again.
		default:
			return r.failure(err, r.scaleAccess("patch"))
		}
	}
	return r.failure(last, r.scaleAccess("patch"))
}

// errStillHeld says that one step of letting go is made, and another is to follow.
var errStillHeld = errors.New("its field managers were changed at the same time")

// letGo takes this step out of those who hold the replicas. The last one gives back what
// there was before.
func (r *Request) letGo(ctx context.Context, record *scaleRecord, now *scaled) (says string, err error) {
	holds := scaleHoldsOf(now.object)
	_, held := holds.want[record.Holder]
	delete(holds.want, record.Holder)
	switch {
	case !held && now.replicas == record.Before:
		return fmt.Sprintf("%s has %d replicas, as before", r.targetName(), now.replicas), nil
	case !held && len(holds.want) > 0:
		return fmt.Sprintf("%s stays at %d replicas: another incident holds it", r.targetName(), now.replicas), nil
	case !held:
		return fmt.Sprintf("%s is left at %d replicas, as somebody has set it since; it had %d before", r.targetName(), now.replicas, record.Before), nil
	case len(holds.want) == 0:
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": r.Target.UID, "resourceVersion": now.version}, "spec": map[string]any{"replicas": record.Before},
		})
		if err != nil {
			return "", err
		}
		_, err = r.patchScale(ctx, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldOwner(r.Incident)))
		return fmt.Sprintf("%s has %d replicas again", r.targetName(), record.Before), err
	}
	owner := holds.owner(record.Holder, record.Before)
	if _, there := holds.owners[owner]; !there || now.replicas != holds.least() {
		if _, err := r.applyScale(ctx, owner, now.version, map[string]any{"replicas": holds.least()}); err != nil {
			return "", err
		}
		return "", errStillHeld
	}
	// Two field managers can hold any number but 0: the one with this step in it goes.
	for other, holders := range holds.owners {
		if slices.Contains(holders, record.Holder) {
			_, err := r.applyScale(ctx, other, now.version, nil)
			return "", cmp.Or(err, errStillHeld)
		}
	}
	return "", errStillHeld
}
