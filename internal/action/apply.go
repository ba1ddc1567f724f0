package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// annotationIntent marks an object that a step has made: the object of an intent is known
// even when the manager was killed before it could take down that it was made.
const annotationIntent = "firebreak.dev/intent"

// applyObject makes an object, or sets fields of one that is there, by server-side apply.
type applyObject struct{}

var _ = register("apply", applyObject{})

// applyRecord is what undoing an apply needs.
type applyRecord struct {
	changeRecord

	// Ref names the object.
	Ref v1alpha1.ResourceReference `json:"ref"`
	// Intent is the mark on the object that the step makes. Empty when it was there before.
	Intent string `json:"intent,omitempty"`
}

// identityFields are what an object to apply may say of itself.
var identityFields = []string{"apiVersion", "kind", "name", "namespace"}

// subject is the object that a step applies.
type subject struct {
	*change
	record *applyRecord
}

// Plan finds out whether the object is there, and records what it has.
func (a applyObject) Plan(ctx context.Context, r *Request) lifecycle.Result {
	s, problem := a.subject(ctx, r)
	if problem != nil {
		return *problem
	}
	if held := s.held(ctx); held != nil {
		return *held
	}
	live, err := r.object(ctx, kindOf(&s.target), targetKey(&s.target))
	switch {
	case apierrors.IsNotFound(err), err == nil && s.made(live):
		return s.planCreate(ctx)
	case err != nil:
		return r.failure(err, s.access("get"))
	}
	// The record of an object that the step has made, or of one that is gone, says nothing
	// of what has its name now.
	known := s.record.Intent == "" && string(s.record.Ref.UID) == string(live.GetUID())
	s.target.UID = v1alpha1.ObjectUID(live.GetUID())
	s.record.Ref.UID, s.record.Intent = s.target.UID, ""
	if known && (r.Target.Losses > 0 || isOwner(live, r.stepOwner())) {
		return acting(s.name(), live, []byte(r.Target.Undo), s.name()+" will be changed")
	}
	if s.record.Set, problem = s.plan(ctx, live); problem != nil {
		return *problem
	}
	result := planned(s.record, s.name(), fieldNames(s.record.Set))
	result.Warning = fights(s.name(), live)
	return result
}

// subject renders the object, or takes what an earlier try has rendered.
func (applyObject) subject(ctx context.Context, r *Request) (*subject, *lifecycle.Result) {
	if r.Step.Apply == nil {
		problem := refused("step '%s' has no `apply`", r.Step.Name)
		return nil, &problem
	}
	record := &applyRecord{}
	if r.Target.Undo != "" {
		if err := json.Unmarshal([]byte(r.Target.Undo), record); err != nil {
			problem := refused("the record of what to undo cannot be read: %v", err)
			return nil, &problem
		}
	}
	content, err := renderApply(ctx, r, record)
	if err == nil {
		err = checkApply(r, content)
	}
	if err != nil {
		problem := refused("`apply` %v", err)
		return nil, &problem
	}
	object := &unstructured.Unstructured{Object: content}
	s := &subject{record: record, change: &change{request: r, fields: content, target: v1alpha1.StepTarget{
		APIVersion: object.GetAPIVersion(), Kind: object.GetKind(), Namespace: object.GetNamespace(), Name: object.GetName(), UID: record.Ref.UID,
	}}}
	record.Ref = v1alpha1.ResourceReference{
		APIVersion: s.target.APIVersion, Kind: s.target.Kind, Namespace: s.target.Namespace, Name: s.target.Name, UID: record.Ref.UID,
	}
	return s, nil
}

// renderApply gives the object. What an expression yields is kept in the record: it is
// evaluated once.
func renderApply(ctx context.Context, r *Request, record *applyRecord) (map[string]any, error) {
	content := map[string]any{}
	switch {
	case len(record.Fields) > 0:
		return content, utiljson.Unmarshal(record.Fields, &content)
	case r.Step.Apply.Expression == "":
		return decodeFields(r.Step.Apply.Object, "apply.object")
	}
	content, err := r.Values.Object(ctx, r.Incident, r.Step.Apply.Expression, nil)
	if err != nil {
		return nil, err
	}
	record.Fields, err = json.Marshal(content)
	return content, err
}

