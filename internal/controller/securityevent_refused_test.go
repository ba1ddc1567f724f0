package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// refusing puts a client before another that refuses to create incidents as long as
// refuse says why.
func refusing(refuse func(name string) error) func(client.Client) client.Client {
	return func(inner client.Client) client.Client {
		return interceptor.NewClient(withWatch{inner}, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
				if _, ok := object.(*v1alpha1.Incident); ok {
					if err := refuse(object.GetName()); err != nil {
						return err
					}
				}
				return c.Create(ctx, object, options...)
			},
		})
	}
}

var incidentKind = schema.GroupKind{Group: v1alpha1.SchemeGroupVersion.Group, Kind: "Incident"}

func TestIncidentThatIsNeverTaken(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	var tries atomic.Int32
	startAssessor(t, namespace, refusing(func(name string) error {
		tries.Add(1)
		return apierrors.NewInvalid(incidentKind, name, nil)
	}))
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	awaitAssessment(t, event, v1alpha1.OutcomeDeferred)
	for i := range 3 {
		repeat(t, event, i+1)
		awaitOccurrences(t, event, int64(i+2))
	}
	got := awaitAssessment(t, event, v1alpha1.OutcomeDeferred)
	condition := meta.FindStatusCondition(got.Status.Conditions, v1alpha1.ConditionAssessed)
	if got.Status.Assessment.Reason != v1alpha1.ReasonIncidentRefused || condition == nil || condition.Status != metav1.ConditionFalse {
		t.Errorf("got the status %+v", got.Status)
	}
	if tries.Load() != 1 || len(got.Status.EarlierAssessments) != 0 {
		t.Errorf("tried %d times and kept %d earlier assessments, want once and none", tries.Load(), len(got.Status.EarlierAssessments))
	}
	promote := decisionAbout(event, "promote", v1alpha1.DecisionPromote)
	mustCreate(t, promote)
	if got := awaitAnswer(t, promote); got != "False IncidentRefused" {
		t.Errorf("got the answer %q for a person's incident that is never taken", got)
	}
}

func TestIncidentThatIsRefusedForNow(t *testing.T) {
	namespace := newDomain(t)
	mustCreate(t, shellPolicy(namespace))
	var full atomic.Bool
	full.Store(true)
	startAssessor(t, namespace, refusing(func(name string) error {
		if full.Load() {
			return apierrors.NewForbidden(v1alpha1.SchemeGroupVersion.WithResource("incidents").GroupResource(), name, errors.New("exceeded quota: count"))
		}
		return nil
	}))
	event := shellEvent(namespace, "first", "cart-1")
	mustCreate(t, event)
	got := &v1alpha1.SecurityEvent{}
	eventually(t, func(ctx context.Context) string {
		if err := testClient.Get(ctx, client.ObjectKeyFromObject(event), got); err != nil {
			return err.Error()
		}
		condition := meta.FindStatusCondition(got.Status.Conditions, v1alpha1.ConditionAssessed)
		if condition == nil || condition.Status != metav1.ConditionFalse || condition.Reason != v1alpha1.ReasonIncidentRefused ||
			!strings.Contains(condition.Message, "exceeded quota: count") || !strings.Contains(condition.Message, "tried again within 1m0s") {
			return fmt.Sprintf("Assessed is %+v", condition)
		}
		return ""
	})
	if got.Status.Assessment.Outcome != "" {
		t.Errorf("got the outcome %q, want none yet", got.Status.Assessment.Outcome)
	}
	full.Store(false)
	got = awaitAssessment(t, event, v1alpha1.OutcomePromoted)
	if !meta.IsStatusConditionTrue(got.Status.Conditions, v1alpha1.ConditionAssessed) || len(incidentsIn(t, namespace)) != 1 {
		t.Errorf("got the status %+v", got.Status)
	}
}

// flakyIdentities gives clients that fail as long as there are failures left.
type flakyIdentities struct{ failures atomic.Int32 }

func (f *flakyIdentities) Client(context.Context, string, string) (client.Client, error) {
	return interceptor.NewClient(withWatch{testClient}, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			if object.GetObjectKind().GroupVersionKind().Kind == "Deployment" && f.failures.Add(-1) >= 0 {
				return apierrors.NewServiceUnavailable("the API server starts")
			}
			return c.Get(ctx, key, object, options...)
		},
	}), nil
}

// cartPod creates a pod of a Deployment's ReplicaSet.
func cartPod(t *testing.T, namespace string) {
	t.Helper()
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "cart"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "cart", Image: "cart"}}},
	}
	selector := &metav1.LabelSelector{MatchLabels: template.Labels}
	owner := func(kind string, object metav1.Object) []metav1.OwnerReference {
		return []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: object.GetName(), UID: object.GetUID(), Controller: ptr.To(true)}}
	}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "cart", Namespace: namespace}, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template},
	}
	mustCreate(t, deployment)
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "cart-7f9", Namespace: namespace, OwnerReferences: owner("Deployment", deployment)},
		Spec:       appsv1.ReplicaSetSpec{Selector: selector, Template: template},
	}
	mustCreate(t, set)
	mustCreate(t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "cart-7f9-abc", Namespace: namespace, OwnerReferences: owner("ReplicaSet", set)}, Spec: template.Spec,
	})
}

func TestWorkloadIsLookedUpAgain(t *testing.T) {
	namespace := newDomain(t)
	cartPod(t, namespace)
	mustCreate(t, &v1alpha1.ResponsePlan{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: namespace}, Spec: v1alpha1.ResponsePlanSpec{ServiceAccountName: "reader"},
	})
	identities := &flakyIdentities{}
	clock := testingclock.NewFakePassiveClock(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC))
	r := &SecurityEventReconciler{Client: testClient, Identities: identities, Clock: clock}
	event := shellEvent(namespace, "first", "cart-7f9-abc")
	event.UID, event.Spec.Resources[0].Namespace = "e1", namespace

	identities.failures.Store(1)
	if name, err := r.workloadOf(t.Context(), event); !apierrors.IsServiceUnavailable(err) {
		t.Fatalf("got the workload %q and the error %v, want that the server is not available", name, err)
	}
	if name, err := r.workloadOf(t.Context(), event); name != "cart" || err != nil {
		t.Fatalf("got the workload %q and the error %v, want 'cart'", name, err)
	}
	identities.failures.Store(10)
	for _, after := range []time.Duration{0, workloadPatience / 2, workloadPatience} {
		clock.SetTime(clock.Now().Add(after))
		name, err := r.workloadOf(t.Context(), event)
		if after < workloadPatience && err == nil {
			t.Errorf("gave up at once, with the workload %q", name)
		}
		if after == workloadPatience && (name != "cart-7f9-abc" || err != nil) {
			t.Errorf("got the workload %q and the error %v, want the pod's own name after %s", name, err, workloadPatience)
		}
	}
}
