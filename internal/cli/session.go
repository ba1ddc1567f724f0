package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// defaultNamespace is what kubectl falls back to: more an absence of choice than a choice.
const defaultNamespace = "default"

// Config is what the commands need of the world around them.
type Config struct {
	// Streams are where they read from and write to.
	Streams genericiooptions.IOStreams
	// Version is the version of the program. Empty means 'dev'.
	Version string
	// Clock gives the time. Nil means the real one.
	Clock clock.PassiveClock
	// Location is the zone in which times are shown. Nil means the machine's.
	Location *time.Location
}

// session is one run of a command.
type session struct {
	genericiooptions.IOStreams

	version  string
	clock    clock.PassiveClock
	location *time.Location
	terminal terminal
	style    style
	flags    *genericclioptions.ConfigFlags
	answers  *bufio.Reader
	api      client.WithWatch
}

func newSession(c Config) *session {
	s := &session{
		IOStreams: c.Streams,
		version:   c.Version,
		clock:     c.Clock,
		location:  c.Location,
		terminal:  detectTerminal(c.Streams),
		flags:     genericclioptions.NewConfigFlags(true),
		answers:   bufio.NewReader(c.Streams.In),
	}
	if s.version == "" {
		s.version = "dev"
	}
	if s.clock == nil {
		s.clock = clock.RealClock{}
	}
	if s.location == nil {
		s.location = time.Local
	}
	s.style = style{on: s.terminal.color}
	return s
}

// client connects to the API server, once.
func (s *session) client() (client.WithWatch, error) {
	if s.api != nil {
		return s.api, nil
	}
	config, err := s.flags.ToRESTConfig()
	if err != nil {
		return nil, failed("cannot tell which cluster to talk to: "+err.Error(),
			"Check `kubectl config current-context`, or name one with --context or --kubeconfig.")
	}
	config.QPS = -1
	config.UserAgent = "kubectl-firebreak/" + s.version
	config.WarningHandler = warnings{s}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		v1alpha1.AddToScheme, appsv1.AddToScheme, corev1.AddToScheme, rbacv1.AddToScheme, authenticationv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	s.api, err = client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: restMapper()})
	return s.api, err
}

// restMapper knows the few kinds the commands use, which spares the API server and the
// person waiting the discovery of all others.
func restMapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	add := func(gv schema.GroupVersion, kind, resource string, scope meta.RESTScope) {
		plural := gv.WithResource(resource)
		mapper.AddSpecific(gv.WithKind(kind), plural, plural, scope)
	}
	for kind, resource := range map[string]string{
		"Incident": "incidents", "SecurityEvent": "securityevents", "Decision": "decisions",
		"ResponsePlan": "responseplans", "ResponsePlaybook": "responseplaybooks", "Evidence": "evidence",
		"ClassificationPolicy": "classificationpolicies",
	} {
		add(v1alpha1.SchemeGroupVersion, kind, resource, meta.RESTScopeNamespace)
	}
	add(appsv1.SchemeGroupVersion, "ControllerRevision", "controllerrevisions", meta.RESTScopeNamespace)
	add(corev1.SchemeGroupVersion, "Namespace", "namespaces", meta.RESTScopeRoot)
	add(corev1.SchemeGroupVersion, "Event", "events", meta.RESTScopeNamespace)
	add(rbacv1.SchemeGroupVersion, "RoleBinding", "rolebindings", meta.RESTScopeNamespace)
	add(rbacv1.SchemeGroupVersion, "ClusterRole", "clusterroles", meta.RESTScopeRoot)
	add(authenticationv1.SchemeGroupVersion, "SelfSubjectReview", "selfsubjectreviews", meta.RESTScopeRoot)
	return mapper
}

// warnings prints what the API server warns of.
type warnings struct{ s *session }

var _ rest.WarningHandler = warnings{}

// HandleWarningHeader prints one warning.
func (w warnings) HandleWarningHeader(code int, _, text string) {
	if code == 299 && text != "" {
		fmt.Fprintln(w.s.ErrOut, w.s.style.yellow("Warning: ")+clean(text))
	}
}

// namespace is the one of -n, or the kubeconfig context's.
func (s *session) namespace() (string, error) {
	namespace, _, err := s.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return "", failed("cannot tell which namespace to use: "+err.Error(), "Name one with -n.")
	}
	return namespace, nil
}

// command is a line to type that reaches the same cluster and namespace as this run.
func (s *session) command(namespace string, words ...string) string {
	line := "kubectl firebreak " + strings.Join(words, " ")
	return line + " -n " + namespace + s.clusterFlags()
}

// clusterFlags are the flags of this run that say which cluster is meant.
func (s *session) clusterFlags() string {
	flags := ""
	if path := *s.flags.KubeConfig; path != "" {
		flags += " --kubeconfig " + quote(path)
	}
	if name := *s.flags.Context; name != "" {
		flags += " --context " + quote(name)
	}
	return flags
}

// quote makes a word of a command line out of text.
func quote(text string) string {
	if text != "" && strings.IndexFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./:@%+=,", r)
	}) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// shownDomains is how many response domains a hint names.
const shownDomains = 10

// elsewhere is a hint for someone who finds nothing in a namespace that is no response
// domain: where there is one. Empty when it cannot be told.
func (s *session) elsewhere(ctx context.Context, namespace string) string {
	api, err := s.client()
	if err != nil {
		return ""
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	if err := api.List(ctx, list, client.HasLabels{v1alpha1.LabelDomain}); err != nil {
		return ""
	}
	var domains []string
	for _, item := range list.Items {
		if item.Name == namespace {
			return ""
		}
		domains = append(domains, item.Name)
	}
	switch {
	case len(domains) == 0:
		return fmt.Sprintf("The namespace %s is not a response domain, and you can see no other. Make one: kubectl firebreak init -n NAMESPACE", namespace)
	case len(domains) == 1:
		return fmt.Sprintf("The namespace %s is not a response domain, but %s is: add -n %s", namespace, domains[0], domains[0])
	default:
		more := ""
		if left := len(domains) - shownDomains; left > 0 {
			more = fmt.Sprintf(" and %d more (kubectl get namespaces -l %s)", left, v1alpha1.LabelDomain)
		}
		return fmt.Sprintf("The namespace %s is not a response domain. These are: %s%s. Choose one with -n.",
			namespace, strings.Join(domains[:min(len(domains), shownDomains)], ", "), more)
	}
}
