package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// observe gives everything that changes in the world from now on, until ctx ends.
func (w *world) observe(ctx context.Context, t *testing.T) <-chan watch.Event {
	t.Helper()
	changes := make(chan watch.Event, 256)
	watched := map[string][]client.ObjectList{
		w.Namespace: {
			&v1alpha1.SecurityEventList{}, &v1alpha1.IncidentList{}, &v1alpha1.DecisionList{},
			&v1alpha1.EvidenceList{}, &v1alpha1.LessonLearnedList{}, &eventsv1.EventList{},
		},
		w.Target: {&corev1.PodList{}, &networkingv1.NetworkPolicyList{}},
	}
	if w.things != nil {
		watched[w.Namespace] = append(watched[w.Namespace], &batchv1.JobList{})
		watched[w.Target] = append(watched[w.Target], &corev1.ConfigMapList{}, &batchv1.CronJobList{}, &appsv1.DeploymentList{}, &rbacv1.RoleBindingList{})
		watched[""] = []client.ObjectList{&corev1.NodeList{}, &admissionv1.ValidatingAdmissionPolicyList{}, &admissionv1.ValidatingAdmissionPolicyBindingList{}}
	}
	for namespace, lists := range watched {
		for _, list := range lists {
			o := &observer{reader: w.Client, list: list, namespace: namespace, to: changes, known: map[types.UID]client.Object{}}
			version, err := o.catchUp(ctx, false)
			if err != nil {
				t.Fatal(err)
			}
			go o.follow(ctx, version)
		}
	}
	return changes
}

// observer tells what changes of one kind, whatever becomes of its watches.
type observer struct {
	reader    client.WithWatch
	list      client.ObjectList
	namespace string
	to        chan<- watch.Event
	known     map[types.UID]client.Object
}

// relistAfter is how long an observer waits before it asks an API server again that did not answer.
const relistAfter = 50 * time.Millisecond

func (o *observer) follow(ctx context.Context, version string) {
	for {
		from := &client.ListOptions{Namespace: o.namespace, Raw: &metav1.ListOptions{ResourceVersion: version}}
		if watched, err := o.reader.Watch(ctx, o.list, from); err == nil {
			o.forward(ctx, watched)
		}
		for {
			var err error
			if version, err = o.catchUp(ctx, true); err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(relistAfter):
			}
		}
	}
}

// forward tells what a watch says, until it ends.
func (o *observer) forward(ctx context.Context, from watch.Interface) {
	defer from.Stop()
	for change := range from.ResultChan() {
		object, ok := change.Object.(client.Object)
		if !ok || change.Type == watch.Error {
			return
		}
		if change.Type == watch.Deleted {
			delete(o.known, object.GetUID())
		} else {
			o.known[object.GetUID()] = object
		}
		o.tell(ctx, change)
	}
}

// catchUp lists, and tells what has changed since, when that is asked for.
func (o *observer) catchUp(ctx context.Context, tell bool) (version string, err error) {
	if err := o.reader.List(ctx, o.list, client.InNamespace(o.namespace)); err != nil {
		return "", err
	}
	items, err := meta.ExtractList(o.list)
	if err != nil {
		return "", err
	}
	gone := maps.Clone(o.known)
	for _, item := range items {
		object, ok := item.(client.Object)
		if !ok {
			return "", fmt.Errorf("a %T is no object", item)
		}
		before, found := o.known[object.GetUID()]
		delete(gone, object.GetUID())
		o.known[object.GetUID()] = object
		change := watch.Event{Type: watch.Added, Object: object}
		if found {
			change.Type = watch.Modified
		}
		if tell && (!found || before.GetResourceVersion() != object.GetResourceVersion()) {
			o.tell(ctx, change)
		}
	}
	for uid, object := range gone {
		delete(o.known, uid)
		o.tell(ctx, watch.Event{Type: watch.Deleted, Object: object})
	}
	return o.list.GetResourceVersion(), nil
}

func (o *observer) tell(ctx context.Context, change watch.Event) {
	select {
	case o.to <- change:
	case <-ctx.Done():
	}
}

// history is what was seen to happen to the objects outside the domain.
type history struct {
	// policies are the NetworkPolicies that were made and removed, such as '+NAME'.
	policies []string
	// removed are the pods that were deleted, and added those that were created.
	removed, added []string
	// labels are the labels the suspect had, one after the other.
	labels []string
}

func (h *history) note(w *world, change watch.Event) {
	switch object := change.Object.(type) {
	case *networkingv1.NetworkPolicy:
		switch change.Type {
		case watch.Added:
			h.policies = append(h.policies, "+"+object.Name)
		case watch.Deleted:
			h.policies = append(h.policies, "-"+object.Name)
		}
	case *corev1.Pod:
		switch change.Type {
		case watch.Added:
			h.added = append(h.added, object.Name)
		case watch.Deleted:
			h.removed = append(h.removed, object.Name)
		}
		if object.UID == w.suspect.UID {
			h.noteLabels(object)
		}
	}
}

func (h *history) noteLabels(pod *corev1.Pod) {
	shown := map[string]string{}
	for key, value := range pod.Labels {
		if prefix, _, ok := strings.Cut(key, "/"); ok {
			key, value = prefix, "" // of this incident, and in no other alike
		}
		shown[key] = value
	}
	text, err := json.Marshal(shown)
	if err != nil {
		return // cannot be: all of it is text
	}
	if count := len(h.labels); count == 0 || h.labels[count-1] != string(text) {
		h.labels = append(h.labels, string(text))
	}
}
