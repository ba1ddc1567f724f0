package workload

import (
	"context"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// late is an API server whose memory lags behind what is stored.
type late struct {
	objects
	remembered objects

	mu    sync.Mutex
	asked []string
}

func (l *late) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := object.GetObjectKind().GroupVersionKind().Kind
	if slices.Contains(options, Recent) {
		l.asked = append(l.asked, "memory "+kind)
		return l.remembered.Get(ctx, key, object)
	}
	l.asked = append(l.asked, "etcd "+kind)
	return l.objects.Get(ctx, key, object)
}

// TestLateMemory: what the API server remembers of another object, or does not remember, is not
// believed.
func TestLateMemory(t *testing.T) {
	now := objects{"Pod/db-0": owned("db-0", "new", "apps/v1 StatefulSet db set"), "StatefulSet/db": owned("db", "set", "")}
	missing := annotated(owned("db-0", "", ""), "gone", "yes")
	for name, test := range map[string]struct {
		remembered objects
		uid        v1alpha1.ObjectUID
		asked      []string
	}{
		"it has caught up":          {now, "new", []string{"memory Pod", "memory StatefulSet"}},
		"it knows the pod before":   {objects{"Pod/db-0": owned("db-0", "old", ""), "StatefulSet/db": now["StatefulSet/db"]}, "new", []string{"memory Pod", "etcd Pod", "memory StatefulSet"}},
		"it does not know the pod":  {objects{"Pod/db-0": missing, "StatefulSet/db": now["StatefulSet/db"]}, "", []string{"memory Pod", "etcd Pod", "memory StatefulSet"}},
		"it knows an owner before":  {objects{"Pod/db-0": now["Pod/db-0"], "StatefulSet/db": owned("db", "former", "")}, "new", []string{"memory Pod", "memory StatefulSet", "etcd StatefulSet"}},
		"it does not know an owner": {objects{"Pod/db-0": now["Pod/db-0"], "StatefulSet/db": missing}, "new", []string{"memory Pod", "memory StatefulSet", "etcd StatefulSet"}},
	} {
		t.Run(name, func(t *testing.T) {
			reader := &late{objects: now, remembered: test.remembered}
			got, err := NameOf(t.Context(), reader, v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "db-0", UID: test.uid})
			if err != nil || got.Text != "db" {
				t.Errorf("the workload is %+v, error %v, want 'db'", got, err)
			}
			if !slices.Equal(reader.asked, test.asked) {
				t.Errorf("asked were %q, want %q", reader.asked, test.asked)
			}
		})
	}
}

// TestLateMemoryOfDeployment: the same where the Deployment is read at the same time as the ReplicaSet.
func TestLateMemoryOfDeployment(t *testing.T) {
	set := owned("cart-7f9", "set", "apps/v1 Deployment cart deployment")
	now := objects{"ReplicaSet/cart-7f9": set, "Deployment/cart": owned("cart", "deployment", "")}
	pod := &corev1.Pod{ObjectMeta: owned("cart-7f9-x", "pod", "apps/v1 ReplicaSet cart-7f9 set")}
	pod.Labels = map[string]string{"pod-template-hash": "7f9"}
	before := objects{"ReplicaSet/cart-7f9": set, "Deployment/cart": owned("cart", "former", "")}
	top, err := TopOwner(t.Context(), &late{objects: now, remembered: before}, pod)
	if err != nil || top.Kind != "Deployment" || top.UID != "deployment" {
		t.Errorf("the workload is %+v, error %v, want the Deployment that is there", top, err)
	}
}
