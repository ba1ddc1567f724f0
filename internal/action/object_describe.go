package action

import (
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Describe documents the action.
func (patch) Describe() Description {
	return Description{
		Does: "Sets fields of the target by server-side apply, as a field owner of its own, also where somebody else owns them. Which fields these are the API server says, by a dry run; what they had is recorded before anything is written. The annotation `change.firebreak.dev/…` says which incident has changed the object.",
		Undo: "Gives each field back what it had, elements of lists by their keys, and takes away what was not there. What somebody has changed since stays and is named. A field that another response has set to the same value stays until that one is undone as well: the annotation `handover.firebreak.dev/…` keeps what it was, up to the 256 KiB that all annotations of an object may have; what is larger is left, named, and in the undo record.",
		Limits: []string{
			"An expression is evaluated once, before the first write; what it has yielded is set again when something changes it.",
			"It does not set `metadata` but labels and annotations, none of Firebreak's, no `status`, no object of Firebreak's kinds and no Secret.",
			"A field can be set, not taken away: null is refused.",
			"Fields that another response has set to another value are refused: undo that first. It is known by its field owner, `firebreak-…`; whoever may write the object can choose that name too, and have the step fail, with that name.",
			"What undoing needs must fit into 1 MiB; beyond 4,096 bytes, or fewer where the incident has many records, it is kept as Evidence of type UndoRecord.",
		},
		Example: `
name: pause
target: Workloads
patch:
  expression: '{"spec": {"paused": true}, "metadata": {"annotations": {"example.com/incident": incident.name}}}'
`,
	}
}

// Rights are what patching and undoing takes.
func (patch) Rights(_ *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right {
	return rightsOn(kinds, "", "get", "patch")
}

// Describe documents the action.
func (applyObject) Describe() Description {
	return Description{
		Does: "Makes an object, or sets fields of one that is there, by server-side apply. What it makes carries the annotation `firebreak.dev/intent`, by which it is known after a crash.",
		Undo: "Deletes the object if this step has made it and it still carries the annotation. Where it was there before, its fields get back what they had, as with `patch`.",
		Limits: []string{
			"The object must name itself: `apiVersion`, `kind`, `metadata.name` and, for kinds in namespaces, `metadata.namespace`.",
			"In a protected namespace that `limits.allowProtected` does not name it waits for an approval.",
			"An expression is evaluated once, before the first write.",
			"It sets no other `metadata` than labels and annotations, none of Firebreak's, no `status`, no object of Firebreak's kinds and no Secret.",
		},
		Example: `
name: quota
apply:
  expression: >-
    {"apiVersion": "v1", "kind": "ResourceQuota",
     "metadata": {"name": "incident", "namespace": "shop"},
     "spec": {"hard": {"pods": "0"}}}
`,
	}
}

// Rights are what applying and undoing takes.
func (applyObject) Rights(step *v1alpha1.PlaybookStep, _ []schema.GroupVersionKind) []Right {
	if step.Apply == nil {
		return nil
	}
	verbs := []string{"get", "create", "patch", "delete"}
	if step.Apply.Expression == "" {
		content, err := decodeFields(step.Apply.Object, "apply.object")
		if err != nil {
			return nil
		}
		object := &unstructured.Unstructured{Object: content}
		right := rightOn(object.GroupVersionKind(), verbs...)
		right.Namespace = object.GetNamespace()
		return []Right{right}
	}
	var rights []Right
	for _, kind := range namedKinds(step.Apply.Expression) {
		rights = append(rights, rightOn(kind, verbs...))
	}
	if len(rights) == 0 {
		return []Right{{Verbs: verbs, Unknown: fmt.Sprintf("what `apply.expression` of step '%s' yields", step.Name)}}
	}
	return rights
}

// Describe documents the action.
func (revokeAccess) Describe() Description {
	return Description{
		Does:  "Takes a ServiceAccount, or the user or group that `subject` yields, out of every RoleBinding and ClusterRoleBinding that names it. A ServiceAccount that is named as a user is found too. The annotation `revoked.firebreak.dev/…` on a binding says which response has done so.",
		Kinds: []schema.GroupVersionKind{{Version: "v1", Kind: "ServiceAccount"}},
		Undo:  "Puts just the entries that it took back where they were, in bindings that are still there, unless another response needs them away. A binding that was made anew is left alone and named.",
		Limits: []string{
			"Access by a group that the subject is in by itself, such as `system:serviceaccounts`, remains; the message names the bindings.",
			"Tokens stay valid: they are worth nothing but what the bindings still give.",
			"Changing who has a role takes `bind` on that role: what is missing is named before anything is written. Let a ServiceAccount of its own hold it.",
			"Bindings in protected namespaces that `limits.allowProtected` does not name wait for an approval.",
			"A subject in more bindings than can be recorded in 1 MiB, several thousand, is refused; from about 25 on the record is kept as Evidence of type UndoRecord.",
		},
		Example: `
name: revoke
target: ServiceAccounts
revokeAccess: {}
`,
	}
}

// Rights are what revoking and giving back takes.
func (revokeAccess) Rights(*v1alpha1.PlaybookStep, []schema.GroupVersionKind) []Right {
	return []Right{
		{Group: rbacv1.GroupName, Resource: "rolebindings", Verbs: []string{"get", "list", "update"}, Place: InCluster},
		{Group: rbacv1.GroupName, Resource: "clusterrolebindings", Verbs: []string{"get", "list", "update"}, Place: InCluster},
		{Group: rbacv1.GroupName, Resource: "clusterroles", Verbs: []string{"bind"}, Place: InCluster},
		{Group: rbacv1.GroupName, Resource: "roles", Verbs: []string{"bind"}, Place: InCluster},
	}
}

// Describe documents the action.
func (blockImage) Describe() Description {
	return Description{
		Does:  "Has the API server refuse pods that would run the image, by a ValidatingAdmissionPolicy with its binding. Pods that run it already stay, and can be labelled and deleted.",
		Kinds: []schema.GroupVersionKind{v1alpha1.SchemeGroupVersion.WithKind(KindImage)},
		Undo:  "Deletes the policy and its binding.",
		Limits: []string{
			"It holds for all namespaces but `kube-system`, Firebreak's own and those labelled `firebreak.dev/protected=true`.",
			"`Reference` refuses the names by which the incident's pods call the image, and the digest that runs; another tag of the same image is let through. `Repository` refuses every tag.",
			"`Digest` refuses pods that name the digest: which digest a tag stands for the API server does not know.",
			"That it bites is proven by the dry run of a pod, if the ServiceAccount may create pods in the domain's namespace; otherwise the message says that it is not proven.",
			"What gets around the API server, such as static pods, is not refused.",
		},
		Example: `
name: block
target: Images
blockImage: {match: Repository}
`,
	}
}

// Rights are what blocking and letting through again takes.
func (blockImage) Rights(*v1alpha1.PlaybookStep, []schema.GroupVersionKind) []Right {
	verbs := []string{"get", "create", "patch", "delete"}
	return []Right{
		{Group: admissionv1.GroupName, Resource: policies, Verbs: verbs, Place: InCluster},
		{Group: admissionv1.GroupName, Resource: policyBindings, Verbs: verbs, Place: InCluster},
		{Resource: "pods", Verbs: []string{"create"}, Place: InDomain, Need: Useful},
	}
}
