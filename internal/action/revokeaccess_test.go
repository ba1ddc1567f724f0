package action_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

// revokeRights are what revokeAccess needs.
var revokeRights = []rbacv1.PolicyRule{
	{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"rolebindings", "clusterrolebindings"}, Verbs: []string{"get", "list", "update"}},
	{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "clusterroles"}, Verbs: []string{"bind"}},
}

// clusterWorld lets the ServiceAccount do things in the whole cluster.
func clusterWorld(t *testing.T, rights []rbacv1.PolicyRule) *world {
	t.Helper()
	w := newWorld(t, nil)
	name := "rights-" + w.domain
	w.create(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rights})
	w.create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.domain, Name: "contain"}},
	})
	w.may(rights)
	return w
}

func (w *world) account() rbacv1.Subject {
	return rbacv1.Subject{Kind: "ServiceAccount", Namespace: w.shop, Name: "cart"}
}

func (w *world) bind(name, role string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
	w.Helper()
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.shop, Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}, Subjects: subjects,
	}
	w.create(binding)
	return binding
}

func (w *world) bindCluster(role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	w.Helper()
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "cart-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}, Subjects: subjects,
	}
	w.create(binding)
	w.Cleanup(func() { _ = admin.Delete(w.Context(), binding) })
	return binding
}

func revokeStep() *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "revoke", Target: v1alpha1.TargetServiceAccounts, RevokeAccess: &v1alpha1.RevokeAccessAction{}}
}

func (w *world) revoke(incident string) *action.Request {
	request := w.onIncident(w.incident(incident), revokeStep())
	request.Target = v1alpha1.StepTarget{APIVersion: "v1", Kind: "ServiceAccount", Namespace: w.shop, Name: "cart", UID: "uid-of-cart"}
	return request
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: name}
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: "Group", APIGroup: rbacv1.GroupName, Name: name}
}

