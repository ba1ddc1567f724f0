package action

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// biteAgain is how soon it is tried again whether a new policy bites.
const biteAgain = 300 * time.Millisecond

// blockImage has the API server refuse pods that run an image.
type blockImage struct{}

var _ = register("blockImage", blockImage{})

// blockRecord is what undoing a block needs.
type blockRecord struct {
	// Policy is the name of the policy, and of its binding.
	Policy string `json:"policy"`
	// Match says what of the images is refused.
	Match v1alpha1.ImageMatch `json:"match"`
	// Images are what is refused: digests, references or repositories.
	Images []string `json:"images"`
}

func decodeBlockRecord(text string) (*blockRecord, error) {
	record := &blockRecord{}
	if err := json.Unmarshal([]byte(text), record); err != nil {
		return nil, fmt.Errorf("the record of what to undo cannot be read: %w", err)
	}
	if !strings.HasPrefix(record.Policy, ownerPrefix) {
		return nil, fmt.Errorf("the record of what to undo names no policy of Firebreak")
	}
	return record, nil
}

// Plan finds out what is refused.
func (blockImage) Plan(ctx context.Context, r *Request) lifecycle.Result {
	switch {
	case r.Step.BlockImage == nil:
		return refused("step '%s' has no `blockImage`", r.Step.Name)
	case r.Target.Kind != KindImage:
		return refused("%s is no image: `target` must be 'Images'", r.targetName())
	}
	record := &blockRecord{
		Policy: NameFor(ownerPrefix+r.Incident.Name, ShortHash(shortHashDigits, string(r.Incident.UID), r.Step.Name, string(r.Target.UID)), 253),
		Match:  r.Step.BlockImage.Match,
	}
	if record.Match == "" {
		record.Match = v1alpha1.ImageReference
	}
	unread, problem := r.blockedImages(ctx, record)
	if problem != nil {
		return *problem
	}
	unread += record.remember(r.Target.Undo)
	policy, problem := r.ownPolicy(ctx, record.Policy)
	if problem != nil {
		return *problem
	}
	if policy == nil {
		if err := r.Client.Create(ctx, r.policyOf(record), client.DryRunAll); err != nil && !apierrors.IsAlreadyExists(err) {
			return r.failure(err, admissionAccess("create", policies, record.Policy))
		}
	}
	return planned(record, "what runs "+r.targetName(), "ValidatingAdmissionPolicy '"+record.Policy+"'"+unread)
}

// remember adds what an earlier try has blocked: the pods that named it may be gone. It
// says when that is too much: then what was blocked stays, and nothing is added.
func (b *blockRecord) remember(undo string) string {
	earlier, err := decodeBlockRecord(undo)
	if err != nil || earlier.Policy != b.Policy || earlier.Match != b.Match {
		return ""
	}
	b.Images = slices.Concat(earlier.Images, b.Images)
	slices.Sort(b.Images)
	b.Images = slices.Compact(b.Images)
	more := len(b.Images) - len(earlier.Images)
	if raw, err := json.Marshal(b); more > 0 && (err != nil || len(raw) > maxInlineUndo) {
		b.Images = earlier.Images
		return fmt.Sprintf("; %d more names by which pods call it are not blocked, for they are too many", more)
	}
	return ""
}

const (
	policies       = "validatingadmissionpolicies"
	policyBindings = "validatingadmissionpolicybindings"
)

func admissionAccess(verb, resource, name string) access {
	return access{verb: verb, group: admissionv1.GroupName, resource: resource, name: name}
}

// ownPolicy reads the policy; nil when there is none. It fails when the name is taken.
func (r *Request) ownPolicy(ctx context.Context, name string) (*admissionv1.ValidatingAdmissionPolicy, *lifecycle.Result) {
	policy := &admissionv1.ValidatingAdmissionPolicy{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: name}, policy)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		problem := r.failure(err, admissionAccess("get", policies, name))
		return nil, &problem
	}
	if !r.isOwnObject(policy) {
		problem := refused("the name of ValidatingAdmissionPolicy '%s' is taken by one that is not of this incident: delete it", name)
		return nil, &problem
	}
	return policy, nil
}

