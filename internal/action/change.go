package action

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// ownerPrefix begins the field owner of every response.
const ownerPrefix = "firebreak-"

// handoverPrefix begins the annotation by which a response that is undone leaves to
// another one what the fields were before both.
const handoverPrefix = "handover.firebreak.dev/"

// changePrefix begins the annotation by which an object says that a response has changed
// it: it is among what is set, so the step owns something as long as it was not undone.
const changePrefix = "change.firebreak.dev/"

// stepOwner is the field owner of one step of one incident.
func (r *Request) stepOwner() string {
	return NameFor(ownerPrefix+r.Incident.Name, r.incidentMark()+ShortHash(shortHashDigits, r.Step.Name), maxFieldOwner)
}

// incidentMark is in the field owners of all steps of the incident, and of no other.
func (r *Request) incidentMark() string {
	return ShortHash(shortHashDigits, string(r.Incident.UID)) + "-"
}

// change is fields set on one object by server-side apply.
type change struct {
	request *Request
	target  v1alpha1.StepTarget
	fields  map[string]any
}

// config is what is applied. With a resource version it is applied only if nobody has
// changed the object since.
func (c *change) config(resourceVersion string) *unstructured.Unstructured {
	config := (&unstructured.Unstructured{Object: c.fields}).DeepCopy()
	config.SetAPIVersion(c.target.APIVersion)
	config.SetKind(c.target.Kind)
	config.SetNamespace(c.target.Namespace)
	config.SetName(c.target.Name)
	config.SetUID(types.UID(c.target.UID))
	if resourceVersion != "" {
		config.SetResourceVersion(resourceVersion)
	}
	annotations := config.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[changePrefix+ShortHash(shortHashDigits, c.request.stepOwner())] = c.request.Incident.Namespace + "/" + c.request.Incident.Name
	config.SetAnnotations(annotations)
	return config
}

func (c *change) access(verb string) access {
	return c.request.accessTo(verb, kindOf(&c.target), c.target.Namespace, c.target.Name)
}

func (c *change) name() string { return nameOf(c.target.Kind, c.target.Name) }

func (c *change) apply(ctx context.Context, resourceVersion string, options ...client.ApplyOption) (*unstructured.Unstructured, error) {
	config := c.config(resourceVersion)
	options = append(options, client.FieldOwner(c.request.stepOwner()))
	return config, c.request.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(config), options...)
}

// conflictWith finds the owner in what the API server says of a conflict.
var conflictWith = regexp.MustCompile(`conflict with "((?:[^"\\]|\\.)*)"`)

// plan tries the change on the API server, and gives the fields it sets with what they
// had before.
func (c *change) plan(ctx context.Context, live *unstructured.Unstructured) ([]setField, *lifecycle.Result) {
	tried, err := c.apply(ctx, "", client.DryRunAll)
	if apierrors.IsConflict(err) {
		if other := c.request.otherResponse(err); other != "" {
			problem := failed("%s: another response ('%s') has set the same fields to other values: undo that first, or decide which is to stand", c.name(), other)
			return nil, &problem
		}
		tried, err = c.apply(ctx, "", client.DryRunAll, client.ForceOwnership)
	}
	if err != nil {
		problem := c.request.failure(err, c.access("patch"))
		// The API server calls it an internal error.
		problem.Permanent = problem.Permanent || strings.Contains(err.Error(), "failed to create typed patch object")
		return nil, &problem
	}
	fields, err := fieldsOf(live.Object, tried, c.request.stepOwner())
	if err == nil {
		err = markShared(fields, live, c.request.stepOwner())
	}
	if err != nil {
		problem := refused("%s: %v", c.name(), err)
		return nil, &problem
	}
	return fields, nil
}

// otherResponse finds the response to another incident among the owners of fields in
// conflict. A later step may set what an earlier one has.
func (r *Request) otherResponse(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return ""
	}
	for _, cause := range status.Status().Details.Causes {
		match := conflictWith.FindStringSubmatch(cause.Message)
		if cause.Type == metav1.CauseTypeFieldManagerConflict && match != nil && strings.HasPrefix(match[1], ownerPrefix) && !strings.Contains(match[1], r.incidentMark()) {
			return match[1]
		}
	}
	return ""
}

// markShared marks the fields that other responses own as well.
func markShared(fields []setField, live *unstructured.Unstructured, owner string) error {
	others, err := otherResponses(live, owner)
	if err != nil {
		return err
	}
	for i := range fields {
		path, err := fields[i].path()
		if err != nil {
			return err
		}
		fields[i].Shared = others.Has(path) && fields[i].Before != nil && hashValue(fields[i].Before) == fields[i].After
	}
	return nil
}

