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
