package action

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	bindingPage = 500
	// revokedPrefix begins the annotation by which a binding says that a response has taken
	// a subject out of it, so that no other response gives back what this one needs away.
	revokedPrefix = "revoked.firebreak.dev/"
	userPrefix    = "system:serviceaccount:"
)

// binding is a RoleBinding or a ClusterRoleBinding.
type binding struct {
	object   client.Object
	subjects *[]rbacv1.Subject
	role     rbacv1.RoleRef
}

func roleBinding(object *rbacv1.RoleBinding) binding {
	return binding{object, &object.Subjects, object.RoleRef}
}

func clusterRoleBinding(object *rbacv1.ClusterRoleBinding) binding {
	return binding{object, &object.Subjects, object.RoleRef}
}

func (b binding) kind() string {
	if b.object.GetNamespace() == "" {
		return "ClusterRoleBinding"
	}
	return "RoleBinding"
}

func (b binding) name() string {
	if namespace := b.object.GetNamespace(); namespace != "" {
		return fmt.Sprintf("RoleBinding '%s/%s'", namespace, b.object.GetName())
	}
	return nameOf("ClusterRoleBinding", b.object.GetName())
}

func (r *Request) bindingAccess(verb, namespace, name string) access {
	resource := "rolebindings"
	if namespace == "" && name != "" {
		resource = "clusterrolebindings"
	}
	return access{verb: verb, group: rbacv1.GroupName, resource: resource, namespace: namespace, name: name}
}

// bindings lists all bindings of the cluster.
func (r *Request) bindings(ctx context.Context) ([]binding, access, error) {
	var all []binding
	inNamespaces := &rbacv1.RoleBindingList{}
	for {
		if err := r.Client.List(ctx, inNamespaces, client.Limit(bindingPage), client.Continue(inNamespaces.Continue)); err != nil {
			return nil, r.bindingAccess("list", "", ""), err
		}
		for i := range inNamespaces.Items {
			all = append(all, roleBinding(&inNamespaces.Items[i]))
		}
		if inNamespaces.Continue == "" {
			break
		}
	}
	inCluster := &rbacv1.ClusterRoleBindingList{}
	for {
		if err := r.Client.List(ctx, inCluster, client.Limit(bindingPage), client.Continue(inCluster.Continue)); err != nil {
			at := r.bindingAccess("list", "", "")
			at.resource = "clusterrolebindings"
			return nil, at, err
		}
		for i := range inCluster.Items {
			all = append(all, clusterRoleBinding(&inCluster.Items[i]))
		}
		if inCluster.Continue == "" {
			return all, access{}, nil
		}
	}
}

// binding reads one binding.
func (r *Request) binding(ctx context.Context, namespace, name string) (binding, error) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	if namespace == "" {
		object := &rbacv1.ClusterRoleBinding{}
		err := r.Client.Get(ctx, key, object)
		return clusterRoleBinding(object), err
	}
	object := &rbacv1.RoleBinding{}
	err := r.Client.Get(ctx, key, object)
	return roleBinding(object), err
}

