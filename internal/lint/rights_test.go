package lint

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// telling is a domain whose plan's ServiceAccount is another than the playbook's, and reads a
// channel and the owners of pods.
func telling() string {
	text := strings.NewReplacer(
		"metadata: {name: default, namespace: security}\nspec:\n  serviceAccountName: contain\n", "metadata: {name: default, namespace: security}\nspec:\n  serviceAccountName: reader\n  channels: [{name: pager, urlSecretKeyRef: {name: pager, key: url}, tlp: Amber}]\n",
		"{kind: Group, name: oncall}]}\n", "{kind: Group, name: oncall}], channels: [pager]}\n",
		"    - name: isolate\n", "    - name: tell\n      notify: {roles: [IncidentManager], title: '\"look\"', message: '\"look\"'}\n    - name: isolate\n",
	).Replace(right)
	return text + `---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: security}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: security}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [pager], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: security}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: security}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: owners}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get]}
- {apiGroups: [apps], resources: [replicasets, deployments], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: owners}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: owners}
subjects: [{kind: ServiceAccount, name: reader, namespace: security}]
`
}

func TestRightsOfThePlan(t *testing.T) {
	const effect = ", so that `event.workload`, which policy 'runtime' reads, is the pod itself: events of two pods of one workload do not belong together"
	for name, test := range map[string]struct {
		old, now string
		want     []string
	}{
		"nothing is wrong": {},
		"a channel's Secret": {"resourceNames: [pager]", "resourceNames: [other]", []string{
			"Error RightsMissing spec.containment.steps[1]: ServiceAccount 'reader' of the plan may not get secrets 'pager' in namespace 'security', needed for step 'tell': a Role or ClusterRole bound to it must allow that; 'kubectl firebreak rbac' prints those that a playbook needs of it"}},
		"no pods": {"- {apiGroups: [\"\"], resources: [pods], verbs: [get]}\n- {apiGroups: [apps], resources: [replicasets", "- {apiGroups: [apps], resources: [replicasets", []string{
			"Warning RightsMissing spec.serviceAccountName: ServiceAccount 'reader' of the plan may get pods in no namespace" + effect}},
		"half of the owners": {"resources: [replicasets, deployments]", "resources: [replicasets]", []string{
			"Warning RightsMissing spec.serviceAccountName: ServiceAccount 'reader' of the plan may get pods in all namespaces, but not deployments.apps" + effect}},
		"no owner": {"resources: [replicasets, deployments], verbs: [get]", "resources: [deployments], verbs: [list]", []string{
			"Warning RightsMissing spec.serviceAccountName: ServiceAccount 'reader' of the plan may get pods in all namespaces, but not replicasets.apps, deployments.apps, jobs.batch, cronjobs.batch, statefulsets.apps, daemonsets.apps" + effect}},
	} {
		t.Run(name, func(t *testing.T) {
			content := telling()
			if test.old != "" && strings.Count(content, test.old) != 1 {
				t.Fatalf("%q is there %d times", test.old, strings.Count(content, test.old))
			}
			_, got := findings(t, "", []string{"-"}, strings.Replace(content, test.old, test.now, 1))
			for i, line := range got {
				_, got[i], _ = strings.Cut(line, ": ")
			}
			if diff := cmp.Diff(append([]string{}, test.want...), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestBindings: a binding that does not give what it was meant to is an error where all that
// belongs to it was given.
func TestBindings(t *testing.T) {
	const binding = "metadata: {name: contain, namespace: shop}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: contain}\nsubjects: [{kind: ServiceAccount, name: contain, namespace: security}]\n"
	const account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: contain, namespace: security}\n---\n"
	const rules = `- {apiGroups: [""], resources: [pods], verbs: [get, patch]}
- {apiGroups: [""], resources: [pods/log], verbs: [get]}
- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: ["*"]}
- {apiGroups: [apps, batch, ""], resources: ["*"], verbs: [get, list, delete]}
`
	for name, test := range map[string]struct {
		edit     []string
		severity Severity
		want     string
	}{
		"another namespace":                    {[]string{binding, strings.Replace(binding, "shop", "web", 1)}, Error, "It is bound in namespace 'web', and a RoleBinding gives rights in its own namespace alone"},
		"a subject of another":                 {[]string{binding, strings.Replace(binding, "security", "web", 1)}, Error, "RoleBinding 'contain' names one in namespace 'web'"},
		"a subject without namespace":          {[]string{"kind: RoleBinding\n", "kind: ClusterRoleBinding\n", "subjects: [{kind: ServiceAccount, name: contain, namespace: security}]", "subjects: [{kind: ServiceAccount, name: contain}]"}, Error, "Invalid subjects[0]: `subjects[0].namespace` must be set: it must be the namespace of ServiceAccount 'contain'"},
		"a subject of the binding's namespace": {[]string{binding, strings.Replace(binding, ", namespace: security", "", 1)}, Error, "RoleBinding 'contain' names one in namespace 'shop'"},
		"a misspelt role":                      {[]string{binding, strings.Replace(binding, "kind: Role, name: contain", "kind: Role, name: kontain", 1)}, Error, "InvalidReference roleRef.name: there is no Role 'kontain' in namespace 'shop', so that nothing is given by it: did you mean Role 'contain', which no binding among the manifests names?"},
		"a misspelt ClusterRole": {[]string{"kind: Role\n", "kind: ClusterRole\n", "kind: Role, name: contain}", "kind: ClusterRole, name: kontain}"}, Error,
			"InvalidReference roleRef.name: there is no ClusterRole 'kontain', so that nothing is given by it: did you mean ClusterRole 'contain', which no binding among the manifests names?"},
		"a Role that is meant as ClusterRole": {[]string{"kind: Role, name: contain}", "kind: ClusterRole, name: contain}"}, Error,
			"InvalidReference roleRef.name: there is no ClusterRole 'contain', so that nothing is given by it: did you mean Role 'contain', which no binding among the manifests names?"},
		"a ClusterRole that is meant as Role": {[]string{"kind: Role\n", "kind: ClusterRole\n"}, Error,
			"InvalidReference roleRef.name: there is no Role 'contain' in namespace 'shop', so that nothing is given by it: did you mean ClusterRole 'contain', which no binding among the manifests names?"},
		"no roleRef":               {[]string{"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: contain}\n", ""}, Error, "Invalid roleRef.kind: `roleRef.kind` must be one of [\"Role\" \"ClusterRole\"], is ''"},
		"a roleRef without a name": {[]string{"kind: Role, name: contain}", "kind: Role}"}, Error, "Invalid roleRef.name: `roleRef.name` must be set: it must be the name of a Role"},
		"a Role for all":           {[]string{"kind: RoleBinding\n", "kind: ClusterRoleBinding\n"}, Error, "Invalid roleRef.kind: `roleRef.kind` must be one of [\"ClusterRole\"], is 'Role'"},
		"a ClusterRole of others":  {[]string{"kind: Role, name: contain}", "kind: ClusterRole, name: admin}"}, Warning, "It may be in ClusterRole 'admin', which is bound but not among the manifests"},
		"a Role of others":         {[]string{"metadata: {name: contain, namespace: shop}\nrules", "metadata: {name: contain, namespace: web}\nrules"}, Warning, "It may be in Role 'contain', which is bound but not among the manifests"},
		"a misspelt Role that another has": {[]string{binding, strings.Replace(binding, "Role, name: contain", "Role, name: contain-b", 1) + "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n" + strings.Replace(binding, "name: contain, namespace: security", "name: other, namespace: security", 1)}, Warning,
			"It may be in Role 'contain-b' (or is 'contain' meant?), which is bound but not among the manifests"},
		"a Role of others beside another": {[]string{binding, strings.Replace(binding, "Role, name: contain", "Role, name: pods-of-the-shop", 1)}, Warning, "It may be in Role 'pods-of-the-shop', which is bound but not among the manifests"},
		"a ClusterRole of Kubernetes":     {[]string{"kind: Role\n", "kind: ClusterRole\n", "metadata: {name: contain, namespace: shop}\nrules", "metadata: {name: edits}\nrules", "kind: Role, name: contain}", "kind: ClusterRole, name: edit}"}, Warning, "It may be in ClusterRole 'edit', which is bound but not among the manifests"},
		"neither a binding nor a role for it": {[]string{rules, "- {apiGroups: [\"\"], resources: [services], verbs: [list]}\n", binding, strings.Replace(binding, "name: contain, namespace: security", "name: other, namespace: security", 1)}, Warning,
			"NotGiven spec.serviceAccountName: the rights of ServiceAccount 'contain' are not checked: no RoleBinding"},
		"a role for it, and no binding":      {[]string{binding, strings.Replace(binding, "name: contain, namespace: security", "name: other, namespace: security", 1)}, Error, "ServiceAccount 'contain' may do nothing: it is among the manifests"},
		"a role that others have too":        {[]string{binding, strings.Replace(binding, "kind: ServiceAccount, name: contain, namespace: security", "kind: Group, name: sre", 1)}, Warning, "the rights of ServiceAccount 'contain' are not checked"},
		"a role that only reads":             {[]string{rules, "- {apiGroups: [\"\"], resources: [pods], verbs: [get, list]}\n", binding, strings.Replace(binding, "name: contain, namespace: security", "name: other, namespace: security", 1)}, Warning, "the rights of ServiceAccount 'contain' are not checked"},
		"a group that may do something else": {[]string{rules, "- {apiGroups: [\"\"], resources: [configmaps], verbs: [get, list]}\n", binding, strings.Replace(binding, "kind: ServiceAccount, name: contain, namespace: security", "kind: Group, name: 'system:serviceaccounts:security'", 1)}, Warning, "the rights of ServiceAccount 'contain' are not checked"},
		"an account of another domain":       {[]string{account, account + strings.Replace(account, "security", "web", 1), binding, strings.Replace(binding, "security", "web", 1)}, Warning, "the rights of ServiceAccount 'contain' are not checked"},
		"a role of another version":          {[]string{"kind: Role, name: contain}", "kind: Role, name: contain-v2}", "metadata: {name: contain, namespace: shop}\nrules", "metadata: {name: contain-v1, namespace: shop}\nrules"}, Warning, "It may be in Role 'contain-v2' (or is 'contain-v1' meant?)"},
		"a roleRef of a version":             {[]string{"roleRef: {apiGroup: rbac.authorization.k8s.io,", "roleRef: {apiGroup: rbac.authorization.k8s.io/v1,"}, Error, "Invalid roleRef.apiGroup: `roleRef.apiGroup` must be 'rbac.authorization.k8s.io', is 'rbac.authorization.k8s.io/v1'"},
		"a subject of a group":               {[]string{"subjects: [{kind: ServiceAccount, name: contain, namespace: security}]", "subjects: [{apiGroup: rbac.authorization.k8s.io, kind: ServiceAccount, name: contain, namespace: security}]"}, Error, "Invalid subjects[0]: `subjects[0].apiGroup` must be empty for a ServiceAccount"},
		"an account of others":               {[]string{account, "", binding, strings.Replace(binding, "security", "web", 1)}, Warning, "NotGiven spec.serviceAccountName: the rights of ServiceAccount 'contain' are not checked: no RoleBinding"},
		"a version that is gone":             {[]string{"rbac.authorization.k8s.io/v1\nkind: RoleBinding", "rbac.authorization.k8s.io/v1beta1\nkind: RoleBinding"}, Error, "ServiceAccount 'contain' may do nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			for i := 0; i < len(test.edit); i += 2 {
				if strings.Count(right, test.edit[i]) != 1 {
					t.Fatalf("%q is there %d times", test.edit[i], strings.Count(right, test.edit[i]))
				}
			}
			_, got := findings(t, "", []string{"-"}, strings.NewReplacer(test.edit...).Replace(right))
			severity, all := Warning, strings.Join(got, "\n")
			if strings.Contains(all, ": Error ") {
				severity = Error
			}
			if severity != test.severity || !strings.Contains(all, test.want) {
				t.Errorf("want %s %q in\n%s", test.severity, test.want, all)
			}
		})
	}
}

func TestRightsOfTheCluster(t *testing.T) {
	everywhere := strings.NewReplacer("  scope: {namespaces: [shop]}\n", "", "kind: Role\n", "kind: ClusterRole\n", "kind: RoleBinding", "kind: ClusterRoleBinding",
		"kind: Role, name: contain", "kind: ClusterRole, name: sum", "metadata: {name: contain, namespace: shop}\nrules", "metadata: {name: contain, labels: {part: sum}}\nrules").Replace(right) + `---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: sum}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {part: sum}}]}
`
	const parts = "aggregationRule: {clusterRoleSelectors: [{matchLabels: {part: sum}}]}\n"
	nested := strings.Replace(everywhere, parts, "aggregationRule: {clusterRoleSelectors: [{matchLabels: {part: all}}]}\n", 1) + `---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: middle, labels: {part: all}}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {part: sum}}]}
`
	own := strings.Replace(strings.Replace(everywhere, "labels: {part: sum}}\nrules", "labels: {part: other}}\nrules", 1), parts,
		parts+"rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]\n", 1)
	const elsewhere = "It may be in a part of ClusterRole 'sum' that is not among the manifests"
	lacks := strings.Replace(everywhere, "resources: [pods], verbs: [get, patch]", "resources: [pods], verbs: [get]", 1)
	for name, test := range map[string]struct{ content, severity, want string }{
		"a part":                            {everywhere, "", ""},
		"a part that lacks a right":         {lacks, "Error", "may not patch pods"},
		"no part":                           {strings.Replace(everywhere, "part: sum}}\nrules", "part: other}}\nrules", 1), "Warning", elsewhere},
		"some parts":                        {strings.Replace(lacks, "{matchLabels: {part: sum}}]", "{matchLabels: {part: sum}}, {matchLabels: {part: others}}]", 1), "Warning", elsewhere},
		"a part of a part":                  {nested, "", ""},
		"a part of a part that lacks some":  {strings.Replace(nested, "resources: [pods], verbs: [get, patch]", "resources: [pods], verbs: [get]", 1), "Error", "may not patch pods"},
		"a part of a part that is not here": {strings.Replace(nested, "part: sum}}\nrules", "part: other}}\nrules", 1), "Warning", elsewhere},
		"a part of itself":                  {strings.Replace(strings.Replace(everywhere, "part: sum}}\nrules", "part: other}}\nrules", 1), "metadata: {name: sum}", "metadata: {name: sum, labels: {part: sum}}", 1), "Warning", elsewhere},
		"rules that are of more parts":      {strings.Replace(lacks, parts, parts+"rules: [{apiGroups: [''], resources: [pods], verbs: [get, patch]}]\n", 1), "Warning", elsewhere},
		"rules of its own":                  {own, "Warning", elsewhere}, // the controller writes those of the parts over them
	} {
		_, got := findings(t, "", []string{"-"}, test.content)
		all := strings.Join(got, "\n")
		if test.severity == "" && all != "" || test.severity != "" && !strings.Contains(all, test.want) || strings.Contains(all, ": Error ") != (test.severity == "Error") {
			t.Errorf("%s: want %s %q, got findings\n%s", name, test.severity, test.want, all)
		}
	}
}

// TestRightsByAGroup: what is given to all ServiceAccounts of a namespace is given to each.
func TestRightsByAGroup(t *testing.T) {
	const named = "{kind: ServiceAccount, name: contain, namespace: security}"
	for _, group := range []string{"system:serviceaccounts:security", "system:serviceaccounts", "system:authenticated"} {
		if _, got := findings(t, "", []string{"-"}, strings.Replace(right, named, "{kind: Group, apiGroup: rbac.authorization.k8s.io, name: '"+group+"'}", 1)); len(got) > 0 {
			t.Errorf("%s: findings\n%s", group, strings.Join(got, "\n"))
		}
	}
}

func TestThePlanNeedsAServiceAccount(t *testing.T) {
	_, got := findings(t, "", []string{"-"}, strings.Replace(right, "spec:\n  serviceAccountName: contain\n  roles", "spec:\n  roles", 1))
	if len(got) != 1 || !strings.Contains(got[0], "Warning RightsMissing spec: the plan names no `serviceAccountName`, as which the owners of pods are looked up, so that `event.workload`") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// FuzzRun: whatever a pull request brings, lint answers, and answers the same again.
func FuzzRun(f *testing.F) {
	f.Add(right)
	f.Add(telling())
	f.Add(strings.NewReplacer("kind: Role, name: contain", "kind: ClusterRole, name: kontain", `event.submittedBy == "falco" &&`, `event.submittedBy in ["a", []] ? event.severity != [] :`).Replace(right))
	f.Add(strings.ReplaceAll(right, "security", ""))
	f.Add(strings.NewReplacer("[isolate]", "[{}]", "'\"Shell", "'[[[[", "name: contain", "name: &a [*a]").Replace(right))
	f.Fuzz(func(t *testing.T, content string) {
		_, first := findings(t, "", []string{"-"}, content)
		_, second := findings(t, "", []string{"-"}, content)
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("the second time it is another:\n%s", diff)
		}
	})
}
