package action

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// maxTargets is how many objects a step can act on.
const maxTargets = 128

var (
	namespaceKind      = schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
	serviceAccountKind = schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}
)

// Resolve finds the objects that a step acts on, when they are not the incident's own:
// by its `target` or its `targets`. It reads as the playbook's ServiceAccount, and pins
// each object by its UID. What is gone is left out; what may not be read fails the step,
// for one that missed an object must not look like one that did not.
func Resolve(ctx context.Context, r *Request) lifecycle.Result {
	found := &resolution{request: r, seen: map[v1alpha1.ObjectUID]bool{}}
	var problem *lifecycle.Result
	switch {
	case r.Step.Targets != "":
		problem = found.byExpression(ctx)
	case r.Step.Target == v1alpha1.TargetNamespaces:
		problem = found.namespaces(ctx)
	case r.Step.Target == v1alpha1.TargetNodes, r.Step.Target == v1alpha1.TargetServiceAccounts, r.Step.Target == v1alpha1.TargetImages:
		problem = found.byPods(ctx)
	default:
		refusal := refused("step '%s' acts on objects of the incident itself: there is nothing to look up", r.Step.Name)
		problem = &refusal
	}
	if problem == nil && len(found.targets) > maxTargets {
		refusal := refused("the step would act on %d objects: it must be at most %d", len(found.targets), maxTargets)
		problem = &refusal
	}
	if problem != nil {
		return *problem
	}
	result := done("%d objects found", len(found.targets))
	if len(found.left) > 0 {
		result.Message = say("%s; left out: %s", result.Message, someOf(found.left))
	}
	result.Targets = found.targets
	return result
}

// resolution is what was found so far.
type resolution struct {
	request *Request
	targets []v1alpha1.StepTarget
	seen    map[v1alpha1.ObjectUID]bool
	// left says what was left out and why.
	left []string
}

func (f *resolution) add(kind schema.GroupVersionKind, object metav1.Object) {
	apiVersion, name := kind.ToAPIVersionAndKind()
	f.addTarget(v1alpha1.StepTarget{
		APIVersion: apiVersion, Kind: name, Namespace: object.GetNamespace(), Name: object.GetName(), UID: v1alpha1.ObjectUID(object.GetUID()),
	})
}

func (f *resolution) addTarget(target v1alpha1.StepTarget) {
	if f.seen[target.UID] {
		return
	}
	f.seen[target.UID] = true
	target.State = v1alpha1.TargetPending
	f.targets = append(f.targets, target)
}

// find reads the metadata of one object and adds it. With a UID, no other object of that
// name is taken for it.
func (f *resolution) find(ctx context.Context, kind schema.GroupVersionKind, namespace, name string, uid v1alpha1.ObjectUID) *lifecycle.Result {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kind)
	err := f.request.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object)
	switch {
	case apierrors.IsNotFound(err):
		f.left = append(f.left, fmt.Sprintf(saysGone, nameOf(kind.Kind, name)))
	case err != nil:
		problem := f.request.failure(err, f.request.accessTo("get", kind, namespace, name))
		return &problem
	case uid != "" && string(uid) != string(object.GetUID()):
		f.left = append(f.left, fmt.Sprintf(saysReplaced, nameOf(kind.Kind, name)))
	default:
		f.add(kind, object)
	}
	return nil
}

// present lists the resources of the incident that are there.
func (f *resolution) present() []*v1alpha1.IncidentResource {
	var present []*v1alpha1.IncidentResource
	resources := f.request.Incident.Status.Resources
	for i := range resources {
		if resources[i].State == v1alpha1.ResourcePresent {
			present = append(present, &resources[i])
		}
	}
	return present
}

// named adds a resource that is itself of the kind.
func (f *resolution) named(ctx context.Context, resource *v1alpha1.IncidentResource, kind schema.GroupVersionKind) *lifecycle.Result {
	if resource.Kind != kind.Kind || resource.APIVersion != kind.GroupVersion().String() {
		return nil
	}
	return f.find(ctx, kind, resource.Namespace, resource.Name, resource.UID)
}

