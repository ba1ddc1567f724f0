package controller

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/impersonation"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
	"github.com/firebreak-dev/firebreak/internal/workload"
)

const (
	// parallelWork is how many targets of one incident are worked on at the same time.
	parallelWork = 16
	// maxWork is how long one piece of work may take at most; a person's Pause is seen after it.
	maxWork = time.Minute
	// lookTimeout is how long one look at one object may take.
	lookTimeout = 10 * time.Second
)

// confirm makes sure that the intent on record is the last word: an intent read from a
// cache may have been carried out by another manager since.
func (run *incidentRun) confirm(ctx context.Context) error {
	if run.fresh {
		return nil
	}
	live := &v1alpha1.Incident{}
	if err := run.Live.Get(ctx, client.ObjectKeyFromObject(run.base), live); err != nil {
		return err
	}
	if live.ResourceVersion != run.base.ResourceVersion {
		return apierrors.NewConflict(v1alpha1.SchemeGroupVersion.WithResource("incidents").GroupResource(), run.base.Name,
			errors.New("the incident has changed since it was read"))
	}
	run.fresh = true
	return nil
}

// execute does work as the playbook's ServiceAccount, each target for itself.
func (run *incidentRun) execute(ctx context.Context, in lifecycle.Input, work []lifecycle.Work) []lifecycle.Result {
	results := make([]lifecycle.Result, len(work))
	identity, err := run.Identities.For(ctx, run.incident.Namespace, run.incident.Status.Playbook.ServiceAccountName)
	if err != nil {
		for i := range work {
			results[i] = lifecycle.Result{Work: work[i], State: v1alpha1.TargetFailed, Message: err.Error(), Unknown: true}
		}
		return results
	}
	var group errgroup.Group
	group.SetLimit(parallelWork)
	for i := range work {
		group.Go(func() error {
			results[i] = guarded(ctx, func() lifecycle.Result { return run.executeOne(ctx, in, work[i], identity) })
			results[i].Work = work[i]
			return nil
		})
	}
	_ = group.Wait() // the functions never fail: what went wrong is in the results
	return results
}

// guarded makes a failure of a panic in an action: it must end neither the manager nor, at
// each start anew, the containment of all other incidents.
func guarded(ctx context.Context, do func() lifecycle.Result) (result lifecycle.Result) {
	defer func() {
		if recovered := recover(); recovered != nil {
			log.FromContext(ctx).Error(errors.New("a panic in an action"), "the action has failed", "stack", string(debug.Stack()))
			result = lifecycle.Result{State: v1alpha1.TargetFailed, Permanent: true, Unknown: true, Message: "an error within Firebreak ended it: the manager's log has more"}
		}
	}()
	return do()
}

// now gives what is to be done now: what stops an attack first, so that slow collecting
// never keeps an isolation waiting; what tells people after it, and what only reads when
// there is room.
func (run *incidentRun) now(work []lifecycle.Work) []lifecycle.Work {
	if urgent := run.urgent(work); len(urgent) > 0 {
		return urgent
	}
	telling := run.those(work, func(trait lifecycle.Trait) bool { return trait.Tells })
	if len(telling) == len(work) || !run.collecting.enter(client.ObjectKeyFromObject(run.incident)) {
		return telling
	}
	return work
}

// plansNow gives the plans to be made now: those of what only reads come after the
// effects of others.
func (run *incidentRun) plansNow(out lifecycle.Output) []lifecycle.Work {
	if len(run.urgent(out.Work)) > 0 {
		return run.urgent(out.Plans)
	}
	return run.now(out.Plans)
}

// urgent leaves out what only reads, and what only tells people.
func (run *incidentRun) urgent(work []lifecycle.Work) []lifecycle.Work {
	return run.those(work, func(trait lifecycle.Trait) bool { return !trait.Reads && !trait.Tells })
}

// those gives the work for actions of some kind.
func (run *incidentRun) those(work []lifecycle.Work, are func(lifecycle.Trait) bool) []lifecycle.Work {
	var those []lifecycle.Work
	for _, one := range work {
		if are(lifecycle.TraitOf(run.incident.Status.Steps[one.Step].Action)) {
			those = append(those, one)
		}
	}
	return those
}

// protectedNow holds a target whose namespace was protected since it was looked at.
func (run *incidentRun) protectedNow(ctx context.Context, in lifecycle.Input, target *v1alpha1.StepTarget) *lifecycle.Result {
	if lifecycle.IsIncident(target, run.incident) || target.ApprovedBy != "" || target.Losses > 0 {
		return nil
	}
	namespace := target.Namespace
	if target.Kind == "Namespace" && target.APIVersion == "v1" {
		namespace = target.Name
	}
	why, err := run.protection(ctx, namespace)
	if err != nil {
		return &lifecycle.Result{State: v1alpha1.TargetFailed, Message: err.Error()}
	}
	if why == "" || allowsProtected(in, namespace) {
		return nil
	}
	for i := range run.incident.Status.Resources {
		resource := &run.incident.Status.Resources[i]
		if resource.ApprovedBy != "" && (resource.UID == target.UID || resource.Workload.UID == target.UID) {
			return nil
		}
	}
	return &lifecycle.Result{State: v1alpha1.TargetHeld, Message: why + ", and the playbook's `limits.allowProtected` does not name it"}
}