// who is the subject that loses its access.
type who struct {
	Kind      string `json:"k"`
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"n"`
}

// subjectOf makes a subject; a ServiceAccount that is named as a user is the ServiceAccount.
func subjectOf(kind, namespace, name string) who {
	if rest, ok := strings.CutPrefix(name, userPrefix); ok && kind == rbacv1.UserKind {
		if namespace, name, ok := strings.Cut(rest, ":"); ok && namespace != "" && name != "" && !strings.Contains(name, ":") {
			return who{rbacv1.ServiceAccountKind, namespace, name}
		}
	}
	return who{kind, namespace, name}
}

func (w who) String() string {
	if w.Namespace != "" {
		return fmt.Sprintf("%s '%s/%s'", w.Kind, w.Namespace, w.Name)
	}
	return nameOf(w.Kind, w.Name)
}

func (w who) hash() string { return ShortHash(shortHashDigits, w.Kind, w.Namespace, w.Name) }

// groups are the groups that the subject is in by itself.
func (w who) groups() []string {
	switch w.Kind {
	case rbacv1.ServiceAccountKind:
		return []string{"system:serviceaccounts:" + w.Namespace, "system:serviceaccounts", "system:authenticated"}
	case rbacv1.UserKind:
		return []string{"system:authenticated"}
	default:
		return nil
	}
}

// taken is one entry that was taken out of a binding.
type taken struct {
	// At is where it was in the list.
	At int `json:"i"`
	// AsUser says that a ServiceAccount was named as a user.
	AsUser bool `json:"u,omitempty"`
}

// entriesOf finds the subject in a binding.
func (w who) entriesOf(subjects []rbacv1.Subject) []taken {
	var found []taken
	for i, subject := range subjects {
		if subjectOf(subject.Kind, subject.Namespace, subject.Name) == w {
			found = append(found, taken{At: i, AsUser: w.Kind == rbacv1.ServiceAccountKind && subject.Kind == rbacv1.UserKind})
		}
	}
	return found
}

// entry is the subject as a binding names it.
func (w who) entry(t taken) rbacv1.Subject {
	switch {
	case t.AsUser:
		return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: userPrefix + w.Namespace + ":" + w.Name}
	case w.Kind == rbacv1.ServiceAccountKind:
		return rbacv1.Subject{Kind: w.Kind, Namespace: w.Namespace, Name: w.Name}
	default:
		return rbacv1.Subject{Kind: w.Kind, APIGroup: rbacv1.GroupName, Name: w.Name}
	}
}

// without gives the subjects but for this one.
func (w who) without(subjects []rbacv1.Subject) []rbacv1.Subject {
	var left []rbacv1.Subject
	for _, subject := range subjects {
		if subjectOf(subject.Kind, subject.Namespace, subject.Name) != w {
			left = append(left, subject)
		}
	}
	return left
}

// with gives the subjects with what was taken put back where it was.
func (w who) with(subjects []rbacv1.Subject, entries []taken) []rbacv1.Subject {
	result := slices.Clone(subjects)
	for _, one := range entries {
		if entry := w.entry(one); !slices.Contains(result, entry) {
			result = slices.Insert(result, min(max(one.At, 0), len(result)), entry)
		}
	}
	return result
}

// revokedMark is what an annotation of a binding says of one response.
type revokedMark struct {
	Subject string  `json:"s"`
	Taken   []taken `json:"e"`
}

func (r *Request) revokedKey(subject who) string {
	return revokedPrefix + ShortHash(shortHashDigits, string(r.Incident.UID), r.Step.Name, subject.hash())
}

// revokedMarks gives what responses have taken of a subject out of a binding, by their keys.
func revokedMarks(object client.Object, subject who) map[string]revokedMark {
	found := map[string]revokedMark{}
	for key, text := range object.GetAnnotations() {
		var one revokedMark
		if strings.HasPrefix(key, revokedPrefix) && json.Unmarshal([]byte(text), &one) == nil && one.Subject == subject.hash() {
			found[key] = one
		}
	}
	return found
}

// setRevoked writes an annotation; nil takes it away.
func setRevoked(object client.Object, key string, content *revokedMark) error {
	annotations := maps.Clone(object.GetAnnotations())
	if content == nil {
		delete(annotations, key)
		object.SetAnnotations(annotations)
		return nil
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return err
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[key] = string(raw)
	object.SetAnnotations(annotations)
	return nil
}

// subject says whose access the step takes.
func (r *Request) subject(ctx context.Context) (who, error) {
	source := r.Step.RevokeAccess.Subject
	if source == "" {
		if r.Target.Kind != rbacv1.ServiceAccountKind || r.Target.APIVersion != "v1" {
			return who{}, fmt.Errorf("step '%s' must name whose access it takes: `target` must be 'ServiceAccounts', or `revokeAccess.subject` must be set", r.Step.Name)
		}
		return who{rbacv1.ServiceAccountKind, r.Target.Namespace, r.Target.Name}, nil
	}
	content, err := r.Values.Object(ctx, r.Incident, source, nil)
	if err != nil {
		return who{}, fmt.Errorf("`revokeAccess.subject` %w", err)
	}
	fields := map[string]string{}
	for name, value := range content {
		text, ok := value.(string)
		if !ok || name != "kind" && name != "name" && name != "namespace" {
			return who{}, fmt.Errorf("`revokeAccess.subject` must yield nothing but `kind`, `name` and `namespace`, which are strings, but has yielded `%s`", name)
		}
		fields[name] = text
	}
	subject := subjectOf(fields["kind"], fields["namespace"], fields["name"])
	isAccount := subject.Kind == rbacv1.ServiceAccountKind
	switch {
	case !slices.Contains([]string{rbacv1.UserKind, rbacv1.GroupKind, rbacv1.ServiceAccountKind}, subject.Kind):
		return who{}, fmt.Errorf("`revokeAccess.subject` has yielded `kind` %q: it must be 'User', 'Group' or 'ServiceAccount'", subject.Kind)
	case subject.Name == "" || len(subject.Name) > 512:
		return who{}, fmt.Errorf("`revokeAccess.subject` must yield a `name` of 1 to 512 characters")
	case isAccount != (subject.Namespace != ""):
		return who{}, fmt.Errorf("`revokeAccess.subject` must yield a `namespace` for a ServiceAccount, and for nothing else")
	}
	return subject, nil
}

// bindingsNamed reads like a list of bindings.
func bindingsNamed(bindings []bindingRecord) string {
	names := make([]string, 0, len(bindings))
	for i := range bindings {
		names = append(names, bindings[i].name())
	}
	return strings.Join(names, ", ")
}
