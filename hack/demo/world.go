package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	domain = "security"
	shop   = "shop"
)

// world is the cluster as an administrator sees it, who only looks and sets up: every
// decision is made by a person.
type world struct {
	client.Client

	seen cache.Cache

	mutex   sync.Mutex
	changed chan struct{}
	marks   map[mark]time.Time
}

// mark is a stage that an object has reached.
type mark struct {
	name  string
	stage string
}

// watched are the kinds the demo follows.
func watched() []client.Object {
	return []client.Object{
		&v1alpha1.ResponsePlan{}, &v1alpha1.ClassificationPolicy{}, &v1alpha1.ResponsePlaybook{}, &v1alpha1.SecurityEvent{},
		&v1alpha1.Incident{}, &v1alpha1.Evidence{}, &v1alpha1.LessonLearned{},
		&corev1.Pod{}, &appsv1.Deployment{}, &networkingv1.NetworkPolicy{}, &discoveryv1.EndpointSlice{},
	}
}

// newWorld connects to the cluster and follows what the demo shows, until ctx ends.
func newWorld(ctx context.Context, config *rest.Config) (*world, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	w := &world{changed: make(chan struct{}), marks: map[mark]time.Time{}}
	var err error
	if w.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if w.seen, err = cache.New(config, cache.Options{
		Scheme:            scheme,
		Mapper:            w.RESTMapper(),
		DefaultNamespaces: map[string]cache.Config{domain: {}, shop: {}},
	}); err != nil {
		return nil, err
	}
	for _, kind := range watched() {
		informer, err := w.seen.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("following %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    w.tell,
			UpdateFunc: func(_, object any) { w.tell(object) },
			DeleteFunc: func(any) { w.tell(nil) },
		}); err != nil {
			return nil, err
		}
	}
	go func() { _ = w.seen.Start(ctx) }() // it ends with ctx, and has nothing to say then
	if !w.seen.WaitForCacheSync(ctx) {
		return nil, fmt.Errorf("reading the cluster: %w", context.Cause(ctx))
	}
	return w, nil
}

// tell wakes those who wait for a change, and takes down when an object was first
// seen to have reached a stage: whoever shows it may be late.
func (w *world) tell(object any) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	switch o := object.(type) {
	case *corev1.Pod:
		w.mark(o.Name, isolated, slices.ContainsFunc(slices.Collect(maps.Keys(o.Labels)), func(key string) bool {
			return strings.HasPrefix(key, "isolation.firebreak.dev/")
		}))
	case *v1alpha1.Incident:
		w.mark(o.Name, contained, meta.IsStatusConditionTrue(o.Status.Conditions, v1alpha1.ConditionContained))
		w.mark(o.Name, recovered, meta.IsStatusConditionTrue(o.Status.Conditions, v1alpha1.ConditionRecovered))
		w.mark(o.Name, closed, o.Status.Phase == v1alpha1.PhaseClosed)
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) mark(name, stage string, reached bool) {
	at := mark{name, stage}
	if _, known := w.marks[at]; reached && !known {
		w.marks[at] = time.Now()
	}
}

// The stages that are timed.
const (
	isolated  = "the pod is cut off"
	contained = "contained, evidence included"
	recovered = "recovered and verified"
	closed    = "closed"
)

func reachedStep(incident *v1alpha1.Incident, name string) bool {
	step := stepOf(incident, name)
	return step != nil && (step.State == v1alpha1.StepSucceeded || step.State == v1alpha1.StepReverted)
}

// reached is when an object was first seen to have reached a stage.
func (w *world) reached(name, stage string) time.Time {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.marks[mark{name, stage}]
}

func (w *world) change() <-chan struct{} {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.changed
}

// unmetError says what was expected and did not come.
type unmetError struct {
	expected string
	found    string
	cause    error
}

func (e *unmetError) Error() string {
	text := "expected: " + e.expected
	if e.found != "" {
		text += "; found: " + e.found
	}
	return text
}

func (e *unmetError) Unwrap() error { return e.cause }

// await asks again with every change in the cluster until look says that it is so.
// found is what there is instead, for the person who reads the failure.
func (w *world) await(ctx context.Context, expected string, look func() (ok bool, found string, err error)) error {
	for {
		change := w.change()
		ok, found, err := look()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", expected, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return &unmetError{expected: expected, found: found, cause: ctx.Err()}
		case <-change:
		}
	}
}

// get reads an object as it was last seen.
func (w *world) get(ctx context.Context, namespace, name string, into client.Object) error {
	return w.seen.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, into)
}

// list reads the objects of a namespace as they were last seen.
func (w *world) list(ctx context.Context, namespace string, into client.ObjectList) error {
	return w.seen.List(ctx, into, client.InNamespace(namespace))
}
