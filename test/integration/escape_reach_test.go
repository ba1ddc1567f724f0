package integration

import (
	"fmt"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// bentRecords: an account that may write everything in its own domain, as far as RBAC
// goes, can neither forge nor bend nor delete what is on record.
func bentRecords(t *testing.T, s *scene) {
	const name = "bender"
	s.account(t, name)
	all := []string{"get", "list", "create", "update", "patch", "delete"}
	s.Allow(t, s.Namespace, harness.Account(s.Namespace, name),
		harness.Rule("firebreak.dev", []string{"incidents", "evidence", "decisions", "securityevents"}, all),
		harness.Rule("apps", []string{"controllerrevisions"}, all))
	pod := s.shop(t, "cart")
	s.alert(t, pod.Name)
	other := s.incident(t)
	s.until(t, other, "the other incident to wait for an approval", func(i *v1alpha1.Incident) bool { return awaited(i, v1alpha1.AwaitingApproval) != nil })
	pinned := other.Status.Playbook.Revision
	of := func(apiVersion, kind, name string) string { return targetsLine(apiVersion, kind, s.Namespace, name) }
	own := "firebreak.dev/v1alpha1"
	incident := s.try(t, name, nil, map[string]string{
		"severity": of(own, "Incident", other.Name) + "\npatch: {fields: {spec: {severity: Low}}}",
		"owner":    of(own, "Incident", other.Name) + "\npatch: {fields: {metadata: {ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: none, uid: 0b0c0c6e-0000-4000-8000-000000000000}]}}}",
		"labels":   of(own, "Incident", other.Name) + "\npatch: {fields: {metadata: {labels: {firebreak.dev/domain: none}}}}",
		"status":   of(own, "Incident", other.Name) + `` + "\npatch: {expression: '{\"status\": {\"phase\": \"Closed\"}}'}",
		"remove":   of(own, "Incident", other.Name) + "\ndelete: {}",
		"pinned":   of("apps/v1", "ControllerRevision", pinned) + "\npatch: {fields: {revision: 7}}",
		"unpin":    of("apps/v1", "ControllerRevision", pinned) + "\ndelete: {}",
		"approve":  forgedDecision(s.Namespace, other.Name, jane),
		"himself":  forgedDecision(s.Namespace, other.Name, harness.AccountUser(s.Namespace, name)),
		"event": "apply: {object: {apiVersion: " + own + ", kind: SecurityEvent, metadata: {name: forged, namespace: " + s.Namespace + "}, " +
			"spec: {source: {kind: Human}, submittedBy: jane@example.com, title: Forged, severity: High, observedTime: '2026-11-21T03:00:00Z'}}}",
	})
	allFailed(t, incident, nil)
	after := &v1alpha1.Incident{}
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(other), after))
	if after.Generation != other.Generation || after.DeletionTimestamp != nil || len(after.OwnerReferences) != 0 || after.Status.Phase != other.Status.Phase {
		t.Errorf("the other incident was bent: %+v", after)
	}
	s.checkNoDecisions(t)
}

func forgedDecision(namespace, incident, by string) string {
	return fmt.Sprintf(`apply: {object: {apiVersion: firebreak.dev/v1alpha1, kind: Decision, metadata: {name: %q, namespace: %s},
  spec: {subject: {kind: Incident, name: %s}, type: Acknowledge, by: %q, reason: forged}}}`,
		"forged-"+fmt.Sprint(len(by)), namespace, incident, by)
}

func (s *scene) checkNoDecisions(t *testing.T) {
	t.Helper()
	var decisions v1alpha1.DecisionList
	done(t, s.Client.List(t.Context(), &decisions, client.InNamespace(s.Namespace)))
	if len(decisions.Items) != 0 {
		t.Errorf("got the Decisions %+v, want none", decisions.Items)
	}
}

