package receiver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// patience is how long a test waits for what takes a second on an idle machine.
const patience = 90 * time.Second

// The control plane starts with the first test that needs it: fuzzing runs TestMain
// in every worker.
var (
	controlPlane = &envtest.Environment{
		CRDDirectoryPaths: []string{filepath.Join("..", "..", "config", "crd", "bases")}, ErrorIfCRDPathMissing: true,
		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute, CRDInstallOptions: envtest.CRDInstallOptions{MaxTime: time.Minute},
	}
	startControlPlane = sync.OnceValues(controlPlane.Start)
	controlPlaneUsed  bool
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	code := m.Run()
	if controlPlaneUsed {
		if err := controlPlane.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// receiverRights is what the receiver needs, and no more: it runs with this here.
var receiverRights = []rbacv1.PolicyRule{
	{APIGroups: []string{v1alpha1.GroupName}, Resources: []string{"securityevents"}, Verbs: []string{"create", "get"}},
	{APIGroups: []string{v1alpha1.GroupName}, Resources: []string{"securityevents/status"}, Verbs: []string{"patch"}},
	{APIGroups: []string{v1alpha1.GroupName}, Resources: []string{"responseplans"}, ResourceNames: []string{"default"}, Verbs: []string{"get"}},
	{APIGroups: []string{v1alpha1.GroupName}, Resources: []string{"responseplans/status"}, ResourceNames: []string{"default"}, Verbs: []string{"patch"}},
	{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
	{APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"subjectaccessreviews"}, Verbs: []string{"create"}},
}

// site is a receiver with a real API server behind it, and a namespace of its own.
type site struct {
	t         *testing.T
	admin     client.Client
	config    *rest.Config // the receiver's own
	namespace string
	url       string
	http      *http.Client
	sender    string // its user name
	token     string
	log       *logLines
	last      *Handler // of the receiver started last
}

// logLines are what a receiver logged.
type logLines struct {
	mutex sync.Mutex
	text  strings.Builder
}

func (l *logLines) add(prefix, args string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.text.WriteString(prefix + args + "\n")
}

func (l *logLines) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

func newSite(t *testing.T) *site {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS must be the folder of etcd and kube-apiserver: `make test` sets it")
	}
	controlPlaneUsed = true
	config, err := startControlPlane()
	if err != nil {
		t.Fatalf("starting the control plane: %v", err)
	}
	scheme := apiruntime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	utilruntime.Must(apiextensionsv1.AddToScheme(scheme))
	admin, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, admin: admin, log: &logLines{}}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "security-"}}
	s.create(namespace)
	s.namespace = namespace.Name
	s.config = rest.AnonymousClientConfig(config)
	s.config.BearerToken = s.account("receiver", "")
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}, Rules: receiverRights}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: s.namespace, Name: "receiver"}},
	}
	s.create(role)
	s.create(binding)
	s.sender, s.token = s.newSender("falco")
	s.url, s.http = s.receiver(Options{Name: "r0"})
	return s
}

func (s *site) create(object client.Object) {
	s.t.Helper()
	if err := s.admin.Create(s.t.Context(), object); err != nil {
		s.t.Fatalf("creating %T: %v", object, err)
	}
}

// account makes a ServiceAccount and a token for an audience; ” is the API server's own.
func (s *site) account(name, audience string) string {
	s.t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	s.create(account)
	return s.tokenOf(account, audience)
}

func (s *site) tokenOf(account *corev1.ServiceAccount, audience string) string {
	s.t.Helper()
	request := &authenticationv1.TokenRequest{}
	if audience != "" {
		request.Spec.Audiences = []string{audience}
	}
	if err := s.admin.SubResource("token").Create(s.t.Context(), account, request); err != nil {
		s.t.Fatalf("creating a token: %v", err)
	}
	return request.Status.Token
}

func (s *site) falcoAccount() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "falco"}}
}

