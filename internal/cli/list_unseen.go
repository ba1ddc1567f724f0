package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// unassessed selects the events that nobody has decided about, a person not being asked either.
var unassessed = client.MatchingFields{"status.assessment.outcome": ""}

// unseen is what is in a namespace that is no response domain.
type unseen struct {
	events, incidents int
	worst             v1alpha1.Severity
}

// findUnseen gathers what nobody looks at, as its namespace is not, or no longer, a response
// domain. Who may not read events is told so by who lists those that wait.
func (s *session) findUnseen(ctx context.Context, o *overview) {
	o.unseen = map[string]*unseen{}
	in := func(namespace string) *unseen {
		if o.unseen[namespace] == nil {
			o.unseen[namespace] = &unseen{}
		}
		return o.unseen[namespace]
	}
	api, err := s.client()
	events := &v1alpha1.SecurityEventList{}
	if err == nil && api.List(ctx, events, client.InNamespace(o.namespace), unassessed) == nil {
		for i := range events.Items {
			event := &events.Items[i]
			if !isInNoDomain(event.Status.Conditions, v1alpha1.ConditionAssessed) {
				continue
			}
			found := in(event.Namespace)
			if found.events++; event.Spec.Severity.Rank() > found.worst.Rank() {
				found.worst = event.Spec.Severity
			}
		}
	}
	for i := range o.plans {
		if isInNoDomain(o.plans[i].Status.Conditions, v1alpha1.ConditionReady) {
			in(o.plans[i].Namespace)
		}
	}
	if o.namespace != "" && len(o.incidents)+len(o.events) > 0 && s.domainOrNot(ctx, o.namespace) == domainNo {
		in(o.namespace)
	}
	for i := range o.incidents {
		if found := o.unseen[o.incidents[i].Namespace]; found != nil && o.incidents[i].Status.Phase != v1alpha1.PhaseClosed {
			found.incidents++
		}
	}
}

func isInNoDomain(conditions []metav1.Condition, kind string) bool {
	c := meta.FindStatusCondition(conditions, kind)
	return c != nil && c.Reason == v1alpha1.ReasonNotADomain
}

// printUnseen says where nobody looks, and how to mend that.
func (s *session) printUnseen(o overview) {
	for _, namespace := range slices.Sorted(maps.Keys(o.unseen)) {
		found := o.unseen[namespace]
		text := ""
		if found.events > 0 {
			text += fmt.Sprintf(", so that nobody assesses the %s there, at worst %s", plural(found.events, "event"), found.worst)
		}
		if found.incidents > 0 {
			text += fmt.Sprintf(", and nothing is done about its %s", plural(found.incidents, "open incident"))
		}
		fmt.Fprintf(s.Out, "%s it is not a response domain%s\n", s.style.red("NOBODY LOOKS AT "+namespace+":"), text)
		fmt.Fprintln(s.Out, "  Make it one: "+s.command(namespace, "init"))
	}
	if len(o.unseen) > 0 {
		fmt.Fprintln(s.Out)
	}
}
