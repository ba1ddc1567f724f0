package cli

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// findIncident reads the incident of a name, or of the beginning or end of one.
func (s *session) findIncident(ctx context.Context, namespace, name string) (*v1alpha1.Incident, error) {
	incident := &v1alpha1.Incident{}
	return incident, s.find(ctx, search{"incident", "list", namespace, name}, incident, &v1alpha1.IncidentList{})
}

// findEvent reads the event of a name, or of the beginning or end of one.
func (s *session) findEvent(ctx context.Context, namespace, name string) (*v1alpha1.SecurityEvent, error) {
	event := &v1alpha1.SecurityEvent{}
	return event, s.find(ctx, search{"event", "list", namespace, name}, event, &v1alpha1.SecurityEventList{})
}

type search struct {
	noun      string
	look      string // the command that lists what there is
	namespace string
	name      string
}

func (s *session) find(ctx context.Context, what search, into client.Object, list client.ObjectList) error {
	api, err := s.client()
	if err != nil {
		return err
	}
	// As kubectl prints it: incident.firebreak.dev/NAME.
	name := what.name[strings.LastIndex(what.name, "/")+1:]
	if name == "" {
		return failed(fmt.Sprintf("the name of the %s is empty", what.noun))
	}
	err = api.Get(ctx, client.ObjectKey{Namespace: what.namespace, Name: name}, into)
	if err == nil {
		return nil
	}
	reading := fmt.Sprintf("read the %s %s in the namespace %s", what.noun, name, what.namespace)
	if !apierrors.IsNotFound(err) || isMissingKind(err) {
		return explain(err, reading)
	}
	if err := api.List(ctx, list, client.InNamespace(what.namespace)); err != nil {
		return explain(err, fmt.Sprintf("list the %ss in the namespace %s", what.noun, what.namespace))
	}
	names, err := namesOf(list)
	if err != nil {
		return err
	}
	matches := matching(names, name)
	switch len(matches) {
	case 1:
		return explainFound(api.Get(ctx, client.ObjectKey{Namespace: what.namespace, Name: matches[0]}, into), reading)
	case 0:
		return failed(fmt.Sprintf("there is no %s %s in the namespace %s", what.noun, name, what.namespace),
			"See what there is: "+s.command(what.namespace, what.look), s.elsewhere(ctx, what.namespace))
	default:
		return failed(fmt.Sprintf("%q can be any of %s: type more of the name", name, strings.Join(matches[:min(len(matches), 8)], ", ")))
	}
}

func explainFound(err error, doing string) error {
	if err == nil {
		return nil
	}
	return explain(err, doing)
}

func namesOf(list client.ObjectList) ([]string, error) {
	var names []string
	err := meta.EachListItem(list, func(item runtime.Object) error {
		object, err := meta.Accessor(item)
		if err == nil {
			names = append(names, object.GetName())
		}
		return err
	})
	return names, err
}

// matching are the names that begin or end with part.
func matching(names []string, part string) []string {
	var matches []string
	for _, name := range names {
		if strings.HasPrefix(name, part) || strings.HasSuffix(name, part) {
			matches = append(matches, name)
		}
	}
	return matches
}
