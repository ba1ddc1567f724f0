package fault

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// person is jane, who acknowledges, approves and closes, each once; and changes the
// severity as soon as something is about to be sent that speaks of it.
type person struct {
	*world
	decided map[string]bool
}

func (p *person) see(t *testing.T, incident *v1alpha1.Incident) {
	t.Helper()
	p.decide(t, harness.MakeDecision(p.Namespace, incident.Name, jane, v1alpha1.DecisionAcknowledge))
	if p.hook != nil {
		for i := range incident.Status.Steps {
			p.changeMind(t, incident.Name, &incident.Status.Steps[i])
		}
	}
	for _, awaited := range incident.Status.Awaiting {
		switch awaited.Type {
		case v1alpha1.AwaitingApproval:
			p.decide(t, harness.MakeDecision(p.Namespace, incident.Name, jane, v1alpha1.DecisionApprove, func(d *v1alpha1.Decision) {
				d.Spec.Step, d.Spec.Digest, d.Spec.Role, d.Spec.Groups = awaited.Step, awaited.Digest, awaited.Role, []string{harness.DemoGroup}
			}))
		case v1alpha1.AwaitingTask:
			p.decide(t, harness.MakeDecision(p.Namespace, incident.Name, jane, v1alpha1.DecisionCompleteTask, func(d *v1alpha1.Decision) { d.Spec.Step = awaited.Step }))
		case v1alpha1.AwaitingClose:
			p.decide(t, harness.MakeDecision(p.Namespace, incident.Name, jane, v1alpha1.DecisionClose, func(d *v1alpha1.Decision) {
				d.Spec.Resolution = v1alpha1.ResolutionResolved
			}))
		default:
			t.Fatalf("nothing but an approval, a task and the close may be awaited, but: %+v", awaited)
		}
	}
}

// changeMind changes the severity when a step has begun to send something.
func (p *person) changeMind(t *testing.T, incident string, step *v1alpha1.IncidentStep) {
	t.Helper()
	severity, sends := map[string]v1alpha1.Severity{"tell": v1alpha1.SeverityCritical, "notify": v1alpha1.SeverityHigh}[step.Name]
	if !sends || len(step.Targets) == 0 || step.Targets[0].State == v1alpha1.TargetPending {
		return
	}
	p.decide(t, harness.MakeDecision(p.Namespace, incident, jane, v1alpha1.DecisionSetSeverity, func(d *v1alpha1.Decision) { d.Spec.Severity = severity }))
}

func (p *person) decide(t *testing.T, decision *v1alpha1.Decision) {
	t.Helper()
	key := fmt.Sprintf("%s %s %s %s", decision.Spec.Type, decision.Spec.Step, decision.Spec.Digest, decision.Spec.Severity)
	if p.decided[key] {
		return
	}
	p.decided[key] = true
	// Named, so that asking again after an answer that was lost decides once.
	decision.GenerateName, decision.Name = "", fmt.Sprintf("jane-%d", len(p.decided))
	harness.Eventually(t, harness.Patience, "the Decision "+string(decision.Spec.Type), func(ctx context.Context) error {
		return client.IgnoreAlreadyExists(p.jane.Create(ctx, decision.DeepCopy()))
	})
}

// endPod does what a kubelet does: it ends a pod that is to end. Without one, a manager
// that is killed while the API server deletes a pod for it would leave it ending for ever.
func (w *world) endPod(ctx context.Context, change watch.Event, pod *corev1.Pod) error {
	if change.Type == watch.Deleted || pod.DeletionTimestamp == nil {
		return nil
	}
	return ignoreRace(w.Client.Delete(ctx, pod, client.GracePeriodSeconds(0), client.Preconditions{UID: &pod.UID}))
}

// replicaSet does what Kubernetes' controller does: it keeps three pods that its
// selector selects, and lets go of those that it does not select any more.
type replicaSet struct {
	*world
	made int
}

func (r *replicaSet) sync(ctx context.Context) error {
	var list corev1.PodList
	if err := r.Client.List(ctx, &list, client.InNamespace(r.Target)); err != nil {
		return err
	}
	selector := labels.SelectorFromSet(r.set.Spec.Selector.MatchLabels)
	owned := int32(0)
	for i := range list.Items {
		pod := &list.Items[i]
		switch {
		case pod.DeletionTimestamp != nil || !metav1.IsControlledBy(pod, r.set):
		case selector.Matches(labels.Set(pod.Labels)):
			owned++
		default:
			if err := r.release(ctx, pod); err != nil {
				return err
			}
		}
	}
	for ; owned < *r.set.Spec.Replicas; owned++ {
		if err := r.replace(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *replicaSet) release(ctx context.Context, pod *corev1.Pod) error {
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"ownerReferences":null}}`, pod.UID)
	return client.IgnoreNotFound(r.Client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch)))
}

func (r *replicaSet) replace(ctx context.Context) error {
	r.made++
	pod := r.suspect.DeepCopy()
	pod.ResourceVersion, pod.UID = "", ""
	pod.Name, pod.Labels = fmt.Sprintf("%s-new%d", r.set.Name, r.made), r.set.Spec.Template.Labels
	status := pod.Status
	if err := r.Client.Create(ctx, pod); err != nil {
		return err
	}
	pod.Status = status
	return r.Client.Status().Update(ctx, pod)
}
