package action

import (
	"context"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	// maxJobName leaves room for what Kubernetes adds to the names of a Job's pods.
	maxJobName = 57
	// defaultJobTime is how long a Job may run when the step does not say.
	defaultJobTime = 5 * time.Minute
	// jobAgain is how soon a Job that runs is looked at again.
	jobAgain = 2 * time.Second
)

// job runs a Job in the domain's namespace, once an attempt. Its name says for what it
// runs: whoever asks again finds it. It stays until the incident is deleted, for it is the
// proof that it has run; were it deleted before that is on record, it would run again.
type job struct{}

var _ = register("job", job{})

// jobName is the name of the Job of this step, attempt and target.
func (r *Request) jobName() string {
	hash := ShortHash(shortHashDigits, string(r.Incident.UID), r.Step.Name, fmt.Sprint(r.Attempt), string(r.Target.UID))
	return NameFor(r.Incident.Name, hash, maxJobName)
}

func (r *Request) jobAccess(verb string) access {
	return access{verb: verb, group: batchv1.GroupName, resource: "jobs", namespace: r.Incident.Namespace, name: r.jobName()}
}

// jobTime is how long the Job may run.
func (r *Request) jobTime() time.Duration {
	if r.Step.Timeout == nil || r.Step.Timeout.Duration < time.Second {
		return defaultJobTime
	}
	return r.Step.Timeout.Duration
}

// account is the name of the playbook's ServiceAccount.
func (r *Request) account() string {
	parts := strings.Split(r.ActingAs, ":")
	return parts[len(parts)-1]
}

// Plan renders the Job, checks what it refers to, and tries it on the API server.
func (job) Plan(ctx context.Context, r *Request) lifecycle.Result {
	rendered, problem := r.renderJob(ctx)
	if problem != nil {
		return *problem
	}
	for _, right := range []access{
		r.jobAccess("get"),
		{verb: "list", resource: "pods", namespace: r.Incident.Namespace},
		{verb: "get", resource: "pods/log", namespace: r.Incident.Namespace},
	} {
		if problem := r.mustHold(ctx, right); problem != nil {
			return *problem
		}
	}
	err := r.Client.Create(ctx, rendered, client.DryRunAll)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return r.failure(err, r.jobAccess("create"))
	}
	return lifecycle.Result{State: v1alpha1.TargetActing, Message: say("Job '%s' will run", rendered.Name)}
}

// Apply creates the Job, or finds that an earlier try did.
func (j job) Apply(ctx context.Context, r *Request) lifecycle.Result {
	found, problem := r.findJob(ctx)
	switch {
	case problem != nil:
		return *problem
	case found != nil:
		return j.look(ctx, r, found)
	}
	rendered, problem := r.renderJob(ctx)
	if problem != nil {
		return *problem
	}
	if r.DryRun {
		return done("dry run: Job '%s' would run", rendered.Name)
	}
	err := r.Client.Create(ctx, rendered, client.FieldOwner(r.stepOwner()))
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return r.failure(err, r.jobAccess("create"))
	}
	result := applied("Job '%s' was started", rendered.Name)
	result.After = jobAgain
	return result
}

// findJob reads the Job; nil when there is none. It fails when the name is taken.
func (r *Request) findJob(ctx context.Context) (*batchv1.Job, *lifecycle.Result) {
	found := &batchv1.Job{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: r.Incident.Namespace, Name: r.jobName()}, found)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		problem := r.failure(err, r.jobAccess("get"))
		return nil, &problem
	case !r.isOwnObject(found) || found.Annotations[annotationIntent] != r.jobIntent():
		problem := refused("the name of Job '%s' is taken by one that is not of this step: delete it, and retry the step", found.Name)
		return nil, &problem
	}
	return found, nil
}

// Observe looks whether the Job has ended, and keeps what it has said.
func (j job) Observe(ctx context.Context, r *Request) lifecycle.Result {
	found, problem := r.findJob(ctx)
	switch {
	case problem != nil:
		return *problem
	case found == nil && r.DryRun:
		return done("dry run: Job '%s' would run", r.jobName())
	case found == nil:
		return refused("Job '%s' was deleted before it ended; it is not run again by itself: look what it has done, and retry the step", r.jobName())
	}
	return j.look(ctx, r, found)
}

