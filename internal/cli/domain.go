package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// firstWordWithin is how long the manager has to look at what was created.
const firstWordWithin = 5 * time.Second

// domainState is what can be told about a namespace.
type domainState int

const (
	domainUnknown domainState = iota // it may not be read
	domainYes
	domainNo
)

// domainOrNot says whether a namespace is a response domain, as far as the caller may know: by
// its label, or by what the manager says on a plan in it.
func (s *session) domainOrNot(ctx context.Context, namespace string) domainState {
	api, err := s.client()
	if err != nil {
		return domainUnknown
	}
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := api.Get(ctx, client.ObjectKey{Name: namespace}, object); err == nil {
		if _, labelled := object.Labels[v1alpha1.LabelDomain]; labelled {
			return domainYes
		}
		return domainNo
	}
	if plan := s.plan(ctx, namespace); plan != nil {
		if c := meta.FindStatusCondition(plan.Status.Conditions, v1alpha1.ConditionReady); c != nil && c.Reason == v1alpha1.ReasonNotADomain {
			return domainNo
		}
	}
	return domainUnknown
}

// otherDomain is a hint where to go instead of a namespace that is no response domain.
func (s *session) otherDomain(ctx context.Context, namespace string) string {
	if hint := s.elsewhere(ctx, namespace); hint != "" {
		return hint
	}
	return "Name the response domain with -n; whoever runs Firebreak here knows which it is."
}

// firstWord waits until the manager has looked at what was created: where the namespace may not
// be read, only that says whether anybody ever will.
func (s *session) firstWord(ctx context.Context, object client.Object, noun string) error {
	api, err := s.client()
	if err != nil {
		return err
	}
	name, namespace := object.GetName(), object.GetNamespace()
	word := ""
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, firstWordWithin, true, func(ctx context.Context) (bool, error) {
		err := api.Get(ctx, client.ObjectKeyFromObject(object), object)
		if apierrors.IsForbidden(err) {
			return false, err
		}
		word = wordOn(object)
		return err == nil && word != "", nil
	})
	look := fmt.Sprintf("Look: kubectl get %s %s -n %s%s", noun, name, namespace, s.clusterFlags())
	switch {
	case err == nil && word != v1alpha1.ReasonNotADomain:
		return nil
	case err == nil:
		return failed(fmt.Sprintf("nobody will look at the %s %s: the namespace %s is not a response domain", noun, name, namespace),
			"It was created, but do it again where it is seen.", s.otherDomain(ctx, namespace))
	case apierrors.IsForbidden(err):
		return failed(fmt.Sprintf("the %s %s was created, but whether anybody looks at it cannot be told: you are not permitted to read it", noun, name),
			fmt.Sprintf("Make sure that the namespace %s is a response domain.", namespace))
	case errors.Is(err, context.Canceled):
		return failed(fmt.Sprintf("interrupted: the %s %s is created and stays", noun, name), look)
	default:
		return failed(fmt.Sprintf("nobody has looked at the %s %s within %s: it stays, and is looked at as soon as the manager can, but only if the namespace %s is a response domain",
			noun, name, firstWordWithin, namespace), look, s.otherDomain(ctx, namespace))
	}
}

// wordOn is what the manager has said on an object; empty while it has not.
func wordOn(object client.Object) string {
	switch object := object.(type) {
	case *v1alpha1.SecurityEvent:
		if c := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionAssessed); c != nil {
			return c.Reason
		}
	case *v1alpha1.Incident:
		return string(object.Status.Phase)
	}
	return ""
}
