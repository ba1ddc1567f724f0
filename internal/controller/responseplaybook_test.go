package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// preflight reconciles a playbook once and gives it as it is then.
func preflight(t *testing.T, playbook *v1alpha1.ResponsePlaybook) *v1alpha1.ResponsePlaybook {
	t.Helper()
	reconciler := &ResponsePlaybookReconciler{Client: testClient, Live: testClient, Clock: clock.RealClock{}}
	key := client.ObjectKeyFromObject(playbook)
	result, err := reconciler.Reconcile(t.Context(), reconcile.Request{NamespacedName: key})
	if err != nil {
		t.Fatal(err)
	}
	if result.RequeueAfter <= 0 {
		t.Error("the rights must be asked for again: nothing tells when they change")
	}
	read := &v1alpha1.ResponsePlaybook{}
	if err := testClient.Get(t.Context(), key, read); err != nil {
		t.Fatal(err)
	}
	return read
}

func expectCondition(t *testing.T, playbook *v1alpha1.ResponsePlaybook, want metav1.Condition, says ...string) {
	t.Helper()
	condition := meta.FindStatusCondition(playbook.Status.Conditions, want.Type)
	if condition == nil || condition.Status != want.Status || condition.Reason != want.Reason || condition.ObservedGeneration != playbook.Generation {
		t.Fatalf("%s is %+v, want %s with reason %s of generation %d", want.Type, condition, want.Status, want.Reason, playbook.Generation)
	}
	for _, text := range says {
		if !strings.Contains(condition.Message, text) {
			t.Errorf("%s says %q, want %q in it", want.Type, condition.Message, text)
		}
	}
}

func podSteps(steps ...v1alpha1.PlaybookStep) v1alpha1.PlaybookPhase {
	for i := range steps {
		steps[i].Target = v1alpha1.TargetPods
	}
	return v1alpha1.PlaybookPhase{Steps: steps}
}

// preflightScene is a domain with a playbook, and a shop.
func preflightScene(t *testing.T) (playbook *v1alpha1.ResponsePlaybook, shop string) {
	t.Helper()
	domain, shop := newDomain(t), newNamespace(t, nil)
	mustCreate(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: domain, Name: v1alpha1.ImpersonatorClusterRole},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: v1alpha1.ImpersonatorClusterRole},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ManagerServiceAccount}},
	})
	playbook = &v1alpha1.ResponsePlaybook{
		ObjectMeta: metav1.ObjectMeta{Namespace: domain, Name: "contain"},
		Spec: v1alpha1.ResponsePlaybookSpec{
			ServiceAccountName: "contain",
			Scope:              v1alpha1.PlaybookScope{Namespaces: []v1alpha1.ScopeNamespace{v1alpha1.ScopeNamespace(shop)}},
			Containment: podSteps(
				v1alpha1.PlaybookStep{Name: "keep", Collect: &v1alpha1.CollectAction{}},
				v1alpha1.PlaybookStep{Name: "cut", Isolate: &v1alpha1.IsolateAction{}},
			),
		},
	}
	return playbook, shop
}

