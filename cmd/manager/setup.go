package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/controller"
	"github.com/firebreak-dev/firebreak/internal/evidence"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
	"github.com/firebreak-dev/firebreak/internal/readiness"
)

func uncached() []client.Object {
	return []client.Object{&appsv1.ControllerRevision{}, &eventsv1.Event{}, &v1alpha1.Evidence{}}
}

// askTimeout is how long the API server may take to say which kinds it serves.
const askTimeout = 5 * time.Second

// awaitKinds waits until the API server serves Firebreak's kinds, without which nothing can begin.
func awaitKinds(ctx context.Context, config *rest.Config) error {
	config = rest.CopyConfig(config)
	config.Timeout = askTimeout
	discovered, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("asking which kinds the API server serves: %w", err)
	}
	start := readiness.Start{Clock: clock.RealClock{}, Log: ctrl.Log.WithName("start")}
	err = start.Wait(ctx, func(ctx context.Context) error {
		_, err := discovered.ServerResourcesForGroupVersionWithContext(ctx, v1alpha1.SchemeGroupVersion.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("the API server at %s must serve %s, whose kinds config/crd installs: %w", config.Host, v1alpha1.SchemeGroupVersion, err)
	}
	return nil
}

// setUp wires the reconcilers.
func setUp(ctx context.Context, mgr ctrl.Manager, o options) error {
	store, err := evidence.OpenStore(ctx, o.evidenceStore, "")
	if err != nil {
		return fmt.Errorf("opening the evidence store %s: %w", o.evidenceStore, err)
	}
	reserve, err := evidence.ParseReserve(o.reserve)
	if err != nil {
		return fmt.Errorf("--evidence-reserve: %w", err)
	}
	store.KeepFree(reserve)
	egress, err := o.egress.open()
	if err != nil {
		return err
	}
	now := clock.RealClock{}
	user := "system:serviceaccount:" + o.namespace + ":" + v1alpha1.ManagerServiceAccount
	identities := impersonation.NewFactory(impersonation.Options{
		Config: mgr.GetConfig(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), Own: mgr.GetClient(),
		Forbidden: []string{o.namespace, metav1.NamespaceSystem}, Clock: now,
	})
	guard := controller.NewAdmissionGuard(mgr.GetClient(), now)
	recorder := &evidence.Recorder{
		Client: mgr.GetClient(), Namespaces: mgr.GetClient(), Store: store, Clock: now, Manager: user, Version: version,
		APIServerVersion: serverVersion(mgr.GetConfig()),
	}
	policies := &controller.PolicyStore{Live: mgr.GetAPIReader()}
	if err := controller.AddIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return fmt.Errorf("indexing the cache: %w", err)
	}
	events := &controller.SecurityEventReconciler{
		Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Identities: identities, Guard: guard, Policies: policies,
		Clock: now, ManagerUser: user, MaxConcurrentReconciles: o.concurrency,
	}
	incidents := &controller.IncidentReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Identities: identities, Guard: guard,
		Evidence: recorder, Journals: recorder, Expressions: &controller.Expressions{}, Egress: egress, Manager: user,
		SystemNamespace: o.namespace, Clock: now, Concurrency: o.concurrency,
	}
	for _, collector := range store.Collectors() {
		if err := metrics.Registry.Register(collector); err != nil {
			return err
		}
	}
	return errors.Join(
		metrics.Registry.Register(&controller.Metrics{Reader: mgr.GetClient(), Events: events, Clock: now}),
		events.SetupWithManager(ctx, mgr),
		incidents.SetupWithManager(mgr),
		(&controller.ClassificationPolicyReconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Policies: policies, Clock: now}).SetupWithManager(mgr),
		(&controller.ResponsePlanReconciler{Client: mgr.GetClient(), Guard: guard, Clock: now}).SetupWithManager(mgr),
		(&controller.ResponsePlaybookReconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Clock: now}).SetupWithManager(mgr),
		(&controller.RetentionReconciler{Client: mgr.GetClient(), Journals: recorder, Clock: now}).SetupWithManager(ctx, mgr),
		(&controller.LessonLearnedReconciler{Client: mgr.GetClient(), Clock: now}).SetupWithManager(mgr),
	)
}

// serverVersion is kept with evidence; empty when it cannot be read.
func serverVersion(config *rest.Config) string {
	discovered, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return ""
	}
	info, err := discovered.ServerVersion()
	if err != nil {
		return ""
	}
	return info.GitVersion
}