// checkApply refuses objects that a playbook must not touch, whatever its rights.
func checkApply(r *Request, content map[string]any) error {
	object := &unstructured.Unstructured{Object: content}
	for name, path := range map[string][]string{"apiVersion": {"apiVersion"}, "kind": {"kind"}, "metadata.name": {"metadata", "name"}} {
		if text, ok, err := unstructured.NestedString(content, path...); err != nil || !ok || text == "" {
			return fmt.Errorf("must name the object: `%s` must be set", name)
		}
	}
	if err := checkFields(content, identityFields...); err != nil {
		return err
	}
	kind := object.GroupVersionKind()
	if isOwnGroup(kind.Group) {
		return fmt.Errorf("must not write objects of '%s': they are Firebreak's own", kind.Group)
	}
	if isSecret(kind) {
		return errors.New("must not write a Secret: " + saysSecret)
	}
	mapping, err := r.Client.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		return fmt.Errorf("names the kind '%s' of '%s', which the cluster does not have", kind.Kind, object.GetAPIVersion())
	}
	if err != nil {
		return err
	}
	namespaced := mapping.Scope.Name() == meta.RESTScopeNameNamespace
	switch {
	case namespaced && object.GetNamespace() == "":
		return errors.New("must name the object: `metadata.namespace` must be set")
	case !namespaced && object.GetNamespace() != "":
		return fmt.Errorf("must not set `metadata.namespace`: a %s is in no namespace", kind.Kind)
	}
	return nil
}

// held says that nothing may be written in the object's namespace, and nobody has approved the step.
func (s *subject) held(ctx context.Context) *lifecycle.Result {
	namespace := s.target.Namespace
	if s.target.Kind == "Namespace" {
		namespace = s.target.Name
	}
	if held := s.request.heldIn(ctx, namespace); held != nil {
		held.Message = say("%s: %s", s.name(), held.Message)
		return held
	}
	return nil
}

func (s *subject) intent() string {
	return ShortHash(32, string(s.request.Incident.UID), s.request.Step.Name, s.target.APIVersion, s.target.Kind, s.target.Namespace, s.target.Name)
}

// made says that this step has made the object.
func (s *subject) made(live *unstructured.Unstructured) bool {
	return live.GetAnnotations()[annotationIntent] == s.intent()
}

// marked is the object with the mark of the step.
func (s *subject) marked() *unstructured.Unstructured {
	config := s.config("")
	config.SetUID("")
	annotations := config.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationIntent] = s.intent()
	config.SetAnnotations(annotations)
	return config
}

func (s *subject) planCreate(ctx context.Context) lifecycle.Result {
	err := s.request.Client.Create(ctx, s.marked(), client.DryRunAll, client.FieldOwner(s.request.stepOwner()))
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return s.request.failure(err, s.access("create"))
	}
	s.record.Intent, s.record.Ref.UID, s.record.Set = s.intent(), "", nil
	return planned(s.record, s.name(), "it up")
}

// Apply makes the object, or sets its fields.
func (a applyObject) Apply(ctx context.Context, r *Request) lifecycle.Result {
	s, problem := a.subject(ctx, r)
	if problem != nil {
		return *problem
	}
	if s.record.Intent != "" {
		return s.create(ctx)
	}
	var result lifecycle.Result
	for range patchTries {
		live, err := r.object(ctx, kindOf(&s.target), targetKey(&s.target))
		switch {
		case apierrors.IsNotFound(err), err == nil && string(live.GetUID()) != string(s.target.UID):
			return lifecycle.Result{State: v1alpha1.TargetPending, Message: say(saysGone, s.name())}
		case err != nil:
			return r.failure(err, s.access("get"))
		}
		if result = s.make(ctx, live, s.record.Set); made(result) {
			break
		}
	}
	return result
}

