package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// seesNamespace lets jane read the namespace itself, as Kubernetes' own role 'view' does.
func seesNamespace(t *testing.T, namespace string) {
	t.Helper()
	ctx := t.Context()
	err := admin.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "sees-namespace"},
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}}}})
	if !apierrors.IsAlreadyExists(err) {
		mustDo(t, err)
	}
	mustDo(t, admin.Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "jane-sees", Namespace: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "sees-namespace"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: jane}},
	}))
	allowed(t, &authorizationv1.ResourceAttributes{Namespace: namespace, Name: namespace, Verb: "get", Resource: "namespaces"})
}

// allowed waits until the authorizer knows that jane may do something.
func allowed(t *testing.T, what *authorizationv1.ResourceAttributes) {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: jane, ResourceAttributes: what}}
	mustDo(t, wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, setupTime, true, func(ctx context.Context) (bool, error) {
		asked := review.DeepCopy()
		err := admin.Create(ctx, asked)
		return asked.Status.Allowed, err
	}))
}

// noDomain makes a namespace that is no response domain, in which jane has a role.
func noDomain(t *testing.T, role string) string {
	t.Helper()
	namespace := domain(t, role)
	mustDo(t, admin.Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+v1alpha1.LabelDomain+`":null}}}`))))
	return namespace
}

// look plays the manager, which says something on every event of a namespace.
func look(t *testing.T, namespace, reason string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, err := admin.Watch(ctx, &v1alpha1.SecurityEventList{}, client.InNamespace(namespace))
	mustDo(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for happened := range events.ResultChan() {
			event, ok := happened.Object.(*v1alpha1.SecurityEvent)
			if !ok || happened.Type != watch.Added {
				continue
			}
			meta.SetStatusCondition(&event.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionAssessed, Status: metav1.ConditionFalse, Reason: reason, Message: "until then nobody assesses this event"})
			if err := admin.Status().Update(ctx, event); err != nil && ctx.Err() == nil {
				t.Errorf("looking at %s: %v", event.Name, err)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		events.Stop()
		<-done
	})
}

func TestNoDomain(t *testing.T) {
	ctx := t.Context()
	report := func(namespace string, more ...string) result {
		return run(ctx, janeConfig, append([]string{"event", "A laptop is gone", "--type", "Other", "-n", namespace}, more...)...)
	}
	count := func(namespace string) int {
		list := &v1alpha1.SecurityEventList{}
		mustDo(t, admin.List(ctx, list, client.InNamespace(namespace)))
		return len(list.Items)
	}
	t.Run("it can be read", func(t *testing.T) {
		namespace := noDomain(t, manager)
		seesNamespace(t, namespace)
		const want = "is not a response domain: nobody would look at it"
		report(namespace).check(t, ExitError, "", want)
		report(namespace, "--dry-run", "server").check(t, ExitError, "", want)
		report(namespace, "--dry-run", "client").check(t, ExitOK, "kind: SecurityEvent", "")
		run(ctx, janeConfig, "declare", "x", "--severity", "High", "--category", "Other", "-n", namespace).check(t, ExitError, "", want)
		if count(namespace) > 0 {
			t.Error("an event was created all the same")
		}
		incidentIn(t, namespace)
		run(ctx, janeConfig, "show", "k7f2a", "-n", namespace).check(t, ExitOK, sampleName, "is not a response domain: nobody looks at this incident")
	})
	t.Run("the manager says so", func(t *testing.T) {
		namespace := noDomain(t, reporter)
		look(t, namespace, v1alpha1.ReasonNotADomain)
		r := report(namespace)
		r.check(t, ExitError, "", "is not a response domain")
		if strings.Contains(r.out, "Reported") || !strings.Contains(r.err, "-n") || count(namespace) != 1 {
			t.Errorf("got %+v", r)
		}
		report(namespace, "-o", "name").check(t, ExitError, "securityevent.firebreak.dev/report-", "nobody will look at the securityevent report-")
	})
	t.Run("the manager looks", func(t *testing.T) {
		namespace := domain(t, reporter)
		look(t, namespace, v1alpha1.ReasonNoRuleMatched)
		report(namespace).check(t, ExitOK, "Reported as the event report-", "")
		if r := report(namespace, "-o", "yaml"); r.code != ExitOK || strings.Contains(r.out, "managedFields") {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("nobody looks", func(t *testing.T) {
		namespace := domain(t, manager)
		run(ctx, janeConfig, "declare", "x", "--severity", "High", "--category", "Other", "-n", namespace).check(t, ExitError, "", "nobody has looked at the incident inc-")
	})
	t.Run("a plan says so", func(t *testing.T) {
		namespace := noDomain(t, viewer)
		plan := &v1alpha1.ResponsePlan{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: namespace}}
		mustDo(t, admin.Create(ctx, plan))
		meta.SetStatusCondition(&plan.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotADomain})
		mustDo(t, admin.Status().Update(ctx, plan))
		event := explainedEvent()
		event.Namespace = namespace
		mustDo(t, admin.Create(ctx, event))
		run(ctx, janeConfig, "explain", "falco-1", "-n", namespace).check(t, ExitOK, "is not a response domain: nobody assesses this event", "")
	})
	t.Run("no right", func(t *testing.T) {
		report(domain(t, viewer)).check(t, ExitRefused, "", "ClusterRole firebreak-reporter")
	})
}

func TestAway(t *testing.T) {
	r := run(t.Context(), adminConfig, "--server", "https://127.0.0.1:1", "declare", "x", "--severity", "High", "--category", "Other", "-n", "security")
	r.check(t, ExitError, "", "cannot create the Incident: the API server does not answer")
	if strings.Contains(r.err, "all the same") || !strings.Contains(r.err, "Check the network") {
		t.Errorf("got %s", r.err)
	}
}
