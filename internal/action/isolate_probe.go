package action

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action/isolation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// probeTime is how long a probe's pod may run.
	probeTime = time.Minute
	// probeGrace is how long a probe that says nothing is waited for beside that: its image is
	// pulled, or it finds no node.
	probeGrace = 30 * time.Second
	// probeMargin is how long before the step's deadline a probe is waited for no more: for
	// want of a proof no isolation fails.
	probeMargin = 10 * time.Second
	// probeTries is how often a pod must have been reached to count as not isolated: network
	// plugins take a moment to learn of a label.
	probeTries = 3
	// probedAttempts is of how many attempts of a step the probes are deleted.
	probedAttempts = 8
	// maxBefore is how much of what isolating has said stays before what the probe says.
	maxBefore = 512
)

// probed says whether a probe is to prove this isolation. One that was lost is made again
// without: whoever takes it away again and again must not have pods started each time.
func (r *Request) probed() bool {
	return r.Step.Isolate.Probe != nil && !r.DryRun && r.Target.Losses == 0
}

// probePlan says in a plan that there will be a probe.
func (r *Request) probePlan() string {
	if r.Step.Isolate.Probe == nil {
		return ""
	}
	return fmt.Sprintf("; a pod in namespace '%s' will try whether it can be reached", r.Incident.Namespace)
}

// startProbe starts the probe of a pod that is isolated now, or finds that an earlier try
// did. What goes wrong about it does not make the isolation fail.
func (r *Request) startProbe(ctx context.Context, pod *corev1.Pod, isolated lifecycle.Result) lifecycle.Result {
	switch {
	case isolated.State != v1alpha1.TargetSucceeded || !r.probed():
		return isolated
	case r.isGroup():
		return unproven(isolated, "`isolate.probe` is only for pods: isolate the workload's pods (`target: Pods`)")
	case r.ending():
		return unproven(isolated, "the step's `timeout` leaves no time for it")
	}
	if why := r.kept(ctx); why != "" {
		return unproven(isolated, why)
	}
	return r.createProbe(ctx, pod, isolated, 0)
}

func (r *Request) createProbe(ctx context.Context, pod *corev1.Pod, isolated lifecycle.Result, try int) lifecycle.Result {
	probe, err := r.probePod(pod, try)
	if err != nil {
		return unproven(isolated, err.Error())
	}
	if err := r.Client.Create(ctx, probe, client.FieldOwner(r.stepOwner())); err != nil && !apierrors.IsAlreadyExists(err) {
		if Passes(err) {
			// It may have been created: looking finds out.
			return probing(isolated, probe.Name)
		}
		why, _ := r.explain(err, r.probeAccess("create", probe.Name))
		return unproven(isolated, why)
	}
	return probing(isolated, probe.Name)
}

func probing(isolated lifecycle.Result, name string) lifecycle.Result {
	isolated.State, isolated.After = v1alpha1.TargetApplied, jobAgain
	isolated.Message = say("%s; Pod '%s' tries whether it can be reached", lifecycle.Cut(isolated.Message, maxBefore), name)
	return isolated
}

func unproven(isolated lifecycle.Result, why string) lifecycle.Result {
	isolated.Message = say("%s; the probe has proved nothing: %s", lifecycle.Cut(isolated.Message, maxBefore), why)
	return isolated
}

// kept says what may keep the probe from connecting, whatever the isolation does: a policy of
// the domain's namespace that lets its pods reach the API server and not the pod would make
// every pod look isolated. Who names a reference has chosen one that is reached as the pod is.
func (r *Request) kept(ctx context.Context) string {
	if r.Step.Isolate.Probe.Reference != "" {
		return ""
	}
	const advice = "name in `isolate.probe.reference` what pods there reach just as they would reach the pod"
	policies, err := r.networkPolicies(ctx, r.Incident.Namespace)
	if err != nil {
		why, _ := r.explain(err, access{verb: "list", group: networkingv1.GroupName, resource: "networkpolicies", namespace: r.Incident.Namespace})
		return fmt.Sprintf("whether NetworkPolicies keep pods in namespace '%s' from connecting is not known: %s; or %s", r.Incident.Namespace, why, advice)
	}
	on := labels.Set(r.probeMeta(0).Labels)
	for i := range policies {
		spec := &policies[i].Spec
		selector, err := metav1.LabelSelectorAsSelector(&spec.PodSelector)
		if (err != nil || selector.Matches(on)) && covers(isolation.Types(spec), []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}) {
			return fmt.Sprintf("NetworkPolicy '%s' says what pods in namespace '%s' may connect to: %s", policies[i].Name, r.Incident.Namespace, advice)
		}
	}
	return ""
}

