package fault

import (
	"context"
	_ "embed"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// allActions is the spec of a playbook that uses every action.
//
//go:embed testdata/all-actions.yaml
var allActions string

const revision = "deployment.kubernetes.io/revision"

// newActionsWorld is the demo with a playbook that uses every action, and what they act on.
func newActionsWorld(t *testing.T, cluster *harness.Cluster, hook *webhook) *world {
	t.Helper()
	var namespace string
	w := newWorld(t, cluster, func(sample *unstructured.Unstructured) {
		switch sample.GetKind() {
		case "ResponsePlan":
			telling(t, sample)
			return
		case "ResponsePlaybook":
		default:
			return
		}
		namespace = sample.GetNamespace()
		target := strings.Replace(namespace, "security-", "shop-", 1)
		text := strings.NewReplacer("SECURITY", namespace, "SHOP", target, "HOOK", hook.URL+webhookPath+namespace).Replace(allActions)
		spec := map[string]any{}
		if err := yaml.Unmarshal([]byte(text), &spec); err != nil {
			t.Fatalf("testdata/all-actions.yaml: %v", err)
		}
		usesAll(t, spec)
		sample.Object["spec"] = spec
	})
	w.things = map[string][]string{}
	w.hook = hook
	w.makeThings(t)
	return w
}

// telling gives a plan the channel 'chat', whose URL the playbook's account may read.
func telling(t *testing.T, plan *unstructured.Unstructured) {
	t.Helper()
	chat := map[string]any{"name": "chat", "tlp": "Amber", "urlSecretKeyRef": map[string]any{"name": "hook", "key": "chat"}}
	if err := unstructured.SetNestedSlice(plan.Object, []any{chat}, "spec", "channels"); err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedField(plan.Object, "contain-intrusion", "spec", "serviceAccountName"); err != nil {
		t.Fatal(err)
	}
}

// usesAll holds the playbook to use every action there is.
func usesAll(t *testing.T, spec map[string]any) {
	t.Helper()
	used := map[string]bool{}
	for _, phase := range []string{"containment", "eradication", "recovery"} {
		steps, _, err := unstructured.NestedSlice(spec, phase, "steps")
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps {
			for key := range step.(map[string]any) {
				used[key] = true
			}
		}
	}
	for _, name := range append(action.Names(), "approve", "task", "verify", "wait", "revert") {
		if !used[name] {
			t.Errorf("testdata/all-actions.yaml must have a step with the action %s", name)
		}
	}
}

// makeThings makes what the actions act on, beside the demo's shop.
func (w *world) makeThings(t *testing.T) {
	t.Helper()
	in := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: w.Target, Name: name} }
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "busybox"}}}}
	things := []client.Object{
		&corev1.ConfigMap{ObjectMeta: in("settings"), Data: map[string]string{"open": "yes"}},
		&corev1.ServiceAccount{ObjectMeta: in("robot")},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "hook"}, StringData: map[string]string{
			"key": hookKey, "chat": "generic://" + w.hook.Listener.Addr().String() + webhookPath + w.Namespace + "?template=json",
		}},
		&batchv1.CronJob{ObjectMeta: in("nightly"), Spec: batchv1.CronJobSpec{Schedule: "0 3 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}},
		&rbacv1.RoleBinding{
			ObjectMeta: in("robot"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
			Subjects: []rbacv1.Subject{harness.Account(w.Target, "robot"), harness.User("somebody")},
		},
	}
	for _, name := range []string{"cordoned", "tainted", "drained"} {
		things = append(things, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name + "-" + w.Namespace}})
	}
	for _, thing := range things {
		if err := w.Client.Create(t.Context(), thing); err != nil {
			t.Fatal(err)
		}
	}
	for name, node := range map[string]string{"tenant": "drained-" + w.Namespace, "loner": "node-1"} {
		w.FakePod(t, client.ObjectKey{Namespace: w.Target, Name: name}, harness.PodLabels(name), nil, func(p *corev1.Pod) { p.Spec.NodeName = node })
	}
	for _, name := range []string{"scaled", "restarted", "rolled"} {
		_, set := w.FakeWorkload(t, client.ObjectKey{Namespace: w.Target, Name: name}, 2)
		if name == "rolled" {
			w.giveHistory(t, set)
		}
	}
}

// giveHistory gives a workload an earlier revision.
func (w *world) giveHistory(t *testing.T, set *appsv1.ReplicaSet) {
	t.Helper()
	earlier := set.DeepCopy()
	earlier.Name, earlier.ResourceVersion, earlier.UID = set.Name+"-earlier", "", ""
	earlier.Spec.Template.Spec.Containers[0].Image = "registry.example.com/app:0.9"
	earlier.Annotations = map[string]string{revision: "1"}
	if err := w.Client.Create(t.Context(), earlier); err != nil {
		t.Fatal(err)
	}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+revision+`":"2"}}}`))
	if err := w.Client.Patch(t.Context(), set, patch); err != nil {
		t.Fatal(err)
	}
}

// mighty gives the playbook's account every right, before the playbook is written.
func (w *world) mighty(t *testing.T) {
	t.Helper()
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "mighty-" + w.Namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{harness.Account(w.Namespace, "contain-intrusion")},
	}
	if err := w.Client.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
}

// control plays the controllers of Deployments and Jobs.
func (w *world) control(ctx context.Context, object client.Object) error {
	switch object := object.(type) {
	case *appsv1.Deployment:
		replicas := *object.Spec.Replicas
		if object.Status.ObservedGeneration == object.Generation {
			return nil
		}
		next := object.DeepCopy()
		next.Status = appsv1.DeploymentStatus{
			ObservedGeneration: object.Generation, Replicas: replicas, UpdatedReplicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas,
		}
		// Who was faster will be seen.
		return ignoreRace(w.Client.Status().Update(ctx, next))
	case *batchv1.Job:
		if len(object.Status.Conditions) > 0 {
			return nil
		}
		now := metav1.Now()
		next := object.DeepCopy()
		next.Status = batchv1.JobStatus{StartTime: &now, CompletionTime: &now, Succeeded: 1, Conditions: []batchv1.JobCondition{
			{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue, LastTransitionTime: now, LastProbeTime: now},
			{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: now, LastProbeTime: now},
		}}
		return ignoreRace(w.Client.Status().Update(ctx, next))
	}
	return nil
}
