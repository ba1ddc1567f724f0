package action_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
)

// jobRights are what job needs in the domain's namespace.
var jobRights = []rbacv1.PolicyRule{
	{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"get", "create"}},
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
	{APIGroups: []string{""}, Resources: []string{"pods/log"}, Verbs: []string{"get"}},
	{APIGroups: []string{""}, Resources: []string{"secrets", "configmaps", "persistentvolumeclaims"}, ResourceNames: []string{"mine"}, Verbs: []string{"get"}},
}

// domainWorld lets the ServiceAccount do things in the domain's namespace.
func domainWorld(t *testing.T, rights []rbacv1.PolicyRule) *world {
	t.Helper()
	w := newWorld(t, changeRights)
	w.create(&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: "contain"}, Rules: append(rights, rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"limitranges"}, Verbs: []string{"list"},
	})})
	w.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.domain, Name: "contain"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "contain"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.domain, Name: "contain"}},
	})
	w.eventually("the rights in the domain", func(ctx context.Context) bool {
		return w.client.List(ctx, &corev1.LimitRangeList{}, client.InNamespace(w.domain)) == nil
	})
	return w
}

// fakeNode has the logs of containers, and keeps what is preserved.
type fakeNode struct {
	logs map[string]string
	kept map[string]string
	err  error
	// full is why nothing can be kept.
	full error
}

func (n *fakeNode) OpenLog(_ context.Context, _, _ string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
	if n.err != nil {
		return nil, n.err
	}
	return io.NopCloser(strings.NewReader(n.logs[options.Container])), nil
}

func (n *fakeNode) Preserve(ctx context.Context, _ *action.Request, record action.Record) (*v1alpha1.Evidence, error) {
	if n.full != nil {
		return nil, n.full
	}
	from, err := record.Open(ctx)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(from)
	n.kept[record.Key] = string(content)
	return &v1alpha1.Evidence{}, err
}

func (n *fakeNode) KeepUndo(context.Context, *action.Request, []byte) (action.UndoReference, error) {
	return action.UndoReference{}, errors.New("there is nothing to undo")
}

func (n *fakeNode) ReadUndo(context.Context, string, action.UndoReference) ([]byte, error) {
	return nil, action.ErrUndoLost
}

const simpleJob = `{"template": {"spec": {"automountServiceAccountToken": false, "containers": [{"name": "main", "image": "registry.example/tool:1", "command": ["tool"]}]}}}`

func jobStep(template string, environment ...v1alpha1.NamedExpression) *v1alpha1.PlaybookStep {
	return &v1alpha1.PlaybookStep{Name: "rotate", Job: &v1alpha1.JobAction{Template: raw(template), Environment: environment}, Timeout: &metav1.Duration{Duration: 2 * time.Minute}}
}

func (w *world) jobs() []batchv1.Job {
	w.Helper()
	list := &batchv1.JobList{}
	if err := admin.List(w.Context(), list, client.InNamespace(w.domain)); err != nil {
		w.Fatal(err)
	}
	return list.Items
}

// finish ends a Job as its controller would.
func (w *world) finish(job *batchv1.Job, exit int32) {
	w.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, GenerateName: job.Name + "-", Labels: map[string]string{batchv1.ControllerUidLabel: string(job.UID)}},
		Spec:       job.Spec.Template.Spec,
	}
	w.create(pod)
	for _, container := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: exit}},
		})
	}
	started := metav1.NewTime(now)
	job.Status.StartTime = &started
	condition := batchv1.JobCondition{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}
	first := batchv1.JobCondition{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue}
	if exit != 0 {
		condition.Type, condition.Reason, condition.Message = batchv1.JobFailed, "BackoffLimitExceeded", "it has failed too often"
		first.Type = batchv1.JobFailureTarget
	} else {
		job.Status.CompletionTime = &started
		job.Status.Succeeded = 1
	}
	job.Status.Conditions = []batchv1.JobCondition{first, condition}
	if err := admin.Status().Update(w.Context(), pod); err != nil {
		w.Fatal(err)
	}
	if err := admin.Status().Update(w.Context(), job); err != nil {
		w.Fatal(err)
	}
}

