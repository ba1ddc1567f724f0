package workload

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// objects is a reader of what is there, by 'kind/name'; what is missing may not be read.
type objects map[string]metav1.ObjectMeta

func (o objects) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	kind := object.GetObjectKind().GroupVersionKind().Kind
	metadata, ok := o[kind+"/"+key.Name]
	switch {
	case ok && metadata.Annotations["fails"] != "":
		return apierrors.NewServiceUnavailable("the API server starts")
	case ok && metadata.Annotations["kind"] == "missing":
		return &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: kind}}
	case ok && metadata.Annotations["gone"] != "":
		return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, key.Name)
	case !ok || key.Namespace != "shop":
		return apierrors.NewForbidden(schema.GroupResource{Resource: kind}, key.Name, errors.New("no"))
	}
	if partial, ok := object.(*metav1.PartialObjectMetadata); ok {
		partial.ObjectMeta = metadata
		return nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&metav1.PartialObjectMetadata{ObjectMeta: metadata})
	if err != nil {
		return err
	}
	found := object.(*unstructured.Unstructured)
	found.Object = content
	found.SetGroupVersionKind(schema.GroupVersionKind{Kind: kind})
	return nil
}

func (o objects) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("not needed")
}

// owned is the metadata of an object with a controller, as 'apiVersion Kind name uid'.
func owned(name, uid, owner string) metav1.ObjectMeta {
	metadata := metav1.ObjectMeta{Name: name, Namespace: "shop", UID: types.UID(uid)}
	if part := strings.Fields(owner); len(part) == 4 {
		metadata.OwnerReferences = []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "ConfigMap", Name: "no-controller", UID: "x"},
			{APIVersion: part[0], Kind: part[1], Name: part[2], UID: types.UID(part[3]), Controller: ptr.To(true)},
		}
	}
	return metadata
}

func annotated(metadata metav1.ObjectMeta, key, value string) metav1.ObjectMeta {
	metadata.Annotations = map[string]string{key: value}
	return metadata
}

func TestTopOwner(t *testing.T) {
	pod := owned("cart-7f9-abc", "p1", "apps/v1 ReplicaSet cart-7f9 r1")
	set := owned("cart-7f9", "r1", "apps/v1 Deployment cart d1")
	cart := owned("cart", "d1", "")
	deployment := v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "cart", UID: "d1"}
	replicaSet := v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart-7f9", UID: "r1"}
	job := v1alpha1.WorkloadReference{APIVersion: "batch/v1", Kind: "CronJob", Name: "nightly", UID: "c1"}
	for name, test := range map[string]struct {
		pod     metav1.ObjectMeta
		objects objects
		want    v1alpha1.WorkloadReference
		named   string
	}{
		"deployment": {pod: pod, objects: objects{"ReplicaSet/cart-7f9": set, "Deployment/cart": cart}, want: deployment, named: "cart"},
		"cron job": {
			pod:     owned("nightly-1-abc", "p1", "batch/v1 Job nightly-1 j1"),
			objects: objects{"Job/nightly-1": owned("nightly-1", "j1", "batch/v1 CronJob nightly c1"), "CronJob/nightly": owned("nightly", "c1", "")},
			want:    job, named: "nightly",
		},
		"deployment may not be read": {pod: pod, objects: objects{"ReplicaSet/cart-7f9": set}, want: replicaSet, named: "cart-7f9"},
		"deployment is gone": {
			pod: pod, objects: objects{"ReplicaSet/cart-7f9": set, "Deployment/cart": annotated(cart, "gone", "yes")}, want: replicaSet, named: "cart-7f9",
		},
		"no such kind": {
			pod: pod, objects: objects{"ReplicaSet/cart-7f9": set, "Deployment/cart": annotated(cart, "kind", "missing")}, want: replicaSet, named: "cart-7f9",
		},
		"another deployment of that name": {
			pod: pod, objects: objects{"ReplicaSet/cart-7f9": set, "Deployment/cart": owned("cart", "d2", "")}, want: replicaSet, named: "cart-7f9",
		},
		"nothing may be read": {pod: pod, named: "cart-7f9-abc"},
		"no owner":            {pod: owned("bare", "p1", ""), named: "bare"},
		"static pod": {
			pod: owned("etcd-node-1", "p1", "v1 Node node-1 n1"), objects: objects{"Node/node-1": owned("node-1", "n1", "")}, named: "etcd-node-1",
		},
		"forged namespace": {
			pod: owned("bare", "p1", "v1 Namespace shop n1"), objects: objects{"Namespace/shop": owned("shop", "n1", "")}, named: "bare",
		},
		"forged deployment of another group": {
			pod: owned("bare", "p1", "evil.example/v1 Deployment cart d1"), objects: objects{"Deployment/cart": cart}, named: "bare",
		},
		"replica set owned by another kind": {
			pod:     pod,
			objects: objects{"ReplicaSet/cart-7f9": owned("cart-7f9", "r1", "argoproj.io/v1alpha1 Rollout cart o1"), "Rollout/cart": owned("cart", "o1", "")},
			want:    replicaSet, named: "cart-7f9",
		},
		"forged name": {
			pod: owned("bare", "p1", "apps/v1 Deployment ../../nodes/n1 d1"), objects: objects{"Deployment/../../nodes/n1": cart}, named: "bare",
		},
		"owners in a circle": {
			pod: pod, objects: objects{"ReplicaSet/cart-7f9": owned("cart-7f9", "r1", "apps/v1 ReplicaSet cart-7f9 r1")}, want: replicaSet, named: "cart-7f9",
		},
	} {
		t.Run(name, func(t *testing.T) { checkOwner(t, test.pod, test.objects, test.want, test.named) })
		// With this label the Deployment is read at the same time as the ReplicaSet.
		test.pod.Labels = map[string]string{"pod-template-hash": "7f9"}
		t.Run(name+", of a template", func(t *testing.T) { checkOwner(t, test.pod, test.objects, test.want, test.named) })
	}
}