// protectedThings are left alone before a person approves, whatever the account may.
func protectedThings(t *testing.T, s *scene) {
	const name = "mighty"
	all := []string{"get", "list", "create", "update", "patch", "delete"}
	s.account(t, name, harness.Rule("", []string{"configmaps", "serviceaccounts", "namespaces"}, all))
	vault := s.Target + "-vault"
	s.NewNamespace(t, vault, map[string]string{v1alpha1.LabelProtected: "true"})
	for _, namespace := range []string{vault, metav1.NamespaceSystem, v1alpha1.SystemNamespace} {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "kept-" + s.Target}}
		done(t, s.Client.Create(t.Context(), object))
	}
	config := func(namespace string) string { return targetsLine("v1", "ConfigMap", namespace, "kept-"+s.Target) }
	apply := func(namespace string) string {
		return "apply: {object: {apiVersion: v1, kind: ConfigMap, metadata: {name: planted, namespace: " + namespace + "}, data: {a: b}}}"
	}
	before := s.everything(t)
	incident := s.try(t, name, nil, map[string]string{
		"patch-system":    config(metav1.NamespaceSystem) + "\npatch: {fields: {data: {a: b}}}",
		"patch-own":       config(v1alpha1.SystemNamespace) + "\npatch: {fields: {data: {a: b}}}",
		"delete-vault":    config(vault) + "\ndelete: {}",
		"apply-system":    apply(metav1.NamespaceSystem),
		"apply-own":       apply(v1alpha1.SystemNamespace),
		"apply-vault":     apply(vault),
		"delete-account":  targetsLine("v1", "ServiceAccount", v1alpha1.SystemNamespace, v1alpha1.ManagerServiceAccount) + "\ndelete: {}",
		"label-namespace": `targets: '[{"apiVersion": "v1", "kind": "Namespace", "name": "` + vault + `"}]'` + "\npatch: {fields: {metadata: {labels: {firebreak.dev/protected: 'false'}}}}",
	})
	for _, step := range incident.Status.Steps {
		t.Logf("%s: %s: %s", step.Name, step.State, step.Message)
		if step.State != v1alpha1.StepAwaitingApproval && step.State != v1alpha1.StepFailed {
			t.Errorf("the step %s is %s, want it to wait for an approval, or refused", step.Name, step.State)
		}
	}
	s.unchanged(t, before)
}

// foreignJobs: a Job neither runs as another account nor reads Secrets that the
// playbook's may not, nor runs what an alert says.
func foreignJobs(t *testing.T, s *scene) {
	const name = "runner"
	s.account(t, name)
	s.Allow(t, s.Namespace, harness.Account(s.Namespace, name),
		harness.Rule("batch", []string{"jobs"}, []string{"get", "list", "create", "patch", "delete"}),
		harness.Rule("", []string{"pods"}, []string{"get", "list"}), harness.Rule("", []string{"pods/log"}, []string{"get"}))
	s.victim(t)
	job := func(pod string) string {
		return "job: {template: {template: {spec: {" + pod + "}}}}"
	}
	plain := "containers: [{name: c, image: busybox}]"
	incident := s.try(t, name, nil, map[string]string{
		"account":    job("serviceAccountName: contain, " + plain),
		"deprecated": job("serviceAccount: contain, " + plain),
		"env":        job("containers: [{name: c, image: busybox, env: [{name: T, valueFrom: {secretKeyRef: {name: credentials, key: token}}}]}]"),
		"env-all":    job("containers: [{name: c, image: busybox, envFrom: [{secretRef: {name: credentials}}]}]"),
		"init":       job("initContainers: [{name: i, image: busybox, envFrom: [{secretRef: {name: credentials}}]}], " + plain),
		"volume":     job("volumes: [{name: v, secret: {secretName: credentials}}], " + plain),
		"projected":  job("volumes: [{name: v, projected: {sources: [{secret: {name: credentials}}]}}], " + plain),
		"pull":       job("imagePullSecrets: [{name: credentials}], " + plain),
		"managed":    "job: {template: {managedBy: example.com/other, template: {spec: {" + plain + "}}}}",
		"command":    "job: {environment: [{name: TITLE, expression: incident.title}], template: {template: {spec: {containers: [{name: c, image: busybox, command: [sh, -c, 'echo $(TITLE)']}]}}}}",
	})
	allFailed(t, incident, map[string][]string{"account": {"serviceAccountName"}, "env": {"secrets"}, "volume": {"secrets"}, "command": {"$(TITLE)"}})
	var jobs batchv1.JobList
	done(t, s.Client.List(t.Context(), &jobs, client.InNamespace(s.Namespace)))
	if len(jobs.Items) != 0 {
		t.Errorf("%d Jobs were made, want none", len(jobs.Items))
	}
}

// foreignSecrets: a request carries no Secret that the account may not read, and goes
// nowhere but where it is let.
func foreignSecrets(t *testing.T, s *scene) {
	const name = "caller"
	s.account(t, name)
	s.Allow(t, s.Namespace, harness.Account(s.Namespace, name), rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"mine"}, Verbs: []string{"get"},
	})
	s.victim(t)
	done(t, s.Client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "mine"},
		StringData: map[string]string{"metadata": "https://169.254.169.254/topsecret", "hook": "https://hooks.example.com/topsecret", "plain": "http://hooks.example.com/topsecret"},
	}))
	foreign := "{name: credentials, key: token}"
	incident := s.try(t, name, nil, map[string]string{
		"header":    "http: {url: 'https://hooks.example.com/', headers: [{name: Token, valueFrom: " + foreign + "}]}",
		"signature": "http: {url: 'https://hooks.example.com/', signatureFrom: " + foreign + "}",
		"url":       "http: {urlFrom: {name: credentials, key: url}}",
		"elsewhere": "http: {url: 'https://evil.example.com/'}",
		"api":       "http: {url: 'https://kubernetes.default.svc/api'}",
		"loopback":  "http: {url: 'https://127.0.0.1:" + portOf(s) + "/api'}",
		"metadata":  "http: {urlFrom: {name: mine, key: metadata}}",
		"plain":     "http: {urlFrom: {name: mine, key: plain}}",
		// Nobody answers there; what is said about it must not tell the path.
		"hook": "http: {urlFrom: {name: mine, key: hook}}",
	})
	notAllowed := []string{"--egress-allow"}
	allFailed(t, incident, map[string][]string{
		"header": {"secrets", name}, "signature": {"secrets", name}, "url": {"secrets", name},
		"elsewhere": notAllowed, "api": notAllowed, "loopback": notAllowed, "metadata": notAllowed, "plain": {"https://"},
	})
	if text := fmt.Sprintf("%+v", incident.Status); strings.Contains(text, "topsecret") {
		t.Error("the incident tells a secret")
	}
}

