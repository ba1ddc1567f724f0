package fault

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// observe gives everything that changes in the world from now on, until ctx ends.
func (w *world) observe(ctx context.Context, t *testing.T) <-chan watch.Event {
	t.Helper()
	changes := make(chan watch.Event, 256)
	for namespace, lists := range map[string][]client.ObjectList{
		w.Namespace: {
			&v1alpha1.SecurityEventList{}, &v1alpha1.IncidentList{}, &v1alpha1.DecisionList{},
			&v1alpha1.EvidenceList{}, &v1alpha1.LessonLearnedList{}, &eventsv1.EventList{},
		},
		w.Target: {&corev1.PodList{}, &networkingv1.NetworkPolicyList{}},
	} {
		for _, list := range lists {
			if err := w.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
				t.Fatal(err)
			}
			from := &client.ListOptions{Namespace: namespace, Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}}
			watched, err := w.Client.Watch(ctx, list, from)
			if err != nil {
				t.Fatal(err)
			}
			go forward(ctx, watched, changes)
		}
	}
	return changes
}

func forward(ctx context.Context, from watch.Interface, to chan<- watch.Event) {
	defer from.Stop()
	for {
		change, ok := <-from.ResultChan()
		if !ok {
			change = watch.Event{Type: watch.Error}
		}
		select {
		case to <- change:
		case <-ctx.Done():
			return
		}
		if !ok {
			return
		}
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