func checkOwner(t *testing.T, pod metav1.ObjectMeta, there objects, want v1alpha1.WorkloadReference, named string) {
	t.Helper()
	got, err := TopOwner(t.Context(), there, &corev1.Pod{ObjectMeta: pod})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("top owner (-want +got):\n%s", diff)
	}
	all := objects{"Pod/" + pod.Name: pod}
	for key, value := range there {
		all[key] = value
	}
	reference := v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: pod.Name}
	expected := Name{Text: named}
	if named == pod.Name {
		expected.Orphan = v1alpha1.ObjectUID(pod.UID)
	}
	if name, err := NameOf(t.Context(), all, reference); name != expected || err != nil {
		t.Errorf("got the name %+v (error %v), want %+v", name, err, expected)
	}
	reference.UID = "another"
	if name, err := NameOf(t.Context(), all, reference); name != (Name{Text: pod.Name}) || err != nil {
		t.Errorf("got the name %+v (error %v) for a pod that came back, want its own, and nothing of what was before", name, err)
	}
}

// A server that does not answer must not give another workload than one that does.
func TestErrorsThatPass(t *testing.T) {
	pod := owned("cart-7f9-abc", "p1", "apps/v1 ReplicaSet cart-7f9 r1")
	set := owned("cart-7f9", "r1", "apps/v1 Deployment cart d1")
	reference := v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: pod.Name}
	for name, there := range map[string]objects{
		"pod":         {"Pod/cart-7f9-abc": annotated(pod, "fails", "yes")},
		"replica set": {"Pod/cart-7f9-abc": pod, "ReplicaSet/cart-7f9": annotated(set, "fails", "yes")},
		"deployment":  {"Pod/cart-7f9-abc": pod, "ReplicaSet/cart-7f9": set, "Deployment/cart": annotated(owned("cart", "d1", ""), "fails", "yes")},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := NameOf(t.Context(), there, reference); !apierrors.IsServiceUnavailable(err) {
				t.Errorf("got the name %+v and the error %v, want that the server is not available", got, err)
			}
			if name == "pod" {
				return
			}
			if got, err := TopOwner(t.Context(), there, &corev1.Pod{ObjectMeta: pod}); !apierrors.IsServiceUnavailable(err) || got.Name != "" {
				t.Errorf("got %+v and the error %v, want none and that the server is not available", got, err)
			}
		})
	}
}

func TestNameOfOtherKinds(t *testing.T) {
	for name, reference := range map[string]v1alpha1.ResourceReference{
		"deployment":         {APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "cart"},
		"another kind 'Pod'": {APIVersion: "evil.example/v1", Kind: "Pod", Namespace: "shop", Name: "cart"},
		"no namespace":       {APIVersion: "v1", Kind: "Pod", Name: "cart"},
	} {
		if got, err := NameOf(t.Context(), objects{}, reference); got != (Name{Text: "cart"}) || err != nil {
			t.Errorf("%s: got %+v (error %v), want 'cart' and no pod", name, got, err)
		}
	}
}

// TestNameOfNoPod: of a pod that is gone the UID of the reference is all there is, and what
// may not be read is not taken for one that is gone.
func TestNameOfNoPod(t *testing.T) {
	gone := objects{"Pod/cart-7f9-abc": annotated(owned("cart-7f9-abc", "p1", ""), "gone", "yes")}
	reference := v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-7f9-abc"}
	for name, one := range map[string]struct {
		there objects
		uid   v1alpha1.ObjectUID
		want  v1alpha1.ObjectUID
	}{
		"gone":                {gone, "p1", "p1"},
		"gone, without a UID": {gone, "", ""},
		"may not be read":     {objects{}, "p1", ""},
	} {
		reference.UID = one.uid
		if got, err := NameOf(t.Context(), one.there, reference); got != (Name{Text: reference.Name, Orphan: one.want}) || err != nil {
			t.Errorf("%s: got %+v (error %v), want the pod's own name and %q", name, got, err, one.want)
		}
	}
}

// panicsOnce is a reader whose first read of a Deployment panics.
type panicsOnce struct {
	objects
	did *atomic.Bool
}

func (p panicsOnce) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if object.GetObjectKind().GroupVersionKind().Kind == "Deployment" && !p.did.Swap(true) {
		panic("as a library might")
	}
	return p.objects.Get(ctx, key, object, options...)
}

// What is read early is read beyond the reach of who recovers the caller.
func TestEarlyReadPanics(t *testing.T) {
	pod := owned("cart-7f9-abc", "p1", "apps/v1 ReplicaSet cart-7f9 r1")
	pod.Labels = map[string]string{"pod-template-hash": "7f9"}
	there := objects{"ReplicaSet/cart-7f9": owned("cart-7f9", "r1", "apps/v1 Deployment cart d1"), "Deployment/cart": owned("cart", "d1", "")}
	did := &atomic.Bool{}
	if got, err := TopOwner(t.Context(), panicsOnce{there, did}, &corev1.Pod{ObjectMeta: pod}); err != nil || got.Name != "cart" || !did.Load() {
		t.Errorf("got %+v and the error %v", got, err)
	}
}
