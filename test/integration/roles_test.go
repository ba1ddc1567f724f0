package integration

import (
	"slices"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/test/harness"
)

// may asks the API server whether a user may do something.
func may(t *testing.T, c *harness.Cluster, user string, attributes authorizationv1.ResourceAttributes) bool {
	t.Helper()
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attributes}}
	done(t, c.As(t, user).Create(t.Context(), review))
	return review.Status.Allowed
}

func TestShippedRolesDoWhatTheySay(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	roles := []string{"firebreak-viewer", "firebreak-reporter", "firebreak-responder", "firebreak-incident-manager", "firebreak-author"}
	for _, role := range roles {
		d.Bind(t, d.Namespace, role, harness.User(role))
	}
	const viewer, reporter, responder, incidentManager, author = "firebreak-viewer", "firebreak-reporter", "firebreak-responder", "firebreak-incident-manager", "firebreak-author"
	readers := []string{viewer, responder, incidentManager}
	deciders := []string{responder, incidentManager}
	tests := []struct {
		resource string
		verbs    []string
		who      []string
	}{
		{"incidents", []string{"get", "list", "watch"}, readers},
		{"evidence", []string{"list"}, readers},
		{"securityevents", []string{"list"}, readers},
		{"securityevents", []string{"get"}, append([]string{reporter}, readers...)},
		{"securityevents", []string{"create"}, []string{reporter, responder, incidentManager}},
		{"securityevents", []string{"promote", "join", "dismiss"}, deciders},
		{"decisions", []string{"create"}, deciders},
		{"decisions", []string{"update", "patch", "delete", "purge"}, nil},
		{"incidents", []string{"acknowledge", "confirm", "approve", "reject", "complete-task", "skip-step", "retry-step", "add-resource", "run-action", "pause", "resume", "note"}, deciders},
		{"incidents", []string{"create", "declare", "close", "set-severity", "determine", "use-playbook", "detach-event", "mark-duplicate"}, []string{incidentManager}},
		{"incidents", []string{"update", "patch", "delete", "purge"}, nil},
		{"responseplans", []string{"stop-automation"}, deciders},
		{"responseplans", []string{"resume-automation"}, []string{incidentManager}},
		{"responseplans", []string{"get"}, append([]string{author}, readers...)},
		{"responseplans", []string{"create", "update", "patch", "delete"}, []string{author}},
		{"responseplaybooks", []string{"create", "update", "patch", "delete"}, []string{author}},
		{"classificationpolicies", []string{"create", "update", "patch", "delete"}, []string{author}},
		{"evidence", []string{"create"}, []string{incidentManager}},
		{"evidence", []string{"delete", "purge"}, nil},
		{"lessonslearned", []string{"create", "update"}, deciders},
		{"lessonslearned", []string{"delete", "purge"}, nil},
		{"securityevents", []string{"update", "patch", "delete", "purge"}, nil},
		{"incidents/status", []string{"update", "patch"}, nil},
	}
	for _, test := range tests {
		for _, verb := range test.verbs {
			t.Run(verb+" "+test.resource, func(t *testing.T) {
				for _, role := range roles {
					want := slices.Contains(test.who, role)
					got := may(t, d.Cluster, role, attributes("firebreak.dev", test.resource, verb, d.Namespace))
					if got != want {
						t.Errorf("%s: got allowed = %t, want %t", role, got, want)
					}
					if elsewhere := may(t, d.Cluster, role, attributes("firebreak.dev", test.resource, verb, d.Target)); elsewhere {
						t.Errorf("%s is bound in one namespace, and allowed in another", role)
					}
				}
			})
		}
	}
}

func TestNoShippedRoleHasAWildcardOrPurge(t *testing.T) {
	objects, err := harness.Load(harness.Get(t).Root + "/config/rbac")
	done(t, err)
	seen := 0
	for _, object := range objects {
		if object.GetKind() != "ClusterRole" && object.GetKind() != "Role" {
			continue
		}
		var role rbacv1.ClusterRole
		if object.GetKind() == "ClusterRole" {
			done(t, harness.Get(t).Client.Get(t.Context(), client.ObjectKey{Name: object.GetName()}, &role))
		} else {
			var own rbacv1.Role
			done(t, harness.Get(t).Client.Get(t.Context(), client.ObjectKeyFromObject(object), &own))
			role.Rules = own.Rules
		}
		for _, rule := range role.Rules {
			seen++
			for _, words := range [][]string{rule.APIGroups, rule.Resources, rule.Verbs} {
				if slices.Contains(words, "*") || slices.Contains(words, "purge") {
					t.Errorf("%s: the rule %v must have neither '*' nor 'purge'", object.GetName(), rule)
				}
			}
		}
	}
	if seen == 0 {
		t.Error("config/rbac must hold roles")
	}
}

