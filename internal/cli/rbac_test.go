package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const rbacPlaybook = `# what is no playbook is passed over
apiVersion: v1
kind: ServiceAccount
metadata: {name: contain-intrusion, namespace: security}
---
apiVersion: firebreak.dev/v1alpha1
kind: ResponsePlaybook
metadata: {name: contain, namespace: security}
spec:
  serviceAccountName: contain-intrusion
  scope: {namespaces: [shop, checkout]}
  containment:
    steps:
    - name: preserve
      target: Pods
      collect: {logs: {}}
    - name: isolate
      target: Pods
      isolate: {}
  eradication:
    steps:
    - name: forget
      targets: '[{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "odd"}]'
      delete: {}
  recovery:
    steps:
    - {name: release, revert: {steps: [isolate]}}
`

func TestRBACOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "playbook.yaml")
	mustDo(t, os.WriteFile(file, []byte(rbacPlaybook), 0o600))
	r := run(t.Context(), adminConfig, "rbac", "-f", file)
	r.check(t, ExitOK, "kind: Role", "")
	golden(t, "rbac", r.out)

	unknown := strings.NewReplacer("  scope: {namespaces: [shop, checkout]}\n", "", "target: Pods", "targets: resources").Replace(rbacPlaybook)
	mustDo(t, os.WriteFile(file, []byte(unknown), 0o600))
	r = run(t.Context(), adminConfig, "rbac", "-f", file, "-o", "json")
	r.check(t, ExitOK, `"kind": "ClusterRoleBinding"`, "grant by hand get on what `targets` of step 'preserve' yields")
	r.check(t, ExitOK, `"kind": "ClusterRole"`, "these rights are in the whole cluster. Name in spec.scope.namespaces where it is meant to act")
	if strings.Contains(r.out, `"kind": "Role"`) {
		t.Errorf("without a scope there must be no Role of a namespace:\n%s", r.out)
	}
}

func TestRBACOfAPlaybook(t *testing.T) {
	ctx := t.Context()
	namespace := domain(t, "firebreak-viewer")
	playbook := &v1alpha1.ResponsePlaybook{
		ObjectMeta: metav1.ObjectMeta{Name: "contain", Namespace: namespace},
		Spec: v1alpha1.ResponsePlaybookSpec{
			ServiceAccountName: "contain", Scope: v1alpha1.PlaybookScope{Namespaces: []v1alpha1.ScopeNamespace{"shop"}},
			Containment: v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{{Name: "cut", Target: v1alpha1.TargetPods, Isolate: &v1alpha1.IsolateAction{}}}},
		},
	}
	mustDo(t, admin.Create(ctx, playbook))
	r := run(ctx, janeConfig, "rbac", "contain", "-n", namespace)
	r.check(t, ExitOK, "name: firebreak-"+namespace+"-contain\n  namespace: shop\n", "")
	if strings.Contains(r.out, "Cluster") {
		t.Errorf("what acts in one namespace must need nothing in the cluster:\n%s", r.out)
	}
	people := playbook.DeepCopy()
	people.ObjectMeta = metav1.ObjectMeta{Name: "people", Namespace: namespace}
	people.Spec.Containment.Steps = []v1alpha1.PlaybookStep{{Name: "call", Task: &v1alpha1.TaskAction{Message: "Call them."}}}
	mustDo(t, admin.Create(ctx, people))
	run(ctx, janeConfig, "rbac", "people", "-n", namespace).check(t, ExitOK, "", "It needs no rights")
}

const tellingDocuments = `---
apiVersion: firebreak.dev/v1alpha1
kind: ResponsePlaybook
metadata: {name: tell, namespace: security}
spec:
  serviceAccountName: contain-intrusion
  adHoc: [notify]
  containment:
    steps:
    - {name: tell, notify: {channels: [chat], roles: [Legal]}}
`

const tellingPlan = `---
apiVersion: firebreak.dev/v1alpha1
kind: ResponsePlan
metadata: {name: default, namespace: security}
spec:
  serviceAccountName: reader
  roles: [{name: Legal, subjects: [{kind: User, name: x}], channels: [mail]}]
  channels:
  - {name: chat, tlp: Amber, urlSecretKeyRef: {name: chat, key: url}}
  - {name: mail, tlp: Red, urlSecretKeyRef: {name: mail, key: url}}
  - {name: pager, tlp: Red, urlSecretKeyRef: {name: pager, key: url}}
`

