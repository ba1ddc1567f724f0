package workload

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// objects is a reader of what is there, by 'kind/name'; what is missing may not be read.
type objects map[string]metav1.ObjectMeta

func (o objects) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	metadata, ok := o[object.GetObjectKind().GroupVersionKind().Kind+"/"+key.Name]
	if !ok || key.Namespace != "shop" {
		return errors.New("forbidden")
	}
	object.(*metav1.PartialObjectMetadata).ObjectMeta = metadata
	return nil
}

func (o objects) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("not needed")
}

func owned(name, uid, ownerKind, ownerName, ownerUID string) metav1.ObjectMeta {
	metadata := metav1.ObjectMeta{Name: name, Namespace: "shop", UID: types.UID(uid)}
	if ownerKind != "" {
		version := "apps/v1"
		if ownerKind == "Node" {
			version = "v1"
		}
		metadata.OwnerReferences = []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "ConfigMap", Name: "no-controller", UID: "x"},
			{APIVersion: version, Kind: ownerKind, Name: ownerName, UID: types.UID(ownerUID), Controller: ptr.To(true)},
		}
	}
	return metadata
}

func TestTopOwner(t *testing.T) {
	pod := owned("cart-7f9-abc", "p1", "ReplicaSet", "cart-7f9", "r1")
	deployment := v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "cart", UID: "d1"}
	replicaSet := v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart-7f9", UID: "r1"}
	for name, test := range map[string]struct {
		pod     metav1.ObjectMeta
		objects objects
		want    v1alpha1.WorkloadReference
		named   string
	}{
		"deployment": {
			pod:     pod,
			objects: objects{"ReplicaSet/cart-7f9": owned("cart-7f9", "r1", "Deployment", "cart", "d1"), "Deployment/cart": owned("cart", "d1", "", "", "")},
			want:    deployment, named: "cart",
		},
		"deployment may not be read": {
			pod:     pod,
			objects: objects{"ReplicaSet/cart-7f9": owned("cart-7f9", "r1", "Deployment", "cart", "d1")},
			want:    replicaSet, named: "cart-7f9",
		},
		"another deployment of that name": {
			pod:     pod,
			objects: objects{"ReplicaSet/cart-7f9": owned("cart-7f9", "r1", "Deployment", "cart", "d1"), "Deployment/cart": owned("cart", "d2", "", "", "")},
			want:    replicaSet, named: "cart-7f9",
		},
		"nothing may be read": {pod: pod, named: "cart-7f9-abc"},
		"no owner":            {pod: owned("bare", "p1", "", "", ""), named: "bare"},
		"static pod":          {pod: owned("etcd-node-1", "p1", "Node", "node-1", "n1"), objects: objects{"Node/node-1": owned("node-1", "n1", "", "", "")}, named: "etcd-node-1"},
		"owners in a circle": {
			pod: owned("a", "p1", "Widget", "w", "w1"), objects: objects{"Widget/w": owned("w", "w1", "Widget", "w", "w1")},
			want: v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Widget", Name: "w", UID: "w1"}, named: "w",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := TopOwner(t.Context(), test.objects, &corev1.Pod{ObjectMeta: test.pod})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("top owner (-want +got):\n%s", diff)
			}
			all := objects{"Pod/" + test.pod.Name: test.pod}
			for key, value := range test.objects {
				all[key] = value
			}
			reference := v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: test.pod.Name}
			if name := NameOf(t.Context(), all, reference); name != test.named {
				t.Errorf("got the name %q, want %q", name, test.named)
			}
			reference.UID = "another"
			if name := NameOf(t.Context(), all, reference); name != test.pod.Name {
				t.Errorf("got the name %q for a pod that came back, want its own", name)
			}
		})
	}
}

func TestNameOfOtherKinds(t *testing.T) {
	reference := v1alpha1.ResourceReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "cart"}
	if name := NameOf(t.Context(), objects{}, reference); name != "cart" {
		t.Errorf("got %q, want 'cart'", name)
	}
}