func TestPreflightSaysWhatIsMissing(t *testing.T) {
	playbook, shop := preflightScene(t)
	mustCreate(t, playbook)
	read := preflight(t, playbook)
	expectCondition(t, read, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonServiceAccountNotFound}, "ServiceAccount 'contain' does not exist")
	expectCondition(t, read, metav1.Condition{Type: v1alpha1.ConditionAuthorized, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRightsMissing},
		"ServiceAccount 'contain' may not, in namespace '"+shop+"': ",
		"get pods (finding the targets, step 'keep')", "get, patch pods (step 'cut')",
		"get, list, create, patch, delete networkpolicies.networking.k8s.io (step 'cut')", "list events (step 'keep')",
		"kubectl firebreak rbac contain -n "+playbook.Namespace)
	expectCondition(t, read, metav1.Condition{Type: v1alpha1.ConditionReversible, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotReverted}, "'cut'")

	mustCreate(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: playbook.Namespace, Name: "contain"}})
	grant(t, playbook, shop,
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"list"}},
		rbacv1.PolicyRule{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"}, Verbs: []string{"get", "list", "create", "patch", "delete"}},
	)
	eventually(t, func(context.Context) string {
		message := meta.FindStatusCondition(preflight(t, playbook).Status.Conditions, v1alpha1.ConditionAuthorized).Message
		if want := "may not, in namespace '" + shop + "': patch pods (step 'cut'). "; !strings.Contains(message, want) {
			return fmt.Sprintf("Authorized says %q, want only %q", message, want)
		}
		return ""
	})
	expectCondition(t, preflight(t, playbook), metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompiled})

	// That a right is missing where the playbook is not meant to act is no reason to warn; everywhere it is.
	grant(t, playbook, shop, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"patch"}})
	eventually(t, func(context.Context) string {
		if !meta.IsStatusConditionTrue(preflight(t, playbook).Status.Conditions, v1alpha1.ConditionAuthorized) {
			return "not Authorized"
		}
		return ""
	})
	everywhere := preflight(t, playbook)
	everywhere.Spec.Scope = v1alpha1.PlaybookScope{}
	if err := testClient.Update(t.Context(), everywhere); err != nil {
		t.Fatal(err)
	}
	expectCondition(t, preflight(t, playbook), metav1.Condition{Type: v1alpha1.ConditionAuthorized, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRightsMissing},
		"in all namespaces: ", "or name in `scope.namespaces` where it is meant to act")
}

// grant lets the playbook's ServiceAccount do something in a namespace.
func grant(t *testing.T, playbook *v1alpha1.ResponsePlaybook, namespace string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "test-"}, Rules: rules}
	mustCreate(t, role)
	mustCreate(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: playbook.Namespace, Name: playbook.Spec.ServiceAccountName}},
	})
}

func TestPreflightOfChannels(t *testing.T) {
	playbook, _ := preflightScene(t)
	mustCreate(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: playbook.Namespace, Name: "contain"}})
	playbook.Spec.Containment = v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{{
		Name: "tell", Notify: &v1alpha1.NotifyAction{Channels: []v1alpha1.ChannelName{"chat", "fax"}, Roles: []v1alpha1.RoleName{"Legal"}},
	}}}
	mustCreate(t, playbook)
	missing := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonChannelNotFound}
	expectCondition(t, preflight(t, playbook), missing, "step 'tell': there is no channel 'chat': the namespace has no ResponsePlan 'default'")

	plan := &v1alpha1.ResponsePlan{ObjectMeta: metav1.ObjectMeta{Namespace: playbook.Namespace, Name: v1alpha1.ResponsePlanName}}
	plan.Spec.ServiceAccountName = "reader"
	secret := v1alpha1.ChannelSecretReference{Name: "chat", Key: "url"}
	plan.Spec.Channels = []v1alpha1.PlanChannel{{Name: "chat", TLP: v1alpha1.TLPAmber, URLSecretKeyRef: secret}}
	mustCreate(t, plan)
	read := preflight(t, playbook)
	expectCondition(t, read, missing, "step 'tell': the plan has no channel 'fax': it must be one of 'chat'; step 'tell': the plan has no role 'Legal'")
	expectCondition(t, read, metav1.Condition{Type: v1alpha1.ConditionAuthorized, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRightsMissing},
		"ServiceAccount 'reader' may not, in namespace '"+playbook.Namespace+"': get secrets 'chat' (step 'tell'). 'kubectl firebreak rbac contain")

	plan.Spec.Channels = append(plan.Spec.Channels, v1alpha1.PlanChannel{Name: "fax", TLP: v1alpha1.TLPAmber, URLSecretKeyRef: secret})
	plan.Spec.Roles = []v1alpha1.PlanRole{{Name: "Legal", Subjects: []v1alpha1.RoleSubject{{Kind: v1alpha1.RoleSubjectUser, Name: "x"}}, Channels: []v1alpha1.ChannelName{"fax"}}}
	if err := testClient.Update(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	reader := playbook.DeepCopy()
	reader.Spec.ServiceAccountName = "reader"
	grant(t, reader, playbook.Namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"chat"}, Verbs: []string{"get"}})
	eventually(t, func(context.Context) string {
		if !meta.IsStatusConditionTrue(preflight(t, playbook).Status.Conditions, v1alpha1.ConditionAuthorized) {
			return "not Authorized"
		}
		return ""
	})
	expectCondition(t, preflight(t, playbook), metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompiled})
}