func TestJobRunsOnceAndKeepsItsOutput(t *testing.T) {
	w := domainWorld(t, jobRights)
	deployment := w.cartDeployment("cart")
	deployment.Annotations = map[string]string{"hostile": "$(PATH) `reboot` $$ \"; rm -rf /"}
	if err := admin.Update(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	step := jobStep(`{"template": {"metadata": {"labels": {"app": "tool"}}, "spec": {"containers": [{"name": "main", "image": "registry.example/tool:1"}, {"name": "side-car", "image": "registry.example/side:1"}]}}}`,
		v1alpha1.NamedExpression{Name: "WORKLOAD", Expression: `object.metadata.name`},
		v1alpha1.NamedExpression{Name: "HOSTILE", Expression: `object.metadata.annotations.hostile`})
	request := w.valued(w.incident("inc-1"), step, deployment)
	node := &fakeNode{logs: map[string]string{"main": strings.Repeat("x", 2000) + "the end\n", "side-car": "ok"}, kept: map[string]string{}}
	request.Logs, request.Evidence = node, node
	w.carryOut("job", request, v1alpha1.TargetApplied)
	w.expect("repeated Apply", do(t, "job").Apply(t.Context(), request), v1alpha1.TargetApplied, "runs")
	w.expect("Observe", do(t, "job").Observe(t.Context(), request), v1alpha1.TargetApplied, "0 active")
	jobs := w.jobs()
	if len(jobs) != 1 {
		t.Fatalf("%d Jobs, want 1", len(jobs))
	}
	job := &jobs[0]
	spec := job.Spec.Template.Spec
	if spec.ServiceAccountName != "contain" || *job.Spec.BackoffLimit != 0 || *job.Spec.ActiveDeadlineSeconds != 120 || spec.RestartPolicy != corev1.RestartPolicyNever ||
		job.Labels[v1alpha1.LabelIncident] != "inc-1" || job.OwnerReferences[0].BlockOwnerDeletion != nil {
		t.Errorf("the Job is not as it must be: %+v", job)
	}
	want := []corev1.EnvVar{{Name: "WORKLOAD", Value: "cart"}, {Name: "HOSTILE", Value: "$$(PATH) `reboot` $$$$ \"; rm -rf /"}}
	if diff := cmp.Diff(want, spec.Containers[1].Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	w.finish(job, 0)
	result := do(t, "job").Observe(t.Context(), request)
	w.expect("Observe after the end", result, v1alpha1.TargetSucceeded, "is complete")
	outputs := map[string]string{}
	for _, output := range result.Outputs {
		outputs[output.Name] = *output.Value
	}
	end := strings.Repeat("x", 2000) + "the end"
	if diff := cmp.Diff(map[string]string{"output": end[len(end)-1024:], "exitCode": "0", "output_side_car": "ok", "exitCode_side_car": "0"}, outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"job/main": node.logs["main"], "job/side-car": "ok"}, node.kept); diff != "" {
		t.Errorf("evidence (-want +got):\n%s", diff)
	}
	w.expect("Apply after the end", do(t, "job").Apply(t.Context(), request), v1alpha1.TargetSucceeded)
	if count := len(w.jobs()); count != 1 {
		t.Errorf("%d Jobs after that, want 1", count)
	}
	request.Attempt = 2
	w.carryOut("job", request, v1alpha1.TargetApplied)
	if count := len(w.jobs()); count != 2 {
		t.Errorf("%d Jobs after another attempt, want 2", count)
	}
	w.expect("Undo", do(t, "job").Undo(t.Context(), request), v1alpha1.TargetFailed, "cannot be undone")
}

func TestJobThatFails(t *testing.T) {
	w := domainWorld(t, jobRights)
	request := w.onIncident(w.incident("inc-1"), jobStep(simpleJob))
	node := &fakeNode{logs: map[string]string{"main": "no such key"}, kept: map[string]string{}}
	request.Logs, request.Evidence = node, node
	w.carryOut("job", request, v1alpha1.TargetApplied)
	w.finish(&w.jobs()[0], 3)
	result := do(t, "job").Observe(t.Context(), request)
	w.expect("Observe", result, v1alpha1.TargetFailed, "BackoffLimitExceeded", "exit code 3", "no such key")
	if !result.Permanent || node.kept["job/main"] != "no such key" {
		t.Errorf("permanent %v, kept %v", result.Permanent, node.kept)
	}
	request.Attempt = 2
	w.carryOut("job", request, v1alpha1.TargetApplied)
	for _, job := range w.jobs() {
		w.delete(&job)
	}
	w.eventually("the Jobs to be gone", func(context.Context) bool {
		for _, job := range w.jobs() {
			if len(job.Finalizers) > 0 {
				w.patch(&job, `{"metadata": {"finalizers": null}}`)
			}
		}
		return len(w.jobs()) == 0
	})
	w.expect("Observe of one that was deleted", do(t, "job").Observe(t.Context(), request), v1alpha1.TargetFailed, "is not run again by itself")
}

func TestJobNameIsNotTakenForItsOwn(t *testing.T) {
	w := domainWorld(t, jobRights)
	request := w.onIncident(w.incident("inc-1"), jobStep(simpleJob))
	w.carryOut("job", request, v1alpha1.TargetApplied)
	mine := w.jobs()[0]
	foreign := mine.DeepCopy()
	foreign.Annotations = nil
	w.delete(&mine)
	w.eventually("the Job to be gone", func(context.Context) bool {
		for _, job := range w.jobs() {
			w.patch(&job, `{"metadata": {"finalizers": null}}`)
		}
		return len(w.jobs()) == 0
	})
	w.create(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: foreign.Namespace, Name: foreign.Name, Labels: foreign.Labels}, Spec: batchv1.JobSpec{
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: "Never", Containers: []corev1.Container{{Name: "a", Image: "b"}}}},
	}})
	w.expect("Apply", do(t, "job").Apply(t.Context(), request), v1alpha1.TargetFailed, "is not of this step")
}