func (r *Request) ownBinding(ctx context.Context, name string) (*admissionv1.ValidatingAdmissionPolicyBinding, *lifecycle.Result) {
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: name}, binding)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		problem := r.failure(err, admissionAccess("get", policyBindings, name))
		return nil, &problem
	}
	if !r.isOwnObject(binding) {
		problem := refused("the name of ValidatingAdmissionPolicyBinding '%s' is taken by one that is not of this incident: delete it", name)
		return nil, &problem
	}
	return binding, nil
}

// isOwnObject says whether an object is one this incident made.
func (r *Request) isOwnObject(object client.Object) bool {
	labels := object.GetLabels()
	return labels[LabelManagedBy] == ManagedBy && labels[v1alpha1.LabelIncident] == IncidentLabel(r.Incident.Name)
}

func (r *Request) ownMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{
		LabelManagedBy: ManagedBy, v1alpha1.LabelIncident: IncidentLabel(r.Incident.Name),
	}}
}

// policyOf is the policy of a record, with everything that the API server would fill in.
func (r *Request) policyOf(record *blockRecord) *admissionv1.ValidatingAdmissionPolicy {
	policy := &admissionv1.ValidatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: r.ownMeta(record.Policy),
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: ptr.To(admissionv1.Fail),
			MatchConstraints: &admissionv1.MatchResources{
				MatchPolicy: ptr.To(admissionv1.Equivalent),
				// What is protected from playbooks is protected from this one too.
				NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
					{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{metav1.NamespaceSystem, v1alpha1.SystemNamespace}},
					{Key: v1alpha1.LabelProtected, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"true"}},
				}},
				ObjectSelector: &metav1.LabelSelector{},
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
					Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods", "pods/ephemeralcontainers"},
						Scope: ptr.To(admissionv1.AllScopes)},
				}}},
			},
			Variables: []admissionv1.Variable{
				{Name: "images", Expression: imagesOf("object")},
				{Name: "known", Expression: "oldObject == null ? [] : " + imagesOf("oldObject")},
			},
			Validations: []admissionv1.Validation{{
				// A pod that runs it already may be changed otherwise, such as labelled or deleted.
				Expression: "variables.images.all(image, image in variables.known || !(" + refuses(record) + "))",
				Message:    blockMessage(r.Incident),
				Reason:     ptr.To(metav1.StatusReasonForbidden),
			}},
		},
	}
	return policy
}

// imagesOf is an expression that lists the images of a pod.
func imagesOf(pod string) string {
	var lists []string
	for _, field := range []string{"containers", "initContainers", "ephemeralContainers"} {
		lists = append(lists, fmt.Sprintf("%s.spec.?%s.orValue([]).map(c, c.?image.orValue(\"\"))", pod, field))
	}
	return strings.Join(lists, " + ")
}

// refuses is an expression over `image` that says whether it is refused.
func refuses(record *blockRecord) string {
	var quoted []string
	for _, image := range record.Images {
		quoted = append(quoted, celString(image))
	}
	list := "[" + strings.Join(quoted, ", ") + "]"
	switch record.Match {
	case v1alpha1.ImageDigest:
		return list + `.exists(digest, image.endsWith("@" + digest))`
	case v1alpha1.ImageRepository:
		return list + `.exists(name, image == name || image.startsWith(name + ":") || image.startsWith(name + "@"))`
	default:
		return "image in " + list
	}
}

func blockMessage(incident *v1alpha1.Incident) string {
	return fmt.Sprintf("the image is blocked by Firebreak because of incident '%s' in namespace '%s'", incident.Name, incident.Namespace)
}

func (r *Request) policyBindingOf(record *blockRecord) *admissionv1.ValidatingAdmissionPolicyBinding {
	return &admissionv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicyBinding"},
		ObjectMeta: r.ownMeta(record.Policy),
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: record.Policy, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny, admissionv1.Audit},
		},
	}
}

// Apply makes the policy, and then the binding by which it counts.
func (blockImage) Apply(ctx context.Context, r *Request) lifecycle.Result {
	record, err := decodeBlockRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	if _, problem := r.ownPolicy(ctx, record.Policy); problem != nil {
		return *problem
	}
	if err := r.applyWhole(ctx, r.policyOf(record)); err != nil {
		return r.failure(err, admissionAccess("patch", policies, record.Policy))
	}
	if _, problem := r.ownBinding(ctx, record.Policy); problem != nil {
		return *problem
	}
	if err := r.applyWhole(ctx, r.policyBindingOf(record)); err != nil {
		return r.failure(err, admissionAccess("patch", policyBindings, record.Policy))
	}
	if r.DryRun {
		return done("dry run: ValidatingAdmissionPolicy '%s' would refuse pods with %s", record.Policy, r.targetName())
	}
	return r.bites(ctx, record)
}

