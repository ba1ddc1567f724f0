// Package impersonation gives clients that act as a ServiceAccount of a response
// domain. Firebreak borrows rights, it has none: whatever is read or written outside the
// domain goes through one of these.
package impersonation

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/internal/lookup"
)

// allowedFor is how long the right to impersonate is taken for granted once it was seen.
const allowedFor = 30 * time.Second

// NotAllowedError says that a namespace does not let the manager act as its ServiceAccount.
type NotAllowedError struct {
	// Namespace and ServiceAccount say as whom.
	Namespace, ServiceAccount string
	// Why says why not.
	Why string
}

func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("Firebreak may not act as ServiceAccount '%s' in namespace '%s': %s", e.ServiceAccount, e.Namespace, e.Why)
}

// Identity acts as one ServiceAccount.
type Identity struct {
	// User is the ServiceAccount's user name.
	User string
	// Client reads without a cache.
	Client client.Client

	core     corev1client.CoreV1Interface
	watching client.WithWatch
}

// OpenLog opens the log of one container of a pod. The caller closes it.
func (i *Identity) OpenLog(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
	return i.core.Pods(namespace).GetLogs(pod, options).Stream(ctx)
}

// Watch watches the metadata of the objects of a kind in a namespace, or of the one that is
// named, until the time is over. It begins with what is there.
func (i *Identity) Watch(ctx context.Context, kind schema.GroupVersionKind, of client.ObjectKey, within time.Duration) (watch.Interface, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	seconds := int64(within.Seconds())
	options := &client.ListOptions{Namespace: of.Namespace, Raw: &metav1.ListOptions{TimeoutSeconds: &seconds}}
	if of.Name != "" {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, of.Name)
	}
	return i.watching.Watch(ctx, list, options)
}

// Factory makes identities, and keeps them: they share one set of connections.
type Factory struct {
	config *rest.Config
	scheme *runtime.Scheme
	mapper meta.RESTMapper
	own    client.Client
	forbid map[string]bool
	clock  clock.PassiveClock

	mu         sync.Mutex
	identities map[string]*entry
}

type entry struct {
	identity *Identity
	allowed  time.Time
}

// Options say how to make a Factory.
type Options struct {
	// Config is the manager's own.
	Config *rest.Config
	// Scheme knows the kinds that actions use.
	Scheme *runtime.Scheme
	// Mapper is shared by all identities.
	Mapper meta.RESTMapper
	// Own is the manager's own client, for reviews of its own rights.
	Own client.Client
	// Forbidden are namespaces in which no ServiceAccount is ever impersonated: the
	// manager's own and the receiver's, and kube-system.
	Forbidden []string
	// Clock tells the time.
	Clock clock.PassiveClock
}

// NewFactory makes a Factory.
func NewFactory(options Options) *Factory {
	forbid := map[string]bool{}
	for _, namespace := range options.Forbidden {
		forbid[namespace] = true
	}
	return &Factory{
		config: options.Config, scheme: options.Scheme, mapper: options.Mapper, own: options.Own,
		forbid: forbid, clock: options.Clock, identities: map[string]*entry{},
	}
}

// For gives the identity of a ServiceAccount. The error is a *NotAllowedError when the
// namespace does not let the manager act as it.
func (f *Factory) For(ctx context.Context, namespace, serviceAccount string) (*Identity, error) {
	if f.forbid[namespace] {
		return nil, &NotAllowedError{namespace, serviceAccount, "no ServiceAccount of this namespace is ever impersonated"}
	}
	key := namespace + "/" + serviceAccount
	f.mu.Lock()
	known, ok := f.identities[key]
	f.mu.Unlock()
	if ok && f.clock.Since(known.allowed) < allowedFor {
		return known.identity, nil
	}
	if err := f.mayImpersonate(ctx, namespace, serviceAccount); err != nil {
		return nil, err
	}
	if !ok {
		identity, err := f.make(namespace, serviceAccount)
		if err != nil {
			return nil, err
		}
		known = &entry{identity: identity}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.identities[key] = &entry{identity: known.identity, allowed: f.clock.Now()}
	return known.identity, nil
}

// Client gives the client of a ServiceAccount.
func (f *Factory) Client(ctx context.Context, namespace, serviceAccount string) (client.Client, error) {
	identity, err := f.For(ctx, namespace, serviceAccount)
	if err != nil {
		return nil, err
	}
	return identity.Client, nil
}

// mayImpersonate asks whether the namespace binds 'firebreak-impersonator'.
func (f *Factory) mayImpersonate(ctx context.Context, namespace, serviceAccount string) error {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: "impersonate", Resource: "serviceaccounts", Name: serviceAccount,
		},
	}}
	if err := f.own.Create(ctx, review); err != nil {
		return fmt.Errorf("asking whether ServiceAccount %s may be impersonated: %w", serviceAccount, err)
	}
	if !review.Status.Allowed {
		return &NotAllowedError{namespace, serviceAccount,
			fmt.Sprintf("the namespace must bind the ClusterRole 'firebreak-impersonator'; 'kubectl firebreak init -n %s' does", namespace)}
	}
	return nil
}

func (f *Factory) make(namespace, serviceAccount string) (*Identity, error) {
	user := "system:serviceaccount:" + namespace + ":" + serviceAccount
	config := rest.CopyConfig(f.config)
	// The API server adds the groups that go with a ServiceAccount.
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	own, err := client.NewWithWatch(config, client.Options{Scheme: f.scheme, Mapper: f.mapper})
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", user, err)
	}
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", user, err)
	}
	return &Identity{User: user, Client: lookup.Client(own), core: core, watching: own}, nil
}