// A log that could not be read for a reason that may pass is read again while the step has
// tries left.
func TestJobReadsItsOutputAgain(t *testing.T) {
	w := domainWorld(t, jobRights)
	request := w.onIncident(w.incident("inc-1"), jobStep(simpleJob))
	request.Step.Retry.Attempts = 3
	node := &fakeNode{logs: map[string]string{"main": "ok"}, kept: map[string]string{}, err: apierrors.NewInternalError(errors.New("dial tcp: i/o timeout"))}
	request.Logs, request.Evidence = node, node
	w.carryOut("job", request, v1alpha1.TargetApplied)
	w.finish(&w.jobs()[0], 0)
	result := do(t, "job").Observe(t.Context(), request)
	w.expect("Observe", result, v1alpha1.TargetFailed, "log of container main", "i/o timeout")
	if result.Permanent {
		t.Error("it must be tried again")
	}
	request.Target.Attempts = 2
	w.expect("Observe with the last try", do(t, "job").Observe(t.Context(), request), v1alpha1.TargetSucceeded, "not kept: log of container main", "i/o timeout")
	request.Target.Attempts, node.err = 1, nil
	w.expect("Observe when it is over", do(t, "job").Observe(t.Context(), request), v1alpha1.TargetSucceeded)
	if node.kept["job/main"] != "ok" {
		t.Errorf("kept %v", node.kept)
	}
	node.full = fmt.Errorf("the volume is full: %w", action.ErrNoRoom)
	result = do(t, "job").Observe(t.Context(), request)
	w.expect("Observe when nothing can be kept", result, v1alpha1.TargetSucceeded, "not kept: log of container main: the volume is full")
	if len(result.Outputs) == 0 || *result.Outputs[0].Value != "ok" {
		t.Errorf("got the outputs %v, want what the Job has said although it is not kept", result.Outputs)
	}
}

func TestJobDryRunStartsNothing(t *testing.T) {
	w := domainWorld(t, jobRights)
	request := w.onIncident(w.incident("inc-1"), jobStep(simpleJob))
	request.DryRun = true
	w.carryOut("job", request)
	w.expect("Observe", do(t, "job").Observe(t.Context(), request), v1alpha1.TargetSucceeded, "would run")
	if count := len(w.jobs()); count != 0 {
		t.Errorf("%d Jobs, want none", count)
	}
}

