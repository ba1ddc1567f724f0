package bench

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	actor     = "bench-actor"
	tenSteps  = 10
	maxActing = 128
	// namespaceMark stands for the namespace of the targets in the steps below.
	namespaceMark = "NAMESPACE"
)

// actionSteps are one step of each action that can be done on a control plane without
// nodes: a `job` needs a kubelet, `http` somebody to answer, and `rollback` a history.
var actionSteps = []string{
	`{"collect": {}, "target": "Pods"}`,
	`{"isolate": {}, "target": "Pods"}`,
	`{"quarantine": {}, "target": "Pods"}`,
	`{"scale": {"replicas": 0}, "target": "Workloads"}`,
	`{"suspend": {}, "targets": "[{'apiVersion': 'batch/v1', 'kind': 'CronJob', 'namespace': 'NAMESPACE', 'name': 'nightly'}]"}`,
	`{"cordon": {}, "target": "Nodes"}`,
	`{"drain": {}, "target": "Nodes"}`,
	`{"taint": {}, "target": "Nodes"}`,
	`{"revokeAccess": {"subject": "{'kind': 'User', 'name': 'mallory'}"}}`,
	`{"patch": {"fields": {"metadata": {"annotations": {"example.com/seen": "yes"}}}}, "target": "Pods"}`,
	`{"apply": {"object": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "NAMESPACE", "name": "applied"}, "data": {"a": "b"}}}}`,
	`{"delete": {}, "target": "Pods"}`,
	`{"evict": {}, "target": "Pods"}`,
	`{"restart": {}, "target": "Workloads"}`,
	`{"blockImage": {}, "target": "Images"}`, // the last: no pod of that image starts afterwards
}

// course is what it took to run a playbook.
type course struct {
	name    string
	took    time.Duration
	targets int
	// effects are the writes of the actions themselves, status those of the incident, and
	// others all further ones: evidence, Events, the pinned text.
	effects, status, others, reads int
}

// measureActions runs playbooks of one step, one action each, on one target.
func (s *scene) measureActions(t *testing.T) []course {
	t.Helper()
	var all []course
	for i, text := range actionSteps {
		var step v1alpha1.PlaybookStep
		if err := json.Unmarshal([]byte(strings.ReplaceAll(text, namespaceMark, s.Target)), &step); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		step.Name = "only"
		name := strings.SplitN(text, `"`, 3)[1]
		pods := s.nodedPods(t, fmt.Sprintf("act-%02d", i), 1)
		all = append(all, s.run(t, strings.ToLower(name), []v1alpha1.PlaybookStep{step}, pods))
		all[i].name = name
	}
	return all
}

// measureTen runs a playbook of ten steps, each on so many targets.
func (s *scene) measureTen(t *testing.T, counts ...int) []course {
	t.Helper()
	var all []course
	for _, count := range counts {
		var steps []v1alpha1.PlaybookStep
		for i := range tenSteps {
			content := fmt.Appendf(nil, `{"name": "step-%[1]d", "target": "Pods", "patch": {"fields": {"metadata": {"annotations": {"example.com/step-%[1]d": "done"}}}}}`, i)
			var step v1alpha1.PlaybookStep
			if err := json.Unmarshal(content, &step); err != nil {
				t.Fatal(err)
			}
			steps = append(steps, step)
		}
		pods := s.nodedPods(t, fmt.Sprintf("ten-%03d", count), count)
		all = append(all, s.run(t, fmt.Sprintf("ten-%d", count), steps, pods))
	}
	return all
}

func (s *scene) prepareActions(t *testing.T) {
	t.Helper()
	s.ServiceAccount(t, actor)
	subject := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: s.Namespace, Name: actor}
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/app:1.0"}}}}
	for _, object := range []client.Object{
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: actor}, Subjects: []rbacv1.Subject{subject},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: s.Target, Name: "mallory"}, Subjects: []rbacv1.Subject{harness.User("mallory")},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"}},
		&batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: s.Target, Name: "nightly"}, Spec: batchv1.CronJobSpec{
			Schedule: "0 3 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}},
	} {
		if err := s.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// nodedPods makes pods, each of a workload and on a node of its own.
func (s *scene) nodedPods(t *testing.T, prefix string, count int) []*corev1.Pod {
	t.Helper()
	var pods []*corev1.Pod
	for i := range count {
		app := fmt.Sprintf("%s-%03d", prefix, i)
		if err := s.Client.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: app}}); err != nil {
			t.Fatal(err)
		}
		_, set := s.FakeWorkload(t, client.ObjectKey{Namespace: s.Target, Name: app}, 1)
		pods = append(pods, s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: set.Name + "-a"}, harness.PodLabels(app), set,
			func(pod *corev1.Pod) { pod.Spec.NodeName = app }))
	}
	return pods
}

// run declares an incident about pods and waits until its playbook is through.
func (s *scene) run(t *testing.T, name string, steps []v1alpha1.PlaybookStep, pods []*corev1.Pod) course {
	t.Helper()
	playbook := harness.MakePlaybook(s.Namespace, "bench-"+name, actor, func(p *v1alpha1.ResponsePlaybook) {
		p.Spec.Containment.Steps = steps
		p.Spec.EvidenceLoss = v1alpha1.EvidenceLossAllow
		p.Spec.Limits.MaxTargets = maxActing
	})
	if err := s.Client.Create(t.Context(), playbook); err != nil {
		t.Fatal(err)
	}
	incident := harness.MakeIncident(s.Namespace, "bench-"+name, func(i *v1alpha1.Incident) {
		i.Spec.PlaybookRef.Name = playbook.Name
		for _, pod := range pods {
			i.Spec.Resources = append(i.Spec.Resources, v1alpha1.ResourceReference{
				APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: v1alpha1.ObjectUID(pod.UID)})
		}
	})
	s.waitQuiet(t)
	from := time.Now()
	if err := s.Client.Create(t.Context(), incident); err != nil {
		t.Fatal(err)
	}
	harness.WaitFor(t, s.Client, incident, "the playbook to be through", func(i *v1alpha1.Incident) bool {
		return len(i.Status.Steps) == len(steps) && !slices.ContainsFunc(i.Status.Steps, func(step v1alpha1.IncidentStep) bool {
			return step.State != v1alpha1.StepSucceeded
		})
	})
	s.waitQuiet(t)
	return s.courseOf(between(requests(t), from, time.Now()), course{name: name, targets: len(pods)}, from)
}

// courseOf counts the requests, and takes the last write of an action or an incident's
// status before the Events for the end.
func (s *scene) courseOf(all []request, result course, from time.Time) course {
	for i := range all {
		switch one := &all[i]; {
		case !one.writes():
			result.reads++
		case strings.HasPrefix(one.who, "as "):
			result.effects++
			result.took = one.end.Sub(from)
		case one.what == "incidents/status":
			result.status++
		default:
			result.others++
		}
	}
	return result
}

func (r *report) courses(title string, all []course) {
	r.row(title, "last effect after", "writes of the action", "of the incident", "others, reads")
	for _, one := range all {
		r.row(fmt.Sprintf("  %s, %d targets", one.name, one.targets), milliseconds(one.took), fmt.Sprint(one.effects), fmt.Sprint(one.status),
			fmt.Sprintf("%d, %d", one.others, one.reads))
	}
}