// namespaces finds the namespaces the incident is about, and those its objects are in.
func (f *resolution) namespaces(ctx context.Context) *lifecycle.Result {
	asked := map[string]bool{}
	for _, resource := range f.present() {
		if problem := f.named(ctx, resource, namespaceKind); problem != nil {
			return problem
		}
		if resource.Namespace == "" || asked[resource.Namespace] {
			continue
		}
		asked[resource.Namespace] = true
		if problem := f.find(ctx, namespaceKind, "", resource.Namespace, ""); problem != nil {
			return problem
		}
	}
	return nil
}

// byPods finds what the incident's pods run on, as or from, and what its workloads would.
func (f *resolution) byPods(ctx context.Context) *lifecycle.Result {
	asked := map[string]bool{}
	for _, resource := range f.present() {
		if problem := f.namedOf(ctx, resource); problem != nil {
			return problem
		}
		kind := schema.FromAPIVersionAndKind(resource.APIVersion, resource.Kind)
		if kind != podKind && (!slices.Contains(workloadKinds, kind) || f.request.Step.Target == v1alpha1.TargetNodes) {
			continue
		}
		object, err := f.request.object(ctx, kind, client.ObjectKey{Namespace: resource.Namespace, Name: resource.Name})
		switch {
		case apierrors.IsNotFound(err):
			f.left = append(f.left, fmt.Sprintf(saysGone, nameOf(resource.Kind, resource.Name)))
			continue
		case err != nil:
			problem := f.request.failure(err, f.request.accessTo("get", kind, resource.Namespace, resource.Name))
			return &problem
		case string(object.GetUID()) != string(resource.UID):
			f.left = append(f.left, fmt.Sprintf(saysReplaced, nameOf(resource.Kind, resource.Name)))
			continue
		}
		pod, err := podOf(object)
		if err != nil {
			problem := refused("%s cannot be read: %v", nameOf(resource.Kind, resource.Name), err)
			return &problem
		}
		if problem := f.ofPod(ctx, pod, resource.Container, asked); problem != nil {
			return problem
		}
	}
	return nil
}

// podOf gives a pod, or the one that a workload would make.
func podOf(object *unstructured.Unstructured) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if object.GetKind() == podKind.Kind {
		return pod, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, pod)
	}
	path := []string{"spec", "template", "spec"}
	if object.GetKind() == "CronJob" {
		path = []string{"spec", "jobTemplate", "spec", "template", "spec"}
	}
	spec, _, err := unstructured.NestedMap(object.Object, path...)
	if err != nil {
		return nil, err
	}
	pod.Namespace, pod.Name = object.GetNamespace(), object.GetName()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(spec, &pod.Spec); err != nil {
		return nil, err
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = "default"
	}
	return pod, nil
}

func (f *resolution) namedOf(ctx context.Context, resource *v1alpha1.IncidentResource) *lifecycle.Result {
	switch f.request.Step.Target {
	case v1alpha1.TargetNodes:
		return f.named(ctx, resource, nodeKind)
	case v1alpha1.TargetServiceAccounts:
		return f.named(ctx, resource, serviceAccountKind)
	}
	return nil
}

// ofPod adds what one pod runs on, as or from.
func (f *resolution) ofPod(ctx context.Context, pod *corev1.Pod, container string, asked map[string]bool) *lifecycle.Result {
	kind, namespace, name := nodeKind, "", pod.Spec.NodeName
	switch f.request.Step.Target {
	case v1alpha1.TargetImages:
		f.images(pod, container)
		return nil
	case v1alpha1.TargetServiceAccounts:
		kind, namespace, name = serviceAccountKind, pod.Namespace, pod.Spec.ServiceAccountName
	}
	if name == "" {
		f.left = append(f.left, fmt.Sprintf("Pod '%s' has no %s", pod.Name, kind.Kind))
		return nil
	}
	key := namespace + "/" + name
	if asked[key] {
		return nil
	}
	asked[key] = true
	return f.find(ctx, kind, namespace, name, "")
}