// What a playbook's author cannot reach by the ServiceAccount, no Job reaches for them.
func TestJobEscapes(t *testing.T) {
	w := domainWorld(t, jobRights)
	pod := func(spec string) string {
		return `{"template": {"spec": {"containers": [{"name": "main", "image": "i"}], ` + spec + `}}}`
	}
	container := func(spec string) string {
		return `{"template": {"spec": {"containers": [{"name": "main", "image": "i", ` + spec + `}]}}}`
	}
	environment := v1alpha1.NamedExpression{Name: "TITLE", Expression: `incident.title`}
	for name, test := range map[string]struct{ template, says string }{
		"foreign ServiceAccount":      {pod(`"serviceAccountName": "cluster-admin"`), "must be absent or the playbook's own, 'contain'"},
		"foreign ServiceAccount, old": {pod(`"serviceAccount": "cluster-admin"`), "must be absent or the playbook's own, 'contain'"},
		"typo":                        {pod(`"serviceAcountName": "x"`), `unknown field "template.spec.serviceAcountName"`},
		"case":                        {pod(`"ServiceAccountName": "x"`), `unknown field "template.spec.ServiceAccountName"`},
		"secret in the environment":   {container(`"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]`), "may not get secrets 'other'"},
		"optional secret":             {container(`"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k", "optional": true}}}]`), "may not get secrets 'other'"},
		"secret, whole":               {container(`"envFrom": [{"secretRef": {"name": "other"}}]`), "may not get secrets 'other'"},
		"config, whole":               {container(`"envFrom": [{"configMapRef": {"name": "other"}}]`), "may not get configmaps 'other'"},
		"secret as a volume":          {pod(`"volumes": [{"name": "v", "secret": {"secretName": "other"}}]`), "may not get secrets 'other'"},
		"secret projected":            {pod(`"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "other"}}]}}]`), "may not get secrets 'other'"},
		"config projected":            {pod(`"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "other"}}]}}]`), "may not get configmaps 'other'"},
		"secret for pulling":          {pod(`"imagePullSecrets": [{"name": "other"}]`), "may not get secrets 'other'"},
		"secret of a CSI driver":      {pod(`"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "other"}}}]`), "may not get secrets 'other'"},
		"secret of Azure":             {pod(`"volumes": [{"name": "v", "azureFile": {"secretName": "other", "shareName": "s"}}]`), "may not get secrets 'other'"},
		"volume claim":                {pod(`"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "other"}}]`), "may not get persistentvolumeclaims 'other'"},
		"copy of a volume claim":      {pod(`"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "dataSource": {"kind": "PersistentVolumeClaim", "name": "other"}, "resources": {"requests": {"storage": "1Gi"}}}}}}]`), "may not get persistentvolumeclaims 'other'"},
		"init container":              {pod(`"initContainers": [{"name": "i", "image": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]`), "may not get secrets 'other'"},
		"command line from an alert":  {container(`"command": ["sh", "-c", "echo $(TITLE)"]`), "`template.spec.containers[0].command[2]`"},
		"arguments from an alert":     {container(`"args": ["$(TITLE)"]`), "must be read by the program from its environment"},
		"path from an alert":          {container(`"volumeMounts": [{"name": "v", "mountPath": "/x", "subPathExpr": "$(TITLE)"}]`), "must be read by the program from its environment"},
		"by way of another":           {container(`"env": [{"name": "X", "value": "$(TITLE)"}], "args": ["$(X)"]`), "must be read by the program from its environment"},
		"set twice":                   {container(`"env": [{"name": "TITLE", "value": "x"}]`), "is set by container 'main'"},
		"vanishing":                   {`{"ttlSecondsAfterFinished": 0, "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}`, "must not set `ttlSecondsAfterFinished`"},
		"other controller":            {`{"managedBy": "a/b", "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}`, "must not set `managedBy`"},
		"owner of the pods":           {`{"template": {"metadata": {"finalizers": ["a/b"]}, "spec": {"containers": [{"name": "a", "image": "b"}]}}}`, "nothing but labels and annotations"},
		"label of Firebreak":          {`{"template": {"metadata": {"labels": {"firebreak.dev/incident": "x"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}}`, "Firebreak goes by it"},
		"no Job":                      {`{"template": 1}`, "must be the spec of a Job"},
		"what the API server refuses": {`{"template": {"spec": {"containers": []}}}`, "the API server has refused it"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, domain: w.domain, shop: w.shop, client: w.client, user: w.user}
			request := w.onIncident(w.incident("inc-1"), jobStep(test.template, environment))
			request.Incident.Spec.Title = "$(HOME)"
			result := do(t, "job").Plan(t.Context(), request)
			w.expect("Plan", result, v1alpha1.TargetFailed, test.says)
			if !result.Permanent {
				t.Error("it must be refused for good")
			}
			if w.expect("Apply", do(t, "job").Apply(t.Context(), request), v1alpha1.TargetFailed); len(w.jobs()) != 0 {
				t.Error("a Job was made")
			}
		})
	}
	mine := `{"template": {"spec": {"imagePullSecrets": [{"name": "mine"}], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "mine"}}],
		"containers": [{"name": "main", "image": "i", "envFrom": [{"secretRef": {"name": "mine"}}, {"configMapRef": {"name": "mine"}}]}]}}}`
	w.expect("what it may read", do(t, "job").Plan(t.Context(), w.onIncident(w.incident("inc-1"), jobStep(mine))), v1alpha1.TargetActing)
}

func TestJobWithoutRights(t *testing.T) {
	w := domainWorld(t, without(jobRights[:3], "get", "pods/log"))
	w.expect("Plan", do(t, "job").Plan(t.Context(), w.onIncident(w.incident("inc-1"), jobStep(simpleJob))), v1alpha1.TargetFailed, "may not get 'pods/log' in namespace '"+w.domain+"'")
	w = domainWorld(t, without(jobRights[:3], "create", "jobs"))
	w.expect("Plan", do(t, "job").Plan(t.Context(), w.onIncident(w.incident("inc-1"), jobStep(simpleJob))), v1alpha1.TargetFailed, "may not create jobs")
}
