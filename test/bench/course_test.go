package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/test/harness"
)

const (
	actor     = "bench-actor"
	tenSteps  = 10
	maxActing = 128
	// namespaceMark stands for the namespace of the targets in the steps below.
	namespaceMark = "NAMESPACE"
	// podSuffix ends the names of the pods of nodedPods.
	podSuffix = "-7f9-a"
	// actorShown is how requests as the actor are shown.
	actorShown = "as bench"
	// settled is for how long Firebreak must write nothing about an incident to be done with
	// it. It goes on reading: what must stand is looked at every 15 seconds.
	settled = time.Second
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
	`{"restart": {}, "target": "Workloads"}`, // runs until the rollout is done, which this benchmark says it is
	`{"blockImage": {}, "target": "Images"}`, // the last: no pod of that image starts afterwards
}

// TestActions measures what each action takes, and a playbook of ten steps on 1, 10 and 100
// targets. It says so, and asserts nothing but that the playbooks come to their end.
func TestActions(t *testing.T) {
	if os.Getenv(enabled) != "1" {
		t.Skip(disabled)
	}
	cluster := harness.Get(t)
	cluster.StartManager(t, "--leader-elect=true", "--metrics-bind-address="+harness.FreeAddress(t))
	s := &scene{Domain: cluster.NewDomain(t)}
	s.prepareActions(t)
	loadBefore := load()
	// What blocks the image would keep other tests from making pods of it.
	t.Cleanup(func() {
		for _, kind := range []client.Object{&admissionv1.ValidatingAdmissionPolicyBinding{}, &admissionv1.ValidatingAdmissionPolicy{}} {
			if err := s.Client.DeleteAllOf(context.WithoutCancel(t.Context()), kind, client.MatchingLabels{action.LabelManagedBy: action.ManagedBy}); err != nil {
				t.Error(err)
			}
		}
	})
	report := &report{base: measureRaw(t, cluster)}
	ten, actions := s.measureTen(t, 1, 10, 100), s.measureActions(t)
	report.courses("one action", actions)
	report.courses("ten steps", ten)
	report.after = measureRaw(t, cluster)
	t.Logf("%d CPUs (%s/%s, %s), etcd with fsync; load before: %s, after: %s\n\n%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(),
		loadBefore, load(), report.text())
}

