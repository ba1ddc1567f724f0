package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const author = "author@example.com"

// TestEscape has authors of playbooks, senders of alerts and other domains reach for what
// is not theirs.
func TestEscape(t *testing.T) {
	cluster := harness.Get(t)
	cluster.StartManager(t, "--egress-allow=hooks.example.com")
	receiver := cluster.StartReceiver(t)
	for name, test := range map[string]func(*testing.T, *scene){
		"an account that only reads":         onlooker,
		"an account without any right":       nobody,
		"records of the own domain":          bentRecords,
		"what is protected":                  protectedThings,
		"accounts and Secrets by a job":      foreignJobs,
		"Secrets by a request":               foreignSecrets,
		"expressions that reach or run away": wildExpressions,
		"an account that is not the own":     foreignAccount,
		"two domains":                        twoDomains,
		"stale approvals":                    staleApprovals,
	} {
		t.Run(name, func(t *testing.T) { test(t, newScene(t, cluster, receiver)) })
	}
}

// stepsFor are steps that reach for the victim, one for each action that acts.
func stepsFor(v *victim) map[string]string {
	pods := v.targets("v1", "Pod", v.pod.Name)
	workloads := v.targets("apps/v1", "Deployment", "cart")
	node := `targets: '[{"apiVersion": "v1", "kind": "Node", "name": "` + v.node + `"}]'`
	return map[string]string{
		"collect":      pods + "\ncollect: {logs: {}}",
		"isolate":      pods + "\nisolate: {}",
		"quarantine":   pods + "\nquarantine: {}",
		"scale":        workloads + "\nscale: {replicas: 0}",
		"suspend":      v.targets("batch/v1", "CronJob", "nightly") + "\nsuspend: {}",
		"cordon":       node + "\ncordon: {}",
		"drain":        node + "\ndrain: {unmanagedPods: Delete}",
		"taint":        node + "\ntaint: {effect: NoExecute}",
		"revokeAccess": `revokeAccess: {subject: '{"kind": "ServiceAccount", "name": "robot", "namespace": "` + v.namespace + `"}'}`,
		"blockImage":   "target: Images\nblockImage: {match: Repository}",
		"patch":        v.targets("v1", "ConfigMap", "settings") + "\npatch: {fields: {data: {owned: 'true'}}}",
		"apply":        "apply: {object: {apiVersion: v1, kind: ConfigMap, metadata: {name: planted, namespace: " + v.namespace + "}, data: {owned: 'true'}}}",
		"delete":       v.targets("v1", "Secret", "credentials") + "\ndelete: {}",
		"evict":        pods + "\nevict: {gracePeriodSeconds: 0}",
		"restart":      workloads + "\nrestart: {}",
		"rollback":     workloads + "\nrollback: {}",
		"job":          "job: {template: {template: {spec: {containers: [{name: c, image: busybox}]}}}}",
		"notify":       "notify: {channels: [pager]}",
		"http":         "http: {url: 'https://hooks.example.com/', headers: [{name: Token, valueFrom: {name: credentials, key: token}}]}",
	}
}

// victim is what nobody may touch.
type victim struct {
	*scene
	namespace, node string
	pod             *corev1.Pod
}

func (s *scene) victim(t *testing.T) *victim {
	t.Helper()
	v := &victim{scene: s, namespace: s.Target + "-victim", node: "node-" + s.Target}
	s.NewNamespace(t, v.namespace, nil)
	deployment, set := s.FakeWorkload(t, client.ObjectKey{Namespace: v.namespace, Name: "cart"}, 1)
	// What it could be rolled back to.
	earlier := set.DeepCopy()
	earlier.Name, earlier.ResourceVersion, earlier.UID = "cart-6e8", "", ""
	earlier.Spec.Template.Spec.Containers[0].Image = "registry.example.com/app:0.9"
	done(t, s.Client.Create(t.Context(), earlier))
	for revision, object := range map[string]client.Object{"1": earlier, "2": set} {
		done(t, patch(t, s.Client, object, func(o client.Object) {
			o.SetAnnotations(map[string]string{"deployment.kubernetes.io/revision": revision})
		}))
	}
	done(t, patch(t, s.Client, deployment, func(d *appsv1.Deployment) {
		d.Annotations = map[string]string{"deployment.kubernetes.io/revision": "2"}
	}))
	v.pod = s.FakePod(t, client.ObjectKey{Namespace: v.namespace, Name: set.Name + "-a"}, harness.PodLabels("cart"), set, func(p *corev1.Pod) { p.Spec.NodeName = v.node })
	job := corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "busybox"}}}}
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: v.namespace, Name: name} }
	for _, object := range []client.Object{
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: v.node}},
		&corev1.ServiceAccount{ObjectMeta: meta("robot")},
		&corev1.ConfigMap{ObjectMeta: meta("settings"), Data: map[string]string{"owned": "false"}},
		&corev1.Secret{ObjectMeta: meta("credentials"), StringData: map[string]string{"token": "topsecret-token"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "credentials"}, StringData: map[string]string{"token": "topsecret-token", "url": "https://hooks.example.com/topsecret-token"}},
		&batchv1.CronJob{ObjectMeta: meta("nightly"), Spec: batchv1.CronJobSpec{Schedule: "0 3 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: job}}}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta("robot"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
			Subjects: []rbacv1.Subject{harness.Account(v.namespace, "robot")},
		},
	} {
		done(t, s.Client.Create(t.Context(), object))
	}
	// The plan's account may not read the Secret that the playbook's author has the plan name.
	done(t, patchTo(t, s, harness.MakePlan(s.Namespace, ""), func(p *v1alpha1.ResponsePlan) {
		p.Spec.Channels = []v1alpha1.PlanChannel{{Name: "pager", TLP: v1alpha1.TLPRed, URLSecretKeyRef: v1alpha1.ChannelSecretReference{Name: "credentials", Key: "url"}}}
	}))
	return v
}

