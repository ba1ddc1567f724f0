package action

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/json"

	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// decodeJob reads the template. A field that no Job has is refused by its path.
func decodeJob(raw *runtime.RawExtension) (*batchv1.JobSpec, error) {
	if raw == nil || len(raw.Raw) == 0 {
		return nil, errors.New("must be set")
	}
	spec := &batchv1.JobSpec{}
	problems, err := json.UnmarshalStrict(raw.Raw, spec)
	if err != nil {
		return nil, fmt.Errorf("must be the spec of a Job of batch/v1: %w", err)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("must be the spec of a Job of batch/v1: %w", errors.Join(problems...))
	}
	return spec, checkJob(spec)
}

// checkJob refuses what is Firebreak's to decide, or keeps it from knowing that the Job
// has run once.
func checkJob(spec *batchv1.JobSpec) error {
	for field, set := range map[string]bool{
		"selector": spec.Selector != nil, "manualSelector": spec.ManualSelector != nil,
		"suspend": spec.Suspend != nil && *spec.Suspend, "managedBy": spec.ManagedBy != nil,
	} {
		if set {
			return fmt.Errorf("must not set `%s`", field)
		}
	}
	if spec.TTLSecondsAfterFinished != nil {
		return errors.New("must not set `ttlSecondsAfterFinished`: the Job is the proof that it has run, and stays until the incident is deleted")
	}
	meta := spec.Template.ObjectMeta.DeepCopy()
	meta.Labels, meta.Annotations = nil, nil
	if meta.String() != (&corev1.Pod{}).ObjectMeta.String() {
		return errors.New("must set nothing but labels and annotations in `template.metadata`")
	}
	for field, pairs := range map[string]map[string]string{"labels": spec.Template.Labels, "annotations": spec.Template.Annotations} {
		for key := range pairs {
			if isOwnName(key) || key == LabelManagedBy {
				return fmt.Errorf("must not set `template.metadata.%s[%s]`: Firebreak goes by it", field, key)
			}
		}
	}
	if len(spec.Template.Spec.EphemeralContainers) > 0 {
		return errors.New("must not set `template.spec.ephemeralContainers`")
	}
	return nil
}

// setEnvironment adds what the step's expressions yield to every container. Nothing else
// in the template may refer to it: a command line made of an alert's text would run it.
func (r *Request) setEnvironment(ctx context.Context, spec *batchv1.JobSpec) *lifecycle.Result {
	var added []corev1.EnvVar
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec.Template.Spec)
	if err != nil {
		problem := refused("`job.template` %v", err)
		return &problem
	}
	object, problem := r.seenTarget(ctx, len(r.Step.Job.Environment) > 0)
	if problem != nil {
		return problem
	}
	for _, one := range r.Step.Job.Environment {
		if at := refersTo(content, "$("+one.Name+")", "template.spec"); at != "" {
			problem := refused("`job.template` has '$(%s)' in `%s`: what `job.environment` yields must be read by the program from its environment, for it may come from an alert", one.Name, at)
			return &problem
		}
		text, err := r.Values.Text(ctx, r.Incident, one.Expression, object)
		if err != nil {
			problem := refused("`job.environment[%s].expression` %v", one.Name, err)
			return &problem
		}
		// Kubernetes replaces $(NAME) in values too, and gives '$' for '$$'.
		added = append(added, corev1.EnvVar{Name: one.Name, Value: strings.ReplaceAll(text, "$", "$$")})
	}
	pod := &spec.Template.Spec
	for _, containers := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for i := range containers {
			container := &containers[i]
			for _, one := range container.Env {
				for _, other := range added {
					if one.Name == other.Name {
						problem := refused("`job.environment[%s]` is set by container '%s' of `job.template` as well", one.Name, container.Name)
						return &problem
					}
				}
			}
			container.Env = append(container.Env, added...)
		}
	}
	return nil
}

// seenTarget reads the target for expressions; nil when the step acts on the incident as
// a whole.
func (r *Request) seenTarget(ctx context.Context, needed bool) (map[string]any, *lifecycle.Result) {
	if !needed || r.onIncident() {
		return nil, nil
	}
	if r.Target.Kind == KindImage {
		return map[string]any{"kind": KindImage, "metadata": map[string]any{"name": r.Target.Name}}, nil
	}
	object, err := r.object(ctx, kindOf(&r.Target), targetKey(&r.Target))
	var problem lifecycle.Result
	switch {
	case err != nil:
		problem = r.failure(err, r.targetAccess("get"))
	case !r.isTarget(object):
		problem = gone(saysReplaced, r.targetName())
	default:
		return object.Object, nil
	}
	return nil, &problem
}