// course is what it took to run a playbook.
type course struct {
	name    string
	targets int
	// took is until the last write of an action, and closed until the last of the incident's
	// status before it was settled.
	took, closed time.Duration
	// effects are the writes of the actions themselves, status those of the incident, and
	// others all further ones: evidence, Events, the pinned text.
	effects, status, others, reads int
	// bytes are of the incident at its end.
	bytes int
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

// measureTen runs a playbook of ten steps, each on so many targets: its own, because a person
// who declares an incident names at most 32.
func (s *scene) measureTen(t *testing.T, counts ...int) []course {
	t.Helper()
	var all []course
	for _, count := range counts {
		pods := s.nodedPods(t, fmt.Sprintf("ten-%03d", count), count)
		names := make([]string, 0, count)
		for _, pod := range pods {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(pod.Name, fmt.Sprintf("ten-%03d-", count)), podSuffix))
		}
		targets := fmt.Sprintf(`'%s'.split(' ').map(n, {'apiVersion': 'v1', 'kind': 'Pod', 'namespace': '%s', 'name': 'ten-%03d-' + n + '%s'})`,
			strings.Join(names, " "), s.Target, count, podSuffix)
		var steps []v1alpha1.PlaybookStep
		for i := range tenSteps {
			content := fmt.Appendf(nil, `{"name": "step-%[1]d", "patch": {"fields": {"metadata": {"annotations": {"example.com/step-%[1]d": "done"}}}}}`, i)
			step := v1alpha1.PlaybookStep{Targets: v1alpha1.Expression(targets)}
			if err := json.Unmarshal(content, &step); err != nil {
				t.Fatal(err)
			}
			steps = append(steps, step)
		}
		one := s.run(t, fmt.Sprintf("ten-%d", count), steps, pods[:1])
		one.name, one.targets = "each", count
		all = append(all, one)
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
		pods = append(pods, s.FakePod(t, client.ObjectKey{Namespace: s.Target, Name: app + podSuffix}, harness.PodLabels(app), set,
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
	from, at := time.Now(), logged(t)
	if err := s.Client.Create(t.Context(), incident); err != nil {
		t.Fatal(err)
	}
	s.waitThrough(t, incident, len(steps))
	result := s.waitSettled(t, course{name: name, targets: len(pods)}, from, at)
	content, err := json.Marshal(incident)
	if err != nil {
		t.Fatal(err)
	}
	result.bytes = len(content)
	// Nobody looks any more whether its effects stand.
	if err := s.Client.Delete(t.Context(), incident, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %s", name, milliseconds(result.closed))
	return result
}

// waitThrough waits until all steps have succeeded, and says meanwhile that rollouts are done.
func (s *scene) waitThrough(t *testing.T, incident *v1alpha1.Incident, steps int) {
	t.Helper()
	harness.Eventually(t, patience, "the playbook of "+incident.Name+" to be through", func(ctx context.Context) error {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(incident), incident); err != nil {
			return err
		}
		open := steps - len(incident.Status.Steps)
		for i := range incident.Status.Steps {
			switch step := &incident.Status.Steps[i]; step.State {
			case v1alpha1.StepSucceeded:
			case v1alpha1.StepFailed, v1alpha1.StepAwaitingTask, v1alpha1.StepAwaitingApproval, v1alpha1.StepSkipped:
				t.Fatalf("step '%s' of %s is %s: %s", step.Name, incident.Name, step.State, step.Message)
			case v1alpha1.StepRunning:
				open++
				if step.Action == "restart" {
					s.finishRollouts(ctx, t)
				}
			default:
				open++
			}
		}
		if open > 0 {
			return fmt.Errorf("%d of %d steps are open", open, steps)
		}
		return nil
	})
}

// finishRollouts writes the status that the controller of Deployments would.
func (s *scene) finishRollouts(ctx context.Context, t *testing.T) {
	t.Helper()
	list := &appsv1.DeploymentList{}
	if err := s.Client.List(ctx, list, client.InNamespace(s.Target)); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if deployment := &list.Items[i]; deployment.Status.ObservedGeneration != deployment.Generation {
			deployment.Status.ObservedGeneration = deployment.Generation
			if err := s.Client.Status().Update(ctx, deployment); err != nil {
				t.Logf("the status of %s is written again: %v", deployment.Name, err)
			}
		}
	}
}

// waitSettled waits until nothing is written any more about what began at that time, and at
// that place of the log, and counts what was.
func (s *scene) waitSettled(t *testing.T, result course, from time.Time, at int64) course {
	t.Helper()
	known, since := course{}, time.Now()
	harness.Eventually(t, patience, "the writes about "+result.name+" to end", func(context.Context) error {
		next := s.courseOf(requestsSince(t, at), result, from)
		if next.effects+next.status+next.others != known.effects+known.status+known.others {
			since = time.Now()
		}
		if known = next; time.Since(since) < settled {
			return errors.New("it is at work")
		}
		return nil
	})
	return known
}

// courseOf counts the requests for this scene's incidents. Reads that follow the last write
// are looks whether effects stand: they do not count.
func (s *scene) courseOf(all []request, result course, from time.Time) course {
	reads := 0
	for i := range all {
		one := &all[i]
		if one.namespace != s.Namespace && one.namespace != s.Target && one.who != actorShown {
			continue
		}
		if !one.writes() {
			reads++
			continue
		}
		result.reads = reads
		switch {
		case one.who == actorShown:
			result.effects++
			result.took = one.end.Sub(from)
		case one.what == "incidents/status":
			result.status++
			result.closed = one.end.Sub(from)
		default:
			result.others++
		}
	}
	return result
}

func (r *report) courses(title string, all []course) {
	r.row(title, "last effect, last status", "writes of the action", "of the incident", "others, reads; its size")
	for i := range all {
		one := &all[i]
		r.row(fmt.Sprintf("  %s, %d targets", one.name, one.targets), milliseconds(one.took)+", "+milliseconds(one.closed), fmt.Sprint(one.effects), fmt.Sprint(one.status),
			fmt.Sprintf("%d, %d; %d KiB", one.others, one.reads, one.bytes>>10))
	}
}