// create makes the object once, and gives back to it what it has lost since.
func (s *subject) create(ctx context.Context) lifecycle.Result {
	r := s.request
	object := s.marked()
	err := r.Client.Create(ctx, object, client.FieldOwner(r.stepOwner()))
	if err == nil {
		return done("%s is made", s.name())
	}
	if !apierrors.IsAlreadyExists(err) {
		return r.failure(err, s.access("create"))
	}
	live, err := r.object(ctx, kindOf(&s.target), targetKey(&s.target))
	switch {
	case apierrors.IsNotFound(err):
		return failed("%s was deleted at the same time", s.name())
	case err != nil:
		return r.failure(err, s.access("get"))
	case live.GetDeletionTimestamp() != nil:
		return failed("%s is being deleted", s.name())
	case !s.made(live):
		// Somebody else was faster: what it has must be recorded first.
		return lifecycle.Result{State: v1alpha1.TargetPending, Message: say("%s was made by somebody else at the same time", s.name())}
	}
	same, err := s.stands(ctx, live)
	if err == nil && !same {
		s.target.UID = v1alpha1.ObjectUID(live.GetUID())
		_, err = s.apply(ctx, live.GetResourceVersion(), client.ForceOwnership)
	}
	if err != nil {
		return r.failure(err, s.access("patch"))
	}
	return done("%s is made", s.name())
}

// stands asks the API server whether applying the object again would change anything.
func (s *subject) stands(ctx context.Context, live *unstructured.Unstructured) (bool, error) {
	s.target.UID = v1alpha1.ObjectUID(live.GetUID())
	tried, err := s.apply(ctx, "", client.DryRunAll, client.ForceOwnership)
	if err != nil {
		return false, err
	}
	return hashValue(ownContent(tried)) == hashValue(ownContent(live)), nil
}

// ownContent is an object without what the API server keeps about it.
func ownContent(object *unstructured.Unstructured) map[string]any {
	content := object.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "generation"} {
		unstructured.RemoveNestedField(content.Object, "metadata", field)
	}
	return content.Object
}

// Observe looks whether the object is as it was applied.
func (a applyObject) Observe(ctx context.Context, r *Request) lifecycle.Result {
	s, problem := a.subject(ctx, r)
	if problem != nil {
		return *problem
	}
	live, err := r.object(ctx, kindOf(&s.target), targetKey(&s.target))
	switch {
	case apierrors.IsNotFound(err):
		return failed(saysGone, s.name())
	case err != nil:
		return r.failure(err, s.access("get"))
	case s.record.Intent == "" && string(live.GetUID()) != string(s.record.Ref.UID):
		return failed(saysReplaced, s.name())
	case s.record.Intent == "":
		return s.observe(ctx, live, s.record.Set)
	case !s.made(live):
		return failed("%s does not carry the mark of this step any more", s.name())
	}
	same, err := s.stands(ctx, live)
	if err != nil {
		return r.failure(err, s.access("patch"))
	}
	if !same {
		return failed("something has changed %s", s.name())
	}
	return done("%s is made", s.name())
}

// Undo deletes the object if the step has made it, and otherwise puts its fields back.
func (applyObject) Undo(ctx context.Context, r *Request) lifecycle.Result {
	if r.Target.Undo == "" {
		return reverted("nothing was done")
	}
	record := &applyRecord{}
	if err := json.Unmarshal([]byte(r.Target.Undo), record); err != nil {
		return refused("the record of what to undo cannot be read: %v", err)
	}
	s := &subject{record: record, change: &change{request: r, target: v1alpha1.StepTarget{
		APIVersion: record.Ref.APIVersion, Kind: record.Ref.Kind, Namespace: record.Ref.Namespace, Name: record.Ref.Name, UID: record.Ref.UID,
	}}}
	if record.Intent == "" {
		return s.undo(ctx, record.Set)
	}
	live, err := r.object(ctx, kindOf(&s.target), targetKey(&s.target))
	switch {
	case apierrors.IsNotFound(err):
		return reverted(saysGone, s.name())
	case err != nil:
		return r.failure(err, s.access("get"))
	case !s.made(live):
		return reverted("%s does not carry the mark of this step: it is somebody else's, and is not touched", s.name())
	case live.GetDeletionTimestamp() != nil:
		return reverted("%s is being deleted", s.name())
	}
	uid := live.GetUID()
	err = r.Client.Delete(ctx, live, client.Preconditions{UID: &uid})
	if err != nil && !apierrors.IsNotFound(err) {
		return r.failure(err, s.access("delete"))
	}
	return reverted("%s is deleted", s.name())
}