func TestRevokeAccessRestoresExactly(t *testing.T) {
	w := clusterWorld(t, revokeRights)
	alias := user("system:serviceaccount:" + w.shop + ":cart")
	bindings := []client.Object{
		w.bind("view", "view", user("jane"), w.account(), user("joe")),
		w.bind("only", "edit", w.account()),
		w.bind("alias", "view", alias, w.account()),
		w.bindCluster("view", w.account(), user("jane")),
	}
	w.bind("others", "view", user("jane"), rbacv1.Subject{Kind: "ServiceAccount", Namespace: "elsewhere", Name: "cart"})
	w.bind("group", "view", group("system:serviceaccounts:"+w.shop))
	before := map[string]map[string]any{}
	for _, binding := range bindings {
		before[binding.GetName()] = w.content(binding)
	}
	request := w.revoke("inc-1")
	result := w.carryOut("revokeAccess", request)
	w.expect("Apply", result, v1alpha1.TargetSucceeded, "RoleBinding '"+w.shop+"/view'", "ClusterRoleBinding 'cart-",
		"access by group 'system:serviceaccounts:"+w.shop+"' remains (RoleBinding '"+w.shop+"/group')")
	if strings.Contains(result.Message, "others") {
		t.Errorf("%q names a binding of another account", result.Message)
	}
	for _, binding := range bindings {
		if text := fmt.Sprint(w.content(binding)["subjects"]); strings.Contains(text, "cart") {
			t.Errorf("%s still names it: %s", binding.GetName(), text)
		}
	}
	w.expect("repeated Apply", do(t, "revokeAccess").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.carryOut("revokeAccess", request) // planned again, as after a crash
	w.expect("Observe", do(t, "revokeAccess").Observe(t.Context(), request), v1alpha1.TargetSucceeded)
	for _, try := range []string{"first", "repeated"} {
		w.expect(try+" Undo", do(t, "revokeAccess").Undo(t.Context(), request), v1alpha1.TargetReverted)
	}
	for _, binding := range bindings {
		if diff := cmp.Diff(before[binding.GetName()], w.content(binding)); diff != "" {
			t.Errorf("%s after Undo (-want +got):\n%s", binding.GetName(), diff)
		}
	}
}

func TestRevokeAccessSeesWhatComesBack(t *testing.T) {
	w := clusterWorld(t, revokeRights)
	binding := w.bind("view", "view", w.account())
	request := w.revoke("inc-1")
	w.carryOut("revokeAccess", request)
	w.get(binding)
	binding.Subjects = []rbacv1.Subject{w.account()}
	if err := admin.Update(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	w.expect("Observe", do(t, "revokeAccess").Observe(t.Context(), request), v1alpha1.TargetFailed, "something has put it back")
	w.expect("Apply", do(t, "revokeAccess").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	w.bind("new", "edit", w.account())
	w.expect("Observe of a new one", do(t, "revokeAccess").Observe(t.Context(), request), v1alpha1.TargetFailed, "has been given access by RoleBinding '"+w.shop+"/new'")
	w.expect("Apply with a new one", do(t, "revokeAccess").Apply(t.Context(), request), v1alpha1.TargetPending)
	w.carryOut("revokeAccess", request)
	w.delete(binding)
	again := w.bind("view", "admin", user("jane"))
	w.expect("Undo", do(t, "revokeAccess").Undo(t.Context(), request), v1alpha1.TargetReverted, "view': was made anew since, so nothing was put back", "new': put back")
	if w.get(again); len(again.Subjects) != 1 {
		t.Errorf("subjects of what was made anew: %v", again.Subjects)
	}
}

// Undo gives back what the step has taken, and nothing else.
func TestRevokeAccessUndoGrantsNothing(t *testing.T) {
	for name, change := range map[string]func(*world, *action.Request, *rbacv1.RoleBinding){
		"a step that was planned and never carried out": func(_ *world, _ *action.Request, binding *rbacv1.RoleBinding) {
			binding.Subjects = []rbacv1.Subject{user("jane")} // a person takes it by hand
		},
		"a mark that somebody took off": func(w *world, request *action.Request, binding *rbacv1.RoleBinding) {
			w.expect("Apply", do(w.T, "revokeAccess").Apply(w.Context(), request), v1alpha1.TargetSucceeded)
			w.get(binding)
			binding.Annotations = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := clusterWorld(t, revokeRights)
			binding := w.bind("view", "view", user("jane"), w.account())
			request := w.revoke("inc-1")
			planned := do(t, "revokeAccess").Plan(t.Context(), request)
			w.expect("Plan", planned, v1alpha1.TargetActing)
			request.Target.Undo = planned.Undo
			change(w, request, binding)
			if err := admin.Update(t.Context(), binding); err != nil {
				t.Fatal(err)
			}
			w.expect("Undo", do(t, "revokeAccess").Undo(t.Context(), request), v1alpha1.TargetReverted,
				"view': left as it is: this step has not taken it, or somebody has changed it since")
			w.get(binding)
			if diff := cmp.Diff([]rbacv1.Subject{user("jane")}, binding.Subjects); diff != "" {
				t.Errorf("subjects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRevokeAccessOfTwoIncidents(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			w := clusterWorld(t, revokeRights)
			binding := w.bind("view", "view", user("jane"), w.account())
			before := w.content(binding)
			var requests []*action.Request
			for _, name := range []string{"inc-1", "inc-2"} {
				request := w.revoke(name)
				w.carryOut("revokeAccess", request)
				requests = append(requests, request)
			}
			w.expect("first Undo", do(t, "revokeAccess").Undo(t.Context(), requests[order[0]]), v1alpha1.TargetReverted, "another response needs it away")
			w.get(binding)
			if slices.Contains(binding.Subjects, w.account()) {
				t.Fatal("the other incident needs it away")
			}
			w.expect("repeated Undo", do(t, "revokeAccess").Undo(t.Context(), requests[order[0]]), v1alpha1.TargetReverted, "another response needs it away")
			w.expect("second Undo", do(t, "revokeAccess").Undo(t.Context(), requests[order[1]]), v1alpha1.TargetReverted, "put back")
			if diff := cmp.Diff(before, w.content(binding)); diff != "" {
				t.Errorf("after both (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRevokeAccessNamesTheMissingBind(t *testing.T) {
	w := clusterWorld(t, revokeRights[:1])
	binding := w.bind("all", "cluster-admin", w.account())
	result := do(t, "revokeAccess").Plan(t.Context(), w.revoke("inc-1"))
	w.expect("Plan", result, v1alpha1.TargetFailed, w.user+" may not change RoleBinding '"+w.shop+"/all': grant it 'bind' on ClusterRole 'cluster-admin' in namespace '"+w.shop+"'")
	if w.get(binding); len(binding.Subjects) != 1 || !result.Permanent {
		t.Error("nothing must be written, and it must be refused for good")
	}
	w = newWorld(t, nil)
	w.expect("Plan without list", do(t, "revokeAccess").Plan(t.Context(), w.revoke("inc-1")), v1alpha1.TargetFailed, "may not list rolebindings")
}

func TestRevokeAccessSubject(t *testing.T) {
	w := clusterWorld(t, revokeRights)
	for expression, says := range map[string]string{
		`{"kind": "User", "name": "mallory"}`:                   "User 'mallory' will be taken out of RoleBinding",
		`{"kind": "User", "name": "system:serviceaccount:a:b"}`: "ServiceAccount 'a/b' will be taken out of no binding",
		`{"kind": "User", "name": "` + w.user + `"}`:            "it cannot take away its own rights",
		`{"kind": "Role", "name": "x"}`:                         "must be 'User', 'Group' or 'ServiceAccount'",
		`{"kind": "ServiceAccount", "name": "x"}`:               "must yield a `namespace` for a ServiceAccount",
		`{"kind": "User", "name": "x", "namespace": "y"}`:       "must yield a `namespace` for a ServiceAccount, and for nothing else",
		`{"kind": "User", "name": ""}`:                          "must yield a `name`",
		`{"kind": "User", "name": "x", "apiGroup": "y"}`:        "has yielded `apiGroup`",
		`"x"`: "must yield an object",
	} {
		w.bind("of-"+action.ShortHash(8, expression), "view", user("mallory"))
		step := &v1alpha1.PlaybookStep{Name: "revoke", RevokeAccess: &v1alpha1.RevokeAccessAction{Subject: v1alpha1.Expression(expression)}}
		result := do(t, "revokeAccess").Plan(t.Context(), w.onIncident(w.incident("inc-1"), step))
		if !strings.Contains(result.Message, says) {
			t.Errorf("%s: %q must say %q", expression, result.Message, says)
		}
	}
}
