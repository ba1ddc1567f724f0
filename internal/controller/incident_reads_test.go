package controller

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
)

// listing is an identity whose lists are counted, and come only when they may.
type listing struct {
	*impersonation.Identity
	asked atomic.Int32
	let   chan error
}

func newListing(t *testing.T) *listing {
	t.Helper()
	underlying, err := client.NewWithWatch(testConfig, client.Options{Scheme: testScheme})
	if err != nil {
		t.Fatal(err)
	}
	l := &listing{let: make(chan error, 8)}
	l.Identity = &impersonation.Identity{User: "system:serviceaccount:security:contain", Client: interceptor.NewClient(underlying, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			l.asked.Add(1)
			select {
			case err := <-l.let:
				if err != nil {
					return err
				}
				return c.List(ctx, list, options...)
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})}
	return l
}

func inNamespace(namespace string) []client.ListOption {
	return []client.ListOption{client.InNamespace(namespace), client.Limit(500)}
}

// TestListedBesideTheLook: what an isolation's plan lists is asked for before the pod is known
// to be there, and once.
func TestListedBesideTheLook(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "open", Namespace: namespace}})
	l := newListing(t)
	run := &incidentRun{IncidentReconciler: &IncidentReconciler{}, reads: newDecisionReads(clock.RealClock{}), incident: &v1alpha1.Incident{}}
	for _, name := range []string{"one", "other"} {
		run.incident.Status.Resources = append(run.incident.Status.Resources, v1alpha1.IncidentResource{
			ResourceReference: v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: name},
		})
	}
	playbook := &v1alpha1.ResponsePlaybookSpec{Containment: v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{
		{Name: "keep", Collect: &v1alpha1.CollectAction{}}, {Name: "cut", Isolate: &v1alpha1.IsolateAction{}},
	}}}
	run.incident.Status.Phase = v1alpha1.PhaseRecovery
	run.listAhead(t.Context(), playbook, l.Identity, []int{0, 1})
	if begun := len(run.reads.seen); begun != 0 {
		t.Errorf("%d lists are read ahead after the containment, want none", begun)
	}
	run.incident.Status.Phase = v1alpha1.PhaseContainment
	run.listAhead(t.Context(), playbook, l.Identity, []int{0, 1})
	eventually(t, func(context.Context) string {
		if l.asked.Load() == 0 {
			return "nothing was asked for"
		}
		return ""
	})
	l.let <- nil
	policies := &networkingv1.NetworkPolicyList{}
	if err := run.reads.of(l.Identity).List(t.Context(), policies, append(inNamespace(namespace), client.Continue(""))...); err != nil || len(policies.Items) != 1 {
		t.Errorf("got %d policies (%v), want the one that is there", len(policies.Items), err)
	}
	if asked := l.asked.Load(); asked != 1 {
		t.Errorf("the policies were asked for %d times, want once for two pods and their plans", asked)
	}
}

// TestOnlyWhatWasAsked: another list than the one that was read ahead, one that failed, one of
// another identity and one that is too old are read by who asks.
func TestOnlyWhatWasAsked(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "open", Namespace: namespace}})
	for name, test := range map[string]struct {
		list    client.ObjectList
		options []client.ListOption
		user    string
		first   error
		passed  time.Duration
	}{
		"of a label":        {list: &networkingv1.NetworkPolicyList{}, options: append(inNamespace(namespace), client.MatchingLabels{"a": "b"})},
		"of all namespaces": {list: &networkingv1.NetworkPolicyList{}, options: []client.ListOption{client.Limit(500)}},
		"all at once":       {list: &networkingv1.NetworkPolicyList{}, options: []client.ListOption{client.InNamespace(namespace)}},
		"of another kind":   {list: &corev1.PodList{}, options: inNamespace(namespace)},
		"as somebody else":  {list: &networkingv1.NetworkPolicyList{}, options: inNamespace(namespace), user: "system:serviceaccount:security:other"},
		"after a failure":   {list: &networkingv1.NetworkPolicyList{}, options: inNamespace(namespace), first: errors.New("the API server starts")},
		"a second later":    {list: &networkingv1.NetworkPolicyList{}, options: inNamespace(namespace), passed: readFor + time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			l, now := newListing(t), clocktesting.NewFakeClock(time.Now())
			reads := newDecisionReads(now)
			reads.ahead(t.Context(), l.Identity, &networkingv1.NetworkPolicyList{}, inNamespace(namespace))
			l.let <- test.first
			eventually(t, func(context.Context) string {
				if len(l.let) > 0 {
					return "the list ahead was not read"
				}
				return ""
			})
			now.Step(test.passed)
			asking := *l.Identity
			if test.user != "" {
				asking.User = test.user
			}
			l.let <- nil
			if err := reads.of(&asking).List(t.Context(), test.list, test.options...); err != nil {
				t.Fatal(err)
			}
			if asked := l.asked.Load(); asked != 2 {
				t.Errorf("the API server was asked %d times, want twice", asked)
			}
		})
	}
}

// TestAheadHoldsNobody: who asks for what is still being read does not wait beyond his time.
func TestAheadHoldsNobody(t *testing.T) {
	l := newListing(t)
	reads := newDecisionReads(clock.RealClock{})
	reads.ahead(t.Context(), l.Identity, &networkingv1.NetworkPolicyList{}, inNamespace("default"))
	ended, end := context.WithCancel(t.Context())
	end()
	if err := reads.of(l.Identity).List(ended, &networkingv1.NetworkPolicyList{}, inNamespace("default")...); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
}