// newSender makes a user who may report to the namespace.
func (s *site) newSender(name string) (user, token string) {
	s.t.Helper()
	token = s.account(name, v1alpha1.ReceiverAudience)
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{v1alpha1.GroupName}, Resources: []string{"securityevents"}, Verbs: []string{"create"}}},
	}
	s.create(role)
	s.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: s.namespace, Name: name}},
	})
	return "system:serviceaccount:" + s.namespace + ":" + name, token
}

// receiver starts a receiver, as a restart or another replica does.
func (s *site) receiver(o Options) (string, *http.Client) {
	s.t.Helper()
	c, err := NewClient(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	if o.directPatience == 0 {
		o.directPatience = onlyPatience // a busy machine is no reason to go into the spool
	}
	o.Log = funcr.New(s.log.add, funcr.Options{Verbosity: 1})
	handler, err := NewHandler(c, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.last = handler
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.HTTP2 = http2Config()
	server.StartTLS()
	s.t.Cleanup(server.Close)
	return server.URL, server.Client()
}

// received is what a receiver answered.
type received struct {
	status int
	header http.Header
	body   string
	Result
	Problem Problem
	Results []Result
}

// post sends a body to the namespace of the site.
func (s *site) post(format, body string) received {
	s.t.Helper()
	r, err := s.send(http.MethodPost, "/v1/namespaces/"+s.namespace+"/"+format, s.token, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *site) send(method, path, token string, body io.Reader) (received, error) {
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		return received{}, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if _, is := body.(*signalling); is {
		request.Header.Set("Expect", "100-continue")
	}
	response, err := s.http.Do(request)
	if err != nil {
		return received{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return received{}, err
	}
	r := received{status: response.StatusCode, header: response.Header, body: string(text)}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if response.Header.Get("Content-Type") == problemMediaType {
		err = decoder.Decode(&r.Problem)
		r.Results = r.Problem.Results
		return r, err
	}
	var list struct {
		Result
		Results []Result `json:"results"`
	}
	err = decoder.Decode(&list)
	r.Result, r.Results = list.Result, list.Results
	return r, err
}

func (r received) want(t *testing.T, status int) received {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	return r
}

// wantProblem checks that an answer is a problem whose detail says what it must.
func (r received) wantProblem(t *testing.T, status int, slug string, says ...string) received {
	t.Helper()
	r.want(t, status)
	if r.Problem.Type != problemTypeBase+slug || r.Problem.Status != status || r.Problem.Title == "" {
		t.Errorf("problem %+v, want type %s and status %d", r.Problem, slug, status)
	}
	for _, word := range says {
		if !strings.Contains(r.Problem.Detail, word) {
			t.Errorf("detail %q does not say %q", r.Problem.Detail, word)
		}
	}
	return r
}

// connect opens the connection that all later requests share, as with a sender that
// runs for long. Go's HTTP/2 server gives a new one just two seconds to say hello, which
// hundreds at once on a busy machine do not manage.
func (s *site) connect() {
	s.t.Helper()
	r, err := s.send(http.MethodGet, "/v1/namespaces/"+s.namespace+"/falco", s.token, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.want(s.t, http.StatusMethodNotAllowed)
}

func (s *site) events() []v1alpha1.SecurityEvent {
	s.t.Helper()
	var list v1alpha1.SecurityEventList
	if err := s.admin.List(context.Background(), &list, client.InNamespace(s.namespace)); err != nil {
		s.t.Fatal(err)
	}
	return list.Items
}

// onlyEvent is the one event there must be.
func (s *site) onlyEvent() *v1alpha1.SecurityEvent {
	s.t.Helper()
	events := s.events()
	if len(events) != 1 {
		s.t.Fatalf("there are %d events, want 1", len(events))
	}
	return &events[0]
}

func falcoBody(t *testing.T, replace ...string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "falco", "shell.json"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(replace...).Replace(string(body))
}
