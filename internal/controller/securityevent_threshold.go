package controller

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/classify"
)

// classify assesses an event. Only where it is below a threshold the other events of the
// same thing are looked up, and it is assessed with what they have counted.
func (r *SecurityEventReconciler) classify(ctx context.Context, in classify.Input) (classify.Assessment, error) {
	result, err := classify.Assess(ctx, in)
	key := classify.SameThing(in.Event)
	if err != nil || !tooFew(&result) || key == "" {
		return result, err
	}
	list := &v1alpha1.SecurityEventList{}
	err = r.Client.List(ctx, list, client.InNamespace(in.Event.Namespace), client.MatchingFields{indexSameThing: bucketOf(key)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return result, fmt.Errorf("list the events of the same thing as %q: %w", in.Event.Name, err)
	}
	for i := range list.Items {
		if list.Items[i].Name != in.Event.Name && classify.SameThing(&list.Items[i]) == key {
			in.Same = append(in.Same, list.Items[i])
		}
	}
	if len(in.Same) == 0 {
		return result, nil
	}
	return classify.Assess(ctx, in)
}

// tooFew says that an event is below the threshold of its rule.
func tooFew(result *classify.Assessment) bool {
	return result.Record.Reason == v1alpha1.ReasonThresholdPending || result.Record.Reason == v1alpha1.ReasonThresholdNotReached
}

// wasTooFew says that an event was dismissed because it was below the threshold of its rule.
func wasTooFew(last *v1alpha1.Assessment) bool {
	return last.Outcome == v1alpha1.OutcomeDismissed && last.Reason == v1alpha1.ReasonThresholdNotReached
}

// seenMoreOften says that an event that was not seen often enough was seen again since.
func seenMoreOften(event *v1alpha1.SecurityEvent) bool {
	return wasTooFew(&event.Status.Assessment) && occurrences(event.Status.Counters) > event.Status.Occurrences
}

// stillTooFew says that such an event stays dismissed.
func stillTooFew(last *v1alpha1.Assessment, result *classify.Assessment) bool {
	return wasTooFew(last) && tooFew(result)
}

// bucketOf is under which of 4,096 words the index has a thing: a word for each would take
// more memory than the rest of the event.
func bucketOf(thing string) string {
	return thing[:min(2, len(thing))]
}
