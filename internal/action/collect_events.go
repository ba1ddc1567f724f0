package action

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// events keeps the Kubernetes Events about the target. That there are none is kept too.
func (c *collection) events(ctx context.Context) error {
	target := &c.request.Target
	selector := client.MatchingFields{"involvedObject.uid": string(target.UID)}
	events, err := c.list(ctx, corev1.SchemeGroupVersion.WithKind("EventList"), client.InNamespace(target.Namespace), selector)
	if again := c.request.again("events", err); again != nil {
		return again
	}
	if err != nil {
		c.miss("events", err, access{verb: "list", resource: "events", namespace: target.Namespace})
		if len(events) == 0 {
			return nil
		}
	}
	spec := c.spec(v1alpha1.EvidenceEvents, "LIST of the Events with involvedObject.uid="+string(target.UID)+" from the Kubernetes API", mediaTypeJSON)
	return c.keepList(ctx, "events", spec, events)
}