// ending says that the step comes to its deadline.
func (r *Request) ending() bool {
	for i := range r.Incident.Status.Steps {
		if step := &r.Incident.Status.Steps[i]; step.Name == r.Step.Name && step.DeadlineTime != nil {
			return !r.Now.Before(step.DeadlineTime.Add(-probeMargin))
		}
	}
	return false
}

// proven looks what the probe of a pod has found, which is isolated as far as the API tells.
// Where the pod was reached it is tried anew.
func (r *Request) proven(ctx context.Context, pod *corev1.Pod, isolated lifecycle.Result) lifecycle.Result {
	if isolated.State != v1alpha1.TargetSucceeded || !r.probed() {
		return isolated
	}
	for try := range probeTries {
		name := r.probeName(try)
		probe := &corev1.Pod{}
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: r.Incident.Namespace, Name: name}, probe)
		switch {
		case apierrors.IsNotFound(err) && try > 0:
			return r.createProbe(ctx, pod, isolated, try)
		case apierrors.IsNotFound(err):
			return unproven(isolated, fmt.Sprintf("Pod '%s' is not there any more", name))
		case err != nil && Passes(err) && !r.ending():
			return probing(isolated, name)
		case err != nil:
			why, _ := r.explain(err, r.probeAccess("get", name))
			return unproven(isolated, why)
		case !r.isProbe(probe, try):
			return unproven(isolated, fmt.Sprintf("the name of Pod '%s' is taken by one that is not of this step", name))
		}
		found := r.verdictOf(probe)
		switch {
		case len(found.reached) == 0 || try == probeTries-1:
			return r.judgeProbe(probe, found, isolated)
		case r.ending():
			return unproven(isolated, fmt.Sprintf("Pod '%s' has reached it by port %s, and there is no time to try again", name, strings.Join(found.reached, ", ")))
		}
	}
	return isolated
}

// observeProbed looks at an isolation that its probe has yet to prove. What takes it away
// meanwhile does not fail the step: it is planned anew, as what a policy that came at the
// same time asks for.
func (r *Request) observeProbed(ctx context.Context, pod *corev1.Pod, result lifecycle.Result) lifecycle.Result {
	switch {
	case result.State == v1alpha1.TargetSucceeded:
		return r.proven(ctx, pod, r.endConnections(ctx, result))
	case result.State != v1alpha1.TargetFailed || result.Permanent:
		return result
	case result.Unknown && r.ending():
		// It was isolated when it was last seen: it counts, and is looked at like any other.
		isolated := lifecycle.Result{State: v1alpha1.TargetSucceeded, Proof: v1alpha1.ProofComputed, Message: r.Target.Message}
		return unproven(isolated, "there is no time to ask again: "+result.Message)
	case result.Unknown:
		// The API server gave no answer: what is asked again is bounded by the step's deadline.
		result.State, result.After = v1alpha1.TargetApplied, jobAgain
	default:
		result.State = v1alpha1.TargetPending
	}
	return result
}

// heldProof keeps what was proved once: an isolation that stands is not proved again.
func (r *Request) heldProof(result lifecycle.Result) lifecycle.Result {
	if result.State == v1alpha1.TargetSucceeded {
		result.Proof = cmp.Or(r.Target.Proof, result.Proof)
	}
	return result
}

// deleteProbes takes away what the probes have left, and says what it could not. They go with
// the incident at the latest.
func (r *Request) deleteProbes(ctx context.Context) string {
	if r.Step.Isolate == nil || r.Step.Isolate.Probe == nil {
		return ""
	}
	left := ""
	for attempt := r.Attempt; attempt > max(r.Attempt-probedAttempts, 0); attempt-- {
		earlier := *r
		earlier.Attempt = attempt
		for try := range probeTries {
			found, at, err := earlier.deleteProbe(ctx, try)
			if err != nil {
				why, _ := r.explain(err, at)
				left = "; its probe stays until the incident is deleted: " + why
			}
			if !found {
				break
			}
		}
	}
	return left
}

func (r *Request) deleteProbe(ctx context.Context, try int) (found bool, at access, err error) {
	probe := &corev1.Pod{}
	name := r.probeName(try)
	err = r.Client.Get(ctx, client.ObjectKey{Namespace: r.Incident.Namespace, Name: name}, probe)
	if err != nil || !r.isProbe(probe, try) {
		return false, r.probeAccess("get", name), client.IgnoreNotFound(err)
	}
	err = r.Client.Delete(ctx, probe, client.Preconditions{UID: &probe.UID})
	return true, r.probeAccess("delete", name), client.IgnoreNotFound(err)
}
