package integration

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/cli"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// TestPrintedRightsAreEnough shows that a playbook whose account holds what
// 'kubectl firebreak rbac' prints is Authorized, and does all that it says.
func TestPrintedRightsAreEnough(t *testing.T) {
	cluster := harness.Get(t)
	cluster.StartManager(t)
	d := cluster.NewDomain(t)
	done(t, d.Client.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: "bare"}}))
	playbook := harness.MakePlaybook(d.Namespace, "contain", "bare", func(p *v1alpha1.ResponsePlaybook) {
		p.Spec.Scope.Namespaces = []v1alpha1.ScopeNamespace{v1alpha1.ScopeNamespace(d.Target)}
		p.Spec.Containment.Steps = []v1alpha1.PlaybookStep{
			{Name: "preserve", Target: v1alpha1.TargetPods, Collect: &v1alpha1.CollectAction{}},
			{Name: "isolate", Target: v1alpha1.TargetPods, Isolate: &v1alpha1.IsolateAction{}},
			{Name: "all", Target: v1alpha1.TargetWorkloads, Isolate: &v1alpha1.IsolateAction{}},
		}
		p.Spec.Eradication.Steps = []v1alpha1.PlaybookStep{
			{Name: "delete-pod", Target: v1alpha1.TargetPods, Delete: &v1alpha1.DeleteAction{GracePeriodSeconds: ptr.To[int64](0)}},
		}
		p.Spec.Recovery.Steps = []v1alpha1.PlaybookStep{
			{Name: "release", Revert: &v1alpha1.RevertAction{Steps: []v1alpha1.StepName{"isolate", "all"}}},
			{Name: "healthy", Target: v1alpha1.TargetWorkloads, Verify: &v1alpha1.VerifyAction{
				Expression: "objects.all(w, w.?status.?readyReplicas.orValue(0) == w.spec.replicas)",
			}},
		}
	})
	done(t, d.Client.Create(t.Context(), playbook))
	harness.WaitFor(t, d.Client, playbook, "the missing rights to be named", func(p *v1alpha1.ResponsePlaybook) bool {
		condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAuthorized)
		return isTrue(p.Status.Conditions, v1alpha1.ConditionReady) && condition != nil && condition.Reason == v1alpha1.ReasonRightsMissing
	})

	streams, _, out, problems := genericiooptions.NewTestIOStreams()
	kubeconfig := d.UserKubeconfig(t, "admin", harness.Masters)
	if code := cli.Run(t.Context(), []string{"rbac", "contain", "-n", d.Namespace, "--kubeconfig", kubeconfig}, cli.Config{Streams: streams}); code != cli.ExitOK {
		t.Fatalf("rbac exits with %d: %s", code, problems)
	}
	file := filepath.Join(t.TempDir(), "rbac.yaml")
	done(t, os.WriteFile(file, out.Bytes(), 0o600))
	printed, err := harness.Load(file)
	done(t, err)
	for _, object := range printed {
		if object.GetNamespace() != d.Target {
			t.Errorf("%s %s is in namespace %q: the playbook acts in %s only", object.GetKind(), object.GetName(), object.GetNamespace(), d.Target)
		}
		done(t, d.Client.Create(t.Context(), object))
	}
	harness.WaitFor(t, d.Client, playbook, "the playbook to be authorized", func(p *v1alpha1.ResponsePlaybook) bool {
		return isTrue(p.Status.Conditions, v1alpha1.ConditionAuthorized)
	})
	runsThrough(t, d)
}

// runsThrough declares an incident and waits until its playbook has done everything.
func runsThrough(t *testing.T, d *harness.Domain) {
	t.Helper()
	_, set := d.FakeWorkload(t, client.ObjectKey{Namespace: d.Target, Name: "cart"}, 1)
	pod := d.FakePod(t, client.ObjectKey{Namespace: d.Target, Name: "cart-a"}, harness.PodLabels("cart"), set)
	incident := harness.MakeIncident(d.Namespace, "inc-rights", func(i *v1alpha1.Incident) {
		i.Spec.PlaybookRef.Name = "contain"
		i.Spec.Resources = []v1alpha1.ResourceReference{{APIVersion: "v1", Kind: "Pod", Namespace: d.Target, Name: pod.Name, UID: v1alpha1.ObjectUID(pod.UID)}}
	})
	done(t, d.Client.Create(t.Context(), incident))
	harness.WaitFor(t, d.Client, incident, "the playbook to be through", inPhase(v1alpha1.PhaseReview))
	for _, step := range incident.Status.Steps {
		if step.State != v1alpha1.StepSucceeded && step.State != v1alpha1.StepReverted {
			t.Errorf("step %s is %s: %s", step.Name, step.State, step.Message)
		}
		for _, target := range step.Targets {
			if target.State == v1alpha1.TargetFailed {
				t.Errorf("step %s, %s %s: %s", step.Name, target.Kind, target.Name, target.Message)
			}
		}
	}
	if t.Failed() {
		t.Logf("%+v", incident.Status.Steps)
	}
}
