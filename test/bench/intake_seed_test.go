package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// etcdWriters is how many events are written to etcd at a time.
const etcdWriters = 32

// grow makes assessed events until there are so many. They are put into etcd as the API
// server would: by way of it that takes a quarter of an hour, which tells nothing new.
func (in *intake) grow(t *testing.T, to int) {
	t.Helper()
	there := in.waitAssessed(t)
	like, missing := in.example(t), max(0, to-there)
	t.Logf("%d events, %d to be made", there, missing)
	var next atomic.Int64
	var writers sync.WaitGroup
	for range etcdWriters {
		writers.Go(func() {
			for next.Add(1) <= int64(missing) && !t.Failed() {
				if err := in.store(t, like); err != nil {
					t.Errorf("writing an event to etcd: %v", err)
				}
			}
		})
	}
	writers.Wait()
	if all := in.waitAssessed(t); all < to {
		t.Fatalf("there are %d events, want %d", all, to)
	}
}

// store writes an event like another to etcd. Each has a revision of
// its own, as those of the API server have: watches take it for granted.
func (in *intake) store(t *testing.T, like *v1alpha1.SecurityEvent) error {
	event := in.copyOf(like)
	event.TypeMeta, event.Status = like.TypeMeta, *like.Status.DeepCopy()
	event.UID, event.Generation, event.CreationTimestamp, event.ManagedFields = types.UID(uuid.NewUUID()), 1, like.CreationTimestamp, like.ManagedFields
	event.Status.Assessment.Workload = event.Spec.Resources[0].Name
	value, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return in.askEtcd(t, "put", map[string][]byte{"key": keyOf(event.Namespace, event.Name), "value": value})
}

// empty deletes all events of the domain from etcd, each with a revision of its own: by way of
// the API server it takes longer than a flood does.
func (in *intake) empty(t *testing.T) {
	t.Helper()
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("SecurityEventList"))
	if err := in.Client.List(t.Context(), list, client.InNamespace(in.Namespace)); err != nil {
		t.Fatal(err)
	}
	var next atomic.Int64
	var writers sync.WaitGroup
	for range etcdWriters {
		writers.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(list.Items); n = int(next.Add(1)) - 1 {
				if err := in.askEtcd(t, "deleterange", map[string][]byte{"key": keyOf(in.Namespace, list.Items[n].Name)}); err != nil {
					t.Errorf("deleting an event from etcd: %v", err)
					return
				}
			}
		})
	}
	writers.Wait()
}

func keyOf(namespace, name string) []byte {
	return []byte("/registry/" + v1alpha1.SchemeGroupVersion.Group + "/securityevents/" + namespace + "/" + name)
}

// askEtcd has etcd do something, by its gateway for JSON.
func (in *intake) askEtcd(t *testing.T, verb string, of map[string][]byte) error {
	body, err := json.Marshal(of)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, in.EtcdURL()+"/v3/kv/"+verb, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := in.etcd.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return err
}