// applyWhole applies an object of Firebreak's own; what others have set of it is replaced.
func (r *Request) applyWhole(ctx context.Context, object client.Object) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return err
	}
	unstructured.RemoveNestedField(content, "status")
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	config := &unstructured.Unstructured{Object: content}
	return r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(config), client.ForceOwnership, client.FieldOwner(r.stepOwner()))
}

// bites tries on the API server whether a pod with the image is refused: a new policy
// takes a second.
func (r *Request) bites(ctx context.Context, record *blockRecord) lifecycle.Result {
	const unproven = "%s; that it is refused is not proven: %s"
	says := blocked(record)
	if r.Protected != nil {
		if why, err := r.Protected(ctx, r.Incident.Namespace); err != nil || why != "" {
			return done(unproven, says, "the domain's namespace is protected, and exempt from it")
		}
	}
	err := r.Client.Create(ctx, r.probe(record), client.DryRunAll)
	switch {
	case err == nil:
		result := applied("%s, but a pod that runs it is not refused yet", says)
		result.After = biteAgain
		return result
	case apierrors.IsForbidden(err) && deniedVerb.MatchString(err.Error()):
		return done(unproven, says, r.ActingAs+" may not create pods in namespace '"+r.Incident.Namespace+"'")
	case strings.Contains(err.Error(), "'"+record.Policy+"'"):
		return done("%s: a pod that runs it was refused", says)
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		return done(unproven, says, err.Error())
	default:
		return r.failure(err, access{verb: "create", resource: "pods", namespace: r.Incident.Namespace})
	}
}

func blocked(record *blockRecord) string {
	return fmt.Sprintf("pods with %s are refused but for protected namespaces (ValidatingAdmissionPolicy '%s')",
		lifecycle.Cut(strings.ToLower(string(record.Match))+" '"+strings.Join(record.Images, "', '")+"'", 512), record.Policy)
}

// probe is a pod that would run the image, as harmless as pods can be. It is never made.
func (r *Request) probe(record *blockRecord) *corev1.Pod {
	image := record.Images[0]
	switch record.Match {
	case v1alpha1.ImageDigest:
		image = "firebreak.invalid/probe@" + image
	case v1alpha1.ImageRepository:
		image += ":probe"
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "firebreak-probe-", Namespace: r.Incident.Namespace},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: ptr.To(false),
			SecurityContext:              &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{Name: "probe", Image: image, SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}}},
		},
	}
}

// Observe looks whether the policy and its binding stand unchanged, and whether the API
// server has found anything wrong with the policy.
func (blockImage) Observe(ctx context.Context, r *Request) lifecycle.Result {
	record, err := decodeBlockRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	policy, problem := r.ownPolicy(ctx, record.Policy)
	if problem != nil {
		return *problem
	}
	binding, problem := r.ownBinding(ctx, record.Policy)
	switch {
	case problem != nil:
		return *problem
	case policy == nil || binding == nil:
		return failed("something has deleted ValidatingAdmissionPolicy '%s' or its binding", record.Policy)
	case !equality.Semantic.DeepEqual(policy.Spec, r.policyOf(record).Spec), !equality.Semantic.DeepEqual(binding.Spec, r.policyBindingOf(record).Spec):
		return failed("something has changed ValidatingAdmissionPolicy '%s' or its binding", record.Policy)
	case policy.DeletionTimestamp != nil || binding.DeletionTimestamp != nil:
		return failed("ValidatingAdmissionPolicy '%s' or its binding is being deleted", record.Policy)
	}
	if checked := policy.Status.TypeChecking; checked != nil && len(checked.ExpressionWarnings) > 0 {
		return refused("ValidatingAdmissionPolicy '%s' does not compile: %s", record.Policy, checked.ExpressionWarnings[0].Warning)
	}
	return r.bites(ctx, record)
}