func TestPreflightHoldsBackWhatDestroysFirst(t *testing.T) {
	playbook, _ := preflightScene(t)
	mustCreate(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: playbook.Namespace, Name: "contain"}})
	playbook.Spec.Containment = podSteps(v1alpha1.PlaybookStep{Name: "kill", Delete: &v1alpha1.DeleteAction{}})
	mustCreate(t, playbook)
	read := preflight(t, playbook)
	expectCondition(t, read, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonEvidenceLoss}, "step 'kill' (delete) may destroy evidence", "`evidenceLoss: Allow`")
	expectCondition(t, read, metav1.Condition{Type: v1alpha1.ConditionReversible, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllReverted})

	read.Spec.EvidenceLoss = v1alpha1.EvidenceLossAllow
	if err := testClient.Update(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	read = preflight(t, playbook)
	expectCondition(t, read, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompiled})
	version := read.ResourceVersion
	if again := preflight(t, playbook); again.ResourceVersion != version {
		t.Error("the status was written again although nothing has changed")
	}
}

func TestPreflightKnowsAlternatives(t *testing.T) {
	playbook, shop := preflightScene(t)
	mustCreate(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: playbook.Namespace, Name: "contain"}})
	playbook.Spec.EvidenceLoss = v1alpha1.EvidenceLossAllow
	playbook.Spec.Containment = v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{{Name: "stop", Target: v1alpha1.TargetWorkloads, Delete: &v1alpha1.DeleteAction{}}}}
	mustCreate(t, playbook)
	expectCondition(t, preflight(t, playbook), metav1.Condition{Type: v1alpha1.ConditionAuthorized, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRightsMissing},
		"at least one of [get, delete deployments.apps; get, delete statefulsets.apps;")
	grant(t, playbook, shop,
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}},
		rbacv1.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"deployments", "replicasets"}, Verbs: []string{"get", "delete"}},
	)
	eventually(t, func(context.Context) string {
		if !meta.IsStatusConditionTrue(preflight(t, playbook).Status.Conditions, v1alpha1.ConditionAuthorized) {
			return "not Authorized"
		}
		return ""
	})
	expectCondition(t, preflight(t, playbook), metav1.Condition{Type: v1alpha1.ConditionAuthorized, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllowed},
		"step 'stop' in namespace '"+shop+"' cannot act where it takes get, delete statefulsets.apps; get, delete daemonsets.apps")
}

func TestPreflightAsksLessOftenInTime(t *testing.T) {
	now := time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		conditions []metav1.Condition
		want       time.Duration
	}{
		"all is well":                  {conditions: []metav1.Condition{{Type: "Ready", Status: "True"}, {Type: "Authorized", Status: "True"}}, want: 5 * time.Minute},
		"just found missing":           {conditions: []metav1.Condition{{Type: "Authorized", Status: "False", LastTransitionTime: metav1.NewTime(now)}}, want: 15 * time.Second},
		"missing for a minute":         {conditions: []metav1.Condition{{Type: "Authorized", Status: "False", LastTransitionTime: metav1.NewTime(now.Add(-time.Minute))}}, want: time.Minute},
		"missing for a day":            {conditions: []metav1.Condition{{Type: "Authorized", Status: "Unknown", LastTransitionTime: metav1.NewTime(now.Add(-24 * time.Hour))}}, want: 5 * time.Minute},
		"no such account":              {conditions: []metav1.Condition{{Type: "Ready", Status: "False", Reason: v1alpha1.ReasonServiceAccountNotFound, LastTransitionTime: metav1.NewTime(now)}}, want: 15 * time.Second},
		"what only an edit can change": {conditions: []metav1.Condition{{Type: "Ready", Status: "False", Reason: v1alpha1.ReasonExpressionError, LastTransitionTime: metav1.NewTime(now)}}, want: 5 * time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reconciler := &ResponsePlaybookReconciler{Clock: clocktesting.NewFakePassiveClock(now)}
			playbook := &v1alpha1.ResponsePlaybook{Status: v1alpha1.ResponsePlaybookStatus{Conditions: test.conditions}}
			if got := reconciler.again(playbook); got != test.want {
				t.Errorf("asked again after %s, want %s", got, test.want)
			}
		})
	}
}
