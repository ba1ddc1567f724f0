package action

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// kindOf gives the kind of a target.
func kindOf(target *v1alpha1.StepTarget) schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(target.APIVersion, target.Kind)
}

// accessTo names a right on objects of a kind, by its resource in the API.
func (r *Request) accessTo(verb string, kind schema.GroupVersionKind, namespace, name string) access {
	at := access{verb: verb, group: kind.Group, resource: strings.ToLower(kind.Kind), namespace: namespace, name: name}
	if mapping, err := r.Client.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version); err == nil {
		at.resource = mapping.Resource.Resource
	}
	return at
}

func (r *Request) targetAccess(verb string) access {
	return r.accessTo(verb, kindOf(&r.Target), r.Target.Namespace, r.Target.Name)
}

func targetKey(target *v1alpha1.StepTarget) client.ObjectKey {
	return client.ObjectKey{Namespace: target.Namespace, Name: target.Name}
}

// metadata reads the metadata of the target, or of what has its name now.
func (r *Request) metadata(ctx context.Context) (*metav1.PartialObjectMetadata, error) {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kindOf(&r.Target))
	return object, r.Client.Get(ctx, targetKey(&r.Target), object)
}

// object reads one object whole.
func (r *Request) object(ctx context.Context, kind schema.GroupVersionKind, key client.ObjectKey) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kind)
	return object, r.Client.Get(ctx, key, object)
}

// isTarget says whether an object is the target itself, not one that came after it.
func (r *Request) isTarget(object metav1.Object) bool {
	return string(object.GetUID()) == string(r.Target.UID)
}

// absent says why there is nothing to act on: the target could not be read, is gone, or
// another one has its name now. It is nil when the target is there.
func (r *Request) absent(object metav1.Object, err error) *lifecycle.Result {
	var problem lifecycle.Result
	switch {
	case apierrors.IsNotFound(err):
		problem = gone(saysGone, r.targetName())
	case err != nil:
		problem = r.failure(err, r.targetAccess("get"))
	case !r.isTarget(object):
		problem = gone(saysReplaced, r.targetName())
	default:
		return nil
	}
	return &problem
}

func (r *Request) targetName() string {
	return nameOf(r.Target.Kind, r.Target.Name)
}

func nameOf(kind, name string) string { return fmt.Sprintf("%s '%s'", kind, name) }

const (
	saysGone     = "%s does not exist any more"
	saysLeft     = "%s does not carry the incident's labels any more and is not touched: delete it by hand"
	saysReplaced = "%s does not exist any more: another one came back under the same name, and is not touched"
)