// byExpression finds what `targets` yields.
func (f *resolution) byExpression(ctx context.Context) *lifecycle.Result {
	r := f.request
	if r.Values == nil {
		problem := refused("step '%s' has `targets`, and nothing is there to evaluate it", r.Step.Name)
		return &problem
	}
	references, err := r.Values.Targets(ctx, r.Incident, r.Step.Targets)
	if err != nil {
		problem := refused("`targets` could not be evaluated: %v", err)
		return &problem
	}
	for i := range references {
		reference := &references[i]
		kind := schema.FromAPIVersionAndKind(reference.APIVersion, reference.Kind)
		if problem := f.scoped(kind, reference); problem != nil {
			return problem
		}
		if problem := f.find(ctx, kind, reference.Namespace, reference.Name, reference.UID); problem != nil {
			return problem
		}
	}
	return nil
}

// scoped says what is wrong about the namespace of a reference: of a wrong one the API
// server would read another object than the one that is meant.
func (f *resolution) scoped(kind schema.GroupVersionKind, reference *v1alpha1.ResourceReference) *lifecycle.Result {
	mapping, err := f.request.Client.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		problem := f.request.failure(err, f.request.accessTo("get", kind, reference.Namespace, reference.Name))
		return &problem
	}
	namespaced := mapping.Scope.Name() == meta.RESTScopeNameNamespace
	var problem lifecycle.Result
	switch {
	case namespaced && reference.Namespace == "":
		problem = refused("`targets` yields %s without `namespace`: it must be set, as objects of this kind are in a namespace", nameOf(kind.Kind, reference.Name))
	case !namespaced && reference.Namespace != "":
		problem = refused("`targets` yields %s with `namespace: %s`: it must be absent, as objects of this kind are in no namespace", nameOf(kind.Kind, reference.Name), reference.Namespace)
	default:
		return nil
	}
	return &problem
}

// images adds the images a pod runs: where the incident knows the container in which it
// happened, that container's alone, for the others may run in half of all pods.
func (f *resolution) images(pod *corev1.Pod, container string) {
	running := map[string]string{}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range statuses {
			running[statuses[i].Name] = statuses[i].ImageID
		}
	}
	wanted := map[string]string{}
	var order []string
	want := func(name, image string) {
		wanted[name] = image
		order = append(order, name)
	}
	for i := range pod.Spec.InitContainers {
		want(pod.Spec.InitContainers[i].Name, pod.Spec.InitContainers[i].Image)
	}
	for i := range pod.Spec.Containers {
		want(pod.Spec.Containers[i].Name, pod.Spec.Containers[i].Image)
	}
	for i := range pod.Spec.EphemeralContainers {
		want(pod.Spec.EphemeralContainers[i].Name, pod.Spec.EphemeralContainers[i].Image)
	}
	if _, known := wanted[container]; known {
		order = []string{container}
	}
	for _, name := range order {
		target := ImageTarget(imageReference(wanted[name], running[name]))
		if target.Name == "" || len(target.Name) > maxName {
			f.left = append(f.left, fmt.Sprintf("the image of container '%s' of Pod '%s' has no name of up to %d bytes", name, pod.Name, maxName))
			continue
		}
		f.addTarget(target)
	}
}

const (
	// KindImage is the kind of a target that stands for a container image. No API serves
	// it: its apiVersion is that of Firebreak, its name the reference of the image, or
	// the digest alone where that is too long for a name, and its UID a hash of the name.
	KindImage = "Image"

	maxName = 253
)

// ImageTarget gives the target that stands for an image.
func ImageTarget(reference string) v1alpha1.StepTarget {
	if _, digest, found := strings.Cut(reference, "@"); len(reference) > maxName && found {
		reference = digest
	}
	hash := ShortHash(32, KindImage, reference)
	return v1alpha1.StepTarget{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: KindImage, Name: reference,
		UID:   v1alpha1.ObjectUID(strings.Join([]string{hash[:8], hash[8:12], hash[12:16], hash[16:20], hash[20:]}, "-")),
		State: v1alpha1.TargetPending,
	}
}

// imageReference names the image of a container by the digest that runs, as far as that
// is known. Runtimes spell it 'docker-pullable://REPOSITORY@DIGEST', 'REPOSITORY@DIGEST',
// or, for an image that was never pulled, as its local ID.
func imageReference(image, imageID string) string {
	if _, rest, found := strings.Cut(imageID, "://"); found {
		imageID = rest
	}
	if strings.Contains(imageID, "@sha256:") {
		return imageID
	}
	return image
}
