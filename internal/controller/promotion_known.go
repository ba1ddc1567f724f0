package controller

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// listPage is how many incidents are listed at a time.
	listPage = 500
	// recentFor is how long an incident is remembered beside the cache, and recentSize
	// from how many on the older ones are forgotten.
	recentFor  = time.Minute
	recentSize = 4096
)

// knownIncidents knows which incidents of a correlation there are: those of the cache,
// once it was seen to hold all there were when it was first asked, and those opened
// since. Asking the API server every time would cost a tenth of a second: a consistent
// list waits for etcd's next progress notification.
type knownIncidents struct {
	cached   client.Reader
	uncached client.Reader
	clock    clock.PassiveClock

	mu sync.Mutex
	// complete are the namespaces of which the cache holds all there was.
	complete map[string]bool
	// recent are incidents that the cache may not hold yet.
	recent map[types.NamespacedName]recentIncident
	// full is how many of them there are when those that are not recent any more are forgotten.
	full int
}

type recentIncident struct {
	incident *v1alpha1.Incident
	since    time.Time
}

// of gives the incidents of a correlation, the latest first and as it is now; of the
// others only what never changes is certain.
func (k *knownIncidents) of(ctx context.Context, namespace, label string) ([]*v1alpha1.Incident, error) {
	if err := k.ensureComplete(ctx, namespace); err != nil {
		return nil, err
	}
	list := &v1alpha1.IncidentList{}
	err := k.cached.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{indexCorrelation: label}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list the incidents of correlation %s: %w", label, err)
	}
	incidents := k.added(recentKey(namespace, label))
	for i := range list.Items {
		incidents = append(incidents, &list.Items[i])
	}
	slices.SortStableFunc(incidents, func(a, b *v1alpha1.Incident) int { return sequenceOf(b) - sequenceOf(a) })
	incidents = slices.CompactFunc(incidents, func(a, b *v1alpha1.Incident) bool { return a.Name == b.Name })
	if len(incidents) == 0 {
		return nil, nil
	}
	latest := &v1alpha1.Incident{}
	err = k.uncached.Get(ctx, client.ObjectKeyFromObject(incidents[0]), latest)
	if apierrors.IsNotFound(err) {
		// It was deleted; its number is not used again.
		latest = incidents[0].DeepCopy()
		latest.Status.Phase = v1alpha1.PhaseClosed
	} else if err != nil {
		return nil, fmt.Errorf("read incident %q: %w", incidents[0].Name, err)
	}
	incidents[0] = latest
	return incidents, nil
}

// opened gives the incident that an event has opened before it could say so; nil when there is
// none. It may be of another correlation than the event would be of now: what contains a pod
// takes it out of its workload, and a policy may have changed.
func (k *knownIncidents) opened(ctx context.Context, event *v1alpha1.SecurityEvent) (*v1alpha1.Incident, error) {
	if everPromoted(event) {
		return nil, nil
	}
	if err := k.ensureComplete(ctx, event.Namespace); err != nil {
		return nil, err
	}
	list := &v1alpha1.IncidentList{}
	err := k.cached.List(ctx, list, client.InNamespace(event.Namespace), client.MatchingFields{indexIncidentEvents: eventKey(event.Spec.Mode, event.Name)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list the incidents that name event %q: %w", event.Name, err)
	}
	incidents := k.added(openerKey(event.Namespace, event.Name))
	for i := range list.Items {
		incidents = append(incidents, &list.Items[i])
	}
	// The cache's comes last, and knows more.
	for _, incident := range slices.Backward(incidents) {
		// One that a person has declared has no correlation: it was not opened by the event.
		if incident.Labels[v1alpha1.LabelCorrelation] != "" && openedBy(incident, event) {
			return incident, nil
		}
	}
	return nil, nil
}

// add makes known an incident that was just opened.
func (k *knownIncidents) add(incident *v1alpha1.Incident) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock.Now()
	if k.recent == nil || len(k.recent) >= k.full {
		kept := map[types.NamespacedName]recentIncident{}
		for key, other := range k.recent {
			if now.Sub(other.since) < recentFor {
				kept[key] = other
			}
		}
		k.recent, k.full = kept, max(recentSize, 2*len(kept))
	}
	k.recent[recentKey(incident.Namespace, incident.Labels[v1alpha1.LabelCorrelation])] = recentIncident{incident, now}
	for _, opener := range incident.Spec.EventRefs {
		k.recent[openerKey(incident.Namespace, opener.Name)] = recentIncident{incident, now}
	}
}

// added gives the incident of a correlation, or of the event that has opened it, that was
// opened lately.
func (k *knownIncidents) added(key types.NamespacedName) []*v1alpha1.Incident {
	k.mu.Lock()
	defer k.mu.Unlock()
	if recent, ok := k.recent[key]; ok && k.clock.Since(recent.since) < recentFor {
		return []*v1alpha1.Incident{recent.incident}
	}
	return nil
}

func recentKey(namespace, label string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: label}
}

// openerKey is no recentKey: no label has a slash.
func openerKey(namespace, event string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: "event/" + event}
}

// ensureComplete makes sure, once for every namespace, that the cache holds all
// incidents there are: those that an earlier manager has opened at the last moment.
func (k *knownIncidents) ensureComplete(ctx context.Context, namespace string) error {
	k.mu.Lock()
	done := k.complete[namespace]
	k.mu.Unlock()
	if done {
		return nil
	}
	names, err := k.list(ctx, namespace)
	if err != nil {
		return err
	}
	cached := &v1alpha1.IncidentList{}
	if err := k.cached.List(ctx, cached, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list the incidents of namespace %q: %w", namespace, err)
	}
	for i := range cached.Items {
		delete(names, cached.Items[i].Name)
	}
	if len(names) > 0 {
		return errStale
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.complete == nil {
		k.complete = map[string]bool{}
	}
	k.complete[namespace] = true
	return nil
}

// look asks the API server for the incidents of a correlation, and makes known the last one.
// It says whether that was not among the known ones.
func (k *knownIncidents) look(ctx context.Context, namespace, label string, known []*v1alpha1.Incident) (bool, error) {
	list := &v1alpha1.IncidentList{}
	err := k.uncached.List(ctx, list, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelCorrelation: label})
	if err != nil {
		return false, fmt.Errorf("list the incidents of correlation %s: %w", label, err)
	}
	var last *v1alpha1.Incident
	for i := range list.Items {
		if incident := &list.Items[i]; last == nil || sequenceOf(incident) > sequenceOf(last) {
			last = incident
		}
	}
	if last == nil || slices.ContainsFunc(known, func(incident *v1alpha1.Incident) bool { return incident.Name == last.Name }) {
		return false, nil
	}
	k.add(last)
	return true, nil
}

// list gives the names of the incidents of a namespace without a cache.
func (k *knownIncidents) list(ctx context.Context, namespace string) (map[string]bool, error) {
	names := map[string]bool{}
	options := &client.ListOptions{Namespace: namespace, Limit: listPage}
	for {
		page := &metav1.PartialObjectMetadataList{}
		page.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("IncidentList"))
		if err := k.uncached.List(ctx, page, options); err != nil {
			return nil, fmt.Errorf("list the incidents of namespace %q: %w", namespace, err)
		}
		for i := range page.Items {
			names[page.Items[i].Name] = true
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return names, nil
		}
	}
}

// sequenceOf counts the incidents of one correlation; 0 when the label says nothing.
func sequenceOf(object metav1.Object) int {
	sequence, err := strconv.Atoi(object.GetLabels()[v1alpha1.LabelCorrelationSequence])
	if err != nil {
		return 0
	}
	return sequence
}