func portOf(s *scene) string { return s.Config.Host[strings.LastIndex(s.Config.Host, ":")+1:] }

// wildExpressions neither see more than their inputs nor run for ever.
func wildExpressions(t *testing.T, s *scene) {
	v := s.victim(t)
	const name = "dreamer"
	s.account(t, name, harness.Rule("", []string{"configmaps"}, []string{"get", "list", "create", "patch"}))
	ten := "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
	endless := "true"
	for i := range 8 {
		endless = fmt.Sprintf("%s.all(x%d, %s)", ten, i, endless)
	}
	before := s.everything(t)
	config := v.targets("v1", "ConfigMap", "settings")
	incident := s.try(t, name, podResource(v.namespace, v.pod.Name, ""), map[string]string{
		"endless-targets": "targets: '" + endless + " ? [] : []'\ndelete: {}",
		"endless-patch":   config + "\npatch: {expression: '" + endless + ` ? {"data": {"owned": "true"}} : {"data": {"owned": "true"}}'}`,
		"endless-apply":   "apply: {expression: '" + endless + ` ? {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "` + v.namespace + `"}} : {}'}`,
		"secret":          v.targets("v1", "Secret", "credentials") + "\npatch: {expression: 'object'}",
		"no-list":         "targets: '{\"a\": \"b\"}'\ndelete: {}",
		"no-name":         "targets: '[{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"namespace\": \"" + v.namespace + "\"}]'\ndelete: {}",
		"path":            targetsLine("v1", "ConfigMap", v.namespace, "../secrets/credentials") + "\npatch: {fields: {data: {a: b}}}",
		"rename":          config + `` + "\npatch: {expression: '{\"metadata\": {\"name\": \"other\", \"namespace\": \"kube-system\"}}'}",
		"grow":            config + "\npatch: {expression: '{\"kind\": \"Secret\", \"data\": {\"a\": \"b\"}}'}",
	})
	allFailed(t, incident, nil)
	s.unchanged(t, before)
}

// foreignAccount: to have a playbook act as an account takes the right to be it.
func foreignAccount(t *testing.T, s *scene) {
	s.account(t, "mine")
	as := s.As(t, author)
	written := func(name, account string) *v1alpha1.ResponsePlaybook {
		return harness.MakePlaybook(s.Namespace, name, account)
	}
	const says = "must hold the RBAC verb 'impersonate'"
	done(t, as.Create(t.Context(), written("mine", "mine")))
	refused(t, as.Create(t.Context(), written("theirs", contain)), says)
	mine := written("mine", "")
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(mine), mine))
	refused(t, patch(t, as, mine, func(p *v1alpha1.ResponsePlaybook) { p.Spec.ServiceAccountName = contain }), says)
	theirs := playbook(s.Namespace)
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs))
	refused(t, patch(t, as, theirs, func(p *v1alpha1.ResponsePlaybook) { p.Spec.Containment.Steps[1].Isolate.DNS = v1alpha1.TrafficAllow }), says)
	plan := harness.MakePlan(s.Namespace, "")
	done(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(plan), plan))
	refused(t, patch(t, as, plan, func(p *v1alpha1.ResponsePlan) { p.Spec.ServiceAccountName = contain }), says)
	for _, name := range []string{"firebreak-system:firebreak-manager", "../firebreak-system/firebreak-manager", "system:serviceaccount:kube-system:default"} {
		if err := as.Create(t.Context(), written("odd", name)); err == nil {
			t.Errorf("a playbook may name the account %q, want it refused", name)
		}
	}
	// An account that does not exist is nobody's.
	s.authorOf(t, "missing")
	missing := written("missing", "missing")
	done(t, as.Create(t.Context(), missing))
	harness.WaitFor(t, s.Client, missing, "the playbook not to be Ready", func(p *v1alpha1.ResponsePlaybook) bool {
		return p.Status.ObservedGeneration > 0 && !isTrue(p.Status.Conditions, v1alpha1.ConditionReady)
	})
}