func allowsProtected(in lifecycle.Input, namespace string) bool {
	return slices.Contains(in.Playbook.Limits.AllowProtected, v1alpha1.ProtectedNamespace(namespace))
}

// protected says why a step must not write in a namespace that is not its target's.
func (run *incidentRun) protected(in lifecycle.Input) func(context.Context, string) (string, error) {
	return func(ctx context.Context, namespace string) (string, error) {
		if allowsProtected(in, namespace) {
			return "", nil
		}
		return run.protection(ctx, namespace)
	}
}

// asPlan gives the client that acts as the plan's ServiceAccount.
func (run *incidentRun) asPlan(plan *v1alpha1.ResponsePlan) func(context.Context) (client.Client, string, error) {
	return func(ctx context.Context) (client.Client, string, error) {
		if plan == nil || plan.Spec.ServiceAccountName == "" {
			return nil, "", errors.New("the plan names no `serviceAccountName`, as which its channels' Secrets are read")
		}
		identity, err := run.Identities.For(ctx, plan.Namespace, plan.Spec.ServiceAccountName)
		if err != nil {
			return nil, "", err
		}
		return identity.Client, identity.User, nil
	}
}

func (run *incidentRun) executeOne(ctx context.Context, in lifecycle.Input, work lifecycle.Work, identity *impersonation.Identity) lifecycle.Result {
	step := &run.incident.Status.Steps[work.Step]
	text := lifecycle.TextOf(in.Playbook, step)
	if text == nil {
		return lifecycle.Result{State: v1alpha1.TargetFailed, Permanent: true, Message: fmt.Sprintf("the pinned playbook has no step '%s'", step.Name)}
	}
	request := &action.Request{
		Incident: run.incident, Step: text, Attempt: step.Attempts, Targets: step.Targets,
		Client: run.reads.of(identity), Logs: identity, Evidence: run.Evidence, ActingAs: identity.User, Now: run.Clock.Now(),
		Values: run.values.Values(in.Playbook), Protected: run.protected(in), Egress: run.Egress,
		Plan: in.Plan, AsPlan: run.asPlan(in.Plan),
		OutOfScope: func(namespace string) string { return lifecycle.OutOfScope(in.Playbook, namespace) },
	}
	if lifecycle.DryRun(in) && !lifecycle.TraitOf(step.Action).Reads {
		request.Client, request.DryRun = client.NewDryRunClient(request.Client), true
	}
	limit := maxWork
	if text.Timeout != nil {
		limit = min(limit, text.Timeout.Duration)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch work.Verb {
	case lifecycle.VerbResolve:
		return run.resolve(ctx, in, request)
	case lifecycle.VerbVerify:
		return run.verify(ctx, request)
	}
	does, err := action.For(step.Action)
	if err != nil {
		return lifecycle.Result{State: v1alpha1.TargetFailed, Permanent: true, Message: err.Error()}
	}
	request.Target = step.Targets[work.Target]
	if work.Verb == lifecycle.VerbPlan {
		if held := run.protectedNow(ctx, in, &request.Target); held != nil {
			return *held
		}
	}
	return action.Do(ctx, does, work.Verb, request)
}

// look finds the objects the incident is about, as the playbook's ServiceAccount. Each
// stands for itself: one that cannot be read now does not keep the others waiting.
func (run *incidentRun) look(ctx context.Context, playbook *v1alpha1.ResponsePlaybookSpec, indexes []int) []lifecycle.Sighting {
	failures := make([]error, len(indexes))
	sightings := make([]lifecycle.Sighting, len(indexes))
	identity, err := run.Identities.For(ctx, run.incident.Namespace, run.incident.Status.Playbook.ServiceAccountName)
	if err == nil && playbook != nil {
		run.listAhead(ctx, playbook, identity, indexes)
	}
	var group errgroup.Group
	group.SetLimit(parallelWork)
	for i, index := range indexes {
		group.Go(func() error {
			if failures[i] = err; err != nil {
				return nil
			}
			ctx, cancel := context.WithTimeout(ctx, lookTimeout)
			defer cancel()
			sightings[i], failures[i] = run.lookAt(ctx, identity, &run.incident.Status.Resources[index].ResourceReference)
			sightings[i].Index = index
			return nil
		})
	}
	_ = group.Wait() // the functions never fail: what went wrong is in failures
	var seen []lifecycle.Sighting
	for i, index := range indexes {
		if failures[i] == nil {
			seen = append(seen, sightings[i])
			continue
		}
		if run.unseen == nil {
			run.unseen = map[int]string{}
		}
		run.unseen[index] = lifecycle.Cut(failures[i].Error(), 512)
	}
	return seen
}

// listAhead begins to list what the plans of the containment list in the namespaces of what is
// looked at: they follow at once, and ask for it after pod and owners otherwise. After that phase
// nothing mostly follows.
func (run *incidentRun) listAhead(ctx context.Context, playbook *v1alpha1.ResponsePlaybookSpec, identity *impersonation.Identity, indexes []int) {
	if slices.Contains([]v1alpha1.Phase{v1alpha1.PhaseEradication, v1alpha1.PhaseRecovery, v1alpha1.PhaseReview}, run.incident.Status.Phase) {
		return
	}
	for i := range playbook.Containment.Steps {
		does, err := action.For(lifecycle.ActionOf(&playbook.Containment.Steps[i]))
		lister, lists := does.(action.Lister)
		if err != nil || !lists {
			continue
		}
		for _, index := range indexes[:min(len(indexes), parallelWork)] {
			if namespace := run.incident.Status.Resources[index].Namespace; namespace != "" {
				list, options := lister.Beside(namespace)
				run.reads.ahead(ctx, identity, list, options)
			}
		}
	}
}

func (run *incidentRun) lookAt(ctx context.Context, identity *impersonation.Identity, reference *v1alpha1.ResourceReference) (lifecycle.Sighting, error) {
	var found client.Object
	pod := &corev1.Pod{}
	if reference.Kind == "Pod" && reference.APIVersion == "v1" {
		found = pod
	} else {
		object := &metav1.PartialObjectMetadata{}
		object.SetGroupVersionKind((&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": reference.APIVersion, "kind": reference.Kind,
		}}).GroupVersionKind())
		found = object
	}
	reader := run.reads.of(identity)
	err := reader.Get(ctx, types.NamespacedName{Namespace: reference.Namespace, Name: reference.Name}, found)
	if sighting, ok, failure := notSeen(err, identity.User, reference); !ok {
		return sighting, failure
	}
	if reference.UID != "" && string(found.GetUID()) != string(reference.UID) {
		return lifecycle.Sighting{State: v1alpha1.ResourceReplaced, Message: fmt.Sprintf(
			"an object of that name is there, but its UID is %s: it came back and is not the one that was reported", found.GetUID())}, nil
	}
	protection, err := run.protection(ctx, reference.Namespace)
	if err != nil {
		return lifecycle.Sighting{}, err
	}
	sighting := lifecycle.Sighting{State: v1alpha1.ResourcePresent, UID: v1alpha1.ObjectUID(found.GetUID()), Protection: protection}
	if found == client.Object(pod) {
		sighting.Workload, err = workload.TopOwner(ctx, reader, pod)
	}
	return sighting, err
}

