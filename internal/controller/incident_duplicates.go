package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// maxOriginals is how many incidents are followed from one that is a duplicate.
const maxOriginals = 64

// gatherDuplicates reads the incidents that this one is a duplicate of or may become one
// of, and those that are to become duplicates of it. By a stale one a containment could be
// let go, or two incidents wait for each other: none comes from the cache.
func (run *incidentRun) gatherDuplicates(ctx context.Context, in *lifecycle.Input) error {
	var names []string
	if of := run.incident.Status.DuplicateOf.Name; of != "" && run.incident.Status.Resolution == "" {
		names = append(names, of)
	}
	for i := range in.Decisions {
		if spec := &in.Decisions[i].Spec; spec.Type == v1alpha1.DecisionMarkDuplicate {
			names = append(names, spec.IncidentRef.Name)
		}
	}
	originals, err := originalsOf(ctx, run.Live, run.incident, names)
	if err != nil {
		return err
	}
	in.Originals = originals

	list := &v1alpha1.IncidentList{}
	err = run.Client.List(ctx, list, client.InNamespace(run.incident.Namespace), client.MatchingFields{indexIncidentOriginal: run.incident.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("listing the incident's duplicates: %w", err)
	}
	for i := range list.Items {
		if !awaitsTakingUp(&list.Items[i], run.incident) {
			continue
		}
		duplicate := v1alpha1.Incident{}
		err := run.Live.Get(ctx, client.ObjectKeyFromObject(&list.Items[i]), &duplicate)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading incident %q: %w", list.Items[i].Name, err)
		}
		if err == nil && awaitsTakingUp(&duplicate, run.incident) {
			in.Duplicates = append(in.Duplicates, duplicate)
		}
	}
	slices.SortFunc(in.Duplicates, func(a, b v1alpha1.Incident) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return nil
}

// awaitsTakingUp says that an incident waits for its original to say that it goes on with it.
func awaitsTakingUp(duplicate, original *v1alpha1.Incident) bool {
	of := &duplicate.Status.DuplicateOf
	return of.Name == original.Name && of.TakenUpTime == nil && duplicate.Status.Resolution == "" && duplicate.DeletionTimestamp == nil &&
		!slices.ContainsFunc(original.Status.Duplicates, func(known v1alpha1.IncidentDuplicate) bool { return known.Name == duplicate.Name })
}

// originalsOf reads incidents by name, and those that they are duplicates of in turn. One
// that is not there is missing.
func originalsOf(ctx context.Context, reader client.Reader, incident *v1alpha1.Incident, names []string) (map[string]*v1alpha1.Incident, error) {
	originals := map[string]*v1alpha1.Incident{}
	for len(names) > 0 && len(originals) < maxOriginals {
		name := names[0]
		names = names[1:]
		if name == incident.Name || originals[name] != nil {
			continue
		}
		original := &v1alpha1.Incident{}
		err := reader.Get(ctx, types.NamespacedName{Namespace: incident.Namespace, Name: name}, original)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading incident %q: %w", name, err)
		}
		originals[name] = original
		if of := original.Status.DuplicateOf.Name; of != "" {
			names = append(names, of)
		}
	}
	return originals, nil
}

// originalOf finds the incident that goes on with a duplicate; nil when it is not there.
func originalOf(ctx context.Context, reader client.Reader, duplicate *v1alpha1.Incident) (*v1alpha1.Incident, error) {
	originals, err := originalsOf(ctx, reader, duplicate, []string{duplicate.Status.DuplicateOf.Name})
	if err != nil {
		return nil, err
	}
	return lifecycle.OriginalOf(duplicate, originals), nil
}

// relatedIncidents names the incidents that wait for news of one: its original, and its
// duplicates with theirs.
func (r *IncidentReconciler) relatedIncidents(ctx context.Context, object client.Object) []reconcile.Request {
	incident, ok := object.(*v1alpha1.Incident)
	if !ok {
		return nil
	}
	var requests []reconcile.Request
	if of := &incident.Status.DuplicateOf; of.Name != "" {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: incident.Namespace, Name: of.Name}})
	}
	seen := map[string]bool{incident.Name: true}
	for names := []string{incident.Name}; len(names) > 0; names = names[1:] {
		list := &v1alpha1.IncidentList{}
		err := r.Client.List(ctx, list, client.InNamespace(incident.Namespace), client.MatchingFields{indexIncidentOriginal: names[0]}, client.UnsafeDisableDeepCopy)
		if err != nil {
			// The cache is in this process: it answers, or the index does not exist.
			return requests
		}
		for i := range list.Items {
			duplicate := &list.Items[i]
			if seen[duplicate.Name] {
				continue
			}
			seen[duplicate.Name] = true
			names = append(names, duplicate.Name)
			if duplicate.Status.Phase != v1alpha1.PhaseClosed {
				requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(duplicate)})
			}
		}
	}
	return requests
}