func attributes(group, resource, verb, namespace string) authorizationv1.ResourceAttributes {
	name, subresource := resource, ""
	for i := range resource {
		if resource[i] == '/' {
			name, subresource = resource[:i], resource[i+1:]
		}
	}
	return authorizationv1.ResourceAttributes{Namespace: namespace, Group: group, Resource: name, Subresource: subresource, Verb: verb}
}

// TestTheManagerHasNoRightsOfItsOwn is design principle 2: it borrows them.
func TestTheManagerHasNoRightsOfItsOwn(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	const core, authentication = "", "authentication.k8s.io"
	tests := map[string]struct {
		group, resource, verb, namespace string
		want                             bool
	}{
		"secrets in a domain":                  {core, "secrets", "get", d.Namespace, false},
		"secrets everywhere":                   {core, "secrets", "list", "", false},
		"its own secrets":                      {core, "secrets", "get", "firebreak-system", false},
		"pods where it acts":                   {core, "pods", "get", d.Target, false},
		"pods in a domain":                     {core, "pods", "get", d.Namespace, false},
		"delete pods":                          {core, "pods", "delete", d.Target, false},
		"create network policies":              {"networking.k8s.io", "networkpolicies", "create", d.Target, false},
		"deployments":                          {"apps", "deployments", "get", d.Target, false},
		"be an account of a domain":            {core, "serviceaccounts", "impersonate", d.Namespace, true},
		"be an account of no domain":           {core, "serviceaccounts", "impersonate", d.Target, false},
		"be an account of its own":             {core, "serviceaccounts", "impersonate", "firebreak-system", false},
		"be an account of the control plane":   {core, "serviceaccounts", "impersonate", "kube-system", false},
		"be any account":                       {core, "serviceaccounts", "impersonate", "", false},
		"be a user":                            {core, "users", "impersonate", "", false},
		"be of a group":                        {core, "groups", "impersonate", "", false},
		"have a UID":                           {authentication, "uids", "impersonate", "", false},
		"approve":                              {"firebreak.dev", "incidents", "approve", d.Namespace, false},
		"close":                                {"firebreak.dev", "incidents", "close", d.Namespace, false},
		"delete what must stay":                {"firebreak.dev", "incidents", "purge", d.Namespace, false},
		"delete a lesson":                      {"firebreak.dev", "lessonslearned", "delete", d.Namespace, false},
		"edit a playbook":                      {"firebreak.dev", "responseplaybooks", "update", d.Namespace, false},
		"edit an incident":                     {"firebreak.dev", "incidents", "update", d.Namespace, false},
		"edit a Decision":                      {"firebreak.dev", "decisions", "update", d.Namespace, false},
		"create events of security":            {"firebreak.dev", "securityevents", "create", d.Namespace, false},
		"write the status of an incident":      {"firebreak.dev", "incidents/status", "patch", d.Namespace, true},
		"change a pinned playbook":             {"apps", "controllerrevisions", "update", d.Namespace, false},
		"look for pinned playbooks":            {"apps", "controllerrevisions", "list", d.Namespace, false},
		"take tokens":                          {core, "serviceaccounts/token", "create", d.Namespace, false},
		"bind roles":                           {"rbac.authorization.k8s.io", "rolebindings", "create", d.Namespace, false},
		"the lock of its leader":               {"coordination.k8s.io", "leases", "update", "firebreak-system", true},
		"locks elsewhere":                      {"coordination.k8s.io", "leases", "update", d.Namespace, false},
		"events of Kubernetes, in the old API": {core, "events", "create", d.Namespace, false},
		"events of Kubernetes, in the new API": {"events.k8s.io", "events", "create", d.Namespace, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := may(t, d.Cluster, harness.Manager, attributes(test.group, test.resource, test.verb, test.namespace)); got != test.want {
				t.Errorf("got allowed = %t, want %t", got, test.want)
			}
		})
	}
}

func TestTheReceiverReportsAndNothingElse(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	tests := map[string]struct {
		group, resource, verb string
		want                  bool
	}{
		"report events":       {"firebreak.dev", "securityevents", "create", true},
		"count repeats":       {"firebreak.dev", "securityevents/status", "patch", true},
		"edit events":         {"firebreak.dev", "securityevents", "update", false},
		"list events":         {"firebreak.dev", "securityevents", "list", false},
		"read incidents":      {"firebreak.dev", "incidents", "get", false},
		"read plans":          {"firebreak.dev", "responseplans", "list", false},
		"edit plans":          {"firebreak.dev", "responseplans", "update", false},
		"decide":              {"firebreak.dev", "decisions", "create", false},
		"read secrets":        {"", "secrets", "get", false},
		"impersonate anybody": {"", "serviceaccounts", "impersonate", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := may(t, d.Cluster, harness.Receiver, attributes(test.group, test.resource, test.verb, d.Namespace)); got != test.want {
				t.Errorf("got allowed = %t, want %t", got, test.want)
			}
		})
	}
}