// otherResponses gives the fields of an object that other responses own.
func otherResponses(live *unstructured.Unstructured, owner string) (*fieldpath.Set, error) {
	all := &fieldpath.Set{}
	for _, entry := range live.GetManagedFields() {
		if entry.Manager == owner || !strings.HasPrefix(entry.Manager, ownerPrefix) {
			continue
		}
		set, err := ownedBy(live, entry.Manager)
		if err != nil {
			return nil, err
		}
		all = all.Union(set)
	}
	return all, nil
}

// make applies the change, if the fields still have what is recorded of them. For what was
// lost and is made again the record stands, whatever has been set since.
func (c *change) make(ctx context.Context, live *unstructured.Unstructured, recorded []setField) lifecycle.Result {
	if err := c.leaveOvertaken(ctx, live, recorded); err != nil {
		return c.unsure(err)
	}
	fields, problem := c.plan(ctx, live)
	if problem != nil {
		return *problem
	}
	if !c.begun(live) && !sameFields(fields, recorded) {
		return lifecycle.Result{State: v1alpha1.TargetPending, Message: say("%s was changed at the same time", c.name())}
	}
	if _, err := c.apply(ctx, live.GetResourceVersion(), client.ForceOwnership); err != nil {
		return c.request.failure(err, c.access("patch"))
	}
	return done("%s: set %s", c.name(), fieldNames(recorded))
}

// begun says that this step has changed the object before.
func (c *change) begun(live *unstructured.Unstructured) bool {
	return c.request.Target.Losses > 0 || isOwner(live, c.request.stepOwner())
}

// made says that a change was made, or that it is not only that the object was changed
// at the same time.
func made(result lifecycle.Result) bool {
	return result.State != v1alpha1.TargetFailed || !strings.Contains(result.Message, saysChanged)
}

// leaveOvertaken takes out of the change what a later step of the same incident has set
// to something else since.
func (c *change) leaveOvertaken(ctx context.Context, live *unstructured.Unstructured, recorded []setField) error {
	if !c.begun(live) {
		return nil
	}
	overtaken, err := c.overtaken(ctx, live, recorded)
	if err != nil {
		return err
	}
	c.fields = (&unstructured.Unstructured{Object: c.fields}).DeepCopy().Object
	for _, field := range overtaken.byStep {
		leaf := setField{Path: field.Path, Stood: len(field.Path)}
		if err := leaf.restore(c.fields); err != nil {
			return err
		}
	}
	return nil
}

// overtaken are fields that do not have what was set: another step of the incident has set
// them since, or somebody else has.
type overtaken struct {
	byStep, bySomebody []setField
}

// overtaken compares the fields with what was set. The records of other steps are read only
// where something differs: one that is lost must not keep the others from being looked at.
func (c *change) overtaken(ctx context.Context, live *unstructured.Unstructured, recorded []setField) (overtaken, error) {
	var result overtaken
	var others *otherSteps
	for i := range recorded {
		path, err := recorded[i].path()
		if err != nil {
			return result, err
		}
		// What was set to nothing, the API server may not keep at all.
		if now, _, _ := find(live.Object, path); hashValue(now) == recorded[i].After {
			continue
		}
		if others == nil {
			if others, err = c.otherSteps(ctx, live); err != nil {
				return result, err
			}
		}
		if others.have(&recorded[i], path) {
			result.byStep = append(result.byStep, recorded[i])
		} else {
			result.bySomebody = append(result.bySomebody, recorded[i])
		}
	}
	return result, nil
}

func isOwner(object *unstructured.Unstructured, owner string) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool { return isEntryOf(entry, owner) })
}

func sameFields(a, b []setField) bool {
	left, errLeft := json.Marshal(a)
	right, errRight := json.Marshal(b)
	return errLeft == nil && errRight == nil && string(left) == string(right)
}

// observe looks whether the fields still have what was set.
func (c *change) observe(ctx context.Context, live *unstructured.Unstructured, recorded []setField) lifecycle.Result {
	overtaken, err := c.overtaken(ctx, live, recorded)
	if err != nil {
		return c.unsure(err)
	}
	if lost := overtaken.bySomebody; len(lost) > 0 {
		return takenBack(live, "%s: something has changed %s", c.name(), firstText(fieldNames(lost), "the annotation of this response"))
	}
	return done("%s: set %s", c.name(), fieldNames(recorded))
}

func fieldNames(fields []setField) string {
	names := make([]string, 0, len(fields))
	for i := range fields {
		if path := fields[i].Path; !strings.HasPrefix(path[len(path)-1], "f:"+changePrefix) {
			names = append(names, fields[i].name())
		}
	}
	return lifecycle.Cut(strings.Join(names, ", "), 512)
}