// targets is the line of a step that names one object of the victim.
func (v *victim) targets(apiVersion, kind, name string) string {
	return targetsLine(apiVersion, kind, v.namespace, name)
}

func targetsLine(apiVersion, kind, namespace, name string) string {
	return fmt.Sprintf(`targets: '[{"apiVersion": %q, "kind": %q, "namespace": %q, "name": %q}]'`, apiVersion, kind, namespace, name)
}

// escapeKinds are the kinds of which nothing may change.
var escapeKinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "PodList"}, {Version: "v1", Kind: "ConfigMapList"}, {Version: "v1", Kind: "SecretList"},
	{Version: "v1", Kind: "ServiceAccountList"}, {Version: "v1", Kind: "NodeList"}, {Version: "v1", Kind: "NamespaceList"},
	{Group: "apps", Version: "v1", Kind: "DeploymentList"}, {Group: "apps", Version: "v1", Kind: "ReplicaSetList"},
	{Group: "batch", Version: "v1", Kind: "JobList"}, {Group: "batch", Version: "v1", Kind: "CronJobList"},
	{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicyList"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBindingList"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleList"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBindingList"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleList"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicyList"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicyBindingList"},
}

// everything is all objects of these kinds in the cluster, by version.
func (s *scene) everything(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, kind := range escapeKinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		done(t, s.Client.List(t.Context(), list))
		for i := range list.Items {
			object := &list.Items[i]
			all[fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())] = object.GetResourceVersion()
		}
	}
	return all
}

// account makes a ServiceAccount with rights everywhere, which the author may name.
func (s *scene) account(t *testing.T, name string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	s.ServiceAccount(t, name)
	if len(rules) > 0 {
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace + "-" + name}, Rules: rules}
		done(t, s.Client.Create(t.Context(), role))
		done(t, s.Client.Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role.Name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
			Subjects: []rbacv1.Subject{harness.Account(s.Namespace, name)},
		}))
	}
	s.authorOf(t, name)
}

// authorOf lets the author write playbooks that run as this account.
func (s *scene) authorOf(t *testing.T, account string) {
	t.Helper()
	s.Bind(t, s.Namespace, "firebreak-author", harness.User(author))
	s.Allow(t, s.Namespace, harness.User(author), rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, ResourceNames: []string{account}, Verbs: []string{"impersonate"},
	})
}