// Undo deletes the binding and the policy.
func (blockImage) Undo(ctx context.Context, r *Request) lifecycle.Result {
	if r.Target.Undo == "" {
		return reverted("nothing was done to it")
	}
	record, err := decodeBlockRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	var left []string
	for _, one := range []struct {
		resource, kind string
		object         client.Object
	}{
		{policyBindings, "ValidatingAdmissionPolicyBinding", &admissionv1.ValidatingAdmissionPolicyBinding{}},
		{policies, "ValidatingAdmissionPolicy", &admissionv1.ValidatingAdmissionPolicy{}},
	} {
		err := r.Client.Get(ctx, client.ObjectKey{Name: record.Policy}, one.object)
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return r.failure(err, admissionAccess("get", one.resource, record.Policy))
		case !r.isOwnObject(one.object):
			left = append(left, fmt.Sprintf(saysLeft, nameOf(one.kind, record.Policy)))
			continue
		}
		uid := one.object.GetUID()
		if err := r.Client.Delete(ctx, one.object, client.Preconditions{UID: &uid}); err != nil && !apierrors.IsNotFound(err) {
			return r.failure(err, admissionAccess("delete", one.resource, record.Policy))
		}
	}
	if len(left) > 0 {
		return reverted("%s", strings.Join(left, "; "))
	}
	return reverted("pods with %s are not refused any more", r.targetName())
}

// blockedImages finds what is refused: of the target, and of how the incident's pods
// name it. It says of which pods that could not be read.
func (r *Request) blockedImages(ctx context.Context, record *blockRecord) (unread string, problem *lifecycle.Result) {
	var named []string
	if record.Match == v1alpha1.ImageReference {
		if named, unread, problem = r.namedInPods(ctx); problem != nil {
			return "", problem
		}
	}
	images, err := r.imagesOfTarget(record.Match, named)
	if err != nil {
		failure := refused("%v", err)
		return "", &failure
	}
	record.Images = images
	return unread, nil
}

// imagesOfTarget gives all spellings of what is refused.
func (r *Request) imagesOfTarget(match v1alpha1.ImageMatch, named []string) ([]string, error) {
	name := r.Target.Name
	switch match {
	case v1alpha1.ImageDigest:
		_, digest, found := strings.Cut(name, "@")
		if !found && strings.HasPrefix(name, "sha256:") {
			digest, found = name, true
		}
		if !found {
			return nil, fmt.Errorf("%s names no digest: `blockImage.match` must be 'Reference' or 'Repository'", r.targetName())
		}
		return []string{digest}, nil
	case v1alpha1.ImageRepository:
		repository, _ := splitImage(name)
		if strings.HasPrefix(name, "sha256:") {
			return nil, fmt.Errorf("%s names no repository: `blockImage.match` must be 'Digest'", r.targetName())
		}
		return spellings(repository), nil
	}
	var all []string
	for _, one := range append([]string{name}, named...) {
		repository, rest := splitImage(one)
		for _, spelling := range spellings(repository) {
			all = append(all, spelling+rest)
			if rest == ":latest" {
				all = append(all, spelling)
			}
			if rest == "" {
				all = append(all, spelling+":latest")
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// namedInPods gives how the incident's pods name the image that is the target, as far as
// they can be read: the target has the digest that runs. It fails with what is worth
// another try, and says what else could not be read.
func (r *Request) namedInPods(ctx context.Context) (names []string, unread string, problem *lifecycle.Result) {
	for i := range r.Incident.Status.Resources {
		resource := &r.Incident.Status.Resources[i]
		if resource.Kind != "Pod" || resource.APIVersion != "v1" {
			continue
		}
		pod := &corev1.Pod{}
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: resource.Namespace, Name: resource.Name}, pod)
		at := access{verb: "get", resource: "pods", namespace: resource.Namespace, name: resource.Name}
		switch {
		case apierrors.IsNotFound(err):
			continue
		case Passes(err):
			failure := r.failure(err, at)
			return nil, "", &failure
		case err != nil:
			message, _ := r.explain(err, at)
			unread += fmt.Sprintf("; how Pod '%s/%s' names it could not be read: %s", resource.Namespace, resource.Name, message)
			continue
		}
		running := map[string]string{}
		for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses) {
			running[status.Name] = status.ImageID
		}
		note := func(container, image string) {
			if ImageTarget(imageReference(image, running[container])).UID == r.Target.UID && image != "" {
				names = append(names, image)
			}
		}
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			note(container.Name, container.Image)
		}
		for _, container := range pod.Spec.EphemeralContainers {
			note(container.Name, container.Image)
		}
	}
	return names, unread, nil
}
