package action

import (
	"context"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// maxOwners bounds how far owners are followed.
	maxOwners = 8
	// maxListed bounds how many objects of one kind are kept in one list.
	maxListed = 10000
	listPage  = 500
)

// manifests keeps the target, the chain of its owners, and the NetworkPolicies of its
// namespace but for the isolations of others, as they are in the API, as one list.
func (c *collection) manifests(ctx context.Context) error {
	objects := []unstructured.Unstructured{*c.object}
	owners, err := c.owners(ctx)
	if err != nil {
		return err
	}
	objects = append(objects, owners...)
	if c.request.Target.Namespace != "" {
		policies, err := c.policies(ctx)
		if again := c.request.again("NetworkPolicies", err); again != nil {
			return again
		}
		if err != nil {
			c.miss("NetworkPolicies", err, c.request.policyAccess("list", ""))
		}
		objects = append(objects, policies...)
	}
	spec := c.spec(v1alpha1.EvidenceManifest, "GET of the target and its owners, LIST of the NetworkPolicies of its namespace, from the Kubernetes API", mediaTypeJSON)
	return c.keepList(ctx, "manifest", spec, objects)
}

// policies gives the NetworkPolicies of the target's namespace. In a flood there is one
// for each pod that is isolated, and none of those is about this one.
func (c *collection) policies(ctx context.Context) ([]unstructured.Unstructured, error) {
	all, err := c.request.networkPolicies(ctx, c.request.Target.Namespace)
	var kept []unstructured.Unstructured
	for i := range all {
		if c.isolatesAnother(&all[i]) {
			continue
		}
		all[i].SetGroupVersionKind(networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"))
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&all[i])
		if err != nil {
			return kept, err
		}
		kept = append(kept, unstructured.Unstructured{Object: content})
	}
	return kept, err
}

// isolatesAnother says that a policy selects by the label of an isolation that the target
// is not under.
func (c *collection) isolatesAnother(policy *networkingv1.NetworkPolicy) bool {
	for key, value := range policy.Spec.PodSelector.MatchLabels {
		if isIsolationLabel(key) && c.object.GetLabels()[key] != value {
			return true
		}
	}
	return false
}

// owners follows the controllers of the target, to the top. It fails only with what is
// worth another try.
func (c *collection) owners(ctx context.Context) ([]unstructured.Unstructured, error) {
	var found []unstructured.Unstructured
	reference := metav1.GetControllerOf(c.object)
	for reference != nil && len(found) < maxOwners {
		kind := schema.FromAPIVersionAndKind(reference.APIVersion, reference.Kind)
		key := client.ObjectKey{Namespace: c.object.GetNamespace(), Name: reference.Name}
		if kind.Kind == "Node" {
			key.Namespace = ""
		}
		object, err := c.request.object(ctx, kind, key)
		if err != nil {
			what := "owner " + nameOf(reference.Kind, reference.Name)
			c.miss(what, err, c.request.accessTo("get", kind, key.Namespace, key.Name))
			return found, c.request.again(what, err)
		}
		if object.GetUID() != reference.UID {
			c.missed = append(c.missed, fmt.Sprintf("owner "+saysReplaced, nameOf(reference.Kind, reference.Name)))
			return found, nil
		}
		found = append(found, *object)
		reference = metav1.GetControllerOf(object)
	}
	return found, nil
}

// list lists objects, page by page.
func (c *collection) list(ctx context.Context, kind schema.GroupVersionKind, options ...client.ListOption) ([]unstructured.Unstructured, error) {
	var all []unstructured.Unstructured
	page := &unstructured.UnstructuredList{}
	for {
		next := append([]client.ListOption{client.Limit(listPage), client.Continue(page.GetContinue())}, options...)
		page = &unstructured.UnstructuredList{}
		page.SetGroupVersionKind(kind)
		if err := c.request.Client.List(ctx, page, next...); err != nil {
			return all, err
		}
		all = append(all, page.Items...)
		if page.GetContinue() == "" {
			return all, nil
		}
		if len(all) >= maxListed {
			return all, fmt.Errorf("there are more than %d, and the rest was left out", maxListed)
		}
	}
}