// refersTo finds a text in content, by its path.
func refersTo(content any, text, at string) string {
	switch v := content.(type) {
	case string:
		if strings.Contains(v, text) {
			return at
		}
	case map[string]any:
		for name, part := range v {
			if found := refersTo(part, text, at+"."+name); found != "" {
				return found
			}
		}
	case []any:
		for i, part := range v {
			if found := refersTo(part, text, fmt.Sprintf("%s[%d]", at, i)); found != "" {
				return found
			}
		}
	}
	return ""
}

// references of a pod that carry rights with them: who may make pods in a namespace could
// read every Secret of it by them.
var referringFields = map[string]string{
	"secretKeyRef": "secrets", "secretRef": "secrets", "secret": "secrets", "nodePublishSecretRef": "secrets", "imagePullSecrets": "secrets",
	"configMapKeyRef": "configmaps", "configMapRef": "configmaps", "configMap": "configmaps",
	"persistentVolumeClaim": "persistentvolumeclaims",
}

// referredTo finds what the pods refer to, by 'resource/name'.
func referredTo(content any, found map[string]bool) {
	switch v := content.(type) {
	case map[string]any:
		for field, part := range v {
			if resource := referringFields[field]; resource != "" {
				noteNames(part, resource, found)
			}
			if name, ok := part.(string); ok && field == "secretName" {
				found["secrets/"+name] = true
			}
			if source, ok := part.(map[string]any); ok && (field == "dataSource" || field == "dataSourceRef") && source["kind"] == "PersistentVolumeClaim" {
				noteNames(source, "persistentvolumeclaims", found)
			}
			referredTo(part, found)
		}
	case []any:
		for _, part := range v {
			referredTo(part, found)
		}
	}
}

func noteNames(content any, resource string, found map[string]bool) {
	switch v := content.(type) {
	case map[string]any:
		for _, field := range []string{"name", "secretName", "claimName"} {
			if name, ok := v[field].(string); ok && name != "" {
				found[resource+"/"+name] = true
			}
		}
	case []any:
		for _, part := range v {
			noteNames(part, resource, found)
		}
	}
}

// mayRefer asks for each Secret, ConfigMap and PersistentVolumeClaim whether the
// playbook's ServiceAccount may read it.
func (r *Request) mayRefer(ctx context.Context, spec *batchv1.JobSpec) *lifecycle.Result {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec.Template.Spec)
	if err != nil {
		problem := refused("`job.template` %v", err)
		return &problem
	}
	// What the step's expressions have yielded is text and refers to nothing.
	found := map[string]bool{}
	referredTo(content, found)
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, one := range names {
		resource, name, _ := strings.Cut(one, "/")
		if problem := r.mustHold(ctx, access{verb: "get", resource: resource, namespace: r.Incident.Namespace, name: name}); problem != nil {
			problem.Message = say("`job.template` refers to what it must not: %s", problem.Message)
			return problem
		}
	}
	return nil
}

// mustHold asks whether the playbook's ServiceAccount holds a right.
func (r *Request) mustHold(ctx context.Context, right access) *lifecycle.Result {
	resource, subresource, _ := strings.Cut(right.resource, "/")
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: right.verb, Group: right.group, Resource: resource, Subresource: subresource, Namespace: right.namespace, Name: right.name,
		},
	}}
	if err := r.Client.Create(ctx, review); err != nil {
		problem := r.failure(err, access{verb: "create", group: authorizationv1.GroupName, resource: "selfsubjectaccessreviews"})
		return &problem
	}
	if review.Status.Allowed {
		return nil
	}
	what := "'" + right.resource + "'"
	if right.name != "" {
		what = fmt.Sprintf("%s '%s'", right.resource, right.name)
	}
	problem := refused("%s may not %s %s in namespace '%s': grant it that by a Role and a RoleBinding there", r.ActingAs, right.verb, what, right.namespace)
	return &problem
}