// try writes a playbook of these steps as the author, declares an incident about a pod
// for it, and waits until nothing more happens by itself.
func (s *scene) try(t *testing.T, account string, about []v1alpha1.ResourceReference, steps map[string]string) *v1alpha1.Incident {
	t.Helper()
	written := &v1alpha1.ResponsePlaybook{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: account}}
	written.Spec.ServiceAccountName, written.Spec.EvidenceLoss = account, v1alpha1.EvidenceLossAllow
	names := make([]string, 0, len(steps))
	for name := range steps {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		one := v1alpha1.PlaybookStep{}
		if err := yaml.UnmarshalStrict([]byte(steps[name]), &one); err != nil {
			t.Fatalf("the step %s: %v", name, err)
		}
		one.Name, one.OnFailure, one.Parallel = strings.ToLower(name), v1alpha1.OnFailureContinue, "all"
		one.Retry = v1alpha1.Retry{Attempts: 2, Backoff: &metav1.Duration{Duration: 50 * time.Millisecond}}
		written.Spec.Containment.Steps = append(written.Spec.Containment.Steps, one)
	}
	done(t, s.As(t, author).Create(t.Context(), written))
	harness.WaitFor(t, s.Client, written, "the playbook to be looked at", func(p *v1alpha1.ResponsePlaybook) bool { return p.Status.ObservedGeneration == p.Generation })
	if !isTrue(written.Status.Conditions, v1alpha1.ConditionReady) {
		t.Fatalf("the playbook must be Ready, for what it may not to be refused when it runs: %+v", written.Status.Conditions)
	}
	incident := harness.MakeIncident(s.Namespace, account, func(i *v1alpha1.Incident) {
		i.Spec.PlaybookRef.Name, i.Spec.Resources = account, about
	})
	done(t, s.jane.Create(t.Context(), incident))
	s.until(t, incident, "all steps to have ended", func(i *v1alpha1.Incident) bool {
		return len(i.Status.Steps) == len(steps) && !slices.ContainsFunc(i.Status.Steps, func(step v1alpha1.IncidentStep) bool {
			return step.State == v1alpha1.StepPending || step.State == v1alpha1.StepRunning
		})
	})
	return incident
}

// unchanged holds that nothing of what is watched has changed since, but for a while longer.
func (s *scene) unchanged(t *testing.T, before map[string]string) {
	t.Helper()
	harness.Always(t, held, "that nothing changes", func(context.Context) error {
		if diff := cmp.Diff(before, s.everything(t)); diff != "" {
			return fmt.Errorf("something has changed (-before +after):\n%s", diff)
		}
		return nil
	})
}

// allFailed holds that each step has failed and says what it lacks.
func allFailed(t *testing.T, incident *v1alpha1.Incident, says map[string][]string) {
	t.Helper()
	for _, step := range incident.Status.Steps {
		want, ok := says[step.Name]
		if !ok {
			want = says[""]
		}
		t.Logf("%s: %s: %s", step.Name, step.State, step.Message)
		if step.State != v1alpha1.StepFailed {
			t.Errorf("the step %s is %s, want it failed: %s", step.Name, step.State, step.Message)
			continue
		}
		for _, part := range want {
			if !strings.Contains(step.Message, part) {
				t.Errorf("the step %s says %q, want it to say %q", step.Name, step.Message, part)
			}
		}
		if strings.Contains(fmt.Sprintf("%+v", step), "topsecret") {
			t.Errorf("the step %s tells a secret: %+v", step.Name, step)
		}
	}
	if isTrue(incident.Status.Conditions, v1alpha1.ConditionContained) {
		t.Error("nothing was done, so nothing is contained")
	}
}

// everyAction holds that there is a step for each action, so that a new one is tried too.
func everyAction(t *testing.T, steps map[string]string) {
	t.Helper()
	for _, name := range action.Names() {
		if _, ok := steps[name]; !ok && name != "verify" {
			t.Errorf("the action %s is not tried: give stepsFor a step that reaches for the victim by it", name)
		}
	}
}

// onlooker reads everything but Secrets, and may write nothing: no action gets further.
func onlooker(t *testing.T, s *scene) {
	v := s.victim(t)
	const name = "onlooker"
	reads := []string{"get", "list"}
	s.account(t, name,
		harness.Rule("", []string{"pods", "nodes", "configmaps", "services", "namespaces", "serviceaccounts", "events"}, reads),
		harness.Rule("apps", []string{"deployments", "deployments/scale", "replicasets", "daemonsets"}, reads),
		harness.Rule("batch", []string{"jobs", "cronjobs"}, reads),
		harness.Rule("networking.k8s.io", []string{"networkpolicies"}, reads),
		harness.Rule("rbac.authorization.k8s.io", []string{"rolebindings", "clusterrolebindings"}, reads),
		harness.Rule("admissionregistration.k8s.io", []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"}, reads),
	)
	steps := stepsFor(v)
	everyAction(t, steps)
	delete(steps, "collect") // to read is what it may
	before := s.everything(t)
	incident := s.try(t, name, podResource(v.namespace, v.pod.Name, ""), steps)
	allFailed(t, incident, map[string][]string{"": {name, "grant it"}, "notify": {":reader may not get secrets", "grant it"}})
	s.unchanged(t, before)
}

// nobody may not even read: no action finds its target.
func nobody(t *testing.T, s *scene) {
	v := s.victim(t)
	const name = "nobody"
	s.account(t, name)
	steps := stepsFor(v)
	before := s.everything(t)
	incident := s.try(t, name, podResource(v.namespace, v.pod.Name, ""), steps)
	allFailed(t, incident, nil)
	s.unchanged(t, before)
}
