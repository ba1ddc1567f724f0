package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
	"github.com/firebreak-dev/firebreak/internal/workload"
)

const (
	// workloadTimeout bounds the look at a pod and its owners: the assessment does not
	// hang on another namespace's objects.
	workloadTimeout = 2 * time.Second
	// workloadPatience is for how long the look is tried again, when it fails for a
	// reason that may pass, before the assessment goes on without.
	workloadPatience = 10 * time.Second
)

// workloadOf gives the name of the top owner of the event's first resource, as the
// plan's ServiceAccount sees it; where a pod's owners do not tell it (any more), what an open
// incident knows of that very pod; and where that cannot be told, the resource's own name.
// Incidents are keyed by it, so that it must not depend on a server's bad moment: then
// it is an error, for a while. An event assessed before keeps the one it was first
// assessed with.
func (r *SecurityEventReconciler) workloadOf(ctx context.Context, event *v1alpha1.SecurityEvent) (string, error) {
	if known := knownWorkload(event); known != "" {
		return known, nil
	}
	if len(event.Spec.Resources) == 0 {
		return "", nil
	}
	resource := event.Spec.Resources[0]
	name, err := r.lookUpWorkload(ctx, event)
	if err == nil {
		r.lookups.forget(event.UID)
		return name, nil
	}
	if ctx.Err() == nil && r.lookups.failed(event.UID, r.Clock.Now()) >= workloadPatience {
		log.FromContext(ctx).Error(err, "assessed without knowing the workload", "resource", resource.Name)
		r.lookups.forget(event.UID)
		return resource.Name, nil
	}
	return "", fmt.Errorf("look up the workload of event %q: %w", event.Name, err)
}

// knownWorkload is the workload by which an event was assessed, also while it waits for more of
// them and nothing is in force; empty when it was not.
func knownWorkload(event *v1alpha1.SecurityEvent) string {
	earlier := event.Status.EarlierAssessments
	if event.Status.Assessment.Outcome == "" && len(earlier) > 0 {
		return earlier[len(earlier)-1].Workload
	}
	return event.Status.Assessment.Workload
}

func (r *SecurityEventReconciler) lookUpWorkload(ctx context.Context, event *v1alpha1.SecurityEvent) (string, error) {
	namespace, resource := event.Namespace, event.Spec.Resources[0]
	plan, err := planOf(ctx, r.Client, namespace)
	if err != nil {
		return "", err
	}
	if plan == nil || plan.Spec.ServiceAccountName == "" || r.Identities == nil {
		return resource.Name, nil
	}
	ctx, cancel := context.WithTimeout(ctx, workloadTimeout)
	defer cancel()
	reader, err := r.Identities.Client(ctx, namespace, plan.Spec.ServiceAccountName)
	var notAllowed *impersonation.NotAllowedError
	if errors.As(err, &notAllowed) {
		log.FromContext(ctx).V(1).Info("workload not looked up", "serviceAccount", plan.Spec.ServiceAccountName, "cause", err.Error())
		return resource.Name, nil
	}
	if err != nil {
		return "", err
	}
	name, err := workload.NameOf(ctx, reader, resource)
	if err != nil || name.Orphan == "" {
		return name.Text, err
	}
	former, err := r.formerWorkload(ctx, event, name.Orphan)
	return cmp.Or(former, name.Text), err
}

// failingLookups knows since when the workload of an event could not be looked up.
type failingLookups struct {
	mu    sync.Mutex
	since map[types.UID]time.Time
}

// failed says for how long a look-up that has just failed again has been failing.
func (f *failingLookups) failed(uid types.UID, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since == nil || len(f.since) >= gateSize {
		kept := map[types.UID]time.Time{}
		for other, since := range f.since {
			if now.Sub(since) < 2*workloadPatience {
				kept[other] = since
			}
		}
		f.since = kept
	}
	since, ok := f.since[uid]
	if !ok {
		f.since[uid] = now
		return 0
	}
	return now.Sub(since)
}

func (f *failingLookups) forget(uid types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.since, uid)
}