func (job) look(ctx context.Context, r *Request, found *batchv1.Job) lifecycle.Result {
	ended, reason := jobEnded(found)
	if !ended {
		result := applied("Job '%s' runs: %d active, %d succeeded, %d failed", found.Name, found.Status.Active, found.Status.Succeeded, found.Status.Failed)
		result.After = jobAgain
		return result
	}
	said, problem := r.keepOutput(ctx, found)
	if problem != nil {
		return *problem
	}
	if reason != "" {
		return refused("Job '%s' has failed (%s)%s", found.Name, reason, said.explain())
	}
	result := done("Job '%s' is complete%s", found.Name, said.missing())
	result.Outputs = said.outputs
	return result
}

// jobEnded says whether a Job is over, and why it has failed.
func jobEnded(found *batchv1.Job) (ended bool, failure string) {
	for _, condition := range found.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			continue
		}
		switch condition.Type {
		case batchv1.JobComplete:
			return true, ""
		case batchv1.JobFailed:
			return true, strings.TrimSuffix(condition.Reason+": "+condition.Message, ": ")
		}
	}
	return false, ""
}

// Undo cannot take back what a Job has done.
func (job) Undo(_ context.Context, r *Request) lifecycle.Result {
	return refused("Job '%s' has run, and that cannot be undone", r.jobName())
}

// jobIntent marks the Job of this step, attempt and target.
func (r *Request) jobIntent() string {
	return ShortHash(32, string(r.Incident.UID), r.Step.Name, fmt.Sprint(r.Attempt), string(r.Target.UID))
}

// renderJob makes the Job of the step.
func (r *Request) renderJob(ctx context.Context) (*batchv1.Job, *lifecycle.Result) {
	if r.Step.Job == nil {
		problem := refused("step '%s' has no `job`", r.Step.Name)
		return nil, &problem
	}
	spec, err := decodeJob(r.Step.Job.Template)
	if err == nil {
		err = r.fillJob(spec)
	}
	if err != nil {
		problem := refused("`job.template` %v", err)
		return nil, &problem
	}
	if problem := r.setEnvironment(ctx, spec); problem != nil {
		return nil, problem
	}
	if problem := r.mayRefer(ctx, spec); problem != nil {
		return nil, problem
	}
	meta := r.ownMeta(r.jobName())
	meta.Namespace = r.Incident.Namespace
	meta.Annotations = map[string]string{annotationIntent: r.jobIntent()}
	// Deleted with the incident; it does not keep the incident from being deleted.
	meta.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Incident", Name: r.Incident.Name, UID: r.Incident.UID,
	}}
	return &batchv1.Job{ObjectMeta: meta, Spec: *spec}, nil
}

// fillJob sets what is Firebreak's to decide.
func (r *Request) fillJob(spec *batchv1.JobSpec) error {
	pod := &spec.Template.Spec
	account := r.account()
	for field, name := range map[string]string{"serviceAccountName": pod.ServiceAccountName, "serviceAccount": pod.DeprecatedServiceAccount} {
		if name != "" && name != account {
			return fmt.Errorf("has `template.spec.%s: %s`: it must be absent or the playbook's own, '%s'", field, name, account)
		}
	}
	pod.ServiceAccountName, pod.DeprecatedServiceAccount = account, ""
	if pod.RestartPolicy == "" {
		pod.RestartPolicy = corev1.RestartPolicyNever
	}
	if spec.BackoffLimit == nil {
		spec.BackoffLimit = ptr.To[int32](0)
	}
	limit := max(int64(r.jobTime()/time.Second), 1)
	if spec.ActiveDeadlineSeconds == nil || *spec.ActiveDeadlineSeconds > limit {
		spec.ActiveDeadlineSeconds = &limit
	}
	labels := r.ownMeta("").Labels
	for name, value := range spec.Template.Labels {
		labels[name] = value
	}
	spec.Template.Labels = labels
	return nil
}