// TestRBACOfChannels prints what the plan's ServiceAccount needs, and for the playbook's nothing.
func TestRBACOfChannels(t *testing.T) {
	file := filepath.Join(t.TempDir(), "playbook.yaml")
	mustDo(t, os.WriteFile(file, []byte(tellingDocuments+tellingPlan), 0o600))
	r := run(t.Context(), adminConfig, "rbac", "-f", file)
	r.check(t, ExitOK, "kind: Role", "")
	golden(t, "rbac-channels", r.out)
	mustDo(t, os.WriteFile(file, []byte(tellingDocuments), 0o600))
	run(t.Context(), adminConfig, "rbac", "-f", file).check(t, ExitOK, "", "tell: step 'tell': there is no channel 'chat': the namespace has no ResponsePlan 'default'")

	ctx := t.Context()
	namespace := domain(t, "firebreak-viewer")
	playbook := &v1alpha1.ResponsePlaybook{ObjectMeta: metav1.ObjectMeta{Name: "tell", Namespace: namespace}, Spec: v1alpha1.ResponsePlaybookSpec{
		ServiceAccountName: "contain", Containment: v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{{Name: "tell", Notify: &v1alpha1.NotifyAction{Channels: []v1alpha1.ChannelName{"chat"}}}}},
	}}
	mustDo(t, admin.Create(ctx, playbook))
	run(ctx, janeConfig, "rbac", "tell", "-n", namespace).check(t, ExitOK, "", "the namespace has no ResponsePlan 'default'")
	plan := &v1alpha1.ResponsePlan{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ResponsePlanName, Namespace: namespace}}
	plan.Spec.ServiceAccountName = "reader"
	plan.Spec.Channels = []v1alpha1.PlanChannel{{Name: "chat", TLP: v1alpha1.TLPAmber, URLSecretKeyRef: v1alpha1.ChannelSecretReference{Name: "chat-url", Key: "url"}}}
	mustDo(t, admin.Create(ctx, plan))
	run(ctx, janeConfig, "rbac", "tell", "-n", namespace).check(t, ExitOK, "- chat-url\n", "")
}

func TestRBACRefuses(t *testing.T) {
	ctx := t.Context()
	namespace := domain(t, "firebreak-viewer")
	run(ctx, janeConfig, "rbac", "-n", namespace).check(t, ExitError, "", "a name or -f FILE, and not both")
	run(ctx, janeConfig, "rbac", "x", "-f", "y", "-n", namespace).check(t, ExitError, "", "a name or -f FILE, and not both")
	run(ctx, janeConfig, "rbac", "none", "-n", namespace).check(t, ExitError, "", "cannot read the playbook none")
	run(ctx, janeConfig, "rbac", "-f", filepath.Join(t.TempDir(), "none")).check(t, ExitError, "", "no such file")
	for text, says := range map[string]string{
		"kind: ConfigMap\napiVersion: v1\n":                                                   "has no ResponsePlaybook",
		strings.Replace(rbacPlaybook, "collect: {logs: {}}", "colect: {}", 1):                 `document 2 of FILE is not what it must be: error unmarshaling JSON: while decoding JSON: json: unknown field "colect"`,
		strings.Replace(rbacPlaybook, "firebreak.dev/v1alpha1", "firebreak.dev/v2", 1):        "`apiVersion` must be 'firebreak.dev/v1alpha1'",
		strings.Replace(rbacPlaybook, "  serviceAccountName: contain-intrusion\n", "", 1):     "`spec.serviceAccountName` must be set",
		"apiVersion: firebreak.dev/v1alpha1\nkind: ResponsePlaybook\nmetadata: [unterminated": "document 1 of FILE",
	} {
		file := filepath.Join(t.TempDir(), "playbook.yaml")
		mustDo(t, os.WriteFile(file, []byte(text), 0o600))
		run(ctx, janeConfig, "rbac", "-f", file, "-n", namespace).check(t, ExitError, "", strings.ReplaceAll(says, "FILE", file))
	}
}
