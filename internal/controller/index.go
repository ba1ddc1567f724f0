package controller

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/expression"
)

// Indexes of the cache.
const (
	indexEventIncident    = "status.incidentRef.name"
	indexDecisionSubject  = "spec.subject"
	indexIncidentPlaybook = "spec.playbookRef.name"
	indexIncidentRun      = "run"
	indexIncidentOpen     = "open"
	indexIncidentOriginal = "status.duplicateOf.name"
)

// AddIndexes registers the indexes that the incident, plan and lesson reconcilers use.
func AddIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	return errors.Join(
		indexer.IndexField(ctx, &v1alpha1.SecurityEvent{}, indexEventIncident, func(object client.Object) []string {
			return nonEmpty(object.(*v1alpha1.SecurityEvent).Status.IncidentRef.Name)
		}),
		indexer.IndexField(ctx, &v1alpha1.Decision{}, indexDecisionSubject, func(object client.Object) []string {
			subject := object.(*v1alpha1.Decision).Spec.Subject
			return []string{subjectKey(subject.Kind, subject.Name)}
		}),
		indexer.IndexField(ctx, &v1alpha1.Incident{}, indexIncidentPlaybook, func(object client.Object) []string {
			return nonEmpty(object.(*v1alpha1.Incident).Spec.PlaybookRef.Name)
		}),
		indexer.IndexField(ctx, &v1alpha1.Incident{}, indexIncidentRun, func(object client.Object) []string {
			return []string{runKey(object.(*v1alpha1.Incident))}
		}),
		indexer.IndexField(ctx, &v1alpha1.Incident{}, indexIncidentOpen, func(object client.Object) []string {
			if object.(*v1alpha1.Incident).Status.Phase == v1alpha1.PhaseClosed {
				return nil
			}
			return []string{"true"}
		}),
		indexer.IndexField(ctx, &v1alpha1.Incident{}, indexIncidentOriginal, func(object client.Object) []string {
			return nonEmpty(object.(*v1alpha1.Incident).Status.DuplicateOf.Name)
		}),
		indexer.IndexField(ctx, &v1alpha1.Incident{}, indexIncidentEvents, eventsOfIncident),
	)
}

func nonEmpty(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

func subjectKey(kind v1alpha1.SubjectKind, name string) string { return string(kind) + "/" + name }

// runKey names what limits count by: mode, playbook, submitter and rule. So no drill uses up what
// the real thing may do.
func runKey(incident *v1alpha1.Incident) string {
	return string(incident.Spec.Mode.OrLive()) + "\x00" + incident.Spec.PlaybookRef.Name + "\x00" + incident.Spec.SubmittedBy + "\x00" + incident.Spec.Rule
}

// isDomain says whether a namespace is a response domain.
func isDomain(ctx context.Context, reader client.Reader, name string) (bool, error) {
	namespace := &corev1.Namespace{}
	if err := reader.Get(ctx, types.NamespacedName{Name: name}, namespace); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	_, labelled := namespace.Labels[v1alpha1.LabelDomain]
	return labelled, nil
}

// notADomain says what a namespace lacks.
func notADomain(namespace string) string {
	return fmt.Sprintf("namespace %s is not a response domain: 'kubectl firebreak init -n %s' makes it one", namespace, namespace)
}

// planOf gives the plan of a domain; nil when it has none.
func planOf(ctx context.Context, reader client.Reader, namespace string) (*v1alpha1.ResponsePlan, error) {
	plan := &v1alpha1.ResponsePlan{}
	err := reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: v1alpha1.ResponsePlanName}, plan)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return plan, nil
}

// decisionsAbout lists all Decisions about one subject.
func decisionsAbout(ctx context.Context, reader client.Reader, namespace string, kind v1alpha1.SubjectKind, name string) ([]v1alpha1.Decision, error) {
	list := &v1alpha1.DecisionList{}
	err := reader.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{indexDecisionSubject: subjectKey(kind, name)})
	if err != nil {
		return nil, fmt.Errorf("listing Decisions about %s %s: %w", kind, name, err)
	}
	return list.Items, nil
}

func incidentOfEvent(_ context.Context, object client.Object) []reconcile.Request {
	name := object.(*v1alpha1.SecurityEvent).Status.IncidentRef.Name
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}

// incidentsOfDecision names the incident a Decision is about; all open ones when it is
// about the plan.
func (r *IncidentReconciler) incidentsOfDecision(ctx context.Context, object client.Object) []reconcile.Request {
	subject := object.(*v1alpha1.Decision).Spec.Subject
	switch subject.Kind {
	case v1alpha1.SubjectIncident:
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: subject.Name}}}
	case v1alpha1.SubjectResponsePlan:
		return r.openIncidents(ctx, object)
	default:
		return nil
	}
}

func (r *IncidentReconciler) openIncidents(ctx context.Context, object client.Object) []reconcile.Request {
	return r.incidentsBy(ctx, object.GetNamespace(), client.MatchingFields{indexIncidentOpen: "true"})
}

func (r *IncidentReconciler) incidentsOfNamespace(ctx context.Context, object client.Object) []reconcile.Request {
	return r.incidentsBy(ctx, object.GetName(), client.MatchingFields{indexIncidentOpen: "true"})
}

func (r *IncidentReconciler) incidentsOfPlaybook(ctx context.Context, object client.Object) []reconcile.Request {
	return r.incidentsBy(ctx, object.GetNamespace(), client.MatchingFields{indexIncidentPlaybook: object.GetName()})
}

func (r *IncidentReconciler) incidentsBy(ctx context.Context, namespace string, fields client.MatchingFields) []reconcile.Request {
	list := &v1alpha1.IncidentList{}
	if err := r.Client.List(ctx, list, client.InNamespace(namespace), fields); err != nil {
		// The cache is in this process: it answers, or the index does not exist.
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if list.Items[i].Status.Phase != v1alpha1.PhaseClosed {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}

func isNoKind(err error) bool { return meta.IsNoMatchError(err) }

func asReference(err error, target **expression.ReferenceError) bool { return errors.As(err, target) }