// notSeen says what it means that an object could not be read. An error is one that
// passes: the look is repeated.
func notSeen(err error, user string, reference *v1alpha1.ResourceReference) (lifecycle.Sighting, bool, error) {
	name := reference.Kind + " " + reference.Name
	if reference.Namespace != "" {
		name = reference.Kind + " " + reference.Namespace + "/" + reference.Name
	}
	switch {
	case err == nil:
		return lifecycle.Sighting{}, true, nil
	case apierrors.IsNotFound(err):
		return lifecycle.Sighting{State: v1alpha1.ResourceGone, Message: name + " is gone"}, false, nil
	case apierrors.IsForbidden(err):
		return lifecycle.Sighting{State: v1alpha1.ResourceUnreadable, Message: fmt.Sprintf(
			"%s may not read %s: grant it 'get', then retry the step", user, name)}, false, nil
	case isNoKind(err):
		return lifecycle.Sighting{State: v1alpha1.ResourceUnreadable, Message: fmt.Sprintf(
			"the cluster has no kind '%s' in '%s'", reference.Kind, reference.APIVersion)}, false, nil
	case action.Passes(err):
		return lifecycle.Sighting{}, false, fmt.Errorf("looking at %s: %w", name, err)
	default:
		return lifecycle.Sighting{State: v1alpha1.ResourceUnreadable, Message: lifecycle.Cut(fmt.Sprintf("%s cannot be read: %v", name, err), 512)}, false, nil
	}
}

// protection says why a namespace is protected; empty when it is not.
func (run *incidentRun) protection(ctx context.Context, name string) (string, error) {
	switch name {
	case "":
		return "", nil
	case metav1.NamespaceSystem:
		return "namespace kube-system is protected", nil
	case run.SystemNamespace:
		return "namespace " + name + " is Firebreak's own and protected", nil
	}
	namespace := &corev1.Namespace{}
	if err := run.Client.Get(ctx, types.NamespacedName{Name: name}, namespace); err != nil {
		return "", client.IgnoreNotFound(err)
	}
	if namespace.Labels[v1alpha1.LabelProtected] == "true" {
		return fmt.Sprintf("namespace %s is protected by its label %s", name, v1alpha1.LabelProtected), nil
	}
	return "", nil
}
