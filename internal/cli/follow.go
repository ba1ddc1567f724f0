package cli

import (
	"context"
	"errors"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// follow prints what happens to the incident from here on, until it is closed.
func (v *view) follow(ctx context.Context) error {
	if v.incident.Status.Phase == v1alpha1.PhaseClosed {
		return nil
	}
	fmt.Fprintf(v.Out, "\n%s\n", v.style.dim("Following; Ctrl-C ends it."))
	name, uid, lost := v.incident.Name, v.incident.UID, false
	err := v.watch(ctx, watching{
		object: v.incident.DeepCopy(),
		list:   &v1alpha1.IncidentList{},
		see: func(state client.Object) (bool, error) {
			lost = false
			latest, ok := state.(*v1alpha1.Incident)
			if !ok || latest.UID != uid {
				return true, failed(fmt.Sprintf("the incident %s was deleted", name))
			}
			return v.update(latest.DeepCopy()), nil
		},
		trouble: func(err error) {
			if !lost {
				fmt.Fprintln(v.ErrOut, v.style.yellow("  Connection lost, trying again: ")+clean(err.Error()))
			}
			lost = true
		},
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if err != nil {
		return explain(err, "follow the incident "+name)
	}
	return nil
}

// update prints what is new and says whether the incident is closed.
func (v *view) update(latest *v1alpha1.Incident) bool {
	before := v.incident
	v.incident = latest
	v.timeline.write(latest)
	for i := range latest.Status.Awaiting {
		if !asked(before, &latest.Status.Awaiting[i]) {
			v.writeAwaiting(v.Out, &latest.Status.Awaiting[i])
		}
	}
	if latest.Status.Phase != before.Status.Phase {
		fmt.Fprintf(v.Out, "  -- %s\n", v.phases())
	}
	if latest.Status.Phase != v1alpha1.PhaseClosed {
		return false
	}
	fmt.Fprintf(v.Out, "\nClosed as %s.\n", clean(string(latest.Status.Resolution)))
	return true
}

// asked says whether a person was asked for the same thing before. A new digest means
// that what would be done has changed.
func asked(before *v1alpha1.Incident, now *v1alpha1.Awaiting) bool {
	for i := range before.Status.Awaiting {
		old := &before.Status.Awaiting[i]
		if old.Type == now.Type && old.Step == now.Step && old.Digest == now.Digest && old.SinceTime.Equal(&now.SinceTime) {
			return true
		}
	}
	return false
}
