package controller

import (
	"context"
	"fmt"
	"unique"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// KeepOfEvent is what the cache keeps of a SecurityEvent: there may be many thousands. The
// managed fields go, texts that many events share are kept once, and of an event that was
// decided, and waits for nobody, its attributes, its description and its annotations go:
// only the expressions of rules and plans ask for them. Who needs them nevertheless reads the event without the cache, see whole.
func KeepOfEvent(object any) (any, error) {
	event, ok := object.(*v1alpha1.SecurityEvent)
	if !ok {
		return object, nil // a tombstone
	}
	event.ManagedFields = nil
	if !keptWhole(event) {
		event.Annotations, event.Spec.Attributes, event.Spec.Description = nil, nil, ""
	}
	shareSpec(&event.Spec)
	share(&event.APIVersion)
	share(&event.Kind)
	share(&event.Namespace)
	shareAssessment(&event.Status.Assessment)
	for i := range event.Status.EarlierAssessments {
		shareAssessment(&event.Status.EarlierAssessments[i])
	}
	for i := range event.Status.Conditions {
		shareCondition(&event.Status.Conditions[i])
	}
	for i := range event.Status.Counters {
		share(&event.Status.Counters[i].Spool)
	}
	return event, nil
}

// keptWhole says whether the cache keeps all of an event: the policies or a person have yet
// to decide about it.
func keptWhole(event *v1alpha1.SecurityEvent) bool { return undecided(event) || isDeferred(event) }

func shareSpec(spec *v1alpha1.SecurityEventSpec) {
	share(&spec.Source.Kind)
	share(&spec.Source.Product)
	share(&spec.Source.Rule)
	share(&spec.Source.Instance)
	share(&spec.SubmittedBy)
	share(&spec.Mode)
	share(&spec.Severity)
	for i := range spec.Resources {
		resource := &spec.Resources[i]
		for _, text := range []*string{&resource.APIVersion, &resource.Kind, &resource.Namespace, &resource.Container, &resource.Image, &resource.Node} {
			share(text)
		}
	}
	for i := range spec.Attacks {
		share(&spec.Attacks[i].Tactic)
		share(&spec.Attacks[i].Technique)
	}
}

func shareAssessment(assessment *v1alpha1.Assessment) {
	share(&assessment.Outcome)
	share(&assessment.Policy.Name)
	share(&assessment.Rule)
	share(&assessment.Reason)
	share(&assessment.Message)
	share(&assessment.By)
}

func shareCondition(condition *metav1.Condition) {
	share(&condition.Type)
	share(&condition.Status)
	share(&condition.Reason)
	share(&condition.Message)
}

// share makes equal texts one in memory, as long as somebody has one.
func share[T ~string](text *T) {
	if *text != "" {
		*text = unique.Make(*text).Value()
	}
}

// whole gives an event with all that expressions may ask for. The cache had it when it was
// kept whole there, and the spec never changes.
func (r *SecurityEventReconciler) whole(ctx context.Context, cached, event *v1alpha1.SecurityEvent) (*v1alpha1.SecurityEvent, error) {
	if keptWhole(cached) {
		return event, nil
	}
	live := &v1alpha1.SecurityEvent{}
	err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(event), live)
	if apierrors.IsNotFound(err) || err == nil && live.UID != event.UID {
		return nil, errStale
	}
	if err != nil {
		return nil, fmt.Errorf("read event %q: %w", event.Name, err)
	}
	full := event.DeepCopy()
	full.Spec, full.Annotations = live.Spec, live.Annotations
	return full, nil
}
