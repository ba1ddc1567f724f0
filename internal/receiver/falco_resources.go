package receiver

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	maxAttributes     = 64
	maxAttributeKey   = 128
	maxAttributeValue = 1024
	maxImage          = 512

	// attributeDropped counts the fields there was no room for.
	attributeDropped = "firebreak.dropped"
)

// kubernetesKinds are the targets of audit events that Firebreak can name.
var kubernetesKinds = map[string]v1alpha1.ResourceReference{
	"pods":                   {APIVersion: "v1", Kind: "Pod"},
	"services":               {APIVersion: "v1", Kind: "Service"},
	"configmaps":             {APIVersion: "v1", Kind: "ConfigMap"},
	"secrets":                {APIVersion: "v1", Kind: "Secret"},
	"serviceaccounts":        {APIVersion: "v1", Kind: "ServiceAccount"},
	"persistentvolumeclaims": {APIVersion: "v1", Kind: "PersistentVolumeClaim"},
	"namespaces":             {APIVersion: "v1", Kind: "Namespace"},
	"nodes":                  {APIVersion: "v1", Kind: "Node"},
	"deployments":            {APIVersion: "apps/v1", Kind: "Deployment"},
	"daemonsets":             {APIVersion: "apps/v1", Kind: "DaemonSet"},
	"statefulsets":           {APIVersion: "apps/v1", Kind: "StatefulSet"},
	"replicasets":            {APIVersion: "apps/v1", Kind: "ReplicaSet"},
	"jobs":                   {APIVersion: "batch/v1", Kind: "Job"},
	"cronjobs":               {APIVersion: "batch/v1", Kind: "CronJob"},
	"ingresses":              {APIVersion: "networking.k8s.io/v1", Kind: "Ingress"},
	"networkpolicies":        {APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
	"roles":                  {APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"},
	"rolebindings":           {APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding"},
	"clusterroles":           {APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"},
	"clusterrolebindings":    {APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"},
}

var clusterScoped = []string{"Namespace", "Node", "ClusterRole", "ClusterRoleBinding"}

var (
	resourceName = regexp.MustCompile(`^[a-z0-9A-Z]([-a-z0-9A-Z.:_]*[a-z0-9A-Z])?$`)
	objectUID    = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)
	imageName    = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._:/@-]*$`)
)

// resources are the objects it happened to. A name that cannot be one is left out:
// it stays an attribute, and the alert is not lost for it.
func (e *falcoEvent) resources() []v1alpha1.ResourceReference {
	var references []v1alpha1.ResourceReference
	for _, reference := range []v1alpha1.ResourceReference{e.pod(), e.target()} {
		same := func(other v1alpha1.ResourceReference) bool {
			return other.Kind == reference.Kind && other.Namespace == reference.Namespace && other.Name == reference.Name
		}
		if reference.Name != "" && !slices.ContainsFunc(references, same) {
			references = append(references, reference)
		}
	}
	return references
}

func (e *falcoEvent) pod() v1alpha1.ResourceReference {
	namespace := e.field("k8s.ns.name", "k8smeta.ns.name")
	name := e.field("k8s.pod.name", "k8smeta.pod.name")
	if !isNamespace(namespace) || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return v1alpha1.ResourceReference{}
	}
	pod := v1alpha1.ResourceReference{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: name}
	if uid := e.field("k8s.pod.uid", "k8smeta.pod.uid"); objectUID.MatchString(uid) {
		pod.UID = v1alpha1.ObjectUID(uid)
	}
	if container := e.container(); len(validation.IsDNS1123Label(container)) == 0 {
		pod.Container = container
	}
	if image := e.image(); len(image) <= maxImage && imageName.MatchString(image) {
		pod.Image = image
	}
	if len(validation.IsDNS1123Subdomain(e.hostname)) == 0 {
		pod.Node = e.hostname
	}
	return pod
}

// container is the container's name in its pod. dockershim called it
// 'k8s_<container>_<pod>_<namespace>_<uid>_<attempt>'; processes of the node are in 'host'.
func (e *falcoEvent) container() string {
	name := e.field("container.name")
	if e.field("container.id") == "host" {
		return ""
	}
	if parts := strings.Split(name, "_"); len(parts) == 6 && parts[0] == "k8s" {
		return parts[1]
	}
	return name
}

func (e *falcoEvent) image() string {
	image := e.field("container.image.repository")
	if image == "" {
		return e.field("container.image")
	}
	if tag := e.field("container.image.tag"); tag != "" {
		image += ":" + tag
	}
	if digest := e.field("container.image.digest"); digest != "" {
		image += "@" + digest
	}
	return image
}

func (e *falcoEvent) targetName() string {
	return e.field("ka.target.name", "ka.target.pod.name")
}

// target is the object of an audit event.
func (e *falcoEvent) target() v1alpha1.ResourceReference {
	plural := e.field("ka.target.resource")
	if plural == "" && e.field("ka.target.pod.name") != "" {
		plural = "pods"
	}
	reference, known := kubernetesKinds[plural]
	name := e.targetName()
	if !known || len(name) > maxName || !resourceName.MatchString(name) {
		return v1alpha1.ResourceReference{}
	}
	reference.Name = name
	if slices.Contains(clusterScoped, reference.Kind) {
		return reference
	}
	reference.Namespace = e.field("ka.target.namespace")
	if !isNamespace(reference.Namespace) {
		return v1alpha1.ResourceReference{}
	}
	return reference
}

func isNamespace(name string) bool {
	return len(validation.IsDNS1123Label(name)) == 0
}

// attributes are Falco's own facts and the output fields as text. Where there is
// no room for all, Falco's own and those of common interest go first.
func (e *falcoEvent) attributes() map[string]v1alpha1.AttributeValue {
	source := e.source
	if source == "syscalls" {
		source = "syscall" // Falcosidekick's word for it
	}
	var attributes attributeSet
	attributes.add("falco.priority", e.priority)
	attributes.add("falco.source", source)
	attributes.add("falco.tags", strings.Join(e.tags, ","))
	attributes.add("falco.uuid", e.uuid)
	keys := slices.SortedFunc(maps.Keys(e.fields.fields), func(a, b string) int {
		if byRank := interest(a) - interest(b); byRank != 0 {
			return byRank
		}
		return strings.Compare(a, b)
	})
	for _, key := range keys {
		attributes.add(key, textOf(e.fields.fields[key]))
	}
	return attributes.all()
}

// interest ranks output fields: the lower, the sooner they find room.
func interest(key string) int {
	for rank, prefix := range []string{"k8s.", "k8smeta.", "ka.", "container.", "proc.", "user.", "fd.", "evt."} {
		if strings.HasPrefix(key, prefix) {
			return rank
		}
	}
	return 100
}

// attributeKey makes a hostile key one that policies and terminals can use.
func attributeKey(key string) string {
	key = strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("._-/[]", r)) {
			return r
		}
		return '_'
	}, key)
	return key[:min(len(key), maxAttributeKey)]
}
